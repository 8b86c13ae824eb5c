use heapless::String;

use super::CertificateChain;
use crate::{
    identity::{hub_name::MAX_PORT, tpm::AuthenticationKey},
    text::{
        BufferTooSmall,
        json::{Object, Text, Value},
    },
};

/// Where the device belongs, borrowed from the buffer that holds the service's answer.
///
/// The hub and the device ID are always there and have been checked. Everything else that
/// the service documents is looked up in the answer when it is asked for, and what it does
/// not document is had with [`field`](Self::field).
///
/// ```
/// # use azure_dps::*;
/// # use azure_dps::provisioning::*;
/// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// # let mut provisioning = Provisioning::new(registration, Attestation::x509());
/// let body = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net",
///     "deviceId":"dev-1","substatus":"initialAssignment","payload":{"darkness":"medium"}}}"#;
/// # provisioning.start(core::time::Duration::ZERO, 0);
/// # provisioning.on_answer(core::time::Duration::ZERO, Answer::new(200, None, body));
/// // … a run with this answer
/// let assignment = provisioning.result(body)?;
///
/// assert_eq!(assignment.assigned_hub(), "hub.azure-devices.net");
/// assert_eq!(assignment.device_id(), "dev-1");
/// assert_eq!(assignment.substatus(), Some(Substatus::InitialAssignment));
/// assert_eq!(assignment.payload().unwrap().raw(), r#"{"darkness":"medium"}"#);
///
/// #[derive(serde::Deserialize)]
/// struct Settings<'a> {
///     darkness: &'a str,
/// }
/// # #[cfg(feature = "serde")]
/// let settings: Settings<'_> = assignment.payload_as(&mut []).unwrap().unwrap();
/// # #[cfg(feature = "serde")]
/// assert_eq!(settings.darkness, "medium");
///
/// let keep: OwnedAssignment<64> = assignment.owned()?; // once the buffer is used otherwise
/// assert_eq!((keep.assigned_hub(), keep.device_id()), ("hub.azure-devices.net", "dev-1"));
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// Source: [DeviceRegistrationResult](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/device-registration-status-lookup#deviceregistrationresult).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Assignment<'b> {
    state: Object<'b>,
    assigned_hub: &'b str,
    device_id: &'b str,
    payload: Option<Value<'b>>,
}

