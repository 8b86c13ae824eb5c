//! Access to the service API: tokens, policies and the owner's key.

mod support;

use azure_dps_emulator::{Config, Policy, Right, SymmetricKey, WELL_KNOWN_SERVICE_KEY};
use reqwest::{
    Method,
    header::{AUTHORIZATION, HOST},
};
use serde_json::json;
use support::{
    service::{OWNER, ServiceClient, last_outcome, refused},
    *,
};

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_base64(text).unwrap()
}

/// `sr` has the host with or without its port, in any escaping. The parameters may have any order. A signature may
/// contain an unescaped `/`.
#[test]
fn tokens_in_the_spelling_of_every_client_are_accepted() {
    let emulator = builder(Config::contoso()).http("127.0.0.1:0").https("127.0.0.1:0").start().unwrap();
    Device::of_group(&emulator, TOASTER).assigned();
    let client = ServiceClient::over_tls(&emulator);
    let (key, se) = (WELL_KNOWN_SERVICE_KEY, now() + 600);
    let port = client.host().rsplit_once(':').unwrap().1;
    let raw = |sr: &str| hmac(key, &format!("{sr}\n{se}"));
    let lower = |sr: &str| raw(sr).replace('+', "%2b").replace('/', "%2f").replace('=', "%3d");
    let slash = |sr: &str| raw(sr).replace('+', "%2B").replace('=', "%3D");
    let with_port = format!("localhost%3A{port}");
    let documented = "localhost%2Fregistrations";
    for (client_name, host, token) in [
        ("Node", "localhost", format!("sr=localhost&sig={}&skn={OWNER}&se={se}", sign(key, "localhost", se))),
        ("Python, generated", &format!("localhost:{port}"), {
            format!("sr={with_port}&sig={}&se={se}&skn={OWNER}", sign(key, &with_port, se))
        }),
        (
            "Python",
            &format!("localhost:{port}"),
            format!("sr={with_port}&sig={}&se={se}&skn={OWNER}", slash(&with_port)),
        ),
        ("az", &format!("localhost:{port}"), {
            format!("sr={with_port}&sig={}&se={se}&skn={OWNER}", sign(key, &with_port, se))
        }),
        ("C", "LocalHost:443", format!("sr=LOCALHOST&sig={}&se={se}&skn={OWNER}", lower("LOCALHOST"))),
        ("the documentation", "localhost", {
            format!("sig={}&se={se}&skn={OWNER}&sr={documented}", sign(key, documented, se))
        }),
        ("a hosts file", "global.azure-devices-provisioning.net", {
            let sr = "global.azure-devices-provisioning.net";
            format!("sr={sr}&sig={}&se={se}&skn=ProvisioningServiceOwner", sign(key, sr, se))
        }),
    ] {
        let request = client.unsigned(Method::GET, &format!("/registrations/{TOASTER}")).header(HOST, host);
        let (status, body) =
            answer(request.header(AUTHORIZATION, format!("SharedAccessSignature {token}")).send().unwrap());
        assert_eq!((status, &body["status"]), (200, &json!("assigned")), "{client_name}: {}", last_outcome(&emulator));
    }
}

