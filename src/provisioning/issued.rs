use crate::{
    error::{Error, Malformed},
    identity::{
        Csr,
        csr::{certificate_key, request_key},
    },
    text::json::{Elements, NoBytes, Object, Text, Value, decode_text},
};

/// The certificates that were issued for a [`Csr`], as an iterator.
///
/// Microsoft's sources disagree on the order of the certificates. [`leaf`](Self::leaf) finds the device's
/// own certificate. When the device connects to its hub, it presents its own certificate first, then the
/// others in the order of the answer.
///
/// Source: [certificate issuance](https://learn.microsoft.com/azure/iot-dps/concept-certificate-issuance).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct CertificateChain<'b>(Elements<'b>);

impl<'b> CertificateChain<'b> {
    /// Returns the chain of a registration state that was stored
    /// ([`Assignment::registration_state`](crate::Assignment::registration_state)), if it has one.
    ///
    /// ```
    /// use azure_dps::{json::Object, provisioning::CertificateChain};
    ///
    /// let state = Object::parse(r#"{"assignedHub":"hub.example","issuedCertificateChain":["MAA="]}"#)?;
    /// let chain = CertificateChain::of_registration_state(state).unwrap();
    /// assert_eq!(chain.count(), 1);
    /// # Ok::<(), azure_dps::json::JsonError>(())
    /// ```
    pub fn of_registration_state(state: Object<'b>) -> Option<Self> {
        state.field(FIELD).filter(|chain| chain.is_array()).map(|chain| Self(chain.elements()))
    }

    /// Finds the certificate for the public key of `csr`, and decodes it into `buffer` as DER.
    ///
    /// The buffer must hold each certificate of the chain: about 500 to 1 500 bytes.
    ///
    /// # Errors
    /// - [`Error::BufferTooSmall`] with a size that is sufficient for the next certificate;
    /// - [`Error::Malformed`] if no certificate has this key.
    pub fn leaf<'o>(&self, csr: &Csr<'_>, buffer: &'o mut [u8]) -> Result<&'o [u8], Error> {
        let (mut found, mut wrong) = (None, Malformed::Contradiction(FIELD));
        for certificate in self.clone() {
            match certificate.decode(buffer).map(|der| certificate_key(der) == request_key(csr.der())) {
                Ok(true) => {
                    found = Some(certificate);
                    break;
                }
                Ok(false) => {}
                // Another certificate may match.
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

/// One certificate of a [`CertificateChain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct IssuedCertificate<'b>(Value<'b>);

impl<'b> IssuedCertificate<'b> {
    /// Returns the certificate in base64, as in a PEM file. Returns `None` if the service sent something
    /// other than a string.
    pub fn base64(&self) -> Option<Text<'b>> {
        self.0.text()
    }

    /// Decodes the certificate into `buffer` as DER, the format that TLS stacks read.
    ///
    /// The buffer needs three quarters of the length of the text.
    ///
    /// # Errors
    /// - [`Error::BufferTooSmall`] with a size that is sufficient;
    /// - [`Error::Malformed`] if the text is not base64.
    pub fn decode<'o>(&self, buffer: &'o mut [u8]) -> Result<&'o [u8], Error> {
        let text = self.base64().ok_or(Malformed::Invalid(FIELD))?;
        decode_text(text, buffer).map_err(|error| match error {
            NoBytes::NotBase64 => Malformed::Invalid(FIELD).into(),
            NoBytes::BufferTooSmall(error) => error.into(),
        })
    }
}

const FIELD: &str = "issuedCertificateChain";
