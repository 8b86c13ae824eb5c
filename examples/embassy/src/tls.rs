//! TLS 1.2 connections over embassy-net's [`Stack`] and mbedTLS: a file that a product copies. It knows no board, so it
//! is the same on an STM32, an RP2040 or an ESP32.

use core::fmt;

use azure_dps::asynch::ConnectError;
use embassy_net::{Stack, dns::DnsQueryType, tcp, tcp::TcpSocket};
use heapless::CString;
use mbedtls_rs::{Certificate, ClientSessionConfig, Session, SessionConfig, SessionError, Tls, TlsVersion, sys};

/// The longest name that DNS allows, and the zero that C wants.
const HOST_NAME: usize = 253 + 1;

/// Opens connections, one at a time. So DPS and the hub share the TCP buffers, and mbedTLS's.
pub struct Connector<'d> {
    pub stack: Stack<'d>,
    pub tls: &'d Tls<'d>,
    /// The CAs to trust: at least two, see `docs/firmware.md`.
    pub roots: Certificate<'d>,
    /// The TCP buffers. A TLS flight of DPS is 4 to 5 KB: what does not fit waits at the sender. While no connection is
    /// open, use them for anything else.
    pub received: &'d mut [u8],
    pub to_send: &'d mut [u8],
}

/// A connection to a server that has proved its name.
pub type Stream<'s> = Session<'s, TcpSocket<'s>>;

impl Connector<'_> {
    /// Connects to `address`, which is `host` or an IPv4 address. The server's certificate must be for `host`.
    ///
    /// There is no time-out: the caller drops a connection that takes too long.
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

/// Prepares the handshake. Not inlined: what this takes of the stack is free again for the handshake.
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
        // DPS speaks nothing newer.
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
    /// What is wrong with the server's certificate: mbedTLS's flags.
    Certificate(u32),
    Tls(SessionError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Name => f.write_str("DNS does not know the host"),
            Error::Tcp(tcp::ConnectError::ConnectionReset) => f.write_str("connection refused"),
            Error::Tcp(_) => f.write_str("no way to the host"),
            Error::Certificate(flags) => write!(f, "the certificate does not hold, mbedTLS's flags are {flags:#x}"),
            Error::Tls(error) => write!(f, "TLS handshake failed: {error}"),
        }
    }
}
