use core::fmt;

/// A request for a certificate: PKCS #10 in DER, without the armour of PEM.
///
/// Make it with whatever holds the device's private key; its subject's common name must be the
/// registration ID. It goes into the register request with
/// `Registration::with_csr`, which the feature `csr` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Csr<'a>(&'a [u8]);

impl<'a> Csr<'a> {
    /// Takes a request, of which nothing is checked but that it is one.
    ///
    /// ```
    /// use azure_dps::identity::{Csr, InvalidCsr};
    ///
    /// let pem = b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB";
    /// assert_eq!(Csr::from_der(pem), Err(InvalidCsr));
    /// ```
    ///
    /// # Errors
    /// [`InvalidCsr`] if this is not one PKCS #10 document in DER.
    pub fn from_der(der: &'a [u8]) -> Result<Self, InvalidCsr> {
        request_key(der).map(|_| Self(der)).ok_or(InvalidCsr)
    }

    /// The request as it was given.
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

pub(crate) fn request_key(der: &[u8]) -> Option<&[u8]> {
    // CertificationRequestInfo: version, subject, subjectPKInfo.
    public_key(der, &[INTEGER, SEQUENCE])
}

pub(crate) fn certificate_key(der: &[u8]) -> Option<&[u8]> {
    // TBSCertificate: version, serialNumber, signature, issuer, validity, subject,
    // subjectPublicKeyInfo.
    public_key(der, &[VERSION, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE])
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
/// `[0]`. Certificates of version 1 leave it out, but have no place in this service.
const VERSION: u8 = 0xa0;

/// The `SubjectPublicKeyInfo` behind elements with these tags, within what is signed of a
/// certificate or a request for one.
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

/// The contents of the DER element at the start, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        ..=0x7f => (first.into(), rest),
        // A length of one or two bytes: nothing longer than 64 KiB fits an answer.
        0x81 | 0x82 => {
            let (len, rest) = rest.split_at_checked((first & 3).into())?;
            (len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}
