use crate::{
    error::{Error, Malformed},
    identity::{
        Csr,
        csr::{certificate_key, request_key},
    },
    text::json::{Elements, NoBytes, Object, Text, Value, decode_text},
};

/// The certificates that were issued for a [`Csr`]: an iterator.
///
/// Sources disagree on their order, so find the device's own with [`leaf`](Self::leaf). A
/// device that logs in at its hub with them presents its own first, and then the others as
/// they come.
///
/// Source: [certificate issuance](https://learn.microsoft.com/azure/iot-dps/concept-certificate-issuance).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct CertificateChain<'b>(Elements<'b>);

impl<'b> CertificateChain<'b> {
    /// Finds the chain in a registration state that was kept
    /// ([`Assignment::registration_state`](crate::Assignment::registration_state)). `None` if there is none.
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
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
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
        let text = self.base64().ok_or(Malformed::Invalid(FIELD))?;
        decode_text(text, buffer).map_err(|error| match error {
            NoBytes::NotBase64 => Malformed::Invalid(FIELD).into(),
            NoBytes::BufferTooSmall(error) => error.into(),
        })
    }
}

const FIELD: &str = "issuedCertificateChain";
