//! How a run can fail, and who must act.
//!
//! | | |
//! |---|---|
//! | [`Error`] | everything that can end a run, and every error of this crate's constructors |
//! | [`Fault`] | who must act: the program, the operator, the network, … |
//! | [`ServiceError`], [`ErrorCode`], [`TrackingId`] | the service's refusal: HTTP status, six-digit code, tracking ID |
//! | [`Malformed`] | what is wrong with an answer that DPS would not send |
//! | [`TransportError`] | why there is no answer |
//! | [`RecordError`] | why stored bytes are not a record of this device |

use core::fmt;

pub use crate::text::{BufferTooSmall, PayloadError};
use crate::{
    identity::{
        InvalidCsr, InvalidHub, InvalidIdentifier, InvalidKey, SignError, sas_token::TokenError, tpm::TpmError,
    },
    text::{json, writer::text},
};

/// Everything that can end a provisioning run, and every error of this crate's constructors.
///
/// An `Error` borrows nothing. The service's message stays in the caller's buffer.
/// [`Provisioning::details`](crate::Provisioning::details) reads it from there.
///
/// [`fault`](Self::fault) returns who must act:
///
/// ```
/// use azure_dps::{Error, error::Fault};
///
/// fn advice(error: &Error) -> &'static str {
///     match error.fault() {
///         Fault::Caller => "fix the program or its configuration",
///         Fault::Credential => "check the key, the ID scope and the clock",
///         Fault::Refused => "the operator must act",
///         Fault::Busy | Fault::Transport => "try again later",
///         Fault::Peer => "this is not DPS: check proxy, trusted roots and clock",
///         _ => "try again later",
///     }
/// }
/// # assert_eq!(advice(&Error::NotStarted), "fix the program or its configuration");
/// ```
///
/// `docs/errors.md` in the repository compares these errors with the tutorial's troubleshooting table
/// and with the C SDK's `PROV_DEVICE_RESULT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Error {
    /// An ID scope or a registration ID has a character or a length that the service does not accept.
    InvalidIdentifier(InvalidIdentifier),
    /// A symmetric key is not base64 of 16 to 64 bytes.
    InvalidKey(InvalidKey),
    /// The payload that the device sends is not one JSON object.
    InvalidPayload(json::JsonError),
    /// The endpoint is not `host`, `host:port`, or a URL `https://host:port`. `http://` is accepted for
    /// loopback addresses only.
    InvalidEndpoint,
    /// [`Provisioning::start`](crate::Provisioning::start) was not called.
    NotStarted,
    /// The run is not finished: [`Step::Finished`](crate::provisioning::Step::Finished) has not been returned.
    NotFinished,
    /// No request or signature is due. [`Step`](crate::provisioning::Step) says what is.
    NotDue,
    /// The buffer does not hold the last answer, from which the result is read.
    WrongBuffer,
    /// The signer failed, for example a secure element.
    Signer(SignError),
    /// A stored hub name or device ID is invalid.
    InvalidHub(InvalidHub),
    /// The stored bytes are not a record of this device.
    Record(RecordError),
    /// A returned payload or the properties of a twin do not fit the requested type.
    Payload(PayloadError),
    /// The TPM could not activate the key that the service encrypted for it. Another TPM was enrolled,
    /// or the TPM was cleared after the enrollment.
    Tpm(TpmError),
    /// The `csr` is not one PKCS #10 certificate request in DER.
    InvalidCsr,
    /// The transport does not support the request. TPM attestation and the status look-up need HTTP.
    /// [`https`](crate::https) supports neither client certificates nor a proxy.
    Unsupported,
    /// The caller's buffer is too small for a request or an answer.
    BufferTooSmall(BufferTooSmall),
    /// The request would be larger than the service accepts. Nothing was sent.
    RequestTooLarge(RequestTooLarge),
    /// The service refused a request: the HTTP status is not a success.
    Refused(ServiceError),
    /// The service accepted the request, and the registration ended with status `failed`.
    Failed(ServiceError),
    /// The enrollment is disabled.
    Disabled,
    /// The status look-up found a registration without a hub. Either the registration is still in
    /// progress, or it has no assignment.
    Unassigned,
    /// An answer is not one that DPS or the hub sends.
    Malformed(Malformed),
    /// The run's time-out ([`RetryPolicy::with_timeout`](crate::RetryPolicy::with_timeout)) passed while
    /// the service was still assigning the device.
    StillAssigning,
    /// The run's time-out passed before the service answered. The driver was called too late, or one
    /// request took all the time.
    TimedOut,
    /// The service lost the operation twice in one run: it answered a poll with 404. After the first
    /// time, the run registers again.
    OperationLost(ServiceError),
    /// The server did not prove that it is the service. Its certificate is not trusted, has expired or
    /// is for another host, or the server supports no TLS version that this device supports.
    Untrusted,
    /// The proxy refused the connection to the service. It needs another user or password, or its rules
    /// do not allow this host. The service was not reached.
    ProxyRefused,
    /// The network failed, so there is no answer.
    Transport(TransportError),
}

