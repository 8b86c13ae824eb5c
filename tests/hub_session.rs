//! The whole path from DPS to the twin: `ci/programs/hub_session.rs` with the emulated hub, which was built without
//! this library.

#[path = "support/network.rs"]
mod network;
mod support;
#[path = "../ci/programs"]
mod programs {
    pub mod hub_session;
    #[allow(dead_code, reason = "only the client is used")]
    pub mod own_mqtt;
}

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, Provisioning,
    after::{Hub, HubOutcome},
    provisioning::Endpoint,
};
use azure_dps_emulator::{Config, Emulator};
use mqttrs::{Connect, Packet, Pid, Protocol, Publish, QoS, QosPid, Subscribe, SubscribeTopic};
use network::*;
use programs::{
    hub_session::{Settings, follow},
    own_mqtt::Client,
};
use serde_json::json;
use support::*;

/// A client over plain TCP. Before it waits for a message, the operator performs the next action. The session ends
/// after the last action.
struct Mqtt<'a> {
    address: String,
    stream: Option<TcpStream>,
    operator: VecDeque<&'a dyn Fn()>,
    started: Instant,
}

impl<'a> Mqtt<'a> {
    fn new(emulator: &Emulator, operator: &[&'a dyn Fn()]) -> Self {
        let address = emulator.mqtt_url().unwrap().trim_start_matches("mqtt://").into();
        let operator = operator.iter().copied().collect();
        Self { address, stream: None, operator, started: Instant::now() }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut buffer = [0; 1024];
        let len = mqttrs::encode_slice(packet, &mut buffer).unwrap();
        self.stream.as_mut().unwrap().write_all(&buffer[..len]).unwrap();
    }

    /// Returns the result of `take` for the next packet that it accepts, or `None` if the hub ends the session.
    fn next<T>(&mut self, take: impl Fn(Packet<'_>) -> Option<T>) -> Option<T> {
        // A byte at a time, so the buffer holds at most one packet.
        let mut arrived = Vec::new();
        loop {
            let mut byte = [0];
            self.stream.as_mut()?.read_exact(&mut byte).ok()?;
            arrived.push(byte[0]);
            let Some(packet) = mqttrs::decode_slice(&arrived).unwrap() else { continue };
            if let Some(taken) = take(packet) {
                return Some(taken);
            }
            arrived.clear();
        }
    }
}

impl Client for Mqtt<'_> {
    fn connect(&mut self, client_id: &str, user_name: &str, password: &str) -> u8 {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        self.stream = Some(stream);
        self.send(&Packet::Connect(Connect {
            protocol: Protocol::MQTT311,
            keep_alive: 60,
            client_id,
            clean_session: true,
            last_will: None,
            username: Some(user_name),
            password: Some(password.as_bytes()),
        }));
        self.next(|packet| match packet {
            Packet::Connack(connack) => Some(connack.code as u8),
            _ => None,
        })
        .expect("a CONNACK")
    }

    fn subscribe(&mut self, filter: &str) {
        let topics = [SubscribeTopic { topic_path: filter.into(), qos: QoS::AtMostOnce }];
        self.send(&Packet::Subscribe(Subscribe { pid: Pid::new(), topics: topics.into_iter().collect() }));
        self.next(|packet| matches!(packet, Packet::Suback(_)).then_some(())).expect("a SUBACK");
    }

    fn publish(&mut self, topic_name: &str, payload: &[u8]) {
        let publish = Publish { dup: false, qospid: QosPid::AtMostOnce, retain: false, topic_name, payload };
        self.send(&Packet::Publish(publish));
    }

    fn receive(&mut self, _: Duration) -> Option<(String, Vec<u8>)> {
        self.operator.pop_front()?();
        self.next(|packet| match packet {
            Packet::Publish(publish) => Some((publish.topic_name.into(), publish.payload.into())),
            _ => None,
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&mut self, wait: Duration) {
        assert_eq!(wait, Duration::ZERO);
    }
}

#[test]
fn a_device_goes_from_dps_to_its_twin_and_follows_the_operator() {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    config.behaviour.polls_before_result = 0;
    let emulator = Emulator::builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap();

    // DPS and the tutorial's webhook.
    let endpoint = Endpoint::parse(emulator.http_url().unwrap()).unwrap();
    let registration = registration(TOASTER).with_payload(PAYLOAD).unwrap();
    let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(endpoint);
    let (mut key, mut buffer) = (toaster_key(), [0; 1024]);
    let transport = Transport::EmbeddedIo;
    let assignment = provision(&mut provisioning, &mut key, transport, emulator.ca_pem(), &mut buffer).unwrap();
    let hub: Hub<'_> = assignment.hub();
    assert_eq!((hub.host(), hub.device_id()), (TOASTERS_HUB, TOASTER));

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut settings = Settings::default();
    let mut session = |operator: &[&dyn Fn()]| {
        let outcome = follow(&mut Mqtt::new(&emulator, operator), &hub, &mut key, now, &mut settings).unwrap();
        (outcome, settings.darkness.clone())
    };
    let patch = |desired| emulator.patch_twin(TOASTER, json!({ "desired": desired })).unwrap();
    let nothing: &dyn Fn() = &|| ();
    let darker: &dyn Fn() = &|| patch(json!({ "darknessSetting": "dark" }));
    let none: &dyn Fn() = &|| patch(json!({ "darknessSetting": null }));
    let over = HubOutcome::Unreachable;

    // The twin from the webhook, and the answer to the report.
    assert_eq!(session(&[nothing, nothing]), (over, Some("medium".into())));
    let reported = || serde_json::Value::from(emulator.device(TOASTER).unwrap().twin.reported);
    assert_eq!(reported(), json!({ "darknessSetting": "medium" }));
    // The same twin, and then two changes.
    assert_eq!(session(&[nothing, nothing, darker]), (over, Some("dark".into())));
    assert_eq!(session(&[nothing, nothing, none]), (over, None));
    // The twin contains the changes made while the device was away.
    darker();
    assert_eq!(session(&[nothing]), (over, Some("dark".into())));

    emulator.set_hub_enabled(TOASTER, false).unwrap();
    assert_eq!(session(&[]).0, HubOutcome::Refused(401));
    emulator.set_hub_enabled(TOASTER, true).unwrap();
    assert_eq!(session(&[]).0, over);
    emulator.remove_from_hub(TOASTER).unwrap();
    assert_eq!(session(&[]).0, HubOutcome::Refused(401));
}
