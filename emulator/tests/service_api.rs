//! The service API: who is let in, what its answers look like, and registrations.

mod support;

use std::time::Duration;

use azure_dps_emulator::{Config, Emulator, Policy, Right, SymmetricKey, WELL_KNOWN_SERVICE_KEY};
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, IF_MATCH},
};
use serde_json::{Value, json};
use support::{
    service::{OWNER, SERVICE_VERSION, ServiceClient},
    *,
};

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_base64(text).unwrap()
}

/// Checks the answer of a refusal. Returns its code and message.
fn refused(response: reqwest::blocking::Response) -> (u64, String) {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let [kind, code, id] = ["content-type", "x-ms-error-code", "x-ms-request-id"].map(header);
    assert_eq!(kind.as_deref(), Some("application/json; charset=utf-8"));
    assert_eq!(id.unwrap().len(), 36);
    let (status, body) = answer(response);
    let members: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["errorCode", "trackingId", "message", "timestampUtc"]);
    let error_code = body["errorCode"].as_u64().unwrap();
    assert_eq!((error_code / 1000, code), (status.into(), Some(error_code.to_string())));
    (error_code, body["message"].as_str().unwrap().to_owned())
}

fn last_outcome(emulator: &Emulator) -> String {
    emulator.requests().last().unwrap().outcome.clone()
}

/// `sr` names the host with or without its port, in any escaping; the parameters have any order; a signature may have
/// a `/` as it is.
#[test]
fn tokens_in_the_spelling_of_every_client_are_good() {
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
fn a_token_that_is_not_good_is_refused_with_401() {
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
        (token(WELL_KNOWN_SERVICE_KEY, sr, se, "&skn=iothubowner"), "no policy of this name"),
        (token(WELL_KNOWN_SERVICE_KEY, sr, se, "&skn="), "no policy of this name"),
        (token(WELL_KNOWN_SERVICE_KEY, sr, se, ""), "no skn"),
        // A device's.
        (Some(support::token(&derive(GROUP_KEY, TOASTER), TOASTER)), "no policy of this name"),
    ] {
        let mut request = client.unsigned(Method::GET, &format!("/registrations/{TOASTER}"));
        if let Some(authorization) = &authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        assert_eq!(refused(request.send().unwrap()), (401_000, "Unauthorized".to_owned()), "{authorization:?}");
        let outcome = last_outcome(&emulator);
        assert!(outcome.contains(why), "{authorization:?}: {outcome}");
    }
    // Nothing of it is on record.
    let shown = format!("{:?}", emulator.requests());
    for secret in [WELL_KNOWN_SERVICE_KEY, "Bearer", "sig=", &sign(WELL_KNOWN_SERVICE_KEY, sr, se)] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

/// A web page may have its own name resolved to 127.0.0.1, and knows the well-known key.
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
        assert_eq!(last_outcome(emulator).contains("the well-known key is not for the host"), status == 401, "{host}");
    }
}

/// `token_leeway` counts here as for devices.
#[test]
fn an_expired_token_is_good_within_the_leeway() {
    let emulator = changed(|config| config.behaviour.token_leeway = 60);
    let client = ServiceClient::new(&emulator);
    let se = now() - 5;
    let authorization =
        format!("SharedAccessSignature sr=127.0.0.1&sig={}&se={se}&skn={OWNER}", sign(&client.key, "127.0.0.1", se));
    let request = client.unsigned(Method::GET, "/registrations/a").header(AUTHORIZATION, authorization);
    assert_eq!(refused(request.send().unwrap()).0, 404_201);
}

/// The right to write includes the right to read, and none includes the other kind's.
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

/// What the configuration names goes before the well-known key, and a key that is given goes before both.
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

