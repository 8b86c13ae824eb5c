use heapless::String;

use super::CertificateChain;
use crate::{
    identity::{hub_name::MAX_PORT, tpm::AuthenticationKey},
    text::{
        BufferTooSmall,
        json::{Object, Text, Value},
    },
};

/// The result of a run: the hub, the device ID and the rest of the service's answer.
///
/// An `Assignment` borrows from the buffer that holds the answer. The hub and the device ID are checked and
/// always present. The other functions look up a field of the answer, and return `None` if it is absent.
/// [`field`](Self::field) returns any field, also those that the service does not document.
///
/// ```
/// use azure_dps::provisioning::{Answer, OwnedAssignment, Substatus};
/// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
/// use core::time::Duration;
///
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::x509());
/// // A transport does this:
/// let body = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net",
///     "deviceId":"dev-1","substatus":"initialAssignment","payload":{"darkness":"medium"}}}"#;
/// provisioning.start(Duration::ZERO, 0);
/// provisioning.on_answer(Duration::ZERO, Answer::new(200, None, body));
///
/// let assignment = provisioning.result(body)?;
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
/// // A copy does not borrow the buffer.
/// let copy: OwnedAssignment<64> = assignment.owned()?;
/// assert_eq!((copy.assigned_hub(), copy.device_id()), ("hub.azure-devices.net", "dev-1"));
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
    /// Returns the hub as the service names it: a host name of letters, digits, `-` and `.`, with an optional
    /// `:` and port.
    ///
    /// [`hub`](Self::hub) returns host and port separately. Do not parse the name: its form may change.
    pub const fn assigned_hub(&self) -> &'b str {
        self.assigned_hub
    }

    /// Returns the device ID at the hub: 1 to 128 characters of printable ASCII.
    ///
    /// The device ID equals the registration ID, unless an individual enrollment sets another one.
    pub const fn device_id(&self) -> &'b str {
        self.device_id
    }

    /// Returns the payload that the webhook returned for the device. The service documents it as an object.
    ///
    /// Source: [DPS sends data payload to device](https://learn.microsoft.com/azure/iot-dps/concepts-custom-allocation#dps-sends-data-payload-to-device).
    pub const fn payload(&self) -> Option<Value<'b>> {
        self.payload
    }

    /// Returns the payload that the webhook returned, read into a type. Returns `None` if there is no
    /// payload.
    ///
    /// Strings with escapes are decoded in `scratch`. Such a string fits an owned type, such as
    /// `heapless::String`; a borrowed `&str` is an error. `scratch` must hold the longest decoded string in
    /// UTF-8, also names of members, also of members that the type does not have.
    ///
    /// ```
    /// use azure_dps::{Assignment, error::PayloadError};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Settings {
    ///     name: heapless::String<16>,
    ///     limits: (u8, u8),
    /// }
    ///
    /// fn settings(assignment: &Assignment<'_>) -> Result<Option<Settings>, PayloadError> {
    ///     assignment.payload_as(&mut [0; 16])
    /// }
    /// # use azure_dps::{*, provisioning::*};
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// # let body = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net",
    /// #     "deviceId":"dev-1","payload":{"name":"T\u00fcr 7","limits":[5,80]}}}"#;
    /// # provisioning.start(core::time::Duration::ZERO, 0);
    /// # provisioning.on_answer(core::time::Duration::ZERO, Answer::new(200, None, body));
    /// # let assignment = provisioning.result(body)?;
    ///
    /// // The webhook returned {"name":"T\u00fcr 7","limits":[5,80]}.
    /// let settings = settings(&assignment).unwrap().unwrap();
    /// assert_eq!((settings.name.as_str(), settings.limits), ("Tür 7", (5, 80)));
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PayloadError`](crate::error::PayloadError) if the payload does not fit the type, or a string does not
    /// fit `scratch`.
    #[cfg(feature = "serde")]
    pub fn payload_as<T: serde::Deserialize<'b>>(
        &self,
        scratch: &mut [u8],
    ) -> Result<Option<T>, crate::error::PayloadError> {
        self.payload.map(|payload| crate::text::deserialize::deserialize(payload, scratch)).transpose()
    }

    /// Returns the registration ID that the service stores. Its case may differ from the ID of this run.
    pub fn registration_id(&self) -> Option<Text<'b>> {
        self.text("registrationId")
    }

    /// Returns the kind of the assignment: the first one, or a reprovisioning and what it did with the
    /// device's data.
    pub fn substatus(&self) -> Option<Substatus<'b>> {
        Substatus::of_registration_state(self.state)
    }

    /// Returns the time of the registration (RFC 3339, UTC).
    pub fn created(&self) -> Option<Text<'b>> {
        self.text("createdDateTimeUtc")
    }

    /// Returns the time of the last change of the registration (RFC 3339, UTC).
    pub fn last_updated(&self) -> Option<Text<'b>> {
        self.text("lastUpdatedDateTimeUtc")
    }

    /// Returns the entity tag of the registration.
    pub fn etag(&self) -> Option<Text<'b>> {
        self.text("etag")
    }

    /// Returns the key for the hub, encrypted for the device's TPM. Only TPM attestation has it. Pass it to
    /// [`Sign::activate`](crate::identity::Sign::activate).
    pub fn tpm_authentication_key(&self) -> Option<AuthenticationKey<'b>> {
        AuthenticationKey::of_registration_state(self.state)
    }

    /// Returns the certificate data that the service saw. Only X.509 attestation has it.
    pub fn x509(&self) -> Option<X509<'b>> {
        self.object("x509").map(X509)
    }

    /// Returns the ID of the device's enrollment group, if the service sends it.
    pub fn enrollment_group_id(&self) -> Option<Text<'b>> {
        let group = |attestation| self.object(attestation)?.get("enrollmentGroupId")?.text();
        group("symmetricKey").or_else(|| group("x509"))
    }

    /// Returns the certificates that were issued for a [`Csr`](crate::identity::Csr), with their root.
    pub fn issued_certificate_chain(&self) -> Option<CertificateChain<'b>> {
        CertificateChain::of_registration_state(self.state)
    }

    /// Returns the protocol of the hub (api-version 2026-11-02-preview). If you set such a version, check
    /// this value before you connect.
    ///
    /// The default versions of this crate do not have this field. Then the hub is a classic one.
    #[inline]
    pub fn connection_profile(&self) -> ConnectionProfile<'b> {
        ConnectionProfile::read(self.field("connectionProfile"))
    }

    /// Returns the trust bundle (api-version 2021-11-01-preview).
    pub fn trust_bundle(&self) -> Option<Object<'b>> {
        self.object("trustBundle")
    }

    /// Returns the certificate that was issued for a request in PEM (api-version 2021-11-01-preview).
    pub fn issued_client_certificate(&self) -> Option<Text<'b>> {
        self.text("issuedClientCertificate")
    }

    /// Returns `true` if certificates were issued. A later status look-up does not return them.
    pub(crate) fn has_certificate(&self) -> bool {
        ["issuedCertificateChain", "issuedClientCertificate"].iter().any(|name| self.field(name).is_some())
    }

    /// Returns the settings for further certificates (api-version 2021-11-01-preview).
    pub fn device_certificate_issuance_settings(&self) -> Option<Object<'b>> {
        self.object("deviceCertificateIssuanceSettings")
    }

    /// Returns the host name that the service gave to the device (api-version 2021-11-01-preview).
    pub fn device_hostname(&self) -> Option<Text<'b>> {
        self.text("deviceHostname")
    }

    /// Returns the IP address that the service gave to the device (api-version 2021-11-01-preview).
    pub fn device_ip_address(&self) -> Option<Text<'b>> {
        self.text("deviceIpAddress")
    }

    /// Returns a field of the registration state by its name. `null` counts as absent.
    pub fn field(&self, name: &str) -> Option<Value<'b>> {
        self.state.field(name)
    }

    /// Returns the complete registration state, unchanged.
    pub const fn registration_state(&self) -> Object<'b> {
        self.state
    }

    /// Returns a copy that does not borrow the buffer. It has room for a payload of `PAYLOAD` bytes.
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

/// The positions of an assignment's parts in the body of an answer.
///
/// The state machine stores positions between the check of an answer and the reading of the result, because
/// it cannot borrow the buffer.
#[derive(Clone, Copy)]
pub(crate) struct Spans {
    state: Span,
    assigned_hub: Span,
    /// Empty if there is no payload.
    payload: Span,
    /// A hash of the hub. It detects another body with the same positions.
    fingerprint: u32,
}

impl Spans {
    /// Creates the positions of checked parts of `body`.
    pub(crate) fn new(state: Value<'_>, assigned_hub: Text<'_>, payload: Option<Value<'_>>, body: &[u8]) -> Self {
        Self {
            state: Span::of(state.bytes(), body),
            assigned_hub: Span::of(assigned_hub.bytes(), body),
            payload: payload.map_or(Span { start: 0, end: 0 }, |payload| Span::of(payload.bytes(), body)),
            fingerprint: fingerprint(assigned_hub.bytes()),
        }
    }

    /// Returns the assignment in `body`, or `None` if this is not the body that was checked.
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

/// Returns a hash of the hub. It reads four bytes at a time, because every answer needs the hash.
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
    /// Returns the position of `part`, which must be a slice of `whole`.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Self { start: start as u32, end: start.wrapping_add(part.len()) as u32 }
    }

    fn of_body(self, body: &[u8]) -> Option<&[u8]> {
        body.get(self.start as usize..self.end as usize)
    }

    /// Returns a string, and checks its quotes again.
    fn text(self, body: &[u8]) -> Option<Text<'_>> {
        let quoted = Span { start: self.start.checked_sub(1)?, end: self.end.checked_add(1)? };
        Value::checked(quoted.of_body(body)?).text()
    }
}

/// The kind of an assignment: the first one, or a reprovisioning.
///
/// Source: [ProvisioningDeviceStatus, substatus](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/device-registration-status-lookup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Substatus<'b> {
    /// `initialAssignment`: the first assignment of the device.
    InitialAssignment,
    /// `deviceDataMigrated`: the device moved to another hub, and its data too.
    DeviceDataMigrated,
    /// `deviceDataReset`: the device moved to another hub, where it starts with its initial configuration.
    DeviceDataReset,
    /// `reprovisionedToInitialAssignment`: the device was reprovisioned to a hub that it was assigned to before.
    ReprovisionedToInitialAssignment,
    /// A substatus that this version of the crate does not know.
    Other(Text<'b>),
}

impl<'b> Substatus<'b> {
    /// Returns the substatus of a registration state that was stored ([`Assignment::registration_state`]), if
    /// it has one.
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

/// The protocol of a hub.
///
/// If the device does not support the protocol, do not connect. Report the name of the profile to the
/// operator:
///
/// ```
/// use azure_dps::{Assignment, provisioning::ConnectionProfile};
///
/// fn may_connect(assignment: &Assignment<'_>) -> bool {
///     match assignment.connection_profile() {
///         ConnectionProfile::Classic => true,
///         // This device supports MQTT 3.1.1 only.
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
/// Source: [DPS, 2026-11-02-preview](https://github.com/Azure/azure-rest-api-specs/pull/45041).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum ConnectionProfile<'b> {
    /// `classic`, or no profile: MQTT 3.1.1, AMQP and HTTP. The module [`after`](crate::after) supports
    /// this profile only.
    Classic,
    /// `mqttV5`: MQTT 5, with different topics and messages.
    MqttV5,
    /// A profile that this version of the crate does not know.
    Other(Text<'b>),
}

