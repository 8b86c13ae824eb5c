//! A device: its assignment and its registrations.

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

/// How many operations of a device can still be polled.
const OPERATIONS_PER_DEVICE: usize = 4;

/// A device that is assigned to a hub.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceRecord {
    /// The registration ID, as the device last wrote it.
    pub registration_id: String,
    /// The enrollment of the last registration.
    pub enrollment_id: String,
    /// The hub that the device is assigned to.
    pub assigned_hub: String,
    /// The device ID at the hub.
    pub device_id: String,
    /// How the device got its assignment.
    pub substatus: Substatus,
    /// Whether the hub has the device, and lets it connect.
    #[serde(default)]
    pub hub_status: HubStatus,
    /// The twin at the hub. It is empty if the device was removed from the hub.
    pub twin: DeviceTwin,
    /// The number of registrations that ended with an assignment, since the start or since the registration was
    /// deleted.
    pub registrations: u32,
    /// `true` if DPS has the registration. If the service API deleted it, the device stays at the hub, and its next
    /// registration is an `initialAssignment`.
    pub registered: bool,
}

/// The state of a device that ever passed attestation, or whose TPM got a challenge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    /// The last challenge of the TPM.
    pub(crate) challenge: Option<Arc<Challenge>>,
    /// The key of the enrollment that the device last used over HTTP, and when.
    pub(crate) last_key: Option<LastKey>,
    /// A cell, because a poll only reads the store. Polls are not written to disk.
    polls: RefCell<Window>,
    /// The enrollment of the last registration.
    pub(crate) enrollment: Option<(Kind, String)>,
    pub(super) record: Option<DeviceRecord>,
    /// The state at the hub that is not in the record.
    pub(crate) hub: HubDevice,
    pub(super) twin_size: usize,
    /// The state that a look-up returns.
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
    /// A cell, because a poll only reads the store. Polls are not written to disk.
    pub(crate) polls: Cell<u32>,
    /// The position of the result in the order of all results.
    pub(super) finished: u64,
    /// Shared with the state for look-ups, because the payload of the webhook may be long. A registration that was
    /// stopped has no result.
    pub(crate) result: Option<Arc<RegistrationState>>,
}

impl Device {
    pub(crate) fn record(&self) -> Option<&DeviceRecord> {
        self.record.as_ref()
    }

    /// Returns the assignment that the next registration starts from: none if the registration was deleted.
    pub(crate) fn registered(&self) -> Option<&DeviceRecord> {
        self.record().filter(|record| record.registered)
    }

    /// Returns the assignment if the device is at its hub: none if the device was removed there.
    pub(crate) fn at_hub(&self) -> Option<&DeviceRecord> {
        self.record().filter(|record| record.hub_status != HubStatus::Removed)
    }

    pub(crate) fn last(&self) -> Option<&RegistrationState> {
        self.last.as_deref()
    }

    pub(crate) fn running(&self) -> Option<&Arc<Running>> {
        self.running.as_ref()
    }

    /// Returns an operation that can be polled.
    pub(crate) fn operation(&self, id: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == id)
    }

    /// Counts a poll. Returns `false` if there were more than `limit` polls in 10 s.
    pub(crate) fn admit_poll(&self, now: Duration, limit: Option<u32>) -> bool {
        self.polls.borrow_mut().admit(now, Duration::from_secs(10), limit)
    }

    /// Starts a registration. Returns the operation ID of the running registration that it replaces.
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

    /// Sets the state that a look-up returns. Returns the operation ID of the registration that was running. That
    /// registration has no result.
    pub(crate) fn end(&mut self, state: RegistrationState) -> Option<String> {
        self.last = Some(Arc::new(state));
        self.running.take().map(|running| running.operation_id.clone())
    }

    /// Returns `true` if this registration was still running. Only then it may change the record.
    pub(crate) fn take_running(&mut self, operation_id: &str) -> bool {
        self.running.take_if(|running| running.operation_id == operation_id).is_some()
    }

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
