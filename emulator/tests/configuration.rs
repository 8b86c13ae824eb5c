//! The findings of a configuration: every error and warning, with its place.

mod support;

use azure_dps_emulator::{Config, Document, Finding};
use support::*;

const KEY: &str = "c2l4dGVlbiBieXRlcyEhIQ==";

/// Returns the findings as lines: `2:15 linked_hubs[0]: …`. A warning begins with `?`.
fn findings(text: &str) -> Vec<String> {
    let findings = Document::read(text).findings();
    let place = |finding: &Finding| match (finding.line(), finding.column()) {
        (Some(line), Some(column)) => format!("{line}:{column}"),
        _ => "-".to_owned(),
    };
    let level = |finding: &Finding| if finding.is_error() { "" } else { "? " };
    findings.iter().map(|each| format!("{}{} {}: {}", level(each), place(each), each.path(), each.message())).collect()
}

/// Each wrong line of this configuration has a comment with its finding.
#[test]
fn every_error_is_reported_with_its_place() {
    let text = format!(
        r#"
id_scop = "s"                                      #! 1 id_scop: this key is unknown; did you mean `id_scope`?
linked_hubs = ["hub", "my hub"]                    #! 23 linked_hubs[1]: "my hub" is not a host name
webhook_url = "ftp://hub/"                         #! 15 webhook_url: the webhook's URL "ftp://hub/" does not begin
contoso = {{ by_model = 1 }}                       #! 24 contoso.by_model: this is the number 1, but true or false is
[[enrollment_groups]]
enrollmentGroupId = "g"                            #! 1 enrollment_groups[0].enrollmentGroupId: this key is unknown; did you mean `enrollment_group_id`?
primary_key = "{KEY}"
initial_twin = {{ tags = {{ "$a" = 1 }}, desired = {{ b = 4503599627370496 }} }} #! 25 enrollment_groups[0].initial_twin.tags: "$a" in tags has a control character, a dot #! 49 enrollment_groups[0].initial_twin.desired: desired.b is 4503599627370496; integers go from
[[enrollment_groups]]                              #! 1 enrollment_groups[1]: the enrollment has no primary_key and no x509
enrollment_group_id = "g"
allocation = {{ iot_hubs = ["hub", "nub"] }}       #! 35 enrollment_groups[1].allocation.iot_hubs[1]: "nub" is not in linked_hubs
[[enrollment_groups]]
enrollment_group_id = "G"                          #! 23 enrollment_groups[2].enrollment_group_id: "G" exists twice
primary_key = "c2hvcnQ="                           #! 15 enrollment_groups[2].primary_key: a symmetric key has 5 bytes
allocation.policy = "costum"                       #! 21 enrollment_groups[2].allocation.policy: "costum" is not one of "static", "hashed", "geoLatency", "custom"; did you mean "custom"?
reprovision_policy = true                          #! 22 enrollment_groups[2].reprovision_policy: this is true, but a string is expected
[[individual_enrollments]]
registration_id = "-Ω"                             #! 19 individual_enrollments[0].registration_id: "-Ω": the registration ID has a character
tpm = {{}}                                         #! 7 individual_enrollments[0].tpm: the key `endorsement_key` is missing
initial_twin = {{ tags = [] }}                     #! 25 individual_enrollments[0].initial_twin.tags: this is a list, but a table is expected
[behaviour]
retry_after = "soon"                               #! 15 behaviour.retry_after: expected a number of seconds, or false
token_leeway = -1                                  #! 16 behaviour.token_leeway: this is the number -1, but a whole number from 0 to 4294967295 is expected
drop_every = 0                                     #! 14 behaviour.drop_every: this is the number 0, but a whole number from 1 to
webhook_timeout = nan                              #! 19 behaviour.webhook_timeout: NaN is not a valid number of seconds
tls13 = "{KEY}"                                    #! 9 behaviour.tls13: this is the string "****" (24 characters), but true or false
inaccessible_hubs = [1.5, "nub"]                   #! 22 behaviour.inaccessible_hubs[0]: this is the number 1.5, but a string is expected #! ? 27 behaviour.inaccessible_hubs[1]: "nub" in
certificate_refusal = 1979-05-27                   #! 23 behaviour.certificate_refusal: this is a date or time, but a string is expected
"#
    );
    let expected = text.lines().enumerate().flat_map(|(at, line)| {
        line.split("#! ").skip(1).map(move |told| match told.trim().strip_prefix("? ") {
            Some(warning) => format!("? {}:{warning}", at + 1),
            None => format!("{}:{}", at + 1, told.trim()),
        })
    });
    let (found, expected) = (findings(&text), expected.collect::<Vec<_>>());
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!found.concat().contains(KEY));
}

