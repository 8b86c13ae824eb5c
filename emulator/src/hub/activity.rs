//! What devices did at their hubs since the start: connections and the last telemetry. This is kept in memory only,
//! within limits.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

/// How many messages of a device are kept.
const MESSAGES: usize = 32;
/// The most bytes of all messages that are kept.
const BYTES: usize = 32 * 1024 * 1024;
/// An upper bound of the memory of a message without its body and properties.
const MESSAGE: usize = 256;
/// The memory of a property without its text: two strings and their allocations.
const PROPERTY: usize = size_of::<(String, String)>() + 2 * 32;

/// The telemetry of a device.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Telemetry {
    /// The number of messages since the emulator started.
    pub count: u64,
    /// The last messages, oldest first: at most 32. If the messages of all devices take more than 32 MiB, the oldest
    /// messages are dropped.
    pub last: Vec<Arc<TelemetryMessage>>,
}

/// A message of a device to its hub.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TelemetryMessage {
    /// When the hub received the message.
    pub at: SystemTime,
    /// The decoded properties of the topic, in their order. Names of system properties begin with `$.`, such as
    /// `$.ct`.
    pub properties: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl TelemetryMessage {
    pub(crate) fn new(properties: Vec<(String, String)>, body: Vec<u8>) -> Self {
        Self { at: SystemTime::now(), properties, body }
    }

    /// Returns the value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(each, _)| each == name).map(|(_, value)| &**value)
    }

    /// Returns about how many bytes of memory the message takes.
    fn size(&self) -> usize {
        let properties = self.properties.iter().map(|(name, value)| PROPERTY + name.len() + value.len());
        MESSAGE + self.body.len() + properties.sum::<usize>()
    }
}

/// Whether a device is connected, and how much telemetry it has sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) is_connected: bool,
    /// When the connection began or ended.
    pub(crate) since: Option<SystemTime>,
    /// The number of messages of the device.
    pub(crate) messages: u64,
}

/// The devices that sent telemetry after some message.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Senders {
    /// The registration IDs, each with the number of its messages so far. The last sender comes first.
    pub(crate) devices: Vec<(String, u64)>,
    /// The number of further devices.
    pub(crate) more: usize,
    /// The number of messages that all of them sent.
    pub(crate) messages: u64,
}

/// The activity of all devices.
pub(crate) struct Activity {
    kept: Mutex<Kept>,
    /// The number of the last message. Readers wait for it to change.
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    /// The devices, by registration IDs in lower case.
    devices: HashMap<String, Device>,
    /// The devices, by the numbers of their last messages.
    senders: BTreeMap<u64, String>,
    /// The devices of all kept messages, by the numbers of the messages.
    messages: BTreeMap<u64, String>,
    bytes: usize,
}

