//! Provisioning over real sockets. Only waits are virtual.
#![allow(dead_code, reason = "each test file uses its part")]

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use azure_dps::{
    Assignment, Error, Provisioning, asynch,
    blocking::{self, ConnectError},
    error::ErrorCode,
    https,
    identity::Sign,
    provisioning::{Progress, Step},
    tls::Connector,
};
use embedded_io_adapters::{std::FromStd, tokio_1::FromTokio};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};

#[path = "../../examples/mqtt_embedded/session.rs"]
mod session;

/// The transports that the tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    EmbeddedIo,
    EmbeddedIoTls,
    EmbeddedIoAsyncTls,
    Minreq,
    /// The session of the example `mqtt_embedded`.
    MqttTls,
}

pub const TRANSPORTS: [Transport; 5] = [
    Transport::EmbeddedIo,
    Transport::EmbeddedIoTls,
    Transport::EmbeddedIoAsyncTls,
    Transport::Minreq,
    Transport::MqttTls,
];

impl Transport {
    /// Returns the code with which the service rejects a symmetric key.
    pub fn refused_key(self) -> ErrorCode {
        ErrorCode::from(if self == Self::MqttTls { 401_000 } else { 401_002 })
    }
}

/// The roots that a TLS client trusts, and its certificate.
#[derive(Clone, Copy)]
pub struct Tls<'a> {
    pub ca: &'a str,
    /// A chain and its key, as PEM.
    pub client: Option<(&'a str, &'a str)>,
}

impl<'a> From<&'a str> for Tls<'a> {
    fn from(ca: &'a str) -> Self {
        Self { ca, client: None }
    }
}

/// Variables of a user's environment that name a proxy. Servers on this machine are not behind it.
pub const PROXY_VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

/// Returns the wall clock time, for tokens that the emulator checks.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Runs to the end. The waits of the run pass on the state machine's clock, and take a few milliseconds of real time.
pub fn provision<'a, 'b>(
    provisioning: &'b mut Provisioning<'_>,
    signer: &mut impl Sign,
    transport: Transport,
    tls: impl Into<Tls<'a>>,
    buffer: &'b mut [u8],
) -> Result<Assignment<'b>, Error> {
    run(provisioning, signer, transport, tls.into(), buffer, |_| ())?;
    provisioning.result(buffer)
}

/// Runs to the end with an observer.
pub fn run(
    provisioning: &mut Provisioning<'_>,
    signer: &mut impl Sign,
    transport: Transport,
    tls: Tls<'_>,
    buffer: &mut [u8],
    observe: impl FnMut(Progress),
) -> Result<(), Error> {
    let started = Instant::now();
    let skipped = Cell::new(Duration::ZERO);
    let clock = || started.elapsed() + skipped.get();
    let delay = |wait: Duration| {
        let real = wait.min(Duration::from_millis(20));
        thread::sleep(real);
        skipped.set(skipped.get() + wait - real);
    };
    let endpoint = *provisioning.endpoint();
    provisioning.start(clock(), unix_time());
    match transport {
        Transport::Minreq => {
            https::run(provisioning, signer, buffer, clock, delay, observe).map_err(|error| error.kind())?;
        }
        Transport::MqttTls => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(over_mqtt(provisioning, signer, tls, buffer, observe));
        }
        Transport::EmbeddedIoAsyncTls => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let clock = Clock::new();
            let delay = async |wait| {
                // `pending` never completes, so this call ends with the wait.
                let _ = clock.until(clock.now() + wait, pending::<Result<(), _>>()).await;
            };
            let mut connect = async |_| {
                let socket = tokio::net::TcpStream::connect((endpoint.host(), endpoint.port())).await?;
                let name = ServerName::try_from(endpoint.host().to_string()).map_err(io::Error::other)?;
                let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.config()?));
                Ok(FromTokio::new(connector.connect(name, socket).await.map_err(refused)?))
            };
            let run = asynch::run(provisioning, signer, buffer, &mut connect, || clock.now(), delay, observe);
            runtime.block_on(run).map_err(|error| error.kind())?;
        }
        Transport::EmbeddedIoTls => {
            let mut builder = Connector::builder().with_ca(tls.ca.as_bytes()).without_proxy();
            if let Some((chain, key)) = tls.client {
                builder = builder.with_client_certificate(chain.as_bytes(), key.as_bytes());
            }
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let connector = builder.with_io_timeout(Duration::from_secs(10)).build().unwrap();
            let mut connect = |end: Duration| connector.connect(&endpoint, end.saturating_sub(clock()));
            blocking::run(provisioning, signer, buffer, &mut connect, clock, delay, observe)
                .map_err(|error| error.kind())?;
        }
        Transport::EmbeddedIo => {
            let mut connect = |_| -> Result<_, ConnectError<io::Error>> {
                let socket = TcpStream::connect((endpoint.host(), endpoint.port()))?;
                socket.set_read_timeout(Some(Duration::from_secs(10)))?;
                Ok(FromStd::new(socket))
            };
            blocking::run(provisioning, signer, buffer, &mut connect, clock, delay, observe)
                .map_err(|error| error.kind())?;
        }
    }
    provisioning.result(buffer).map(|_| ())
}

