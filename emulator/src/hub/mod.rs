//! What an IoT hub does for its devices, as far as provisioning can be proven with it.
//!
//! DPS and the hubs share one store: DPS puts a device at a hub ([`Devices::assign`](crate::store::devices::Devices)),
//! and the hub serves it there.

pub(crate) mod activity;
pub(crate) mod admission;
mod credentials;
pub(crate) mod error;
mod registry;
pub(crate) mod shared;
#[cfg(test)]
mod tests;
pub(crate) mod twins;

use std::sync::Arc;

use self::{
    activity::{Activity, Telemetry},
    shared::Shared,
};
use crate::identity::{certificate::Certificate, ids};

/// All linked hubs. A device is told apart by its hub and its ID there.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    /// The CA that issues certificates to devices.
    issuing_ca: Certificate,
}

impl Hub {
    pub(crate) fn new(shared: Arc<Shared>, issuing_ca: Certificate) -> Self {
        Self { shared, issuing_ca }
    }

    /// What the devices did.
    pub(crate) fn activity(&self) -> &Activity {
        &self.shared.activity
    }

    /// Returns what a device has sent.
    pub(crate) fn telemetry(&self, registration_id: &str) -> Telemetry {
        self.shared.activity.telemetry(registration_id)
    }

    /// A device is connected from now on. `session` tells its connections apart. Readers of events are told.
    pub(crate) fn connected(&self, registration_id: &str, session: u64) {
        self.shared.activity.connected(registration_id, session);
        self.shared.store.tell(registration_id);
    }

    /// A connection of a device has ended. Readers of events are told.
    pub(crate) fn disconnected(&self, registration_id: &str, session: u64) {
        if self.shared.activity.disconnected(registration_id, session) {
            self.shared.store.tell(registration_id);
        }
    }

    /// Returns `true` if a hub has this host name: a linked hub, or one that a device is assigned to.
    pub(crate) fn has_host(&self, host: &str) -> bool {
        let is_host = |hub: &str| ids::is_same_hub(hub, host);
        let is_linked = self.shared.settings.read().linked_hubs.iter().any(|hub| is_host(hub));
        let store = self.shared.store.read();
        let mut assigned = store.devices.iter().filter_map(|(_, device)| Some(&device.at_hub()?.assigned_hub));
        is_linked || assigned.any(|hub| is_host(hub))
    }
}
