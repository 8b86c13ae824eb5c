//! A device that uses MQTT packet by packet. The packets are made and read by another codec than the emulator's.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use azure_dps_emulator::Emulator;
use bytes::BytesMut;
use hyper_tungstenite::tungstenite::{self, Message, WebSocket, client::IntoClientRequest};
use rumqttc::{
    QoS,
    mqttbytes::{
        Error,
        v4::{ConnAck, Connect, Packet, PubAck, Publish, Subscribe, SubscribeReasonCode},
    },
};
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};

use super::{
    GROUP_KEY, SCOPE, TOASTER, derive, token,
    x509::{Identity, tls_config},
};

pub const FILTER: &str = "$dps/registrations/res/#";
pub const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=1";

pub fn poll_topic(operation_id: &str) -> String {
    format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId={operation_id}")
}

pub trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// The messages of a WebSocket as a stream of bytes.
pub struct Frames<S>(pub WebSocket<S>, pub Vec<u8>);

impl<S: Read + Write> Read for Frames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.1.is_empty() {
            match self.0.read() {
                Ok(Message::Binary(bytes)) => self.1 = bytes.to_vec(),
                Ok(_) => {}
                Err(_) => return Ok(0),
            }
        }
        let length = self.1.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.1.drain(..length).collect::<Vec<_>>());
        Ok(length)
    }
}

impl<S: Read + Write> Write for Frames<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(Message::binary(bytes.to_vec())).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn tcp(url: &str) -> TcpStream {
    let address = url.split('/').nth(2).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    // A time-out, so that no test waits for ever.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

pub fn tls(emulator: &Emulator, url: &str, identity: Option<&Identity>) -> StreamOwned<ClientConnection, TcpStream> {
    let config = Arc::new(tls_config(emulator, identity));
    let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, tcp(url))
}

