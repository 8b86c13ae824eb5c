//! What is decided about the service API when the emulator starts.

use super::webhook::allowed::AllowedHosts;
use crate::identity::key::SymmetricKey;

/// What the caller of the emulator decided about the service API. It does not change while the service runs.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The key of `provisioningserviceowner`, if one was given.
    pub(crate) owner_key: Option<SymmetricKey>,
    /// Whether every listener is on a loopback address.
    pub(crate) is_local: bool,
    /// Where webhooks may be that the service API sets.
    pub(crate) webhook_hosts: AllowedHosts,
}
