//! A device: where it is, and how its registrations went.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    enrollments::Kind,
    hub_device::{HubDevice, HubStatus},
    registration_state::{RegistrationState, Status, Substatus},
    running::Running,
    twin::DeviceTwin,
};
use crate::{
    clock::window::Window,
    identity::{
        key::{SymmetricKey, kept},
        tpm::Challenge,
    },
};

/// How many of a device's operations can still be polled.
const OPERATIONS_PER_DEVICE: usize = 4;

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
    /// What the hub does with it.
    #[serde(default)]
    pub hub_status: HubStatus,
    /// Its twin at the hub. It is empty if the device was removed from the hub.
    pub twin: DeviceTwin,
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
    /// What its hub knows of it, besides the record.
    pub(crate) hub: HubDevice,
    pub(super) twin_size: usize,
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

    /// Where it is, if its hub knows it: not if it was removed from there.
    pub(crate) fn at_hub(&self) -> Option<&DeviceRecord> {
        self.record().filter(|record| record.hub_status != HubStatus::Removed)
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

    /// Sets the record.
    pub(super) fn set_record(&mut self, record: Option<DeviceRecord>) {
        self.twin_size = record.as_ref().map_or(0, |record| record.twin.size());
        self.record = record;
    }
}

impl Operation {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), polls: Cell::new(0), finished: 0, result: None }
    }
}
