//! A device that a hub has let in.

use crate::store::{Store, device::Device, hub_device::HubStatus};

/// A device that a hub has let in.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// The registration ID, as the device last wrote it.
    pub(crate) registration_id: String,
    /// The name of the hub as it is linked to DPS.
    pub(crate) hub: String,
    pub(crate) device_id: String,
    /// When the token expires, in seconds since 1970. `None` if the device showed a certificate.
    pub(crate) token_expiry: Option<u64>,
}

impl Admitted {
    /// Returns why the device may no longer be connected, or `None` if it may.
    pub(super) fn is_over(&self, store: &Store) -> Option<String> {
        let Some(record) = store.devices.get(&self.registration_id).and_then(Device::record) else {
            return Some("404001: the device is no longer known".to_owned());
        };
        if !record.assigned_hub.eq_ignore_ascii_case(&self.hub) {
            return Some(format!("DPS assigned the device to another hub, {}", record.assigned_hub));
        }
        if record.device_id != self.device_id {
            return Some(format!("DPS gave the device another ID, {}", record.device_id));
        }
        match record.hub_status {
            HubStatus::Enabled => None,
            HubStatus::Disabled => Some("401003: the device was disabled at the hub".to_owned()),
            HubStatus::Removed => Some("404001: the device was removed from the hub".to_owned()),
        }
    }
}
