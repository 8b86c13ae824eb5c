//! The device's twin at its hub, over MQTT 3.1.1: topics to use, and functions to read messages.
//!
//! Use any MQTT client. The twin has two parts:
//!
//! - The *desired* properties are settings that the operator writes. At first, they come from the enrollment or
//!   the webhook (`initialTwin`).
//! - The *reported* properties are written by the device.
//!
//! # How to drive it
//!
//! 1. **Connect** with the host, client ID, user name and password of [`Hub`](super::Hub).
//! 2. **Subscribe** to [`ANSWER_FILTER`] with QoS 0 or 1. If the device follows changes, subscribe to
//!    [`CHANGE_FILTER`] too. With a clean session, subscribe in each session. Without one, the hub keeps the
//!    subscriptions.
//! 3. **Get** the twin: publish an empty message to the topic of [`write_get_topic`].
//! 4. **Read** each message that arrives with [`read`]. An answer has the request ID of its request. Use a new
//!    request ID for each request, so that you can detect late answers.
//! 5. **Report** properties: publish a JSON object to the topic of [`write_report_topic`]. Its members replace
//!    those of the twin. `null` deletes a member. All other members stay.
//!
//! If no answer arrives within a minute, send the request again.
//!
//! ```
//! use azure_dps::after::twin::{self, Message, Order};
//!
//! let mut topic = [0; twin::TOPIC_LEN];
//! assert_eq!(twin::write_get_topic(1, &mut topic)?, "$iothub/twin/GET/?$rid=1");
//! // Publish an empty message to this topic. The hub answers:
//! let body = br#"{"desired":{"darknessSetting":"medium","$version":1},"reported":{"$version":1}}"#;
//! let Message::Twin(twin) = twin::read("$iothub/twin/res/200/?$rid=1", body)? else { panic!() };
//! assert_eq!(twin.request_id, 1);
//! assert!(twin.desired.get("darknessSetting").unwrap().text().unwrap() == "medium");
//! let mut known = twin.desired.version();
//!
//! // The device reports its state.
//! let topic = twin::write_report_topic(2, &mut topic)?;
//! assert_eq!(topic, "$iothub/twin/PATCH/properties/reported/?$rid=2");
//! // Publish `{"darknessSetting":"medium"}` to this topic. The hub answers:
//! let answer = twin::read("$iothub/twin/res/204/?$rid=2&$version=2", b"")?;
//! assert_eq!(answer, Message::Reported { request_id: 2, version: Some(2) });
//!
//! // Later, the operator changes a property.
//! let topic = "$iothub/twin/PATCH/properties/desired/?$version=2";
//! let Message::Change(patch) = twin::read(topic, br#"{"darknessSetting":null,"$version":2}"#)? else { panic!() };
//! match patch.order(known) {
//!     Order::Known => {}
//!     Order::Next => {
//!         known = patch.version();
//!         assert!(patch.get("darknessSetting").unwrap().is_null()); // deleted
//!     }
//!     Order::Gap => { /* get the twin again */ }
//! }
//! assert_eq!(known, 2);
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! # Versions
//!
//! Each change of the desired properties increases their version by one. [`Properties::order`] compares a
//! change with the version that the device has. Start with version 0. Store the version of each twin, and of
//! each change that you apply. After a move to another hub, start with 0 again.
//!
//! A hub sends changes to connected devices only. So get the twin in each session, after you have subscribed.
//!
//! If the operator replaces all desired properties at once, the change contains the new properties. It does not
//! name the properties that are gone. If this matters to your device, get the twin after each change.
//!
//! # Sizes
//!
//! | buffer | bytes |
//! |---|---|
//! | a topic that this module writes | [`TOPIC_LEN`] |
//! | the MQTT client's own buffer, for the answer with the twin | [`answer_len`] |
//!
//! IoT Hub allows 32 KB of desired and 32 KB of reported properties, so an answer may be longer than 64 KB. The
//! operator decides the length of the desired properties. If a message does not fit the client's buffer, skip
//! its payload and pass its length to [`read_skipped`]. The session continues.
//!
//! Sources: [using MQTT directly](https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub#retrieving-a-device-twins-properties),
//! [device twins](https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-device-twins).

mod properties;
mod refusal;

use core::fmt;

use crate::{
    error::{Error, Malformed},
    provisioning::Details,
    text::{
        BufferTooSmall,
        json::{Object, parse_u32},
        writer::{Writer, text},
    },
};

pub use properties::{Order, Properties};
pub use refusal::Refusal;

/// The topic filter for the answers of the hub. Subscribe to it before the first request.
pub const ANSWER_FILTER: &str = "$iothub/twin/res/#";