/// The well-known key counts on loopback only, wherever it was configured. Without another key the service API is off,
/// and says so; devices do not notice.
#[test]
fn beyond_loopback_the_service_api_wants_a_key() {
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

    // A policy with a key of its own needs no owner.
    let emulator = public(Config { policies: vec![policy(OTHER_KEY)], ..Config::contoso() }).start().unwrap();
    let client = ServiceClient::new(&emulator);
    assert_eq!(client.get("/registrations/a").0, 401);
    assert_eq!(client.with_policy("reader", OTHER_KEY).get("/registrations/a").0, 404);
    assert!(emulator.service_connection_string().unwrap().ends_with("SharedAccessKeyName=reader"));

    // No service API, no warning.
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
            "line 5, column 11: policies[0].rights[0]: \"ServiceConfig\" is none of",
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

/// az sends a Content-Type without a body; paths have any case and may end in a slash; a refusal is JSON whatever it is
/// about.
#[test]
fn requests_are_taken_as_the_clients_write_them() {
    let emulator = contoso();
    Device::of_group(&emulator, TOASTER).assigned();
    let client = ServiceClient::new(&emulator);
    for path in [
        format!("/registrations/{TOASTER}"),
        format!("/Registrations/{TOASTER}/"),
        format!("/registrations/{}", TOASTER.to_uppercase()),
        format!("/registrations/{}", TOASTER.replace('-', "%2D")),
    ] {
        let request = client.request(Method::GET, &path).header(CONTENT_TYPE, "application/json").header(ACCEPT, "*/*");
        let response = request.send().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json; charset=utf-8");
    }
    for (method, path, code, allowed) in [
        (Method::GET, "/registrations/a/b/c", 404_000, None),
        (Method::GET, "/enrollments/a/b", 404_000, None),
        (Method::GET, "/enrollments", 405_000, Some("POST")),
        (Method::PATCH, "/enrollmentGroups/a", 405_000, Some("GET, PUT, DELETE")),
        (Method::GET, "/enrollmentGroups/a/attestationmechanism", 405_000, Some("POST")),
        (Method::GET, "/enrollments/query", 404_201, None),
        (Method::GET, "/registrations", 405_000, Some("")),
        (Method::PUT, "/registrations/a", 405_000, Some("GET, DELETE")),
        (Method::GET, "/registrations/a/query", 405_000, Some("POST")),
        (Method::GET, "/registrations/%FF", 404_000, None),
        (Method::GET, "/registrations/unknown", 404_201, None),
        (Method::DELETE, "/registrations/unknown", 404_201, None),
        (Method::POST, "/registrations/unknown/query", 404_201, None),
    ] {
        let response = client.request(method.clone(), path).send().unwrap();
        let allow = response.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(refused(response).0, code, "{method} {path}");
        assert_eq!(allow.as_deref(), allowed, "{method} {path}");
    }
    let query = format!("/registrations/{GROUP}/query");
    let text = client.request(Method::POST, &query).header(CONTENT_TYPE, "text/plain").body("{}").send().unwrap();
    assert_eq!(refused(text).0, 415_000);
    let long = client.request(Method::POST, &query).header(CONTENT_TYPE, "application/json");
    assert_eq!(refused(long.body(vec![b' '; 1024 * 1024 + 1]).send().unwrap()).0, 413_000);
    // Whoever is not let in may not even send so much.
    let stranger = client.unsigned(Method::POST, &query).header(CONTENT_TYPE, "application/json");
    assert_eq!(refused(stranger.body(vec![b' '; 100 * 1024]).send().unwrap()).0, 401_000);
    let count = client.request(Method::POST, &query).header("x-ms-max-item-count", "ten").send().unwrap();
    let (code, message) = refused(count);
    assert!(code == 400_000 && message.contains("x-ms-max-item-count"), "{message}");
    let continuation = client.request(Method::POST, &query).header("x-ms-continuation", "?").send().unwrap();
    let (code, message) = refused(continuation);
    assert!(code == 400_000 && message.contains("x-ms-continuation"), "{message}");
}

#[test]
fn every_request_names_an_api_version() {
    for strict in [false, true] {
        let emulator = changed(|config| config.behaviour.strict_api_version = strict);
        let client = ServiceClient::new(&emulator);
        for (query, code) in [
            ("", 400_000),
            ("?api-version", if strict { 400_000 } else { 404_201 }),
            ("?api-version=2099-01-01", if strict { 400_000 } else { 404_201 }),
            ("?api-version=2018-09-01-preview", 404_201),
            (SERVICE_VERSION, 404_201),
        ] {
            let request = client.client.get(format!("{}/registrations/a{query}", client.url));
            assert_eq!(
                refused(request.header(AUTHORIZATION, client.token()).send().unwrap()).0,
                code,
                "{query} {strict}"
            );
        }
    }
}

/// What az, Node and Python write about enrollments, as far as it is unusual; and what they expect.
#[test]
fn enrollments_are_managed_as_the_clients_write_them() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let send = |method: Method, path: &str, body: &str| {
        // az sends a type without a body, too.
        let request = client.request(method, path).header(CONTENT_TYPE, "application/json; charset=utf-8");
        let response = request.body(body.to_owned()).send().unwrap();
        let kind = response.headers().get(CONTENT_TYPE).cloned();
        let (status, body) = answer(response);
        assert_eq!(kind.is_some(), status != 204, "{path}");
        (status, body)
    };
    let device = json!({ "registrationId": "dev-1",
        "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": OTHER_KEY, "secondaryKey": GROUP_KEY } } });
    let (status, stored) = send(Method::PUT, "/enrollments/dev-1", &device.to_string());
    assert_eq!((status, &stored["registrationId"]), (200, &json!("dev-1")));
    let (status, keys) = send(Method::POST, "/enrollments/dev-1/attestationmechanism", "");
    assert_eq!((status, &keys["symmetricKey"]["primaryKey"]), (200, &json!(OTHER_KEY)));
    let (status, keys) = send(Method::POST, &format!("/enrollmentgroups/{GROUP}/attestationmechanism"), "");
    assert_eq!((status, &keys["symmetricKey"]["primaryKey"]), (200, &json!(GROUP_KEY)));
    let bulk = json!({ "mode": "create", "enrollments": [{ "registrationId": "dev-2",
        "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": "", "secondaryKey": "" } } }] });
    assert_eq!(
        send(Method::POST, "/enrollments/", &bulk.to_string()),
        (200, json!({ "isSuccessful": true, "errors": [] }))
    );
    let az = r#"{"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}"#;
    let (status, all) = send(Method::POST, "/enrollments/query", az);
    let ids: Vec<_> = all.as_array().unwrap().iter().map(|each| each["registrationId"].clone()).collect();
    assert_eq!((status, ids), (200, vec![json!("dev-1"), json!("dev-2")]));
    let changed = client.request(Method::PUT, "/enrollments/dev-1").header(IF_MATCH, "*").body(device.to_string());
    assert_eq!(changed.header(CONTENT_TYPE, "application/json").send().unwrap().status(), 200);
    let stale = client.request(Method::DELETE, "/enrollments/dev-1").header(IF_MATCH, stored["etag"].as_str().unwrap());
    assert_eq!(refused(stale.send().unwrap()).0 / 1000, 412);
    assert_eq!(send(Method::DELETE, "/Enrollments/DEV-1/", ""), (204, json!("")));
    assert_eq!(send(Method::GET, "/enrollments/dev-1", "").0, 404);
    // The keys of neither are on record, whatever was asked and answered.
    let shown = format!("{:?}", emulator.requests());
    assert!(!shown.contains(OTHER_KEY) && !shown.contains(GROUP_KEY), "{shown}");
    assert!(shown.contains("****"));
}

