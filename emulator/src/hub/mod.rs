//! The parts of an IoT hub that devices need after provisioning.
//!
//! DPS and the hubs share one store: DPS puts a device at a hub
//! ([`Devices::assign`](crate::store::devices::Devices)), and the hub serves it.

pub(crate) mod activity;
pub(crate) mod admission;
mod admitted;
mod credentials;
pub(crate) mod error;
pub(crate) mod live;
mod registry;
pub(crate) mod sessions;
pub(crate) mod shared;
#[cfg(test)]
mod tests;
pub(crate) mod twins;

use std::sync::Arc;

use self::{
    activity::{Activity, Telemetry},
    live::Sessions,
    shared::Shared,
};
use crate::identity::{certificate::Certificate, ids};

/// All linked hubs. A hub and a device ID identify a device.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    /// The CA that issues certificates to devices.
    issuing_ca: Certificate,
    sessions: Arc<Sessions>,
}

impl Hub {
    pub(crate) fn new(shared: Arc<Shared>, issuing_ca: Certificate) -> Self {
        let sessions = Arc::<Sessions>::default();
        shared.store.watch(sessions.watcher());
        Self { shared, issuing_ca, sessions }
    }

    /// Returns the activity of the devices.
    pub(crate) fn activity(&self) -> &Activity {
        &self.shared.activity
    }

    /// Returns the registration ID of the device with this ID at this hub, as the device last wrote it.
    pub(crate) fn registration_id(&self, hub: &str, device_id: &str) -> Option<String> {
        let store = self.shared.store.read();
        let (_, device) = store.devices.at_hub(hub, device_id)?;
        device.record().map(|record| record.registration_id.clone())
    }

    /// Returns the telemetry of a device.
    pub(crate) fn telemetry(&self, registration_id: &str) -> Telemetry {
        self.shared.activity.telemetry(registration_id)
    }

    /// Returns `true` if this host name is a linked hub, or a hub that a device is assigned to.
    pub(crate) fn has_host(&self, host: &str) -> bool {
        let is_host = |hub: &str| ids::is_same_hub(hub, host);
        let is_linked = self.shared.settings.read().linked_hubs.iter().any(|hub| is_host(hub));
        let store = self.shared.store.read();
        let mut assigned = store.devices.iter().filter_map(|(_, device)| Some(&device.at_hub()?.assigned_hub));
        is_linked || assigned.any(|hub| is_host(hub))
    }
}
