//! All devices, and how much of them is kept.

use std::{collections::VecDeque, sync::Arc};

use super::{
    device::{Device, DeviceRecord},
    hub_device::{HubDevice, HubStatus},
    registration_state::RegistrationState,
    renamed::Renamed,
    tracked::{Row, Tracked},
    twin::DeviceTwin,
};
use crate::identity::ids;

/// What a result takes besides what the webhook returned: more than it takes.
const RESULT: usize = 1024;

/// The most that is kept.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Devices. The real service knows a million.
    pub(crate) devices: usize,
    /// Bytes of all results of operations. Only a webhook that returns long payloads comes near.
    pub(crate) results: usize,
    /// Bytes of all twins. Only a webhook that returns long twins comes near.
    pub(crate) twins: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices: 100_000, results: 256 * 1024 * 1024, twins: 256 * 1024 * 1024 }
    }
}

/// There is no room for one more.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// An operation whose result counts in [`Limits::results`].
#[derive(Debug)]
struct Finished {
    device: String,
    operation_id: String,
    size: usize,
}

/// All devices, by their registration IDs in lower case.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    devices: Tracked<Device>,
    renamed: Renamed,
    /// The finished operations, oldest first, and the sum of their sizes.
    finished: VecDeque<Finished>,
    /// The place of the last one in their order.
    last_finished: u64,
    results_size: usize,
    twins_size: usize,
    limits: Limits,
}

impl Devices {
    pub(crate) fn get(&self, registration_id: &str) -> Option<&Device> {
        self.devices.get(&registration_id.to_ascii_lowercase())
    }

    pub(crate) fn get_mut(&mut self, registration_id: &str) -> Option<&mut Device> {
        self.devices.get_mut(&registration_id.to_ascii_lowercase())
    }

    /// The device, which from now on is known.
    pub(crate) fn get_or_add(&mut self, registration_id: &str) -> Result<&mut Device, Full> {
        let key = registration_id.to_ascii_lowercase();
        if self.devices.get(&key).is_none() && self.devices.len() >= self.limits.devices {
            return Err(Full);
        }
        Ok(self.devices.get_or_add(key))
    }

    /// Returns the devices that have this ID at a hub, with their registration IDs in lower case. Some may have been
    /// removed from their hub.
    pub(crate) fn named(&self, device_id: &str) -> impl Iterator<Item = (&str, &Device)> {
        let key = device_id.to_ascii_lowercase();
        let same = self.devices.get_key_value(&key);
        same.into_iter()
            .chain(self.renamed.of(device_id).filter_map(|key| self.devices.get_key_value(key)))
            .filter(move |(_, device)| device.record().is_some_and(|record| record.device_id == device_id))
    }

    /// Returns the device with this ID at this hub, with its registration ID in lower case. `hub` is a host, perhaps
    /// with a port. A port counts only if both names have one.
    pub(crate) fn at_hub(&self, hub: &str, device_id: &str) -> Option<(&str, &Device)> {
        let is_there =
            |device: &Device| device.at_hub().is_some_and(|record| ids::is_same_hub(&record.assigned_hub, hub));
        // Two hubs may differ in their ports alone: the exact name goes first.
        let is_exact =
            |device: &Device| device.record().is_some_and(|record| record.assigned_hub.eq_ignore_ascii_case(hub));
        self.named(device_id).filter(|(_, device)| is_there(device)).max_by_key(|(_, device)| is_exact(device))
    }

    /// Forgets a device.
    fn remove(&mut self, registration_id: &str) -> Option<Device> {
        // Its results count until it is their turn to be forgotten.
        let device = self.devices.swap_remove(&registration_id.to_ascii_lowercase())?;
        self.twins_size -= device.twin_size;
        Some(device)
    }

    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Returns the first devices after this registration ID, in the order of their IDs.
    pub(crate) fn page(&self, after: &str, limit: usize) -> Vec<(&str, &Device)> {
        let page = self.devices.page(after, limit).into_iter();
        page.filter_map(|id| Some((id, self.devices.get(id)?))).collect()
    }

    /// Returns the IDs of the devices that were changed since the last call, in lower case.
    pub(super) fn take_changed(&mut self) -> Vec<String> {
        self.devices.take_changed()
    }

    pub(super) fn remember_changed(&mut self) {
        self.devices.remember_changed();
    }

