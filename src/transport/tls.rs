//! TCP and TLS connections for Linux, with a CA file, a client certificate, a proxy and IPv6.
//!
//! This module uses [rustls] 0.23. Create a [`Connector`] once. Its [`connect`](Connector::connect) opens the streams for
//! [`blocking::run`](crate::blocking::run). For an MQTT client, use [`Connector::client_config`].
//!
//! The program must install a `CryptoProvider` of rustls at its start:
//!
//! ```no_run
//! use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
//! use azure_dps::{blocking, identity::NoKey, tls::Connector};
//! use std::{fs, thread, time::{Duration, Instant, SystemTime, UNIX_EPOCH}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
//! let tls = Connector::builder()
//!     .with_ca(&fs::read("ca.pem")?) // without this call: the certificates that this machine trusts
//!     .with_client_certificate(&fs::read("device.pem")?, &fs::read("device-key.pem")?)
//!     .build()?;
//!
//! let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("sn-007")?);
//! let mut provisioning = Provisioning::new(registration, Attestation::x509());
//! let endpoint = *provisioning.endpoint();
//! let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
//! let started = Instant::now();
//! let mut connect = |end: Duration| tls.connect(&endpoint, end.saturating_sub(started.elapsed()));
//! let clock = || started.elapsed();
//! let mut buffer = [0; 4096];
//! provisioning.start(clock(), unix_time);
//! blocking::run(&mut provisioning, &mut NoKey, &mut buffer, &mut connect, clock, thread::sleep, |_| ())?;
//! let assignment = provisioning.result(&buffer)?;
//! println!("{} {}", assignment.assigned_hub(), assignment.device_id());
//! # Ok(())
//! # }
//! ```
//!
//! # Which certificates are trusted
//!
//! | setting | trusted certificates |
//! |---|---|
//! | [`Builder::with_ca`] | only the given certificates |
//! | the environment variable `SSL_CERT_FILE` or `SSL_CERT_DIR` | only the certificates there |
//! | none | the certificates that the operating system trusts |
//!
//! # Proxies
//!
//! - [`Builder::build`] reads `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY` and `all_proxy`, in this order. It uses the first
//!   one that is not empty. The URL has `http://` or no scheme.
//! - `NO_PROXY` or `no_proxy` lists hosts to reach without the proxy, as for curl: names (with their subdomains),
//!   addresses, networks such as `10.0.0.0/8`, or `*`.
//! - The connector sends CONNECT for a tunnel to the service. So the proxy sees only the host name of the service.
//! - A SOCKS proxy, a proxy with `https://`, or an invalid value is an error. A proxy is never ignored silently.
//! - A plain `http://` endpoint is on this machine, and uses no proxy.
//!
//! # Time-outs
//!
//! | action | time-out |
//! |---|---|
//! | all of [`Connector::connect`]: look-up of the host name, connection, CONNECT and handshake | its argument `within` |
//! | connection to one address of the host | [`Builder::with_connect_timeout`], 10 s |
//! | CONNECT and the TLS handshake | [`Builder::with_handshake_timeout`], 30 s |
//! | one read or write, even if the server sends byte by byte | [`Builder::with_io_timeout`], 30 s |
//!
//! If the look-up of a host name times out, its thread stays behind until the system's resolver returns.
//!
//! [rustls]: https://docs.rs/rustls/0.23

use std::{
    boxed::Box,
    env,
    error::Error as StdError,
    fmt, format, fs,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    path::PathBuf,
    string::{String, ToString},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
    vec::Vec,
};

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
};

use super::{byte_stream::ConnectError, proxy};
use crate::provisioning::Endpoint;

const MAX_CA: usize = 4 << 20;
const MAX_CHAIN: usize = 1 << 20;
const MAX_KEY: usize = 64 << 10;
/// The maximum length of the head of a proxy's answer to CONNECT.
const MAX_HEAD: usize = 8 << 10;

