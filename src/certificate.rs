use crate::{
    Error, Malformed,
    base64::decode_text,
    json::{Elements, Text, Value},
};

/// A request for a certificate: PKCS #10 in DER, without the armour of PEM.
///
/// Make it with whatever holds the device's private key; its subject's common name must be the
/// registration ID. It goes into the register request with
/// [`Registration::with_csr`](crate::Registration::with_csr).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Csr<'a>(&'a [u8]);

impl<'a> Csr<'a> {
    /// Takes a request, of which nothing is checked but that it is one.
    ///
    /// ```
    /// use azure_dps::{Csr, Error};
    ///
    /// let pem = b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB";
    /// assert_eq!(Csr::from_der(pem), Err(Error::InvalidCsr));
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidCsr`] if this is not one PKCS #10 document in DER.
    pub fn from_der(der: &'a [u8]) -> Result<Self, Error> {
        request_key(der).map(|_| Self(der)).ok_or(Error::InvalidCsr)
    }

    /// The request as it was given.
    pub const fn der(&self) -> &'a [u8] {
        self.0
    }
}

/// The certificates that were issued for a [`Csr`]: an iterator.
///
/// Sources disagree on their order, so find the device's own with [`leaf`](Self::leaf). A
/// device that logs in at its hub with them presents its own first, and then the others as
/// they come.
///
/// Source: [certificate issuance](https://learn.microsoft.com/azure/iot-dps/concept-certificate-issuance).
#[derive(Clone, Debug)]
pub struct CertificateChain<'b>(Elements<'b>);

impl<'b> CertificateChain<'b> {
    pub(crate) const fn new(elements: Elements<'b>) -> Self {
        Self(elements)
    }

    /// Finds the certificate for the key that `csr` was made with, and decodes it into
    /// `buffer`, which must hold any one of the chain: DER, some 500 to 1 500 bytes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] with a size that suffices for the next of them;
    /// [`Error::Malformed`] if none is for this key.
    pub fn leaf<'o>(&self, csr: &Csr<'_>, buffer: &'o mut [u8]) -> Result<&'o [u8], Error> {
        let (mut found, mut wrong) = (None, Malformed::Contradiction(FIELD));
        for certificate in self.clone() {
            match certificate.decode(buffer).map(|der| certificate_key(der) == request_key(csr.der())) {
                Ok(true) => {
                    found = Some(certificate);
                    break;
                }
                Ok(false) => {}
                // The others may be right.
                Err(Error::Malformed(malformed)) => wrong = malformed,
                Err(error) => return Err(error),
            }
        }
        found.ok_or(wrong)?.decode(buffer)
    }
}

impl<'b> Iterator for CertificateChain<'b> {
    type Item = IssuedCertificate<'b>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self(elements) = self;
        elements.next().map(IssuedCertificate)
    }
}

/// One of the certificates that were issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuedCertificate<'b>(Value<'b>);

impl<'b> IssuedCertificate<'b> {
    /// The base64 text, as it stands between a PEM file's two lines of hyphens; `None` if the
    /// service sent something else.
    pub fn base64(&self) -> Option<Text<'b>> {
        self.0.text()
    }

    /// Decodes the certificate into `buffer`, of three quarters of the text's length: DER, as
    /// TLS stacks take it.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] with a size that suffices; [`Error::Malformed`] if it is not
    /// base64.
    pub fn decode<'o>(&self, buffer: &'o mut [u8]) -> Result<&'o [u8], Error> {
        decode_text(self.base64().ok_or(Malformed::Invalid(FIELD))?, FIELD, buffer)
    }
}

const FIELD: &str = "issuedCertificateChain";

fn request_key(der: &[u8]) -> Option<&[u8]> {
    // CertificationRequestInfo: version, subject, subjectPKInfo.
    public_key(der, &[INTEGER, SEQUENCE])
}

fn certificate_key(der: &[u8]) -> Option<&[u8]> {
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
