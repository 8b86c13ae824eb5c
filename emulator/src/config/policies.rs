//! Shared access policies: who may call the service API, and with which rights.

use serde::Deserialize;

use crate::identity::key::SymmetricKey;

/// The policy that every service has.
pub(crate) const OWNER: &str = "provisioningserviceowner";

/// The key of the policy `provisioningserviceowner`. The emulator uses it if every listener is on a loopback address
/// and no other key is given.
///
/// The key is public and protects nothing. Use it in tests and scripts, like the account key of Azurite.
pub const WELL_KNOWN_SERVICE_KEY: &str =
    "YXp1cmUtZHBzLWVtdWxhdG9yOiB0aGlzIGtleSBpcyB3ZWxsIGtub3duLiBJdCBwcm90ZWN0cyBub3RoaW5nLg==";

/// A shared access policy: its name, the keys with which clients of the service API sign, and its rights.
///
/// The policy `provisioningserviceowner` always exists, with all rights, and needs no entry.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The policy's name: `SharedAccessKeyName` of a connection string.
    pub name: String,
    /// The key with which clients sign: `SharedAccessKey` of a connection string.
    pub primary_key: SymmetricKey,
    /// The secondary key, for roll-over.
    #[serde(default)]
    pub secondary_key: Option<SymmetricKey>,
    /// What clients are allowed to do.
    pub rights: Vec<Right>,
}

/// A right of a client of the service API.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum Right {
    /// Read and query enrollments and enrollment groups.
    EnrollmentRead,
    /// Create, change and delete enrollments and enrollment groups, and read their keys. Includes
    /// [`EnrollmentRead`](Self::EnrollmentRead).
    EnrollmentWrite,
    /// Read and query registrations.
    RegistrationStatusRead,
    /// Delete registrations. Includes [`RegistrationStatusRead`](Self::RegistrationStatusRead).
    RegistrationStatusWrite,
}

impl Right {
    /// All rights.
    pub(crate) const ALL: [Self; 4] =
        [Self::EnrollmentRead, Self::EnrollmentWrite, Self::RegistrationStatusRead, Self::RegistrationStatusWrite];

    /// Returns `true` if this right includes `other`.
    pub(crate) fn includes(self, other: Self) -> bool {
        self == other
            || matches!(
                (self, other),
                (Self::EnrollmentWrite, Self::EnrollmentRead)
                    | (Self::RegistrationStatusWrite, Self::RegistrationStatusRead)
            )
    }
}
