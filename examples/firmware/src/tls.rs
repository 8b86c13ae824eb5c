//! TLS 1.2 with mbedTLS. Checks that the certificate is signed by a trusted root, is for the host name, and is valid at
//! the time of the board's clock. Supports RSA, and ECDSA over P-256 and P-384.

use core::fmt;

use azure_dps::blocking::ConnectError;
use embedded_io::ErrorKind;
use heapless::CString;
use mbedtls_rs::{Certificate, ClientSessionConfig, SessionConfig, SessionError, Tls, TlsVersion, blocking, sys};
use mps2_an385::{self as board, memory};

use crate::net::{self, TcpStream};

/// A connection to a server that has proved its name.
pub type Session<'a> = blocking::Session<'a, TcpStream<'a>>;

/// The longest name of DNS, and the zero byte at its end.
const HOST_NAME: usize = 253 + 1;

/// What all sessions share.
pub struct Client {
    pub tls: Tls<'static>,
    pub roots: Certificate<'static>,
}

impl Client {
    /// Does the handshake. The server must prove that it is `host`.
    pub fn connect<'a>(&'a self, stream: TcpStream<'a>, host: &str) -> Result<Session<'a>, ConnectError<Error>> {
        let mut name = CString::<HOST_NAME>::new();
        name.extend_from_bytes(host.as_bytes()).map_err(|_| Error::HostName)?;
        let config = SessionConfig::Client(ClientSessionConfig {
            ca_chain: Some(self.roots.clone()),
            // DPS speaks TLS 1.2 only.
            max_version: Some(TlsVersion::Tls1_2),
            ..ClientSessionConfig::new()
        });
        let mut session = Session::new(self.tls.reference(), stream, &config).map_err(Error::from)?;
        session.set_server_name(&name).map_err(Error::from)?;
        let Err(error) = session.connect() else { return Ok(session) };
        Err(match Error::from(error) {
            Error::Handshake(sys::MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) => {
                ConnectError::Untrusted(Error::Certificate(session.tls_verification_details()))
            }
            // The server does not speak TLS, or no version or cipher suite is common.
            error @ Error::Handshake(_) => ConnectError::Untrusted(error),
            error => ConnectError::Network(error),
        })
    }
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    Network(net::Error),
    /// The network failed during the handshake.
    Io(ErrorKind),
    /// The certificate is not trusted. The value has mbedTLS's flags.
    Certificate(u32),
    /// Another failure of the handshake: mbedTLS's code.
    Handshake(i32),
    /// The heap is too small for this handshake.
    OutOfMemory,
    /// The host name is longer than DNS allows.
    HostName,
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Io(kind) => Error::Io(kind),
            // mbedTLS has many codes for a full heap, and adds them to other codes.
            SessionError::MbedTls(_) if memory::is_exhausted() => Error::OutOfMemory,
            SessionError::MbedTls(error) => match error.code() {
                sys::MBEDTLS_ERR_SSL_CONN_EOF => Error::Io(ErrorKind::ConnectionReset),
                code => Error::Handshake(code),
            },
        }
    }
}

impl From<net::Error> for Error {
    fn from(error: net::Error) -> Self {
        Error::Network(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Network(error) => error.fmt(f),
            Error::Io(kind) => write!(f, "{kind} in the TLS handshake"),
            Error::Certificate(flags) => board::mbedtls::Problems(*flags).fmt(f),
            Error::Handshake(code) => write!(f, "TLS handshake failed, mbedTLS -{:#06x}", code.unsigned_abs()),
            Error::OutOfMemory => f.write_str("the heap is too small for this TLS handshake"),
            Error::HostName => f.write_str("the host name is too long"),
        }
    }
}

impl core::error::Error for Error {}