#[derive(Default)]
struct Device {
    registration_id: String,
    /// The session of the last connection.
    session: u64,
    seen: Seen,
    messages: VecDeque<(u64, Arc<TelemetryMessage>)>,
    /// The number of the last message.
    last: u64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { kept: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl Activity {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a device as connected. `session` is the number of the connection.
    pub(crate) fn connected(&self, registration_id: &str, session: u64) {
        let mut kept = self.kept();
        let device = kept.device(registration_id);
        device.session = session;
        (device.seen.is_connected, device.seen.since) = (true, Some(SystemTime::now()));
    }

    /// Ends a connection of the device. Returns `true` if the device is no longer connected, `false` if a newer
    /// connection has replaced this one.
    pub(crate) fn disconnected(&self, registration_id: &str, session: u64) -> bool {
        let mut kept = self.kept();
        let device = kept.devices.get_mut(&registration_id.to_ascii_lowercase());
        let Some(device) = device.filter(|device| device.session == session && device.seen.is_connected) else {
            return false;
        };
        (device.seen.is_connected, device.seen.since) = (false, Some(SystemTime::now()));
        true
    }

    /// Counts and keeps a message of a device.
    pub(crate) fn received(&self, registration_id: &str, message: TelemetryMessage) {
        let mut kept = self.kept();
        let number = *self.last.borrow() + 1;
        kept.add(registration_id, number, message);
        self.last.send_replace(number);
    }

    /// Returns the session of a device that is connected.
    pub(crate) fn session(&self, registration_id: &str) -> Option<u64> {
        let kept = self.kept();
        let device = kept.devices.get(&registration_id.to_ascii_lowercase());
        device.filter(|device| device.seen.is_connected).map(|device| device.session)
    }

    pub(crate) fn seen(&self, registration_id: &str) -> Seen {
        self.kept().devices.get(&registration_id.to_ascii_lowercase()).map_or(Seen::default(), |device| device.seen)
    }

    pub(crate) fn telemetry(&self, registration_id: &str) -> Telemetry {
        let kept = self.kept();
        let device = kept.devices.get(&registration_id.to_ascii_lowercase());
        device.map_or_else(Telemetry::default, |device| Telemetry {
            count: device.seen.messages,
            last: device.messages.iter().map(|(_, message)| Arc::clone(message)).collect(),
        })
    }

    /// Returns a receiver of the number of the last message.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Returns the senders of the messages after this number, and the number of the last message.
    pub(crate) fn senders(&self, after: u64, limit: usize) -> (Senders, u64) {
        let kept = self.kept();
        let last = *self.last.borrow();
        let mut numbers = kept.senders.range(after.saturating_add(1)..).rev().map(|(_, key)| key);
        let devices = numbers.by_ref().take(limit).filter_map(|key| kept.devices.get(key));
        let devices = devices.map(|device| (device.registration_id.clone(), device.seen.messages)).collect();
        (Senders { devices, more: numbers.count(), messages: last.saturating_sub(after) }, last)
    }

    /// Forgets all devices.
    pub(crate) fn reset(&self) {
        *self.kept() = Kept::default();
    }
}

impl Kept {
    fn device(&mut self, registration_id: &str) -> &mut Device {
        let device = self.devices.entry(registration_id.to_ascii_lowercase()).or_default();
        if device.registration_id != registration_id {
            registration_id.clone_into(&mut device.registration_id);
        }
        device
    }

    fn add(&mut self, registration_id: &str, number: u64, message: TelemetryMessage) {
        let bytes = message.size();
        let device = self.device(registration_id);
        let last = std::mem::replace(&mut device.last, number);
        device.seen.messages += 1;
        device.messages.push_back((number, Arc::new(message)));
        let oldest = device.messages.front().map(|&(number, _)| number).filter(|_| device.messages.len() > MESSAGES);
        let key = registration_id.to_ascii_lowercase();
        self.senders.remove(&last);
        self.senders.insert(number, key.clone());
        self.messages.insert(number, key);
        self.bytes += bytes;
        if let Some(oldest) = oldest {
            self.drop_message(oldest);
        }
        while self.bytes > BYTES
            && let Some((&oldest, _)) = self.messages.first_key_value()
        {
            self.drop_message(oldest);
        }
    }

    /// Drops the oldest message of a device.
    fn drop_message(&mut self, number: u64) {
        let device = self.messages.remove(&number).and_then(|key| self.devices.get_mut(&key));
        if let Some((_, message)) = device.and_then(|device| device.messages.pop_front()) {
            self.bytes -= message.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> TelemetryMessage {
        TelemetryMessage::new(vec![("a".to_owned(), String::new())], body.to_vec())
    }

    fn bodies(activity: &Activity, id: &str) -> Vec<String> {
        let messages = activity.telemetry(id).last;
        messages.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
    }

    /// The last messages of each device are kept, and all are counted. A device that sends much does not push out
    /// messages of others.
    #[test]
    fn the_last_messages_are_kept() {
        let activity = Activity::default();
        activity.received("Quiet", message(b"q"));
        for number in 0..50 {
            activity.received("chatty", message(number.to_string().as_bytes()));
        }
        assert_eq!(bodies(&activity, "CHATTY"), (18..50).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!((bodies(&activity, "quiet"), activity.seen("quiet").messages), (vec!["q".to_owned()], 1));
        assert_eq!(activity.telemetry("chatty").count, 50);
        assert_eq!((bodies(&activity, "unknown"), activity.seen("unknown")), (vec![], Seen::default()));
        let kept = activity.kept();
        assert_eq!((kept.messages.len(), kept.senders.len()), (1 + MESSAGES, 2));
    }

    /// All messages together are limited: the oldest are dropped, from whichever device.
    #[test]
    fn messages_are_bounded() {
        let activity = Activity::default();
        let body = vec![b'x'; 256 * 1024];
        activity.received("a", message(&body));
        let devices = 2 * BYTES / (body.len() * MESSAGES);
        for device in 0..devices {
            for _ in 0..MESSAGES {
                activity.received(&device.to_string(), message(&body));
            }
        }
        let kept = activity.kept();
        let sum: usize = kept.devices.values().flat_map(|device| &device.messages).map(|(_, kept)| kept.size()).sum();
        assert!(sum == kept.bytes && sum <= BYTES && sum > BYTES - 2 * body.len(), "{sum} {}", kept.bytes);
        drop(kept);
        assert_eq!((bodies(&activity, "a").len(), activity.seen("a").messages), (0, 1));
        assert_eq!(bodies(&activity, &(devices - 1).to_string()).len(), MESSAGES);
    }

    /// A reader gets each device that sent telemetry since its last call once, however many messages there were.
    #[test]
    fn senders_are_reported_once() {
        let activity = Activity::default();
        for id in ["a", "b", "A", "c", "a"] {
            activity.received(id, message(b""));
        }
        let (senders, last) = activity.senders(0, 2);
        let devices = [("a", 3), ("c", 1)].map(|(id, count)| (id.to_owned(), count)).to_vec();
        assert_eq!((senders, last), (Senders { devices, more: 1, messages: 5 }, 5));
        assert_eq!(activity.senders(5, 2).0, Senders { devices: vec![], more: 0, messages: 0 });
        activity.received("b", message(b""));
        let devices = vec![("b".to_owned(), 2)];
        assert_eq!(activity.senders(5, 2), (Senders { devices, more: 0, messages: 1 }, 6));
        // The numbers continue after a reset, so that a reader misses nothing.
        activity.reset();
        activity.received("b", message(b""));
        assert_eq!(activity.senders(6, 2), (Senders { devices: vec![("b".to_owned(), 1)], more: 0, messages: 1 }, 7));
    }

    /// The end of a connection counts only if no newer connection has replaced it.
    #[test]
    fn a_device_is_connected_until_its_last_connection_ends() {
        let activity = Activity::default();
        activity.connected("a", 1);
        activity.connected("A", 2);
        let since = activity.seen("a").since;
        assert!(!activity.disconnected("a", 1));
        assert_eq!(activity.seen("a"), Seen { is_connected: true, since, messages: 0 });
        assert!(activity.disconnected("a", 2) && !activity.disconnected("a", 2));
        let seen = activity.seen("a");
        assert!(!seen.is_connected && seen.since >= since);
        // The end of a connection after a reset does not bring the device back.
        activity.connected("a", 3);
        activity.reset();
        assert!(!activity.disconnected("a", 3));
        assert_eq!(activity.seen("a"), Seen::default());
    }
}
