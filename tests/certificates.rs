//! An issued certificate: the request that is sent, and the chain in any order.

mod support;

use std::time::Duration;

use azure_dps::{
    Assignment, Attestation, Error, Provisioning,
    error::Malformed,
    identity::{Csr, InvalidCsr},
    provisioning::Answer,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm,
};
use support::*;

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn authority(common_name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The key pair of a device, and its certificate request.
struct Device {
    key: KeyPair,
    request: Vec<u8>,
}

impl Device {
    fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = params(TOASTER).serialize_request(&key).unwrap().der().to_vec();
        Self { key, request }
    }

    fn csr(&self) -> Csr<'_> {
        Csr::from_der(&self.request).unwrap()
    }

    /// Returns leaf and root, as DER.
    fn chain(&self) -> [Vec<u8>; 2] {
        let root = authority("root");
        let leaf = params(TOASTER).signed_by(&self.key, &root).unwrap();
        [leaf.der().to_vec(), root.der().to_vec()]
    }
}

/// Returns an answer with this chain.
fn assigned(chain: &str) -> String {
    ASSIGNED.replace(r#""payload":"#, &format!(r#""issuedCertificateChain":{chain},"payload":"#))
}

fn json(chain: &[Vec<u8>]) -> String {
    let elements: Vec<_> = chain.iter().map(|der| format!("\"{}\"", BASE64_STANDARD.encode(der))).collect();
    format!("[{}]", elements.join(","))
}

fn result<'b>(provisioning: &'b mut Provisioning<'_>, body: &'b str) -> Assignment<'b> {
    provisioning.start(Duration::ZERO, UNIX_TIME);
    provisioning.on_answer(Duration::ZERO, Answer::new(200, None, body.as_bytes()));
    provisioning.result(body.as_bytes()).unwrap()
}

#[test]
fn a_request_with_a_csr_uses_an_api_version_with_csr() {
    let device = Device::new(&PKCS_ECDSA_P256_SHA256);
    let with_csr = || registration(TOASTER).with_payload(PAYLOAD).unwrap().with_csr(device.csr());
    let base64 = BASE64_STANDARD.encode(&device.request);
    let body = format!(r#"{{"registrationId":"{TOASTER}","csr":"{base64}","payload":{PAYLOAD}}}"#);
    let mut provisioning = Provisioning::new(with_csr(), Attestation::symmetric_key());
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(202, Some(1), ASSIGNING), answers(200, None, ASSIGNED)]).unwrap();
    assert!(bench.sent[0].ends_with(&body), "{}", bench.sent[0]);
    assert!(bench.sent[0].contains("/register?api-version=2026-11-01 "));
    assert!(bench.sent[1].contains("?api-version=2026-11-01 "));

    let mut provisioning =
        Provisioning::new(with_csr(), Attestation::symmetric_key()).with_api_version("2025-07-01-preview");
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(200, None, ASSIGNED)]).unwrap();
    assert!(bench.sent[0].contains("/register?api-version=2025-07-01-preview "));

    // Over MQTT the version is in the user name.
    let provisioning = Provisioning::new(with_csr(), Attestation::x509());
    let mut buffer = [0; 256];
    let user_name = azure_dps::mqtt::write_user_name(&provisioning, &mut buffer).unwrap();
    assert!(user_name.contains("/api-version=2026-11-01&"), "{user_name}");
}

#[test]
fn the_leaf_has_the_devices_key_and_may_have_any_position() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        let device = Device::new(algorithm);
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        let [leaf, root] = device.chain();
        for chain in [vec![leaf.clone(), root.clone()], vec![root.clone(), leaf.clone()], vec![leaf.clone()]] {
            let body = assigned(&json(&chain));
            let issued = result(&mut provisioning, &body).issued_certificate_chain().unwrap();
            let mut buffer = [0; 2048];
            assert_eq!(issued.leaf(&device.csr(), &mut buffer).unwrap(), leaf);
            let decoded: Vec<_> = issued.map(|each| each.decode(&mut [0; 2048]).unwrap().to_vec()).collect();
            assert_eq!(decoded, chain);
        }
    }
}

