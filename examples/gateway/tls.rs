//! TLS that trusts the certificates of a file, for the library's embedded-io transport, since
//! minreq has no way to choose them, and for MQTT.

use std::{
    error::Error,
    io::{self, ErrorKind},
    net::{TcpStream, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::Duration,
};

use azure_dps::{Endpoint, embedded_io::ConnectError};
use embedded_io_adapters::std::FromStd;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one read or write; without it a silent peer would never be given up.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

pub type Stream = FromStd<StreamOwned<ClientConnection, TcpStream>>;

pub struct Tls {
    config: Arc<ClientConfig>,
    at_most: Duration,
}

impl Tls {
    /// Trusts the PEM certificates of this file and no others. Nothing waits for longer than
    /// `at_most`.
    pub fn trusting(file: &Path, at_most: Duration) -> Result<Self, String> {
        let read = || {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
                let certificate = certificate.map_err(|error| error.to_string())?;
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
            if roots.is_empty() {
                return Err("no PEM certificate in it".to_owned());
            }
            Ok(roots)
        };
        let roots = read().map_err(|error| format!("cannot use the CA file {}: {error}", file.display()))?;
        Ok(Self::with(roots, at_most))
    }

    /// Trusts what this machine trusts, or what `SSL_CERT_FILE` names.
    pub fn of_this_machine(at_most: Duration) -> Self {
        let mut roots = RootCertStore::empty();
        // A root that cannot be read is one that is not trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::with(roots, at_most)
    }

    fn with(roots: RootCertStore, at_most: Duration) -> Self {
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { config: Arc::new(config), at_most }
    }

    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// A stream to the endpoint whose handshake is done: a certificate that is not trusted
    /// is an error here and not in the first request.
    pub fn connect(&self, endpoint: &Endpoint<'_>) -> Result<Stream, ConnectError<io::Error>> {
        let host = endpoint.host().trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let mut tcp = connect_tcp(host, endpoint.port(), CONNECT_TIMEOUT.min(self.at_most))?;
        let timeout = Some(IO_TIMEOUT.min(self.at_most));
        tcp.set_read_timeout(timeout)?;
        tcp.set_write_timeout(timeout)?;
        tcp.set_nodelay(true)?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        session.complete_io(&mut tcp).map_err(classify)?;
        Ok(FromStd::new(StreamOwned::new(session, tcp)))
    }
}

/// Whatever address of the host answers first, tried in order.
fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What TLS itself objects to (a certificate, a peer that speaks something else) will be the
/// same the next time. What the peer complains of may pass, and so may the network.
fn classify(error: io::Error) -> ConnectError<io::Error> {
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
