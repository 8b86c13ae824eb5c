//! How a run can end, and who is at fault.

use core::fmt;

pub use crate::text::{BufferTooSmall, PayloadError};
use crate::{
    identity::{
        InvalidCsr, InvalidHub, InvalidIdentifier, InvalidKey, SignError, sas_token::TokenError, tpm::TpmError,
    },
    text::{json, writer::text},
};

/// Everything that can end a provisioning run, and every refusal of this crate's
/// constructors.
///
/// An `Error` borrows nothing. What the service said in words stays in the caller's buffer
/// and is read from there with [`Provisioning::details`](crate::Provisioning::details).
///
/// Who is at fault, and whether to try again, is one `match` away:
///
/// ```
/// use azure_dps::{Error, error::Fault};
///
/// fn next_boot(error: &Error) -> &'static str {
///     match error.fault() {
///         Fault::Busy | Fault::Transport => "try again later",
///         Fault::Credential => "check the key and the clock",
///         Fault::Refused => "call the operator",
///         Fault::Caller => "fix the firmware or its configuration",
///         Fault::Peer => "that was not DPS: look for a proxy in between",
///         _ => "try again later",
///     }
/// }
/// # assert_eq!(next_boot(&Error::NotStarted), "fix the firmware or its configuration");
/// ```
///
/// # Beside the C SDK's results
///
/// The tutorial's [troubleshooting table] and what its C SDK reports, beside what this
/// crate reports:
///
/// | What happened | `PROV_DEVICE_RESULT_…` | Here |
/// |---|---|---|
/// | the webhook answered 200 and a hub | `OK` | `Ok(Assignment)` |
/// | 200, but the hub is empty or null (400208) | `HUB_NOT_SPECIFIED` | [`Error::Failed`] with [`ErrorCode::CUSTOM_ALLOCATION_IOT_HUB_NOT_SPECIFIED`] |
/// | the webhook answered 401 (400209) | `UNAUTHORIZED` | [`Error::Failed`] with [`ErrorCode::CUSTOM_ALLOCATION_UNAUTHORIZED_ACCESS`] |
/// | the individual enrollment is disabled | `DISABLED` | [`Error::Disabled`] |
/// | the webhook answered ≥ 429: the service retries | (none: it polls on) | polls on |
/// | the webhook answered anything else (400207) | `DEV_AUTH_ERROR` | [`Error::Failed`] with [`ErrorCode::CUSTOM_ALLOCATION_FAILED`] |
/// | wrong key, expired token (401000, 401002) | `DEV_AUTH_ERROR` | [`Error::Refused`] with [`ErrorCode::UNAUTHORIZED`] or [`ErrorCode::CREDENTIAL_REFUSED`] |
/// | no such enrollment (404201) | HTTP: `TRANSPORT`; MQTT: `DEV_AUTH_ERROR` | [`Error::Refused`] or [`Error::Failed`] with [`ErrorCode::ENROLLMENT_NOT_FOUND`] |
/// | the request is too large (413) | HTTP: `TRANSPORT`; MQTT: `DEV_AUTH_ERROR` | [`Error::RequestTooLarge`], before anything is sent |
/// | any other 4xx | HTTP: `TRANSPORT`; MQTT: `DEV_AUTH_ERROR` | [`Error::Refused`] |
/// | throttled (429001) | (retried without end) | retried, then [`Error::Refused`] with [`ErrorCode::THROTTLED`] |
/// | the server's certificate is not trusted | `TRANSPORT` | [`Error::Untrusted`] |
/// | the network failed | `TRANSPORT` | [`Error::Transport`] |
/// | no answer in time | `TIMEOUT`, and the handle is dead | [`Error::StillAssigning`], or the last failure; call [`Provisioning::start`](crate::Provisioning::start) again |
/// | a field is missing | `PARSING` | [`Error::Malformed`] |
/// | the answer is not JSON | `TRANSPORT` | [`Error::Malformed`] |
/// | the answer is empty or cut short | `TRANSPORT` | retried, then [`Error::Transport`] |
/// | a status that the client does not know | `DEV_AUTH_ERROR` | polls on |
/// | the key is not base64 | (sent, then 401) `DEV_AUTH_ERROR` | [`Error::InvalidKey`] |
/// | the signer or the TPM fails | `KEY_ERROR` for a TPM | [`Error::Signer`], [`Error::Tpm`] |
///
/// [troubleshooting table]: https://learn.microsoft.com/azure/iot-dps/tutorial-custom-allocation-policies#troubleshooting-custom-allocation-policies
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Error {
    /// An ID scope or registration ID breaks the service's grammar.
    InvalidIdentifier(InvalidIdentifier),
    /// A symmetric key is not base64 of 16 to 64 bytes.
    InvalidKey(InvalidKey),
    /// The device's own payload is not one JSON object.
    InvalidPayload(json::JsonError),
    /// The endpoint is not `host`, `host:port` or an `http(s)` URL of these.
    InvalidEndpoint,
    /// A result was asked of a [`Provisioning`](crate::Provisioning) that was never started.
    NotStarted,
    /// A result was asked before [`Step::Finished`](crate::provisioning::Step::Finished).
    NotFinished,
    /// A request was to be written although none is due: [`Step`](crate::provisioning::Step) says when.
    NotDue,
    /// The buffer that a result was to be read from does not hold the last answer.
    WrongBuffer,
    /// The signer (a secure element, say) could not sign.
    Signer(SignError),
    /// A hub or device ID that was kept somewhere breaks the grammar.
    InvalidHub(InvalidHub),
    /// Bytes that were kept are no record of this device.
    Record(RecordError),
    /// A returned payload, or a twin's properties, do not fit the type that they were to be read into.
    Payload(PayloadError),
    /// The TPM could not activate the key that the service encrypted for it: it is not the one
    /// that was enrolled, or it was cleared since.
    Tpm(TpmError),
    /// A request for a certificate is not one PKCS #10 document in DER.
    InvalidCsr,
    /// The transport cannot do what was asked of it: TPM attestation and the status look-up
    /// exist over HTTP alone, and minreq presents no client certificates and uses no proxy.
    Unsupported,
    /// The caller's buffer cannot hold a request or an answer.
    BufferTooSmall(BufferTooSmall),
    /// The request would be larger than the service accepts. Nothing was sent.
    RequestTooLarge(RequestTooLarge),
    /// The service refused a request: an HTTP status of 400 or more, or anything else that
    /// is not a success.
    Refused(ServiceError),
    /// The service accepted the request and the registration ended with status `failed`.
    Failed(ServiceError),
    /// The enrollment is disabled.
    Disabled,
    /// A status look-up found a registration that has no hub, or has none yet.
    Unassigned,
    /// An answer is not what DPS, or the hub, sends.
    Malformed(Malformed),
    /// The service answered that it is still assigning the device, until the run's time
    /// ([`RetryPolicy::with_timeout`](crate::RetryPolicy::with_timeout)) was used up.
    StillAssigning,
    /// The run's time was used up before the service had answered anything: the driver was
    /// called too late, or a request took all the time.
    TimedOut,
    /// The service has lost the operation that it made of the registration, twice in one run: a
    /// poll was answered with 404. After the first time the run registers again.
    OperationLost(ServiceError),
    /// The other side of a connection could not prove that it is the service: its
    /// certificate is not trusted, has expired, or is for another host; or it speaks no TLS
    /// that this device speaks.
    Untrusted,
    /// A proxy on the way to the service refuses this device: it wants another user or password, or does
    /// not open tunnels to this host. The service was not reached.
    ProxyRefused,
    /// No answer could be had from the network.
    Transport(TransportError),
}

