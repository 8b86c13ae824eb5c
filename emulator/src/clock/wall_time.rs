//! Times in the formats of the service.

use std::time::SystemTime;

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// RFC 3339 in UTC with the seven fractional digits of a .NET `DateTime`, before zeros are trimmed.
const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]");

/// The format of the log, as Azure Functions writes it.
const LOG_FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]");

/// Returns `at` as `2026-01-02T03:04:05.6789012Z`, without zeros at the end of the fraction. The service wrote
/// `.62286Z` in 2020, `.263671Z` in 2021 and `.949507Z` in 2025.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    // A format with only date and time cannot fail on a full date and time.
    let text = OffsetDateTime::from(at).format(FORMAT).unwrap_or_default();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Returns `at` as `2026-01-02T03:04:05.678`.
pub(crate) fn log_time(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(LOG_FORMAT).unwrap_or_default()
}

/// Returns the current time as the service writes it.
pub(crate) fn now() -> String {
    rfc3339(SystemTime::now())
}

/// Returns the seconds since 1970, as tokens have them.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Times such as "2020-09-23T10:58:31.62286Z" in the tutorial's log.
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
