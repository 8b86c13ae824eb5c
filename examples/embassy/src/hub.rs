//! A session with the IoT hub over MQTT 3.1.1, with the device's twin. Copy this file.

#[path = "../../mqtt_embedded/link.rs"]
mod link;

use core::{fmt, time::Duration};

use azure_dps::{
    DeviceKey,
    after::{
        Hub, HubOutcome,
        twin::{self, Message, Order, Properties, Twin},
    },
    asynch::ConnectError,
    error::{BufferTooSmall, Fault},
};
use embassy_time::{Instant, with_timeout};
use link::{Link, STALLED, UNEXPECTED, encode};
use mqttrs::{
    Connect, ConnectReturnCode, Packet, Pid, Protocol, Publish, QoS, QosPid, Subscribe, SubscribeReturnCodes,
    SubscribeTopic, decode_slice,
};
use zeroize::Zeroize;

use crate::tls::{self, Connector, Stream};

/// The hub closes a session that sends nothing for one and a half times as long.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// The longest wait for a connection, and for each answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// These two packets have only a type.
const PINGREQ: &[u8] = &[0xc0, 0];
const DISCONNECT: &[u8] = &[0xe0, 0];
/// The longest JSON object to report.
pub const REPORT: usize = 96;
/// A PUBLISH has fewer than 8 bytes besides topic and body. A SUBSCRIBE for two filters is shorter.
const SENT: usize = twin::TOPIC_LEN + REPORT + 8;

/// The timer of embassy.
#[derive(Clone, Copy)]
pub struct Clock;

impl Clock {
    pub fn now(self) -> Duration {
        Duration::from_micros(Instant::now().as_micros())
    }

    async fn until<T, E: From<azure_dps::Error>>(
        self,
        deadline: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let left = deadline.saturating_sub(self.now());
        let left = embassy_time::Duration::from_micros(left.as_micros() as u64);
        with_timeout(left, work).await.unwrap_or_else(|_| Err(STALLED.into()))
    }
}

/// Writes the CONNECT packet into `packet`, with a token that is valid until `expiry`, in Unix time. Returns its length.
/// User name and token are written into `scratch` first: 1 200 bytes are enough for any hub.
#[inline(never)]
pub fn write_connect(
    hub: &Hub<'_>,
    key: &mut DeviceKey,
    expiry: u64,
    scratch: &mut [u8],
    packet: &mut [u8],
) -> Result<usize, azure_dps::Error> {
    let len = encode_connect(hub, key, expiry, scratch, packet);
    scratch.zeroize();
    len
}

fn encode_connect(
    hub: &Hub<'_>,
    key: &mut DeviceKey,
    expiry: u64,
    scratch: &mut [u8],
    packet: &mut [u8],
) -> Result<usize, azure_dps::Error> {
    let user_name_len = hub.write_user_name(scratch)?.len();
    let (user_name, password) = scratch.split_at_mut(user_name_len);
    let connect = Connect {
        protocol: Protocol::MQTT311,
        keep_alive: KEEP_ALIVE.as_secs() as u16,
        client_id: hub.client_id(),
        // This device subscribes in each session.
        clean_session: true,
        last_will: None,
        username: str::from_utf8(user_name).ok(),
        password: Some(hub.write_token(key, expiry, password)?.as_bytes()),
    };
    encode(connect.into(), packet)
}

/// An open session.
pub struct Session<'s> {
    link: Link<'s, Stream<'s>>,
    to_send: [u8; SENT],
    request_id: u32,
    /// The version of the desired properties that the device has.
    known: u64,
    /// A change arrived while the device waited for an answer.
    has_missed: bool,
}

/// A change of the desired properties.
pub enum Change<'b> {
    /// The next change after the version that the device has.
    Next(Properties<'b>),
    /// An earlier change is missing: ask for the twin.
    Gap,
    /// No change arrived in time.
    None,
}