/// Whose move it is after an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Fault {
    /// This program or its configuration, or the payload that it sends (400012, 413): final until
    /// somebody changes it.
    Caller,
    /// The credential or the device's clock (401xxx, 403xxx): final with this key; a device
    /// that holds a secondary key tries that one.
    Credential,
    /// The service or the operator's webhook said no: final until the operator acts.
    Refused,
    /// The service is throttling, failing or slow: try again later.
    Busy,
    /// The other side is not DPS (a captive portal, a proxy, an impostor): final until the
    /// network changes, or the roots and the clock by which it is judged.
    Peer,
    /// The network: try again later.
    Transport,
}

impl Error {
    /// Whose move it is.
    pub fn fault(&self) -> Fault {
        match self {
            Error::InvalidIdentifier(_)
            | Error::InvalidKey(_)
            | Error::InvalidPayload(_)
            | Error::InvalidEndpoint
            | Error::NotStarted
            | Error::NotFinished
            | Error::NotDue
            | Error::WrongBuffer
            | Error::Signer(_)
            | Error::InvalidHub(_)
            | Error::Record(_)
            | Error::Payload(_)
            | Error::InvalidCsr
            | Error::Unsupported
            | Error::BufferTooSmall(_)
            | Error::RequestTooLarge(_)
            | Error::ProxyRefused => Fault::Caller,
            Error::Refused(refusal) => refusal.fault(),
            // The service took the device's credential; whose else it refused is the
            // operator's affair.
            Error::Failed(refusal) => match refusal.fault() {
                Fault::Credential => Fault::Refused,
                fault => fault,
            },
            Error::Tpm(_) => Fault::Credential,
            Error::Disabled | Error::Unassigned => Fault::Refused,
            Error::Malformed(_) | Error::Untrusted => Fault::Peer,
            Error::StillAssigning | Error::OperationLost(_) => Fault::Busy,
            Error::TimedOut | Error::Transport(_) => Fault::Transport,
        }
    }

