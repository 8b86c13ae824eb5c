//! X.509 attestation over HTTPS and MQTT: which certificates are accepted, and where they are shown.

mod support;

use std::{
    io::{Read, Write},
    sync::Arc,
};

use azure_dps_emulator::{
    AllocationPolicy, Certificate, Config, Emulator, EnrollmentGroup, IndividualEnrollment, SymmetricKey,
    X509Attestation,
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SerialNumber};
use reqwest::tls::Version;
use rumqttc::QoS;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, SignatureScheme, StreamOwned, client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey,
};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use support::{
    mqtt::{Client, FILTER, REGISTER, tcp},
    x509::*,
    *,
};
use time::macros::datetime;

const DEVICE: &str = "device-01";

fn start(config: Config) -> Emulator {
    builder(config).http("127.0.0.1:0").https("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap()
}

/// Starts a service with these enrollments only.
fn service(change: impl FnOnce(&mut Config)) -> Emulator {
    let mut config = Config { enrollment_groups: vec![], ..Config::contoso() };
    config.behaviour.polls_before_result = 0;
    change(&mut config);
    start(config)
}

fn group(x509: Option<X509Attestation>) -> EnrollmentGroup {
    EnrollmentGroup { enrollment_group_id: "factory".into(), x509, ..EnrollmentGroup::default() }
}

fn individual(x509: Option<X509Attestation>) -> IndividualEnrollment {
    IndividualEnrollment { registration_id: DEVICE.into(), x509, ..IndividualEnrollment::default() }
}

fn of_group(ca: &Ca) -> Emulator {
    service(|config| config.enrollment_groups.push(group(ca.attestation())))
}

fn of_individual(identity: &Identity) -> Emulator {
    service(|config| config.individual_enrollments.push(individual(x509(identity.certificate()))))
}

/// Registers over MQTT. Returns the status and the body of the answer.
fn register_over_mqtt(emulator: &Emulator, id: &str, identity: Option<&Identity>) -> (u16, Value) {
    let mut client = Client::open_as(emulator, "mqtts", id, identity);
    assert_eq!(client.connect(""), Some(0));
    client.subscribe(FILTER, QoS::AtLeastOnce);
    let (topic, body) = client.ask(REGISTER, "");
    (topic.split('/').next().unwrap().parse().unwrap(), body)
}

/// Provisions over HTTPS, and checks that MQTT has the same result.
fn assigned(emulator: &Emulator, id: &str, identity: &Identity) -> Value {
    let state = Device::over_tls(emulator, id, Some(identity)).assigned();
    let mut client = Client::open_as(emulator, "mqtts", id, Some(identity));
    assert_eq!(client.connect(""), Some(0));
    client.subscribe(FILTER, QoS::AtLeastOnce);
    let body = client.provision();
    let over_mqtt = &body["registrationState"];
    assert_eq!(
        (&over_mqtt["x509"], &over_mqtt["assignedHub"], &over_mqtt["deviceId"]),
        (&state["x509"], &state["assignedHub"], &state["deviceId"]),
    );
    state
}

/// "Usually handshake OK, then 401 with 401002", over both protocols. The log says why.
fn refused(emulator: &Emulator, id: &str, identity: Option<&Identity>, why: &str) {
    let over_https = answer(Device::over_tls(emulator, id, identity).put());
    for (status, body) in [over_https, register_over_mqtt(emulator, id, identity)] {
        assert_eq!((status, &body["errorCode"]), (401, &json!(401_002)), "{why}: {body}");
        let outcome = emulator.requests().pop().unwrap().outcome;
        assert!(outcome.contains(why), "{why}: {outcome}");
    }
    assert!(emulator.device(id).is_none());
}

/// "200, disabled", over both protocols.
fn disabled(emulator: &Emulator, id: &str, identity: &Identity) {
    let over_https = answer(Device::over_tls(emulator, id, Some(identity)).put());
    for (status, body) in [over_https, register_over_mqtt(emulator, id, Some(identity))] {
        assert_eq!((status, &body["status"]), (200, &json!("disabled")), "{body}");
    }
}

// ---- Individual enrollments ----

/// "The thumbprint of the device certificate" must be that of the primary or secondary certificate. A certificate
/// with the same name and the same key is not enough.
#[test]
fn an_individual_enrollment_accepts_its_certificates() {
    let device = Identity::self_signed(DEVICE);
    let emulator = of_individual(&device);
    let state = assigned(&emulator, DEVICE, &device);
    assert_eq!((&state["deviceId"], &state["x509"]), (&json!(DEVICE), &json!({})));
    assert!(state.get("symmetricKey").is_none());

    let certificate = leaf(DEVICE).self_signed(&device.key).unwrap();
    let renewed = Identity { chain: vec![certificate.der().clone()], key: device.key };
    let emulator = of_individual(&Identity::self_signed(DEVICE));
    refused(&emulator, DEVICE, Some(&renewed), "the enrollment has another certificate");
    emulator.update(|config| {
        config.individual_enrollments[0].x509.as_mut().unwrap().secondary = Some(renewed.certificate());
    });
    assigned(&emulator, DEVICE, &renewed);
}

/// A certificate that a CA signed is as good as a self-signed one, because only the thumbprint counts.
#[test]
fn an_individual_enrollment_needs_no_chain() {
    let device = Ca::root("factory root").device(DEVICE);
    let emulator = of_individual(&device);
    assigned(&emulator, DEVICE, &device);
}

/// "The registration ID must equal the common name", in any case.
#[test]
fn the_common_name_is_the_registration_id() {
    let device = Identity::self_signed(DEVICE);
    let emulator = of_individual(&device);
    assert_eq!(assigned(&emulator, "Device-01", &device)["registrationId"], "Device-01");

    let root = Ca::root("factory root");
    let emulator = of_group(&root);
    refused(&emulator, "device-02", Some(&root.device(DEVICE)), "common name is \"device-01\"");
    let mut nameless = CertificateParams::default();
    nameless.distinguished_name = rcgen::DistinguishedName::new();
    refused(&emulator, DEVICE, Some(&root.sign(&nameless)), "no common name");
}

/// A certificate must be valid now, also in an individual enrollment.
#[test]
fn a_certificate_that_is_not_valid_now_is_rejected() {
    let root = Ca::root("factory root");
    for (device, why) in [
        (root.sign(&valid(leaf(DEVICE), -48, -24)), "expired at"),
        (root.sign(&valid(leaf(DEVICE), 24, 48)), "not valid before"),
    ] {
        refused(&of_individual(&device), DEVICE, Some(&device), why);
        refused(&of_group(&root), DEVICE, Some(&device), why);
    }
    let now = root.sign(&valid(leaf(DEVICE), -1, 1));
    assigned(&of_group(&root), DEVICE, &now);
}

// ---- Groups ----

/// "Group enrollment: send leaf + intermediates": the group's CA may be a root or an intermediate.
#[test]
fn a_group_accepts_certificates_of_its_ca() {
    let root = Ca::root("factory root");
    let line = root.intermediate("assembly line 1");

    let emulator = of_group(&root);
    let state = assigned(&emulator, DEVICE, &root.device(DEVICE));
    assert_eq!(state["x509"], json!({ "enrollmentGroupId": "factory" }));
    assigned(&emulator, "device-02", &line.device("device-02").with(&line));
    assigned(&emulator, "device-03", &line.device("device-03").with(&line).with(&root));
    let deep = line.intermediate("cell 7");
    assigned(&emulator, "device-04", &deep.device("device-04").with(&deep).with(&line));
    refused(&emulator, "device-05", Some(&line.device("device-05")), "UnknownIssuer");
    refused(&emulator, "device-05", Some(&deep.device("device-05").with(&deep)), "UnknownIssuer");

    let emulator = of_group(&line);
    assigned(&emulator, DEVICE, &line.device(DEVICE));
    assigned(&emulator, "device-02", &line.device("device-02").with(&line).with(&root));
    refused(&emulator, "device-03", Some(&root.device("device-03")), "UnknownIssuer");
}

/// Primary and secondary CA, for a rollover.
#[test]
fn a_group_may_have_a_second_ca() {
    let (old, new) = (Ca::root("root 2025"), Ca::root("root 2026"));
    let emulator = of_group(&old);
    refused(&emulator, "device-02", Some(&new.device("device-02")), "UnknownIssuer");
    emulator.update(|config| {
        config.enrollment_groups[0].x509.as_mut().unwrap().secondary = Some(new.certificate());
    });
    assigned(&emulator, DEVICE, &old.device(DEVICE));
    assigned(&emulator, "device-02", &new.device("device-02"));
}

/// A device belongs to the group whose CA signed its certificate.
#[test]
fn the_signing_ca_selects_the_group() {
    let (toasters, heat_pumps) = (Ca::root("toasters"), Ca::root("heat pumps"));
    let emulator = of_group(&toasters);
    emulator.update(|config| {
        config
            .enrollment_groups
            .push(EnrollmentGroup { enrollment_group_id: "other-factory".into(), ..group(heat_pumps.attestation()) });
    });
    let group = |id: &str, ca: &Ca| assigned(&emulator, id, &ca.device(id))["x509"]["enrollmentGroupId"].clone();
    assert_eq!(group(DEVICE, &toasters), "factory");
    assert_eq!(group("device-02", &heat_pumps), "other-factory");
}

/// A chain that the device made itself has the right names and the wrong keys.
#[test]
fn a_chain_with_the_right_names_and_wrong_keys_is_rejected() {
    let root = Ca::root("factory root");
    let emulator = of_group(&root);
    let false_root = Ca::root("factory root");
    refused(&emulator, DEVICE, Some(&false_root.device(DEVICE)), "factory: ");
    refused(&emulator, DEVICE, Some(&false_root.device(DEVICE).with(&false_root)), "factory: ");
    refused(&emulator, DEVICE, Some(&false_root.device(DEVICE).with(&root)), "factory: ");
    refused(&emulator, DEVICE, Some(&Identity::self_signed(DEVICE)), "UnknownIssuer");
    let line = root.intermediate("assembly line 1");
    let false_line = Ca::root("assembly line 1");
    refused(&emulator, DEVICE, Some(&false_line.device(DEVICE).with(&line)), "factory: ");
}

/// A certificate of a device cannot sign others, and a certificate of a server is not for a device.
#[test]
fn a_certificate_is_accepted_only_for_its_purpose() {
    let root = Ca::root("factory root");
    let emulator = of_group(&root);
    let neighbour = root.intermediate_with(leaf("neighbour"));
    refused(&emulator, DEVICE, Some(&neighbour.device(DEVICE).with(&neighbour)), "factory: ");

    let mut server = leaf(DEVICE);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    refused(&emulator, DEVICE, Some(&root.sign(&server)), "factory: ");
    let mut anything = leaf(DEVICE);
    anything.extended_key_usages.clear();
    assigned(&emulator, DEVICE, &root.sign(&anything));
}

/// Each certificate of the chain must be valid now, also that of the group's CA.
#[test]
fn a_chain_with_an_expired_ca_is_rejected() {
    let root = Ca::root_with(valid(ca("factory root"), -48, -24));
    refused(&of_group(&root), DEVICE, Some(&root.device(DEVICE)), "the CA's certificate expired at");
    let root = Ca::root_with(valid(ca("factory root"), 24, 48));
    refused(&of_group(&root), DEVICE, Some(&root.device(DEVICE)), "the CA's certificate is not valid before");

    let root = Ca::root("factory root");
    let line = root.intermediate_with(valid(ca("assembly line 1"), -48, -24));
    refused(&of_group(&root), DEVICE, Some(&line.device(DEVICE).with(&line)), "factory: ");
}

// ---- Without a certificate, and with both ----

/// If there are only X.509 enrollments, a device without credentials lacks a certificate. Otherwise it lacks a token.
#[test]
fn a_device_without_credentials_gets_the_code_of_the_missing_one() {
    let root = Ca::root("factory root");
    let emulator = of_group(&root);
    refused(&emulator, DEVICE, None, "there is no client certificate");
    let (status, body) = Device::over_tls(&emulator, DEVICE, None).lookup();
    assert_eq!((status, &body["errorCode"]), (401, &json!(401_002)));

    emulator.update(|config| {
        config.enrollment_groups.push(Config::contoso().enrollment_groups.remove(0));
        config.individual_enrollments.push(individual(x509(root.device(DEVICE).certificate())));
    });
    refused(&emulator, DEVICE, None, "there is no client certificate");
    for (status, body) in
        [answer(Device::over_tls(&emulator, TOASTER, None).put()), register_over_mqtt(&emulator, TOASTER, None)]
    {
        assert_eq!((status, &body["errorCode"]), (401, &json!(401_000)));
        assert!(emulator.requests().pop().unwrap().outcome.contains("there is no authorization"));
    }
}

/// Listeners without TLS see no certificates.
#[test]
fn without_tls_there_is_no_certificate() {
    let emulator = of_individual(&Identity::self_signed(DEVICE));
    let mut device = Device::new(&emulator, DEVICE, "");
    device.key.clear();
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["errorCode"]), (401, &json!(401_002)));
}

