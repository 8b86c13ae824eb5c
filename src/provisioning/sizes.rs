use super::{Endpoint, Registration};
use crate::{
    USER_AGENT,
    identity::{
        hub_name::{MAX_DEVICE_ID, MAX_HOST, MAX_PORT},
        sas_token::SCHEME,
    },
    text::writer::{LONGEST_SIGNATURE, digits, is_unreserved},
};

/// The `api-version` that the C SDK sends.
pub(super) const API_VERSION: &str = "2021-06-01";

/// The maximum length of an operation ID, in bytes. Those of the service have about 55.
pub const MAX_OPERATION_ID: usize = 128;

/// How large the buffers must be, in bytes. Every method is a `const fn`, so arrays can be sized at
/// compile time.
///
/// Describe the registration: its IDs, and the lengths of what the device sends and receives.
///
/// ```
/// use azure_dps::provisioning::Sizes;
///
/// const SIZES: Sizes = Sizes::new("0ne00002193", "breakroom499-contoso-tstrsd-007")
///     .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5"}"#.len())
///     .with_hub("contoso-toasters-hub-1098.azure-devices.net")
///     .with_returned_payload(100);
///
/// static BUFFER: [u8; SIZES.http()] = [0; SIZES.http()]; // for a transport
/// let mut user_name = [0; SIZES.hub_user_name()]; // for `Hub::write_user_name`
/// # let _ = (&BUFFER, &mut user_name);
/// ```
///
/// On a machine with an allocator, use [`Provisioning::sizes`](crate::Provisioning::sizes). It
/// returns the sizes for the configured registration.
///
/// # Which buffer needs which size
///
/// | buffer | bytes |
/// |---|---|
/// | for a transport; holds all requests and answers, one at a time | [`Sizes::http`] |
/// | a register request or a look-up | [`Sizes::http_register`] |
/// | a poll | [`Sizes::http_poll`] |
/// | the head of an answer | about 500 |
/// | the body of an answer, with the fields that the service is known to send | [`Sizes::answer`] |
/// | the message of [`Step::Sign`](super::Step::Sign) | [`Sizes::sas_token`] |
/// | user name, password and messages of an MQTT session | [`Sizes::mqtt_user_name`], [`Sizes::sas_token`], [`Sizes::mqtt_publish`] |
/// | the MQTT client's own buffer for an answer | [`Sizes::mqtt_answer`] |
/// | user name, token and connection strings for the hub | [`Sizes::hub_user_name`], [`Sizes::hub_token`], [`Sizes::hub_connection_string`], [`Sizes::hub_x509_connection_string`] |
/// | the topic of telemetry | [`Sizes::hub_telemetry_topic`] |
/// | the topics of the twin | [`twin::TOPIC_LEN`](crate::after::twin::TOPIC_LEN) |
/// | the MQTT client's own buffer for the twin | [`twin::answer_len`](crate::after::twin::answer_len) |
/// | a record of the assignment | [`Sizes::record`] |
///
/// The caller also owns the [`Provisioning`](crate::Provisioning) (below 550 bytes), the
/// [`DeviceKey`](crate::DeviceKey) (68 bytes) and later the
/// [`Reprovisioning`](crate::after::Reprovisioning) (below 160 bytes). Buffer,
/// `Provisioning` and key need 1 344 bytes in all for the devices in the tutorial.
///
/// If the lengths are right, requests, tokens, user names and records never need more than these sizes.
/// The longest texts need exactly as much. An answer may be longer, because the service may send more
/// fields. Then the run ends with [`Error::BufferTooSmall`](crate::Error::BufferTooSmall), which names
/// the size that the answer needs.
///
/// # What is assumed unless a setter says otherwise
///
/// | length | value |
/// |---|---|
/// | endpoint | [`Endpoint::GLOBAL`] |
/// | api-version | the default of [`Provisioning`](crate::Provisioning) |
/// | operation ID | [`MAX_OPERATION_ID`], of characters that need no percent-encoding in a URL |
/// | payload, `csr`, TPM, returned payload | none |
/// | device ID at the hub | the registration ID |
/// | hub | 75: 50 characters and `.device.azure-devices.net` |
/// | enrollment group | 128 |
/// | expiry of a token | 20 digits; until the year 2286 they are 10 |
/// | number of an MQTT request | 5 digits |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Sizes {
    id_scope: usize,
    registration_id: Len,
    authority: usize,
    api_version: usize,
    operation_id: usize,
    tpm: Option<(usize, usize)>,
    csr: Option<usize>,
    payload: Option<usize>,
    device_id: Len,
    /// The hub with its port.
    assigned_hub: usize,
    /// The hub without its port.
    hub_host: usize,
    enrollment_group: usize,
    returned: usize,
    device_client_type: Option<usize>,
}

