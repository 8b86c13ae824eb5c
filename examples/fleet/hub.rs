//! One device at its hub: it connects, reads its twin, reports, sends telemetry, and stays connected.

use std::{
    cell::Cell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use azure_dps::{
    DeviceKey, Error, RegistrationId,
    after::{
        Hub, HubOutcome,
        twin::{self, Message},
    },
    provisioning::Endpoint,
};
use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{Read, Write};
use mqttrs::{
    Connect, ConnectReturnCode, Packet, Pid, Protocol, Publish, QoS, QosPid, Subscribe, SubscribeReturnCodes,
    SubscribeTopic, decode_slice,
};
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::{
    net::lookup_host,
    sync::{Semaphore, SemaphorePermit, watch},
    time::{sleep, sleep_until, timeout},
};
use zeroize::Zeroizing;

use crate::device::{
    Clock, Fleet, Identity, Stream, kind, random,
    session::{
        STALLED,
        link::{Link, UNEXPECTED, encode},
    },
    unix_time,
};

const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// The limit for a connection attempt, and for each answer.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN_LIFE: u64 = 24 * 3600;
/// The first pause before the device connects again to a hub that it cannot reach. Each next pause is twice as long, up
/// to [`LONGEST_PAUSE`]. Random jitter adds up to the same time again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest packet that is sent is CONNECT, with user name and token.
const SENT: usize = 1536;
/// The longest twin of a simulated device, and its topic.
const RECEIVED: usize = 8192;

/// A host through which the devices connect to all hubs.
pub struct HubAddress {
    host: String,
    port: u16,
    is_tls: bool,
}

impl HubAddress {
    /// Reads `host` or `host:port`, also with the prefix `mqtts://`, or `mqtt://` for this machine.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = text.replacen("mqtts://", "https://", 1).replacen("mqtt://", "http://", 1);
        let endpoint = Endpoint::parse(&url).map_err(|error| error.to_string())?;
        let port = match endpoint.port() {
            443 => Hub::MQTT_PORT,
            80 => 1883,
            port => port,
        };
        Ok(Self { host: endpoint.host().trim_matches(['[', ']']).to_owned(), port, is_tls: endpoint.is_https() })
    }

    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }
}

/// Keeps all devices connected for some time after the last device has connected.
pub struct Hold {
    /// How many devices have neither connected nor failed.
    unsettled: Cell<usize>,
    /// Limits how many devices connect at the same time.
    slots: Semaphore,
    started: Instant,
    /// How long it took until `unsettled` was 0.
    settled_after: Cell<Duration>,
    time: Duration,
    end: watch::Sender<Option<tokio::time::Instant>>,
}

impl Hold {
    pub fn new(devices: usize, concurrency: Option<usize>, time: Duration) -> Self {
        let slots = Semaphore::new(concurrency.unwrap_or(devices));
        let (unsettled, settled_after) = (Cell::new(devices), Cell::default());
        Self { unsettled, slots, started: Instant::now(), settled_after, time, end: watch::Sender::new(None) }
    }

    /// Returns how long it took until each device had connected or failed.
    pub fn settled_after(&self) -> Duration {
        self.settled_after.get()
    }

    async fn over(&self) {
        let mut end = self.end.subscribe();
        // The sender lives as long as this future.
        let end = end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        if let Some(end) = end {
            sleep_until(end).await;
        }
    }
}

/// A device that has not connected yet. Dropping this value counts the device as settled.
struct Unsettled<'h> {
    hold: &'h Hold,
    _slot: Option<SemaphorePermit<'h>>,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        let left = self.hold.unsettled.get() - 1;
        self.hold.unsettled.set(left);
        if left == 0 {
            self.hold.settled_after.set(self.hold.started.elapsed());
            self.hold.end.send_replace(Some(tokio::time::Instant::now() + self.hold.time));
        }
    }
}

