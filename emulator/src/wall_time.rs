//! Times, entity tags and identifiers in the forms in which the service writes them.

use std::time::SystemTime;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use uuid::Uuid;

/// RFC 3339 in UTC with the seven fractional digits of a .NET `DateTime`, before zeros are trimmed.
const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]");

/// The log's form, as Azure Functions prints it.
const LOG_FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]");

/// `at` as `2026-01-02T03:04:05.6789012Z`, without zeros at the end of the fraction: the service
/// wrote `.62286Z` in 2020, `.263671Z` in 2021 and `.949507Z` in 2025.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    // A format with only date and time components cannot fail on a full date and time.
    let text = OffsetDateTime::from(at).format(FORMAT).unwrap_or_default();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `at` as `2026-01-02T03:04:05.678`.
pub(crate) fn log_time(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(LOG_FORMAT).unwrap_or_default()
}

/// Now, as the service writes it.
pub(crate) fn now() -> String {
    rfc3339(SystemTime::now())
}

/// Seconds since 1970, as tokens count.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A new GUID.
pub(crate) fn guid() -> String {
    Uuid::new_v4().to_string()
}

/// A new operation ID: `5.`, sixteen hexadecimal digits, a GUID. The digits are those of `device`,
/// if there is one.
pub(crate) fn operation_id(device: Option<&str>) -> String {
    let middle = match device {
        Some(device) => hex(&Sha256::digest(device)[..8]),
        None => Uuid::new_v4().simple().to_string()[..16].to_owned(),
    };
    format!("5.{middle}.{}", guid())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new entity tag of an enrollment, quotes included: `"0000f176-0000-0700-0000-62eaad1e0000"`.
pub(crate) fn enrollment_etag() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("\"{}-0000-0700-0000-{}0000\"", &random[..8], &random[24..32])
}

/// A new entity tag of a registration: base64 of one like an enrollment's.
pub(crate) fn registration_etag() -> String {
    BASE64_STANDARD.encode(enrollment_etag())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// "2020-09-23T10:58:31.62286Z" and its like, of the tutorial's log.
    #[test]
    fn fractions_have_no_zeros_at_the_end() {
        for (nanoseconds, expected) in [
            (622_860_000, "1970-01-01T00:00:01.62286Z"),
            (949_507_000, "1970-01-01T00:00:01.949507Z"),
            (678_901_299, "1970-01-01T00:00:01.6789012Z"),
            (500_000_000, "1970-01-01T00:00:01.5Z"),
            (0, "1970-01-01T00:00:01Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::new(1, nanoseconds)), expected);
        }
    }
}