/// The length of a text, and its length percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
struct Len {
    plain: usize,
    encoded: usize,
}

impl Len {
    const fn of(text: &str) -> Self {
        let mut rest = text.as_bytes();
        let mut encoded = 0;
        while let [byte, tail @ ..] = rest {
            encoded += if is_unreserved(*byte) { 1 } else { 3 };
            rest = tail;
        }
        Self { plain: text.len(), encoded }
    }

    /// Creates the lengths for any text of `len` bytes.
    const fn at_most(len: usize) -> Self {
        Self { plain: len, encoded: 3 * len }
    }
}

/// The digits of a `u64`.
const EXPIRY: usize = 20;
/// The digits of a `u16`.
const REQUEST_ID: usize = 5;
/// The base64 of the longest key, which has 64 bytes.
const KEY: usize = 88;
/// The head of an answer with all documented headers.
const ANSWER_HEAD: usize = 512;
/// The part of an answer that is the same for all devices.
const ANSWER: usize = 480;
/// The fixed header of an MQTT packet and the length of its topic.
const MQTT_HEAD: usize = 5 + 2;
/// The longest topic of an answer. `Retry-After` is a `u32`, which has up to 10 digits.
const ANSWER_TOPIC: usize = "$dps/registrations/res/200/?$rid=&retry-after=".len() + REQUEST_ID + 10;

impl Sizes {
    /// Creates the sizes for an ID scope and a registration ID.
    ///
    /// If you know the IDs only at run time, pass texts of the same length. In a URL, a `:` takes three bytes,
    /// any other character of an ID one byte.
    pub const fn new(id_scope: &str, registration_id: &str) -> Self {
        Self::with_lens(id_scope.len(), Len::of(registration_id))
    }

    /// Creates sizes that are sufficient for all IDs up to these lengths. Assumes the longest device ID, hub,
    /// enrollment group and operation ID.
    ///
    /// ```
    /// use azure_dps::{IdScope, RegistrationId, provisioning::Sizes};
    ///
    /// const SIZES: Sizes = Sizes::longest(IdScope::MAX_LEN, RegistrationId::MAX_LEN);
    /// let mut password = [0; SIZES.sas_token()];
    /// # let _ = &mut password;
    /// ```
    pub const fn longest(id_scope: usize, registration_id: usize) -> Self {
        Self {
            operation_id: 3 * MAX_OPERATION_ID,
            device_id: Len::at_most(MAX_DEVICE_ID),
            assigned_hub: MAX_HOST + MAX_PORT,
            hub_host: MAX_HOST,
            ..Self::with_lens(id_scope, Len::at_most(registration_id))
        }
    }

    /// Creates the sizes for a registration, including its payload and its certificate signing request.
    pub const fn of(registration: &Registration<'_>) -> Self {
        let sizes = Self::new(registration.id_scope().as_str(), registration.registration_id().as_str());
        Self { csr: csr_len(registration), payload: payload_len(registration), ..sizes }
    }

    const fn with_lens(id_scope: usize, registration_id: Len) -> Self {
        Self {
            id_scope,
            registration_id,
            authority: Endpoint::GLOBAL.host().len(),
            api_version: API_VERSION.len(),
            operation_id: MAX_OPERATION_ID,
            tpm: None,
            csr: None,
            payload: None,
            device_id: registration_id,
            assigned_hub: 75,
            hub_host: 75,
            enrollment_group: 128,
            returned: 0,
            device_client_type: None,
        }
    }

    /// Sets the endpoint.
    pub const fn with_endpoint(mut self, endpoint: &Endpoint<'_>) -> Self {
        self.authority = endpoint.authority_len();
        self
    }

    /// Sets the length of the endpoint's host, including `:` and a port if it has one.
    pub const fn with_host(mut self, len: usize) -> Self {
        self.authority = len;
        self
    }

    /// Sets the `api-version`.
    pub const fn with_api_version(mut self, api_version: &str) -> Self {
        self.api_version = Len::of(api_version).encoded;
        self
    }

    /// Sets the length of the operation ID. Those of the service have about 55 characters.
    pub const fn with_operation_id(mut self, len: usize) -> Self {
        self.operation_id = len;
        self
    }

    /// Sets the length of the payload that the device sends.
    pub const fn with_payload(mut self, len: usize) -> Self {
        self.payload = Some(len);
        self
    }

    /// Sets the length of a certificate signing request, in DER.
    pub const fn with_csr(mut self, len: usize) -> Self {
        self.csr = Some(len);
        self
    }

