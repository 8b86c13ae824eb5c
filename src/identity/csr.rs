use core::fmt;

/// A certificate signing request: PKCS #10 in DER, not PEM.
///
/// Create the request with the tool or chip that holds the device's private key. The common name of its
/// subject must be the registration ID. Then pass the request to `Registration::with_csr` (feature `csr`):
/// the service has a certificate issued, and sends it with the assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Csr<'a>(&'a [u8]);

impl<'a> Csr<'a> {
    /// Creates a request from DER. Checks the structure up to the public key, not the signature or the
    /// subject.
    ///
    /// ```
    /// use azure_dps::identity::{Csr, InvalidCsr};
    ///
    /// let pem = b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB";
    /// assert_eq!(Csr::from_der(pem), Err(InvalidCsr));
    /// ```
    ///
    /// # Errors
    /// [`InvalidCsr`] if the bytes are not exactly one PKCS #10 document in DER.
    pub fn from_der(der: &'a [u8]) -> Result<Self, InvalidCsr> {
        request_key(der).map(|_| Self(der)).ok_or(InvalidCsr)
    }

    /// Returns the request in DER.
    pub const fn der(&self) -> &'a [u8] {
        self.0
    }
}

/// The bytes are not one PKCS #10 document in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct InvalidCsr;

impl core::error::Error for InvalidCsr {}

impl fmt::Display for InvalidCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate signing request is not one PKCS #10 document in DER")
    }
}

/// Returns the public key of a certificate signing request.
pub(crate) fn request_key(der: &[u8]) -> Option<&[u8]> {
    // CertificationRequestInfo: version, subject, subjectPKInfo.
    // Source: https://www.rfc-editor.org/rfc/rfc2986#section-4
    public_key(der, &[INTEGER, SEQUENCE])
}

/// Returns the public key of a certificate.
pub(crate) fn certificate_key(der: &[u8]) -> Option<&[u8]> {
    // TBSCertificate: version, serialNumber, signature, issuer, validity, subject,
    // subjectPublicKeyInfo.
    // Source: https://www.rfc-editor.org/rfc/rfc5280#section-4.1
    public_key(der, &[VERSION, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE])
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
/// The tag `[0]`. Certificates of version 1 do not have it; the service does not use such certificates.
const VERSION: u8 = 0xa0;

/// Returns the `SubjectPublicKeyInfo` of a certificate or of a certificate signing request. The elements
/// before it have the tags `before`.
fn public_key<'a>(der: &'a [u8], before: &[u8]) -> Option<&'a [u8]> {
    let (signed, rest) = element(der, SEQUENCE)?;
    if !rest.is_empty() {
        return None;
    }
    let (mut fields, _) = element(signed, SEQUENCE)?;
    for &tag in before {
        (_, fields) = element(fields, tag)?;
    }
    let (key, _) = element(fields, SEQUENCE)?;
    Some(key)
}

/// Returns the contents of the first DER element, and the bytes after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        ..=0x7f => (first.into(), rest),
        // A length of one or two bytes. No answer is longer than 64 KiB.
        0x81 | 0x82 => {
            let (len, rest) = rest.split_at_checked((first & 3).into())?;
            (len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}
