//! The certificates of the TLS listeners: a CA made at start, and a server certificate by it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    version::{TLS12, TLS13},
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsAcceptor;

/// The names under which the emulator is reached: the last one by a device with a fixed host and a
/// line in the hosts file.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "global.azure-devices-provisioning.net"];

/// A CA and what it signed.
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificates {
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

    /// A server certificate of the caller's, with its chain, and its key.
    pub(crate) fn present(&mut self, chain_pem: &[u8], key_pem: &[u8]) -> Result<(), pem::Error> {
        self.chain = CertificateDer::pem_slice_iter(chain_pem).collect::<Result<_, _>>()?;
        self.key = PrivateKeyDer::from_pem_slice(key_pem)?;
        Ok(())
    }

    /// TLS 1.2, as the real service, and 1.3 on request.
    ///
    /// Client certificates are for X.509 attestation: when that comes, they are requested, not
    /// required, in the place of `with_no_client_auth`.
    pub(crate) fn acceptor(&self, tls13: bool) -> Result<TlsAcceptor, rustls::Error> {
        let versions: &[_] = if tls13 { &[&TLS12, &TLS13] } else { &[&TLS12] };
        // The provider by name: a process-wide default is the program's choice, not a library's.
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// From yesterday, for peers whose clock is slow, for a year: far-off years are more than some
/// small TLS stacks can count.
fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::DAY, now + 365 * Duration::DAY)
}
