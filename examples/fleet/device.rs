//! One device: a key, a connection and a `Provisioning` of its own, on tokio.

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Assignment, Credential, DeviceKey, Endpoint, Error, Fault, GroupKey, IdScope, Progress, Provisioning, Registration,
    RegistrationId, RetryPolicy, Step, TransportFault,
    embedded_io_async::{self, ConnectError},
    mqtt,
};
use embedded_io_adapters::tokio_1::FromTokio;
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use crate::cli::{Cli, Transport};

#[path = "../mqtt_embedded/session.rs"]
mod session;
#[allow(dead_code, reason = "the example `gateway` uses more of it")]
#[path = "../gateway/tls.rs"]
mod tls;

/// What all devices have in common.
pub struct Fleet {
    id_scope: String,
    group_key: GroupKey,
    payload: Option<String>,
    host: String,
    /// Looked up once: thousands of devices on one machine would ask thousands of times.
    addresses: Vec<SocketAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    transport: Transport,
    policy: RetryPolicy,
    time_scale: u32,
}

/// What became of a device.
pub struct Outcome {
    /// The hub and the ID there, or why there is none.
    pub result: Result<(String, String), String>,
    /// From the device's own beginning.
    pub latency: Duration,
    /// Why something had to be done again, each time.
    pub retries: Vec<String>,
    pub connections: u32,
}

/// The time as the devices' state machines see it.
#[derive(Clone, Copy)]
struct Clock {
    started: Instant,
    scale: u32,
}

impl Clock {
    fn now(self) -> Duration {
        self.started.elapsed() * self.scale
    }

    async fn sleep(self, wait: Duration) {
        tokio::time::sleep(wait / self.scale).await;
    }

