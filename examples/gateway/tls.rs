//! Streams for the library's embedded-io transport, plain or over TLS that trusts the certificates of
//! a file or shows one of the device's, since minreq can do neither; and such TLS for MQTT.

use std::{
    cell::Cell,
    env,
    error::Error,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use azure_dps::{Endpoint, embedded_io::ConnectError};
use embedded_io_adapters::std::FromStd;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time, x509::X509Version};

use crate::input::{self, Input};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a handshake, one read or one write; without it a silent peer would never be given up.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}

/// A record of TLS may come byte by byte, each of them in time: the time-out is for all that a read takes.
pub struct Stream {
    inner: Box<dyn ReadWrite>,
    until: Rc<Cell<Instant>>,
    timeout: Duration,
}

impl Stream {
    fn in_time(&mut self) -> &mut dyn ReadWrite {
        self.until.set(Instant::now() + self.timeout);
        &mut *self.inner
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
    until: Rc<Cell<Instant>>,
}

fn time_left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(time_left(self.until.get())?))?;
        self.tcp.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(time_left(self.until.get())?))?;
        self.tcp.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// Trusts the certificates of the file `ca` and no others; without one, what this machine trusts, or
/// what `SSL_CERT_FILE` names. Shows the certificate of the files `identity`, chain and private key.
pub fn client_config(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let unusable = |error: &dyn Error| format!("cannot use the CA file {}: {error}", file.display());
            for certificate in certificates(Input::CA, file)? {
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
        }
        None => {
            check_ssl_cert_file()?;
            // A root that cannot be read is one that is not trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let Some((chain_file, key_file)) = identity else { return Ok(config.with_no_client_auth()) };
    let chain = certificates(Input::CERTIFICATE, chain_file)?;
    for (certificate, number) in chain.iter().zip(1..) {
        check_own(certificate).map_err(|error| format!("certificate {number} in {} {error}", chain_file.display()))?;
    }
    if let Some(why) = chain.first().and_then(out_of_date) {
        eprintln!("warning: the device's certificate in {} {why} by this machine's clock", chain_file.display());
    }
    config.with_client_auth_cert(chain, private_key(key_file)?).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the private key in {} is not that of the first certificate in {}, which must be the device's own",
            key_file.display(),
            chain_file.display()
        ),
        _ => format!("cannot use {} with {}: {error}", chain_file.display(), key_file.display()),
    })
}

/// Those who read this file do it without a limit.
pub fn check_ssl_cert_file() -> Result<(), String> {
    match env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from) {
        Some(file) => Input::CA.read_file(&file).map(drop).map_err(|error| format!("SSL_CERT_FILE: {error}")),
        None => Ok(()),
    }
}

/// A new stream to the endpoint, which gives up then, and for a read or write after `at_most`. The
/// handshake is done: a certificate that is not trusted is an error here and not in the first request.
pub fn connect(
    endpoint: &Endpoint<'_>,
    tls: Option<&Arc<ClientConfig>>,
    at_most: Duration,
    until: Instant,
) -> Result<FromStd<Stream>, ConnectError<io::Error>> {
    let host = endpoint.host().trim_matches(['[', ']']);
    let tcp = connect_tcp(host, endpoint.port(), until)?;
    tcp.set_nodelay(true)?;
    let timeout = IO_TIMEOUT.min(at_most);
    let until = Rc::new(Cell::new(until.min(Instant::now() + timeout)));
    let mut socket = Socket { tcp, until: Rc::clone(&until) };
    let inner: Box<dyn ReadWrite> = match tls {
        Some(config) => {
            let name = ServerName::try_from(host.to_owned())
                .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
            let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
            session.complete_io(&mut socket).map_err(classify)?;
            Box::new(StreamOwned::new(session, socket))
        }
        None => Box::new(socket),
    };
    Ok(FromStd::new(Stream { inner, until, timeout }))
}