/// Opens connections to the service. [`Connector::builder`] creates it.
///
/// See the [module](self) for an example. A clone shares the configuration.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    proxy: Arc<Matcher>,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    io_timeout: Duration,
}

impl Connector {
    /// Creates a [`Builder`] with the CA certificates of this machine, no client certificate, and the proxy of the
    /// environment.
    pub fn builder<'a>() -> Builder<'a> {
        Builder {
            ca: None,
            identity: None,
            proxy: ProxySetting::Environment,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(30),
            io_timeout: Duration::from_secs(30),
        }
    }

    /// Returns the TLS configuration, for clients of other protocols such as MQTT. It does not contain the proxy: see
    /// [`Connector::proxy`].
    pub const fn client_config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Returns the URL of the proxy that [`Connector::connect`] uses for this endpoint, without user and password.
    pub fn proxy(&self, endpoint: &Endpoint<'_>) -> Option<String> {
        self.intercept(endpoint).map(|proxy| proxy.uri().to_string())
    }

    /// Opens a connection to the endpoint within a time. Uses TLS if the endpoint has `https`, and completes the
    /// handshake.
    ///
    /// # Errors
    /// - [`ConnectError::Untrusted`] if TLS rejects the server. A new attempt does not help;
    /// - [`ConnectError::ProxyRefused`] if a proxy needs another user, or forbids the tunnel. A new attempt does not help;
    /// - [`ConnectError::Network`] for any other error, and after the time `within`.
    pub fn connect(&self, endpoint: &Endpoint<'_>, within: Duration) -> Result<Stream, ConnectError<Error>> {
        self.open(endpoint, within).map_err(Error::into_connect_error)
    }

    fn open(&self, endpoint: &Endpoint<'_>, within: Duration) -> Result<Stream, Error> {
        let end = after(within);
        let host = bare(endpoint.host());
        let name = ServerName::try_from(host.to_string()).map_err(|_| Error::ServerName(host.to_string()))?;
        let proxy = self.intercept(endpoint);
        let (peer, port) = match &proxy {
            // Port 80 is the default of a URL with `http://`.
            Some(proxy) => (proxy.uri().host().map_or("", bare), proxy.uri().port_u16().unwrap_or(80)),
            None => (host, endpoint.port()),
        };
        let tcp = self.connect_tcp(peer, port, end).map_err(|error| match &proxy {
            Some(proxy) => io::Error::new(error.kind(), format!("the proxy {}: {error}", proxy.uri())),
            None => error,
        })?;
        tcp.set_nodelay(true)?;
        let mut socket = Socket { tcp, until: end.min(after(self.handshake_timeout)) };
        if let Some(proxy) = proxy {
            tunnel(&mut socket, endpoint, &proxy)?;
        }
        let inner = match endpoint.is_https() {
            true => {
                let mut session = ClientConnection::new(Arc::clone(&self.config), name).map_err(Error::Tls)?;
                session.complete_io(&mut socket)?;
                Inner::Tls(Box::new(StreamOwned::new(session, socket)))
            }
            false => Inner::Plain(socket),
        };
        Ok(Stream { inner, timeout: self.io_timeout })
    }

    fn intercept(&self, endpoint: &Endpoint<'_>) -> Option<Intercept> {
        if !endpoint.is_https() {
            return None;
        }
        self.proxy.intercept(&format!("https://{}/", endpoint.host()).parse().ok()?)
    }

