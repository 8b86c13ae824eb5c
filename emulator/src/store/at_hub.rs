//! Devices at their hubs: assigns and finds them, and limits their twins.

use super::{
    device::{Device, DeviceRecord},
    devices::{Devices, Full},
    hub_device::{HubDevice, HubStatus},
    twin::DeviceTwin,
};
use crate::identity::ids;

impl Devices {
    /// Returns the devices with this ID at any hub, with their registration IDs in lower case. Some may have been
    /// removed from their hub.
    pub(crate) fn named(&self, device_id: &str) -> impl Iterator<Item = (&str, &Device)> {
        let key = device_id.to_ascii_lowercase();
        let same = self.devices.get_key_value(&key);
        same.into_iter()
            .chain(self.renamed.of(device_id).filter_map(|key| self.devices.get_key_value(key)))
            .filter(move |(_, device)| device.record().is_some_and(|record| record.device_id == device_id))
    }

    /// Returns the device with this ID at this hub, with its registration ID in lower case. `hub` is a host, perhaps
    /// with a port. Ports are compared only if both names have one.
    pub(crate) fn at_hub(&self, hub: &str, device_id: &str) -> Option<(&str, &Device)> {
        let is_there =
            |device: &Device| device.at_hub().is_some_and(|record| ids::is_same_hub(&record.assigned_hub, hub));
        // Two hubs may differ only in their ports, so an exact match takes precedence.
        let is_exact =
            |device: &Device| device.record().is_some_and(|record| record.assigned_hub.eq_ignore_ascii_case(hub));
        self.named(device_id).filter(|(_, device)| is_there(device)).max_by_key(|(_, device)| is_exact(device))
    }

    /// Puts a known device at its hub, unless there is no room for its twin.
    ///
    /// A device ID is unique at a hub. If another registration has this ID there, its device is removed from the hub.
    pub(crate) fn assign(&mut self, record: DeviceRecord, hub: HubDevice) -> Result<(), Full> {
        let key = record.registration_id.to_ascii_lowercase();
        let Some(device) = self.devices.get(&key) else { return Ok(()) };
        let twins_size = self.twins_size_with(device, &record.twin).ok_or(Full)?;
        let replaced = self.at_hub(&record.assigned_hub, &record.device_id).map(|(other, _)| other.to_owned());
        let Some(device) = self.devices.get_mut(&key) else { return Ok(()) };
        if let Some(old) = &device.record {
            self.renamed.remove(&key, old);
        }
        self.renamed.add(&key, &record);
        device.set_record(Some(record));
        device.hub = hub;
        self.twins_size = twins_size;
        if let Some(replaced) = replaced.filter(|other| *other != key) {
            self.remove_from_hub(&replaced);
        }
        Ok(())
    }

    /// Changes the twin of a device that has a hub, unless there is no room for the twin.
    pub(crate) fn set_twin(&mut self, registration_id: &str, twin: DeviceTwin) -> Result<(), Full> {
        let key = registration_id.to_ascii_lowercase();
        let Some(device) = self.devices.get(&key) else { return Ok(()) };
        let twins_size = self.twins_size_with(device, &twin).ok_or(Full)?;
        let Some(device) = self.devices.get_mut(&key) else { return Ok(()) };
        if let Some(record) = device.record.take() {
            device.set_record(Some(DeviceRecord { twin, ..record }));
            self.twins_size = twins_size;
        }
        Ok(())
    }

    /// Returns the size of all twins if the device had this twin, or `None` if there is no room.
    fn twins_size_with(&self, device: &Device, twin: &DeviceTwin) -> Option<usize> {
        let size = twin.size();
        let twins_size = self.twins_size - device.twin_size + size;
        (twins_size <= self.limits.twins || size <= device.twin_size).then_some(twins_size)
    }

    /// Enables or disables a device that is at a hub.
    pub(crate) fn set_hub_status(&mut self, registration_id: &str, status: HubStatus) {
        let device = self.get_mut(registration_id);
        if let Some(record) = device.and_then(|device| device.record.as_mut()) {
            record.hub_status = status;
        }
    }

