//! Where a device is after an allocation, and with which twin: what re-provisioning means.

use super::{allocation::Allocated, enrollment::Enrollment};
use crate::{
    config::ReprovisionPolicy,
    store::{device::DeviceRecord, hub_device::HubStatus, registration_state::Substatus},
};

/// Makes the record of a device that is assigned.
///
/// "DPS only uses initialTwin property in the response if the current IoT hub is changed and the reprovisioning policy
/// set on the enrollment entry is *Reprovision and reset to initial config*."
pub(super) fn assign(
    current: Option<&DeviceRecord>,
    registration_id: &str,
    enrollment: &Enrollment,
    allocated: Allocated,
) -> DeviceRecord {
    let initial_twin = || allocated.initial_twin.unwrap_or_else(|| enrollment.initial_twin.clone()).into();
    let (substatus, twin) = match current {
        None => (Substatus::InitialAssignment, initial_twin()),
        // "Device has been re-provisioned to a previously assigned IoT hub."
        Some(current) if current.assigned_hub == allocated.hub => {
            (Substatus::ReprovisionedToInitialAssignment, current.twin.clone())
        }
        Some(_) if enrollment.reprovision_policy == ReprovisionPolicy::Reset => {
            (Substatus::DeviceDataReset, initial_twin())
        }
        Some(current) => (Substatus::DeviceDataMigrated, current.twin.clone()),
    };
    // A hub's device IDs have case, registration IDs have none: the device keeps the ID that it has.
    let kept_id = current.map(|current| &current.device_id);
    let device_id = match (&enrollment.device_id, kept_id) {
        (Some(device_id), _) => device_id,
        (None, Some(kept_id)) if kept_id.eq_ignore_ascii_case(registration_id) => kept_id,
        _ => registration_id,
    };
    DeviceRecord {
        registration_id: registration_id.to_owned(),
        enrollment_id: enrollment.id.clone(),
        assigned_hub: allocated.hub,
        device_id: device_id.to_owned(),
        substatus,
        hub_status: HubStatus::Enabled,
        twin,
        registrations: current.map_or(0, |current| current.registrations) + 1,
        registered: true,
    }
}

/// The substatus that a device is told. Old api-versions do not know that a device came back to its hub.
pub(super) fn told_substatus(substatus: Substatus, has_reprovisioned: bool) -> Substatus {
    match substatus {
        Substatus::ReprovisionedToInitialAssignment if !has_reprovisioned => Substatus::InitialAssignment,
        substatus => substatus,
    }
}
