//! Certificate issuance: a device sends a `csr` when it registers, and gets a certificate together with its hub.

mod support;

use azure_dps_emulator::{AllocationPolicy, Certificate, Config, Emulator, EnrollmentGroup};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
};
use reqwest::{Method, blocking::Response, header::CONTENT_TYPE};
use rumqttc::QoS;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use support::{
    mqtt::{Client, FILTER, REGISTER},
    x509::*,
    *,
};
use x509_parser::parse_x509_certificate;

const NEW: &str = "?api-version=2025-07-01-preview";

/// Starts the tutorial's service with a group that issues certificates.
fn issuing(change: impl FnOnce(&mut Config)) -> Emulator {
    let mut config = Config::contoso();
    config.enrollment_groups[0].certificate_policy = Some("short-lived".into());
    change(&mut config);
    builder(config).http("127.0.0.1:0").https("127.0.0.1:0").mqtt("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap()
}

fn csr_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// "base64 of DER PKCS#10, no PEM armour".
fn csr(name: &str, key: &KeyPair) -> String {
    BASE64_STANDARD.encode(csr_params(name).serialize_request(key).unwrap().der())
}

fn put_with_version(device: &Device, csr: &str, version: &str) -> Response {
    let mut body = device.registration();
    body["csr"] = json!(csr);
    device
        .request(Method::PUT, &format!("{}/register{version}", device.path()))
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_string())
        .send()
        .unwrap()
}

fn put(device: &Device, csr: &str) -> (u16, Value) {
    answer(put_with_version(device, csr, NEW))
}

/// Returns the result of a registration with a `csr`.
fn provision(device: &Device, csr: &str) -> Value {
    let (status, body) = put(device, csr);
    assert_eq!(status, 202, "{body}");
    device.poll(body["operationId"].as_str().unwrap())
}

fn chain_of(state: &Value) -> Vec<CertificateDer<'static>> {
    let elements = state["issuedCertificateChain"].as_array().unwrap();
    elements.iter().map(|element| BASE64_STANDARD.decode(element.as_str().unwrap()).unwrap().into()).collect()
}

/// Returns the certificate that a device got, with its chain.
fn issued(emulator: &Emulator, id: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let body = provision(&Device::of_group(emulator, id), &csr(id, &key));
    assert_eq!(body["status"], "assigned", "{body}");
    Identity { chain: chain_of(&body["registrationState"]), key }
}

/// Returns `true` if a TLS server with this root, such as a hub, accepts the chain.
fn verifies(chain: &[CertificateDer<'static>]) -> bool {
    let [leaf, intermediates @ .., root] = chain else { panic!("{} certificates", chain.len()) };
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = aws_lc_rs::default_provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.into()).build().unwrap();
    verifier.verify_client_cert(leaf, intermediates, UnixTime::now()).is_ok()
}

/// "Assigned result carries issuedCertificateChain", with the leaf first. The certificate has the key and the name of
/// the request, for every kind of key.
#[test]
fn the_result_carries_a_certificate_for_the_devices_key() {
    let emulator = issuing(|_| ());
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let body = provision(&Device::of_group(&emulator, TOASTER), &csr(TOASTER, &key));
        let state = &body["registrationState"];
        assert_eq!((&state["status"], &state["assignedHub"]), (&json!("assigned"), &json!(TOASTERS_HUB)));
        let chain = chain_of(state);
        assert_eq!(chain.len(), 3);
        assert!(verifies(&chain));
        let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
        assert_eq!(leaf.subject().to_string(), format!("CN={TOASTER}"));
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !leaf.is_ca());
        let (_, intermediate) = parse_x509_certificate(&chain[1]).unwrap();
        let (_, root) = parse_x509_certificate(&chain[2]).unwrap();
        assert_eq!(leaf.issuer(), intermediate.subject());
        assert_eq!(intermediate.issuer(), root.subject());
        assert_eq!(emulator.issuing_ca_pem(), pem(&chain[1]) + &pem(&chain[2]));
    }
}