    /// Removes a device from its hub, with its twin and session. Its registration stays.
    pub(crate) fn remove_from_hub(&mut self, registration_id: &str) {
        let Some(device) = self.get_mut(registration_id) else { return };
        let Some(record) = device.record.take() else { return };
        let old_size = device.twin_size;
        let hub_status = HubStatus::Removed;
        device.set_record(Some(DeviceRecord { hub_status, twin: DeviceTwin::default(), ..record }));
        device.hub = HubDevice::default();
        // An empty twin takes no memory.
        self.twins_size -= old_size;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::registration_state::Substatus;

    fn devices(twins: usize) -> Devices {
        let mut devices = Devices::default();
        devices.limits.twins = twins;
        devices
    }

    /// Returns a record whose twin has a text of this length.
    fn record(registration_id: &str, length: usize) -> DeviceRecord {
        let desired = json!({ "text": "x".repeat(length) }).as_object().unwrap().clone();
        DeviceRecord {
            registration_id: registration_id.to_owned(),
            enrollment_id: "group".to_owned(),
            assigned_hub: "hub".to_owned(),
            device_id: registration_id.to_owned(),
            substatus: Substatus::InitialAssignment,
            hub_status: HubStatus::Enabled,
            twin: DeviceTwin { desired, ..DeviceTwin::default() },
            registrations: 1,
            registered: true,
        }
    }

    fn assign(devices: &mut Devices, registration_id: &str, length: usize) -> Result<(), Full> {
        devices.get_or_add(registration_id).unwrap();
        devices.assign(record(registration_id, length), HubDevice::default())
    }

    /// All twins together are limited. A twin without room is not stored, and a smaller twin makes room.
    #[test]
    fn twins_are_bounded() {
        let mut devices = devices(10_000);
        assert_eq!(assign(&mut devices, "a", 6000), Ok(()));
        assert_eq!(assign(&mut devices, "b", 6000), Err(Full));
        assert!(devices.get("b").unwrap().record().is_none());
        assert_eq!(assign(&mut devices, "b", 2000), Ok(()));
        // A new twin of a device replaces its old twin.
        for length in [7000, 7000, 100] {
            assert_eq!(assign(&mut devices, "A", length), Ok(()), "{length}");
        }
        assert_eq!(assign(&mut devices, "b", 9000), Ok(()));
        assert_eq!(assign(&mut devices, "a", 9000), Err(Full));
        assert_eq!(devices.get("a").unwrap().record().unwrap().twin, record("a", 100).twin);
        // Reported properties count, too.
        let twin = devices.get("a").unwrap().record().unwrap().twin.clone();
        let reported = |length: usize| {
            let reported = json!({ "text": "x".repeat(length) }).as_object().unwrap().clone();
            DeviceTwin { reported, ..twin.clone() }
        };
        assert_eq!(devices.set_twin("A", reported(9000)), Err(Full));
        assert_eq!(devices.get("a").unwrap().record().unwrap().twin, twin);
        assert_eq!(devices.set_twin("A", reported(200)), Ok(()));
        assert_eq!(devices.get("a").unwrap().record().unwrap().twin, reported(200));
        // A twin that stays the same or gets smaller needs no room.
        devices.limits.twins = 0;
        assert_eq!(assign(&mut devices, "b", 9000), Ok(()));
        assert_eq!(devices.set_twin("A", reported(100)), Ok(()));
    }

    /// A device is found by its hub and its ID there. The case of a hub does not matter. Ports are compared only if
    /// both names have one. Device IDs are case-sensitive.
    #[test]
    fn a_device_is_found_at_its_hub() {
        let mut devices = Devices::default();
        for (registration_id, hub, device_id) in [
            ("Device-1", "Hub.example", "Device-1"),
            ("device-2", "hub.example", "other"),
            ("device-3", "localhost:8443", "same"),
            ("device-4", "localhost:8444", "same"),
            ("device-5", "other.example", "device-1"),
        ] {
            devices.get_or_add(registration_id).unwrap();
            let record = DeviceRecord {
                assigned_hub: hub.to_owned(),
                device_id: device_id.to_owned(),
                ..record(registration_id, 1)
            };
            devices.assign(record, HubDevice::default()).unwrap();
        }
        for (hub, device_id, expected) in [
            ("hub.example", "Device-1", Some("device-1")),
            ("HUB.example:9883", "Device-1", Some("device-1")),
            ("hub.example", "device-1", None),
            ("hub.example", "DEVICE-1", None),
            ("other.example", "device-1", Some("device-5")),
            ("hub.example", "other", Some("device-2")),
            ("hub.example", "device-2", None),
            ("localhost:8443", "same", Some("device-3")),
            ("localhost:8444", "same", Some("device-4")),
            ("localhost:8445", "same", None),
            ("hub", "other", None),
            ("", "", None),
        ] {
            let found = devices.at_hub(hub, device_id).map(|(id, _)| id);
            assert_eq!(found, expected, "{hub} {device_id}");
        }
        assert!(matches!(devices.at_hub("localhost", "same"), Some(("device-3" | "device-4", _))));
    }

    /// A device ID is unique at a hub: the last registration has it. The device is found as long as the hub knows it.
    #[test]
    fn a_hub_has_one_device_of_an_id() {
        let mut devices = devices(usize::MAX);
        let put = |devices: &mut Devices, registration_id: &str, device_id: &str| {
            devices.get_or_add(registration_id).unwrap();
            let record = DeviceRecord { device_id: device_id.to_owned(), ..record(registration_id, 1000) };
            devices.assign(record, HubDevice::default()).unwrap();
        };
        let owner = |devices: &Devices, device_id: &str| devices.at_hub("hub", device_id).map(|(id, _)| id.to_owned());
        put(&mut devices, "a", "same");
        put(&mut devices, "b", "same");
        assert_eq!(owner(&devices, "same").as_deref(), Some("b"));
        let replaced = devices.get("a").unwrap();
        assert!(replaced.at_hub().is_none() && replaced.record().unwrap().twin == DeviceTwin::default());
        assert_eq!(devices.twins_size, devices.get("b").unwrap().twin_size);
        put(&mut devices, "a", "same");
        assert_eq!(owner(&devices, "same").as_deref(), Some("a"));
        // A new device ID replaces the old one.
        put(&mut devices, "a", "A");
        assert_eq!((owner(&devices, "same"), owner(&devices, "A").as_deref()), (None, Some("a")));
        devices.remove_from_hub("A");
        assert_eq!((owner(&devices, "A"), devices.twins_size), (None, 0));
        put(&mut devices, "b", "c");
        devices.reset();
        assert_eq!(owner(&devices, "c"), None);
    }
}
