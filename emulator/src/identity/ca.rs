//! The certificates that the emulator makes for itself: a CA, and the TLS listeners' server certificate by it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use time::{Duration, OffsetDateTime};

/// The names under which the emulator is reached. The last one is for a device with a fixed host and a line in the
/// hosts file.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "global.azure-devices-provisioning.net"];

/// A CA made at start and the server certificate that it signed, unless the user brings another.
pub(crate) struct ServerCertificate {
    pub(crate) ca_pem: String,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl ServerCertificate {
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "azure-dps-emulator CA");
        (ca.not_before, ca.not_after) = validity();
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

        let mut server = CertificateParams::new(NAMES.map(str::to_owned))?;
        server.distinguished_name.push(DnType::CommonName, "azure-dps-emulator");
        (server.not_before, server.not_after) = validity();
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let server = server.signed_by(&key, &ca)?;
        Ok(Self { ca_pem: ca.pem(), chain: vec![server.der().clone()], key: key.into() })
    }

    /// Takes the user's server certificate, with its chain, and its key instead.
    pub(crate) fn present(&mut self, chain_pem: &[u8], key_pem: &[u8]) -> Result<(), String> {
        self.chain = CertificateDer::pem_slice_iter(chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the certificate's PEM cannot be read: {error}"))?;
        self.key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
            pem::Error::NoItemsFound => "there is no private key in PEM".to_owned(),
            error => format!("the key's PEM cannot be read: {error}"),
        })?;
        Ok(())
    }
}

/// A validity that begins yesterday, for peers whose clock is slow, and lasts a year, because some small TLS stacks
/// cannot read later dates.
pub(crate) fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::DAY, now + 365 * Duration::DAY)
}