/// Without enrollments, every certificate is 401002, not 404201 as for tokens.
#[test]
fn an_unknown_certificate_is_rejected() {
    let emulator = service(|_| ());
    refused(&emulator, DEVICE, Some(&Identity::self_signed(DEVICE)), "no enrollment");
}

/// Tokens and certificates can be used side by side, each with its own enrollments only.
#[test]
fn tokens_and_certificates_are_for_their_own_enrollments() {
    let root = Ca::root("factory root");
    let mut config = Config::contoso();
    config.enrollment_groups.push(group(root.attestation()));
    config.enrollment_groups[0].allocation.policy = AllocationPolicy::Static;
    let emulator = start(config);

    // A token over TLS, together with a certificate of another device.
    let stranger = Identity::self_signed("stranger");
    for identity in [None, Some(&stranger)] {
        let mut toaster = Device::over_tls(&emulator, TOASTER, identity);
        toaster.key = derive(GROUP_KEY, TOASTER);
        let state = toaster.assigned();
        assert_eq!(state["symmetricKey"], json!({ "enrollmentGroupId": GROUP }));
        assert!(state.get("x509").is_none());
    }
    refused(&emulator, "stranger", Some(&stranger), "it has another kind of attestation; factory: ");
    assigned(&emulator, DEVICE, &root.device(DEVICE));

    // A token that no key of a group signed, for a device with a certificate.
    let mut device = Device::over_tls(&emulator, DEVICE, Some(&root.device(DEVICE)));
    device.key = OTHER_KEY.to_owned();
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["errorCode"], &body["message"]), (401, &json!(401_002), &json!("Unauthorized")));
}