#[test]
fn enrollments_are_queried_in_parts() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let ids: Vec<_> = (0..5).map(|number| format!("dev-{number}")).collect();
    for id in &ids {
        let body = json!({ "registrationId": id, "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
        assert_eq!(client.put(&format!("/enrollments/{id}"), &body).0, 200);
    }
    let (mut found, mut continuation) = (vec![], None::<String>);
    loop {
        let mut request = client.request(Method::POST, "/enrollments/query").header("x-ms-max-item-count", "2");
        request = request.header(CONTENT_TYPE, "application/json").body(json!({ "query": "SELECT *" }).to_string());
        if let Some(continuation) = &continuation {
            request = request.header("x-ms-continuation", continuation);
        }
        let response = request.send().unwrap();
        assert_eq!(response.headers()["x-ms-item-type"], "enrollment");
        continuation = response.headers().get("x-ms-continuation").map(|value| value.to_str().unwrap().to_owned());
        let page = answer(response).1.as_array().unwrap().clone();
        assert!(page.len() == 2 || continuation.is_none(), "{page:?}");
        found.extend(page.iter().map(|each| each["registrationId"].as_str().unwrap().to_owned()));
        if continuation.is_none() {
            break;
        }
    }
    assert_eq!(found, ids);
    let groups = client.request(Method::POST, "/enrollmentGroups/query").send().unwrap();
    assert_eq!(groups.headers()["x-ms-item-type"], "enrollmentGroup");
}

/// Whoever may write enrollments could have the emulator call any host.
#[test]
fn a_webhook_of_the_service_api_is_on_loopback_or_an_allowed_host() {
    for (allowed, url, status) in [
        (None, "http://localhost:7071/api/HttpTrigger1?code=S3CRET", 200),
        (None, "http://functions.example/api?code=S3CRET", 400),
        (Some("functions.example"), "http://functions.example/api?code=S3CRET", 200),
        (Some("functions.example"), "http://a.functions.example/api?code=S3CRET", 400),
    ] {
        let mut builder = builder(Config::contoso());
        if let Some(host) = allowed {
            builder = builder.allow_webhook(host);
        }
        let emulator = builder.start().unwrap();
        let client = ServiceClient::new(&emulator);
        let group = json!({ "enrollmentGroupId": "g", "allocationPolicy": "custom",
            "attestation": { "type": "symmetricKey", "symmetricKey": {} },
            "customAllocationDefinition": { "webhookUrl": url, "apiVersion": "2021-10-01" } });
        let (got, body) = client.put("/enrollmentGroups/g", &group);
        assert_eq!(got, status, "{url}: {body}");
        if status == 400 {
            let message = body["message"].as_str().unwrap();
            assert!(message.contains("--allow-webhook") && !message.contains("S3CRET"), "{message}");
        }
        // In a bulk operation the error is that of one enrollment.
        let bulk = json!({ "mode": "create", "enrollmentGroups": [{ "enrollmentGroupId": "h", "allocationPolicy": "custom",
            "attestation": { "type": "symmetricKey", "symmetricKey": {} },
            "customAllocationDefinition": { "webhookUrl": url, "apiVersion": "2021-10-01" } }] });
        let (_, body) = client.post("/enrollmentGroups", &bulk);
        assert_eq!(body["isSuccessful"], status == 200, "{url}: {body}");
        assert!(!format!("{body} {:?}", emulator.requests()).contains("S3CRET"));
    }
}

/// The service API sees what the device was told, without what is only the device's.
#[test]
fn a_registration_is_read() {
    let mut config = Config::contoso();
    config.contoso.return_payload = true;
    let emulator = builder(config).https("127.0.0.1:0").start().unwrap();
    let mut device = Device::over_tls(&emulator, TOASTER, None);
    device.key = derive(GROUP_KEY, TOASTER);
    let state = device.with_payload(payload()).assigned();
    let client = ServiceClient::over_tls(&emulator);
    let (status, body) = client.get(&format!("/registrations/{TOASTER}"));
    assert_eq!(status, 200);
    let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "registrationId",
            "createdDateTimeUtc",
            "assignedHub",
            "deviceId",
            "status",
            "substatus",
            "lastUpdatedDateTimeUtc",
            "etag",
            "payload"
        ]
    );
    for member in members {
        assert_eq!(body[member], state[member], "{member}");
    }
}

