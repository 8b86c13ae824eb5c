//! The library: listeners, TLS, records, scripts, changes while it runs, and its end.

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use azure_dps_emulator::{
    Config, ConfigError, Emulator, IndividualEnrollment, Operation, Script, StartError, X509Attestation,
};
use reqwest::{Certificate, blocking::Client, tls::Version};
use serde_json::json;
use support::*;

/// The default is one listener for HTTP. If a listener is named, it is the only one.
#[test]
fn it_listens_only_on_named_listeners() {
    let emulator = contoso();
    assert!(emulator.http_url().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(emulator.https_url(), None);
    let emulator = builder(Config::contoso()).https("127.0.0.1:0").start().unwrap();
    assert_eq!(emulator.http_url(), None);
    assert!(emulator.https_url().unwrap().starts_with("https://localhost:"));
}

/// "DPS global endpoint: TLS 1.2 only". The certificate has every name, and only the CA of this start is its issuer.
#[test]
fn https_is_tls_1_2_with_a_ca_of_its_own() {
    let emulator = builder(Config::contoso()).http("127.0.0.1:0").https("127.0.0.1:0").start().unwrap();
    let port = emulator.https_url().unwrap().rsplit_once(':').unwrap().1.to_owned();
    let global = "global.azure-devices-provisioning.net";
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    for host in ["localhost", "127.0.0.1", global] {
        let mut device = Device::of_group(&emulator, TOASTER);
        device.client = tls_client(&emulator, None).resolve(global, address).build().unwrap();
        device.url = format!("https://{host}:{port}");
        let response = device.put();
        assert_eq!(response.status(), 202);
        assert!(response.headers().contains_key("strict-transport-security"));
        assert_eq!(device.assigned()["assignedHub"], TOASTERS_HUB);
    }
    let reaches = |client: Client| client.get(emulator.https_url().unwrap()).send().is_ok();
    assert!(reaches(tls_client(&emulator, None).build().unwrap()));
    assert!(!reaches(tls_client(&emulator, None).tls_version_min(Version::TLS_1_3).build().unwrap()));
    assert!(!reaches(tls_client(&contoso(), None).build().unwrap()), "the CA of another emulator");
}

/// The TLS listeners can have the user's certificate: for a device that trusts its own CA, or a certificate that the
/// device must reject.
#[test]
fn https_presents_the_users_certificate() {
    let other = contoso();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let start =
        |chain: &str, key: &str| builder(Config::contoso()).https("127.0.0.1:0").certificate(chain, key).start();
    let emulator = start(&certificate.pem(), &key.serialize_pem()).unwrap();
    let reaches = |client: Client| client.get(emulator.https_url().unwrap()).send().is_ok();
    let ca = Certificate::from_pem(certificate.pem().as_bytes()).unwrap();
    assert!(reaches(Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap()));
    assert!(!reaches(tls_client(&emulator, None).build().unwrap()), "the CA made at start");

    let old = x509::pem(&x509::version_1(certificate.der()).into());
    for (chain, key, why) in [
        (&*certificate.pem(), "no key", "there is no PEM private key"),
        ("", &*key.serialize_pem(), "there is no PEM certificate"),
        (other.ca_pem(), &key.serialize_pem(), "the key does not belong to the certificate"),
        (&old, &key.serialize_pem(), "the certificate has X.509 version 1"),
    ] {
        let error = start(chain, key).unwrap_err();
        assert!(matches!(error, StartError::Tls(_)) && error.to_string().contains(why), "{error}");
    }
}

/// TLS 1.3 must be turned on.
#[test]
fn tls_1_3_can_be_turned_on() {
    let mut config = Config::contoso();
    config.behaviour.tls13 = true;
    let emulator = builder(config).https("127.0.0.1:0").start().unwrap();
    let client = tls_client(&emulator, None).tls_version_min(Version::TLS_1_3).build().unwrap();
    assert_eq!(client.get(emulator.https_url().unwrap()).send().unwrap().status(), 404);
}

/// Every request is recorded in order with its outcome, and an observer is called at once.
#[test]
fn it_records_every_request() {
    let heard = Arc::new(Mutex::new(vec![]));
    let observed = Arc::clone(&heard);
    let emulator = builder(Config::contoso())
        .observer(move |event| observed.lock().unwrap().push(event.to_string()))
        .start()
        .unwrap();
    let device = Device::of_group(&emulator, TOASTER).with_payload(payload());
    let operation_id = device.register();
    device.poll(&operation_id);
    device.unsigned(reqwest::Method::GET, "/").send().unwrap();

    let requests = emulator.requests();
    let (first, last) = (&requests[0], &requests[requests.len() - 1]);
    assert_eq!((first.listener, first.method.as_str()), ("http", "PUT"));
    assert_eq!(first.path, format!("{}/register{VERSION}", device.path()));
    assert_eq!(first.registration_id.as_deref(), Some(TOASTER));
    assert!(first.authorization);
    assert_eq!(first.body, device.registration().to_string());
    assert_eq!((first.http_status, first.retry_after), (Some(202), Some(3)));
    assert!(first.response_body.contains(&operation_id));
    assert_eq!(first.outcome, "assigning");
    let assigned = &requests[requests.len() - 2];
    assert_eq!(assigned.outcome, format!("assigned {TOASTERS_HUB} as {TOASTER} (initialAssignment)"));
    assert_eq!((last.authorization, &last.registration_id, last.http_status), (false, &None, Some(404)));

    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), requests.len() + 1);
    assert!(heard.iter().any(|line| line.contains("hook  POST") && line.contains(TOASTERS_HUB)));
}