/// Symmetric keys: the result names the group, but not an individual enrollment.
#[test]
fn the_result_names_the_group_of_a_key() {
    let emulator = changed(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: DEVICE.into(),
            primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
            ..IndividualEnrollment::default()
        });
    });
    let state = Device::of_group(&emulator, TOASTER).assigned();
    assert_eq!(state["symmetricKey"], json!({ "enrollmentGroupId": GROUP }));
    let state = Device::new(&emulator, DEVICE, OTHER_KEY).assigned();
    assert!(state.get("symmetricKey").is_none());
}

// ---- Precedence ----

/// Only devices of a disabled enrollment learn that it is disabled.
#[test]
fn only_its_devices_learn_that_an_enrollment_is_disabled() {
    let root = Ca::root("factory root");
    let device = root.device(DEVICE);
    let emulator = of_group(&root);
    emulator.update(|config| config.enrollment_groups[0].enabled = false);
    disabled(&emulator, DEVICE, &device);
    let emulator = of_individual(&device);
    emulator.update(|config| config.individual_enrollments[0].enabled = false);
    disabled(&emulator, DEVICE, &device);
    refused(&emulator, "device-02", Some(&root.device("device-02")), "no enrollment");
}

/// An individual enrollment takes precedence over groups: if it has another certificate, or keys, the group no longer
/// applies.
#[test]
fn an_individual_enrollment_takes_precedence() {
    let root = Ca::root("factory root");
    let with_key =
        IndividualEnrollment { primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(), ..individual(None) };
    for enrollment in [individual(x509(Identity::self_signed(DEVICE).certificate())), with_key] {
        let emulator = of_group(&root);
        emulator.update(|config| config.individual_enrollments.push(enrollment));
        refused(&emulator, DEVICE, Some(&root.device(DEVICE)), "device-01: ");
        assigned(&emulator, "device-02", &root.device("device-02"));

        // "An Individual Enrollment was created to disable the device."
        emulator.update(|config| config.individual_enrollments[0].enabled = false);
        disabled(&emulator, DEVICE, &root.device(DEVICE));
        refused(&emulator, DEVICE, Some(&Ca::root("factory root").device(DEVICE)), "factory: ");
        assigned(&emulator, "device-03", &root.device("device-03"));
    }
}