/// A registration that failed has the error, and one of a disabled device says so.
#[test]
fn a_registration_that_failed_is_read() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let stranger = Device::of_group(&emulator, "no-known-kind");
    let (code, message) = stranger.failed();
    let (_, body) = client.get("/registrations/no-known-kind");
    assert_eq!(
        (&body["status"], &body["errorCode"], &body["errorMessage"]),
        (&json!("failed"), &json!(code), &json!(message))
    );
    emulator.update(|config| config.enrollment_groups[0].enabled = false);
    answer(stranger.put());
    assert_eq!(client.get("/registrations/no-known-kind").1["status"], "disabled");
}

/// `DELETE` is answered 204 without a body. Then the device is unknown: polls and look-ups are 404. Its next registration
/// is an initial assignment. The hub keeps the device and its twin until then.
#[test]
fn a_deleted_registration_begins_anew() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let path = format!("/registrations/{TOASTER}");
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    device.poll(&operation_id);
    assert_eq!(device.assigned()["substatus"], "reprovisionedToInitialAssignment");
    let twin = emulator.device(TOASTER).unwrap().twin;

    let response = client.request(Method::DELETE, &path).header(CONTENT_TYPE, "application/json").send().unwrap();
    assert_eq!(response.status(), 204);
    let has = |headers: &HeaderMap, name: &str| headers.contains_key(name);
    let headers = response.headers();
    assert!(!has(headers, "content-type") && !has(headers, "transfer-encoding") && has(headers, "x-ms-request-id"));
    assert_eq!(response.text().unwrap(), "");
    assert_eq!(client.get(&path).0, 404);
    assert_eq!(client.delete(&path).0, 404);
    assert_eq!(answer(device.get(&operation_id)).1["errorCode"], 404_201);
    assert_eq!(device.lookup().1["errorCode"], 404_201);
    let record = emulator.device(TOASTER).unwrap();
    assert!(!record.registered && record.twin == twin);

    assert_eq!(device.assigned()["substatus"], "initialAssignment");
    assert!(emulator.device(TOASTER).unwrap().registered);
    // The webhook was not told of the hub that the device had.
    let contexts: Vec<_> =
        emulator.webhook_calls().iter().map(|call| call.request["deviceRuntimeContext"].clone()).collect();
    let current: Vec<_> = contexts.iter().map(|context| context["currentIotHubHostName"].is_string()).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(device.assigned()["substatus"], "reprovisionedToInitialAssignment");
}

