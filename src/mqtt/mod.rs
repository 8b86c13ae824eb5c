//! Writes requests and reads answers of MQTT 3.1.1, without I/O.
//!
//! Use any MQTT client, with a TLS 1.2 stream to port [`PORT`] of the endpoint's host. Keep
//! [the driving contract](crate::Provisioning#the-driving-contract):
//!
//! ```
//! use azure_dps::{Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId};
//! use azure_dps::{mqtt, provisioning::Step};
//! use core::time::Duration;
//!
//! let mut key = DeviceKey::new();
//! key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
//! let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
//! let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
//!
//! let (now, unix_time) = (Duration::ZERO, 1_700_000_000);
//! let mut buffer = [0; 512];
//! provisioning.start(now, unix_time);
//! assert_eq!(provisioning.step(now), Step::Sign);
//! provisioning.sign_with(&mut key, &mut buffer)?;
//! assert_eq!(provisioning.step(now), Step::Send);
//!
//! // After each signature, or if there is no session: CONNECT with a clean session, then SUBSCRIBE.
//! assert_eq!(mqtt::client_id(&provisioning), "dev-1");
//! assert!(mqtt::write_user_name(&provisioning, &mut buffer)?.starts_with("0ne00002193/registrations/dev-1/"));
//! assert!(mqtt::write_password(&provisioning, &mut buffer)?.starts_with("SharedAccessSignature "));
//! mqtt::on_connack(&mut provisioning, now, 0);
//! assert_eq!(mqtt::SUBSCRIBE_FILTER, "$dps/registrations/res/#");
//!
//! // PUBLISH the request that is due, and pass in each message that arrives.
//! let publish = mqtt::write_publish(&mut provisioning, now, &mut buffer)?;
//! assert_eq!(publish.topic, "$dps/registrations/PUT/iotdps-register/?$rid=1");
//! assert_eq!(publish.body, br#"{"registrationId":"dev-1"}"#);
//! let topic = "$dps/registrations/res/202/?$rid=1&retry-after=3";
//! let body = br#"{"operationId":"4.d0a6","status":"assigning"}"#;
//! assert!(mqtt::on_message(&mut provisioning, now, topic, body));
//! assert_eq!(provisioning.step(now), Step::Wait(Duration::from_secs(3)));
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! - Publish and subscribe with QoS 0 or 1.
//! - Let the client ping about once a minute, because the service closes idle connections.
//! - The answer to a request is a message, not the PUBACK. If no message arrives until
//!   [`Provisioning::request_deadline`], close the session and call [`Provisioning::on_error`].
//!
//! Source: [MQTT support in DPS](https://learn.microsoft.com/azure/iot-dps/iot-dps-mqtt-support).

use core::time::Duration;

use crate::{
    error::{BufferTooSmall, Error, Malformed, ServiceError},
    provisioning::{Answer, Provisioning, Request},
    text::{
        json::{parse_seconds, parse_u32},
        writer::{Writer, text},
    },
};

/// The port of MQTT over TLS.
pub const PORT: u16 = 8883;

/// The topic filter of the answers. Subscribe to it before the first request.
pub const SUBSCRIBE_FILTER: &str = "$dps/registrations/res/#";

/// Returns the client identifier for CONNECT, which is the registration ID.
pub const fn client_id<'a>(provisioning: &Provisioning<'a>) -> &'a str {
    provisioning.registration().registration_id().as_str()
}

/// Writes the user name for CONNECT into `buffer`.
/// [`Sizes::mqtt_user_name`](crate::provisioning::Sizes::mqtt_user_name) bytes are sufficient.
///
/// # Errors
/// [`BufferTooSmall`] with the exact size.
pub fn write_user_name<'b>(provisioning: &Provisioning<'_>, buffer: &'b mut [u8]) -> Result<&'b str, BufferTooSmall> {
    let mut writer = Writer::new(buffer);
    writer.str(provisioning.registration().id_scope().as_str());
    writer.str("/registrations/");
    writer.str(client_id(provisioning));
    writer.str("/api-version=");
    writer.percent(provisioning.api_version().as_bytes());
    writer.str(concat!("&ClientVersion=azure-dps%2F", env!("CARGO_PKG_VERSION")));
    writer.finish().map(|user_name| text(user_name))
}

/// Writes the password for CONNECT, which is the token, into `buffer`.
/// [`Sizes::sas_token`](crate::provisioning::Sizes::sas_token) bytes are sufficient.
///
/// One password is enough for all requests of a session. For X.509 attestation, it is empty. After each
/// [`Step::Sign`](crate::provisioning::Step::Sign), there is a new token: close the session, and open a new one.
///
/// # Errors
/// Pass the error to [`Provisioning::on_error`].
/// - [`Error::BufferTooSmall`] with a size that is sufficient;
/// - [`Error::NotStarted`] before [`Provisioning::start`];
/// - [`Error::NotDue`] before the signature, or after the end of the run;
/// - [`Error::Unsupported`] for a TPM or a look-up.
pub fn write_password<'b>(provisioning: &Provisioning<'_>, buffer: &'b mut [u8]) -> Result<&'b str, Error> {
    provisioning.write_session_token(buffer)
}