// ---- Sessions ----

/// A certificate is public: only its key proves the device.
#[test]
fn a_certificate_without_its_key_makes_no_handshake() {
    #[derive(Debug)]
    struct Stolen(Arc<CertifiedKey>);
    impl ResolvesClientCert for Stolen {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }

        fn has_certs(&self) -> bool {
            true
        }
    }
    let device = Identity::self_signed(DEVICE);
    let thief = Identity::self_signed(DEVICE);
    let emulator = of_individual(&device);
    for (key, succeeds) in [(device.private_key(), true), (thief.private_key(), false)] {
        let mut config = tls_config(&emulator, None);
        let key = CertifiedKey::new(device.chain.clone(), any_supported_type(&key).unwrap());
        config.client_auth_cert_resolver = Arc::new(Stolen(Arc::new(key)));
        let mut stream = connect(&emulator, &Arc::new(config));
        let head = format!("PUT /{SCOPE}/registrations/{DEVICE}/register{VERSION} HTTP/1.1\r\nHost: localhost\r\n");
        let mut answer = [0; 12];
        let done = stream
            .write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes())
            .and_then(|()| stream.read_exact(&mut answer));
        assert_eq!(done.is_ok(), succeeds);
        assert_eq!(answer == *b"HTTP/1.1 202", succeeds);
    }
}