/// PEM, or one certificate as DER.
fn certificates(input: Input, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = input.read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => match X509Certificate::from_der(&bytes) {
            Ok(([], _)) => Ok(vec![CertificateDer::from(bytes.to_vec())]),
            _ => Err(format!(
                "no certificate in {}: it must be PEM or DER, and what a .pfx has is written as PEM by \
                 `openssl pkcs12 -in FILE -nodes`",
                file.display()
            )),
        },
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("cannot read the certificates in {}: {error}", file.display())),
    }
}

/// How to have version 3, which OpenSSL before 3.4 makes of a request only if it has extensions.
const MAKE_VERSION_3: &str = "make one of version 3: \
    `openssl x509 -req -in FILE.csr -CA CA.pem -CAkey CA-key.pem -days 365 -out FILE.pem -extfile v3.ext`, \
    where v3.ext has the line basicConstraints=CA:FALSE, and for a server subjectAltName=DNS:its-host-name";

/// What TLS could not say of a certificate of this machine's.
fn check_own(certificate: &CertificateDer<'_>) -> Result<(), String> {
    match X509Certificate::from_der(certificate) {
        Ok((_, certificate)) if certificate.version() == X509Version::V3 => Ok(()),
        Ok((_, certificate)) => {
            Err(format!("is X.509 version {}, which TLS does not take: {MAKE_VERSION_3}", certificate.version().0 + 1))
        }
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Why a certificate is not good at the moment.
fn out_of_date(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let (validity, now) = (certificate.validity(), ASN1Time::now());
    match () {
        () if validity.not_after < now => Some(format!("expired on {}", validity.not_after)),
        () if validity.not_before > now => Some(format!("is not good before {}", validity.not_before)),
        () => None,
    }
}

/// PEM or DER.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = Input::PRIVATE_KEY.read(file)?;
    if bytes.windows(9).any(|text| text == b"ENCRYPTED") {
        let file = file.display();
        return Err(format!("the private key in {file} is encrypted: `openssl pkey -in {file} -out FILE` decrypts it"));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Err(pem::Error::NoItemsFound) => PrivateKeyDer::try_from(bytes.as_slice())
            .map(|key| key.clone_key())
            .map_err(|_| format!("no private key in {}: it must be PEM or DER, and not encrypted", file.display())),
        key => key.map_err(|error| format!("cannot read the private key in {}: {error}", file.display())),
    }
}

/// Whatever address of the host answers first, tried in order.
fn connect_tcp(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in look_up(host, port, until)? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(time_left(until)?)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The system's resolver has its own idea of how long to wait.
fn look_up(host: &str, port: u16, until: Instant) -> io::Result<Vec<SocketAddr>> {
    let name = host.to_owned();
    let resolve = move || Ok((name.as_str(), port).to_socket_addrs()?.collect());
    input::within(time_left(until)?, resolve).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            io::Error::new(ErrorKind::TimedOut, format!("the address of {host} was not found in time"))
        }
        _ => error,
    })
}

/// What TLS itself objects to (a certificate, a peer that speaks something else) will be the
/// same the next time. What the peer complains of may pass, and so may the network.
pub fn classify(error: io::Error) -> ConnectError<io::Error> {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        None | Some(rustls::Error::AlertReceived(_)) => ConnectError::Network(error),
        Some(_) => ConnectError::Untrusted(error),
    }
}

/// The error's text, but for those that say nothing to a reader: time-outs, which Linux calls
/// "Resource temporarily unavailable", and two objections to a server's certificate.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) = error.downcast_ref() {
            return match other.0.downcast_ref() {
                Some(webpki::Error::UnsupportedCertVersion) => format!(
                    "the server's certificate, or one between it and its CA, is not X.509 version 3, and TLS takes no other: \
                     {MAKE_VERSION_3}"
                ),
                Some(webpki::Error::CaUsedAsEndEntity) => format!(
                    "the server shows the certificate of a CA (basicConstraints=CA:TRUE) as its own: {MAKE_VERSION_3}"
                ),
                _ => error.to_string(),
            };
        }
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| {
            io.get_ref().is_none() && matches!(io.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        }) {
            return "the other side was silent for too long".to_owned();
        }
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    error.to_string()
}
