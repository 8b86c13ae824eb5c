//! One device: its key, its connection and its `Provisioning`, on tokio.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Attestation, DeviceKey, Error, GroupKey, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy,
    asynch::{self, ConnectError},
    error::{Fault, TransportError},
    mqtt,
    provisioning::{Endpoint, MAX_BODY, Progress, Step},
    tls::{self, Connector},
};
use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use crate::{
    cli::{Cli, Transport},
    hub::HubAddress,
    input::Input,
};

#[path = "../mqtt_embedded/session.rs"]
pub mod session;

const TOO_MANY_REQUESTS: u16 = 429;

/// The data that all devices share.
pub struct Fleet {
    id_scope: String,
    /// Boxed, so that a move does not leave a copy of the key.
    pub group_key: Box<GroupKey>,
    payload: Option<String>,
    host: String,
    /// Looked up once. Otherwise thousands of devices would send the same DNS query.
    addresses: Vec<SocketAddr>,
    pub tls: Option<TlsConnector>,
    /// The name of the service, for TLS.
    server_name: Option<ServerName<'static>>,
    transport: Transport,
    policy: RetryPolicy,
    pub time_scale: u32,
    pub timeout: Duration,
    pub hub_address: Option<HubAddress>,
    pub hub_addresses: RefCell<HashMap<String, Vec<SocketAddr>>>,
    /// The interval of reports and telemetry of a connected device.
    pub interval: Duration,
}

/// The result of a device's run.
pub struct Outcome {
    pub result: Result<Identity, Failure>,
    /// The time since the start of this device.
    pub latency: Duration,
    /// The kind of each failure after which the device tried again.
    pub retries: Vec<String>,
    pub requests: u32,
    pub register_requests: u32,
    /// The number of answers with status 429.
    pub refused_calls: u32,
    pub connections: u32,
}

/// The assignment: hub and device ID.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub assigned_hub: String,
    pub device_id: String,
}

/// Why a run ended without an assignment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The name under which the failure is counted.
    pub kind: String,
    code: Option<u32>,
    http_status: Option<u16>,
    pub tracking_id: Option<String>,
    /// The text of the error.
    seen: String,
}

impl Failure {
    /// `cause` is the reason why the last connection failed.
    fn new(error: &Error, cause: Option<String>) -> Self {
        let refusal = match error {
            Error::Refused(refusal) | Error::Failed(refusal) | Error::OperationLost(refusal) => Some(refusal),
            _ => None,
        };
        let tracking_id = refusal.and_then(|refusal| refusal.tracking_id).map(|id| id.to_string());
        Self {
            kind: kind(error),
            code: error.code().map(|code| code.value()),
            http_status: refusal.map(|refusal| refusal.http_status),
            tracking_id: tracking_id.filter(|id| !id.is_empty()),
            seen: match cause {
                Some(cause) if matches!(error, Error::Untrusted | Error::Transport(TransportError::Connect)) => {
                    format!("{error}: {cause}")
                }
                _ => error.to_string(),
            },
        }
    }
}

/// Counts the requests on a stream: `PUT` and `GET` of HTTP, `PUBLISH` of MQTT.
struct Counted<'c, S> {
    stream: S,
    requests: &'c AtomicU32,
    /// The first byte since the last flush.
    first: Option<u8>,
}

impl<S: ErrorType> ErrorType for Counted<'_, S> {
    type Error = S::Error;
}

impl<S: Read> Read for Counted<'_, S> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, S::Error> {
        self.stream.read(buffer).await
    }
}