impl<'b> Assignment<'b> {
    /// The IoT hub as the service names it: a host name of letters, digits, `-` and `.`, and
    /// perhaps `:` and a port. [`hub`](Self::hub) takes the two apart. Derive nothing from the shape
    /// of the name.
    pub const fn assigned_hub(&self) -> &'b str {
        self.assigned_hub
    }

    /// Returns the device ID at that hub: 1 to 128 characters of printable ASCII. It is the
    /// registration ID unless an individual enrollment says otherwise.
    pub const fn device_id(&self) -> &'b str {
        self.device_id
    }

    /// What the operator's webhook returned for the device: documented as an object.
    ///
    /// Source: [DPS sends data payload to device](https://learn.microsoft.com/azure/iot-dps/concepts-custom-allocation#dps-sends-data-payload-to-device).
    pub const fn payload(&self) -> Option<Value<'b>> {
        self.payload
    }

    /// The returned payload as a type of your own; `None` if the service sent none.
    ///
    /// Strings with escapes are decoded in `scratch`, and can then only go into an owned type: to
    /// borrow one is an error, never undecoded text. `scratch` must hold the longest in UTF-8 of
    /// those that are read: names of members too, even of such that the type has not.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use azure_dps::{error::PayloadError, provisioning::*};
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// # let body = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net",
    /// #     "deviceId":"dev-1","payload":{"name":"T\u00fcr 7","limits":[5,80]}}}"#;
    /// #[derive(serde::Deserialize)]
    /// struct Settings {
    ///     name: heapless::String<16>,
    ///     limits: (u8, u8),
    /// }
    /// #[derive(Debug, serde::Deserialize)]
    /// struct Another {
    ///     #[expect(dead_code)]
    ///     port: u16,
    /// }
    ///
    /// // The webhook returned {"name":"T\u00fcr 7","limits":[5,80]}.
    /// # provisioning.start(core::time::Duration::ZERO, 0);
    /// # provisioning.on_answer(core::time::Duration::ZERO, Answer::new(200, None, body));
    /// let assignment = provisioning.result(body)?;
    /// let settings: Settings = assignment.payload_as(&mut [0; 16]).unwrap().unwrap();
    /// assert_eq!((settings.name.as_str(), settings.limits), ("Tür 7", (5, 80)));
    ///
    /// assert_eq!(assignment.payload_as::<Another>(&mut []).unwrap_err(), PayloadError::Missing("port"));
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PayloadError`](crate::error::PayloadError) if the payload does not fit the type, or a string not `scratch`.
    #[cfg(feature = "serde")]
    pub fn payload_as<T: serde::Deserialize<'b>>(
        &self,
        scratch: &mut [u8],
    ) -> Result<Option<T>, crate::error::PayloadError> {
        self.payload.map(|payload| crate::text::deserialize::deserialize(payload, scratch)).transpose()
    }

    /// The registration ID as the service has it. The service keeps the spelling; it may differ in
    /// case from the one that was sent now.
    pub fn registration_id(&self) -> Option<Text<'b>> {
        self.text("registrationId")
    }

    /// Whether this is the first assignment, or what became of the device's data.
    pub fn substatus(&self) -> Option<Substatus<'b>> {
        Substatus::of_registration_state(self.state)
    }

    /// When the registration was made: RFC 3339, UTC.
    pub fn created(&self) -> Option<Text<'b>> {
        self.text("createdDateTimeUtc")
    }

    /// When the registration was last changed: RFC 3339, UTC.
    pub fn last_updated(&self) -> Option<Text<'b>> {
        self.text("lastUpdatedDateTimeUtc")
    }

    /// The registration's entity tag.
    pub fn etag(&self) -> Option<Text<'b>> {
        self.text("etag")
    }

    /// For TPM attestation: the key for the hub, encrypted for the TPM, which it is given to
    /// with [`Sign::activate`](crate::identity::Sign::activate).
    pub fn tpm_authentication_key(&self) -> Option<AuthenticationKey<'b>> {
        AuthenticationKey::of_registration_state(self.state)
    }

    /// For X.509 attestation: what the service saw in the certificate.
    pub fn x509(&self) -> Option<X509<'b>> {
        self.object("x509").map(X509)
    }

    /// The enrollment group through which the device registered, if the service names it.
    pub fn enrollment_group_id(&self) -> Option<Text<'b>> {
        let group = |attestation| self.object(attestation)?.get("enrollmentGroupId")?.text();
        group("symmetricKey").or_else(|| group("x509"))
    }

    /// The certificates issued for a [`Csr`](crate::identity::Csr), down to a root.
    pub fn issued_certificate_chain(&self) -> Option<CertificateChain<'b>> {
        CertificateChain::of_registration_state(self.state)
    }

    /// Returns how the hub is spoken to (2026-11-02-preview). Look at this before you connect.
    ///
    /// The api-versions that this crate sends by default do not have it, so the hub is a classic one.
    #[inline]
    pub fn connection_profile(&self) -> ConnectionProfile<'b> {
        ConnectionProfile::read(self.field("connectionProfile"))
    }

    /// The trust bundle (2021-11-01-preview).
    pub fn trust_bundle(&self) -> Option<Object<'b>> {
        self.object("trustBundle")
    }

    /// The certificate issued for a PEM request (2021-11-01-preview).
    pub fn issued_client_certificate(&self) -> Option<Text<'b>> {
        self.text("issuedClientCertificate")
    }

    /// Returns `true` if certificates were issued. A status look-up does not return them again.
    pub(crate) fn has_certificate(&self) -> bool {
        ["issuedCertificateChain", "issuedClientCertificate"].iter().any(|name| self.field(name).is_some())
    }

    /// How to have further certificates issued (2021-11-01-preview).
    pub fn device_certificate_issuance_settings(&self) -> Option<Object<'b>> {
        self.object("deviceCertificateIssuanceSettings")
    }

    /// The host name that the service gave to the device (2021-11-01-preview).
    pub fn device_hostname(&self) -> Option<Text<'b>> {
        self.text("deviceHostname")
    }

    /// The address that the service gave to the device (2021-11-01-preview).
    pub fn device_ip_address(&self) -> Option<Text<'b>> {
        self.text("deviceIpAddress")
    }

    /// Any field of the registration state; `null` counts as absent.
    pub fn field(&self, name: &str) -> Option<Value<'b>> {
        self.state.field(name)
    }

    /// The whole registration state as it came.
    pub const fn registration_state(&self) -> Object<'b> {
        self.state
    }

    /// A copy that outlives the buffer, with room for `PAYLOAD` bytes of returned payload.
    ///
    /// # Errors
    /// [`BufferTooSmall`] if the payload is longer than `PAYLOAD`, a name is longer than
    /// [`OwnedAssignment::MAX_NAME`], or a connection profile is longer than
    /// [`OwnedAssignment::MAX_PROFILE`].
    pub fn owned<const PAYLOAD: usize>(&self) -> Result<OwnedAssignment<PAYLOAD>, BufferTooSmall> {
        let too_small = |needed| BufferTooSmall { needed, exact: true };
        let hub = self.assigned_hub;
        let payload = self.payload.map(|payload| payload.raw());
        Ok(OwnedAssignment {
            assigned_hub: String::try_from(hub).map_err(|_| too_small(hub.len()))?,
            device_id: String::try_from(self.device_id).map_err(|_| too_small(self.device_id.len()))?,
            payload: match payload {
                Some(payload) => Some(String::try_from(payload).map_err(|_| too_small(payload.len()))?),
                None => None,
            },
            connection_profile: match self.field("connectionProfile").map(|profile| profile.raw()) {
                Some(profile) => Some(String::try_from(profile).map_err(|_| too_small(profile.len()))?),
                None => None,
            },
        })
    }

    fn text(&self, name: &str) -> Option<Text<'b>> {
        self.field(name)?.text()
    }

    fn object(&self, name: &str) -> Option<Object<'b>> {
        self.field(name)?.object()
    }
}

/// Where in a body an assignment's parts lie: what is kept between the check of an answer and
/// the reading of the result, since no borrow can be.
#[derive(Clone, Copy)]
pub(crate) struct Spans {
    state: Span,
    assigned_hub: Span,
    /// Empty if there is none.
    payload: Span,
    /// Of the hub: another body may have the same shape.
    fingerprint: u32,
}

impl Spans {
    /// Parts of `body`, each checked to be what it is called.
    pub(crate) fn new(state: Value<'_>, assigned_hub: Text<'_>, payload: Option<Value<'_>>, body: &[u8]) -> Self {
        Self {
            state: Span::of(state.bytes(), body),
            assigned_hub: Span::of(assigned_hub.bytes(), body),
            payload: payload.map_or(Span { start: 0, end: 0 }, |payload| Span::of(payload.bytes(), body)),
            fingerprint: fingerprint(assigned_hub.bytes()),
        }
    }

    /// `None` if this is not the body that was checked: it has another shape, or another hub.
    pub(crate) fn assignment<'b>(&self, body: &'b [u8], device_id: &'b str) -> Option<Assignment<'b>> {
        let payload = Some(self.payload.of_body(body)?).filter(|payload| !payload.is_empty()).map(Value::checked);
        let assigned_hub = self.assigned_hub.text(body)?;
        if fingerprint(assigned_hub.bytes()) != self.fingerprint {
            return None;
        }
        Some(Assignment {
            state: Object::checked(self.state.of_body(body)?)?,
            // A host name has no escapes.
            assigned_hub: assigned_hub.raw(),
            device_id,
            payload,
        })
    }
}

/// A word at a time: it is taken of every answer, and again of the result.
#[inline(never)]
fn fingerprint(assigned_hub: &[u8]) -> u32 {
    let (words, tail) = assigned_hub.as_chunks();
    let tail = tail.iter().fold(1, |tail, &byte| tail << 8 | u32::from(byte));
    let words = words.iter().map(|word| u32::from_le_bytes(*word)).chain([tail]);
    words.fold(0_u32, |hash, word| (hash.rotate_left(5) ^ word).wrapping_mul(0x0100_0193))
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `part` is a slice of `whole`.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Self { start: start as u32, end: start.wrapping_add(part.len()) as u32 }
    }

    fn of_body(self, body: &[u8]) -> Option<&[u8]> {
        body.get(self.start as usize..self.end as usize)
    }

    /// A string, with its quotes looked at again.
    fn text(self, body: &[u8]) -> Option<Text<'_>> {
        let quoted = Span { start: self.start.checked_sub(1)?, end: self.end.checked_add(1)? };
        Value::checked(quoted.of_body(body)?).text()
    }
}

/// How the device came to its hub.
///
/// Source: [ProvisioningDeviceStatus, substatus](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/device-registration-status-lookup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Substatus<'b> {
    /// `initialAssignment`: the first time.
    InitialAssignment,
    /// `deviceDataMigrated`: moved to another hub with its data.
    DeviceDataMigrated,
    /// `deviceDataReset`: moved to another hub with its initial configuration.
    DeviceDataReset,
    /// `reprovisionedToInitialAssignment`: still where it was.
    ReprovisionedToInitialAssignment,
    /// A substatus that this version does not know.
    Other(Text<'b>),
}

impl<'b> Substatus<'b> {
    /// Finds the substatus in a registration state that was kept ([`Assignment::registration_state`]). `None` if there
    /// is none.
    ///
    /// ```
    /// use azure_dps::{json::Object, provisioning::Substatus};
    ///
    /// let state = Object::parse(r#"{"assignedHub":"hub.example","substatus":"deviceDataReset"}"#)?;
    /// assert_eq!(Substatus::of_registration_state(state), Some(Substatus::DeviceDataReset));
    /// # Ok::<(), azure_dps::json::JsonError>(())
    /// ```
    pub fn of_registration_state(state: Object<'b>) -> Option<Self> {
        state.field("substatus")?.text().map(Self::read)
    }

    fn read(text: Text<'b>) -> Self {
        let is = |name| text.eq_ignore_ascii_case(name);
        if is("initialAssignment") {
            Substatus::InitialAssignment
        } else if is("deviceDataMigrated") {
            Substatus::DeviceDataMigrated
        } else if is("deviceDataReset") {
            Substatus::DeviceDataReset
        } else if is("reprovisionedToInitialAssignment") {
            Substatus::ReprovisionedToInitialAssignment
        } else {
            Substatus::Other(text)
        }
    }
}