/// Quotes around the etag do not count, because clients send what they read.
#[test]
fn a_stale_etag_is_refused_with_412() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let path = format!("/registrations/{TOASTER}");
    let device = Device::of_group(&emulator, TOASTER);
    let etag = || client.get(&path).1["etag"].as_str().unwrap().to_owned();
    let delete = |if_match: &str| client.request(Method::DELETE, &path).header(IF_MATCH, if_match).send().unwrap();
    device.assigned();
    let stale = etag();
    device.assigned();
    for if_match in [&stale, "\"a\"", ""] {
        assert_eq!(refused(delete(if_match)).0, 412_000, "{if_match:?}");
    }
    for written in ["{}", "\"{}\"", "W/\"{}\"", "\"a\", \"{}\"", "*"] {
        let if_match = written.replace("{}", &etag());
        assert_eq!(delete(&if_match).status(), 204, "{if_match}");
        device.assigned();
    }
}

/// A registration that is running ends when it is deleted, and assigns nothing, whatever the webhook answers.
#[test]
fn a_running_registration_that_is_deleted_ends() {
    let webhook = HeldWebhook::start();
    let emulator = changed(|config| config.webhook_url = Some(webhook.url()));
    let client = ServiceClient::new(&emulator);
    let path = format!("/registrations/{TOASTER}");
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    let (call, _) = webhook.call();
    assert_eq!(client.get(&path).1["status"], "assigning");
    assert_eq!(client.delete(&path).0, 204);
    // The call is closed: its answer has no reader.
    assert_eq!(answer(device.get(&operation_id)).0, 404);
    let _ = try_answer(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
    drop(call);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while emulator.webhook_calls().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the call never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    let outcome = &emulator.webhook_calls()[0].outcome;
    assert!(outcome.contains("its registration was deleted"), "{outcome}");
    assert_eq!((client.get(&path).0, emulator.device(TOASTER).is_none()), (404, true));
    device.register();
    assert_eq!(webhook.call().1["registrationId"], TOASTER);
}

/// The registrations of a group come in parts, each once, also if devices come and go in between.
#[test]
fn registrations_of_a_group_are_queried_in_parts() {
    let mut config = Config::contoso();
    config.individual_enrollments = vec![azure_dps_emulator::IndividualEnrollment {
        registration_id: HEAT_PUMP.into(),
        primary_key: key(OTHER_KEY),
        ..Default::default()
    }];
    let emulator = builder(config).start().unwrap();
    let client = ServiceClient::new(&emulator);
    let query = |id: &str, count: Option<&str>, continuation: Option<&str>, body: &str| {
        let mut request = client.request(Method::POST, &format!("/registrations/{id}/query"));
        request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        for (name, value) in [("x-ms-max-item-count", count), ("x-ms-continuation", continuation)] {
            request = match value {
                Some(value) => request.header(name, value),
                None => request,
            };
        }
        let response = request.send().unwrap();
        let more = response.headers().get("x-ms-continuation").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.headers()["x-ms-item-type"], "deviceRegistration");
        let (status, body) = answer(response);
        assert_eq!(status, 200, "{body}");
        let ids: Vec<_> =
            body.as_array().unwrap().iter().map(|state| state["registrationId"].as_str().unwrap().to_owned()).collect();
        (ids, more)
    };
    assert_eq!(query(GROUP, None, None, ""), (vec![], None));
    let ids: Vec<_> = (0..7).map(|number| format!("{number}-contoso-tstrsd-007")).collect();
    for id in &ids {
        Device::of_group(&emulator, id).assigned();
    }
    Device::new(&emulator, HEAT_PUMP, OTHER_KEY).assigned();
    for body in ["", "{}", r#"{"query":"*"}"#] {
        assert_eq!(query(GROUP, None, None, body), (ids.clone(), None), "{body}");
    }
    assert_eq!(query(&GROUP.to_uppercase(), Some("7"), None, "").0, ids);
    assert_eq!(query(HEAT_PUMP, None, None, ""), (vec![HEAT_PUMP.to_owned()], None));
    let (first, more) = query(GROUP, Some("3"), None, "");
    client.delete(&format!("/registrations/{}", ids[1]));
    client.delete(&format!("/registrations/{}", ids[2]));
    let (second, more) = query(GROUP, Some("3"), more.as_deref(), "");
    let (third, more) = query(GROUP, Some("3"), more.as_deref(), "");
    assert_eq!(([first, second, third].concat(), more), (ids, None));
}