/// What a device did at its hub.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stay {
    /// The time from the first attempt until the hub accepted the first report.
    pub seconds: Option<f64>,
    /// The number of attempts to connect.
    pub connections: u32,
    /// The number of attempts that the hub accepted.
    pub sessions: u32,
    /// The number of sessions with subscriptions that the hub had kept.
    pub resumed_sessions: u32,
    /// The reason of each failed attempt or ended session after which the device tried again.
    pub breaks: Vec<String>,
    /// The longest time without a session after the first session.
    pub longest_break_seconds: f64,
    pub desired_version: u64,
    /// The number of changes of the desired properties.
    pub changes: u32,
    /// The number of reports that the hub accepted.
    pub reports: u32,
    /// The value of the property `report` in the last of these reports.
    pub last_report: u32,
    pub reported_version: u64,
    /// The number of messages that the hub acknowledged.
    pub telemetry: u32,
    /// Why the device was not connected at the end.
    pub error: Option<String>,
}

/// Why there is no session.
enum Gone {
    /// The kind of failure. Another attempt may succeed.
    Broken(String),
    /// The hub rejects the device.
    Refused(String),
}

impl From<Error> for Gone {
    fn from(error: Error) -> Self {
        Self::Broken(kind(&error))
    }
}

/// A device that stays connected.
struct Guest<'f> {
    fleet: &'f Fleet,
    hub: Hub<'f>,
    key: DeviceKey,
    hold: &'f Hold,
    unsettled: Option<Unsettled<'f>>,
    started: Instant,
    /// The number of the last report that was sent.
    report: u32,
    /// The time when the last session ended.
    lost: Option<Instant>,
    stay: Stay,
}

impl Fleet {
    /// Stays connected until `hold` is over.
    pub async fn stay(&self, id: &str, identity: &Identity, hold: &Hold) -> Stay {
        // The semaphore is never closed.
        let unsettled = Some(Unsettled { hold, _slot: hold.slots.acquire().await.ok() });
        let mut key = DeviceKey::new();
        let derived = RegistrationId::new(id).map_err(Error::from);
        let derived = derived.and_then(|id| self.group_key.derive_into(&id, &mut key).map_err(Error::from));
        // The hub comes from the service, and was checked before.
        let (Ok(()), Ok(hub)) = (derived, Hub::new(&identity.assigned_hub, &identity.device_id)) else {
            return Stay { error: Some("no hub".to_owned()), ..Stay::default() };
        };
        let (started, stay) = (Instant::now(), Stay::default());
        let mut guest = Guest { fleet: self, hub, key, hold, unsettled, started, report: 0, lost: None, stay };
        guest.run().await;
        guest.stay
    }

    /// Returns the addresses of a hub's host. Each host is looked up once.
    async fn addresses_of(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, std::io::Error> {
        if let Some(addresses) = self.hub_addresses.borrow().get(host) {
            return Ok(addresses.clone());
        }
        let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
        self.hub_addresses.borrow_mut().insert(host.to_owned(), addresses.clone());
        Ok(addresses)
    }

    async fn open_hub(&self, hub: Hub<'_>) -> Result<Box<dyn Stream>, String> {
        let (host, port, is_tls) = match &self.hub_address {
            Some(address) => (address.host.as_str(), address.port, address.is_tls),
            None => (hub.host(), hub.port().unwrap_or(Hub::MQTT_PORT), true),
        };
        let addresses = self.addresses_of(host, port).await.map_err(|_| "host not found".to_owned())?;
        let tls = match &self.tls {
            Some(tls) if is_tls => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
                Some((tls, name))
            }
            _ => None,
        };
        let opened = timeout(PATIENCE, Self::open(&addresses, tls)).await;
        opened.map_err(|_| "no answer".to_owned())?.map_err(|error| match error.into_connect_error() {
            azure_dps::asynch::ConnectError::Untrusted(_) => "untrusted certificate".to_owned(),
            _ => "no connection".to_owned(),
        })
    }
}