    /// Tries the addresses of the host in order.
    fn connect_tcp(&self, host: &str, port: u16, end: Instant) -> io::Result<TcpStream> {
        let mut last = io::Error::new(ErrorKind::NotFound, format!("the host name {host} has no address"));
        for address in look_up(host, port, end)? {
            match TcpStream::connect_timeout(&address, self.connect_timeout.min(time_left(end)?)) {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    last = io::Error::new(ErrorKind::TimedOut, format!("{address} did not answer in time"));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

/// The settings of a [`Connector`]. [`Builder::build`] checks them.
pub struct Builder<'a> {
    ca: Option<&'a [u8]>,
    identity: Option<(&'a [u8], &'a [u8])>,
    proxy: ProxySetting<'a>,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    io_timeout: Duration,
}

enum ProxySetting<'a> {
    Environment,
    None,
    Url { url: &'a str, except: &'a str },
}

impl<'a> Builder<'a> {
    /// Sets the trusted CA certificates: PEM, or one certificate in DER. The default is those of this machine.
    ///
    /// The maximum length is 4 MiB.
    #[must_use]
    pub const fn with_ca(mut self, certificates: &'a [u8]) -> Self {
        self.ca = Some(certificates);
        self
    }

    /// Sets the certificate chain and the private key of the device: PEM or DER. The key must not be encrypted.
    ///
    /// The chain begins with the certificate of the device. The intermediate certificates follow, up to the CA that the
    /// enrollment names. The maximum length is 1 MiB for the chain and 64 KiB for the key.
    #[must_use]
    pub const fn with_client_certificate(mut self, chain: &'a [u8], private_key: &'a [u8]) -> Self {
        self.identity = Some((chain, private_key));
        self
    }

    /// Sets the proxy: `http://[user:password@]host[:port]`. The default is the proxy of the environment.
    ///
    /// `except` lists hosts to reach without the proxy, in the format of `NO_PROXY`.
    #[must_use]
    pub const fn with_proxy(mut self, url: &'a str, except: &'a str) -> Self {
        self.proxy = ProxySetting::Url { url, except };
        self
    }

    /// Sets that no proxy is used. Ignores the environment.
    #[must_use]
    pub const fn without_proxy(mut self) -> Self {
        self.proxy = ProxySetting::None;
        self
    }

    /// Sets the time-out for the connection to one address of the host. The default is 10 seconds.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the time-out for CONNECT and the TLS handshake. The default is 30 seconds.
    #[must_use]
    pub const fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sets the time-out for one complete read or write of the stream. The default is 30 seconds.
    #[must_use]
    pub const fn with_io_timeout(mut self, timeout: Duration) -> Self {
        self.io_timeout = timeout;
        self
    }

    /// Creates the [`Connector`]. Reads the environment, and the CA certificates of this machine if none are set.
    ///
    /// # Errors
    /// [`Error`] with the first setting that is invalid. Correct the setting or the environment.
    pub fn build(self) -> Result<Connector, Error> {
        let provider = CryptoProvider::get_default().ok_or(Error::NoCryptoProvider)?;
        let roots = match self.ca {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(Input::Ca, ca)? {
                    roots.add(certificate).map_err(Error::Tls)?;
                }
                roots
            }
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots);
        let config = match self.identity {
            Some((chain, key)) => {
                let chain = certificates(Input::Certificate, chain)?;
                check_own(&chain)?;
                let key = private_key(key)?;
                config.with_client_auth_cert(chain, key).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => Error::KeyMismatch,
                    error => Input::PrivateKey.error(Problem::Unusable(error.to_string())),
                })?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Connector {
            config: Arc::new(config),
            proxy: Arc::new(self.proxy.matcher()?),
            connect_timeout: self.connect_timeout,
            handshake_timeout: self.handshake_timeout,
            io_timeout: self.io_timeout,
        })
    }
}

impl fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

