//! A restart reads what was written, even if the process was killed at any moment or the disk was full.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, Mutex},
};

use redb::StorageBackend;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Disk, folder::Folder, forms::Form, open};
use crate::{
    config::{EnrollmentGroup, IndividualEnrollment},
    store::{
        Store,
        device::{Device, DeviceRecord},
        enrollments::{Entry, Kind, Stamped},
        hub_device::{HubDevice, HubStatus},
        registration_state::{RegistrationState, Status, Substatus},
        running::Running,
        shared::{NotKept, SharedStore},
        twin::DeviceTwin,
    },
};

/// A file in memory that can be copied at each write, and can refuse writes.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<File>>);

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// The file as a kill leaves it: before each write, and in the middle of it.
    copies: Option<Vec<Vec<u8>>>,
    /// How many more writes succeed.
    room: Option<usize>,
}

impl Memory {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(File { bytes, ..File::default() })))
    }

    /// Returns a data folder with this database.
    fn disk(&self, directory: &TempDir) -> Disk {
        Disk { folder: Folder::open(&directory.path().join("data")).unwrap(), database: open(self.clone()).unwrap() }
    }

    /// Returns what a new process reads.
    fn found(&self, directory: &TempDir) -> Value {
        let bytes = self.0.lock().unwrap().bytes.clone();
        let mut store = Store::default();
        Self::of(bytes).disk(directory).load(&mut store).unwrap();
        content(&store)
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let offset = usize::try_from(offset).unwrap();
        Ok(self.0.lock().unwrap().bytes[offset..offset + length].to_vec())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().bytes.resize(usize::try_from(length).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut file = self.0.lock().unwrap();
        let File { bytes, copies, room } = &mut *file;
        let offset = usize::try_from(offset).unwrap();
        if let Some(copies) = copies {
            copies.push(bytes.clone());
            // The system writes whole pages, so only longer writes can be cut.
            if data.len() > 4096 {
                let mut torn = bytes.clone();
                torn[offset..offset + 4096].copy_from_slice(&data[..4096]);
                copies.push(torn);
            }
        }
        if let Some(room) = room {
            *room = room.checked_sub(1).ok_or(ErrorKind::StorageFull)?;
        }
        bytes[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Returns everything that the store keeps.
fn content(store: &Store) -> Value {
    let json = |form: serde_json::Result<Vec<u8>>| value(&form.unwrap());
    json!({
        "groups": store.enrollments.groups().map(|group| json(group.to_json())).collect::<Vec<_>>(),
        "individuals": store.enrollments.individuals().map(|each| json(each.to_json())).collect::<Vec<_>>(),
        "devices": store.devices.iter().map(|(_, device)| json(device.to_json())).collect::<Vec<_>>(),
    })
}

fn group(id: &str) -> EnrollmentGroup {
    EnrollmentGroup { enrollment_group_id: id.to_owned(), ..EnrollmentGroup::default() }
}

fn individual(id: &str) -> IndividualEnrollment {
    IndividualEnrollment { registration_id: id.to_owned(), ..IndividualEnrollment::default() }
}

/// Assigns a device, with a payload of this length.
fn assign(store: &mut Store, id: &str, length: usize) {
    let running = Running {
        operation_id: format!("operation of {id}"),
        registration_id: id.to_owned(),
        ..serde_json::from_value(golden_device()["running"].clone()).unwrap()
    };
    store.devices.get_or_add(id).unwrap().begin(Arc::new(running));
    let record = DeviceRecord {
        registration_id: id.to_owned(),
        device_id: id.to_owned(),
        substatus: Substatus::InitialAssignment,
        hub_status: HubStatus::Enabled,
        twin: DeviceTwin::default(),
        ..serde_json::from_value(golden_device()["record"].clone()).unwrap()
    };
    store.devices.assign(record, HubDevice::default()).unwrap();
    store.devices.get_mut(id).unwrap().take_running(&format!("operation of {id}"));
    let payload = serde_json::value::to_raw_value(&"x".repeat(length)).ok();
    let state = RegistrationState { payload, ..RegistrationState::new(id, Status::Assigned) };
    store.devices.finish(id, &format!("operation of {id}"), state);
}

type Change = fn(&mut Store);

/// Changes of all kinds. Each one follows the one before.
const CHANGES: [(&str, Change); 10] = [
    ("a group", |store| store.enrollments.put(Entry::Group(group("b"))).unwrap()),
    ("an individual enrollment", |store| store.enrollments.put(Entry::Individual(individual("d"))).unwrap()),
    ("a device", |store| assign(store, "Device-1", 10)),
    ("a long payload", |store| assign(store, "device-2", 100_000)),
    ("what a device reports", |store| {
        let reported = json!({ "fan": 7 }).as_object().unwrap().clone();
        let twin = DeviceTwin { reported, reported_version: 2, ..DeviceTwin::default() };
        store.devices.set_twin("device-2", twin).unwrap();
    }),
    ("a device that is disabled", |store| store.devices.set_hub_status("DEVICE-2", HubStatus::Disabled)),
    ("a device that is removed from its hub", |store| store.devices.remove_from_hub("device-2")),
    ("a deletion", |store| assert!(store.enrollments.remove(Kind::Group, "B"))),
    ("a device less", |store| drop(store.devices.forget_registration("device-1"))),
    ("a reset", |store| store.reset(vec![group("z"), group("a")], Vec::new())),
];

fn shared(disk: Disk) -> SharedStore {
    SharedStore::open(Some(disk), vec![group("c"), group("a")], vec![individual("x")]).unwrap()
}

fn change(store: &SharedStore, change: Change) -> Result<(), NotKept> {
    let change = |store: &mut Store| {
        change(store);
        Ok(())
    };
    store.change(change, |()| ())
}

/// A process that is killed at any moment, even in the middle of a write, leaves the state before or after the
/// change.
#[test]
fn a_kill_leaves_the_state_before_or_after() {
    let directory = tempfile::tempdir().unwrap();
    let memory = Memory::default();
    let store = shared(memory.disk(&directory));
    for (what, each) in CHANGES {
        let before = content(&store.read());
        assert_eq!(memory.found(&directory), before, "{what}");
        memory.0.lock().unwrap().copies = Some(Vec::new());
        change(&store, each).unwrap();
        let after = content(&store.read());
        assert_ne!(after, before, "{what}");
        // The change is written when the call returns.
        assert_eq!(memory.found(&directory), after, "{what}");
        let copies = memory.0.lock().unwrap().copies.take().unwrap();
        assert!(copies.len() > 2, "{what}: {}", copies.len());
        for (number, copy) in copies.into_iter().enumerate() {
            let found = Memory::of(copy).found(&directory);
            assert!(found == before || found == after, "{what}, write {number}: {found}");
        }
    }
}

/// If the disk is full, nothing changes: neither in memory nor on disk.
#[test]
fn a_change_that_cannot_be_written_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    for (what, each) in [CHANGES[0], CHANGES[3], CHANGES[6], CHANGES[9]] {
        for room in 0.. {
            let memory = Memory::default();
            let store = shared(memory.disk(&directory));
            for (_, earlier) in CHANGES.into_iter().take_while(|(name, _)| *name != what) {
                change(&store, earlier).unwrap();
            }
            let before = content(&store.read());
            memory.0.lock().unwrap().room = Some(room);
            let Err(NotKept(why)) = change(&store, each) else {
                assert!(room > 2, "{what}: {room} writes are enough");
                break;
            };
            assert!(why.contains("cannot be written"), "{why}");
            assert_eq!(content(&store.read()), before, "{what}, {room} writes");
            // After the fault, no change is accepted, even if the disk has room again.
            memory.0.lock().unwrap().room = None;
            assert!(change(&store, |store| assign(store, "late", 1)).is_err());
            assert_eq!(content(&store.read()), before);
            assert_eq!(memory.found(&directory), before, "{what}, {room} writes");
            drop(store);
            assert_eq!(memory.found(&directory), before, "{what}, {room} writes, stopped");
        }
    }
}

/// A change without effect writes nothing.
#[test]
fn a_read_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let memory = Memory::default();
    let store = shared(memory.disk(&directory));
    memory.0.lock().unwrap().room = Some(0);
    let read = |store: &mut Store| Ok::<_, NotKept>(store.devices.get_mut("nobody").is_none());
    assert!(store.change(read, |nobody| nobody).unwrap());
}

fn value(json: &[u8]) -> Value {
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    Value::deserialize(&mut reader).unwrap()
}

fn golden_device() -> Value {
    value(include_bytes!("golden/device.json"))
}

/// Reads a row, and checks that it is then written as `expected`.
fn check<V: Form>(row: &[u8], expected: &Value) {
    let read = V::from_json(row).unwrap();
    let written = value(&read.to_json().unwrap());
    assert_eq!(written, *expected, "{written:#}");
}

/// Every later version reads these rows. If this test fails, the format has changed: keep these rows, as those of
/// format 1 are kept, and add rows of the new format.
#[test]
fn rows_of_format_2_are_read() {
    fn check_same<V: Form>(row: &[u8]) {
        check::<V>(row, &value(row));
    }
    check_same::<Device>(include_bytes!("golden/device.json"));
    check_same::<Device>(include_bytes!("golden/device-x509.json"));
    check_same::<Device>(include_bytes!("golden/device-x509-group.json"));
    check_same::<Device>(include_bytes!("golden/device-tpm.json"));
    check_same::<Stamped<EnrollmentGroup>>(include_bytes!("golden/group.json"));
    check_same::<Stamped<IndividualEnrollment>>(include_bytes!("golden/individual.json"));
}

/// A folder of an older format is upgraded, and older versions then reject it.
#[test]
fn an_older_folder_is_converted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    for before in ["1\n", "1", "2\n"] {
        Folder::open(&path).unwrap();
        std::fs::write(path.join("format"), before).unwrap();
        Folder::open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("format")).unwrap(), "2\n", "{before:?}");
    }
}

/// Format 1 had no reported properties and no data of hubs in devices. Enrollments are the same.
#[test]
fn rows_of_format_1_are_read() {
    for row in [
        &include_bytes!("golden/format-1/device.json")[..],
        include_bytes!("golden/format-1/device-x509.json"),
        include_bytes!("golden/format-1/device-tpm.json"),
    ] {
        let mut expected = value(row);
        expected["hub"] = json!({ "authentication": "Unknown", "session": null });
        if let Some(record) = expected["record"].as_object_mut() {
            record.insert("hubStatus".to_owned(), json!("enabled"));
            for (name, new) in [("desiredVersion", json!(1)), ("reported", json!({})), ("reportedVersion", json!(1))] {
                record["twin"][name] = new;
            }
        }
        check::<Device>(row, &expected);
    }
}
