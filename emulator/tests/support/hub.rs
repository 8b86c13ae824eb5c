//! A device at its IoT hub, which uses MQTT packet by packet.

use azure_dps_emulator::Emulator;
use rumqttc::{
    QoS,
    mqttbytes::v4::{ConnAck, Connect, LastWill, Packet, Publish, Subscribe, SubscribeReasonCode, Unsubscribe},
};
use serde_json::Value;

use super::{
    Device, GROUP_KEY, HEAT_PUMP, HEATPUMPS_HUB, TOASTER, TOASTERS_HUB, derive, escape, mqtt::Client, now, sign,
    x509::Identity,
};

pub const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
pub const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
pub const METHODS: &str = "$iothub/methods/POST/#";
pub const CREDENTIALS: &str = "$iothub/credentials/res/#";
pub const GET: &str = "$iothub/twin/GET/?$rid=";
pub const REPORT: &str = "$iothub/twin/PATCH/properties/reported/?$rid=";

/// A device with its credentials at the hub.
#[derive(Clone)]
pub struct HubDevice {
    pub hub: String,
    pub device_id: String,
    pub key: String,
    /// The part of the user name after hub and device ID.
    pub query: String,
}

impl HubDevice {
    pub fn new(hub: &str, device_id: &str, key: &str) -> Self {
        let query = "/?api-version=2021-04-12&DeviceClientType=test".to_owned();
        Self { hub: hub.to_owned(), device_id: device_id.to_owned(), key: key.to_owned(), query }
    }

    /// Registers a device of the tutorial's group.
    pub fn of_group(emulator: &Emulator, registration_id: &str) -> Self {
        Device::of_group(emulator, registration_id).assigned();
        let hub = if registration_id.contains("tstrsd") { TOASTERS_HUB } else { HEATPUMPS_HUB };
        Self::new(hub, registration_id, &derive(GROUP_KEY, registration_id))
    }

    pub fn toaster(emulator: &Emulator) -> Self {
        Self::of_group(emulator, TOASTER)
    }

    pub fn heat_pump(emulator: &Emulator) -> Self {
        Self::of_group(emulator, HEAT_PUMP)
    }

    pub fn token(&self) -> String {
        self.token_until(now() + 3600)
    }

    pub fn token_until(&self, se: u64) -> String {
        let sr = escape(&format!("{}/devices/{}", self.hub, self.device_id)).replace(':', "%3A");
        format!("SharedAccessSignature sr={sr}&sig={}&se={se}", sign(&self.key, &sr, se))
    }

    pub fn user_name(&self) -> String {
        format!("{}/{}{}", self.hub, self.device_id, self.query)
    }

    /// Creates a CONNECT as in the documentation, with a session that is kept.
    pub fn packet(&self) -> Connect {
        let mut connect = Connect::new(self.device_id.as_str());
        connect.set_login(self.user_name(), self.token());
        connect.keep_alive = 60;
        connect.clean_session = false;
        connect
    }

    pub fn open(&self, emulator: &Emulator, listener: &str) -> HubClient {
        self.open_as(emulator, listener, None)
    }

    pub fn open_as(&self, emulator: &Emulator, listener: &str, identity: Option<&Identity>) -> HubClient {
        HubClient { client: Client::open_as(emulator, listener, &self.device_id, identity) }
    }

    /// Connects on the plain listener. Returns the return code.
    pub fn try_connect(&self, emulator: &Emulator, connect: Connect) -> Option<u8> {
        let mut client = self.open(emulator, "mqtt");
        let code = client.connect(connect).map(|(code, _)| code);
        assert!(code == Some(0) || client.receive().is_none());
        code
    }

    /// Connects on the plain listener, with a clean session.
    pub fn connected(&self, emulator: &Emulator) -> HubClient {
        self.connected_on(emulator, "mqtt", true).0
    }

    /// Connects. Returns whether there was a session.
    pub fn connected_on(&self, emulator: &Emulator, listener: &str, clean_session: bool) -> (HubClient, bool) {
        let mut client = self.open(emulator, listener);
        let (code, present) = client.connect(Connect { clean_session, ..self.packet() }).unwrap();
        assert_eq!(code, 0, "{:?}", emulator.requests().pop());
        (client, present)
    }

    /// Connects and subscribes to the topics of the twin.
    pub fn with_twin(&self, emulator: &Emulator) -> HubClient {
        let mut client = self.connected(emulator);
        client.subscribe(&[(TWIN_ANSWERS, QoS::AtMostOnce), (DESIRED, QoS::AtMostOnce)]);
        client
    }