impl ProxySetting<'_> {
    fn matcher(self) -> Result<Matcher, Error> {
        let none = || Matcher::builder().build();
        let (source, url, except) = match self {
            Self::None => return Ok(none()),
            Self::Url { url, except } => ("with_proxy", url.to_string(), except.to_string()),
            Self::Environment => {
                let Some((variable, url)) = proxy::variable() else { return Ok(none()) };
                let except = env::var("NO_PROXY").ok().filter(|list| !list.is_empty());
                let except = except.or_else(|| env::var("no_proxy").ok()).unwrap_or_default();
                // A value that is not UTF-8 is not a URL, and is rejected below.
                (variable, url.to_string_lossy().into_owned(), except)
            }
        };
        // `*` excludes every host.
        if except.trim() == "*" {
            return Ok(none());
        }
        let proxies = |except: &str| Matcher::builder().https(url.as_str()).no(except).build();
        let wrong = |why| Err(Error::Proxy { source, why });
        // The matcher ignores a value that it cannot read, but accepts an invalid port.
        let found = "https://host/".parse().ok().and_then(|any| proxies("").intercept(&any)).filter(|proxy| {
            let uri = proxy.uri();
            uri.port_u16().is_some() || uri.authority().map(|authority| authority.as_str()) == uri.host()
        });
        match found {
            None => wrong("it is not a URL such as http://proxy.example:3128"),
            Some(proxy) if proxy.uri().scheme_str() != Some("http") => {
                wrong("the proxy must have a URL with http:// (SOCKS proxies and TLS to the proxy are not supported)")
            }
            Some(_) => Ok(proxies(&except)),
        }
    }
}

/// Returns the name of the environment variable that names a proxy for HTTPS, if there is one.
///
/// `NO_PROXY` may exclude the service's host: see [`Connector::proxy`].
pub fn proxy_variable() -> Option<&'static str> {
    proxy::variable().map(|(name, _)| name)
}

/// Returns the CA certificates of this machine, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`. Skips certificates that
/// cannot be read.
fn system_roots() -> Result<RootCertStore, Error> {
    const VARIABLE: &str = "SSL_CERT_FILE";
    let file = env::var_os(VARIABLE).map(PathBuf::from);
    if let Some(file) = &file {
        let wrong = |why: &dyn fmt::Display| {
            Err(Error::Roots(format!("{VARIABLE}: cannot read the CA certificates: {}: {why}", file.display())))
        };
        match fs::metadata(file) {
            Err(error) => return wrong(&error),
            // To open a pipe would wait for its writer. A device may be infinite.
            Ok(file) if !file.is_file() => return wrong(&"it is not a regular file"),
            Ok(file) if file.len() > MAX_CA as u64 => return wrong(&Problem::TooLarge { limit: MAX_CA }),
            Ok(_) => {}
        }
    }
    let found = ::rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    Err(Error::Roots(match (file, found.errors.first()) {
        (Some(file), _) => format!("{VARIABLE}: no PEM certificate in {}", file.display()),
        (None, Some(error)) => format!("this machine's CA certificates cannot be read: {error}"),
        (None, None) => "this machine has no CA certificates: install its package ca-certificates, or name a file in \
                         SSL_CERT_FILE"
            .to_string(),
    }))
}

/// Reads certificates from PEM, or one certificate from DER.
fn certificates(input: Input, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = input.checked(bytes)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| input.error(Problem::Unusable(error.to_string())))?;
    let is_x509 = |certificate: &CertificateDer<'_>| webpki::anchor_from_trusted_cert(certificate).is_ok();
    match certificates.iter().position(|certificate| !is_x509(certificate)) {
        Some(index) => Err(input.error(Problem::Invalid { number: index + 1 })),
        None if !certificates.is_empty() => Ok(certificates),
        None => match CertificateDer::from(bytes) {
            der if is_x509(&der) => Ok(Vec::from([der.into_owned()])),
            _ => Err(input.error(Problem::NoCertificate)),
        },
    }
}

/// Checks that no certificate is X.509 version 1 or 2. TLS accepts version 3 only.
fn check_own(chain: &[CertificateDer<'_>]) -> Result<(), Error> {
    let is_old = |certificate| {
        matches!(webpki::EndEntityCert::try_from(certificate), Err(webpki::Error::UnsupportedCertVersion))
    };
    match chain.iter().position(is_old) {
        Some(index) => Err(Input::Certificate.error(Problem::OldVersion { number: index + 1 })),
        None => Ok(()),
    }
}

/// Reads a private key from PEM or DER.
fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let input = Input::PrivateKey;
    let bytes = input.checked(bytes)?;
    if bytes.windows(9).any(|text| text == b"ENCRYPTED") {
        return Err(input.error(Problem::Encrypted));
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Err(pem::Error::NoItemsFound) => {
            PrivateKeyDer::try_from(bytes).map(|key| key.clone_key()).map_err(|_| input.error(Problem::NoPrivateKey))
        }
        // The text of the error is not used, because it may quote a line of the key.
        key => key.map_err(|_| input.error(Problem::Unusable("it is not PEM".to_string()))),
    }
}

