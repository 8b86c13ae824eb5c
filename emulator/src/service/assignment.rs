//! The record of a device after its allocation, with its twin: reprovisioning.

use super::{allocation::Allocated, enrollment::Enrollment, failure::Failure};
use crate::{
    config::{ReprovisionPolicy, twin_limits},
    store::{
        device::{Device, DeviceRecord},
        devices::{Devices, Full},
        hub_device::{Authentication, HubDevice, HubStatus},
        registration_state::Substatus,
    },
};

/// Creates the record of a device that is assigned.
///
/// "DPS only uses initialTwin property in the response if the current IoT hub is changed and the reprovisioning
/// policy set on the enrollment entry is *Reprovision and reset to initial config*."
///
/// # Errors
///
/// Returns an error if the device starts with an initial twin that exceeds a limit of the hub.
pub(super) fn assign(
    current: Option<&DeviceRecord>,
    registration_id: &str,
    enrollment: &Enrollment,
    allocated: Allocated,
) -> Result<DeviceRecord, Failure> {
    let initial_twin = || {
        let twin = allocated.initial_twin.unwrap_or_else(|| enrollment.initial_twin.clone());
        twin_limits::check(&twin).map_err(|why| Failure::twin_refused(&why))?;
        Ok(twin.into())
    };
    // A device that was removed from its hub has no twin.
    let current_twin = current.filter(|current| current.hub_status != HubStatus::Removed).map(|current| &current.twin);
    let (substatus, twin) = match (current, current_twin) {
        (None, _) => (Substatus::InitialAssignment, initial_twin()?),
        // "Device has been re-provisioned to a previously assigned IoT hub."
        (Some(current), twin) if current.assigned_hub == allocated.hub => {
            (Substatus::ReprovisionedToInitialAssignment, twin.cloned().map_or_else(initial_twin, Ok)?)
        }
        (Some(_), Some(twin)) if enrollment.reprovision_policy != ReprovisionPolicy::Reset => {
            (Substatus::DeviceDataMigrated, twin.clone())
        }
        (Some(_), _) => (Substatus::DeviceDataReset, initial_twin()?),
    };
    // Device IDs are case-sensitive, registration IDs are not. So the device keeps its present ID.
    let kept_id = current.map(|current| &current.device_id);
    let device_id = match (&enrollment.device_id, kept_id) {
        (Some(device_id), _) => device_id,
        (None, Some(kept_id)) if kept_id.eq_ignore_ascii_case(registration_id) => kept_id,
        _ => registration_id,
    };
    Ok(DeviceRecord {
        registration_id: registration_id.to_owned(),
        enrollment_id: enrollment.id.clone(),
        assigned_hub: allocated.hub,
        device_id: device_id.to_owned(),
        substatus,
        hub_status: HubStatus::Enabled,
        twin,
        registrations: current.map_or(0, |current| current.registrations) + 1,
        registered: true,
    })
}

/// Puts a device at its hub, with the credentials that the hub accepts.
///
/// The hub keeps an existing identity: a device that an operator disabled stays disabled, and a device that returns
/// keeps its session.
pub(super) fn put_at_hub(
    devices: &mut Devices,
    mut record: DeviceRecord,
    authentication: Authentication,
) -> Result<(), Full> {
    let existing = devices.at_hub(&record.assigned_hub, &record.device_id);
    if let Some(existing) = existing.and_then(|(_, device)| device.record()) {
        record.hub_status = existing.hub_status;
    }
    let is_own = |(key, _): &(&str, &Device)| key.eq_ignore_ascii_case(&record.registration_id);
    let session = existing.filter(is_own).and_then(|(_, device)| device.hub.session.clone());
    devices.assign(record, HubDevice { authentication, session })
}

/// Returns the substatus for the device. Old api-versions have no `reprovisionedToInitialAssignment`.
pub(super) fn told_substatus(substatus: Substatus, has_reprovisioned: bool) -> Substatus {
    match substatus {
        Substatus::ReprovisionedToInitialAssignment if !has_reprovisioned => Substatus::InitialAssignment,
        substatus => substatus,
    }
}