/// How a hub is spoken to.
///
/// ```
/// use azure_dps::{Assignment, provisioning::ConnectionProfile};
///
/// fn may_connect(assignment: &Assignment<'_>) -> bool {
///     match assignment.connection_profile() {
///         ConnectionProfile::Classic => true,
///         // This device speaks MQTT 3.1.1 alone. It logs the name of the profile and does not connect.
///         _ => false,
///     }
/// }
/// # use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId, provisioning::Answer};
/// # let mut provisioning = Provisioning::new(
/// #     Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?), Attestation::x509());
/// # let body = br#"{"status":"assigned","registrationState":{"assignedHub":"h","deviceId":"dev-1",
/// #     "connectionProfile":"mqttV5"}}"#;
/// # provisioning.start(core::time::Duration::ZERO, 0);
/// # provisioning.on_answer(core::time::Duration::ZERO, Answer::new(200, None, body));
/// # assert!(!may_connect(&provisioning.result(body)?));
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// If the device does not speak what the profile asks for, do not connect, and do not guess: report the
/// name of the profile to the operator.
///
/// Source: [DPS, 2026-11-02-preview](https://github.com/Azure/azure-rest-api-specs/pull/45041).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum ConnectionProfile<'b> {
    /// `classic`, or none: MQTT 3.1.1, AMQP and HTTP. All of [`after`](crate::after) is for this one.
    Classic,
    /// `mqttV5`: MQTT 5, with topics and messages of its own.
    MqttV5,
    /// A profile that this version does not know.
    Other(Text<'b>),
}