/// A scripted answer replaces one answer of its operation, and no other answer.
#[test]
fn a_script_replaces_an_answer() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    emulator.script(Script::respond(Operation::Status, 503, &[("Retry-After", "7")], "busy"));
    emulator.script(Script::respond(Operation::Register, 429, &[], "").times(2));
    for _ in 0..2 {
        assert_eq!(device.put().status(), 429);
    }
    let operation_id = device.register();
    let response = device.get(&operation_id);
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(response.text().unwrap(), "busy");
    device.poll(&operation_id);
    let record = &emulator.requests()[3];
    assert_eq!((record.http_status, record.retry_after), (Some(503), Some(7)));
}

/// A script can be limited to one device.
#[test]
fn a_script_may_be_for_one_device() {
    let emulator = contoso();
    emulator.script(Script::respond(Operation::Register, 500, &[], "").for_device(HEAT_PUMP));
    assert_eq!(Device::of_group(&emulator, TOASTER).put().status(), 202);
    assert_eq!(Device::of_group(&emulator, HEAT_PUMP).put().status(), 500);
}

/// Unknown enum strings, fields and states, and missing fields.
#[test]
fn a_script_changes_an_answers_body() {
    let emulator = changed(|config| config.behaviour.polls_before_result = 0);
    let device = Device::of_group(&emulator, TOASTER);
    emulator.script(Script::merge(Operation::Register, json!({ "status": "pondering", "new": [1] })));
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["status"], &body["new"]), (202, &json!("pondering"), &json!([1])));
    let patch = json!({ "registrationState": { "assignedHub": null } });
    let operation_id = body["operationId"].as_str().unwrap();
    device.poll(operation_id);
    emulator.script(Script::merge(Operation::Status, patch));
    let (_, body) = answer(device.get(operation_id));
    assert_eq!(body["status"], "assigned");
    assert!(body["registrationState"].get("assignedHub").is_none());
}

fn raw_put(emulator: &Emulator) -> Vec<u8> {
    let address = emulator.http_url().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "PUT /{SCOPE}/registrations/{TOASTER}/register{VERSION} HTTP/1.1\r\nHost: x\r\n\
         Authorization: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        token(&derive(GROUP_KEY, TOASTER), TOASTER)
    )
    .unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// A script can lose an answer, or a part of it. The request is still processed.
#[test]
fn a_script_cuts_the_connection() {
    let emulator = contoso();
    let whole = raw_put(&emulator);
    emulator.script(Script::drop_connection(Operation::Register));
    assert_eq!(raw_put(&emulator), b"");
    for bytes in [1, 17, whole.len() - 5] {
        emulator.script(Script::cut(Operation::Register, bytes));
        assert_eq!(raw_put(&emulator).len(), bytes);
    }
    assert!(raw_put(&emulator).ends_with(b"0\r\n\r\n"));
    let records = emulator.requests();
    assert_eq!((records[1].http_status, records[2].http_status), (None, Some(202)));
    assert!(records[1].outcome.contains("cut after 0 bytes"));
}