/// Returns a host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Returns the time after `time` from now. It is limited to 68 years, to avoid an overflow.
fn after(time: Duration) -> Instant {
    Instant::now() + time.min(Duration::from_secs(1 << 31))
}

fn time_left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(silence()),
        left => Ok(left),
    }
}

fn silence() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, SILENCE)
}

const SILENCE: &str = "the other side was silent for too long";

/// Returns the addresses of a host. The system's resolver has no time-out, so it runs in a thread.
fn look_up(host: &str, port: u16, end: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Vec::from([SocketAddr::new(address, port)]));
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_string();
    let resolve = move || {
        let addresses = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        // After the time-out, there is no receiver.
        let _ = sender.send(addresses);
    };
    thread::Builder::new().spawn(resolve)?;
    receiver.recv_timeout(time_left(end)?).unwrap_or_else(|_| {
        Err(io::Error::new(ErrorKind::TimedOut, format!("the address of {host} was not found in time")))
    })
}

/// Opens a tunnel to the endpoint through the proxy.
///
/// Source: [CONNECT](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6).
fn tunnel(socket: &mut Socket, endpoint: &Endpoint<'_>, proxy: &Intercept) -> Result<(), Error> {
    let target = format!("{}:{}", endpoint.host(), endpoint.port());
    let mut request = Vec::from(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some(authorization) = proxy.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    socket.write_all(&request)?;

    let mut head = Vec::new();
    loop {
        let mut byte = [0];
        // The head is read byte by byte, because the bytes after it belong to the tunnel.
        if head.len() == MAX_HEAD || socket.read(&mut byte)? == 0 {
            return Err(Error::Tunnel(None));
        }
        head.extend_from_slice(&byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        match (answer.parse(&head), answer.code) {
            (Ok(_), Some(200..300)) => return Ok(()),
            (Ok(_), Some(100..200)) => head.clear(),
            (Ok(_), status) => return Err(Error::Tunnel(status)),
            (Err(_), _) => return Err(Error::Tunnel(None)),
        }
    }
}

/// A connection to the service, with or without TLS, from [`Connector::connect`].
///
/// The type implements the traits of `embedded_io` and of `std::io`. A read or write that takes longer than
/// [`Builder::with_io_timeout`] fails with `ErrorKind::TimedOut`.
pub struct Stream {
    inner: Inner,
    timeout: Duration,
}

enum Inner {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}

impl Stream {
    /// Returns the stream with a new deadline. The deadline is for the whole read, because a TLS record may arrive byte
    /// by byte.
    fn in_time(&mut self) -> &mut dyn ReadWrite {
        let until = after(self.timeout);
        match &mut self.inner {
            Inner::Plain(socket) => {
                socket.until = until;
                socket
            }
            Inner::Tls(stream) => {
                stream.sock.until = until;
                stream
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time().read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.in_time().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.in_time().flush()
    }
}

impl embedded_io::ErrorType for Stream {
    type Error = io::Error;
}

impl embedded_io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }
}

impl embedded_io::Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Write::write(self, buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

/// A TCP stream whose reads and writes have a deadline.
struct Socket {
    tcp: TcpStream,
    until: Instant,
}

impl Socket {
    fn in_time<T>(
        &mut self,
        set: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        mut work: impl FnMut(&mut TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            set(&self.tcp, Some(time_left(self.until)?))?;
            match work(&mut self.tcp) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux reports a time-out as `WouldBlock`.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(silence());
                }
                done => return done,
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time(TcpStream::set_read_timeout, |tcp| tcp.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.in_time(TcpStream::set_write_timeout, |tcp| tcp.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// The error of a [`Connector`] that cannot be created, or that cannot connect.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The program has not installed a `CryptoProvider` of rustls.
    NoCryptoProvider,
    /// A certificate or a key from the caller is invalid.
    Input {
        /// The invalid part.
        input: Input,
        /// The problem.
        problem: Problem,
    },
    /// The private key does not belong to the first certificate of the chain.
    KeyMismatch,
    /// The CA certificates of this machine cannot be used, for this reason.
    Roots(String),
    /// The setting of the proxy is invalid.
    #[non_exhaustive]
    Proxy {
        /// The environment variable, or `with_proxy`.
        source: &'static str,
        /// The problem. It does not contain the value, which may have a password.
        why: &'static str,
    },
    /// The proxy did not open a tunnel. This is the HTTP status of its answer, or `None` if the answer was not HTTP.
    Tunnel(Option<u16>),
    /// This host name cannot be in a certificate.
    ServerName(String),
    /// TLS failed. [`describe`] returns a text for this error.
    Tls(rustls::Error),
    /// The network failed.
    Network(io::Error),
}

impl Error {
    /// Converts the error for [`blocking::run`](crate::blocking::run). The kind decides whether the run tries again.
    ///
    /// | error | result |
    /// |---|---|
    /// | TLS rejects the server: its certificate, or bytes that are not TLS | [`ConnectError::Untrusted`]: the run ends |
    /// | the proxy answers 4xx, except 408 and 429 | [`ConnectError::ProxyRefused`]: the run ends |
    /// | an alert from the server, a failure of the network, a busy proxy | [`ConnectError::Network`]: the run tries again |
    ///
    /// Use it also for the errors of another TLS client with [`Connector::client_config`]:
    ///
    /// ```
    /// use azure_dps::{blocking::ConnectError, tls};
    /// use std::io::{Error, ErrorKind};
    ///
    /// let error = Error::from(ErrorKind::ConnectionReset); // from a handshake
    /// assert!(matches!(tls::Error::from(error).into_connect_error(), ConnectError::Network(_)));
    /// ```
    pub fn into_connect_error(self) -> ConnectError<Self> {
        match self {
            // RFC 9110, section 15.5: the client must change something, except for 408 and 429.
            Self::Tunnel(Some(status @ 400..500)) if !matches!(status, 408 | 429) => ConnectError::ProxyRefused(self),
            Self::Tls(rustls::Error::AlertReceived(_)) | Self::Network(_) | Self::Tunnel(_) => {
                ConnectError::Network(self)
            }
            _ => ConnectError::Untrusted(self),
        }
    }
}

/// If `error` wraps an error of rustls, the result is [`Error::Tls`].
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        error.downcast().map_or_else(Self::Network, Self::Tls)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCryptoProvider => f.write_str(
                "rustls has no cryptography: call \
                 `rustls::crypto::aws_lc_rs::default_provider().install_default()` at the start of the program",
            ),
            Self::Input { input, problem } => write!(f, "{input}: {problem}"),
            Self::KeyMismatch => f.write_str(
                "the private key does not belong to the first certificate of the chain, which must be the device's certificate",
            ),
            Self::Roots(why) => f.write_str(why),
            Self::Proxy { source, why } => write!(f, "{source}: {why}"),
            Self::Tunnel(Some(407)) => {
                f.write_str("the proxy needs a user and a password (HTTP 407): http://user:password@host:port")
            }
            Self::Tunnel(Some(status)) => write!(f, "the proxy did not open a tunnel: HTTP {status}"),
            Self::Tunnel(None) => f.write_str("the proxy did not answer CONNECT as an HTTP proxy does"),
            Self::ServerName(host) => write!(f, "the host name {host} cannot be in a certificate"),
            Self::Tls(error) => f.write_str(&describe(error)),
            Self::Network(error) => f.write_str(&describe(error)),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::Network(error) => Some(error),
            _ => None,
        }
    }
}

/// The inputs of a [`Builder`] that an [`Error`] can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// The certificates of [`Builder::with_ca`].
    Ca,
    /// The chain of [`Builder::with_client_certificate`].
    Certificate,
    /// The private key of [`Builder::with_client_certificate`].
    PrivateKey,
}

impl Input {
    const fn error(self, problem: Problem) -> Error {
        Error::Input { input: self, problem }
    }

    /// Checks the length, and returns the bytes without the byte order mark of Windows editors.
    fn checked(self, bytes: &[u8]) -> Result<&[u8], Error> {
        let limit = match self {
            Self::Ca => MAX_CA,
            Self::Certificate => MAX_CHAIN,
            Self::PrivateKey => MAX_KEY,
        };
        if bytes.len() > limit {
            return Err(self.error(Problem::TooLarge { limit }));
        }
        Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "the CA certificates",
            Self::Certificate => "the device's certificate",
            Self::PrivateKey => "the private key",
        })
    }
}