/// Opens a new session for each signature, as the example `mqtt_embedded` does.
async fn over_mqtt(
    provisioning: &mut Provisioning<'_>,
    signer: &mut impl Sign,
    tls: Tls<'_>,
    buffer: &mut [u8],
    mut observe: impl FnMut(Progress),
) {
    let clock = Clock::new();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.config().unwrap()));
    loop {
        let step = provisioning.step(clock.now());
        provisioning.progress().into_iter().for_each(&mut observe);
        match step {
            Step::Finished => return,
            Step::Sign => {
                let signed = provisioning.sign_with(signer, buffer);
                signed.unwrap_or_else(|error| provisioning.on_error(clock.now(), error));
            }
            Step::Activate => provisioning.on_error(clock.now(), Error::Unsupported),
            Step::Wait(wait) => {
                let _ = clock.until(clock.now() + wait, pending::<Result<(), _>>()).await;
            }
            Step::Send => {
                let (host, port) = (provisioning.endpoint().host().to_owned(), provisioning.endpoint().port());
                let socket = tokio::net::TcpStream::connect((host.as_str(), port)).await.unwrap();
                let ended = match connector.connect(ServerName::try_from(host).unwrap(), socket).await {
                    Ok(stream) => {
                        session::session(provisioning, clock, FromTokio::new(stream), buffer, &mut observe).await
                    }
                    Err(error) => Err(blocking::Error::<_, io::Error>::from(refused(error)).kind()),
                };
                ended.unwrap_or_else(|error| provisioning.on_error(clock.now(), error));
            }
        }
    }
}

/// The timer of async runs. It replaces the board's timer in the example's session.
#[derive(Clone, Copy)]
struct Clock {
    started: Instant,
    skipped: &'static Cell<Duration>,
}

impl Clock {
    fn new() -> Self {
        Self { started: Instant::now(), skipped: Box::leak(Box::default()) }
    }

    pub fn now(self) -> Duration {
        self.started.elapsed() + self.skipped.get()
    }

    pub async fn until<T>(self, deadline: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let left = deadline.saturating_sub(self.now());
        // The time-out of a request (60 s) passes in real time, because the operation may need it. Of other waits, all
        // but 20 ms is skipped.
        let real = if (58..=60).contains(&left.as_secs()) { left } else { left.min(Duration::from_millis(20)) };
        tokio::time::timeout(real, work).await.unwrap_or_else(|_| {
            self.skipped.set(self.skipped.get() + left - real);
            Err(session::STALLED)
        })
    }
}

/// Returns a final error, because a retry would not change a TLS error.
pub fn refused(error: io::Error) -> ConnectError<io::Error> {
    match error.get_ref().is_some_and(|error| error.is::<rustls::Error>()) {
        true => ConnectError::Untrusted(error),
        false => ConnectError::Network(error),
    }
}

impl Tls<'_> {
    pub fn config(self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(self.ca)? {
            roots.add(certificate).map_err(io::Error::other)?;
        }
        // The service supports nothing newer.
        let config =
            ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]).with_root_certificates(roots);
        let Some((chain, key)) = self.client else { return Ok(config.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
        config.with_client_auth_cert(certificates(chain)?, key).map_err(io::Error::other)
    }
}

fn certificates(pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(io::Error::other)
}
