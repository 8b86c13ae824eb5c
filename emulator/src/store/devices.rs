//! All devices, and the limits of their number and size.

use std::{collections::VecDeque, sync::Arc};

use super::{
    device::Device,
    registration_state::RegistrationState,
    renamed::Renamed,
    tracked::{Row, Tracked},
};

/// An upper bound of the memory of a result without the webhook's payload.
const RESULT: usize = 1024;

/// The limits of the store.
#[derive(Debug)]
pub(crate) struct Limits {
    /// The number of devices. The real service allows a million.
    pub(crate) devices: usize,
    /// The bytes of all results of operations. Only a webhook that returns long payloads comes near this limit.
    pub(crate) results: usize,
    /// The bytes of all twins. Only a webhook that returns long twins comes near this limit.
    pub(crate) twins: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices: 100_000, results: 256 * 1024 * 1024, twins: 256 * 1024 * 1024 }
    }
}

/// There is no room for another one.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// An operation whose result counts towards [`Limits::results`].
#[derive(Debug)]
struct Finished {
    device: String,
    operation_id: String,
    size: usize,
}

/// All devices, by their registration IDs in lower case.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(super) devices: Tracked<Device>,
    pub(super) renamed: Renamed,
    /// The finished operations, oldest first, and the sum of their sizes.
    finished: VecDeque<Finished>,
    /// The number of the last finished operation.
    last_finished: u64,
    results_size: usize,
    pub(super) twins_size: usize,
    pub(super) limits: Limits,
}

impl Devices {
    pub(crate) fn get(&self, registration_id: &str) -> Option<&Device> {
        self.devices.get(&registration_id.to_ascii_lowercase())
    }

    pub(crate) fn get_mut(&mut self, registration_id: &str) -> Option<&mut Device> {
        self.devices.get_mut(&registration_id.to_ascii_lowercase())
    }

    /// Returns the device, which is added if it is new.
    pub(crate) fn get_or_add(&mut self, registration_id: &str) -> Result<&mut Device, Full> {
        let key = registration_id.to_ascii_lowercase();
        if self.devices.get(&key).is_none() && self.devices.len() >= self.limits.devices {
            return Err(Full);
        }
        Ok(self.devices.get_or_add(key))
    }

    /// Removes a device.
    fn remove(&mut self, registration_id: &str) -> Option<Device> {
        // Its results still count until they are the oldest.
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

    /// Returns the IDs of the devices that changed since the last call, in lower case.
    pub(super) fn take_changed(&mut self) -> Vec<String> {
        self.devices.take_changed()
    }

    pub(super) fn remember_changed(&mut self) {
        self.devices.remember_changed();
    }

    /// Returns all devices with their registration IDs in lower case.
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

    /// Loads the rows of the disk.
    pub(super) fn load(&mut self, rows: Vec<Row<Device>>) {
        self.devices.load(rows);
        self.recount();
    }

    /// Computes all sums again.
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

    /// Removes all devices.
    pub(crate) fn reset(&mut self) {
        self.devices.reset();
        self.renamed = Renamed::default();
        self.finished.clear();
        (self.results_size, self.twins_size) = (0, 0);
    }

    /// Stores the result of an operation. If there are too many results, the oldest are removed: a poll then does not
    /// find the operation, and a look-up has no payload.
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

    /// Removes the registration of a device. The device stays at its hub. Returns the operation ID of the
    /// registration that was running. That registration has no result.
    pub(crate) fn forget_registration(&mut self, registration_id: &str) -> Option<String> {
        let device = self.get_mut(registration_id)?;
        let running = device.running.take().map(|running| running.operation_id.clone());
        match &mut device.record {
            Some(record) => {
                record.registered = false;
                device.last = None;
                // The results still count until they are the oldest.
                device.operations.clear();
            }
            None => drop(self.remove(registration_id)),
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{attested::Attested, key::SymmetricKey},
        store::{enrollments::Kind, registration_state::Status, running::Running},
    };

    fn devices() -> Devices {
        Devices { limits: Limits { devices: 3, ..Limits::default() }, ..Devices::default() }
    }

    #[test]
    fn devices_are_bounded() {
        let mut devices = devices();
        for id in ["a", "b", "c", "A"] {
            assert!(devices.get_or_add(id).is_ok(), "{id}");
        }
        assert!(devices.get_or_add("d").is_err());
    }

    /// Pages continue each other, in the order of IDs without case.
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

    /// The oldest results are removed: a poll does not find the operation, and a look-up has no payload.
    #[test]
    fn results_are_bounded() {
        let mut devices = devices();
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
}
