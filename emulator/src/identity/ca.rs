//! The CAs of the emulator.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

use super::certificate::parse;

/// A CA: its certificate and its key.
pub(crate) struct Ca {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Creates the CA that signs the certificate of the TLS listeners.
    pub(crate) fn of_server() -> Result<Self, rcgen::Error> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "azure-dps-emulator CA");
        (ca.not_before, ca.not_after) = validity();
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self::root(ca)
    }

    /// Creates a self-signed CA.
    pub(crate) fn root(params: CertificateParams) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self::new(&certificate, Issuer::new(params, key)))
    }

    /// Creates a CA that is signed by another CA.
    pub(crate) fn under(params: CertificateParams, parent: &Self) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = parent.sign(&params, &key)?;
        Ok(Self::new(&certificate, Issuer::new(params, key)))
    }

    fn new(certificate: &Certificate, issuer: Issuer<'static, KeyPair>) -> Self {
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer }
    }

    /// Creates a certificate for a key.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, rcgen::Error> {
        params.signed_by(key, &self.issuer)
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the certificate and the key in PEM, for the data folder.
    pub(crate) fn to_kept(&self) -> String {
        self.pem.clone() + &self.issuer.key().serialize_pem()
    }

    /// Reads the text of [`to_kept`](Self::to_kept).
    pub(crate) fn from_kept(text: &str) -> Result<Self, String> {
        let key = text.find("-----BEGIN PRIVATE KEY-----").ok_or("there is no key")?;
        let (pem, key) = text.split_at(key);
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
        let key = KeyPair::from_pem(key).map_err(|error| error.to_string())?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| error.to_string())?;
        Ok(Self { pem: pem.to_owned(), der, issuer })
    }

    /// Returns `true` if the certificate has expired.
    pub(crate) fn has_expired(&self) -> bool {
        !parse(&self.der).is_ok_and(|certificate| certificate.validity().is_valid())
    }
}

/// Returns a validity that begins yesterday, for clients whose clock is slow. It lasts a year, because some small TLS
/// stacks cannot read later dates.
pub(crate) fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::DAY, now + 365 * Duration::DAY)
}