impl<'b> ConnectionProfile<'b> {
    /// Ignores case, because tools show `Classic` and `MqttV5`.
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

/// The certificate data of an X.509 device, as the service saw it.
///
/// Source: [X509DeviceAttestation, registration result](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/device-registration-status-lookup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct X509<'b>(Object<'b>);

impl<'b> X509<'b> {
    /// Returns the data of the device certificate.
    pub fn certificate_info(&self) -> Option<CertificateInfo<'b>> {
        self.0.get("certificateInfo")?.object().map(CertificateInfo)
    }

    /// Returns the data of the CA certificate that signed the device certificate. Only an enrollment group
    /// has it.
    pub fn signing_certificate_info(&self) -> Option<CertificateInfo<'b>> {
        self.0.get("signingCertificateInfo")?.object().map(CertificateInfo)
    }

    /// Returns the ID of the enrollment group.
    pub fn enrollment_group_id(&self) -> Option<Text<'b>> {
        self.0.get("enrollmentGroupId")?.text()
    }
}

/// The data of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct CertificateInfo<'b>(Object<'b>);

impl<'b> CertificateInfo<'b> {
    /// Returns the distinguished name of the subject.
    pub fn subject_name(&self) -> Option<Text<'b>> {
        self.text("subjectName")
    }

    /// Returns the SHA-1 thumbprint in hexadecimal.
    pub fn sha1_thumbprint(&self) -> Option<Text<'b>> {
        self.text("sha1Thumbprint")
    }

    /// Returns the SHA-256 thumbprint in hexadecimal.
    pub fn sha256_thumbprint(&self) -> Option<Text<'b>> {
        self.text("sha256Thumbprint")
    }

    /// Returns the distinguished name of the issuer.
    pub fn issuer_name(&self) -> Option<Text<'b>> {
        self.text("issuerName")
    }

    /// Returns the start of the validity (RFC 3339, UTC).
    pub fn not_before(&self) -> Option<Text<'b>> {
        self.text("notBeforeUtc")
    }

    /// Returns the end of the validity (RFC 3339, UTC).
    pub fn not_after(&self) -> Option<Text<'b>> {
        self.text("notAfterUtc")
    }

    /// Returns the serial number in hexadecimal.
    pub fn serial_number(&self) -> Option<Text<'b>> {
        self.text("serialNumber")
    }

    /// Returns the X.509 version.
    pub fn version(&self) -> Option<u32> {
        self.0.get("version")?.u32()
    }

    fn text(&self, name: &str) -> Option<Text<'b>> {
        self.0.get(name)?.text()
    }
}