pub fn websocket<S: Read + Write>(
    url: &str,
    subprotocol: Option<&'static str>,
    stream: S,
) -> Result<WebSocket<S>, tungstenite::Error> {
    let mut request = url.into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
    }
    match tungstenite::client::client(request, stream) {
        Ok((websocket, response)) => {
            let chosen = response.headers()["sec-websocket-protocol"].to_str().unwrap();
            // The server must choose one of the offers, in its spelling.
            assert!(subprotocol.unwrap().split(", ").any(|offered| offered == chosen), "{chosen}");
            assert_eq!(chosen.to_lowercase(), "mqtt");
            Ok(websocket)
        }
        Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

pub fn ws_url(emulator: &Emulator) -> String {
    format!("{}/", emulator.http_url().unwrap().replace("http:", "ws:"))
}

/// A device that uses MQTT packet by packet.
pub struct Client {
    pub wire: Box<dyn Wire>,
    pub received: BytesMut,
    pub registration_id: String,
}

impl Client {
    pub fn new(wire: impl Wire + 'static, registration_id: &str) -> Self {
        Self { wire: Box::new(wire), received: BytesMut::new(), registration_id: registration_id.to_owned() }
    }

    /// Opens a connection to one of the listeners, without CONNECT.
    pub fn open(emulator: &Emulator, listener: &str, registration_id: &str) -> Self {
        Self::open_as(emulator, listener, registration_id, None)
    }

    /// Opens a connection with a certificate in TLS.
    pub fn open_as(emulator: &Emulator, listener: &str, registration_id: &str, identity: Option<&Identity>) -> Self {
        match listener {
            "mqtt" => Self::new(tcp(emulator.mqtt_url().unwrap()), registration_id),
            "mqtts" => Self::new(tls(emulator, emulator.mqtts_url().unwrap(), identity), registration_id),
            "ws" => {
                let url = ws_url(emulator);
                let websocket = websocket(&url, Some("mqtt"), tcp(&url)).unwrap();
                Self::new(Frames(websocket, vec![]), registration_id)
            }
            _ => {
                let url = emulator.wss_url().unwrap();
                let websocket = websocket(&url, Some("mqttv5, mqtt"), tls(emulator, &url, identity)).unwrap();
                Self::new(Frames(websocket, vec![]), registration_id)
            }
        }
    }

    /// A device of the tutorial's group, connected and subscribed with QoS 1.
    pub fn of_group(emulator: &Emulator, listener: &str, registration_id: &str) -> Self {
        let key = derive(GROUP_KEY, registration_id);
        let mut client = Self::open(emulator, listener, registration_id);
        assert_eq!(client.connect(&token(&key, registration_id)), Some(0));
        assert_eq!(client.subscribe(FILTER, QoS::AtLeastOnce), granted(QoS::AtLeastOnce));
        client
    }

    /// The toaster on the plain listener.
    pub fn toaster(emulator: &Emulator) -> Self {
        Self::of_group(emulator, "mqtt", TOASTER)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // If the emulator has closed the connection, the next read reports it.
        let _ = self.wire.write_all(bytes).and_then(|()| self.wire.flush());
    }

    pub fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.write(&bytes);
    }

    /// Reads the next packet. Returns `None` at the end of the connection.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.received, usize::MAX) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let mut buffer = [0; 4096];
            match self.wire.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no packet came"),
                Err(_) => return None,
            }
        }
    }

    pub fn packet(&self, password: &str) -> Connect {
        let mut connect = Connect::new(self.registration_id.as_str());
        let user_name = format!("{SCOPE}/registrations/{}/api-version=2019-03-31", self.registration_id);
        connect.set_login(format!("{user_name}&ClientVersion=a%2Fdevice"), password);
        connect.keep_alive = 60;
        connect
    }

    /// Connects. Returns the return code of CONNACK.
    pub fn connect(&mut self, password: &str) -> Option<u8> {
        let connect = self.packet(password);
        self.connect_with(connect)
    }

    pub fn connect_with(&mut self, connect: Connect) -> Option<u8> {
        self.send(&Packet::Connect(connect));
        self.connack()
    }

    pub fn connack(&mut self) -> Option<u8> {
        match self.receive()? {
            Packet::ConnAck(ConnAck { session_present: false, code }) => Some(code as u8),
            other => panic!("{other:?}"),
        }
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> SubscribeReasonCode {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 7;
        self.send(&Packet::Subscribe(subscribe));
        match self.receive() {
            Some(Packet::SubAck(ack)) if ack.pkid == 7 => ack.return_codes[0],
            other => panic!("{other:?}"),
        }
    }

    pub fn publish(&mut self, topic: &str, qos: QoS, body: &str) {
        let mut publish = Publish::new(topic, qos, body);
        publish.pkid = 9;
        self.send(&Packet::Publish(publish));
    }

    /// Reads the next message. Returns its QoS, its topic after `res/`, and its body.
    pub fn message(&mut self) -> (QoS, String, Value) {
        let Some(Packet::Publish(publish)) = self.receive() else { panic!("no message") };
        if publish.qos == QoS::AtLeastOnce {
            self.send(&Packet::PubAck(PubAck::new(publish.pkid)));
        }
        let topic = publish.topic.strip_prefix("$dps/registrations/res/").unwrap().to_owned();
        let body = String::from_utf8(publish.payload.to_vec()).unwrap();
        (publish.qos, topic, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Publishes with QoS 0. Returns the answer.
    pub fn ask(&mut self, topic: &str, body: &str) -> (String, Value) {
        self.publish(topic, QoS::AtMostOnce, body);
        let (_, topic, body) = self.message();
        (topic, body)
    }

    pub fn register(&mut self) -> String {
        let (topic, body) = self.ask(REGISTER, &json!({ "registrationId": self.registration_id }).to_string());
        assert_eq!((topic.as_str(), &body["status"]), ("202/?$rid=1&retry-after=3", &json!("assigning")));
        body["operationId"].as_str().unwrap().to_owned()
    }

    pub fn poll(&mut self, operation_id: &str) -> Value {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            let (topic, body) = self.ask(&poll_topic(operation_id), "");
            if body["status"] != "assigning" {
                assert_eq!(topic, "200/?$rid=2", "{body}");
                return body;
            }
            assert_eq!(topic, "202/?$rid=2&retry-after=3", "{body}");
        }
        panic!("no result");
    }

    pub fn provision(&mut self) -> Value {
        let operation_id = self.register();
        self.poll(&operation_id)
    }

    pub fn assigned_hub(&mut self) -> String {
        let body = self.provision();
        assert_eq!(body["status"], "assigned", "{body}");
        body["registrationState"]["assignedHub"].as_str().unwrap().to_owned()
    }
}

pub fn granted(qos: QoS) -> SubscribeReasonCode {
    SubscribeReasonCode::Success(qos)
}
