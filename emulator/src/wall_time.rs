//! Times, entity tags and identifiers in the forms in which the service writes them.

use std::time::SystemTime;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use uuid::Uuid;

/// RFC 3339 in UTC with the seven fractional digits of a .NET `DateTime`.
const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");

/// The log's form, as Azure Functions prints it.
const LOG_FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]");

/// `at` as `2026-01-02T03:04:05.6789012Z`.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    // A format with only date and time components cannot fail on a full date and time.
    OffsetDateTime::from(at).format(FORMAT).unwrap_or_default()
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

/// A new operation ID: `5.`, sixteen hexadecimal digits, a GUID.
pub(crate) fn operation_id() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("5.{}.{}", &random[..16], guid())
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