#[test]
fn an_invalid_token_is_rejected_with_401() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let se = now() + 600;
    let sr = "127.0.0.1";
    let token = |key: &str, sr: &str, se: u64, skn: &str| {
        Some(format!("SharedAccessSignature sr={sr}&sig={}&se={se}{skn}", sign(key, sr, se)))
    };
    let owner = format!("&skn={OWNER}");
    let good = token(WELL_KNOWN_SERVICE_KEY, sr, se, &owner).unwrap();
    for (authorization, why) in [
        (None, "there is no authorization"),
        (Some("Bearer abc".to_owned()), "scheme"),
        (Some("SharedAccessSignature".to_owned()), "no scheme and parameters"),
        (Some(good.replace("&skn", "&skm")), "unknown parameter"),
        (Some(good.replace(&format!("se={se}"), &format!("se={}", se + 1))), "not signed with a key"),
        (Some(good.replace("127.0.0.1", "127%2E0.0.1")), "not signed with a key"),
        (token(OTHER_KEY, sr, se, &owner), "not signed with a key"),
        (token("", sr, se, &owner), "not signed with a key"),
        (token(WELL_KNOWN_SERVICE_KEY, sr, now() - 2, &owner), "expired"),
        (token(WELL_KNOWN_SERVICE_KEY, "mydps.azure-devices-provisioning.net", se, &owner), "HostName"),
        (token(WELL_KNOWN_SERVICE_KEY, "127.0.0.1%2Fenrollments", se, &owner), "the token is for"),
        (
            token(WELL_KNOWN_SERVICE_KEY, sr, se, "&skn=iothubowner"),
            "not the name of a policy: provisioningserviceowner",
        ),
        (token(WELL_KNOWN_SERVICE_KEY, sr, se, "&skn="), "not the name of a policy: provisioningserviceowner"),
        // A key in the wrong place.
        (token(WELL_KNOWN_SERVICE_KEY, sr, se, &format!("&skn={WELL_KNOWN_SERVICE_KEY}")), "not the name of a policy"),
        (token(WELL_KNOWN_SERVICE_KEY, sr, se, ""), "no skn"),
        // A token of a device.
        (
            Some(support::token(&derive(GROUP_KEY, TOASTER), TOASTER)),
            "not the name of a policy: provisioningserviceowner",
        ),
    ] {
        let mut request = client.unsigned(Method::GET, &format!("/registrations/{TOASTER}"));
        if let Some(authorization) = &authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        assert_eq!(refused(request.send().unwrap()), (401_000, "Unauthorized".to_owned()), "{authorization:?}");
        let outcome = last_outcome(&emulator);
        assert!(outcome.contains(why), "{authorization:?}: {outcome}");
    }
    // None of these requests leaves a secret in the record.
    let shown = format!("{:?}", emulator.requests());
    for secret in [WELL_KNOWN_SERVICE_KEY, "Bearer", "sig=", &sign(WELL_KNOWN_SERVICE_KEY, sr, se)] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

/// A web page can resolve its own name to 127.0.0.1, and the well-known key is public.
#[test]
fn a_foreign_host_cannot_use_the_well_known_key_over_http() {
    let emulator = builder(Config::contoso()).http("127.0.0.1:0").https("127.0.0.1:0").start().unwrap();
    let given = builder(Config::contoso()).service_key(key(OTHER_KEY)).start().unwrap();
    let secure = ServiceClient::over_tls(&emulator);
    let plain = ServiceClient::new(&emulator);
    let with_key = ServiceClient::new(&given).with_policy(OWNER, OTHER_KEY);
    for (client, emulator, host, status) in [
        (&plain, &emulator, "evil.example", 401),
        (&plain, &emulator, "127.0.0.1.evil.example", 401),
        (&plain, &emulator, "global.azure-devices-provisioning.net", 401),
        (&plain, &emulator, "localhost", 404),
        (&plain, &emulator, "dps.localhost", 404),
        (&plain, &emulator, "[::1]", 404),
        (&secure, &emulator, "dps.example", 404),
        (&with_key, &given, "dps.example", 404),
    ] {
        let se = now() + 600;
        let token = format!("SharedAccessSignature sr={host}&sig={}&se={se}&skn={OWNER}", sign(&client.key, host, se));
        let request = client.unsigned(Method::GET, "/registrations/a").header(HOST, format!("{host}:8080"));
        let got = request.header(AUTHORIZATION, token).send().unwrap().status();
        assert_eq!(got, status, "{host}: {}", last_outcome(emulator));
        assert_eq!(
            last_outcome(emulator).contains("the well-known key is not valid for the host"),
            status == 401,
            "{host}"
        );
    }
}

/// `token_leeway` applies as for devices.
#[test]
fn an_expired_token_is_accepted_within_the_leeway() {
    let emulator = changed(|config| config.behaviour.token_leeway = 60);
    let client = ServiceClient::new(&emulator);
    let se = now() - 5;
    let authorization =
        format!("SharedAccessSignature sr=127.0.0.1&sig={}&se={se}&skn={OWNER}", sign(&client.key, "127.0.0.1", se));
    let request = client.unsigned(Method::GET, "/registrations/a").header(AUTHORIZATION, authorization);
    assert_eq!(refused(request.send().unwrap()).0, 404_201);
}