    /// Returns `true` if a new run may succeed later, although nobody changes anything. (Within a
    /// run, [`RetryPolicy`](crate::RetryPolicy) says what is repeated.)
    pub fn is_retryable(&self) -> bool {
        matches!(self.fault(), Fault::Busy | Fault::Transport)
    }

    /// The service's six-digit code, from whichever of the two places it arrived in.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Refused(refusal) | Error::Failed(refusal) | Error::OperationLost(refusal) => refusal.code,
            _ => None,
        }
    }
}

impl core::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidIdentifier(error) => error.fmt(f),
            Error::InvalidKey(error) => error.fmt(f),
            Error::InvalidPayload(error) => write!(f, "the payload is not one JSON object: {error}"),
            Error::InvalidEndpoint => f.write_str(
                "the endpoint must be a host name with an optional port, or an https:// URL of these; http:// is for loopback only",
            ),
            Error::NotStarted => f.write_str("no provisioning run was started: call start() first"),
            Error::NotFinished => f.write_str("the provisioning run is still under way: drive it until Step::Finished"),
            Error::NotDue => f.write_str("no request is due: ask step() first"),
            Error::WrongBuffer => f.write_str("the buffer does not hold the last answer any more"),
            Error::Signer(error) => error.fmt(f),
            Error::InvalidHub(error) => error.fmt(f),
            Error::Record(error) => error.fmt(f),
            Error::Payload(error) => error.fmt(f),
            Error::Tpm(error) => error.fmt(f),
            Error::InvalidCsr => InvalidCsr.fmt(f),
            Error::Unsupported => f.write_str(
                "this transport cannot do that: TPM and status look-up need HTTP, client certificates and a proxy any transport but minreq",
            ),
            Error::BufferTooSmall(error) => error.fmt(f),
            Error::RequestTooLarge(error) => error.fmt(f),
            Error::Refused(refusal) => {
                write!(f, "the service refused the request: ")?;
                refusal.fmt(f)
            }
            Error::Failed(refusal) => {
                f.write_str("the registration failed: ")?;
                match refusal.code {
                    // The service took the device's credential before.
                    Some(code) if refusal.fault() == Fault::Credential => {
                        write!(f, "{}, access was refused: check the service's access to the hub", code.value())
                    }
                    _ => refusal.fmt(f),
                }
            }
            Error::Disabled => f.write_str("the enrollment is disabled: the operator must enable it"),
            Error::Unassigned => f.write_str("the registration has no hub, or has none yet"),
            Error::Malformed(malformed) => malformed.fmt(f),
            Error::StillAssigning => {
                f.write_str("the service was still assigning when the time for this run was used up")
            }
            Error::TimedOut => f.write_str("the time for this run was used up before the service answered"),
            Error::OperationLost(refusal) => {
                f.write_str("the service lost the operation that it made of this registration")?;
                refusal.fmt_tracking_id(f)
            }
            Error::Untrusted => f.write_str(
                "the server did not prove that it is the service: check the roots, the host name and the clock",
            ),
            Error::ProxyRefused => f.write_str(
                "the proxy on the way to the service refuses this device: check its user, password and rules",
            ),
            Error::Transport(fault) => fault.fmt(f),
        }
    }
}