/// An answer can be any bytes.
#[test]
fn a_script_writes_raw_bytes() {
    let emulator = contoso();
    emulator.script(Script::raw(Operation::Register, &b"SSH-2.0-what?\r\n"[..]));
    assert_eq!(raw_put(&emulator), b"SSH-2.0-what?\r\n");
}

/// The delay of a script is in the service's time.
#[test]
fn the_delay_of_a_script_is_in_the_services_time() {
    let emulator = Emulator::builder(Config::contoso()).time_scale(100.0).start().unwrap();
    emulator.script(Script::delay(Operation::Register, Duration::from_secs(10)));
    let started = Instant::now();
    assert_eq!(Device::of_group(&emulator, TOASTER).put().status(), 202);
    let took = started.elapsed();
    assert!((0.1..5.0).contains(&took.as_secs_f64()), "{took:?}");
}

/// The emulator stops when it is dropped, even during a request and a call of the webhook.
#[test]
fn it_stops_when_it_is_dropped() {
    let emulator = contoso();
    let address = emulator.http_url().unwrap().strip_prefix("http://").unwrap().to_owned();
    let device = Device::of_group(&emulator, TOASTER);
    emulator.contoso().unwrap().respond_after(Duration::from_secs(600), 200, "{}");
    device.register();
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(b"PUT /half").unwrap();
    let started = Instant::now();
    drop(emulator);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(&address).is_err());
    assert_eq!(half.read(&mut [0]).unwrap_or(0), 0);
}

/// The longest delays with the slowest clock never end, and do not panic.
#[test]
fn the_longest_waits_do_not_panic() {
    let longest = 1.8e19;
    let mut config = Config::contoso();
    config.behaviour.client_timeout = longest;
    config.behaviour.webhook_timeout = longest;
    config.behaviour.other_key_blocked_for = longest;
    let emulator = Emulator::builder(config)
        .http("127.0.0.1:0")
        .mqtt("127.0.0.1:0")
        .time_scale(f64::MIN_POSITIVE)
        .start()
        .unwrap();
    emulator.contoso().unwrap().respond_after(Duration::from_millis(10), 200, "{}");
    let device = Device::of_group(&emulator, TOASTER);
    assert_eq!(device.failed().0, 400_208);
    device.assigned();
    assert_eq!(mqtt::Client::toaster(&emulator).assigned_hub(), TOASTERS_HUB);
}