fn connect(emulator: &Emulator, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let connection = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, tcp(emulator.https_url().unwrap()))
}

/// A connection carries many requests, and its TLS session may be resumed. The certificate applies to all of them.
#[test]
fn one_certificate_applies_to_the_whole_session() {
    let device = Identity::self_signed(DEVICE);
    let emulator = of_individual(&device);
    emulator.update(|config| config.behaviour.chunked = false);
    let config = Arc::new(tls_config(&emulator, Some(&device)));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut stream = connect(&emulator, &config);
        for _ in 0..2 {
            let path = format!("/{SCOPE}/registrations/{DEVICE}/register{VERSION}");
            let request = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            assert!(read_response(&mut stream).starts_with("HTTP/1.1 202"));
        }
        assert_eq!(stream.conn.handshake_kind(), Some(kind));
    }
}

fn read_response(stream: &mut impl Read) -> String {
    let mut text = String::new();
    let mut byte = [0];
    let mut read = |text: &mut String| {
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    };
    while !text.ends_with("\r\n\r\n") {
        read(&mut text);
    }
    let length = text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    for _ in 0..length.unwrap().parse::<usize>().unwrap() {
        read(&mut text);
    }
    text
}

/// The same with TLS 1.3, if it is turned on.
#[test]
fn tls_1_3_has_certificates_too() {
    let device = Identity::self_signed(DEVICE);
    let emulator = service(|config| {
        config.individual_enrollments.push(individual(x509(device.certificate())));
        config.behaviour.tls13 = true;
    });
    let mut over_tls13 = Device::over_tls(&emulator, DEVICE, None);
    over_tls13.client = tls_client(&emulator, Some(&device)).tls_version_min(Version::TLS_1_3).build().unwrap();
    over_tls13.assigned();
}

/// An MQTT session has the certificate of its TLS session. Over WebSocket, this is the TLS session of the upgraded
/// connection.
#[test]
fn websockets_have_the_certificate_of_their_connection() {
    let device = Identity::self_signed(DEVICE);
    let emulator = of_individual(&device);
    for (identity, status) in [(Some(&device), "202"), (None, "401")] {
        let mut client = Client::open_as(&emulator, "wss", DEVICE, identity);
        assert_eq!(client.connect(""), Some(0));
        client.subscribe(FILTER, QoS::AtLeastOnce);
        let (topic, _) = client.ask(REGISTER, "");
        assert_eq!(topic.split('/').next(), Some(status));
    }
}