#[test]
fn other_certificates_in_the_chain_do_not_hide_the_leaf() {
    let device = Device::new(&PKCS_ECDSA_P256_SHA256);
    let [leaf, root] = device.chain();
    let chain = json(&[root, leaf.clone()]);
    for odd in ["7", "null", "{}", r#""not base64""#, r#""""#] {
        let chains = [chain.replacen('[', &format!("[{odd},"), 1), chain.replace(']', &format!(",{odd}]"))];
        for body in chains.map(|chain| assigned(&chain)) {
            let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
            let issued = result(&mut provisioning, &body).issued_certificate_chain().unwrap();
            assert_eq!(issued.leaf(&device.csr(), &mut [0; 2048]), Ok(leaf.as_slice()), "{odd}");
        }
    }
    // No chain at all.
    for odd in [r#"{"leaf":"TEVBRg=="}"#, "7", r#""TEVBRg==""#, "true", "null"] {
        let body = assigned(odd);
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        assert!(result(&mut provisioning, &body).issued_certificate_chain().is_none(), "{odd}");
    }
}

#[test]
fn a_chain_without_the_devices_key_contradicts_the_request() {
    let device = Device::new(&PKCS_ECDSA_P256_SHA256);
    let other = Device::new(&PKCS_ECDSA_P256_SHA256);
    let contradiction = Malformed::Contradiction("issuedCertificateChain");
    let invalid = Malformed::Invalid("issuedCertificateChain");
    // A certificate request is not a certificate, although it contains the key.
    for (chain, error) in [
        (json(&other.chain()), contradiction),
        (json(std::slice::from_ref(&device.request)), contradiction),
        ("[]".into(), contradiction),
        (r#"[""]"#.into(), contradiction),
        (r#"["not base64"]"#.into(), invalid),
        ("[7]".into(), invalid),
        (r#"[null]"#.into(), invalid),
    ] {
        let body = assigned(&chain);
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        let issued = result(&mut provisioning, &body).issued_certificate_chain().unwrap();
        assert_eq!(issued.leaf(&device.csr(), &mut [0; 2048]), Err(error.into()), "{chain}");
    }
}

#[test]
fn a_small_buffer_error_names_a_sufficient_size() {
    let device = Device::new(&PKCS_ECDSA_P256_SHA256);
    let [leaf, root] = device.chain();
    let body = assigned(&json(&[leaf.clone(), root]));
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
    let issued = result(&mut provisioning, &body).issued_certificate_chain().unwrap();
    let Err(Error::BufferTooSmall(small)) = issued.leaf(&device.csr(), &mut [0; 100]) else { panic!() };
    assert!(small.exact && small.needed - leaf.len() < 3, "{small:?}");
    assert_eq!(issued.leaf(&device.csr(), &mut vec![0; small.needed]), Ok(leaf.as_slice()));
}

#[test]
fn a_csr_is_one_document_in_der() {
    let device = Device::new(&PKCS_ECDSA_P256_SHA256);
    let der = &device.request;
    for len in 0..der.len() {
        assert_eq!(Csr::from_der(&der[..len]), Err(InvalidCsr), "{len}");
    }
    let mut more = der.clone();
    more.push(0);
    assert_eq!(Csr::from_der(&more), Err(InvalidCsr));
    let pem = params(TOASTER).serialize_request(&device.key).unwrap().pem().unwrap();
    assert_eq!(Csr::from_der(pem.as_bytes()), Err(InvalidCsr));
    let [leaf, _] = device.chain();
    assert_eq!(Csr::from_der(&leaf), Err(InvalidCsr));
    assert!(!device.key.subject_public_key_info().is_empty());
}

proptest! {
/// Uses any bytes as a request or a certificate.
    #[test]
    fn der_of_any_kind(der in proptest::collection::vec(any::<u8>(), 0..600), at in any::<prop::sample::Index>(), byte: u8) {
        let _ = Csr::from_der(&der);
        let device = Device::new(&PKCS_ED25519);
        let [mut leaf, _] = device.chain();
        let at = at.index(leaf.len());
        leaf[at] = byte;
        let body = assigned(&json(&[der, leaf]));
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        let issued = result(&mut provisioning, &body).issued_certificate_chain().unwrap();
        let _ = issued.leaf(&device.csr(), &mut [0; 2048]);
    }
}