    /// All devices, with their registration IDs in lower case.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Device)> {
        self.devices.iter()
    }

    pub(super) fn tracked(&self) -> &Tracked<Device> {
        &self.devices
    }

    pub(super) fn keep_changes(&mut self) {
        self.devices.keep_changes();
    }

    pub(super) fn take_back_changes(&mut self) {
        self.devices.take_back_changes();
        self.recount();
    }

    /// Takes the rows of the disk.
    pub(super) fn load(&mut self, rows: Vec<Row<Device>>) {
        self.devices.load(rows);
        self.recount();
    }

    /// Counts again what there is.
    fn recount(&mut self) {
        self.twins_size = self.devices.values().map(|device| device.twin_size).sum();
        self.renamed = self.devices.iter().filter_map(|(key, device)| Some((key, device.record()?))).collect();
        let mut finished: Vec<_> = self
            .devices
            .iter()
            .flat_map(|(key, device)| device.operations.iter().map(move |operation| (key, operation)))
            .filter_map(|(key, operation)| {
                let size = RESULT + operation.result.as_ref()?.size();
                let operation_id = operation.id.clone();
                Some((operation.finished, Finished { device: key.to_owned(), operation_id, size }))
            })
            .collect();
        finished.sort_unstable_by_key(|(number, _)| *number);
        self.last_finished = finished.last().map_or(0, |(number, _)| *number);
        self.results_size = finished.iter().map(|(_, finished)| finished.size).sum();
        self.finished = finished.into_iter().map(|(_, finished)| finished).collect();
    }

    /// Puts a known device at its hub, unless there is no room for its twin.
    ///
    /// A hub has one device of an ID: if another registration was there with this ID, it is there no more.
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

    /// Changes the twin of a device that has a hub, unless there is no room for it.
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

    /// The size of all twins once the device has this one, if there is room for it.
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

    /// Lets the hub forget a device, with its twin and session. Its registration stays.
    pub(crate) fn remove_from_hub(&mut self, registration_id: &str) {
        let Some(device) = self.get_mut(registration_id) else { return };
        let Some(record) = device.record.take() else { return };
        let old_size = device.twin_size;
        let hub_status = HubStatus::Removed;
        device.set_record(Some(DeviceRecord { hub_status, twin: DeviceTwin::default(), ..record }));
        device.hub = HubDevice::default();
        // An empty twin takes nothing.
        self.twins_size -= old_size;
    }

    /// Forgets all devices.
    pub(crate) fn reset(&mut self) {
        self.devices.reset();
        self.renamed = Renamed::default();
        self.finished.clear();
        (self.results_size, self.twins_size) = (0, 0);
    }

    /// Keeps the result of an operation, and forgets the oldest results if they become too many: a poll then finds no
    /// such operation, and a look-up no payload.
    pub(crate) fn finish(&mut self, registration_id: &str, operation_id: &str, state: RegistrationState) {
        let key = registration_id.to_ascii_lowercase();
        let Some(device) = self.devices.get_mut(&key) else { return };
        let state = Arc::new(state);
        // "A look-up never returns an issued certificate."
        device.last = Some(match state.issued_certificate_chain {
            Some(_) => Arc::new(RegistrationState { issued_certificate_chain: None, ..(*state).clone() }),
            None => Arc::clone(&state),
        });
        let Some(operation) = device.operations.iter_mut().find(|operation| operation.id == operation_id) else {
            return;
        };
        let size = RESULT + state.size();
        self.last_finished += 1;
        (operation.finished, operation.result) = (self.last_finished, Some(state));
        self.results_size += size;
        self.finished.push_back(Finished { device: key, operation_id: operation_id.to_owned(), size });
        while self.results_size > self.limits.results
            && let Some(oldest) = self.finished.pop_front()
        {
            self.results_size -= oldest.size;
            let Some(device) = self.devices.get_mut(&oldest.device) else { continue };
            device.operations.retain(|operation| operation.id != oldest.operation_id);
            if let Some(last) = device.last.as_mut().filter(|_| device.operations.is_empty()) {
                Arc::make_mut(last).payload = None;
            }
        }
    }

    /// Forgets a device's registration. The device stays at its hub. Returns the operation ID of the registration that
    /// was running: it leaves no result.
    pub(crate) fn forget_registration(&mut self, registration_id: &str) -> Option<String> {
        let device = self.get_mut(registration_id)?;
        let running = device.running.take().map(|running| running.operation_id.clone());
        match &mut device.record {
            Some(record) => {
                record.registered = false;
                device.last = None;
                // The results count until it is their turn to be forgotten.
                device.operations.clear();
            }
            None => drop(self.remove(registration_id)),
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        identity::{attested::Attested, key::SymmetricKey},
        store::{
            enrollments::Kind,
            registration_state::{Status, Substatus},
            running::Running,
        },
    };

    fn devices(twins: usize) -> Devices {
        Devices { limits: Limits { devices: 3, twins, ..Limits::default() }, ..Devices::default() }
    }

    /// A record whose twin has a text of this length.
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

    /// All twins together are bounded. What has no room is not kept, and what gets smaller makes room.
    #[test]
    fn twins_are_bounded() {
        let mut devices = devices(10_000);
        assert_eq!(assign(&mut devices, "a", 6000), Ok(()));
        assert_eq!(assign(&mut devices, "b", 6000), Err(Full));
        assert!(devices.get("b").unwrap().record().is_none());
        assert_eq!(assign(&mut devices, "b", 2000), Ok(()));
        // The twin of a device replaces the one that it had.
        for length in [7000, 7000, 100] {
            assert_eq!(assign(&mut devices, "A", length), Ok(()), "{length}");
        }
        assert_eq!(assign(&mut devices, "b", 9000), Ok(()));
        assert_eq!(assign(&mut devices, "a", 9000), Err(Full));
        assert_eq!(devices.get("a").unwrap().record().unwrap().twin, record("a", 100).twin);
        // One that stays as it is needs no room.
        devices.limits.twins = 0;
        assert_eq!(assign(&mut devices, "b", 9000), Ok(()));
    }

    #[test]
    fn devices_are_bounded() {
        let mut devices = devices(0);
        for id in ["a", "b", "c", "A"] {
            assert!(devices.get_or_add(id).is_ok(), "{id}");
        }
        assert!(devices.get_or_add("d").is_err());
    }

    /// Pages follow each other, in the order of IDs, without case.
    #[test]
    fn devices_are_read_in_pages() {
        let mut devices = Devices::default();
        for id in ["d", "B", "a", "e", "C"] {
            devices.get_or_add(id).unwrap();
        }
        for (after, limit, expected) in [
            ("", 9, &["a", "b", "c", "d", "e"][..]),
            ("", 5, &["a", "b", "c", "d", "e"]),
            ("", 2, &["a", "b"]),
            ("B", 2, &["c", "d"]),
            ("bb", 2, &["c", "d"]),
            ("d", 2, &["e"]),
            ("e", 2, &[]),
            ("", 0, &[]),
        ] {
            let ids: Vec<_> = devices.page(after, limit).into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, expected, "{after} {limit}");
        }
    }

    /// The oldest results are forgotten: a poll finds no operation, and a look-up no payload.
    #[test]
    fn results_are_bounded() {
        let mut devices = devices(0);
        devices.limits.results = 10_000;
        let finish = |devices: &mut Devices, id: &str| {
            let running = Running {
                operation_id: format!("operation of {id}"),
                registration_id: id.to_owned(),
                enrollment: (Kind::Group, "group".to_owned()),
                attested: Attested::SymmetricKey(SymmetricKey::default()),
                payload: None,
                csr: None,
                has_reprovisioned: true,
                created: String::new(),
            };
            devices.get_or_add(id).unwrap().begin(Arc::new(running));
            let payload = serde_json::value::to_raw_value(&"x".repeat(5000)).ok();
            let state = RegistrationState { payload, ..RegistrationState::new(id, Status::Assigned) };
            devices.finish(id, &format!("operation of {id}"), state);
        };
        let kept = |devices: &Devices, id: &str| {
            let device = devices.get(id).unwrap();
            let has_payload = device.last().unwrap().payload.is_some();
            (device.operation(&format!("operation of {id}")).is_some(), has_payload)
        };
        finish(&mut devices, "a");
        assert_eq!(kept(&devices, "a"), (true, true));
        finish(&mut devices, "b");
        assert_eq!([kept(&devices, "a"), kept(&devices, "b")], [(false, false), (true, true)]);
    }

    /// A device is found by its hub and its ID there. The case of a hub does not count, its port only if both names
    /// have one. A device ID has case.
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

    /// A hub has one device of an ID: the registration that came last has it. It is found as long as the hub knows it.
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