/// Invalid settings are reported at the start, and keys are not quoted.
#[test]
fn an_invalid_configuration_is_rejected() {
    let taken = contoso();
    let taken = taken.http_url().unwrap().strip_prefix("http://").unwrap();
    let start = |config: Config| Emulator::builder(config).http(taken).start();
    assert!(matches!(start(Config::contoso()), Err(StartError::Listen { listener: "http", .. })));
    assert!(matches!(start(Config::default()), Err(StartError::Config(_))));
    let webhook = Emulator::builder(Config::contoso()).webhook("127.0.0.1:7071").start();
    assert!(matches!(webhook, Err(StartError::Config(_))));
    let scale = Emulator::builder(Config::contoso()).time_scale(0.0).start();
    assert!(matches!(scale, Err(StartError::TimeScale)));

    let scope = "id_scope = '0ne00002193'\n";
    for (text, why) in [
        ("", "id_scope: the ID scope is missing or empty"),
        ("id_scope = ''", "id_scope: the ID scope is missing or empty"),
        ("scope = 1", "line 1, column 1: scope: this key is unknown; did you mean `id_scope`?"),
        (
            "[[enrollment_groups]]\nenrollment_group_id = 'g'",
            "enrollment_groups[0]: the enrollment has no primary_key and no x509",
        ),
        ("[[enrollment_groups]]\nprimary_key = 'c2VjcmV0'", "16 to 64 are allowed"),
        (
            "[[enrollment_groups]]\nprimary_key = 'secret!'",
            "line 3, column 15: enrollment_groups[0].primary_key: a symmetric key is not base64",
        ),
        ("[behaviour]\nretry_after = true", "behaviour.retry_after: expected a number of seconds, or false"),
        ("[behaviour]\nwebhook_timeout = -1.0", "webhook_timeout: -1.0 is not a valid number of seconds"),
        ("[behaviour]\nclient_timeout = 1e300", "client_timeout: 1e300 is not a valid number of seconds"),
        (
            "id_scope = 's'\n[behaviour]\nunknown_id_scope_code = 101000",
            "unknown_id_scope_code: 101000 is not an error code",
        ),
        ("[behaviour]\nrefused_key_code_over_http = 204000", "refused_key_code_over_http: 204000 is not an error code"),
        (
            "[[enrollment_groups]]\nenrollment_group_id = 'g'\n\
             primary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='\nallocation.iot_hubs = ['h']",
            "line 5, column 24: enrollment_groups[0].allocation.iot_hubs[0]: \"h\" is not in linked_hubs",
        ),
        ("linked_hubs = ['hub name']", "linked_hubs[0]: \"hub name\" is not a host name"),
        ("linked_hubs = ['https://hub']", "is a URL: give only the host"),
        ("linked_hubs = ['hub:https']", "has a port that is not a number from 1 to 65535"),
        ("linked_hubs = ['']", "is not a host name"),
        ("linked_hubs = ['hub:0']", "has a port"),
        ("linked_hubs = ['hub:65536']", "has a port"),
        ("linked_hubs = ['hub:+1']", "has a port"),
        ("linked_hubs = ['hub:']", "has a port"),
        (
            "webhook_url = '127.0.0.1:7071/api?code=secret'",
            "the webhook's URL \"127.0.0.1:7071/api?****\" does not begin with http:// or https://",
        ),
        ("webhook_url = 'localhost:7071/api'", "does not begin with http:// or https://"),
        ("webhook_url = 'ftp://me:secret@127.0.0.1/'", "\"ftp://****@127.0.0.1/\" does not begin with http://"),
        ("webhook_url = ''", "the webhook's URL \"\" does not begin with"),
        ("webhook_url = 'http://'", "the webhook's URL \"http://\" cannot be used: empty host"),
        ("webhook_url = 'http://host:port/'", "cannot be used: invalid port number"),
        (
            "[[enrollment_groups]]\nenrollment_group_id = 'g'\nprimary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='\n\
             allocation = { policy = 'custom', webhook_url = 'api/HttpTrigger1' }",
            "enrollment_groups[0].allocation.webhook_url: the webhook's URL \"api/HttpTrigger1\" does not begin with http:// or https://",
        ),
        (
            "[[enrollment_groups]]\nenrollment_group_id = 'g'\n\
             primary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='\nallocation.iot_hub_host_name = 'h'",
            "enrollment_groups[0].allocation.iot_hub_host_name: \"h\" is not in linked_hubs",
        ),
        (
            "[[enrollment_groups]]\nenrollment_group_id = 'g'\nca_references = { primary = 'ca' }",
            "enrollment_groups[0].ca_references.primary: \"ca\" is not in ca_certificates",
        ),
        (
            "[[enrollment_groups]]\nallocation.policy = 'nearest'",
            "enrollment_groups[0].allocation.policy: \"nearest\" is not one of \"static\"",
        ),
        (
            "[[individual_enrollments]]\nregistration_id = 'lock/1'\nprimary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='",
            "registration_id: \"lock/1\": the registration ID has a character that is not allowed",
        ),
        (
            "[[individual_enrollments]]\nregistration_id = 'lock'\nprimary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='\n\
             [[individual_enrollments]]\nregistration_id = 'LOCK'\nprimary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='",
            "individual_enrollments[1].registration_id: \"LOCK\" exists twice; names are not case-sensitive",
        ),
        (
            "[[enrollment_groups]]\nenrollment_group_id = 'g'\nprimary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='\n\
             [[enrollment_groups]]\nenrollment_group_id = 'g'\nprimary_key = 'c2l4dGVlbiBieXRlcyEhIQ=='",
            "enrollment_groups[1].enrollment_group_id: \"g\" exists twice",
        ),
    ] {
        let text = if text.contains("scope") || text.is_empty() { text.to_owned() } else { format!("{scope}{text}") };
        let error: ConfigError = Config::from_toml(&text).unwrap_err();
        assert!(error.to_string().contains(why), "{error} / {why}");
        assert!(!error.to_string().contains("secret"));
    }
}

