//! TLS 1.2 connections over embassy-net's [`Stack`] and mbedTLS. Copy this file. It does not depend on the board.

use core::fmt;

use azure_dps::asynch::ConnectError;
use embassy_net::{Stack, dns::DnsQueryType, tcp, tcp::TcpSocket};
use heapless::CString;
use mbedtls_rs::{Certificate, ClientSessionConfig, Session, SessionConfig, SessionError, Tls, TlsVersion, sys};

/// The longest name of DNS, and the zero byte at its end.
const HOST_NAME: usize = 253 + 1;

/// Opens connections, one at a time. So DPS and the hub share the buffers of TCP and of mbedTLS.
pub struct Connector<'d> {
    pub stack: Stack<'d>,
    pub tls: &'d Tls<'d>,
    /// The trusted CAs: at least two, see `docs/firmware.md`.
    pub roots: Certificate<'d>,
    /// The TCP buffers. A TLS flight of DPS has 4 to 5 KB. What does not fit waits at the sender. While no connection is
    /// open, you may use these buffers for anything else.
    pub received: &'d mut [u8],
    pub to_send: &'d mut [u8],
}

/// A connection to a server that has proved its name.
pub type Stream<'s> = Session<'s, TcpSocket<'s>>;

impl Connector<'_> {
    /// Connects to `address`, which is `host` or an IPv4 address. The server's certificate must be for `host`.
    ///
    /// There is no time-out: drop the future if it takes too long.
    pub async fn connect(&mut self, host: &str, address: &str, port: u16) -> Result<Stream<'_>, ConnectError<Error>> {
        let addresses = self.stack.dns_query(address, DnsQueryType::A).await.map_err(|_| Error::Name)?;
        let address = *addresses.first().ok_or(Error::Name)?;
        let mut socket = TcpSocket::new(self.stack, self.received, self.to_send);
        socket.connect((address, port)).await.map_err(Error::Tcp)?;
        let mut session = start(self.tls, &self.roots, host, socket)?;
        Err(match session.connect().await {
            Ok(()) => return Ok(session),
            Err(SessionError::MbedTls(error)) if error.code() == sys::MBEDTLS_ERR_X509_CERT_VERIFY_FAILED => {
                ConnectError::Untrusted(Error::Certificate(session.tls_verification_details()))
            }
            Err(error @ SessionError::MbedTls(_)) => ConnectError::Untrusted(Error::Tls(error)),
            Err(error @ SessionError::Io(_)) => ConnectError::Network(Error::Tls(error)),
        })
    }
}

/// Prepares the handshake. Not inlined, so that its stack is free for the handshake.
#[inline(never)]
fn start<'s>(
    tls: &'s Tls<'_>,
    roots: &Certificate<'s>,
    host: &str,
    socket: TcpSocket<'s>,
) -> Result<Stream<'s>, Error> {
    let mut name = CString::<HOST_NAME>::new();
    name.extend_from_bytes(host.as_bytes()).map_err(|_| Error::Name)?;
    let config = SessionConfig::Client(ClientSessionConfig {
        ca_chain: Some(roots.clone()),
        // DPS speaks TLS 1.2 only.
        max_version: Some(TlsVersion::Tls1_2),
        ..ClientSessionConfig::new()
    });
    let mut session = Session::new(tls.reference(), socket, &config).map_err(Error::Tls)?;
    session.set_server_name(&name).map_err(Error::Tls)?;
    Ok(session)
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    Name,
    Tcp(tcp::ConnectError),
    /// The certificate is not trusted. The value has mbedTLS's flags.
    Certificate(u32),
    Tls(SessionError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Name => f.write_str("DNS does not know the host"),
            Error::Tcp(tcp::ConnectError::ConnectionReset) => f.write_str("connection refused"),
            Error::Tcp(_) => f.write_str("no route to the host"),
            Error::Certificate(flags) => write!(f, "the certificate is not trusted, mbedTLS's flags are {flags:#x}"),
            Error::Tls(error) => write!(f, "TLS handshake failed: {error}"),
        }
    }
}