impl Guest<'_> {
    async fn run(&mut self) {
        let (mut pause, mut trying_since) = (FIRST_PAUSE, Instant::now());
        loop {
            let sessions = self.stay.sessions;
            let why = match self.session().await {
                Ok(()) => return,
                Err(Gone::Refused(why)) => {
                    self.stay.error = Some(why);
                    return;
                }
                Err(Gone::Broken(why)) => why,
            };
            if self.stay.sessions > sessions {
                (pause, trying_since) = (FIRST_PAUSE, Instant::now());
                self.lost = Some(trying_since);
            }
            if trying_since.elapsed() > self.fleet.timeout {
                self.stay.error = Some(why);
                return;
            }
            let jitter = pause * (random() % 1000) / 1000;
            let hold = self.hold;
            let is_over = tokio::select! {
                () = sleep((pause + jitter) / self.fleet.time_scale) => false,
                () = hold.over() => true,
            };
            if is_over {
                self.stay.error = Some(why);
                return;
            }
            self.stay.breaks.push(why);
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Runs one session until the hold is over.
    async fn session(&mut self) -> Result<(), Gone> {
        self.stay.connections += 1;
        let stream = self.fleet.open_hub(self.hub).await.map_err(Gone::Broken)?;
        let clock = Clock { started: Instant::now(), scale: 1 };
        let (mut received, mut packet) = (vec![0; RECEIVED], Zeroizing::new(vec![0; SENT]));
        let link = Link::new(FromTokio::new(stream), clock, &mut received);
        let mut session = Session { link, packet: &mut packet, clock, request_id: 0, stay: &mut self.stay };
        session.connect(self.hub, &mut self.key).await?;
        if let Some(lost) = self.lost {
            let longest = &mut session.stay.longest_break_seconds;
            *longest = longest.max(lost.elapsed().as_secs_f64());
        }
        session.read_twin().await?;
        loop {
            self.report += 1;
            session.report(self.report).await?;
            session.telemetry(self.hub, self.report).await?;
            if self.unsettled.take().is_some() {
                session.stay.seconds = Some(self.started.elapsed().as_secs_f64());
            }
            let next = clock.now().saturating_add(self.fleet.interval);
            tokio::select! {
                followed = session.follow(next) => followed?,
                () = self.hold.over() => {
                    // DISCONNECT tells the hub that the device leaves on purpose. A failure has no effect here.
                    let _ = session.send(Packet::Disconnect).await;
                    return Ok(());
                }
            }
        }
    }
}

struct Session<'s> {
    link: Link<'s, FromTokio<Box<dyn Stream>>>,
    packet: &'s mut [u8],
    clock: Clock,
    request_id: u32,
    stay: &'s mut Stay,
}

