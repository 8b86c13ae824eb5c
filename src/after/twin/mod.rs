//! The device's twin at its hub, over MQTT 3.1.1: what to subscribe to and to publish, and how to read
//! what arrives. The client is the caller's, as for [`mqtt`](crate::mqtt).
//!
//! The twin has two parts. The *desired* properties are the operator's: settings for the device, at first
//! those of the enrollment or of the webhook (`initialTwin`). The *reported* properties are the device's.
//!
//! # How to drive it
//!
//! 1. **Connect** with what [`Hub`](super::Hub) writes.
//! 2. **Subscribe** to [`ANSWER_FILTER`], and to [`CHANGE_FILTER`] if the device follows changes, with QoS
//!    0 or 1. A hub keeps the subscriptions of a client that connects without a clean session. A client
//!    that connects with one subscribes in each session.
//! 3. **Ask** for the twin: publish an empty message to the topic of [`write_get_topic`].
//! 4. **Read** each message that arrives with [`read`]. The answer has the request ID of the question. Use
//!    a new request ID for each question, then late answers to earlier ones are known.
//! 5. **Report** properties, if there are any: publish a JSON object to the topic of
//!    [`write_report_topic`]. Members replace those of the twin, `null` deletes a member, and all others
//!    stay.
//!
//! If no answer comes within a minute, ask again.
//!
//! ```
//! use azure_dps::after::twin::{self, Message, Order};
//!
//! let mut topic = [0; twin::TOPIC_LEN];
//! assert_eq!(twin::write_get_topic(1, &mut topic)?, "$iothub/twin/GET/?$rid=1");
//! // … is published, and the hub answers:
//! let body = br#"{"desired":{"darknessSetting":"medium","$version":1},"reported":{"$version":1}}"#;
//! let Message::Twin(twin) = twin::read("$iothub/twin/res/200/?$rid=1", body)? else { panic!() };
//! assert_eq!(twin.request_id, 1);
//! assert!(twin.desired.get("darknessSetting").unwrap().text().unwrap() == "medium");
//! let mut known = twin.desired.version();
//!
//! // The device says what it has done.
//! let topic = twin::write_report_topic(2, &mut topic)?;
//! assert_eq!(topic, "$iothub/twin/PATCH/properties/reported/?$rid=2");
//! // … is published with `{"darknessSetting":"medium"}`, and the hub answers:
//! let answer = twin::read("$iothub/twin/res/204/?$rid=2&$version=2", b"")?;
//! assert_eq!(answer, Message::Reported { request_id: 2, version: Some(2) });
//!
//! // Later, the operator changes something.
//! let topic = "$iothub/twin/PATCH/properties/desired/?$version=2";
//! let Message::Change(patch) = twin::read(topic, br#"{"darknessSetting":null,"$version":2}"#)? else { panic!() };
//! match patch.order(known) {
//!     Order::Known => {}
//!     Order::Next => {
//!         known = patch.version();
//!         assert!(patch.get("darknessSetting").unwrap().is_null()); // was deleted
//!     }
//!     Order::Gap => { /* ask for the twin again */ }
//! }
//! assert_eq!(known, 2);
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! # Versions
//!
//! Each change of the desired properties has a version that is one larger than the last.
//! [`Properties::order`] compares it with the version that the device has: begin with 0, and set it at
//! each twin and at each change that is applied. It is valid at one hub: after a move, begin with 0.
//!
//! A hub sends changes to connected devices only. So ask for the twin in each session, after the
//! subscription.
//!
//! If the operator replaces all desired properties at once, the change has all of the new ones, and does not
//! say which are gone. A device for which this matters asks for the twin after each change.
//!
//! # Sizes
//!
//! | buffer | bytes |
//! |---|---|
//! | a topic that this module writes | [`TOPIC_LEN`] |
//! | the client's, for the answer with the twin | [`answer_len`] |
//!
//! IoT Hub allows 32 KB of desired properties and 32 KB of reported ones, so an answer may have more than
//! 64 KB. The operator decides how large the desired properties are. If a message does not fit the client's
//! buffer, skip its payload and give its length to [`read_skipped`]: the session goes on.
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

/// What to subscribe to for the answers to questions and reports.
pub const ANSWER_FILTER: &str = "$iothub/twin/res/#";

