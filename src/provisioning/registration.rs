use crate::{
    error::Error,
    identity::{Csr, IdScope, RegistrationId},
    text::json,
};

/// What a device tells DPS about itself: where it enrolled, who it is and, if it likes,
/// a JSON object for the operator's webhook.
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
    /// A registration without a payload.
    pub const fn new(id_scope: IdScope<'a>, registration_id: RegistrationId<'a>) -> Self {
        Self {
            id_scope,
            registration_id,
            payload: None,
            #[cfg(feature = "csr")]
            csr: None,
        }
    }

    /// Adds a custom payload: the text of one JSON object, at most
    /// [`json::MAX_DEPTH`] − 1 deep. It is sent as it is and reaches the webhook as
    /// `deviceRuntimeContext.payload`.
    ///
    /// Anything but an object is refused here, because the service accepts it and then
    /// does not deliver it.
    ///
    /// # Errors
    /// [`Error::InvalidPayload`] with the position of the first wrong byte.
    ///
    /// Source: [use device payloads](https://learn.microsoft.com/azure/iot-dps/concepts-custom-allocation#use-device-payloads-in-custom-allocation).
    pub fn with_payload(self, payload: &'a str) -> Result<Self, Error> {
        // It is sent inside another object.
        json::Object::parse_within(payload.as_bytes(), 1).map_err(Error::InvalidPayload)?;
        Ok(Self { payload: Some(payload), ..self })
    }

    /// Adds a custom payload from any value that serializes to a JSON object. The text is
    /// written into `scratch`, which must live as long as the registration.
    ///
    /// ```
    /// # use azure_dps::{IdScope, Registration, RegistrationId};
    /// #[derive(serde::Serialize)]
    /// struct Model<'a> {
    ///     model: &'a str,
    /// }
    ///
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut scratch = [0; 64];
    /// let registration = registration.with_serialized(&Model { model: "T-007" }, &mut scratch)?;
    /// assert_eq!(registration.payload(), Some(r#"{"model":"T-007"}"#));
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] if `scratch` cannot hold the text, and
    /// [`Error::InvalidPayload`] if the value is no object or does not serialize.
    ///
    /// # Panics
    /// serde-json-core 0.7 panics on types with a `char` or with a tuple variant of an enum, and
    /// on those whose own `Serialize` refuses a value. Derived ones without the first two do not
    /// panic. Where there is an allocator, give [`with_payload`](Self::with_payload) what
    /// `serde_json::to_string` makes.
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

    /// Adds a request for a certificate, with which the device is to log in at its hub. It is
    /// answered by [`Assignment::issued_certificate_chain`](crate::Assignment::issued_certificate_chain),
    /// if the enrollment has a certificate policy. The subject's common name must be the
    /// registration ID.
    ///
    /// The request is made in `api-version` 2026-11-01; where the service does not know it yet,
    /// say 2025-07-01-preview with
    /// [`Provisioning::with_api_version`](crate::Provisioning::with_api_version).
    ///
    /// Source: [certificate issuance](https://learn.microsoft.com/azure/iot-dps/concept-certificate-issuance).
    #[cfg(feature = "csr")]
    pub const fn with_csr(mut self, csr: Csr<'a>) -> Self {
        self.csr = Some(csr);
        self
    }

    /// The request for a certificate, if there is one.
    // Without the feature there is none, and the compiler drops what would be done with it.
    pub const fn csr(&self) -> Option<Csr<'a>> {
        #[cfg(feature = "csr")]
        return self.csr;
        #[cfg(not(feature = "csr"))]
        None
    }

    /// The ID scope.
    pub const fn id_scope(&self) -> IdScope<'a> {
        self.id_scope
    }

    /// The registration ID.
    pub const fn registration_id(&self) -> RegistrationId<'a> {
        self.registration_id
    }

    /// The custom payload, if there is one.
    pub const fn payload(&self) -> Option<&'a str> {
        self.payload
    }
}