impl<'b> ConnectionProfile<'b> {
    /// Without regard to case: tools show `Classic` and `MqttV5`.
    #[inline]
    fn read(value: Option<Value<'b>>) -> Self {
        let Some(value) = value else { return ConnectionProfile::Classic };
        let text = value.text().unwrap_or(Text::checked(value.bytes()));
        if text.eq_ignore_ascii_case("classic") {
            ConnectionProfile::Classic
        } else if text.eq_ignore_ascii_case("mqttV5") {
            ConnectionProfile::MqttV5
        } else {
            ConnectionProfile::Other(text)
        }
    }
}

/// What the service saw of a device certificate.
///
/// Source: [X509DeviceAttestation, registration result](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/device-registration-status-lookup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct X509<'b>(Object<'b>);

impl<'b> X509<'b> {
    /// The device's certificate.
    pub fn certificate_info(&self) -> Option<CertificateInfo<'b>> {
        self.0.get("certificateInfo")?.object().map(CertificateInfo)
    }

    /// The certificate that signed it, for an enrollment group.
    pub fn signing_certificate_info(&self) -> Option<CertificateInfo<'b>> {
        self.0.get("signingCertificateInfo")?.object().map(CertificateInfo)
    }

    /// The enrollment group.
    pub fn enrollment_group_id(&self) -> Option<Text<'b>> {
        self.0.get("enrollmentGroupId")?.text()
    }
}

