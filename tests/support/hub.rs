//! A device's session at its hub over plain MQTT, with an MQTT client.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use azure_dps::{
    DeviceKey,
    after::{
        Hub, HubOutcome,
        twin::{self, Message, Order},
    },
};
use mqttrs::{
    Connect, Packet, Pid, Protocol, Publish, QoS, QosPid, Subscribe, SubscribeReturnCodes, SubscribeTopic,
    decode_slice, encode_slice,
};
use serde_json::Value;

/// The longest time for an immediate reaction of the hub, on a busy machine.
const TOO_LONG: Duration = Duration::from_secs(20);
const REQUEST_ID: u32 = 1;

pub struct HubSession {
    stream: TcpStream,
    received: Vec<u8>,
    /// The desired properties that the device has, and their version.
    pub desired: (Value, u64),
    pub reported: (Value, u64),
}

enum Received {
    Connack { code: u8, session_present: bool },
    Suback,
    Pong,
    Message { topic: String, payload: Vec<u8> },
}

impl HubSession {
    /// Opens a session with a token, and reads the twin. If the hub has kept an earlier session, its subscriptions are
    /// still valid.
    pub fn open(address: &str, hub: Hub<'_>, key: &mut DeviceKey, expiry: u64) -> Result<Self, HubOutcome> {
        let stream = TcpStream::connect(address).map_err(|_| HubOutcome::Unreachable)?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TOO_LONG)).unwrap();
        let none = || (Value::Null, 0);
        let mut session = Self { stream, received: Vec::new(), desired: none(), reported: none() };
        let (mut user_name, mut token) = ([0; 512], [0; 512]);
        session.send(Connect {
            protocol: Protocol::MQTT311,
            keep_alive: 60,
            client_id: hub.client_id(),
            clean_session: false,
            last_will: None,
            username: Some(hub.write_user_name(&mut user_name).unwrap()),
            password: Some(hub.write_token(key, expiry, &mut token).unwrap().as_bytes()),
        });
        let Some(received) = session.receive() else { return Err(HubOutcome::Unreachable) };
        let Received::Connack { code, session_present } = received else { panic!("no CONNACK") };
        match HubOutcome::from_connack(code) {
            HubOutcome::Accepted if session_present => {}
            HubOutcome::Accepted => session.subscribe(),
            refused => return Err(refused),
        }
        session.read_twin();
        Ok(session)
    }

    fn subscribe(&mut self) {
        let topic = |filter: &str| SubscribeTopic { topic_path: filter.into(), qos: QoS::AtMostOnce };
        let topics = [twin::ANSWER_FILTER, twin::CHANGE_FILTER].map(topic);
        self.send(Subscribe { pid: Pid::new(), topics: topics.into_iter().collect() });
        assert!(matches!(self.receive(), Some(Received::Suback)));
    }

    fn read_twin(&mut self) {
        let mut topic = [0; twin::TOPIC_LEN];
        self.publish(twin::write_get_topic(REQUEST_ID, &mut topic).unwrap(), b"");
        let (topic, payload) = self.message();
        let Message::Twin(twin) = twin::read(&topic, &payload).unwrap() else { panic!("{topic} is not the twin") };
        assert_eq!(twin.request_id, REQUEST_ID);
        let read = |properties: twin::Properties<'_>| {
            (serde_json::from_str(properties.object().raw()).unwrap(), properties.version())
        };
        (self.desired, self.reported) = (read(twin.desired), read(twin.reported));
    }

    /// Reports properties.
    pub fn report(&mut self, properties: &Value) {
        let mut topic = [0; twin::TOPIC_LEN];
        let topic = twin::write_report_topic(REQUEST_ID, &mut topic).unwrap();
        self.publish(topic, properties.to_string().as_bytes());
        let (topic, payload) = self.message();
        let reported = twin::read(&topic, &payload).unwrap();
        let Message::Reported { version: Some(version), .. } = reported else { panic!("{reported:?}") };
        self.reported.1 = version;
    }

    /// Applies changes of the desired properties until the hub answers a ping. Returns `false` if the hub ended the
    /// session.
    pub fn is_open(&mut self) -> bool {
        self.send(Packet::Pingreq);
        loop {
            match self.receive() {
                Some(Received::Pong) => return true,
                Some(Received::Message { topic, payload }) => self.apply(&topic, &payload),
                Some(_) => panic!("an unexpected packet"),
                None => return false,
            }
        }
    }

    fn apply(&mut self, topic: &str, payload: &[u8]) {
        let Message::Change(change) = twin::read(topic, payload).unwrap() else { panic!("{topic} is not a change") };
        assert_eq!(change.order(self.desired.1), Order::Next);
        let patch: Value = serde_json::from_str(change.object().raw()).unwrap();
        for (name, value) in patch.as_object().unwrap() {
            self.desired.0[name] = value.clone();
        }
        self.desired.1 = change.version();
    }

    /// Waits until the hub ends the session. Fails if it does not.
    pub fn wait_for_end(mut self) {
        while self.receive().is_some() {}
    }

    pub fn close(mut self) {
        self.send(Packet::Disconnect);
    }

    fn publish(&mut self, topic_name: &str, payload: &[u8]) {
        let qospid = QosPid::AtMostOnce;
        self.send(Publish { dup: false, qospid, retain: false, topic_name, payload });
    }

    fn send<'p>(&mut self, packet: impl Into<Packet<'p>>) {
        let mut bytes = [0; 2048];
        let length = encode_slice(&packet.into(), &mut bytes).unwrap();
        // The next read notices that the peer has closed.
        let _ = self.stream.write_all(&bytes[..length]);
    }

    fn message(&mut self) -> (String, Vec<u8>) {
        let Some(Received::Message { topic, payload }) = self.receive() else { panic!("no message") };
        (topic, payload)
    }

    /// Returns the next packet, or `None` at the end of the connection.
    fn receive(&mut self) -> Option<Received> {
        loop {
            if let Some((packet, length)) = decode(&self.received) {
                self.received.drain(..length);
                return Some(packet);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.received.extend_from_slice(&bytes[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no packet came")
                }
                Err(_) => return None,
            }
        }
    }
}

/// Returns the first packet of these bytes and its length, if it is complete.
fn decode(bytes: &[u8]) -> Option<(Received, usize)> {
    let digits = bytes.get(1..)?.iter().position(|digit| digit & 0x80 == 0)? + 1;
    let rest = bytes[1..=digits].iter().rev().fold(0, |rest, digit| rest << 7 | usize::from(digit & 0x7f));
    let length = 1 + digits + rest;
    let received = match decode_slice(bytes.get(..length)?).unwrap().unwrap() {
        Packet::Connack(connack) => {
            Received::Connack { code: connack.code as u8, session_present: connack.session_present }
        }
        Packet::Suback(suback) => {
            assert!(!suback.return_codes.contains(&SubscribeReturnCodes::Failure));
            Received::Suback
        }
        Packet::Pingresp => Received::Pong,
        Packet::Publish(message) => {
            Received::Message { topic: message.topic_name.to_owned(), payload: message.payload.to_vec() }
        }
        other => panic!("{other:?}"),
    };
    Some((received, length))
}
