//! The devices: where each is, and how its registrations went.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    enrollments::Kind,
    registration_state::{RegistrationState, Status, Substatus},
    running::Running,
    tracked::{Row, Tracked},
    twin_size::twin_size,
};
use crate::{
    clock::window::Window,
    config::Twin,
    identity::{
        key::{SymmetricKey, kept},
        tpm::Challenge,
    },
};

/// How many of a device's operations can still be polled.
const OPERATIONS_PER_DEVICE: usize = 4;

/// What a result takes besides what the webhook returned: more than it takes.
const RESULT: usize = 1024;

/// A device that has a hub, as the hub would know it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceRecord {
    /// The device's registration ID, as it last wrote it.
    pub registration_id: String,
    /// The enrollment through which it last came.
    pub enrollment_id: String,
    /// The hub to which it is assigned.
    pub assigned_hub: String,
    /// Its ID there.
    pub device_id: String,
    /// How it came there.
    pub substatus: Substatus,
    /// Its twin at the hub.
    pub twin: Twin,
    /// How many registrations were assigned so far, or since the registration was deleted.
    pub registrations: u32,
    /// Whether the service knows the registration. If it was deleted through the service API, the device stays at the
    /// hub, and its next registration is an `initialAssignment`.
    pub registered: bool,
}

/// What is known of a device that was ever let in, or whose TPM was challenged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    /// The last challenge of its TPM.
    pub(crate) challenge: Option<Arc<Challenge>>,
    /// The enrollment's key with which it last registered over HTTP, and when.
    pub(crate) last_key: Option<LastKey>,
    /// Counted while the store is read: polls are not kept.
    polls: RefCell<Window>,
    /// Through which enrollment it last registered.
    pub(crate) enrollment: Option<(Kind, String)>,
    pub(super) record: Option<DeviceRecord>,
    twin_size: usize,
    /// The state that a look-up tells.
    pub(super) last: Option<Arc<RegistrationState>>,
    pub(super) operations: VecDeque<Operation>,
    pub(super) running: Option<Arc<Running>>,
}

/// A key of an enrollment, and when a device registered with it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LastKey {
    #[serde(with = "kept")]
    pub(crate) key: SymmetricKey,
    pub(crate) at: SystemTime,
}

/// A registration that can be polled.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(super) id: String,
    /// Counted while the store is read: polls are not kept.
    pub(crate) polls: Cell<u32>,
    /// The place of the result in the order of all results.
    pub(super) finished: u64,
    /// Shared with the look-up's state, because the webhook's payload may be long. A registration that was stopped
    /// has no result.
    pub(crate) result: Option<Arc<RegistrationState>>,
}

impl Device {
    pub(crate) fn record(&self) -> Option<&DeviceRecord> {
        self.record.as_ref()
    }

    /// Where it is, as far as its next registration counts: not if its registration was deleted.
    pub(crate) fn registered(&self) -> Option<&DeviceRecord> {
        self.record().filter(|record| record.registered)
    }

    pub(crate) fn last(&self) -> Option<&RegistrationState> {
        self.last.as_deref()
    }

    pub(crate) fn running(&self) -> Option<&Arc<Running>> {
        self.running.as_ref()
    }

    /// An operation that can be polled.
    pub(crate) fn operation(&self, id: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == id)
    }

    /// Counts a poll, unless there were more than `limit` in 10 s.
    pub(crate) fn admit_poll(&self, now: Duration, limit: Option<u32>) -> bool {
        self.polls.borrow_mut().admit(now, Duration::from_secs(10), limit)
    }

    /// Begins a registration. Returns the operation ID of the one that it supersedes.
    pub(crate) fn begin(&mut self, running: Arc<Running>) -> Option<String> {
        let state = RegistrationState::new(&running.registration_id, Status::Assigning).stored(&running.created);
        self.operations.push_back(Operation::new(&running.operation_id));
        if self.operations.len() > OPERATIONS_PER_DEVICE {
            self.operations.pop_front();
        }
        let superseded = self.end(state);
        self.running = Some(running);
        superseded
    }

    /// Sets the state that a look-up tells. Returns the operation ID of the registration that was running: it leaves
    /// no result.
    pub(crate) fn end(&mut self, state: RegistrationState) -> Option<String> {
        self.last = Some(Arc::new(state));
        self.running.take().map(|running| running.operation_id.clone())
    }

    /// Returns `true` if this registration was running until now, and so may change the record.
    pub(crate) fn take_running(&mut self, operation_id: &str) -> bool {
        self.running.take_if(|running| running.operation_id == operation_id).is_some()
    }

    /// Sets the record of a device that is read from the disk.
    pub(super) fn set_record(&mut self, record: Option<DeviceRecord>) {
        self.twin_size = record.as_ref().map_or(0, |record| twin_size(&record.twin));
        self.record = record;
    }
}

impl Operation {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), polls: Cell::new(0), finished: 0, result: None }
    }
}

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
    pub(crate) fn assign(&mut self, record: DeviceRecord) -> Result<(), Full> {
        let Some(device) = self.devices.get_mut(&record.registration_id.to_ascii_lowercase()) else { return Ok(()) };
        let size = twin_size(&record.twin);
        let twins_size = self.twins_size - device.twin_size + size;
        if twins_size > self.limits.twins && size > device.twin_size {
            return Err(Full);
        }
        (self.twins_size, device.twin_size) = (twins_size, size);
        device.record = Some(record);
        Ok(())
    }

    /// Forgets all devices.
    pub(crate) fn reset(&mut self) {
        self.devices.reset();
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
    use crate::identity::attested::Attested;

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
            twin: Twin { desired, ..Twin::default() },
            registrations: 1,
            registered: true,
        }
    }

    fn assign(devices: &mut Devices, registration_id: &str, length: usize) -> Result<(), Full> {
        devices.get_or_add(registration_id).unwrap();
        devices.assign(record(registration_id, length))
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

    /// Small members count more than their text, as they do in memory.
    #[test]
    fn a_twin_counts_as_a_tree() {
        let tags = (0..1000).map(|number| (number.to_string(), json!([number]))).collect();
        let size = twin_size(&Twin { tags, ..Twin::default() });
        assert!((100_000..400_000).contains(&size), "{size}");
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
}
