//! TLS as the service uses it, and the reasons why a handshake fails.

use std::{io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error, InconsistentKeys,
    PeerIncompatible, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

/// Creates an acceptor for TLS 1.2, as the real service uses, and optionally for TLS 1.3.
pub(crate) fn acceptor(certificate: Arc<dyn ResolvesServerCert>, tls13: bool) -> Result<TlsAcceptor, String> {
    let versions: &[_] = if tls13 { &[&TLS12, &TLS13] } else { &[&TLS12] };
    // The provider is explicit, because the process-wide default belongs to the program.
    let provider = aws_lc_rs::default_provider();
    let any_client = AnyClient(provider.signature_verification_algorithms);
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::new(any_client))
        .with_cert_resolver(certificate);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts every client, with a certificate or without, as the real service does. A wrong certificate is rejected
/// later, in the answers to requests. Only the handshake can verify that the client holds the certificate's key.
#[derive(Debug)]
struct AnyClient(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// How to correct a client that rejects the server's certificate.
const TRUST: &str = "the client must trust the CA that --ca-out writes, which is new at each start without --data \
                     (or the issuer of --tls-certificate), and must dial a name in the certificate: localhost, a \
                     linked hub, or a --gateway-name";

/// Returns why there was no request after the handshake, and how to correct it. Some clients, such as Node and curl,
/// check the certificate or its names only after the handshake.
pub(crate) fn closed_unused(server_name: Option<&str>) -> String {
    let dialled = server_name.map(|name| format!(" for {name}")).unwrap_or_default();
    format!(
        "the client closed the connection after the TLS handshake{dialled}, without a request; it may reject the \
         server's certificate: {TRUST}"
    )
}

/// Returns why a handshake failed, and how to correct it.
pub(crate) fn explain(error: &io::Error) -> String {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return format!(
            "the client closed the connection without an alert; it may reject the server's certificate: {TRUST}"
        );
    };
    match error {
        Error::AlertReceived(
            // A client sends `DecryptError` if it trusts the CA of an earlier start, which has the same name but
            // another key.
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate),
        ) => format!("the client rejects the server's certificate (alert {alert:?}): {TRUST}"),
        Error::AlertReceived(alert) => format!("the client aborted it (alert {alert:?})"),
        Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled) => {
            "the client does not offer TLS 1.2, the only version of the service. If the client has only TLS 1.3, set \
             tls13 = true in [behaviour]"
                .to_owned()
        }
        // Older versions do not have this extension.
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => "the client uses TLS 1.1 or older: it must use TLS 1.2".to_owned(),
        Error::PeerIncompatible(
            why @ (PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon
            | PeerIncompatible::NamedGroupsExtensionRequired),
        ) => format!(
            "client and server share no algorithm ({why:?}): ECDHE with AES-GCM or ChaCha20 is needed, and ECDSA \
             with P-256 unless --tls-certificate has another key, such as RSA"
        ),
        error if is_version_1(error) => format!("the client's certificate {VERSION_1}"),
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "the client does not hold the key of its certificate".to_owned()
        }
        Error::InvalidCertificate(why) => format!("the client's certificate cannot be used: {why:?}"),
        other => other.to_string(),
    }
}

/// Returns why the user's certificate and key cannot be used.
pub(crate) fn explain_own(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "there is no PEM certificate".to_owned(),
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key does not belong to the certificate".to_owned()
        }
        error if is_version_1(error) => format!("the certificate {VERSION_1}"),
        error => error.to_string(),
    }
}

/// What is wrong with a certificate of version 1, and how to correct it.
const VERSION_1: &str = "has X.509 version 1, but version 3 is needed: create it with at least one extension, for \
                         example by openssl x509 -req with -extfile";

fn is_version_1(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(why))
        if format!("{why:?}").contains("UnsupportedCertVersion"))
}
