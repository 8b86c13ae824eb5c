//! Connections to the service over embassy-net's [`Stack`] and mbedTLS: the file that a product copies. It knows no
//! board, so it is the same on an STM32, an RP2040 or an ESP32.

use core::{ffi::CStr, fmt, time::Duration};

use azure_dps::asynch::{Connect, ConnectError};
use embassy_net::{Stack, dns::DnsQueryType, tcp, tcp::TcpSocket};
use mbedtls_rs::{Certificate, ClientSessionConfig, Session, SessionConfig, SessionError, Tls, TlsVersion, sys};

/// Opens connections to the service, one at a time.
pub struct Service<'d> {
    pub stack: Stack<'d>,
    pub tls: &'d Tls<'d>,
    /// The CAs to trust: at least two, see `docs/firmware.md`.
    pub roots: Certificate<'d>,
    /// The host name that the service's certificate must be for, such as `c"global.azure-devices-provisioning.net"`.
    pub host: &'d CStr,
    /// The same name, or an IPv4 address.
    pub address: &'d str,
    pub port: u16,
    /// The TCP buffers. A TLS flight of DPS is 4 to 5 KB.
    pub received: [u8; 4096],
    pub to_send: [u8; 1536],
}

impl Connect for Service<'_> {
    type Error = Error;
    type StreamError = SessionError;
    type Stream<'s>
        = Session<'s, TcpSocket<'s>>
    where
        Self: 's;

    /// Needs no time-out: the run drops a connection that takes too long.
    async fn connect(&mut self, _: Duration) -> Result<Self::Stream<'_>, ConnectError<Error>> {
        let addresses = self.stack.dns_query(self.address, DnsQueryType::A).await.map_err(|_| Error::Name)?;
        let address = *addresses.first().ok_or(Error::Name)?;
        let mut socket = TcpSocket::new(self.stack, &mut self.received, &mut self.to_send);
        socket.connect((address, self.port)).await.map_err(Error::Tcp)?;
        let config = SessionConfig::Client(ClientSessionConfig {
            ca_chain: Some(self.roots.clone()),
            server_name: Some(self.host),
            // DPS speaks nothing newer.
            max_version: Some(TlsVersion::Tls1_2),
            ..ClientSessionConfig::new()
        });
        let mut session = Session::new(self.tls.reference(), socket, &config).map_err(Error::Tls)?;
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

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    Name,
    Tcp(tcp::ConnectError),
    /// What is wrong with the service's certificate: mbedTLS's flags.
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