/// "CONNACK 4/5 are also possible": with a setting, a wrong certificate is rejected in CONNACK.
#[test]
fn a_certificate_can_be_refused_at_connect() {
    let root = Ca::root("factory root");
    let emulator = of_group(&root);
    emulator.update(|config| config.behaviour.refuse_at_connect = true);
    let connack = |identity: Option<&Identity>| Client::open_as(&emulator, "mqtts", DEVICE, identity).connect("");
    assert_eq!(connack(Some(&root.device(DEVICE))), Some(0));
    assert_eq!(connack(Some(&root.device("device-02"))), Some(5));
    assert_eq!(connack(Some(&Identity::self_signed(DEVICE))), Some(5));
    assert_eq!(connack(None), Some(5));
}

// ---- Where the certificate is shown ----

/// "Maybe you want to examine the certificate a device is using during provisioning and assign the device to an IoT
/// hub based on a certificate property": here the factory that signed it, or the unit in its subject.
#[test]
fn a_webhook_allocates_by_a_property_of_the_certificate() {
    let root = Ca::root("Contoso root");
    let (toasters, heat_pumps) = (root.intermediate("Contoso Toasters"), root.intermediate("Contoso Heat Pumps"));
    let (url, webhook) = webhook(6, |request| {
        let certificate = &request["deviceRuntimeContext"]["x509"]["certificateInfo"];
        let is = |name: &str, what: &str| certificate[name].as_str().unwrap().contains(what);
        let is_toaster = is("issuerName", "CN=Contoso Toasters") || is("subjectName", "OU=Toasters");
        json!({ "iotHubHostName": if is_toaster { TOASTERS_HUB } else { HEATPUMPS_HUB } })
    });
    let emulator = of_group(&root);
    emulator.update(|config| {
        config.enrollment_groups[0].allocation.policy = AllocationPolicy::Custom;
        config.enrollment_groups[0].allocation.webhook_url = Some(url);
    });
    let hub = |id: &str, identity: &Identity| assigned(&emulator, id, identity)["assignedHub"].clone();
    assert_eq!(hub(DEVICE, &toasters.device(DEVICE).with(&toasters)), TOASTERS_HUB);
    assert_eq!(hub("device-02", &heat_pumps.device("device-02").with(&heat_pumps)), HEATPUMPS_HUB);
    let mut unit = leaf("device-03");
    unit.distinguished_name.push(DnType::OrganizationalUnitName, "Toasters");
    assert_eq!(hub("device-03", &heat_pumps.sign(&unit).with(&heat_pumps)), TOASTERS_HUB);
    webhook.join().unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `X509CertificateInfo` with all its members. The webhook also gets the certificate. Both show the signer.
#[test]
fn the_result_and_the_webhook_have_the_whole_certificate_info() {
    let root = Ca::root("Contoso \"root\", No. 1");
    let mut params = leaf(DEVICE);
    params.distinguished_name.push(DnType::OrganizationName, "Contoso");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "Toasters, CN=device-02");
    params.serial_number = Some(SerialNumber::from_slice(&[0x8A, 0x0B]));
    (params.not_before, params.not_after) = (datetime!(2026-01-02 03:04:05 UTC), datetime!(2046-01-02 03:04:05 UTC));
    let device = root.sign(&params);
    let emulator = service(|config| {
        config.enrollment_groups.push(group(root.attestation()));
        config.enrollment_groups[0].allocation.policy = AllocationPolicy::Custom;
        config.behaviour.certificate_info_in_result = true;
    });
    emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": TOASTERS_HUB }).to_string());
    let state = Device::over_tls(&emulator, DEVICE, Some(&device)).assigned();

    let info = json!({
        "subjectName": "OU=\"Toasters, CN=device-02\", O=Contoso, CN=device-01",
        "sha1Thumbprint": hex(&Sha1::digest(&device.chain[0])),
        "sha256Thumbprint": hex(&Sha256::digest(&device.chain[0])),
        "issuerName": "CN=\"Contoso \"\"root\"\", No. 1\"",
        "notBeforeUtc": "2026-01-02T03:04:05Z",
        "notAfterUtc": "2046-01-02T03:04:05Z",
        "serialNumber": "008A0B",
        "version": 3,
    });
    assert_eq!(state["x509"]["certificateInfo"], info);
    assert_eq!(state["x509"]["enrollmentGroupId"], "factory");
    let signer = &state["x509"]["signingCertificateInfo"];
    assert_eq!(signer["subjectName"], info["issuerName"]);
    assert_eq!(signer["issuerName"], info["issuerName"]);

    let request = emulator.webhook_calls().remove(0).request;
    assert_eq!(request["enrollmentGroup"]["attestation"], json!({ "type": "x509" }));
    let context = &request["deviceRuntimeContext"];
    assert!(context.get("symmetricKey").is_none());
    assert_eq!(
        context["x509"],
        json!({ "clientCertificate": base64(&device.chain[0]), "certificateInfo": info, "signingCertificateInfo": signer })
    );
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(bytes)
}