/// The right to write includes the right to read of the same kind only.
#[test]
fn a_policy_has_its_rights_and_no_others() {
    use Right::{EnrollmentRead, EnrollmentWrite, RegistrationStatusRead, RegistrationStatusWrite};
    let policies = [
        ("none", vec![]),
        ("enrollment-read", vec![EnrollmentRead]),
        ("enrollment-write", vec![EnrollmentWrite]),
        ("registration-read", vec![RegistrationStatusRead]),
        ("registration-write", vec![RegistrationStatusWrite]),
        ("both", vec![EnrollmentRead, RegistrationStatusRead]),
    ];
    let mut config = Config::contoso();
    config.policies = policies
        .map(|(name, rights)| Policy {
            name: name.to_owned(),
            primary_key: key(GROUP_KEY),
            secondary_key: Some(key(OTHER_KEY)),
            rights,
        })
        .to_vec();
    assert!(config.warnings().iter().any(|warning| warning.message().contains("\"none\" has no rights")));
    let emulator = builder(config).start().unwrap();
    let client = ServiceClient::new(&emulator);
    let calls = [
        (EnrollmentRead, Method::GET, "/enrollments/a"),
        (EnrollmentRead, Method::GET, "/enrollmentGroups/a"),
        (EnrollmentRead, Method::POST, "/enrollments/query"),
        (EnrollmentRead, Method::POST, "/enrollmentGroups/query"),
        (EnrollmentWrite, Method::POST, "/enrollments/a/attestationmechanism"),
        (EnrollmentWrite, Method::POST, "/enrollmentGroups/a/attestationmechanism"),
        (EnrollmentWrite, Method::PUT, "/enrollments/a"),
        (EnrollmentWrite, Method::PUT, "/enrollmentGroups/a"),
        (EnrollmentWrite, Method::DELETE, "/enrollments/a"),
        (EnrollmentWrite, Method::DELETE, "/enrollmentGroups/a"),
        (EnrollmentWrite, Method::POST, "/enrollments"),
        (EnrollmentWrite, Method::POST, "/enrollmentGroups"),
        (RegistrationStatusRead, Method::GET, "/registrations/a"),
        (RegistrationStatusWrite, Method::DELETE, "/registrations/a"),
        (RegistrationStatusRead, Method::POST, "/registrations/a/query"),
    ];
    for (policy, allowed) in [
        ("none", vec![]),
        ("enrollment-read", vec![EnrollmentRead]),
        ("enrollment-write", vec![EnrollmentRead, EnrollmentWrite]),
        ("registration-read", vec![RegistrationStatusRead]),
        ("registration-write", vec![RegistrationStatusRead, RegistrationStatusWrite]),
        ("both", vec![EnrollmentRead, RegistrationStatusRead]),
        (OWNER, vec![EnrollmentRead, EnrollmentWrite, RegistrationStatusRead, RegistrationStatusWrite]),
    ] {
        let keys = if policy == OWNER { vec![WELL_KNOWN_SERVICE_KEY] } else { vec![GROUP_KEY, OTHER_KEY] };
        for key in keys {
            let client = client.clone().with_policy(policy, key);
            for (right, method, path) in &calls {
                let status = client.send(method.clone(), path).0;
                assert_eq!(status != 401, allowed.contains(right), "{policy} {method} {path}: {status}");
                if status == 401 {
                    assert!(last_outcome(&emulator).contains(&format!("does not have the right {right:?}")));
                }
            }
        }
    }
}

/// A configured key replaces the well-known key, and a key of the builder replaces both.
#[test]
fn the_owners_key_can_be_configured_and_given() {
    let mut config = Config::contoso();
    config.policies = vec![Policy {
        name: "ProvisioningServiceOwner".to_owned(),
        primary_key: key(GROUP_KEY),
        secondary_key: None,
        rights: vec![Right::RegistrationStatusRead],
    }];
    for given in [false, true] {
        let mut builder = builder(config.clone());
        if given {
            builder = builder.service_key(key(OTHER_KEY));
        }
        let emulator = builder.start().unwrap();
        for (key, is_good) in [(WELL_KNOWN_SERVICE_KEY, false), (GROUP_KEY, !given), (OTHER_KEY, given)] {
            let client = ServiceClient::new(&emulator).with_policy(OWNER, key);
            let expected = if is_good { 404 } else { 401 };
            assert_eq!(client.get("/registrations/a").0, expected, "{given} {key}");
            // The rights are those of the configuration.
            assert_eq!(client.delete("/registrations/a").0, 401);
        }
        let port = ServiceClient::new(&emulator).host().rsplit_once(':').unwrap().1.to_owned();
        assert_eq!(
            emulator.service_connection_string().unwrap(),
            format!("HostName=localhost:{port};SharedAccessKeyName=ProvisioningServiceOwner")
        );
        assert!(!format!("{:?}", emulator).contains(OTHER_KEY));
    }
}

