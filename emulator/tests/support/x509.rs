//! Creates CAs and certificates of devices for tests.

use std::sync::Arc;

use azure_dps_emulator::{Certificate, Emulator, X509Attestation};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use time::{Duration, OffsetDateTime};

/// What a TLS client shows: its certificate with its chain, and its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Identity {
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { chain: vec![leaf(name).self_signed(&key).unwrap().der().clone()], key }
    }

    /// Adds the certificate of this CA to the chain.
    #[must_use]
    pub fn with(mut self, ca: &Ca) -> Self {
        self.chain.push(ca.0.der().clone());
        self
    }

    /// Returns the certificate for an individual enrollment.
    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(&self.chain_pem()).unwrap()
    }

    pub fn pem(&self) -> String {
        self.chain_pem() + &self.key.serialize_pem()
    }

    fn chain_pem(&self) -> String {
        self.chain.iter().map(pem).collect()
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap()
    }
}

/// A root or an intermediate.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn root(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(ca(name), KeyPair::generate().unwrap()).unwrap())
    }

    pub fn root_with(params: CertificateParams) -> Self {
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(ca(name))
    }

    pub fn intermediate_with(&self, params: CertificateParams) -> Self {
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// Issues the certificate of a device.
    pub fn device(&self, name: &str) -> Identity {
        self.sign(&leaf(name))
    }

    pub fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity { chain: vec![params.signed_by(&key, &self.0).unwrap().der().clone()], key }
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Returns the certificate for an enrollment group.
    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(&self.pem()).unwrap()
    }

    pub fn attestation(&self) -> Option<X509Attestation> {
        x509(self.certificate())
    }
}

/// Returns the attestation of an enrollment with one certificate.
pub fn x509(primary: Certificate) -> Option<X509Attestation> {
    Some(X509Attestation { primary, secondary: None })
}

/// Returns the parameters of a device's certificate.
pub fn leaf(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub fn ca(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Sets the validity, in hours from now.
#[must_use]
pub fn valid(mut params: CertificateParams, from: i64, until: i64) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now + Duration::hours(from), now + Duration::hours(until));
    params
}

pub fn pem(der: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in BASE64_STANDARD.encode(der).as_bytes().chunks(64) {
        pem += &String::from_utf8_lossy(line);
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// Returns the configuration of a TLS client that trusts the emulator's CA.
pub fn tls_config(emulator: &Emulator, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.private_key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// Reads the head of a DER element. Returns the length of the head and of the whole element.
fn element(der: &[u8]) -> (usize, usize) {
    match der[1] {
        length @ 0..=0x7f => (2, 2 + usize::from(length)),
        0x81 => (3, 3 + usize::from(der[2])),
        _ => (4, 4 + usize::from(der[2]) * 256 + usize::from(der[3])),
    }
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match (high, low) {
        (0, 0..=0x7f) => vec![0x30, low],
        (0, _) => vec![0x30, 0x81, low],
        _ => vec![0x30, 0x82, high, low],
    };
    [&head, content].concat()
}

/// Returns a certificate of version 1, as `openssl x509 -req` makes it without `-extfile`. It has no extensions. Its
/// signature is that of another certificate, and is not verified.
pub fn version_1(der: &[u8]) -> Vec<u8> {
    let certificate = &der[element(der).0..];
    let (head, length) = element(certificate);
    let (mut fields, signature) = (&certificate[head..length], &certificate[length..]);
    let mut kept = vec![];
    while !fields.is_empty() {
        let (field, rest) = fields.split_at(element(fields).1);
        if !matches!(field[0], 0xa0 | 0xa3) {
            kept.extend_from_slice(field);
        }
        fields = rest;
    }
    sequence(&[sequence(&kept), signature.to_vec()].concat())
}