/// What to subscribe to for changes of the desired properties.
pub const CHANGE_FILTER: &str = "$iothub/twin/PATCH/properties/desired/#";

const ANSWER: &str = "$iothub/twin/res/";
const CHANGE: &str = "$iothub/twin/PATCH/properties/desired/";
const GET: &str = "$iothub/twin/GET/?$rid=";
const REPORT: &str = "$iothub/twin/PATCH/properties/reported/?$rid=";
/// A u32 in decimal.
const REQUEST_ID: usize = 10;
/// The largest version that is read, in decimal.
const VERSION: usize = 19;

/// The length of the longest topic that this module writes.
pub const TOPIC_LEN: usize = REPORT.len() + REQUEST_ID;

/// Returns the length of the packet with which a hub answers a question for the twin, for desired and
/// reported properties of these lengths: JSON objects with their `$version`.
///
/// ```
/// use azure_dps::after::twin;
///
/// const DESIRED: usize = r#"{"darknessSetting":"medium","$version":4294967295}"#.len();
/// const REPORTED: usize = r#"{"firmware":"12.0.2.5","$version":4294967295}"#.len();
/// let mut buffer = [0; twin::answer_len(DESIRED, REPORTED)]; // for the MQTT client
/// # let _ = &mut buffer;
/// ```
pub const fn answer_len(desired: usize, reported: usize) -> usize {
    // The fixed header, the length of the topic, and the packet identifier of QoS 1.
    let head = 5 + 2 + 2;
    let topic = "$iothub/twin/res/200/?$rid=&$version=".len() + REQUEST_ID + VERSION;
    head + topic + r#"{"desired":,"reported":}"#.len() + desired + reported
}

/// Writes the topic that asks for the twin into `buffer`. The message is empty.
///
/// # Errors
/// [`BufferTooSmall`] with the exact size. [`TOPIC_LEN`] is sufficient.
pub fn write_get_topic(request_id: u32, buffer: &mut [u8]) -> Result<&str, BufferTooSmall> {
    write_topic(GET, request_id, buffer)
}

/// Writes the topic of a report into `buffer`. The message is a JSON object.
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

/// A message that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Message<'b> {
    /// The twin that was asked for.
    Twin(Twin<'b>),
    /// The hub has accepted a report.
    Reported {
        /// The ID of the report.
        request_id: u32,
        /// The version that the reported properties have now, if the hub says so.
        version: Option<u64>,
    },
    /// The hub has refused a question or a report.
    Refused(Refusal<'b>),
    /// The operator has changed the desired properties. These are the changes: a member that is `null` was
    /// deleted, an object has changes in it, and anything else is a new value.
    Change(Properties<'b>),
    /// A message with another topic, or the answer to another part of the program: its request ID is no
    /// number.
    Other,
}

/// The device's twin, as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Twin<'b> {
    /// The ID of the question.
    pub request_id: u32,
    /// What the operator wants.
    pub desired: Properties<'b>,
    /// What the device has reported.
    pub reported: Properties<'b>,
}

/// A message about the twin that could not be read. The session goes on.
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
    /// The ID of the question that this was the answer to. `None` for a change.
    pub request_id: Option<u32>,
    /// [`Error::BufferTooSmall`] for a payload that was skipped, or [`Error::Malformed`].
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

/// Reads a message.
///
/// # Errors
/// [`Unreadable`] if the message is about the twin, and its topic or its payload is not what a hub sends.
pub fn read<'b>(topic: &str, payload: &'b [u8]) -> Result<Message<'b>, Unreadable> {
    read_message(topic, Ok(payload))
}

/// Reads a message whose payload of this length was skipped, because it does not fit the client's buffer.
///
/// What the topic says is not lost:
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
/// [`Unreadable`] with [`Error::BufferTooSmall`] for a twin and for a change: the payload alone is as long
/// as it says.
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

/// The end of a topic: `{start}/?$rid={request ID}&$version={version}`, or a part of this.
struct Topic<'t> {
    start: &'t [u8],
    request_id: Option<u32>,
    version: Option<u64>,
}

impl<'t> Topic<'t> {
    fn read(topic: &'t str) -> Self {
        let mut parts = topic.as_bytes().split(|byte| matches!(byte, b'/' | b'?' | b'&'));
        let mut read = Self { start: parts.next().unwrap_or_default(), request_id: None, version: None };
        // In any order, as other parameters may be added.
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
