//! TLS 1.2 by mbedTLS: with roots of ours, for the host's name, at the date of the board's
//! clock. RSA, and ECDSA over P-256 and P-384.

use core::{
    convert::Infallible,
    ffi::{CStr, c_char, c_int},
    fmt,
};

use azure_dps::embedded_io::ConnectError;
use embedded_io::ErrorKind;
use heapless::CString;
use mbedtls_rs::{
    Certificate, ClientSessionConfig, SessionConfig, SessionError, Tls, TlsVersion, X509, blocking,
    sys::{
        self, MbedtlsError,
        hook::{
            timer::{MbedtlsTimer, hook_timer},
            wall_clock::{MbedtlsWallClock, hook_wall_clock},
        },
    },
};
use rand_core::{TryCryptoRng, TryRng};

use crate::{
    board, memory,
    net::{self, TcpStream},
};
// Its C functions are for mbedTLS.
use tinyrlibc as _;

/// A connection on which the other side has proved who it is.
pub type Session<'a> = blocking::Session<'a, TcpStream<'a>>;

/// The longest name that DNS allows, and the zero that C wants.
const HOST_NAME: usize = 253 + 1;

/// What every session shares.
pub struct Client {
    tls: Tls<'static>,
    roots: Certificate<'static>,
}

impl Client {
    /// A client that trusts these roots, in PEM. Once, after [`memory::start`].
    ///
    /// A product has its roots in flash: `Certificate::new_no_copy(include_bytes!("root.der"))`.
    pub fn new(roots: &CStr) -> Result<Self, MbedtlsError> {
        // SAFETY: nothing of mbedTLS runs yet, and the board's clock never goes away.
        unsafe {
            hook_timer(Some(&Clock));
            hook_wall_clock(Some(&Clock));
        }
        let rng = cortex_m::singleton!(: Randomness = Randomness).expect("the TLS client is made once");
        let tls = Tls::new(rng).expect("the TLS client is made once");
        Ok(Self { tls, roots: Certificate::new(X509::PEM(roots))? })
    }

    /// Shakes hands over a connection. The other side must prove that it is `host`.
    pub fn connect<'a>(&'a self, stream: TcpStream<'a>, host: &str) -> Result<Session<'a>, ConnectError<Error>> {
        let mut name = CString::<HOST_NAME>::new();
        name.extend_from_bytes(host.as_bytes()).map_err(|_| Error::HostName)?;
        let config = SessionConfig::Client(ClientSessionConfig {
            ca_chain: Some(self.roots.clone()),
            // DPS speaks nothing newer.
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
            // No TLS, or none that both sides speak.
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
    /// The certificate does not hold: mbedTLS's flags.
    Certificate(u32),
    /// mbedTLS's code for anything else about the other side.
    Handshake(i32),
    /// The heap is too small for this handshake.
    OutOfMemory,
    /// The host's name is longer than names are.
    HostName,
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Io(kind) => Error::Io(kind),
            // mbedTLS has a dozen codes for it, and adds them to others.
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
            Error::Certificate(flags) => {
                const PROBLEMS: [(u32, &str); 5] = [
                    (sys::MBEDTLS_X509_BADCERT_NOT_TRUSTED, "not signed by a root of ours"),
                    (sys::MBEDTLS_X509_BADCERT_CN_MISMATCH, "for another host name"),
                    (sys::MBEDTLS_X509_BADCERT_EXPIRED, "expired"),
                    (sys::MBEDTLS_X509_BADCERT_FUTURE, "not valid yet"),
                    (sys::MBEDTLS_X509_BADCERT_MISSING, "missing"),
                ];
                f.write_str("the certificate is")?;
                for (_, problem) in PROBLEMS.iter().filter(|(flag, _)| flags & flag != 0) {
                    write!(f, " {problem},")?;
                }
                write!(f, " flags {flags:#x}")
            }
            Error::Handshake(code) => write!(f, "TLS handshake failed, mbedTLS -{:#06x}", code.unsigned_abs()),
            Error::OutOfMemory => f.write_str("the heap is too small for this TLS handshake"),
            Error::HostName => f.write_str("the host name is too long"),
        }
    }
}

impl core::error::Error for Error {}

struct Randomness;

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        board::random(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        board::random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        board::random(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Randomness {}

/// The board's clocks, for mbedTLS.
struct Clock;

impl MbedtlsTimer for Clock {
    fn now(&self) -> sys::mbedtls_ms_time_t {
        board::uptime().as_millis() as sys::mbedtls_ms_time_t
    }
}

impl MbedtlsWallClock for Clock {
    fn instant(&self) -> Option<sys::tm> {
        Some(calendar(board::unix_time()))
    }
}

/// UTC. The civil calendar from days, after Howard Hinnant: years that begin in March end with
/// their leap day.
fn calendar(unix_time: u64) -> sys::tm {
    let (day, second) = ((unix_time / 86_400) as u32, (unix_time % 86_400) as c_int);
    let since_0000_03_01 = day + 719_468;
    let (era, day_of_era) = (since_0000_03_01 / 146_097, since_0000_03_01 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let january_or_february = month >= 10;
    sys::tm {
        tm_sec: second % 60,
        tm_min: second / 60 % 60,
        tm_hour: second / 3600,
        tm_mday: (day_of_year - (153 * month + 2) / 5 + 1) as c_int,
        tm_mon: if january_or_february { month - 10 } else { month + 2 } as c_int,
        tm_year: (era * 400 + year_of_era + u32::from(january_or_february)) as c_int - 1900,
        // mbedTLS looks at nothing else.
        ..sys::tm::default()
    }
}

/// For mbedTLS's self-tests, which nobody calls.
#[unsafe(no_mangle)]
extern "C" fn puts(_: *const c_char) -> c_int {
    0
}

/// As [`puts`].
#[unsafe(no_mangle)]
extern "C" fn printf(_: *const c_char) -> c_int {
    0
}
