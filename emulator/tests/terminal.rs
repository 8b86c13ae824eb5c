//! The program at a terminal: `--check`, and what is printed for people.
#![cfg(unix)]

mod support;

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::{Value, json};
use support::DPS;

const KEY: &str = "c2l4dGVlbiBieXRlcyEhIQ==";

/// Runs the program with a configuration until it ends by itself.
fn run(config: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dps.toml"), config).unwrap();
    Command::new(DPS).args(["--config", "dps.toml"]).args(arguments).current_dir(folder.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// `--check` tells all that is wrong, on standard output, and starts nothing. The ordinary start tells the same errors
/// on standard error.
#[test]
fn a_configuration_is_checked_and_nothing_started() {
    let bad = format!("id_scope = 's'\nlinked_hubs = ['my hub', 'hub']\nscope = '{KEY}'\n");
    let errors = "dps.toml:2:16: error: linked_hubs[0]: \"my hub\" is not a host name, with or without a port\n\
                  dps.toml:3:1: error: scope: this key is unknown; did you mean `id_scope`?\n";
    let checked = run(&bad, &["--check"]);
    assert_eq!(checked.status.code(), Some(3));
    assert_eq!(
        text(&checked.stdout),
        "dps.toml: warning: there is no enrollment: every device is refused until the service API creates one; or add \
         [[enrollment_groups]] or [[individual_enrollments]]\n"
            .to_owned()
            + errors
            + "dps.toml cannot be used: 2 errors, 1 warning\n"
    );
    assert_eq!(text(&checked.stderr), "");
    let started = run(&bad, &[]);
    assert_eq!((started.status.code(), text(&started.stdout)), (Some(3), ""));
    assert_eq!(text(&started.stderr), format!("dps-emulator: the configuration cannot be used:\n{errors}"));

    let good = format!(
        "id_scope = 's'\nlinked_hubs = ['hub']\n[[enrollment_groups]]\nenrollment_group_id = 'g'\nprimary_key = '{KEY}'"
    );
    // An address that cannot be listened on: nothing listens.
    let checked = run(&good, &["--check", "--http", "300.0.0.1:0"]);
    assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(0), ""));
    assert_eq!(text(&checked.stdout), "dps.toml can be used: no errors, no warnings\n");
    let built_in = Command::new(DPS).arg("--check").output().unwrap();
    assert_eq!(text(&built_in.stdout), "the built-in configuration can be used: no errors, no warnings\n");
}

/// Flags are checked with the file, and what a flag replaces is not the file's fault.
#[test]
fn flags_are_checked_with_the_file() {
    let file = format!(
        "id_scope = 's'\nlinked_hubs = ['hub']\nwebhook_url = 'nowhere'\ncontoso.by_model = true\n\
         [[enrollment_groups]]\nenrollment_group_id = 'g'\nprimary_key = '{KEY}'\nallocation.policy = 'custom'\n"
    );
    for (webhook, code, told) in [
        (None, 3, "dps.toml:3:15: error: webhook_url: the webhook's URL \"nowhere\" does not begin"),
        (Some("nohow"), 3, "error: --webhook: the webhook's URL \"nohow\" does not begin"),
        (Some("http://127.0.0.1/?code=secret"), 0, "dps.toml:4:1: warning: contoso: [contoso] has no effect"),
    ] {
        let flags = webhook.map(|url| ["--webhook", url]);
        let checked = run(&file, &[&["--check"][..], flags.as_ref().map_or(&[], |flags| &flags[..])].concat());
        let lines = text(&checked.stdout);
        assert_eq!(checked.status.code(), Some(code), "{lines}");
        assert!(lines.lines().any(|line| line.starts_with(told)) && !lines.contains("secret"), "{lines}");
        assert_eq!(lines.contains("nowhere"), webhook.is_none(), "{lines}");
    }
}

/// With `--json` each finding is an object, and there is nothing else.
#[test]
fn findings_are_objects_with_json() {
    let checked = run("id_scope = 's'\nlinked_hubs = ['h']\nbehaviour.tls13 = 1", &["--check", "--json"]);
    assert_eq!(checked.status.code(), Some(3));
    let findings: Vec<Value> = text(&checked.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [warning, error] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((&warning["finding"]["level"], &warning["finding"]["line"]), (&json!("warning"), &Value::Null));
    assert_eq!(
        *error,
        json!({
            "finding": {
                "level": "error", "path": "behaviour.tls13", "line": 3, "column": 19,
                "message": "this is the number 1, but true or false is expected",
            },
            "file": "dps.toml",
        })
    );
    let missing = Command::new(DPS).args(["--config", "/nowhere/dps.toml", "--check", "--json"]).output().unwrap();
    let finding: Value = serde_json::from_str(text(&missing.stdout)).unwrap();
    assert_eq!((missing.status.code(), &finding["file"]), (Some(3), &json!("/nowhere/dps.toml")));
    assert!(finding["finding"]["message"].as_str().unwrap().starts_with("the file cannot be read: "), "{finding}");
}