impl<S: Write> Write for Counted<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, S::Error> {
        self.first = self.first.or(bytes.first().copied());
        self.stream.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        const PUBLISH: u8 = 0x30;
        self.stream.flush().await?;
        if matches!(self.first.take(), Some(b'P' | b'G' | PUBLISH)) {
            self.requests.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The counters of a run.
#[derive(Clone, Copy)]
struct Counts<'c> {
    requests: &'c AtomicU32,
    connections: &'c AtomicU32,
    /// Why the last connection failed.
    cause: &'c RefCell<Option<String>>,
}

/// The clock of the state machines.
#[derive(Clone, Copy)]
pub struct Clock {
    pub started: Instant,
    pub scale: u32,
}

impl Clock {
    pub fn now(self) -> Duration {
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

pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Fleet {
    pub async fn new(args: &Cli, first_id: &str) -> Result<Self, String> {
        let endpoint = Endpoint::parse(&args.provisioning_host).map_err(|error| error.to_string())?;
        if args.time_scale > 1 && !args.is_local() {
            return Err("--time-scale is for an emulator on this machine, not for a real service".to_owned());
        }
        if args.verify && args.transport == Transport::Mqtt {
            return Err("--verify needs HTTP: the service does not offer the look-up over MQTT".to_owned());
        }
        let hub_address = args.hub_address()?;
        let has_tls = endpoint.is_https() || (args.connect && hub_address.as_ref().is_none_or(HubAddress::is_tls));
        if args.ca.is_some() && !has_tls {
            return Err("--ca needs TLS, but the endpoint is http".to_owned());
        }
        let payload = args.payload()?;
        registration(&args.id_scope, first_id, payload.as_deref()).map_err(|error| error.to_string())?;
        let host = endpoint.host().trim_matches(['[', ']']);
        let port = match (args.transport, endpoint.port()) {
            // An endpoint without a port has the HTTPS port.
            (Transport::Mqtt, 443) => mqtt::PORT,
            (_, port) => port,
        };
        let tls = match has_tls {
            true => {
                let ca = args.ca.as_deref().map(|file| Input::CA.read(file)).transpose()?;
                let mut builder = Connector::builder();
                if let Some(ca) = &ca {
                    builder = builder.with_ca(ca);
                }
                let connector = builder.build().map_err(|error| error.to_string())?;
                if let Some(proxy) = connector.proxy(&endpoint) {
                    return Err(format!("the fleet cannot go through the proxy {proxy}: list {host} in NO_PROXY"));
                }
                let mut config = ClientConfig::clone(connector.client_config());
                // The connections belong to different devices, so no device may resume the TLS session of another.
                config.resumption = Resumption::disabled();
                Some(TlsConnector::from(Arc::new(config)))
            }
            false => None,
        };
        let server_name = match endpoint.is_https() {
            true => Some(ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?),
            false => None,
        };
        let looked_up = tokio::time::timeout(args.timeout(), lookup_host((host, port))).await;
        let looked_up = looked_up.map_err(|_| format!("{host}: the DNS query timed out"))?;
        let addresses = looked_up.map_err(|error| format!("{host}: {error}"))?.collect();
        let scale = args.time_scale;
        let patience = RetryPolicy::new().request_timeout();
        // The clock runs `scale` times as fast. The factor keeps the real length of the time-outs.
        let policy = RetryPolicy::new().with_timeout(args.timeout() * scale).with_request_timeout(patience * scale);
        // The key is read last, so that nobody types a key if another argument is wrong.
        let mut group_key = Box::new(GroupKey::new());
        args.read_group_key(&mut group_key)?;
        Ok(Self {
            id_scope: args.id_scope.clone(),
            group_key,
            payload,
            host: args.provisioning_host.clone(),
            addresses,
            tls,
            server_name,
            transport: args.transport,
            policy,
            time_scale: scale,
            timeout: args.timeout(),
            hub_address,
            hub_addresses: RefCell::default(),
            interval: args.interval(),
        })
    }

    /// Provisions a device as at its first boot.
    pub async fn provision(&self, id: &str) -> Outcome {
        self.attempt(id, self.payload.as_deref(), false).await
    }

    /// Looks up the assignment of a device.
    pub async fn look_up(&self, id: &str) -> Outcome {
        self.attempt(id, None, true).await
    }

    async fn attempt(&self, id: &str, payload: Option<&str>, is_lookup: bool) -> Outcome {
        let started = Instant::now();
        let (requests, connections) = (AtomicU32::new(0), AtomicU32::new(0));
        let (mut retries, mut register_requests, mut refused_calls) = (Vec::new(), 0, 0);
        // The number of the last refused request. A run that ends later may report the same request again.
        let mut last_refused = 0;
        let mut observe = |progress| {
            let error = match progress {
                Progress::Registering => {
                    register_requests += 1;
                    return;
                }
                Progress::Retrying { error, .. } => {
                    retries.push(kind(&error));
                    error
                }
                Progress::Failed(error) => error,
                _ => return,
            };
            let request = requests.load(Ordering::Relaxed);
            let is_refused = matches!(error, Error::Refused(refusal) if refusal.http_status == TOO_MANY_REQUESTS);
            if is_refused && request > last_refused {
                last_refused = request;
                refused_calls += 1;
            }
        };
        let cause = RefCell::new(None);
        let counts = Counts { requests: &requests, connections: &connections, cause: &cause };
        let run = async {
            let registration = registration(&self.id_scope, id, payload)?;
            let mut key = DeviceKey::new();
            self.group_key.derive_into(&registration.registration_id(), &mut key)?;
            let attestation = Attestation::symmetric_key();
            let mut provisioning = match is_lookup {
                true => Provisioning::lookup(registration, attestation),
                false => Provisioning::new(registration, attestation),
            }
            .with_endpoint(Endpoint::parse(&self.host)?)
            .with_retry_policy(self.policy.with_jitter_seed(random()));
            let clock = Clock { started, scale: self.time_scale };
            // An answer of the service has at most 96 KB. Unused pages of the buffer take no memory.
            let mut buffer = vec![0; provisioning.sizes().with_returned_payload(MAX_BODY).http()];
            provisioning.start(clock.now(), unix_time());
            match self.transport {
                Transport::Http => {
                    let mut connect = async |_| self.connect(counts).await;
                    let delay = async |wait| clock.sleep(wait).await;
                    let now = || clock.now();
                    let run =
                        asynch::run(&mut provisioning, &mut key, &mut buffer, &mut connect, now, delay, &mut observe);
                    run.await.map_err(|error| error.kind())?;
                }
                Transport::Mqtt => {
                    self.over_mqtt(&mut provisioning, &mut key, clock, counts, &mut buffer, &mut observe).await;
                }
            }
            let assignment = provisioning.result(&buffer)?;
            Ok::<_, Error>(Identity {
                assigned_hub: assignment.assigned_hub().to_owned(),
                device_id: assignment.device_id().to_owned(),
            })
        };
        let result = run.await.map_err(|error| Failure::new(&error, cause.take()));
        Outcome {
            result,
            latency: started.elapsed(),
            retries,
            requests: requests.into_inner(),
            register_requests,
            refused_calls,
            connections: connections.into_inner(),
        }
    }

    async fn over_mqtt(
        &self,
        provisioning: &mut Provisioning<'_>,
        key: &mut DeviceKey,
        clock: Clock,
        counts: Counts<'_>,
        buffer: &mut [u8],
        observe: &mut impl FnMut(Progress),
    ) {
        loop {
            let step = provisioning.step(clock.now());
            provisioning.progress().into_iter().for_each(&mut *observe);
            let done = match step {
                Step::Finished => break,
                Step::Wait(wait) => {
                    clock.sleep(wait).await;
                    Ok(())
                }
                Step::Sign => provisioning.sign_with(key, buffer),
                Step::Activate => provisioning.activate_with(key, buffer),
                Step::Send => {
                    let connect = async {
                        self.connect(counts).await.map_err(|error| match error {
                            ConnectError::Untrusted(_) => Error::Untrusted,
                            ConnectError::ProxyRefused(_) => Error::ProxyRefused,
                            ConnectError::Network(_) => Error::Transport(TransportError::Connect),
                        })
                    };
                    match clock.until(provisioning.request_deadline(clock.now()), connect).await {
                        Ok(stream) => session::session(provisioning, clock, stream, buffer, observe).await,
                        Err(error) => Err(error),
                    }
                }
            };
            // This call changes nothing if no request is pending.
            done.unwrap_or_else(|error| provisioning.on_error(clock.now(), error));
        }
    }

    async fn connect<'c>(
        &self,
        counts: Counts<'c>,
    ) -> Result<Counted<'c, FromTokio<Box<dyn Stream>>>, ConnectError<tls::Error>> {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let tls = self.tls.as_ref().zip(self.server_name.clone());
        let stream = Self::open(&self.addresses, tls).await.map_err(|error| {
            *counts.cause.borrow_mut() = Some(tls::describe(&error));
            error.into_connect_error()
        })?;
        Ok(Counted { stream: FromTokio::new(stream), requests: counts.requests, first: None })
    }

    pub async fn open(
        addresses: &[SocketAddr],
        tls: Option<(&TlsConnector, ServerName<'static>)>,
    ) -> Result<Box<dyn Stream>, tls::Error> {
        let tcp = TcpStream::connect(addresses).await?;
        tcp.set_nodelay(true)?;
        Ok(match tls {
            Some((tls, name)) => Box::new(tls.connect(name, tcp).await?),
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

/// Returns a number that differs for each device and each start, so that the devices do not return at the same time.
pub fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}

/// If the clock is before 1970, the token has expired, and the service rejects it.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns the text under which an error is counted, without the parts that differ between devices.
pub fn kind(error: &Error) -> String {
    let kind = match error {
        Error::Disabled => "disabled",
        Error::Unassigned => "unassigned",
        Error::Untrusted => "untrusted certificate",
        Error::StillAssigning => "still assigning",
        Error::TimedOut => "timed out",
        Error::OperationLost(_) => "operation lost",
        Error::BufferTooSmall(_) => "answer too long",
        Error::Transport(TransportError::Connect) => "no connection",
        Error::Transport(TransportError::Closed) => "connection closed",
        Error::Transport(TransportError::Stalled) => "no answer",
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