/// Valid settings that are probably a mistake have a warning.
#[test]
fn a_service_that_assigns_nothing_has_a_warning() {
    assert!(Config::contoso().warnings().is_empty());
    let warnings = Config::from_toml("id_scope = '0ne00002193'").unwrap().warnings();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].message().contains("no hub is linked") && warnings[0].path() == "linked_hubs", "{warnings:?}");
    assert!(warnings[1].message().contains("no enrollment"), "{warnings:?}");

    let old = x509::version_1(&x509::Identity::self_signed("lock").chain[0]);
    let [old, new] = [old.into(), x509::Identity::self_signed("door").chain[0].clone()].map(|der| x509::pem(&der));
    let mut config = Config::contoso();
    for (id, pem) in [("lock", old), ("door", new)] {
        let x509 =
            X509Attestation { primary: azure_dps_emulator::Certificate::from_pem(&pem).unwrap(), secondary: None };
        let x509 = Some(x509);
        let registration_id = id.into();
        config.individual_enrollments.push(IndividualEnrollment { registration_id, x509, ..Default::default() });
    }
    let warnings = config.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].message().contains("\"lock\" does not have X.509 version 3"),
        "{warnings:?}"
    );

    let mut config = Config::contoso();
    config.contoso.return_payload = true;
    config.behaviour.inaccessible_hubs = vec![TOASTERS_HUB.to_uppercase()];
    assert!(config.warnings().is_empty());
    config.webhook_url = Some("http://localhost/".into());
    config.behaviour.inaccessible_hubs.push("misspelt-hub".into());
    let warnings = config.warnings();
    assert!(warnings[0].message().contains("[contoso] has no effect"), "{warnings:?}");
    assert!(warnings[1].message().contains("\"misspelt-hub\" in inaccessible_hubs has no effect"), "{warnings:?}");
}

/// The example file can be read, and has the settings that it shows.
#[test]
fn the_example_file_works() {
    let text = include_str!("../examples/dps-emulator.toml");
    let config = Config::from_toml(text).unwrap();
    assert_eq!(config.behaviour.retry_after, Some(1));
    let emulator = builder(config).start().unwrap();
    assert_eq!(Device::of_group(&emulator, TOASTER).assigned()["assignedHub"], TOASTERS_HUB);
    let state = Device::of_group(&emulator, TOASTER).assigned();
    assert_eq!(state["payload"], json!({ "property1": "value1" }));
    let own = Device::new(&emulator, "front-door-lock", OTHER_KEY).assigned();
    assert_eq!((&own["deviceId"], &own["assignedHub"]), (&json!("lock-1"), &json!(HEATPUMPS_HUB)));
    assert_eq!(emulator.device("front-door-lock").unwrap().twin.tags["building"], 43);
    let stolen = Device::of_group(&emulator, "stolen-contoso-tstrsd-007");
    assert_eq!(answer(stolen.put()).1["status"], "disabled");
}

/// Every commented setting of the example file is valid, after the placeholders are filled in.
#[test]
fn every_commented_setting_of_the_example_configuration_can_be_used() {
    let is_setting = |line: &str| {
        let name = line.split(' ').next().unwrap();
        line.starts_with("[[") || line.contains(" = ") && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    };
    let mut settings = 0;
    let mut text = String::new();
    for line in include_str!("../examples/dps-emulator.toml").lines() {
        let setting = line.strip_prefix("# ").filter(|rest| is_setting(rest));
        settings += usize::from(setting.is_some());
        text += setting.unwrap_or(line);
        text.push('\n');
    }
    assert!(settings > 50, "{settings}");
    let (ca, device) = (x509::Ca::root("factory").pem(), x509::Identity::self_signed("back-door-lock").pem());
    for (placeholder, value) in [
        ("secondary_key = \"…\"", format!("secondary_key = \"{OTHER_KEY}\"")),
        ("webhook_url = \"…\"", "webhook_url = \"http://127.0.0.1:7071/api/HttpTrigger1\"".to_owned()),
        ("\"factory-ca.pem\"", format!("{ca:?}")),
        ("\"next-factory-ca.pem\"", format!("{ca:?}")),
        ("\"back-door-lock.pem\"", format!("{device:?}")),
    ] {
        assert!(text.contains(placeholder), "{placeholder}");
        text = text.replace(placeholder, &value);
    }
    builder(Config::from_toml(&text).unwrap()).start().unwrap();
}
