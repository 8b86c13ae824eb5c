//! What mbedTLS needs from a board: clocks, random numbers and C functions. The heap is in [`memory`](crate::memory).

use core::{
    convert::Infallible,
    ffi::{CStr, c_char, c_int},
    fmt,
};

use mbedtls_rs::{
    Certificate, Tls, X509,
    sys::{
        self,
        hook::{
            timer::{MbedtlsTimer, hook_timer},
            wall_clock::{MbedtlsWallClock, hook_wall_clock},
        },
    },
};
use rand_core::{TryCryptoRng, TryRng};
// mbedTLS links its C functions.
use tinyrlibc as _;

use crate::Inputs;

/// Starts mbedTLS with the board's heap, clocks and random numbers. Panics at the second call.
pub fn start() -> Tls<'static> {
    crate::memory::start();
    // SAFETY: mbedTLS does not run yet, and the clock is static.
    unsafe {
        hook_timer(Some(&Clock));
        hook_wall_clock(Some(&Clock));
    }
    let rng = cortex_m::singleton!(: Randomness = Randomness).expect("mbedTLS is started once");
    Tls::new(rng).expect("mbedTLS is started once")
}

/// Reads the roots from the PEM file of the input `ca`. Call [`start`] first. This function is not inlined, so that the
/// stack of the text is free again during the handshake.
///
/// A product has its roots in flash: `Certificate::new_no_copy(include_bytes!("root.der"))`.
#[inline(never)]
pub fn roots(inputs: &Inputs<'_>) -> Result<Certificate<'static>, &'static str> {
    let mut text = [0; 4096];
    inputs.file("ca", &mut text)?;
    // A zero byte follows the text.
    let pem = CStr::from_bytes_until_nul(&text).unwrap_or_default();
    Certificate::new(X509::PEM(pem)).map_err(|_| "ca")
}

/// The problems of a certificate, from mbedTLS's flags.
pub struct Problems(pub u32);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PROBLEMS: [(u32, &str); 5] = [
            (sys::MBEDTLS_X509_BADCERT_NOT_TRUSTED, "not signed by a trusted root"),
            (sys::MBEDTLS_X509_BADCERT_CN_MISMATCH, "for another host name"),
            (sys::MBEDTLS_X509_BADCERT_EXPIRED, "expired"),
            (sys::MBEDTLS_X509_BADCERT_FUTURE, "not valid yet"),
            (sys::MBEDTLS_X509_BADCERT_MISSING, "missing"),
        ];
        let Self(flags) = self;
        f.write_str("the certificate is")?;
        for (_, problem) in PROBLEMS.iter().filter(|(flag, _)| flags & flag != 0) {
            write!(f, " {problem},")?;
        }
        write!(f, " flags {flags:#x}")
    }
}

struct Randomness;

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        crate::random(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        crate::random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        crate::random(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Randomness {}

/// The board's clocks, for mbedTLS.
struct Clock;

impl MbedtlsTimer for Clock {
    fn now(&self) -> sys::mbedtls_ms_time_t {
        crate::uptime().as_millis() as sys::mbedtls_ms_time_t
    }
}

impl MbedtlsWallClock for Clock {
    fn instant(&self) -> Option<sys::tm> {
        Some(calendar(crate::unix_time()))
    }
}

/// Returns a Unix time as a date in UTC.
///
/// Source: Howard Hinnant's `civil_from_days`. A year that begins in March ends with its leap day.
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
        // mbedTLS reads no other field.
        ..sys::tm::default()
    }
}

/// mbedTLS's self-tests, which nothing calls, link to this function.
#[unsafe(no_mangle)]
extern "C" fn puts(_: *const c_char) -> c_int {
    0
}

/// See [`puts`].
#[unsafe(no_mangle)]
extern "C" fn printf(_: *const c_char) -> c_int {
    0
}