/// "A comment claims index 0 is the root": a setting reverses the order.
#[test]
fn the_chain_may_come_root_first() {
    let emulator = issuing(|config| config.behaviour.issued_chain_root_first = true);
    let mut chain = issued(&emulator, TOASTER).chain;
    assert!(!verifies(&chain));
    chain.reverse();
    assert!(verifies(&chain));
}

/// Each certificate is different, even for the same key.
#[test]
fn each_registration_is_issued_another_certificate() {
    let emulator = issuing(|_| ());
    let device = Device::of_group(&emulator, TOASTER);
    let csr = csr(TOASTER, &KeyPair::generate().unwrap());
    let [first, second] = [(); 2].map(|()| chain_of(&provision(&device, &csr)["registrationState"]));
    assert_eq!(first[1..], second[1..]);
    let serial = |chain: &[CertificateDer<'static>]| parse_x509_certificate(&chain[0]).unwrap().1.serial.clone();
    assert_ne!(serial(&first), serial(&second));
}

/// A request for CA rights is ignored.
#[test]
fn a_request_to_be_a_ca_is_not_granted() {
    let emulator = issuing(|_| ());
    let key = KeyPair::generate().unwrap();
    let mut params = csr_params(TOASTER);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.subject_alt_names = vec![rcgen::SanType::DnsName(HEAT_PUMP.try_into().unwrap())];
    params.distinguished_name.push(DnType::OrganizationName, "Contoso");
    let csr = BASE64_STANDARD.encode(params.serialize_request(&key).unwrap().der());
    let body = provision(&Device::of_group(&emulator, TOASTER), &csr);
    let chain = chain_of(&body["registrationState"]);
    let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
    assert!(!leaf.is_ca());
    assert!(leaf.subject_alternative_name().unwrap().is_none());
    assert_eq!(leaf.subject().to_string(), format!("CN={TOASTER}"));
}

/// If the register answer is already the result, it has the chain.
#[test]
fn a_result_at_once_carries_the_chain() {
    let emulator = issuing(|config| config.behaviour.result_at_once = true);
    let (status, body) = put(&Device::of_group(&emulator, TOASTER), &csr(TOASTER, &KeyPair::generate().unwrap()));
    assert_eq!(status, 200);
    assert_eq!(chain_of(&body["registrationState"]).len(), 3);
}

/// "The api-version is in the user name": the same over MQTT.
#[test]
fn mqtt_issues_certificates_too() {
    let emulator = issuing(|_| ());
    for (version, is_issued) in [("2025-07-01-preview", true), ("2021-10-01", false)] {
        let mut client = Client::open(&emulator, "mqtts", TOASTER);
        let mut connect = client.packet("");
        let user_name = format!("{SCOPE}/registrations/{TOASTER}/api-version={version}&ClientVersion=x");
        connect.set_login(user_name, token(&derive(GROUP_KEY, TOASTER), TOASTER));
        assert_eq!(client.connect_with(connect), Some(0));
        client.subscribe(FILTER, QoS::AtLeastOnce);
        let csr = csr(TOASTER, &KeyPair::generate().unwrap());
        let (_, body) = client.ask(REGISTER, &json!({ "registrationId": TOASTER, "csr": csr }).to_string());
        let state = client.poll(body["operationId"].as_str().unwrap())["registrationState"].clone();
        assert_eq!(state["status"], "assigned");
        assert_eq!(state.get("issuedCertificateChain").is_some(), is_issued);
    }
}

/// Older api-versions do not have the field and ignore its value.
#[test]
fn older_versions_have_no_csr() {
    let emulator = issuing(|_| ());
    let device = Device::of_group(&emulator, TOASTER);
    for (version, is_known) in [
        ("2019-03-31", false),
        ("2021-11-01-preview", false),
        ("2025-07-01-preview", true),
        ("2026-04-01", true),
        ("2026-11-01", true),
    ] {
        let (status, body) = answer(put_with_version(&device, "nonsense", &format!("?api-version={version}")));
        assert_eq!(status, if is_known { 400 } else { 202 }, "{version}: {body}");
    }
}

/// "csr in a status-lookup → bad request". The answer to a look-up never has the certificate.
#[test]
fn a_look_up_accepts_no_csr_and_returns_no_chain() {
    let emulator = issuing(|_| ());
    issued(&emulator, TOASTER);
    let device = Device::of_group(&emulator, TOASTER);
    let (status, state) = device.lookup();
    assert_eq!((status, &state["status"]), (200, &json!("assigned")));
    assert!(state.get("issuedCertificateChain").is_none());
    let csr = csr(TOASTER, &KeyPair::generate().unwrap());
    let response = device
        .request(Method::POST, &format!("{}{NEW}", device.path()))
        .header(CONTENT_TYPE, "application/json")
        .body(json!({ "registrationId": TOASTER, "csr": csr }).to_string())
        .send()
        .unwrap();
    assert_eq!(answer(response).1["errorCode"], 400_000);
}

/// "The CSR's subject CN must equal registrationId", and the request must be signed with its own key.
#[test]
fn a_bad_csr_is_a_bad_request() {
    let emulator = issuing(|_| ());
    let device = Device::of_group(&emulator, TOASTER);
    let key = KeyPair::generate().unwrap();
    let good = BASE64_STANDARD.decode(csr(TOASTER, &key)).unwrap();
    let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let armoured = csr_params(TOASTER).serialize_request(&key).unwrap().pem().unwrap();
    let flipped = good[..good.len() - 1].iter().copied().chain([good[good.len() - 1] ^ 1]).collect::<Vec<_>>();
    let longer = [&good[..], &[0]].concat();
    let certificate = Identity::self_signed(TOASTER).chain.remove(0);
    for (csr, why) in [
        (csr(HEAT_PUMP, &key), "another common name"),
        (base64(&flipped), "not signed with its own key"),
        (armoured, "not base64 of DER"),
        (base64(&longer), "not a PKCS#10 request"),
        (base64(&good[..good.len() - 1]), "not a PKCS#10 request"),
        (base64(&certificate), "not a PKCS#10 request"),
        (String::new(), "not a PKCS#10 request"),
    ] {
        let (status, body) = put(&device, &csr);
        assert_eq!((status, &body["errorCode"]), (400, &json!(400_000)), "{why}: {body}");
        assert!(body["message"].as_str().unwrap().contains(why), "{why}: {body}");
    }
    assert!(emulator.webhook_calls().is_empty());
    // The comparison is "case-insensitively", as for registration IDs.
    assert_eq!(provision(&device, &csr(&TOASTER.to_uppercase(), &key))["status"], "assigned");
}

/// An enrollment without a policy issues nothing. The service's answer to a `csr` is UNCERTAIN: a bad request, or no
/// certificate with a setting.
#[test]
fn without_a_policy_nothing_is_issued() {
    let emulator = issuing(|config| config.enrollment_groups[0].certificate_policy = None);
    let device = Device::of_group(&emulator, TOASTER);
    let csr = csr(TOASTER, &KeyPair::generate().unwrap());
    let (status, body) = put(&device, &csr);
    assert_eq!((status, &body["errorCode"]), (400, &json!(400_000)));
    emulator.update(|config| config.behaviour.ignore_csr_without_policy = true);
    let body = provision(&device, &csr);
    assert_eq!(body["status"], "assigned");
    assert!(body["registrationState"].get("issuedCertificateChain").is_none());
}

/// With a policy, a registration without a `csr` is an ordinary registration.
#[test]
fn without_a_csr_nothing_is_issued() {
    let emulator = issuing(|_| ());
    assert!(Device::of_group(&emulator, TOASTER).assigned().get("issuedCertificateChain").is_none());
}

/// A device without a hub gets no certificate, and a disabled device gets none.
#[test]
fn a_failure_issues_nothing() {
    let emulator = issuing(|_| ());
    let key = KeyPair::generate().unwrap();
    let body = provision(&Device::of_group(&emulator, "somebody-else"), &csr("somebody-else", &key));
    assert_eq!((&body["status"], &body["registrationState"]["errorCode"]), (&json!("failed"), &json!(400_207)));
    assert!(body["registrationState"].get("issuedCertificateChain").is_none());
    emulator.update(|config| config.enrollment_groups[0].enabled = false);
    let (_, body) = put(&Device::of_group(&emulator, TOASTER), &csr(TOASTER, &key));
    assert_eq!(body["status"], "disabled");
    assert!(body["registrationState"].get("issuedCertificateChain").is_none());
}

/// An issued certificate is valid for its purpose: if a group has the issuing CA or its root, the device registers
/// with this certificate alone, and gets the next certificate.
#[test]
fn an_issued_certificate_is_accepted() {
    let emulator = issuing(|_| ());
    let mut device = issued(&emulator, TOASTER);
    let (intermediate, root) = (device.chain[1].clone(), device.chain[2].clone());

    for (ca, shown) in [(emulator.issuing_ca_pem().to_owned(), 1), (pem(&root), 2)] {
        emulator.update(|config| {
            config.enrollment_groups.truncate(1);
            let mut allocation = config.enrollment_groups[0].allocation.clone();
            allocation.policy = AllocationPolicy::Static;
            config.enrollment_groups.push(EnrollmentGroup {
                enrollment_group_id: "issued".into(),
                x509: x509(Certificate::from_pem(&ca).unwrap()),
                certificate_policy: Some("short-lived".into()),
                allocation,
                ..EnrollmentGroup::default()
            });
        });
        device.chain.truncate(shown);
        let over_https = Device::over_tls(&emulator, TOASTER, Some(&device));
        let key = KeyPair::generate().unwrap();
        let body = provision(&over_https, &csr(TOASTER, &key));
        let state = &body["registrationState"];
        assert_eq!(state["x509"], json!({ "enrollmentGroupId": "issued" }), "{body}");

        let mut over_mqtt = Client::open_as(&emulator, "mqtts", TOASTER, Some(&device));
        assert_eq!(over_mqtt.connect(""), Some(0));
        over_mqtt.subscribe(FILTER, QoS::AtLeastOnce);
        assert_eq!(over_mqtt.assigned_hub(), TOASTERS_HUB);

        device = Identity { chain: chain_of(state), key };
        assert_eq!(device.chain[1..], [intermediate.clone(), root.clone()]);
    }

    // The CA of another emulator is a different CA.
    let stranger = issued(&issuing(|_| ()), TOASTER);
    let (status, body) = answer(Device::over_tls(&emulator, TOASTER, Some(&stranger)).put());
    assert_eq!((status, &body["errorCode"]), (401, &json!(401_002)));
}

/// A registration that was replaced gets no certificate. Its operation has the state of the newest registration, as a
/// look-up has it, without the certificate for the other key.
#[test]
fn a_superseded_registration_gets_no_certificate() {
    let webhook = HeldWebhook::start();
    let emulator = issuing(|config| config.webhook_url = Some(webhook.url()));
    let device = Device::of_group(&emulator, TOASTER);
    let keys = [(); 2].map(|()| KeyPair::generate().unwrap());
    let mut calls = vec![];
    let operations = [&keys[0], &keys[1]].map(|key| {
        let (status, body) = put(&device, &csr(TOASTER, key));
        assert_eq!(status, 202, "{body}");
        calls.push(webhook.call().0);
        body["operationId"].as_str().unwrap().to_owned()
    });
    let _ = try_answer(&calls[0], &json!({ "iotHubHostName": TOASTERS_HUB }));
    answer_call(&calls[1], &json!({ "iotHubHostName": HEATPUMPS_HUB }));
    let state = &device.poll(&operations[1])["registrationState"];
    let chain = chain_of(state);
    let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
    assert_eq!(leaf.public_key().raw, keys[1].subject_public_key_info());
    let superseded = &device.poll(&operations[0])["registrationState"];
    assert_eq!(superseded["assignedHub"], HEATPUMPS_HUB);
    assert!(superseded.get("issuedCertificateChain").is_none());
}