    /// Sets the lengths of a TPM's public keys, 316 bytes each for RSA 2048.
    pub const fn with_tpm(mut self, endorsement_key: usize, storage_root_key: usize) -> Self {
        self.tpm = Some((endorsement_key, storage_root_key));
        self
    }

    /// Sets the device ID at the hub.
    pub const fn with_device_id(mut self, device_id: &str) -> Self {
        self.device_id = Len::of(device_id);
        self
    }

    /// Sets the hub: a host name with an optional `:` and port.
    pub const fn with_hub(mut self, assigned_hub: &str) -> Self {
        self.assigned_hub = assigned_hub.len();
        let mut host = assigned_hub.as_bytes();
        while let [name @ .., last] = host
            && last.is_ascii_digit()
        {
            host = name;
        }
        self.hub_host = match host {
            [name @ .., b':'] => name.len(),
            _ => self.assigned_hub,
        };
        self
    }

    /// Sets the length of the enrollment group's ID.
    pub const fn with_enrollment_group(mut self, len: usize) -> Self {
        self.enrollment_group = len;
        self
    }

    /// Sets the length of the optional parts of an answer. Add up those that apply:
    ///
    /// - the payload that the webhook returns;
    /// - about 800 bytes for X.509 attestation;
    /// - about 1 200 bytes for TPM attestation;
    /// - four thirds of the length of issued certificates.
    pub const fn with_returned_payload(mut self, len: usize) -> Self {
        self.returned = len;
        self
    }

    /// Sets the `DeviceClientType` of the hub's user name
    /// ([`Hub::with_device_client_type`](crate::after::Hub::with_device_client_type)).
    pub const fn with_device_client_type(mut self, device_client_type: &str) -> Self {
        self.device_client_type = Some(Len::of(device_client_type).encoded);
        self
    }

    /// Returns the size of the buffer of a transport over HTTP.
    ///
    /// This is the largest of [`http_register`](Self::http_register), [`http_poll`](Self::http_poll), the head
    /// of an answer (512 bytes) and [`answer`](Self::answer).
    pub const fn http(&self) -> usize {
        max(max(self.http_register(), self.http_poll()), max(ANSWER_HEAD, self.answer()))
    }

    /// Returns the size of a register request or a look-up, with a token, for
    /// [`http::write_request`](crate::http::write_request).
    pub const fn http_register(&self) -> usize {
        let body = self.body();
        self.http_head("PUT //registrations//register")
            + "Content-Type: application/json\r\nContent-Length: ".len()
            + digits(body)
            + "\r\n\r\n".len()
            + body
    }

    /// Returns the size of a poll, with a token, for [`http::write_request`](crate::http::write_request).
    pub const fn http_poll(&self) -> usize {
        self.http_head("GET //registrations//operations/") + self.operation_id + "\r\n".len()
    }

    const fn http_head(&self, target: &str) -> usize {
        target.len()
            + self.id_scope
            + self.registration_id.encoded
            + "?api-version=".len()
            + self.api_version
            + " HTTP/1.1\r\nHost: ".len()
            + self.authority
            + "\r\nUser-Agent: ".len()
            + USER_AGENT.len()
            + "\r\nAccept: application/json\r\nAuthorization: ".len()
            + self.sas_token()
            + "\r\n".len()
    }

    /// Returns the size of the body of a register request, over HTTP and MQTT. The service accepts at most
    /// [`MAX_BODY`](crate::provisioning::MAX_BODY) bytes.
    pub const fn body(&self) -> usize {
        body(self.registration_id.plain, self.tpm, self.csr, self.payload)
    }

    /// Returns the size of the token for DPS, for [`sas_token::write`](crate::identity::sas_token::write) and
    /// [`mqtt::write_password`](crate::mqtt::write_password).
    pub const fn sas_token(&self) -> usize {
        let resource = self.id_scope + "%2fregistrations%2f".len() + self.registration_id.encoded;
        SCHEME.len() + resource + SIGNED + "&skn=registration".len()
    }

    /// Returns the size of the MQTT user name, for [`mqtt::write_user_name`](crate::mqtt::write_user_name).
    pub const fn mqtt_user_name(&self) -> usize {
        "/registrations//api-version=&ClientVersion=azure-dps%2F".len()
            + env!("CARGO_PKG_VERSION").len()
            + self.id_scope
            + self.registration_id.plain
            + self.api_version
    }

    /// Returns the size of any MQTT request, for [`mqtt::write_publish`](crate::mqtt::write_publish): the larger
    /// of [`mqtt_register`](Self::mqtt_register) and [`mqtt_poll`](Self::mqtt_poll).
    pub const fn mqtt_publish(&self) -> usize {
        max(self.mqtt_register(), self.mqtt_poll())
    }