impl From<InvalidIdentifier> for Error {
    fn from(error: InvalidIdentifier) -> Self {
        Error::InvalidIdentifier(error)
    }
}

impl From<InvalidKey> for Error {
    fn from(error: InvalidKey) -> Self {
        Error::InvalidKey(error)
    }
}

impl From<SignError> for Error {
    fn from(error: SignError) -> Self {
        Error::Signer(error)
    }
}

impl From<TpmError> for Error {
    fn from(error: TpmError) -> Self {
        match error {
            TpmError::BufferTooSmall(error) => Error::BufferTooSmall(error),
            error => Error::Tpm(error),
        }
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Signer(error) => Error::Signer(error),
            TokenError::BufferTooSmall(error) => Error::BufferTooSmall(error),
        }
    }
}

impl From<InvalidCsr> for Error {
    fn from(InvalidCsr: InvalidCsr) -> Self {
        Error::InvalidCsr
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        Error::Record(error)
    }
}

impl From<PayloadError> for Error {
    fn from(error: PayloadError) -> Self {
        Error::Payload(error)
    }
}

impl From<RequestTooLarge> for Error {
    fn from(error: RequestTooLarge) -> Self {
        Error::RequestTooLarge(error)
    }
}

impl From<InvalidHub> for Error {
    fn from(error: InvalidHub) -> Self {
        Error::InvalidHub(error)
    }
}

impl From<TransportError> for Error {
    fn from(fault: TransportError) -> Self {
        Error::Transport(fault)
    }
}

impl From<BufferTooSmall> for Error {
    fn from(error: BufferTooSmall) -> Self {
        Error::BufferTooSmall(error)
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Error::Malformed(malformed)
    }
}

/// A request whose body is larger than the service accepts. Nothing was sent.
///
/// The payload is what makes a request large: send a smaller one.
/// [`Provisioning::with_max_body`](crate::Provisioning::with_max_body) sets another limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct RequestTooLarge {
    /// The length of the request's body in bytes: JSON with the payload, a `csr` and a TPM's keys.
    pub size: usize,
    /// The most bytes that a body may have.
    pub limit: usize,
}

impl core::error::Error for RequestTooLarge {}

impl fmt::Display for RequestTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, limit } = self;
        write!(f, "the request has {size} bytes, and the service accepts {limit}: send a smaller payload")
    }
}

/// What the service says when it says no.
///
/// The words that came with it are read with
/// [`Provisioning::details`](crate::Provisioning::details).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct ServiceError {
    /// The HTTP status of the answer (over MQTT, the status in the topic).
    pub http_status: u16,
    /// The six-digit code, where the answer has one.
    pub code: Option<ErrorCode>,
    /// What Microsoft's support asks for, where the answer has one.
    pub tracking_id: Option<TrackingId>,
}