/// The problems that certificates or a private key can have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The input is too long.
    TooLarge {
        /// The maximum length in bytes.
        limit: usize,
    },
    /// The input has no certificate.
    NoCertificate,
    /// The input has no private key.
    NoPrivateKey,
    /// The private key is encrypted.
    Encrypted,
    /// A certificate is X.509 version 1 or 2. TLS accepts version 3 only.
    OldVersion {
        /// The number of the certificate in the input, from 1.
        number: usize,
    },
    /// A PEM section has the label of a certificate, but is not an X.509 certificate.
    Invalid {
        /// The number of the certificate in the input, from 1.
        number: usize,
    },
    /// The input cannot be used, for this reason.
    Unusable(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "more than {limit} bytes"),
            Self::NoCertificate => f.write_str(
                "no certificate in PEM or DER (`openssl pkcs12 -in FILE -nodes` converts a .pfx file to PEM)",
            ),
            Self::NoPrivateKey => f.write_str("no private key: use PEM or DER, not encrypted"),
            Self::Encrypted => f.write_str("the key is encrypted: `openssl pkey -in FILE -out FILE` decrypts it"),
            Self::OldVersion { number } => {
                write!(
                    f,
                    "certificate {number} is X.509 version 1 or 2, but TLS accepts version 3 only: {MAKE_VERSION_3}"
                )
            }
            Self::Invalid { number } => write!(f, "certificate {number} is not an X.509 certificate"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

/// OpenSSL before 3.4 creates a certificate of version 3 only if extensions are given.
const MAKE_VERSION_3: &str = "create one of version 3 with \
    `openssl x509 -req -in FILE.csr -CA CA.pem -CAkey CA-key.pem -days 365 -out FILE.pem -extfile v3.ext`; \
    v3.ext has the line basicConstraints=CA:FALSE, and for a server subjectAltName=DNS:its-host-name";

/// Returns the text of an error, in plain words for three errors that are hard to understand.
///
/// These are a time-out, which Linux calls "Resource temporarily unavailable", and two reasons why TLS rejects a
/// server's certificate. The function searches the whole chain of causes, so the error may come from an MQTT or HTTP
/// client.
pub fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) = error.downcast_ref() {
            return match other.0.downcast_ref() {
                Some(webpki::Error::UnsupportedCertVersion) => format!(
                    "the server's certificate, or one between it and its CA, is not X.509 version 3, but TLS accepts no other: \
                     {MAKE_VERSION_3}"
                ),
                Some(webpki::Error::CaUsedAsEndEntity) => format!(
                    "the server presents a CA certificate (basicConstraints=CA:TRUE) as its own: {MAKE_VERSION_3}"
                ),
                _ => error.to_string(),
            };
        }
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| {
            io.get_ref().is_none() && matches!(io.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        }) {
            return SILENCE.to_string();
        }
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    error.to_string()
}