/// What is on record has the path, and the bodies without keys.
#[test]
fn requests_are_on_record_without_keys() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let body = json!({ "attestation": { "symmetricKey": { "primaryKey": OTHER_KEY } },
        "customAllocationDefinition": { "webhookUrl": "http://127.0.0.1/?code=S3CRET" } });
    client.post(&format!("/registrations/{GROUP}/query"), &body);
    let request = client.request(Method::POST, &format!("/registrations/{GROUP}/query"));
    request.header(CONTENT_TYPE, "application/json").body(format!("primaryKey={OTHER_KEY}")).send().unwrap();
    let records = emulator.requests();
    assert_eq!(records[0].path, format!("/registrations/{GROUP}/query{SERVICE_VERSION}"));
    assert_eq!((records[0].listener, &*records[0].method, records[0].authorization), ("http", "POST", true));
    let recorded: Value = serde_json::from_str(&records[0].body).unwrap();
    assert_eq!(recorded["attestation"]["symmetricKey"]["primaryKey"], "****");
    assert_eq!(recorded["customAllocationDefinition"]["webhookUrl"], "http://127.0.0.1/?****");
    assert_eq!(records[1].body, format!("({} bytes that are not JSON)", 11 + OTHER_KEY.len()));
    let shown = format!("{records:?}");
    assert!(!shown.contains(OTHER_KEY) && !shown.contains("S3CRET"), "{shown}");
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
    fn a_key_that_is_given_counts_and_is_not_printed() {
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
    fn a_key_that_cannot_be_used_is_named_and_not_shown() {
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
        /// Starts it with this on standard input.
        fn start_with_input(command: &mut Command, input: &str) -> Self {
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let lines = std::io::BufReader::new(child.stdout.take().unwrap());
            Self { child, lines }
        }
    }
}