    async fn until<T>(self, deadline: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let left = deadline.saturating_sub(self.now()) / self.scale;
        tokio::time::timeout(left, work).await.unwrap_or(Err(session::STALLED))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Fleet {
    pub async fn new(args: &Cli) -> Result<Self, String> {
        let endpoint = Endpoint::parse(&args.provisioning_host).map_err(|error| error.to_string())?;
        if args.time_scale > 1 && !args.is_local() {
            return Err("--time-scale is for an emulator on this machine: a service means what it asks for".to_owned());
        }
        if args.verify && args.transport == Transport::Mqtt {
            return Err("--verify is for HTTP: the service does not offer the look-up over MQTT".to_owned());
        }
        if args.ca.is_some() && !endpoint.is_https() {
            return Err("--ca is for TLS: there is none on an http endpoint".to_owned());
        }
        let payload = args.payload()?;
        if let (Some(payload), Some(id)) = (&payload, args.registration_ids().first()) {
            registration(&args.id_scope, id, Some(payload)).map_err(|error| error.to_string())?;
        }
        let host = endpoint.host().trim_matches(['[', ']']);
        let port = match (args.transport, endpoint.port()) {
            // An endpoint without a port has that of HTTPS.
            (Transport::Mqtt, 443) => mqtt::PORT,
            (_, port) => port,
        };
        let addresses = lookup_host((host, port)).await.map_err(|error| format!("{host}: {error}"))?.collect();
        let tls = match endpoint.is_https() {
            true => {
                let mut config = ClientConfig::clone(tls::Tls::new(args.ca.as_deref(), None, args.timeout())?.config());
                // These are different devices: none can take up another one's session.
                config.resumption = Resumption::disabled();
                let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            false => None,
        };
        let scale = args.time_scale;
        let patience = RetryPolicy::new().request_timeout;
        // Only waits pass faster: what the machine takes is measured in its own time.
        let policy = RetryPolicy::new().with_timeout(args.timeout() * scale).with_request_timeout(patience * scale);
        Ok(Self {
            id_scope: args.id_scope.clone(),
            // Last, so that nobody types a key for nothing.
            group_key: args.group_key()?,
            payload,
            host: args.provisioning_host.clone(),
            addresses,
            tls,
            transport: args.transport,
            policy,
            time_scale: scale,
        })
    }

    /// A device's first boot.
    pub async fn provision(&self, id: &str) -> Outcome {
        self.attempt(id, self.payload.as_deref(), false).await
    }

    /// What the service says of a device.
    pub async fn look_up(&self, id: &str) -> Outcome {
        self.attempt(id, None, true).await
    }

    async fn attempt(&self, id: &str, payload: Option<&str>, is_lookup: bool) -> Outcome {
        let started = Instant::now();
        let (mut retries, connections) = (Vec::new(), Cell::new(0));
        let mut observer = |progress| {
            if let Progress::Retrying { error, .. } = progress {
                retries.push(kind(&error));
            }
        };
        let run = async {
            let registration = registration(&self.id_scope, id, payload)?;
            let mut key: DeviceKey = self.group_key.derive(&registration.registration_id());
            let credential = Credential::sas(&mut key);
            let mut provisioning = match is_lookup {
                true => Provisioning::lookup(registration, credential),
                false => Provisioning::new(registration, credential),
            }
            .with_endpoint(Endpoint::parse(&self.host)?)
            .with_retry_policy(self.policy)
            .with_observer(&mut observer);
            let clock = Clock { started, scale: self.time_scale };
            // Room for any request, and for any message: those of the service have at most 96 KB. What is not
            // used of it takes no memory.
            let mut buffer = vec![0; 128 * 1024 + payload.map_or(0, str::len)];
            let assignment = match self.transport {
                Transport::Http => self.over_http(&mut provisioning, clock, &connections, &mut buffer).await?,
                Transport::Mqtt => self.over_mqtt(&mut provisioning, clock, &connections, &mut buffer).await?,
            };
            Ok::<_, Error>((assignment.assigned_hub().to_owned(), assignment.device_id().chars().collect()))
        };
        let result = run.await.map_err(|error| kind(&error));
        Outcome { result, latency: started.elapsed(), retries, connections: connections.get() }
    }

    async fn over_http<'b>(
        &self,
        provisioning: &mut Provisioning<'_>,
        clock: Clock,
        connections: &Cell<u32>,
        buffer: &'b mut [u8],
    ) -> Result<Assignment<'b>, Error> {
        let connect = async |_| {
            connections.set(connections.get() + 1);
            self.connect().await.map(FromTokio::new)
        };
        let delay = async |wait| clock.sleep(wait).await;
        embedded_io_async::provision(provisioning, unix_time(), buffer, connect, || clock.now(), delay)
            .await
            .map_err(|error| error.kind())
    }

    async fn over_mqtt<'b>(
        &self,
        provisioning: &mut Provisioning<'_>,
        clock: Clock,
        connections: &Cell<u32>,
        buffer: &'b mut [u8],
    ) -> Result<Assignment<'b>, Error> {
        provisioning.start(clock.now(), unix_time());
        loop {
            match provisioning.step(clock.now()) {
                Step::Finished => break,
                Step::Wait(wait) => clock.sleep(wait).await,
                Step::Send => {
                    connections.set(connections.get() + 1);
                    let connect = async {
                        self.connect().await.map_err(|error| match error {
                            ConnectError::Untrusted(_) => Error::Untrusted,
                            ConnectError::Network(_) => Error::Transport(TransportFault::Connect),
                        })
                    };
                    let ended = match clock.until(provisioning.request_deadline(clock.now()), connect).await {
                        Ok(stream) => session::session(provisioning, clock, FromTokio::new(stream), buffer).await,
                        Err(error) => Err(error),
                    };
                    // Changes nothing where no request was due.
                    ended.unwrap_or_else(|error| provisioning.on_error(clock.now(), error));
                }
            }
        }
        provisioning.result(buffer)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, ConnectError<io::Error>> {
        let tcp = TcpStream::connect(self.addresses.as_slice()).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            Some((tls, name)) => Box::new(tls.connect(name.clone(), tcp).await.map_err(tls::classify)?),
            None => Box::new(tcp),
        })
    }
}

fn registration<'a>(id_scope: &'a str, id: &'a str, payload: Option<&'a str>) -> Result<Registration<'a>, Error> {
    let registration = Registration::new(IdScope::new(id_scope)?, RegistrationId::new(id)?);
    match payload {
        Some(payload) => Ok(registration.with_payload(payload)?),
        None => Ok(registration),
    }
}

/// A clock before 1970 gets a token that has expired, and the service says so.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An error as it is counted: without what differs from device to device.
fn kind(error: &Error) -> String {
    let kind = match error {
        Error::Disabled => "disabled",
        Error::Unassigned => "unassigned",
        Error::Untrusted => "untrusted certificate",
        Error::StillAssigning => "still assigning",
        Error::TimedOut => "timed out",
        Error::OperationLost(_) => "operation lost",
        Error::BufferTooSmall(_) => "too long an answer",
        Error::Transport(TransportFault::Connect) => "no connection",
        Error::Transport(TransportFault::Closed) => "connection closed",
        Error::Transport(TransportFault::Stalled) => "no answer",
        Error::Transport(_) => "connection broken",
        _ => match error.fault() {
            Fault::Credential => "unauthorized",
            Fault::Refused => "refused",
            Fault::Busy => "busy",
            Fault::Peer => "not DPS",
            _ => return error.to_string(),
        },
    };
    match (error.code(), error) {
        (Some(code), _) => format!("{kind}: {}", code.value()),
        (None, Error::Refused(refusal)) => format!("{kind}: HTTP {}", refusal.http_status),
        _ => kind.to_owned(),
    }
}
