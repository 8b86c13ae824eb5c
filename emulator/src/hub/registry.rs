//! Changes to the device registry of the hubs by an operator: devices are disabled, enabled and removed.

use super::{Hub, error::HubError};
use crate::store::{Store, device::DeviceRecord, hub_device::HubStatus};

impl Hub {
    /// Disables a device at its hub, or enables it again. Its twin and its session stay.
    pub(crate) fn set_enabled(&self, registration_id: &str, enabled: bool) -> Result<(), HubError> {
        let status = if enabled { HubStatus::Enabled } else { HubStatus::Disabled };
        let change = |store: &mut Store| {
            record_at_hub(store, registration_id)?;
            store.devices.set_hub_status(registration_id, status);
            Ok(())
        };
        self.shared.store.change(change, |()| ())
    }

    /// Removes a device from its hub, with its twin and its session. DPS keeps the registration, and the next
    /// registration creates the device at a hub again.
    pub(crate) fn remove_device(&self, registration_id: &str) -> Result<(), HubError> {
        let change = |store: &mut Store| {
            record_at_hub(store, registration_id)?;
            store.devices.remove_from_hub(registration_id);
            Ok(())
        };
        self.shared.store.change(change, |()| ())
    }

    /// Drops the connection of a device, if there is one. The device may connect again.
    pub(crate) fn drop_connection(&self, registration_id: &str) -> Result<(), HubError> {
        record_at_hub(&self.shared.store.read(), registration_id)?;
        self.disconnect(registration_id, "the operator dropped the connection");
        Ok(())
    }
}

/// Returns the record of a device that is at a hub.
pub(super) fn record_at_hub<'a>(store: &'a Store, registration_id: &str) -> Result<&'a DeviceRecord, HubError> {
    let device = store.devices.get(registration_id).ok_or(HubError::NoDevice)?;
    device.at_hub().ok_or(HubError::NotAtHub)
}