    /// Returns the size of a register request (topic and body), for
    /// [`mqtt::write_publish`](crate::mqtt::write_publish).
    pub const fn mqtt_register(&self) -> usize {
        "$dps/registrations/PUT/iotdps-register/?$rid=".len() + REQUEST_ID + self.body()
    }

    /// Returns the size of a poll, for [`mqtt::write_publish`](crate::mqtt::write_publish).
    pub const fn mqtt_poll(&self) -> usize {
        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=&operationId=".len() + REQUEST_ID + self.operation_id
    }

    /// Returns the size of the MQTT packet with an answer, for the buffer of the MQTT client.
    pub const fn mqtt_answer(&self) -> usize {
        MQTT_HEAD + ANSWER_TOPIC + self.answer()
    }

    /// Returns the size of the body of the last answer, over HTTP and MQTT, with the fields that the service is
    /// known to send.
    pub const fn answer(&self) -> usize {
        ANSWER
            + self.registration_id.plain
            + self.device_id.plain
            + self.assigned_hub
            + self.enrollment_group
            + self.returned
    }

    /// Returns the size of a [`Record`](crate::after::Record) of the assignment.
    pub const fn record(&self) -> usize {
        RECORD_OVERHEAD + self.answer()
    }

    /// Returns the size of the user name for the hub, for
    /// [`Hub::write_user_name`](crate::after::Hub::write_user_name) with the default api-version.
    pub const fn hub_user_name(&self) -> usize {
        let client_type = match self.device_client_type {
            Some(len) => "&DeviceClientType=".len() + len,
            None => 0,
        };
        "//?api-version=2021-04-12".len() + self.hub_host + self.device_id.plain + client_type
    }

    /// Returns the size of a token for the hub, for [`Hub::write_token`](crate::after::Hub::write_token).
    pub const fn hub_token(&self) -> usize {
        SCHEME.len() + self.hub_host + "%2Fdevices%2F".len() + self.device_id.encoded + SIGNED
    }

    /// Returns the size of the topic of telemetry, for
    /// [`Hub::write_telemetry_topic`](crate::after::Hub::write_telemetry_topic) without properties.
    pub const fn hub_telemetry_topic(&self) -> usize {
        "devices//messages/events/".len() + self.device_id.plain
    }

    /// Returns the size of a connection string with a key, for
    /// [`Hub::write_connection_string`](crate::after::Hub::write_connection_string).
    ///
    /// The size is sufficient for the longest key, which has 88 characters. A derived key has 44.
    pub const fn hub_connection_string(&self) -> usize {
        "HostName=;DeviceId=;SharedAccessKey=".len() + self.assigned_hub + self.device_id.plain + KEY
    }

    /// Returns the size of a connection string for X.509, for
    /// [`Hub::write_x509_connection_string`](crate::after::Hub::write_x509_connection_string).
    pub const fn hub_x509_connection_string(&self) -> usize {
        "HostName=;DeviceId=;x509=true".len() + self.assigned_hub + self.device_id.plain
    }
}

/// The length of a record without its registration state.
pub(crate) const RECORD_OVERHEAD: usize = 32;

/// The length of the part after the resource in every token.
const SIGNED: usize = "&sig=&se=".len() + LONGEST_SIGNATURE + EXPIRY;

/// Returns the length of the body of a register request, from the lengths of its parts.
#[inline]
pub(crate) const fn body(
    registration_id: usize,
    tpm: Option<(usize, usize)>,
    csr: Option<usize>,
    payload: Option<usize>,
) -> usize {
    let mut len = r#"{"registrationId":""}"#.len() + registration_id;
    if let Some((endorsement_key, storage_root_key)) = tpm {
        let keys = base64(endorsement_key) + base64(storage_root_key);
        len += r#","tpm":{"endorsementKey":"","storageRootKey":""}"#.len() + keys;
    }
    if let Some(csr) = csr {
        len += r#","csr":"""#.len() + base64(csr);
    }
    if let Some(payload) = payload {
        len += r#","payload":"#.len() + payload;
    }
    len
}

const fn base64(len: usize) -> usize {
    len.div_ceil(3) * 4
}

pub(crate) const fn csr_len(registration: &Registration<'_>) -> Option<usize> {
    match registration.csr() {
        Some(csr) => Some(csr.der().len()),
        None => None,
    }
}

pub(crate) const fn payload_len(registration: &Registration<'_>) -> Option<usize> {
    match registration.payload() {
        Some(payload) => Some(payload.len()),
        None => None,
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a < b { b } else { a }
}