impl ServiceError {
    pub(crate) fn fault(&self) -> Fault {
        let code = self.code.map_or(0, ErrorCode::http_status);
        match (u32::from(self.http_status), code) {
            // A proxy, or a captive portal, wants a log-in of its own.
            (407 | 511, _) => Fault::Peer,
            // Whatever the code says, these statuses ask for patience.
            (408 | 429 | 500.., _) | (_, 429 | 500..) => Fault::Busy,
            _ if self.code == Some(ErrorCode::CONCURRENT_REGISTRATION) => Fault::Busy,
            // The request itself is at fault: what this device sends.
            (413, _) | (_, 413) => Fault::Caller,
            _ if self.code == Some(ErrorCode::DESERIALIZATION_ERROR) => Fault::Caller,
            (_, 401 | 403) | (401 | 403, 0) => Fault::Credential,
            // A redirect or another oddity without a code never comes from DPS.
            (0..=199 | 300..=399, 0) => Fault::Peer,
            _ => Fault::Refused,
        }
    }

    fn fmt_tracking_id(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tracking_id {
            Some(tracking_id) => write!(f, " (tracking ID {tracking_id})"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for ServiceError {}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => code.fmt(f)?,
            None => write!(f, "HTTP status {}", self.http_status)?,
        }
        if self.http_status == 413 {
            f.write_str(", the request is too large: send a smaller payload")?;
        }
        self.fmt_tracking_id(f)
    }
}

/// A six-digit DPS error code: the HTTP status times 1000, plus a number.
///
/// Microsoft publishes no list of them. The constants are those that its documents and
/// clients name; any other code is kept as it came.
///
/// ```
/// use azure_dps::error::ErrorCode;
///
/// let code = ErrorCode::from(400207);
/// assert_eq!(code, ErrorCode::CUSTOM_ALLOCATION_FAILED);
/// assert_eq!(code.http_status(), 400);
/// assert_eq!(ErrorCode::from(418001).meaning(), None);
/// ```
///
/// Source: [troubleshooting DPS](https://learn.microsoft.com/azure/iot-dps/how-to-troubleshoot-dps).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct ErrorCode(u32);

impl ErrorCode {
    /// 400004: the service does not accept this registration ID.
    pub const INVALID_REGISTRATION_ID: Self = Self(400_004);
    /// 400012, "Deserialization error.": the service cannot read the request. The payload is the
    /// part of it that the caller writes.
    pub const DESERIALIZATION_ERROR: Self = Self(400_012);
    /// 400207: the custom allocation webhook answered with an error, or nonsense.
    pub const CUSTOM_ALLOCATION_FAILED: Self = Self(400_207);
    /// 400208: the custom allocation webhook named no hub.
    pub const CUSTOM_ALLOCATION_IOT_HUB_NOT_SPECIFIED: Self = Self(400_208);
    /// 400209: the custom allocation webhook refused the service's function key.
    pub const CUSTOM_ALLOCATION_UNAUTHORIZED_ACCESS: Self = Self(400_209);
    /// 401000: wrong key, expired token, or a device clock that is off.
    pub const UNAUTHORIZED: Self = Self(401_000);
    /// 401002: the credential is refused. Of a certificate: it is unknown, expired or for another
    /// device. Over HTTP the service says the same of a key, in place of 401000.
    pub const CREDENTIAL_REFUSED: Self = Self(401_002);
    /// 404201: no enrollment for this device.
    pub const ENROLLMENT_NOT_FOUND: Self = Self(404_201);
    /// 404202: not found; what exactly is not documented.
    pub const NOT_FOUND: Self = Self(404_202);
    /// 409203: the service is still working on an earlier register request of this device.
    /// Retried until the run's time is used up.
    pub const CONCURRENT_REGISTRATION: Self = Self(409_203);
    /// 429001: throttled. Retried until the run's time is used up.
    pub const THROTTLED: Self = Self(429_001);

    /// The number itself.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The HTTP status that the code stands for: its first three digits.
    pub const fn http_status(self) -> u32 {
        self.0 / 1000
    }

