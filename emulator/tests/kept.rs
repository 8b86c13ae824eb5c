//! The data that a data folder keeps over restarts. `killed.rs` tests SIGKILL.

mod support;

use std::{fs, path::Path, sync::mpsc};

use azure_dps_emulator::{Builder, Config, Emulator, EnrollmentGroup, StartError, SymmetricKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};
use support::{service::ServiceClient, x509::Ca, *};

fn kept(config: Config, folder: &Path) -> Builder {
    builder(config).data(folder).http("127.0.0.1:0").https("127.0.0.1:0")
}

fn start(config: Config, folder: &Path) -> Emulator {
    kept(config, folder).start().unwrap()
}

/// The tutorial's configuration with another webhook and a group that issues certificates.
fn with_webhook(url: &str) -> Config {
    let mut config = Config::contoso();
    config.webhook_url = Some(url.to_owned());
    config.behaviour.polls_before_result = 0;
    config.enrollment_groups[0].certificate_policy = Some("policy".to_owned());
    config
}

/// Returns a device of the last start, with the URL of this start.
fn again(device: &Device, emulator: &Emulator) -> Device {
    Device { payload: device.payload.clone(), ..Device::new(emulator, &device.registration_id, &device.key) }
}

fn csr(name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    BASE64_STANDARD.encode(request.der())
}

/// Registers with this body.
fn register(device: &Device, body: &Value) -> String {
    let path = format!("{}/register?api-version=2025-07-01-preview", device.path());
    let request = device.request(Method::PUT, &path).header(CONTENT_TYPE, "application/json");
    let (status, body) = answer(request.body(body.to_string()).send().unwrap());
    assert_eq!(status, 202, "{body}");
    body["operationId"].as_str().unwrap().to_owned()
}

#[test]
fn a_restart_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    let (calls, called) = mpsc::channel();
    let (url, _webhook) = webhook(2, move |request| {
        calls.send(request.clone()).unwrap();
        json!({
            "iotHubHostName": TOASTERS_HUB,
            "initialTwin": { "tags": { "number": 0.1 }, "properties": { "desired": { "colour": "blue" } } },
            "payload": { "told": "the device" },
        })
    });
    let config = with_webhook(&url);

    let emulator = start(config.clone(), &folder);
    let service = ServiceClient::new(&emulator);
    let enrollment = json!({ "registrationId": "own", "attestation": { "type": "symmetricKey" } });
    let (status, own) = service.put("/enrollments/own", &enrollment);
    assert_eq!(status, 200, "{own}");
    let device = Device::of_group(&emulator, TOASTER);
    let operation = register(&device, &json!({ "csr": csr(TOASTER) }));
    let told = |device: &Device, emulator: &Emulator| {
        let service = ServiceClient::new(emulator);
        json!({
            "result of the operation": device.poll(&operation),
            "look-up": device.lookup(),
            "registration": service.get(&format!("/registrations/{TOASTER}")),
            "group": service.get(&format!("/enrollmentGroups/{GROUP}")),
            "keys of the group": service.post(&format!("/enrollmentGroups/{GROUP}/attestationmechanism"), &json!(null)),
            "enrollment": service.get("/enrollments/own"),
            "keys of the enrollment": service.post("/enrollments/own/attestationmechanism", &json!(null)),
            "device at its hub": emulator.device(&device.registration_id),
            "CA": emulator.ca_pem(),
            "issuing CA": emulator.issuing_ca_pem(),
        })
    };
    let before = told(&device, &emulator);
    assert_eq!(before["device at its hub"]["twin"]["tags"]["number"], 0.1);
    let issued = &before["result of the operation"]["registrationState"]["issuedCertificateChain"];
    assert_eq!(issued.as_array().unwrap().len(), 3);
    let first_ca = fs::read(folder.join("ca.pem")).unwrap();
    assert_eq!(first_ca, emulator.ca_pem().as_bytes());
    emulator.stop();

    let emulator = start(config.clone(), &folder);
    let after = told(&again(&device, &emulator), &emulator);
    for (what, before) in before.as_object().unwrap() {
        assert_eq!(&after[what], before, "{what}");
    }
    // A client can still use its copy of the CA, and the CA can still issue certificates.
    let ca = reqwest::Certificate::from_pem(&first_ca).unwrap();
    let client = reqwest::blocking::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let url = emulator.https_url().unwrap().to_owned();
    let over_tls = Device { client, url, ..again(&device, &emulator) };
    let result = over_tls.poll(&register(&over_tls, &json!({ "csr": csr(TOASTER) })));
    let chain = &result["registrationState"]["issuedCertificateChain"];
    assert_eq!((&chain[1], &chain[2]), (&issued[1], &issued[2]));
    let request = called.try_iter().last().unwrap();
    assert_eq!(request["deviceRuntimeContext"]["currentIotHubHostName"], TOASTERS_HUB);
    // The etag of the enrollment is the same, so the update succeeds.
    assert_eq!(request["enrollmentGroup"]["etag"], before["group"][1]["etag"]);
    let service = ServiceClient::new(&emulator);
    let stale = service
        .request(Method::PUT, "/enrollments/own")
        .header("If-Match", "\"another\"")
        .header(CONTENT_TYPE, "application/json");
    assert_eq!(stale.body(own.to_string()).send().unwrap().status(), 412);
}