/// The topic filter for changes of the desired properties.
pub const CHANGE_FILTER: &str = "$iothub/twin/PATCH/properties/desired/#";

const ANSWER: &str = "$iothub/twin/res/";
const CHANGE: &str = "$iothub/twin/PATCH/properties/desired/";
const GET: &str = "$iothub/twin/GET/?$rid=";
const REPORT: &str = "$iothub/twin/PATCH/properties/reported/?$rid=";
/// The digits of a `u32`.
const REQUEST_ID: usize = 10;
/// The maximum number of digits of a version.
const VERSION: usize = 19;

/// The length of the longest topic that this module writes, in bytes.
pub const TOPIC_LEN: usize = REPORT.len() + REQUEST_ID;

/// Returns the length of the MQTT packet with the twin, for the buffer of the MQTT client.
///
/// `desired` and `reported` are the lengths of the two JSON objects, with their `$version`.
///
/// ```
/// use azure_dps::after::twin;
///
/// const DESIRED: usize = r#"{"darknessSetting":"medium","$version":4294967295}"#.len();
/// const REPORTED: usize = r#"{"firmware":"12.0.2.5","$version":4294967295}"#.len();
/// let mut buffer = [0; twin::answer_len(DESIRED, REPORTED)];
/// # let _ = &mut buffer;
/// ```
pub const fn answer_len(desired: usize, reported: usize) -> usize {
    // The fixed header, the length of the topic, and the packet identifier of QoS 1.
    let head = 5 + 2 + 2;
    let topic = "$iothub/twin/res/200/?$rid=&$version=".len() + REQUEST_ID + VERSION;
    head + topic + r#"{"desired":,"reported":}"#.len() + desired + reported
}

/// Writes the topic of a request for the twin into `buffer`. Publish an empty message to it.
///
/// # Errors
/// [`BufferTooSmall`] with the exact size. [`TOPIC_LEN`] is sufficient.
pub fn write_get_topic(request_id: u32, buffer: &mut [u8]) -> Result<&str, BufferTooSmall> {
    write_topic(GET, request_id, buffer)
}

/// Writes the topic of a report into `buffer`. Publish a JSON object with the reported properties to it.
///
/// # Errors
/// [`BufferTooSmall`] with the exact size. [`TOPIC_LEN`] is sufficient.
pub fn write_report_topic(request_id: u32, buffer: &mut [u8]) -> Result<&str, BufferTooSmall> {
    write_topic(REPORT, request_id, buffer)
}

fn write_topic<'b>(start: &str, request_id: u32, buffer: &'b mut [u8]) -> Result<&'b str, BufferTooSmall> {
    let mut writer = Writer::new(buffer);
    writer.str(start);
    writer.decimal(request_id.into());
    writer.finish().map(|topic| text(topic))
}

/// A message from the hub, as [`read`] returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Message<'b> {
    /// The answer to a request for the twin.
    Twin(Twin<'b>),
    /// The answer to a report that the hub accepted.
    Reported {
        /// The request ID of the report.
        request_id: u32,
        /// The new version of the reported properties, if the hub sends it.
        version: Option<u64>,
    },
    /// The answer to a request or a report that the hub rejected.
    Refused(Refusal<'b>),
    /// A change of the desired properties by the operator. `null` means that a property was deleted. An object
    /// contains changes of its members. Any other value is new.
    Change(Properties<'b>),
    /// A message with another topic, or an answer whose request ID is not a number. Another part of the program
    /// may use such IDs.
    Other,
}

/// The twin of a device: its desired and reported properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Twin<'b> {
    /// The ID of the request.
    pub request_id: u32,
    /// The properties that the operator has set.
    pub desired: Properties<'b>,
    /// The properties that the device has reported.
    pub reported: Properties<'b>,
}

/// The error for a message about the twin that cannot be read. The session can continue.
///
/// ```
/// use azure_dps::{Error, after::twin};
///
/// let cut = br#"{"desired":{"darknessSet"#;
/// let unreadable = twin::read("$iothub/twin/res/200/?$rid=7", cut).unwrap_err();
/// assert_eq!(unreadable.request_id, Some(7));
/// assert!(matches!(unreadable.error, Error::Malformed(_)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Unreadable {
    /// The ID of the request, if the message is an answer. `None` for a change.
    pub request_id: Option<u32>,
    /// The reason: [`Error::BufferTooSmall`] for a skipped payload, or [`Error::Malformed`].
    pub error: Error,
}

impl core::error::Error for Unreadable {}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message about the twin cannot be read: ")?;
        self.error.fmt(f)
    }
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        unreadable.error
    }
}