    pub fn events(&self, bag: &str) -> String {
        format!("devices/{}/messages/events/{bag}", self.device_id)
    }

    pub fn will(&self, bag: &str, body: &str) -> LastWill {
        LastWill::new(self.events(bag), body, QoS::AtMostOnce, false)
    }
}

pub struct HubClient {
    pub client: Client,
}

impl HubClient {
    /// Returns the return code, and whether there was a session. Returns `None` if the connection ended.
    pub fn connect(&mut self, connect: Connect) -> Option<(u8, bool)> {
        self.client.send(&Packet::Connect(connect));
        match self.receive()? {
            Packet::ConnAck(ConnAck { session_present, code }) => Some((code as u8, session_present)),
            other => panic!("{other:?}"),
        }
    }

    pub fn send(&mut self, packet: &Packet) {
        self.client.send(packet);
    }

    pub fn receive(&mut self) -> Option<Packet> {
        self.client.receive()
    }

    /// Returns the return codes, or `None` if the connection ended.
    pub fn try_subscribe(&mut self, filters: &[(&str, QoS)]) -> Option<Vec<SubscribeReasonCode>> {
        let mut subscribe = Subscribe::new_many(
            filters.iter().map(|(filter, qos)| rumqttc::SubscribeFilter::new((*filter).to_owned(), *qos)),
        );
        subscribe.pkid = 7;
        self.send(&Packet::Subscribe(subscribe));
        match self.receive()? {
            Packet::SubAck(ack) if ack.pkid == 7 => Some(ack.return_codes),
            other => panic!("{other:?}"),
        }
    }

    pub fn subscribe(&mut self, filters: &[(&str, QoS)]) {
        let codes = self.try_subscribe(filters).unwrap();
        assert!(codes.len() == filters.len() && codes.iter().all(|code| *code != SubscribeReasonCode::Failure));
    }

    pub fn unsubscribe(&mut self, filter: &str) {
        let mut unsubscribe = Unsubscribe::new(filter.to_owned());
        unsubscribe.pkid = 8;
        self.send(&Packet::Unsubscribe(unsubscribe));
        assert!(matches!(self.receive(), Some(Packet::UnsubAck(ack)) if ack.pkid == 8));
    }

    pub fn publish(&mut self, topic: &str, qos: QoS, body: impl Into<Vec<u8>>) {
        let mut publish = Publish::new(topic, qos, body);
        publish.pkid = 9;
        self.send(&Packet::Publish(publish));
    }

    /// Publishes with QoS 1. Returns `false` if the connection ends without PUBACK.
    pub fn is_acknowledged(&mut self, topic: &str, body: impl Into<Vec<u8>>) -> bool {
        self.publish(topic, QoS::AtLeastOnce, body);
        match self.receive() {
            Some(Packet::PubAck(ack)) => ack.pkid == 9,
            None => false,
            other => panic!("{other:?}"),
        }
    }

    /// Reads the next message, which has QoS 0. Returns its topic and its body.
    pub fn message(&mut self) -> (String, Value) {
        let Some(Packet::Publish(publish)) = self.receive() else { panic!("no message") };
        assert_eq!((publish.qos, publish.retain), (QoS::AtMostOnce, false));
        let body = String::from_utf8(publish.payload.to_vec()).unwrap();
        (publish.topic, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Publishes with QoS 0. Returns the answer: its topic after `res/`, and its body.
    pub fn ask(&mut self, topic: &str, body: &str) -> (String, Value) {
        self.publish(topic, QoS::AtMostOnce, body);
        let (topic, body) = self.message();
        (topic.strip_prefix("$iothub/twin/res/").unwrap().to_owned(), body)
    }

    /// Returns the twin, as the device reads it.
    pub fn twin(&mut self) -> Value {
        let (topic, twin) = self.ask(&format!("{GET}1"), "");
        assert_eq!(topic, "200/?$rid=1", "{twin}");
        twin
    }

    /// Reports properties. Returns the new version.
    pub fn report(&mut self, patch: &Value) -> u64 {
        let (topic, body) = self.ask(&format!("{REPORT}2"), &patch.to_string());
        assert_eq!(body, "", "{topic}");
        topic.strip_prefix("204/?$rid=2&$version=").unwrap().parse().unwrap()
    }

    pub fn disconnect(mut self) {
        self.send(&Packet::Disconnect);
        assert!(self.receive().is_none());
    }

    /// Returns `true` if the connection still answers a ping.
    pub fn pings(&mut self) -> bool {
        self.send(&Packet::PingReq);
        matches!(self.receive(), Some(Packet::PingResp))
    }
}
