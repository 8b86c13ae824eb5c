//! The api-versions and their differences.

/// The api-versions that have a specification.
pub(crate) const API_VERSIONS: [&str; 13] = [
    "2017-08-31-preview",
    "2017-11-15",
    "2018-04-01",
    "2018-09-01-preview",
    "2018-11-01",
    "2019-03-31",
    "2021-06-01",
    "2021-10-01",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2026-04-01",
    "2026-11-01",
    "2026-11-02-preview",
];

/// Returns `true` if `DeviceRegistration` of this api-version has a `csr`. Versions are dates, so they can be
/// compared.
pub(crate) fn has_csr(api_version: &str) -> bool {
    api_version >= "2025-07-01-preview"
}

/// Returns `true` if the api-version has the substatus `reprovisionedToInitialAssignment`: "Starting API version
/// 2019-04-15".
pub(crate) fn has_reprovisioned(api_version: &str) -> bool {
    api_version >= "2019-04-15"
}