impl<'s> Session<'s> {
    /// Opens a session with the CONNECT packet at the start of `buffer`. `address` is `host` or an IPv4 address. After that,
    /// the session uses the buffer to receive.
    pub async fn open(
        connector: &'s mut Connector<'_>,
        (host, address, port): (&str, &str, u16),
        buffer: &'s mut [u8],
        connect_len: usize,
    ) -> Result<Self, Error> {
        let deadline = deadline();
        let connecting = async { connector.connect(host, address, port).await.map_err(Error::Connect) };
        let mut stream = Clock.until(deadline, connecting).await?;
        link::write(&mut stream, Clock, &buffer[..connect_len], deadline).await?;
        buffer[..connect_len].zeroize();
        let link = Link::new(stream, Clock, buffer);
        let mut session = Self { link, to_send: [0; SENT], request_id: 0, known: 0, has_missed: false };
        session.link.receive(deadline).await?;
        match connack(&session.link)? {
            ConnectReturnCode::Accepted => {}
            refused => return Err(Error::Refused(refused as u8)),
        }
        let len = encode_subscribe(&mut session.to_send)?;
        session.link.write(&session.to_send[..len], deadline).await?;
        loop {
            session.link.receive(deadline).await?;
            match is_subscribed(&session.link) {
                Some(true) => return Ok(session),
                Some(false) => return Err(UNEXPECTED.into()),
                // A change. The device reads the whole twin later.
                None => {}
            }
        }
    }

    /// Asks for the twin. Its packet must fit the buffer: see [`twin::answer_len`].
    pub async fn twin(&mut self) -> Result<Twin<'_>, Error> {
        self.has_missed = false;
        self.ask(twin::write_get_topic, "").await?;
        let Message::Twin(twin) = last(&self.link)? else { return Err(UNEXPECTED.into()) };
        self.known = twin.desired.version();
        Ok(twin)
    }

    /// Reports properties: a JSON object of at most [`REPORT`] bytes.
    pub async fn report(&mut self, properties: &str) -> Result<(), Error> {
        self.ask(twin::write_report_topic, properties).await
    }

    /// Waits until `end` for a change of the desired properties.
    pub async fn change(&mut self, end: Duration) -> Result<Change<'_>, Error> {
        let known = self.known;
        let is_new =
            |message: &Message<'_>| matches!(message, Message::Change(change) if change.order(known) != Order::Known);
        loop {
            if self.has_missed {
                return Ok(Change::Gap);
            }
            match self.receive(end.min(Clock.now().saturating_add(KEEP_ALIVE / 2)), is_new).await {
                Ok(()) => break,
                Err(Error::Session(STALLED)) if Clock.now() >= end => return Ok(Change::None),
                Err(Error::Session(STALLED)) => {
                    self.link.write(PINGREQ, deadline()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        match last(&self.link)? {
            Message::Change(change) if change.order(known) == Order::Next => {
                self.known = change.version();
                Ok(Change::Next(change))
            }
            _ => Ok(Change::Gap),
        }
    }

    /// Ends the session.
    pub async fn close(&mut self) -> Result<(), Error> {
        Ok(self.link.write(DISCONNECT, deadline()).await?)
    }

    /// Publishes a request for the twin or a report, and waits for the answer.
    async fn ask(
        &mut self,
        write_topic: fn(u32, &mut [u8]) -> Result<&str, BufferTooSmall>,
        body: &str,
    ) -> Result<(), Error> {
        self.request_id += 1;
        let (request_id, deadline) = (self.request_id, deadline());
        let mut topic = [0; twin::TOPIC_LEN];
        let topic = write_topic(request_id, &mut topic).map_err(azure_dps::Error::from)?;
        let len = encode_publish(topic, body, &mut self.to_send)?;
        self.link.write(&self.to_send[..len], deadline).await?;
        let is_answer = |message: &Message<'_>| match message {
            Message::Twin(twin) => twin.request_id == request_id,
            Message::Reported { request_id: id, .. } => *id == request_id,
            Message::Refused(refusal) => refusal.request_id == request_id,
            _ => false,
        };
        self.receive(deadline, is_answer).await?;
        match last(&self.link)? {
            Message::Refused(refusal) => Err(Error::Answer(refusal.status, refusal.fault(), refusal.hub_outcome())),
            _ => Ok(()),
        }
    }

    /// Receives until the awaited message is there.
    async fn receive(&mut self, deadline: Duration, is_awaited: impl Fn(&Message<'_>) -> bool) -> Result<(), Error> {
        loop {
            self.link.receive(deadline).await?;
            let message = last(&self.link)?;
            if is_awaited(&message) {
                return Ok(());
            }
            if let Message::Change(change) = message {
                self.has_missed |= change.order(self.known) != Order::Known;
            }
        }
    }
}

fn deadline() -> Duration {
    Clock.now().saturating_add(PATIENCE)
}

// These functions are not inlined, because a packet takes more than 1 KB. A handshake needs this stack.

#[inline(never)]
fn encode_subscribe(buffer: &mut [u8]) -> Result<usize, azure_dps::Error> {
    let filters = [twin::ANSWER_FILTER, twin::CHANGE_FILTER];
    let topics = filters.map(|filter| SubscribeTopic { topic_path: filter.into(), qos: QoS::AtMostOnce });
    encode(Subscribe { pid: Pid::new(), topics: topics.into_iter().collect() }.into(), buffer)
}

#[inline(never)]
fn encode_publish(topic_name: &str, body: &str, buffer: &mut [u8]) -> Result<usize, azure_dps::Error> {
    let (qospid, payload) = (QosPid::AtMostOnce, body.as_bytes());
    encode(Publish { dup: false, qospid, retain: false, topic_name, payload }.into(), buffer)
}

#[inline(never)]
fn connack(link: &Link<'_, Stream<'_>>) -> Result<ConnectReturnCode, azure_dps::Error> {
    let Ok(Some(Packet::Connack(connack))) = decode_slice(link.packet()) else { return Err(UNEXPECTED) };
    Ok(connack.code)
}

#[inline(never)]
fn is_subscribed(link: &Link<'_, Stream<'_>>) -> Option<bool> {
    let Ok(Some(Packet::Suback(suback))) = decode_slice(link.packet()) else { return None };
    Some(!suback.return_codes.contains(&SubscribeReturnCodes::Failure))
}

#[inline(never)]
fn last<'b>(link: &'b Link<'_, Stream<'_>>) -> Result<Message<'b>, Error> {
    let Some(Packet::Publish(message)) = decode_slice(link.packet()).map_err(|_| UNEXPECTED)? else {
        return Ok(Message::Other);
    };
    Ok(twin::read(message.topic_name, message.payload).map_err(azure_dps::Error::from)?)
}