/// Who must act after an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Fault {
    /// This program, its configuration or its payload (400012, 413) is wrong. Fix it: a new run fails
    /// the same way.
    Caller,
    /// The service does not accept the credential, or the device's clock is wrong (401xxx, 403xxx). With
    /// two keys, the run has tried both.
    Credential,
    /// The service or the operator's webhook refused the device. The operator must act.
    Refused,
    /// The service is throttling, failing or slow. Try again later.
    Busy,
    /// The server is not DPS, for example a captive portal, a proxy or an attacker. Check the network, and
    /// the trusted roots and the clock of the device.
    Peer,
    /// The network failed. Try again later.
    Transport,
}

impl Error {
    /// Returns who must act.
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
            // The service accepted the device's credential. A refused credential here is the service's own,
            // for the hub or the webhook.
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

    /// Returns `true` if a new run may succeed later without a change. Within a run,
    /// [`RetryPolicy`](crate::RetryPolicy) controls the retries.
    pub fn is_retryable(&self) -> bool {
        matches!(self.fault(), Fault::Busy | Fault::Transport)
    }

    /// Returns the service's six-digit code, if the error has one.
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
            Error::InvalidPayload(error) => write!(f, "the payload is not a JSON object: {error}"),
            Error::InvalidEndpoint => f.write_str(
                "the endpoint must be host, host:port or an https:// URL of these; http:// is for loopback addresses only",
            ),
            Error::NotStarted => f.write_str("no provisioning run was started: call start() first"),
            Error::NotFinished => f.write_str("the provisioning run is not finished: drive it until Step::Finished"),
            Error::NotDue => f.write_str("no request is due: call step() first"),
            Error::WrongBuffer => f.write_str("the buffer no longer holds the last answer"),
            Error::Signer(error) => error.fmt(f),
            Error::InvalidHub(error) => error.fmt(f),
            Error::Record(error) => error.fmt(f),
            Error::Payload(error) => error.fmt(f),
            Error::Tpm(error) => error.fmt(f),
            Error::InvalidCsr => InvalidCsr.fmt(f),
            Error::Unsupported => f.write_str(
                "this transport cannot do that: TPM and status look-up need HTTP; client certificates and a proxy do not work with minreq",
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
                    // Not the device's credential: see `fault`.
                    Some(code) if refusal.fault() == Fault::Credential => {
                        write!(f, "{}, access was refused: check the service's access to the hub", code.value())
                    }
                    _ => refusal.fmt(f),
                }
            }
            Error::Disabled => f.write_str("the enrollment is disabled: the operator must enable it"),
            Error::Unassigned => f.write_str("the registration has no hub, or no hub yet"),
            Error::Malformed(malformed) => malformed.fmt(f),
            Error::StillAssigning => {
                f.write_str("the time-out of this run passed while the service was still assigning")
            }
            Error::TimedOut => f.write_str("the time-out of this run passed before the service answered"),
            Error::OperationLost(refusal) => {
                f.write_str("the service lost the operation of this registration")?;
                refusal.fmt_tracking_id(f)
            }
            Error::Untrusted => f.write_str(
                "the server did not prove that it is the service: check the roots, the host name and the clock",
            ),
            Error::ProxyRefused => f.write_str(
                "the proxy refused the connection to the service: check its user, password and rules",
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
/// Send a smaller payload. [`Provisioning::with_max_body`](crate::Provisioning::with_max_body) sets
/// another limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct RequestTooLarge {
    /// The length of the request's body in bytes: JSON with the payload, a `csr` and the keys of a TPM.
    pub size: usize,
    /// The largest body, in bytes.
    pub limit: usize,
}