/// A certificate of an individual enrollment has no signer.
#[test]
fn an_individual_certificate_has_no_signer() {
    let device = Ca::root("factory root").device(DEVICE);
    let emulator = of_individual(&device);
    emulator.update(|config| {
        config.individual_enrollments[0].allocation.policy = AllocationPolicy::Custom;
        config.behaviour.certificate_info_in_result = true;
    });
    emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": TOASTERS_HUB }).to_string());
    let state = Device::over_tls(&emulator, DEVICE, Some(&device)).assigned();
    let members: Vec<_> = state["x509"].as_object().unwrap().keys().collect();
    assert_eq!(members, ["certificateInfo"]);
    let request = emulator.webhook_calls().remove(0).request;
    assert_eq!(request["individualEnrollment"]["attestation"], json!({ "type": "x509" }));
    assert!(request["deviceRuntimeContext"]["x509"].get("signingCertificateInfo").is_none());
}

// ---- The configuration ----

fn toml(enrollment: &str) -> String {
    format!("id_scope = '{SCOPE}'\nlinked_hubs = ['{TOASTERS_HUB}']\n{enrollment}")
}

/// A certificate is PEM, or the path of a PEM file, whose first certificate is used.
#[test]
fn certificates_are_read_from_the_configuration() {
    let root = Ca::root("factory root");
    let line = root.intermediate("assembly line 1");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), line.pem() + &root.pem()).unwrap();
    let config = Config::from_toml(&toml(&format!(
        "[[enrollment_groups]]\nenrollment_group_id = 'factory'\n\
         [enrollment_groups.x509]\nprimary = '''{}'''\nsecondary = '{}'",
        root.pem(),
        file.path().display(),
    )))
    .unwrap();
    let expected = X509Attestation { primary: root.certificate(), secondary: Some(line.certificate()) };
    assert_eq!(config.enrollment_groups[0].x509, Some(expected));
    assert!(format!("{config:?}").contains("CN=assembly line 1"));
    let emulator = start(config);
    assigned(&emulator, DEVICE, &line.device(DEVICE));
}

/// An enrollment has one kind of attestation, and a group has CAs. A text that is not a certificate is not quoted.
#[test]
fn an_invalid_attestation_is_rejected() {
    let device = Identity::self_signed(DEVICE);
    let (chain, key) = (pem(&device.chain[0]), device.key.serialize_pem());
    let group = "[[enrollment_groups]]\nenrollment_group_id = 'g'\n";
    for (enrollment, why) in [
        (
            format!("{group}primary_key = '{GROUP_KEY}'\nx509.primary = '''{chain}'''"),
            "the enrollment has both keys and x509",
        ),
        (
            format!("{group}secondary_key = '{GROUP_KEY}'\nx509.primary = '''{chain}'''"),
            "the enrollment has both keys and x509",
        ),
        (group.to_owned(), "the enrollment has no primary_key and no x509"),
        (
            format!("{group}x509.primary = '''{chain}'''"),
            "enrollment_groups[0].x509.primary: a group needs a CA certificate",
        ),
        (format!("{group}x509.primary = '''{key}'''"), "there is no PEM certificate"),
        (format!("{group}x509.primary = '{GROUP_KEY}'"), "a certificate's file cannot be read"),
        (format!("{group}x509.secondary = '''{chain}'''"), "enrollment_groups[0].x509: the key `primary` is missing"),
        (format!("{group}x509.primary = '''{}'''", chain.replace("MII", "MIA")), "a certificate cannot be read"),
    ] {
        let error = Config::from_toml(&toml(&enrollment)).unwrap_err().to_string();
        assert!(error.contains(why), "{error} / {why}");
        for secret in [GROUP_KEY, key.lines().nth(1).unwrap()] {
            assert!(!error.contains(secret), "{error}");
        }
    }
    assert!(Certificate::from_pem("").is_err());
}