/// The facts of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct CertificateInfo<'b>(Object<'b>);

impl<'b> CertificateInfo<'b> {
    /// The subject's distinguished name.
    pub fn subject_name(&self) -> Option<Text<'b>> {
        self.text("subjectName")
    }

    /// The SHA-1 thumbprint, hex.
    pub fn sha1_thumbprint(&self) -> Option<Text<'b>> {
        self.text("sha1Thumbprint")
    }

    /// The SHA-256 thumbprint, hex.
    pub fn sha256_thumbprint(&self) -> Option<Text<'b>> {
        self.text("sha256Thumbprint")
    }

    /// The issuer's distinguished name.
    pub fn issuer_name(&self) -> Option<Text<'b>> {
        self.text("issuerName")
    }

    /// Valid from: RFC 3339, UTC.
    pub fn not_before(&self) -> Option<Text<'b>> {
        self.text("notBeforeUtc")
    }

    /// Valid until: RFC 3339, UTC.
    pub fn not_after(&self) -> Option<Text<'b>> {
        self.text("notAfterUtc")
    }

    /// The serial number, hex.
    pub fn serial_number(&self) -> Option<Text<'b>> {
        self.text("serialNumber")
    }

    /// The X.509 version.
    pub fn version(&self) -> Option<u32> {
        self.0.get("version")?.u32()
    }

    fn text(&self, name: &str) -> Option<Text<'b>> {
        self.0.get(name)?.text()
    }
}

/// An assignment that owns what it says, in fixed space: 304 bytes and `PAYLOAD` more. It
/// outlives the buffer; what outlives the boot is a [`Record`](crate::after::Record).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct OwnedAssignment<const PAYLOAD: usize = 256> {
    assigned_hub: String<{ MAX_NAME + MAX_PORT }, u8>,
    device_id: String<{ MAX_NAME }, u8>,
    payload: Option<String<PAYLOAD, u32>>,
    /// As it stands in the JSON, with its quotes.
    connection_profile: Option<String<{ MAX_PROFILE + 2 }, u8>>,
}

const MAX_NAME: usize = 128;
const MAX_PROFILE: usize = 28;

impl<const PAYLOAD: usize> OwnedAssignment<PAYLOAD> {
    /// The longest host name of a hub, and the longest device ID, that are kept, in bytes. A port
    /// has room of its own. A hub's own name has at most 50 characters and a device ID at most 128.
    pub const MAX_NAME: usize = MAX_NAME;

    /// The longest name of a connection profile that is kept, in bytes.
    pub const MAX_PROFILE: usize = MAX_PROFILE;

    /// See [`Assignment::assigned_hub`].
    pub fn assigned_hub(&self) -> &str {
        &self.assigned_hub
    }

    /// See [`Assignment::device_id`].
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The raw JSON of [`Assignment::payload`].
    pub fn payload(&self) -> Option<&str> {
        self.payload.as_deref()
    }

    /// See [`Assignment::connection_profile`].
    pub fn connection_profile(&self) -> ConnectionProfile<'_> {
        ConnectionProfile::read(self.connection_profile.as_ref().map(|profile| Value::checked(profile.as_bytes())))
    }
}