/// Why there is no session, or why it ended.
pub enum Error {
    Connect(ConnectError<tls::Error>),
    /// The hub rejected CONNECT with this return code of MQTT.
    Refused(u8),
    /// The hub rejected a request with this status. The outcome is there if the hub rejects the device.
    Answer(u16, Fault, Option<HubOutcome>),
    Session(azure_dps::Error),
}

impl Error {
    /// Returns the outcome for [`Reprovisioning::on_hub`](azure_dps::after::Reprovisioning::on_hub).
    pub fn outcome(&self) -> HubOutcome {
        match self {
            Error::Refused(code) => HubOutcome::from_connack(*code),
            Error::Answer(_, _, Some(outcome)) => *outcome,
            _ => HubOutcome::Unreachable,
        }
    }

    pub fn fault(&self) -> Fault {
        match self {
            Error::Connect(ConnectError::Network(_)) => Fault::Transport,
            Error::Connect(_) => Fault::Peer,
            // 3 means that the hub is unavailable for now.
            Error::Refused(3) => Fault::Busy,
            Error::Refused(_) => Fault::Refused,
            Error::Answer(_, fault, _) => *fault,
            Error::Session(error) => error.fault(),
        }
    }
}

impl From<azure_dps::Error> for Error {
    fn from(error: azure_dps::Error) -> Self {
        Error::Session(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect(
                ConnectError::Network(error) | ConnectError::Untrusted(error) | ConnectError::ProxyRefused(error),
            ) => error.fmt(f),
            Error::Refused(code) => write!(f, "CONNECT was answered with {code}"),
            Error::Answer(status, ..) => write!(f, "the answer was {status}"),
            Error::Session(error) => error.fmt(f),
        }
    }
}