/// A list instead of a table, a text that is not TOML, and an error without a line.
#[test]
fn a_wrong_type_or_a_text_that_is_not_toml_is_reported_with_its_place() {
    let scope = "id_scope = 's'\n";
    for (text, expected) in [
        ("[[behaviour]]\ntls13 = true", &["2:1 behaviour: this is a list, but a table is expected"][..]),
        ("[enrollment_groups]", &["2:1 enrollment_groups: this is a table, but a list is expected"]),
        ("linked_hubs = 'h'", &["2:15 linked_hubs: this is the string \"h\", but a list is expected"]),
        ("[[linked_hubs]]", &["2:1 linked_hubs[0]: this is a table, but a string is expected"]),
        ("'a b'.c = 1", &["2:1 \"a b\": this key is unknown; known keys: id_scope, linked_hubs"]),
        // A field that cannot be read is not also reported as missing.
        (
            "[[enrollment_groups]]\nenrollment_group_id = 'g'\nx509.primary = '/nowhere.pem'",
            &["4:16 enrollment_groups[0].x509.primary: a certificate's file cannot be read: "],
        ),
        (
            "[[individual_enrollments]]\nregistration_id = 'i'\ntpm.endorsement_key = 'x'",
            &["4:23 individual_enrollments[0].tpm.endorsement_key: "],
        ),
        ("[[policies]]\nname = 'p'\nprimary_key = 'x'\nrights = []", &["4:15 policies[0].primary_key: "]),
        ("x", &["2:2 : this is not TOML: key with no value, expected `=`"]),
        ("linked_hubs = ['a', 'b'\n", &["2:24 : this is not TOML: "]),
        (
            "webhook_url = 'x'\nwebhook_url = 'y'\n[a\n[behaviour]\ntls31 = true",
            &[
                "3:1 : this is not TOML: duplicate key",
                "4:3 : this is not TOML: unclosed table, expected `]`",
                "6:1 behaviour.tls31: this key is unknown; did you mean `tls13`?",
            ],
        ),
    ] {
        let found = findings(&format!("{scope}{text}"));
        let found: Vec<_> = found.iter().filter(|line| !line.starts_with('?')).collect();
        assert_eq!(found.len(), expected.len(), "{text}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }
    let empty = findings("");
    assert!(empty[0].starts_with("- id_scope: the ID scope is missing"), "{empty:?}");
    assert!(empty[1].starts_with("? - linked_hubs: no hub is linked"), "{empty:?}");
    assert!(empty[2].starts_with("? - : there is no enrollment"), "{empty:?}");
}

/// `from_toml` reports all errors in one line, and errors of configurations that are built in code have paths.
#[test]
fn an_error_has_all_findings() {
    let error = Config::from_toml("scope = 1\nlinked_hubs = ['my hub']").unwrap_err();
    assert_eq!(error.findings().len(), 2);
    assert_eq!(
        error.to_string(),
        "line 1, column 1: scope: this key is unknown; did you mean `id_scope`?; line 2, column 16: linked_hubs[0]: \
         \"my hub\" is not a host name, with or without a port"
    );
    let mut config = Config::contoso();
    config.enrollment_groups[0].allocation.iot_hubs.push("nub".into());
    config.behaviour.client_timeout = -1.0;
    let error = config.check().unwrap_err().to_string();
    assert_eq!(
        error,
        "enrollment_groups[0].allocation.iot_hubs[2]: \"nub\" is not in linked_hubs; behaviour.client_timeout: -1.0 is \
         not a valid number of seconds"
    );
}

/// The number of findings is limited, however many errors there are.
#[test]
fn the_number_of_findings_is_bounded() {
    let text: String = (0..5000).map(|each| format!("a{each} = 1\n")).collect();
    let found = findings(&text);
    assert_eq!(found.len(), 100);
}

/// A custom policy without a webhook calls the tutorial's webhook. There is a warning, unless this is intended.
#[test]
fn a_custom_policy_that_falls_back_to_the_tutorials_webhook_has_a_warning() {
    let custom = format!(
        "id_scope = 's'\nlinked_hubs = ['hub']\n[[enrollment_groups]]\nenrollment_group_id = 'g'\n\
         primary_key = '{KEY}'\nallocation.policy = 'custom'\n[[individual_enrollments]]\nregistration_id = 'd'\n\
         primary_key = '{KEY}'\n[individual_enrollments.allocation]\npolicy = 'custom'\n"
    );
    let warned = findings(&custom);
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned[0].starts_with("? 6:1 enrollment_groups[0].allocation: the policy is custom"), "{warned:?}");
    assert!(warned[1].starts_with("? 10:1 individual_enrollments[0].allocation: the policy is custom"), "{warned:?}");
    let own_url = format!("{custom}webhook_url = 'http://127.0.0.1/'\n");
    assert_eq!(findings(&own_url).len(), 1);
    for silent in [
        format!("webhook_url = 'http://127.0.0.1/'\n{custom}"),
        format!("contoso = {{ by_model = true }}\n{custom}"),
        custom.replace("'custom'", "'static'"),
        include_str!("../examples/dps-emulator.toml").to_owned(),
    ] {
        assert_eq!(findings(&silent), [""; 0]);
    }
    assert_eq!(changed(|_| ()).contoso().is_some(), Config::contoso().warnings().is_empty());
}