impl core::error::Error for RequestTooLarge {}

impl fmt::Display for RequestTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, limit } = self;
        write!(f, "the request has {size} bytes, but the service accepts at most {limit}: send a smaller payload")
    }
}

/// The service's refusal.
///
/// [`Provisioning::details`](crate::Provisioning::details) returns the message that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct ServiceError {
    /// The HTTP status of the answer. Over MQTT, the status in the topic.
    pub http_status: u16,
    /// The six-digit code, if the answer has one.
    pub code: Option<ErrorCode>,
    /// The ID of the request for Microsoft's support, if the answer has one.
    pub tracking_id: Option<TrackingId>,
}

impl ServiceError {
    pub(crate) fn fault(&self) -> Fault {
        let code = self.code.map_or(0, ErrorCode::http_status);
        match (u32::from(self.http_status), code) {
            // A proxy or a captive portal requires a log-in.
            (407 | 511, _) => Fault::Peer,
            // These statuses are temporary, whatever the code says.
            (408 | 429 | 500.., _) | (_, 429 | 500..) => Fault::Busy,
            _ if self.code == Some(ErrorCode::CONCURRENT_REGISTRATION) => Fault::Busy,
            // The request that this device sends is wrong.
            (413, _) | (_, 413) => Fault::Caller,
            _ if self.code == Some(ErrorCode::DESERIALIZATION_ERROR) => Fault::Caller,
            (_, 401 | 403) | (401 | 403, 0) => Fault::Credential,
            // DPS sends no redirect and no informational status without a code.
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
/// Microsoft publishes no list of these codes. The constants are the codes that Microsoft's documents
/// and clients name. Any other code is kept as received.
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
    /// 400012, "Deserialization error.": the service cannot read the request. The caller writes the
    /// payload, so check the payload.
    pub const DESERIALIZATION_ERROR: Self = Self(400_012);
    /// 400207: the custom allocation webhook answered with an error or an invalid document.
    pub const CUSTOM_ALLOCATION_FAILED: Self = Self(400_207);
    /// 400208: the custom allocation webhook named no hub.
    pub const CUSTOM_ALLOCATION_IOT_HUB_NOT_SPECIFIED: Self = Self(400_208);
    /// 400209: the custom allocation webhook refused the service's function key.
    pub const CUSTOM_ALLOCATION_UNAUTHORIZED_ACCESS: Self = Self(400_209);
    /// 401000: the key is wrong, the token has expired, or the device's clock is wrong.
    pub const UNAUTHORIZED: Self = Self(401_000);
    /// 401002: the credential is refused. A certificate is unknown, expired or for another device. Over
    /// HTTP the service also answers 401002 to a wrong key, instead of 401000.
    pub const CREDENTIAL_REFUSED: Self = Self(401_002);
    /// 404201: no enrollment for this device.
    pub const ENROLLMENT_NOT_FOUND: Self = Self(404_201);
    /// 404202: not found. Microsoft does not document what was not found.
    pub const NOT_FOUND: Self = Self(404_202);
    /// 409203: the service is still processing an earlier register request of this device. The run
    /// retries until its time-out.
    pub const CONCURRENT_REGISTRATION: Self = Self(409_203);
    /// 429001: throttled. The run retries until its time-out.
    pub const THROTTLED: Self = Self(429_001);

    /// Returns the number.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Returns the HTTP status in the code: its first three digits.
    pub const fn http_status(self) -> u32 {
        self.0 / 1000
    }

    /// Returns what the code means and what to do. `None` if the code is not one of the constants.
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
            Self::CONCURRENT_REGISTRATION => "another registration of this device is in progress",
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

/// The GUID with which Microsoft's support finds a request.
///
/// It takes 16 bytes. A tracking ID that is not a GUID stays in the buffer:
/// [`Provisioning::details`](crate::Provisioning::details) returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct TrackingId([u8; 16]);

impl TrackingId {
    /// Reads `8-4-4-4-12` hex digits of either case.
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

    /// Returns the text in lower case, without `core::fmt`.
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

/// What is wrong with an answer that DPS or the hub would not send: a truncated or contradictory
/// document, or an answer from another kind of server.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Malformed {
    /// The HTTP head is invalid, or gives two different lengths of the body.
    HttpHead,
    /// More header lines than [`http::MAX_HEADERS`](crate::http::MAX_HEADERS).
    TooManyHeaders,
    /// A chunked body is invalid.
    HttpChunk,
    /// The topic of a message is one of the service's, but its status is not a number.
    MqttTopic,
    /// The body is not valid JSON.
    Json(json::JsonError),
    /// A required field is missing.
    Missing(&'static str),
    /// A field has the wrong type or an invalid value.
    Invalid(&'static str),
    /// A field occurs twice.
    Duplicate(&'static str),
    /// Two fields of the document contradict each other, or the document contradicts the request.
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
            Malformed::Invalid(field) => write!(f, "`{field}` has an invalid value"),
            Malformed::Duplicate(field) => write!(f, "`{field}` occurs twice"),
            Malformed::Contradiction(field) => write!(f, "`{field}` contradicts another field or the request"),
        }
    }
}

/// Why there is no answer. The transport's error type also has the stream's own error, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum TransportError {
    /// The connection failed.
    Connect,
    /// Reading or writing failed.
    Stream,
    /// The peer closed or reset the connection before the answer was complete.
    Closed,
    /// The answer was not complete within
    /// [`RetryPolicy::with_request_timeout`](crate::RetryPolicy::with_request_timeout).
    Stalled,
}

impl core::error::Error for TransportError {}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransportError::Connect => "cannot connect to the service",
            TransportError::Stream => "the connection to the service failed",
            TransportError::Closed => "the connection was closed before the answer was complete",
            TransportError::Stalled => "the service did not answer in time",
        })
    }
}

/// Why the stored bytes are not a record of this device. The device can go on without a record:
/// [`Reprovisioning`](crate::after::Reprovisioning) asks the service again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum RecordError {
    /// There is no record: erased flash, an empty file or other data.
    Absent,
    /// The record is incomplete or damaged, or longer than the given bytes.
    Torn {
        /// The flags. If they were not written, the byte in their place.
        flags: u8,
    },
    /// The record is complete, but has another layout or unknown flags: an older or a newer firmware
    /// wrote it.
    Layout {
        /// The version of the layout.
        version: u8,
        /// The flags.
        flags: u8,
    },
    /// The record is complete, but for another registration ID or ID scope. It was copied from another
    /// device, or this device's IDs have changed.
    Foreign,
    /// The record is complete and of this device, but its content cannot come from the service.
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
            RecordError::Torn { .. } => f.write_str("the record is incomplete or damaged"),
            RecordError::Foreign => f.write_str("the record is for another registration ID or ID scope"),
            RecordError::Impossible(malformed) => write!(f, "the record is complete, but {malformed}"),
        }
    }
}