    /// What the code means and what to do, for the codes that are known.
    pub const fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::INVALID_REGISTRATION_ID => "invalid registration ID: use lower case, at most 128 characters",
            Self::CUSTOM_ALLOCATION_FAILED => "the custom allocation webhook failed: see the webhook's log",
            Self::CUSTOM_ALLOCATION_IOT_HUB_NOT_SPECIFIED => "the custom allocation webhook named no IoT hub",
            Self::CUSTOM_ALLOCATION_UNAUTHORIZED_ACCESS => {
                "the custom allocation webhook refused the service: check the function key in its URL"
            }
            Self::DESERIALIZATION_ERROR => "the service cannot read the request: check the payload",
            Self::UNAUTHORIZED | Self::CREDENTIAL_REFUSED => {
                "the credential was refused: check the key or certificate, the ID scope, the registration ID and the clock"
            }
            Self::ENROLLMENT_NOT_FOUND => "no enrollment for this device: check the ID scope and the enrollments",
            Self::NOT_FOUND => "not found",
            Self::CONCURRENT_REGISTRATION => "another registration of this device is under way",
            Self::THROTTLED => "throttled: try again later",
            _ => return None,
        })
    }
}

impl From<u32> for ErrorCode {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some(meaning) => write!(f, "{}, {meaning}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The GUID by which Microsoft's support finds a request.
///
/// It is kept as 16 bytes; a tracking ID of another form stays readable in the buffer,
/// through [`Provisioning::details`](crate::Provisioning::details).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct TrackingId([u8; 16]);

impl TrackingId {
    /// Reads the usual form, `8-4-4-4-12` hex digits of either case.
    ///
    /// ```
    /// use azure_dps::error::TrackingId;
    ///
    /// let id = TrackingId::parse("6d75a1fe-0129-4f41-844b-C253A6653D4F").unwrap();
    /// assert_eq!(id.to_string(), "6d75a1fe-0129-4f41-844b-c253a6653d4f");
    /// assert_eq!(TrackingId::parse(""), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text.as_bytes())
    }

    /// Returns the usual form in lower case, without the formatting of `core`.
    ///
    /// ```
    /// use azure_dps::error::TrackingId;
    ///
    /// let id = TrackingId::parse("6d75a1fe-0129-4f41-844b-c253a6653d4f").unwrap();
    /// assert_eq!(&id.to_ascii(), b"6d75a1fe-0129-4f41-844b-c253a6653d4f");
    /// ```
    pub fn to_ascii(&self) -> [u8; 36] {
        let mut text = [b'-'; 36];
        let mut slots = text.iter_mut();
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                slots.next();
            }
            for digit in [byte >> 4, byte & 15] {
                if let Some(slot) = slots.next() {
                    *slot = digit + if digit < 10 { b'0' } else { b'a' - 10 };
                }
            }
        }
        text
    }

    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut rest = text.iter();
        for (at, byte) in bytes.iter_mut().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) && *rest.next()? != b'-' {
                return None;
            }
            for _ in 0..2 {
                *byte = *byte << 4 | json::hex_digit(*rest.next()?)?;
            }
        }
        rest.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for TrackingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.to_ascii()))
    }
}

