//! The settings of the service API that are fixed at the start.

use super::webhook::allowed::AllowedHosts;
use crate::identity::key::SymmetricKey;

/// The settings of the service API that are fixed while the emulator runs.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The key of `provisioningserviceowner`, if the caller set one.
    pub(crate) owner_key: Option<SymmetricKey>,
    /// `true` if every listener is on a loopback address.
    pub(crate) is_local: bool,
    /// The hosts on which the service API may set webhooks.
    pub(crate) webhook_hosts: AllowedHosts,
}
