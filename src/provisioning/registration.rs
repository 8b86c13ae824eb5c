use crate::{
    error::Error,
    identity::{Csr, IdScope, RegistrationId},
    text::json,
};

/// A register request: the ID scope, the registration ID and an optional JSON payload for the webhook.
///
/// ```
/// use azure_dps::{IdScope, Registration, RegistrationId};
///
/// let registration = Registration::new(
///     IdScope::new("0ne00002193")?,
///     RegistrationId::new("breakroom499-contoso-tstrsd-007")?,
/// )
/// .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5"}"#)?;
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// Source: [Register Device](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/register-device).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Registration<'a> {
    id_scope: IdScope<'a>,
    registration_id: RegistrationId<'a>,
    payload: Option<&'a str>,
    #[cfg(feature = "csr")]
    csr: Option<Csr<'a>>,
}

impl<'a> Registration<'a> {
    /// Creates a registration without a payload.
    pub const fn new(id_scope: IdScope<'a>, registration_id: RegistrationId<'a>) -> Self {
        Self {
            id_scope,
            registration_id,
            payload: None,
            #[cfg(feature = "csr")]
            csr: None,
        }
    }

    /// Sets the custom payload: the text of one JSON object, at most [`json::MAX_DEPTH`] − 1 deep.
    ///
    /// The payload is sent unchanged. The webhook gets it as `deviceRuntimeContext.payload`. Only an object
    /// is accepted here: the service accepts other JSON too, but does not deliver it to the webhook.
    ///
    /// # Errors
    /// [`Error::InvalidPayload`] with the position of the first wrong byte.
    ///
    /// Source: [use device payloads](https://learn.microsoft.com/azure/iot-dps/concepts-custom-allocation#use-device-payloads-in-custom-allocation).
    pub fn with_payload(self, payload: &'a str) -> Result<Self, Error> {
        // The payload is sent inside another object.
        json::Object::parse_within(payload.as_bytes(), 1).map_err(Error::InvalidPayload)?;
        Ok(Self { payload: Some(payload), ..self })
    }

    /// Sets the custom payload from a value that serializes to a JSON object.
    ///
    /// The text is written into `scratch`, which must live as long as the registration.
    ///
    /// ```
    /// use azure_dps::{IdScope, Registration, RegistrationId};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Model<'a> {
    ///     model: &'a str,
    /// }
    ///
    /// let mut scratch = [0; 64];
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?)
    ///     .with_serialized(&Model { model: "T-007" }, &mut scratch)?;
    /// assert_eq!(registration.payload(), Some(r#"{"model":"T-007"}"#));
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::BufferTooSmall`] if `scratch` cannot hold the text;
    /// - [`Error::InvalidPayload`] if the value is not an object or cannot be serialized.
    ///
    /// # Panics
    /// serde-json-core 0.7 panics for
    /// - a type with a `char`;
    /// - a type with a tuple variant of an enum;
    /// - a handwritten `Serialize` that returns an error.
    ///
    /// Other types with a derived `Serialize` do not panic. If you have an allocator, you can use
    /// `serde_json::to_string` and [`with_payload`](Self::with_payload) instead.
    #[cfg(feature = "serde")]
    pub fn with_serialized<T: serde::Serialize + ?Sized>(
        self,
        payload: &T,
        scratch: &'a mut [u8],
    ) -> Result<Self, Error> {
        use serde_json_core::ser::Error as SerializeError;

        let len = serde_json_core::to_slice(payload, scratch).map_err(|error| match error {
            SerializeError::BufferFull => crate::text::BufferTooSmall::at_least(scratch.len() + 1).into(),
            _ => Error::InvalidPayload(json::JsonError::unserializable()),
        })?;
        let text = scratch.get(..len).unwrap_or_default();
        let text = core::str::from_utf8(text).map_err(|error| Error::InvalidPayload(error.into()))?;
        self.with_payload(text)
    }

    /// Sets a certificate signing request. The device uses the issued certificate to connect to its hub.
    ///
    /// If the enrollment has a certificate policy,
    /// [`Assignment::issued_certificate_chain`](crate::Assignment::issued_certificate_chain) returns the
    /// certificate. The common name of the request's subject must be the registration ID.
    ///
    /// A run with a `csr` uses the `api-version` 2026-11-01. If the service does not know this version yet,
    /// set 2025-07-01-preview with
    /// [`Provisioning::with_api_version`](crate::Provisioning::with_api_version).
    ///
    /// Source: [certificate issuance](https://learn.microsoft.com/azure/iot-dps/concept-certificate-issuance).
    #[cfg(feature = "csr")]
    pub const fn with_csr(mut self, csr: Csr<'a>) -> Self {
        self.csr = Some(csr);
        self
    }

    /// Returns the certificate signing request, if there is one.
    // Without the feature `csr` this is always `None`, so the compiler removes the code for requests.
    pub const fn csr(&self) -> Option<Csr<'a>> {
        #[cfg(feature = "csr")]
        return self.csr;
        #[cfg(not(feature = "csr"))]
        None
    }

    /// Returns the ID scope.
    pub const fn id_scope(&self) -> IdScope<'a> {
        self.id_scope
    }

    /// Returns the registration ID.
    pub const fn registration_id(&self) -> RegistrationId<'a> {
        self.registration_id
    }

    /// Returns the custom payload, if there is one.
    pub const fn payload(&self) -> Option<&'a str> {
        self.payload
    }
}