/// An answer that is not what DPS, or the hub, sends: a truncated or contradictory document, or
/// something else that speaks HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Malformed {
    /// The HTTP head breaks the grammar, or frames its body in two ways at once.
    HttpHead,
    /// More header lines than [`http::MAX_HEADERS`](crate::http::MAX_HEADERS).
    TooManyHeaders,
    /// A chunked body breaks the grammar.
    HttpChunk,
    /// The topic of a message is the service's, and its status is no number.
    MqttTopic,
    /// The body is not valid JSON.
    Json(json::JsonError),
    /// The document lacks a field that it must have here.
    Missing(&'static str),
    /// A field is of the wrong type, or its value is impossible.
    Invalid(&'static str),
    /// A field occurs twice.
    Duplicate(&'static str),
    /// Two fields of the document, or the document and what was asked, contradict each
    /// other.
    Contradiction(&'static str),
}

impl core::error::Error for Malformed {}

// See `crate::total`.
impl fmt::Debug for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::HttpHead => f.write_str("HttpHead"),
            Malformed::TooManyHeaders => f.write_str("TooManyHeaders"),
            Malformed::HttpChunk => f.write_str("HttpChunk"),
            Malformed::MqttTopic => f.write_str("MqttTopic"),
            Malformed::Json(error) => f.debug_tuple("Json").field(error).finish(),
            Malformed::Missing(field) => write!(f, "Missing(\"{field}\")"),
            Malformed::Invalid(field) => write!(f, "Invalid(\"{field}\")"),
            Malformed::Duplicate(field) => write!(f, "Duplicate(\"{field}\")"),
            Malformed::Contradiction(field) => write!(f, "Contradiction(\"{field}\")"),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service's answer is invalid: ")?;
        match self {
            Malformed::HttpHead => f.write_str("its HTTP head is malformed"),
            Malformed::TooManyHeaders => f.write_str("it has too many header lines"),
            Malformed::MqttTopic => f.write_str("its MQTT topic has no status"),
            Malformed::HttpChunk => f.write_str("its chunked body is malformed"),
            Malformed::Json(error) => error.fmt(f),
            Malformed::Missing(field) => write!(f, "`{field}` is missing"),
            Malformed::Invalid(field) => write!(f, "`{field}` has an impossible value"),
            Malformed::Duplicate(field) => write!(f, "`{field}` occurs twice"),
            Malformed::Contradiction(field) => write!(f, "`{field}` contradicts the rest"),
        }
    }
}

/// Why no answer could be had from the network. The stream's own error, where there is
/// one, comes with the transport's error type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum TransportError {
    /// No connection could be made.
    Connect,
    /// Reading or writing failed.
    Stream,
    /// The peer closed or reset the connection before the answer was complete.
    Closed,
    /// The peer was silent, or trickled, for longer than
    /// [`RetryPolicy::with_request_timeout`](crate::RetryPolicy::with_request_timeout).
    Stalled,
}

impl core::error::Error for TransportError {}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransportError::Connect => "no connection to the service could be made",
            TransportError::Stream => "the connection to the service failed",
            TransportError::Closed => "the connection was closed before the answer was complete",
            TransportError::Stalled => "the service did not answer in time",
        })
    }
}

/// Why bytes are no record of this device. None of these is a fault: the device asks the
/// service where it belongs, as [`Reprovisioning`](crate::after::Reprovisioning) decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum RecordError {
    /// There is none: erased flash, an empty file, or something else altogether.
    Absent,
    /// It was not written to its end, has changed since, or is longer than the bytes that were
    /// given.
    Torn {
        /// The flags, if they were written; else whatever stands in their place.
        flags: u8,
    },
    /// It is whole, and of another version of the layout, or with flags that this one has not:
    /// by an older or a newer firmware.
    Layout {
        /// The version.
        version: u8,
        /// The flags.
        flags: u8,
    },
    /// It is whole, and for another registration ID or ID scope: it was copied from another
    /// device, or the device was given another identity.
    Foreign,
    /// It is whole and this device's own, and says what no answer of the service can say.
    Impossible(Malformed),
}

impl From<Malformed> for RecordError {
    fn from(malformed: Malformed) -> Self {
        RecordError::Impossible(malformed)
    }
}

impl core::error::Error for RecordError {}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Absent => f.write_str("there is no record of an assignment"),
            RecordError::Layout { version, flags } => {
                write!(f, "the record has layout {version} and flags {flags:#04x}, which this version cannot read")
            }
            RecordError::Torn { .. } => f.write_str("the record was not written to its end, or has changed since"),
            RecordError::Foreign => f.write_str("the record is for another registration ID or ID scope"),
            RecordError::Impossible(malformed) => write!(f, "the record is whole, but {malformed}"),
        }
    }
}