/// Takes the return code of a CONNACK.
///
/// | code | effect |
/// |---|---|
/// | 0 | the run reports [`Progress::Connected`](crate::provisioning::Progress::Connected) |
/// | 3 | [`Error::Refused`] with the status 503: close the session. The run tries again |
/// | 4, 5 | [`Error::Refused`] with the status 401: close the session. The run tries the other key, or ends |
/// | any other | [`Error::Refused`] with the status 400: close the session. The run ends |
///
/// The service may accept an invalid token here, and reject it in the answer to the first request.
///
/// Source: [CONNACK](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html#_Toc398718035).
pub fn on_connack(provisioning: &mut Provisioning<'_>, now: Duration, return_code: u8) {
    let http_status = match return_code {
        0 => return provisioning.on_connected(),
        3 => 503,
        4 | 5 => 401,
        _ => 400,
    };
    provisioning.on_error(now, Error::Refused(ServiceError { http_status, code: None, tracking_id: None }));
}

/// A message for the MQTT client to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Publish<'b> {
    /// The topic.
    pub topic: &'b str,
    /// The payload of the message.
    pub body: &'b [u8],
}

/// Writes the topic and the body of the request that is due into `buffer`.
/// [`Sizes::mqtt_publish`](crate::provisioning::Sizes::mqtt_publish) bytes are sufficient.
///
/// # Errors
/// Pass the error to [`Provisioning::on_error`].
/// - [`Error::BufferTooSmall`] with the exact size;
/// - [`Error::NotDue`] if no request is due, or if a signature is due first;
/// - [`Error::NotStarted`] before [`Provisioning::start`];
/// - [`Error::Unsupported`] for a look-up.
pub fn write_publish<'b>(
    provisioning: &mut Provisioning<'_>,
    now: Duration,
    buffer: &'b mut [u8],
) -> Result<Publish<'b>, Error> {
    write(provisioning, now, buffer, None)
}

/// Writes a request as [`write_publish`] does, with a zero byte between topic and body. The buffer needs one byte
/// more.
///
/// Many MQTT clients in C need a topic that ends with a zero byte.
///
/// ```
/// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId, mqtt};
/// use core::time::Duration;
///
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::x509());
/// provisioning.start(Duration::ZERO, 0);
/// let mut buffer = [0xff; 128];
/// let publish = mqtt::write_publish_with_nul(&mut provisioning, Duration::ZERO, &mut buffer)?;
/// assert_eq!(publish.topic, "$dps/registrations/PUT/iotdps-register/?$rid=1");
/// assert_eq!(publish.body, br#"{"registrationId":"dev-1"}"#);
/// assert!(buffer.starts_with(b"$dps/registrations/PUT/iotdps-register/?$rid=1\0{"));
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// # Errors
/// See [`write_publish`].
pub fn write_publish_with_nul<'b>(
    provisioning: &mut Provisioning<'_>,
    now: Duration,
    buffer: &'b mut [u8],
) -> Result<Publish<'b>, Error> {
    write(provisioning, now, buffer, Some(0))
}

#[inline]
fn write<'b>(
    provisioning: &mut Provisioning<'_>,
    now: Duration,
    buffer: &'b mut [u8],
    after_topic: Option<u8>,
) -> Result<Publish<'b>, Error> {
    if provisioning.is_lookup() {
        return Err(Error::Unsupported);
    }
    let request_id = provisioning.begin_request(now)?;
    let mut writer = Writer::new(buffer);
    let request = provisioning.request();
    writer.str("$dps/registrations/");
    writer.str(match request {
        Request::Register => "PUT/iotdps-register/?$rid=",
        Request::Status { .. } => "GET/iotdps-get-operationstatus/?$rid=",
    });
    writer.decimal(request_id.into());
    if let Request::Status { operation_id } = request {
        writer.str("&operationId=");
        writer.percent(operation_id);
    }
    let topic = writer.len();
    if let Some(byte) = after_topic {
        writer.byte(byte);
    }
    if let Request::Register = request {
        provisioning.write_body(&mut writer);
    }
    let request = match writer.finish() {
        Ok(request) => request,
        Err(error) => {
            provisioning.on_request_unwritten();
            return Err(error.into());
        }
    };
    provisioning.on_request_written();
    let (topic, rest) = request.split_at_checked(topic).unwrap_or_default();
    Ok(Publish { topic: text(topic), body: rest.get(usize::from(after_topic.is_some())..).unwrap_or_default() })
}

/// Takes a message that arrived. Returns `true` if it is the answer to the current request.
///
/// Ignores messages with other topics, and late answers to earlier requests. If the message ends the run, read
/// [`Provisioning::result`] from `body`. If the service sends an invalid topic, the run ends with
/// [`Error::Malformed`].
///
/// Answers are matched by the number of the request. The number continues from run to run. Use a new session for
/// each [`Provisioning`], because a late answer to another one could have the same number.
pub fn on_message(provisioning: &mut Provisioning<'_>, now: Duration, topic: &str, body: &[u8]) -> bool {
    let Some(topic) = topic.strip_prefix("$dps/registrations/res/") else { return false };
    let (mut status, mut request_id, mut retry_after) = (None, None, None);
    let parts = topic.as_bytes().split(|byte| matches!(byte, b'/' | b'?' | b'&'));
    for (at, part) in parts.enumerate() {
        // The order of the parameters is not documented.
        if at == 0 {
            status = parse_u32(part);
        } else if let Some(value) = part.strip_prefix(b"$rid=") {
            request_id = parse_u32(value);
        } else if let Some(value) = part.strip_prefix(b"retry-after=") {
            retry_after = parse_seconds(value);
        }
    }
    if request_id.is_none() || request_id != provisioning.request_id().map(u32::from) {
        return false;
    }
    match status.and_then(|status| u16::try_from(status).ok()) {
        Some(status) => provisioning.on_answer(now, Answer::new(status, retry_after, body)),
        None => provisioning.on_error(now, Malformed::MqttTopic.into()),
    }
    true
}
