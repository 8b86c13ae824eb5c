//! X.509 certificates, and the information that the service shows about them.

use std::{fmt, fs, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use x509_parser::{
    certificate::X509Certificate,
    objects::{oid_registry, oid2abbrev},
    time::ASN1Time,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::error::CredentialError;

/// An X.509 certificate. Clones share its memory.
#[derive(Clone, Eq, PartialEq)]
pub struct Certificate {
    pub(super) der: Arc<CertificateDer<'static>>,
    info: Arc<CertificateInfo>,
}

impl Certificate {
    /// Reads the first certificate in a PEM text.
    ///
    /// ```
    /// use azure_dps_emulator::{Certificate, Config, Emulator};
    ///
    /// let emulator = Emulator::builder(Config::contoso()).start()?;
    /// let issuing_ca = Certificate::from_pem(emulator.issuing_ca_pem())?;
    /// assert!(Certificate::from_pem("no PEM").is_err());
    /// # Ok::<(), azure_dps_emulator::StartError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the text has no certificate, or if it is not an X.509 certificate.
    pub fn from_pem(text: &str) -> Result<Self, CredentialError> {
        let der = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|error| CredentialError(format!("there is no PEM certificate: {error}")))?;
        Self::from_der(der).map_err(|fault| CredentialError(format!("a certificate cannot be read: {fault}")))
    }

    /// Reads a certificate as clients of the service API send it: PEM, or base64 of PEM or of DER.
    pub(crate) fn from_text(text: &str) -> Result<Self, CredentialError> {
        if text.contains("-----BEGIN") {
            return Self::from_pem(text);
        }
        let compact: String = text.split_ascii_whitespace().collect();
        let bytes = BASE64_STANDARD
            .decode(compact)
            .map_err(|_| CredentialError("a certificate is neither PEM nor base64".to_owned()))?;
        match str::from_utf8(&bytes) {
            Ok(pem) if pem.contains("-----BEGIN") => Self::from_pem(pem),
            _ => Self::from_der(bytes.into())
                .map_err(|fault| CredentialError(format!("a certificate cannot be read: {fault}"))),
        }
    }

    pub(super) fn from_der(der: CertificateDer<'static>) -> Result<Self, Fault> {
        let info = Arc::new(CertificateInfo::of(&parse(&der)?, &der));
        Ok(Self { der: Arc::new(der), info })
    }

    pub(crate) fn is_ca(&self) -> bool {
        parse(&self.der).is_ok_and(|parsed| parsed.is_ca())
    }

    /// Returns `true` if a TLS handshake with the certificate can succeed.
    pub(crate) fn is_version_3(&self) -> bool {
        self.info.version == 3
    }

    /// Returns the certificate as DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the certificate as PEM.
    pub(crate) fn pem(&self) -> String {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new("CERTIFICATE", &**self.der), config)
    }

    /// Returns base64 of the DER, for JSON.
    pub(crate) fn base64(&self) -> String {
        BASE64_STANDARD.encode(self.der())
    }

    /// Returns the information that the service shows about the certificate.
    pub(crate) fn info(&self) -> &CertificateInfo {
        &self.info
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.info.subject_name).finish()
    }
}

impl Serialize for Certificate {
    /// Writes the certificate as PEM.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.pem())
    }
}

impl<'de> Deserialize<'de> for Certificate {
    /// Reads a PEM text, or the path of a PEM file.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains("-----BEGIN") {
            return Self::from_pem(&text).map_err(de::Error::custom);
        }
        // The text may be a key in the wrong place, so it must not be quoted.
        let text = fs::read_to_string(text).map_err(|error| {
            de::Error::custom(format!(
                "a certificate's file cannot be read: {error}. A relative path starts at the working directory"
            ))
        })?;
        Self::from_pem(&text).map_err(de::Error::custom)
    }
}

/// `X509CertificateInfo`, which the service shows about a certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateInfo {
    subject_name: String,
    sha1_thumbprint: String,
    sha256_thumbprint: String,
    issuer_name: String,
    not_before_utc: String,
    not_after_utc: String,
    serial_number: String,
    version: u32,
}

impl CertificateInfo {
    pub(crate) fn sha256_thumbprint(&self) -> &str {
        &self.sha256_thumbprint
    }

    fn of(certificate: &X509Certificate<'_>, der: &[u8]) -> Self {
        let validity = certificate.validity();
        Self {
            subject_name: display_name(certificate.subject()),
            sha1_thumbprint: hex(&Sha1::digest(der)),
            sha256_thumbprint: hex(&Sha256::digest(der)),
            issuer_name: display_name(certificate.issuer()),
            not_before_utc: rfc3339(validity.not_before),
            not_after_utc: rfc3339(validity.not_after),
            serial_number: hex(certificate.raw_serial()),
            // The field has 2 for version 3.
            version: certificate.version().0.saturating_add(1),
        }
    }
}

/// What is wrong with a certificate, for the log only.
pub(crate) type Fault = String;

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Fault> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("there is more data after the certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the most specific common name, which is the last one.
pub(crate) fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    name.iter_common_name().last()?.as_str().ok()
}

/// Returns a name as .NET writes it, because the service does: the most specific part first, with quotes around
/// values that could be read as several parts.
fn display_name(name: &X509Name<'_>) -> String {
    let part = |attribute: &AttributeTypeAndValue<'_>| {
        let key = oid2abbrev(attribute.attr_type(), oid_registry())
            .map_or_else(|_| format!("OID.{}", attribute.attr_type()), ToOwned::to_owned);
        let value = attribute.as_str().map_or_else(|_| format!("#{}", hex(attribute.as_slice())), quote);
        format!("{key}={value}")
    };
    let mut parts: Vec<String> =
        name.iter().map(|parts| parts.iter().map(part).collect::<Vec<_>>().join(" + ")).collect();
    parts.reverse();
    parts.join(", ")
}

fn quote(value: &str) -> String {
    let special = |c| matches!(c, ',' | '+' | '=' | '"' | '\n' | '<' | '>' | '#' | ';');
    if value.is_empty() || value.contains(special) || value.starts_with(' ') || value.ends_with(' ') {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Certificates have whole seconds.
pub(super) fn rfc3339(at: ASN1Time) -> String {
    at.to_datetime().format(&Rfc3339).unwrap_or_default()
}