#[test]
fn a_connection_string_names_the_https_listener_first() {
    let http = contoso();
    let port = http.http_url().unwrap().rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(
        http.service_connection_string().unwrap(),
        format!("HostName=localhost:{port};SharedAccessKeyName={OWNER};SharedAccessKey={WELL_KNOWN_SERVICE_KEY}")
    );
    let both = builder(Config::contoso()).http("127.0.0.1:0").https("127.0.0.1:0").start().unwrap();
    let host = both.https_url().unwrap().strip_prefix("https://").unwrap();
    assert!(both.service_connection_string().unwrap().starts_with(&format!("HostName={host};")));
    let mqtt = builder(Config::contoso()).mqtt("127.0.0.1:0").start().unwrap();
    assert_eq!(mqtt.service_connection_string(), None);
}

/// The well-known key is valid on loopback only, wherever it was configured. Without another key the service API is
/// off, and says so. Devices are not affected.
#[test]
fn beyond_loopback_the_service_api_needs_a_key() {
    let policy = |key: &str| Policy {
        name: "reader".to_owned(),
        primary_key: SymmetricKey::from_base64(key).unwrap(),
        secondary_key: None,
        rights: vec![Right::RegistrationStatusRead],
    };
    let public = |config: Config| builder(config).http("0.0.0.0:0");
    let well_known = Config { policies: vec![policy(WELL_KNOWN_SERVICE_KEY)], ..Config::contoso() };
    for builder in [
        public(Config::contoso()),
        builder(Config::contoso()).http("127.0.0.1:0").mqtt("0.0.0.0:0"),
        builder(Config::contoso()).http("127.0.0.1:0").mqtts("[::]:0"),
        public(Config::contoso()).service_key(key(WELL_KNOWN_SERVICE_KEY)),
        public(well_known),
    ] {
        let emulator = builder.start().unwrap();
        let client = ServiceClient::new(&emulator);
        for client in [client.clone(), client.with_policy("reader", WELL_KNOWN_SERVICE_KEY)] {
            let (code, message) = refused(client.request(Method::GET, "/registrations/a").send().unwrap());
            assert_eq!(code, 403_000);
            for part in ["is off", "loopback", "DPS_EMULATOR_SERVICE_KEY", "--service-key-file"] {
                assert!(message.contains(part), "{message}");
            }
        }
        assert_eq!(emulator.service_connection_string(), None);
        assert!(emulator.warnings()[0].contains("the service API is off"), "{:?}", emulator.warnings());
        let mut device = Device::of_group(&emulator, TOASTER);
        device.url = device.url.replace("0.0.0.0", "127.0.0.1");
        device.assigned();
    }

    let emulator = public(Config::contoso()).service_key(key(OTHER_KEY)).start().unwrap();
    let client = ServiceClient::new(&emulator);
    assert_eq!(client.get("/registrations/a").0, 401);
    assert_eq!(client.with_policy(OWNER, OTHER_KEY).get("/registrations/a").0, 404);
    assert!(!emulator.service_connection_string().unwrap().contains("SharedAccessKey="));
    assert_eq!(emulator.warnings(), [""; 0]);

    // With a policy that has its own key, no owner is needed.
    let emulator = public(Config { policies: vec![policy(OTHER_KEY)], ..Config::contoso() }).start().unwrap();
    let client = ServiceClient::new(&emulator);
    assert_eq!(client.get("/registrations/a").0, 401);
    assert_eq!(client.with_policy("reader", OTHER_KEY).get("/registrations/a").0, 404);
    assert!(emulator.service_connection_string().unwrap().ends_with("SharedAccessKeyName=reader"));

    // Without the service API there is no warning.
    let emulator = builder(Config::contoso()).mqtt("0.0.0.0:0").start().unwrap();
    assert_eq!(emulator.warnings(), [""; 0]);
}

#[test]
fn a_policy_that_cannot_be_used_is_refused() {
    let toml = |policy: &str| format!("id_scope = 'a'\n[[policies]]\n{policy}");
    let good = format!("name = 'a'\nprimary_key = '{OTHER_KEY}'\nrights = ['EnrollmentWrite']\n");
    assert!(Config::from_toml(&toml(&good)).is_ok());
    for (policy, why) in [
        (good.replace("'a'", "''"), "policies[0].name: the policy has no name"),
        (format!("{good}[[policies]]\n{}", good.replace("'a'", "'A'")), "twice"),
        (
            good.replace("EnrollmentWrite", "ServiceConfig"),
            "line 5, column 11: policies[0].rights[0]: \"ServiceConfig\" is not one of",
        ),
        (good.replace("rights", "right"), "policies[0].right: this key is unknown; did you mean `rights`?"),
        (good.replace(OTHER_KEY, "S3CRET"), "line 4, column 15: policies[0].primary_key: a symmetric key"),
    ] {
        let error = Config::from_toml(&toml(&policy)).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("S3CRET") && !error.contains(OTHER_KEY), "{error}");
    }
    let empty = Policy { name: "a".into(), primary_key: SymmetricKey::default(), secondary_key: None, rights: vec![] };
    assert!(builder(Config { policies: vec![empty], ..Config::contoso() }).start().is_err());
    let fault = builder(Config::contoso()).allow_webhook("http://a.example/").start().unwrap_err();
    assert!(fault.to_string().contains("without scheme and port"), "{fault}");
}

