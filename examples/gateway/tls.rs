//! TLS that trusts the certificates of a file or shows one of the device's, for the library's
//! embedded-io transport, since minreq can do neither, and for MQTT.

use std::{
    error::Error,
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use azure_dps::{Endpoint, embedded_io::ConnectError};
use embedded_io_adapters::std::FromStd;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
};
use zeroize::Zeroizing;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a handshake, one read or one write; without it a silent peer would never be given up.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

/// A record may come byte by byte, each of them in time: the time-out is for all that a read takes.
pub struct Stream {
    tls: StreamOwned<ClientConnection, Socket>,
    timeout: Duration,
}

impl Stream {
    fn in_time(&mut self) -> &mut StreamOwned<ClientConnection, Socket> {
        self.tls.sock.until = Instant::now() + self.timeout;
        &mut self.tls
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

/// Waits no longer than this.
struct Socket {
    tcp: TcpStream,
    until: Instant,
}

fn time_left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(time_left(self.until)?))?;
        self.tcp.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(time_left(self.until)?))?;
        self.tcp.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

pub struct Tls {
    config: Arc<ClientConfig>,
    at_most: Duration,
}

impl Tls {
    /// Trusts the PEM certificates of the file `ca` and no others; without one, what this machine
    /// trusts, or what `SSL_CERT_FILE` names. Shows the certificate of the files `identity`, chain
    /// and private key. Nothing waits for longer than `at_most`.
    pub fn new(ca: Option<&Path>, identity: Option<(&Path, &Path)>, at_most: Duration) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(file) => {
                let unusable = |error: &dyn Error| format!("cannot use the CA file {}: {error}", file.display());
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|error| unusable(&error))?;
                }
            }
            // A root that cannot be read is one that is not trusted.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            Some((chain, key)) => {
                config.with_client_auth_cert(certificates(chain)?, private_key(key)?).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => format!(
                        "the private key in {} is not that of the first certificate in {}, which must be the device's own",
                        key.display(),
                        chain.display()
                    ),
                    _ => format!("cannot use {} with {}: {error}", chain.display(), key.display()),
                })?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), at_most })
    }

    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// A stream to the endpoint whose handshake is done by then: a certificate that is not
    /// trusted is an error here and not in the first request.
    pub fn connect(&self, endpoint: &Endpoint<'_>, until: Instant) -> Result<FromStd<Stream>, ConnectError<io::Error>> {
        let host = endpoint.host().trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let tcp = connect_tcp(host, endpoint.port(), until)?;
        tcp.set_nodelay(true)?;
        let timeout = IO_TIMEOUT.min(self.at_most);
        let mut socket = Socket { tcp, until: until.min(Instant::now() + timeout) };
        let mut session = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        session.complete_io(&mut socket).map_err(classify)?;
        Ok(FromStd::new(Stream { tls: StreamOwned::new(session, socket), timeout }))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(format!("no PEM certificate in {}", file.display())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("cannot read the certificates in {}: {error}", file.display())),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let cannot_read = |error: &dyn Error| format!("cannot read the private key in {}: {error}", file.display());
    let text = Zeroizing::new(fs::read(file).map_err(|error| cannot_read(&error))?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("no PEM private key in {}; an encrypted one cannot be used", file.display())
        }
        _ => cannot_read(&error),
    })
}

/// Whatever address of the host answers first, tried in order.
fn connect_tcp(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(time_left(until)?)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What TLS itself objects to (a certificate, a peer that speaks something else) will be the
/// same the next time. What the peer complains of may pass, and so may the network.
pub fn classify(error: io::Error) -> ConnectError<io::Error> {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        None | Some(rustls::Error::AlertReceived(_)) => ConnectError::Network(error),
        Some(_) => ConnectError::Untrusted(error),
    }
}

/// The error's text, but for the time-outs: Linux calls them "Resource temporarily unavailable".
pub fn describe(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref().map(io::Error::kind) {
        Some(ErrorKind::WouldBlock | ErrorKind::TimedOut) => "the other side was silent for too long".to_owned(),
        _ => error.to_string(),
    }
}