/// Reads a message from its topic and its payload. See the [module](self) for an example.
///
/// # Errors
/// [`Unreadable`] if the message is about the twin, but its topic or its payload is invalid.
pub fn read<'b>(topic: &str, payload: &'b [u8]) -> Result<Message<'b>, Unreadable> {
    read_message(topic, Ok(payload))
}

/// Reads a message from its topic, if its payload was skipped because it does not fit the client's buffer.
///
/// `len` is the length of the payload. Some messages need no payload:
///
/// ```
/// use azure_dps::{Error, after::twin::{self, Message}};
///
/// let accepted = twin::read_skipped("$iothub/twin/res/204/?$rid=8&$version=3", 2000)?;
/// assert_eq!(accepted, Message::Reported { request_id: 8, version: Some(3) });
///
/// let twin = twin::read_skipped("$iothub/twin/res/200/?$rid=7", 40_000).unwrap_err();
/// let Error::BufferTooSmall(error) = twin.error else { panic!() };
/// assert_eq!((twin.request_id, error.needed), (Some(7), 40_000));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Unreadable`] with [`Error::BufferTooSmall`] if the message is a twin or a change. The error has the length
/// of the payload, without the rest of the packet.
pub fn read_skipped(topic: &str, len: usize) -> Result<Message<'static>, Unreadable> {
    read_message(topic, Err(BufferTooSmall { needed: len, exact: true }))
}

fn read_message<'b>(topic: &str, payload: Result<&'b [u8], BufferTooSmall>) -> Result<Message<'b>, Unreadable> {
    let (end, is_answer) = match topic.strip_prefix(ANSWER) {
        Some(end) => (end, true),
        None => match topic.strip_prefix(CHANGE) {
            Some(end) => (end, false),
            None => return Ok(Message::Other),
        },
    };
    let Topic { start, request_id, version } = Topic::read(end);
    let message = if is_answer {
        let Some(request_id) = request_id else { return Ok(Message::Other) };
        answer(request_id, start, version, payload)
    } else {
        payload.map_err(Error::from).and_then(|body| Ok(Message::Change(Properties::read(object(body)?, version)?)))
    };
    message.map_err(|error| Unreadable { request_id: request_id.filter(|_| is_answer), error })
}

fn answer<'b>(
    request_id: u32,
    status: &[u8],
    version: Option<u64>,
    payload: Result<&'b [u8], BufferTooSmall>,
) -> Result<Message<'b>, Error> {
    match parse_u32(status).and_then(|status| u16::try_from(status).ok()) {
        Some(200) => Ok(Message::Twin(Twin::read(request_id, payload?)?)),
        Some(201..=299) => Ok(Message::Reported { request_id, version }),
        Some(status) => {
            Ok(Message::Refused(Refusal { request_id, status, details: payload.ok().and_then(Details::read) }))
        }
        None => Err(Malformed::MqttTopic.into()),
    }
}

fn object(body: &[u8]) -> Result<Object<'_>, Malformed> {
    Object::parse_within(body, 0).map_err(Malformed::Json)
}

impl<'b> Twin<'b> {
    fn read(request_id: u32, body: &'b [u8]) -> Result<Self, Malformed> {
        let (mut desired, mut reported) = (None, None);
        for (name, value) in object(body)?.members() {
            let (part, name) = match () {
                () if name == "desired" => (&mut desired, "desired"),
                () if name == "reported" => (&mut reported, "reported"),
                () => continue,
            };
            let Some(object) = value.object() else { return Err(Malformed::Invalid(name)) };
            if part.replace(object).is_some() {
                return Err(Malformed::Duplicate(name));
            }
        }
        Ok(Self {
            request_id,
            desired: Properties::read(desired.ok_or(Malformed::Missing("desired"))?, None)?,
            reported: Properties::read(reported.ok_or(Malformed::Missing("reported"))?, None)?,
        })
    }
}

/// The end of a topic: `{start}/?$rid={request ID}&$version={version}`. Each part may be absent.
struct Topic<'t> {
    start: &'t [u8],
    request_id: Option<u32>,
    version: Option<u64>,
}

impl<'t> Topic<'t> {
    fn read(topic: &'t str) -> Self {
        let mut parts = topic.as_bytes().split(|byte| matches!(byte, b'/' | b'?' | b'&'));
        let mut read = Self { start: parts.next().unwrap_or_default(), request_id: None, version: None };
        // The order of the parameters is not documented, and the service may add others.
        for part in parts {
            if let Some(value) = part.strip_prefix(b"$rid=") {
                read.request_id = parse_u32(value);
            } else if let Some(value) = part.strip_prefix(b"$version=") {
                read.version = properties::parse_version(value);
            }
        }
        read
    }
}