/// The program takes the key from a file, from standard input and from the environment, and never shows it.
#[cfg(unix)]
mod program {
    use std::{
        fs,
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::support::program::Program;

    fn client(program: &mut Program, key: &str) -> (ServiceClient, String) {
        let url = program.line().strip_prefix("listening on ").unwrap().to_owned();
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        (ServiceClient { client, url, policy: OWNER.to_owned(), key: key.to_owned() }, program.line())
    }

    #[test]
    fn the_well_known_key_is_printed() {
        let mut program = Program::start(&mut Command::new(DPS));
        let (client, line) = client(&mut program, WELL_KNOWN_SERVICE_KEY);
        let port = client.url.rsplit_once(':').unwrap().1;
        assert_eq!(
            line,
            format!(
                "service API: HostName=localhost:{port};SharedAccessKeyName={OWNER};SharedAccessKey={WELL_KNOWN_SERVICE_KEY}"
            )
        );
        assert_eq!(client.get("/registrations/a").0, 404);
    }

    #[test]
    fn a_given_key_is_used_and_not_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{OTHER_KEY}\n")).unwrap();
        for from in ["file", "standard input", "environment"] {
            let mut command = Command::new(DPS);
            command.args(["--http", "0.0.0.0:0"]);
            match from {
                "file" => command.arg("--service-key-file").arg(file.path()).env("DPS_EMULATOR_SERVICE_KEY", GROUP_KEY),
                "standard input" => command.args(["--service-key-file", "-"]),
                _ => command.env("DPS_EMULATOR_SERVICE_KEY", OTHER_KEY),
            };
            let mut program = Program::start_with_input(&mut command, OTHER_KEY);
            let (mut client, line) = client(&mut program, OTHER_KEY);
            client.url = client.url.replace("0.0.0.0", "127.0.0.1");
            assert_eq!(
                line,
                format!("service API: HostName=localhost:{};SharedAccessKeyName={OWNER}", {
                    client.url.rsplit_once(':').unwrap().1
                })
            );
            assert_eq!(client.get("/registrations/a").0, 404, "{from}");
            client.key = WELL_KNOWN_SERVICE_KEY.to_owned();
            assert_eq!(client.get("/registrations/a").0, 401, "{from}");
            let log = program.end("-TERM").1;
            assert!(!log.contains(OTHER_KEY) && log.contains("/registrations/a"), "{log}");
        }
    }

    #[test]
    fn without_a_key_the_program_warns() {
        let mut program = Program::start(Command::new(DPS).args(["--http", "0.0.0.0:0", "--json"]));
        let warning =
            std::iter::repeat_with(|| program.json()).find_map(|line| line["warning"].as_str().map(str::to_owned));
        assert!(warning.unwrap().contains("DPS_EMULATOR_SERVICE_KEY"));
    }

    #[test]
    fn a_key_that_cannot_be_used_is_reported_and_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "S3CRET").unwrap();
        let path = file.path().to_str().unwrap();
        for (arguments, variable, code, why) in [
            (vec!["--service-key-file", path], "", 3, path),
            (vec![], "S3CRET", 3, "DPS_EMULATOR_SERVICE_KEY"),
            (vec!["--service-key-file", "/no/such/file"], "", 1, "/no/such/file"),
            (vec!["--allow-webhook", "https://a.example"], "", 2, "without scheme and port"),
        ] {
            let mut command = Command::new(DPS);
            command.args(&arguments).stdin(Stdio::null());
            if !variable.is_empty() {
                command.env("DPS_EMULATOR_SERVICE_KEY", variable);
            }
            let output = command.output().unwrap();
            let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {shown}");
            assert!(shown.contains(why) && !shown.contains("S3CRET"), "{shown}");
        }
    }

    impl Program {
        /// Starts the program with this on standard input.
        fn start_with_input(command: &mut Command, input: &str) -> Self {
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let lines = std::io::BufReader::new(child.stdout.take().unwrap());
            Self { child, lines }
        }
    }
}