fn group(id: &str) -> EnrollmentGroup {
    EnrollmentGroup {
        enrollment_group_id: id.to_owned(),
        primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
        ..EnrollmentGroup::default()
    }
}

/// Returns the groups, each with its `enabled`.
fn groups(emulator: &Emulator) -> Vec<(String, bool)> {
    let mut groups = Vec::new();
    emulator.update(|config| {
        groups =
            config.enrollment_groups.iter().map(|group| (group.enrollment_group_id.clone(), group.enabled)).collect();
    });
    groups
}

/// An enrollment of the configuration is created if its ID was never known. After that, changes and deletions through
/// the service API or in Rust stay, whatever the file says.
#[test]
fn enrollments_of_the_configuration_are_created_once() {
    /// The groups of the configuration, the change, and the groups after it.
    type Life = (&'static [&'static str], fn(&Emulator), &'static [(&'static str, bool)]);
    let lives: [Life; 5] = [
        (&["a", "b", "c"], |_| (), &[("a", true), ("b", true), ("c", true)]),
        (
            &["a", "b", "c"],
            |emulator| {
                let service = ServiceClient::new(emulator);
                let (_, mut a) = service.get("/enrollmentGroups/a");
                a["provisioningStatus"] = json!("disabled");
                let put = service.request(Method::PUT, "/enrollmentGroups/a").header("If-Match", "*");
                let put = put.header(CONTENT_TYPE, "application/json").body(a.to_string());
                assert_eq!(put.send().unwrap().status(), 200);
                assert_eq!(service.delete("/enrollmentGroups/b").0, 204);
                emulator.update(|config| config.enrollment_groups.retain(|group| group.enrollment_group_id != "c"));
                emulator.update(|config| config.enrollment_groups.push(group("d")));
            },
            &[("a", false), ("d", true)],
        ),
        // IDs have no case.
        (&["A", "B", "c", "e"], |_| (), &[("a", false), ("d", true), ("e", true)]),
        // A group that the file no longer names stays.
        (&["d"], |_| (), &[("a", false), ("d", true), ("e", true)]),
        (
            &["d", "b", "f"],
            |emulator| emulator.update(|config| config.enrollment_groups = vec![group("b"), group("a")]),
            &[("b", true), ("a", true)],
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    for (life, (file, change, expected)) in lives.into_iter().enumerate() {
        let mut config = Config::contoso();
        config.enrollment_groups = file.iter().map(|id| group(id)).collect();
        let emulator = start(config, &folder);
        change(&emulator);
        let expected: Vec<_> = expected.iter().map(|(id, enabled)| ((*id).to_owned(), *enabled)).collect();
        assert_eq!(groups(&emulator), expected, "life {life}");
    }
}

/// A registration that is running when the emulator stops continues with the same operation ID.
#[test]
fn running_registrations_continue() {
    let ca = Ca::root("Factory CA");
    for (what, has_certificate) in [("a key", false), ("a certificate", true)] {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("data");
        let held = HeldWebhook::start();
        let mut config = with_webhook(&held.url());
        if has_certificate {
            let group = &mut config.enrollment_groups[0];
            (group.primary_key, group.x509) = (SymmetricKey::default(), ca.attestation());
        }
        let identity = has_certificate.then(|| ca.device(TOASTER));
        let connect = |emulator: &Emulator| match &identity {
            Some(identity) => Device::over_tls(emulator, TOASTER, Some(identity)),
            None => Device::of_group(emulator, TOASTER),
        };

        let emulator = start(config.clone(), &folder);
        let operation = register(&connect(&emulator), &json!({ "csr": csr(TOASTER), "payload": { "model": 7 } }));
        let (call, context) = held.call();
        // Stop the emulator before the call is dropped. A running emulator would treat the dropped call as an answer
        // of the webhook.
        drop(emulator);
        drop(call);

        let emulator = start(config, &folder);
        let (call, context_now) = held.call();
        assert_eq!(context_now, context, "{what}");
        let device = connect(&emulator);
        assert_eq!(answer(device.get(&operation)).1["status"], "assigning", "{what}");
        answer_call(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
        let body = device.poll(&operation);
        let state = &body["registrationState"];
        assert_eq!((&body["status"], &state["assignedHub"]), (&json!("assigned"), &json!(TOASTERS_HUB)), "{what}");
        assert_eq!(state["issuedCertificateChain"].as_array().unwrap().len(), 3, "{what}");
    }
}

/// A reset also applies to the data folder.
#[test]
fn a_reset_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    let mut config = Config::contoso();
    config.enrollment_groups = vec![group("a"), group("b")];
    for life in 0..2 {
        let emulator = kept(config.clone(), &folder).control("127.0.0.1:0").start().unwrap();
        assert_eq!(groups(&emulator), [("a".to_owned(), true), ("b".to_owned(), true)], "life {life}");
        assert!(emulator.device("some").is_none());
        let device = Device::new(&emulator, "some", &derive(OTHER_KEY, "some"));
        device.assigned();
        let service = ServiceClient::new(&emulator);
        assert_eq!(service.delete("/enrollmentGroups/b").0, 204);
        let url = format!("{}/_emulator/reset", emulator.control_url().unwrap());
        let reset = device.client.post(url).header(CONTENT_TYPE, "application/json").body("{}").send().unwrap();
        assert!(reset.status().is_success(), "{reset:?}");
    }
}

/// Returns the error of a start with this folder.
fn refusal(folder: &Path) -> String {
    match kept(Config::contoso(), folder).start() {
        Err(error @ StartError::Data(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A folder that is in use, or has other files, is rejected and does not change.
#[test]
fn folders_of_other_programs_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    let emulator = start(Config::contoso(), &folder);
    assert!(refusal(&folder).contains("another process uses this folder"));
    emulator.stop();
    start(Config::contoso(), &folder).stop();

    for (file, text, fault) in [
        ("format", "3\n", "a newer version of the emulator wrote this folder: it has format 3"),
        ("format", "0\n", "does not say which format"),
        ("format", "?", "does not say which format"),
        ("emulator.redb", "not a database", "the database cannot be opened"),
    ] {
        let path = folder.join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let refusal = refusal(&folder);
        assert!(refusal.contains(fault), "{refusal}");
        assert!(refusal.starts_with(folder.to_str().unwrap()), "{refusal}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::write(&path, before).unwrap();
    }
    start(Config::contoso(), &folder).stop();

    let home = directory.path().join("home");
    fs::create_dir(&home).unwrap();
    private(&home);
    fs::write(home.join("letter"), "").unwrap();
    assert!(refusal(&home).contains("other files, such as letter"));
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
}

#[cfg(unix)]
fn private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
}

#[cfg(not(unix))]
fn private(_: &Path) {}

/// The folder has keys.
#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("deep/data");
    start(Config::contoso(), &folder).stop();
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
    for wide in [0o750, 0o705, 0o777, 0o701] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(wide)).unwrap();
        assert!(refusal(&folder).contains(&format!("(mode {wide:o})")), "{wide:o}");
        assert_eq!(mode(&folder), wide);
    }
    private(&folder);
    start(Config::contoso(), &folder).stop();
}