impl Session<'_> {
    fn deadline(&self) -> Duration {
        self.clock.now().saturating_add(PATIENCE)
    }

    async fn send(&mut self, packet: Packet<'_>) -> Result<(), Error> {
        let deadline = self.deadline();
        let length = encode(packet, self.packet)?;
        self.link.write(&self.packet[..length], deadline).await
    }

    async fn connect(&mut self, hub: Hub<'_>, key: &mut DeviceKey) -> Result<(), Gone> {
        let (mut user_name, mut token) = ([0; 512], Zeroizing::new([0; 512]));
        let connect = Connect {
            protocol: Protocol::MQTT311,
            keep_alive: KEEP_ALIVE.as_secs() as u16,
            client_id: hub.client_id(),
            // The hub keeps the subscriptions until the next session.
            clean_session: false,
            last_will: None,
            username: Some(hub.write_user_name(&mut user_name).map_err(Error::from)?),
            password: Some(hub.write_token(key, unix_time() + TOKEN_LIFE, &mut token[..])?.as_bytes()),
        };
        self.send(connect.into()).await?;
        let deadline = self.deadline();
        let Packet::Connack(connack) = receive(&mut self.link, deadline).await? else { return Err(UNEXPECTED.into()) };
        let (code, session_present) = (connack.code, connack.session_present);
        if code != ConnectReturnCode::Accepted {
            let why = format!("CONNACK {}", code as u8);
            return Err(match HubOutcome::from_connack(code as u8) {
                HubOutcome::Refused(401) => Gone::Refused(why),
                _ => Gone::Broken(why),
            });
        }
        self.stay.sessions += 1;
        if session_present {
            self.stay.resumed_sessions += 1;
            return Ok(());
        }
        let topic = |filter: &str| SubscribeTopic { topic_path: filter.into(), qos: QoS::AtMostOnce };
        let topics = [twin::ANSWER_FILTER, twin::CHANGE_FILTER].map(topic).into_iter().collect();
        self.send(Subscribe { pid: Pid::new(), topics }.into()).await?;
        let Packet::Suback(suback) = receive(&mut self.link, deadline).await? else { return Err(UNEXPECTED.into()) };
        match suback.return_codes.contains(&SubscribeReturnCodes::Failure) {
            true => Err(UNEXPECTED.into()),
            false => Ok(()),
        }
    }

    async fn read_twin(&mut self) -> Result<(), Gone> {
        self.request_id += 1;
        let mut topic = [0; twin::TOPIC_LEN];
        let topic = twin::write_get_topic(self.request_id, &mut topic).map_err(Error::from)?;
        self.publish(topic, b"", QosPid::AtMostOnce).await?;
        self.answer(|stay, message| {
            if let Message::Twin(twin) = message {
                stay.desired_version = twin.desired.version();
                stay.reported_version = twin.reported.version();
            }
        })
        .await
    }

    async fn report(&mut self, number: u32) -> Result<(), Gone> {
        self.request_id += 1;
        let mut topic = [0; twin::TOPIC_LEN];
        let topic = twin::write_report_topic(self.request_id, &mut topic).map_err(Error::from)?;
        let body = format!("{{\"report\":{number}}}");
        self.publish(topic, body.as_bytes(), QosPid::AtMostOnce).await?;
        self.answer(|stay, message| {
            if let Message::Reported { version, .. } = message {
                stay.reports += 1;
                stay.last_report = number;
                stay.reported_version = version.unwrap_or_default();
            }
        })
        .await
    }

    async fn telemetry(&mut self, hub: Hub<'_>, number: u32) -> Result<(), Gone> {
        let mut topic = [0; 512];
        let properties = [("$.ct", "application/json"), ("$.ce", "utf-8")];
        let topic = hub.write_telemetry_topic(&properties, &mut topic).map_err(Error::from)?;
        let body = format!("{{\"report\":{number}}}");
        let pid = Pid::new();
        self.publish(topic, body.as_bytes(), QosPid::AtLeastOnce(pid)).await?;
        let deadline = self.deadline();
        loop {
            match receive(&mut self.link, deadline).await? {
                Packet::Puback(acknowledged) if acknowledged == pid => break,
                Packet::Publish(publish) => note(self.stay, &publish)?,
                _ => {}
            }
        }
        self.stay.telemetry += 1;
        Ok(())
    }

    /// Follows changes until this time.
    async fn follow(&mut self, end: Duration) -> Result<(), Gone> {
        loop {
            let deadline = end.min(self.clock.now().saturating_add(KEEP_ALIVE / 2));
            match receive(&mut self.link, deadline).await {
                Ok(Packet::Publish(publish)) => note(self.stay, &publish)?,
                Ok(_) => {}
                Err(STALLED) if self.clock.now() >= end => return Ok(()),
                Err(STALLED) => self.send(Packet::Pingreq).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn publish(&mut self, topic_name: &str, payload: &[u8], qospid: QosPid) -> Result<(), Error> {
        self.send(Publish { dup: false, qospid, retain: false, topic_name, payload }.into()).await
    }

    /// Waits for the answer to the last request or report.
    async fn answer(&mut self, done: impl Fn(&mut Stay, Message<'_>)) -> Result<(), Gone> {
        let deadline = self.deadline();
        loop {
            let Packet::Publish(publish) = receive(&mut self.link, deadline).await? else { continue };
            let message = twin::read(publish.topic_name, publish.payload).map_err(Error::from)?;
            let request_id = match &message {
                Message::Twin(twin) => twin.request_id,
                Message::Reported { request_id, .. } => *request_id,
                Message::Refused(refusal) => refusal.request_id,
                _ => {
                    note(self.stay, &publish)?;
                    continue;
                }
            };
            if request_id == self.request_id {
                if let Message::Refused(refusal) = message {
                    let why = format!("twin refused: {}", refusal.status);
                    return Err(match refusal.is_retryable() {
                        true => Gone::Broken(why),
                        false => Gone::Refused(why),
                    });
                }
                done(self.stay, message);
                return Ok(());
            }
        }
    }
}

async fn receive<'l, S: Read + Write>(link: &'l mut Link<'_, S>, deadline: Duration) -> Result<Packet<'l>, Error> {
    link.receive(deadline).await?;
    decode_slice(link.packet()).ok().flatten().ok_or(UNEXPECTED)
}

/// Counts a change of the desired properties.
fn note(stay: &mut Stay, publish: &Publish<'_>) -> Result<(), Error> {
    if let Message::Change(change) = twin::read(publish.topic_name, publish.payload)? {
        stay.changes += 1;
        stay.desired_version = change.version();
    }
    Ok(())
}