/// A copy of an [`Assignment`] that does not borrow the buffer. Its size is 304 bytes plus `PAYLOAD`.
///
/// To store an assignment in flash, use a [`Record`](crate::after::Record).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct OwnedAssignment<const PAYLOAD: usize = 256> {
    assigned_hub: String<{ MAX_NAME + MAX_PORT }, u8>,
    device_id: String<{ MAX_NAME }, u8>,
    payload: Option<String<PAYLOAD, u32>>,
    /// The JSON text, with its quotes.
    connection_profile: Option<String<{ MAX_PROFILE + 2 }, u8>>,
}

const MAX_NAME: usize = 128;
const MAX_PROFILE: usize = 28;

impl<const PAYLOAD: usize> OwnedAssignment<PAYLOAD> {
    /// The maximum length of a hub's host name, and of a device ID, in bytes.
    ///
    /// A port does not count. In Azure, a hub's name has at most 50 characters (before its domain), and a
    /// device ID at most 128.
    pub const MAX_NAME: usize = MAX_NAME;

    /// The maximum length of the name of a connection profile, in bytes.
    pub const MAX_PROFILE: usize = MAX_PROFILE;

    /// Returns the hub as the service names it: see [`Assignment::assigned_hub`].
    pub fn assigned_hub(&self) -> &str {
        &self.assigned_hub
    }

    /// Returns the device ID at the hub: see [`Assignment::device_id`].
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// Returns the JSON text of the payload that the webhook returned: see [`Assignment::payload`].
    pub fn payload(&self) -> Option<&str> {
        self.payload.as_deref()
    }

    /// Returns the protocol of the hub: see [`Assignment::connection_profile`].
    pub fn connection_profile(&self) -> ConnectionProfile<'_> {
        ConnectionProfile::read(self.connection_profile.as_ref().map(|profile| Value::checked(profile.as_bytes())))
    }
}
