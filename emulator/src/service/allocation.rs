//! Chooses the hub of a device.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{enrollment::Enrollment, failure::Failure};
use crate::config::{AllocationPolicy, Behaviour, ReprovisionPolicy, Twin, behaviour::UnlinkedHub, settings::Settings};

/// A hub for a device, with the data that the webhook returned.
#[derive(Clone, Debug)]
pub(crate) struct Allocated {
    pub(crate) hub: String,
    pub(crate) initial_twin: Option<Twin>,
    pub(crate) payload: Option<Box<RawValue>>,
}

/// Returns the hubs that a device may be assigned to: `linkedHubs` of an allocation request.
///
/// "This is typically composed of the IoT hubs selected for the enrollment entry. If no IoT hubs are selected in the
/// enrollment entry, it will contain all the IoT hubs linked to the DPS instance. Finally, if the device is
/// reprovisioning and the *Never reprovision* policy is set on the enrollment entry, it will contain only the IoT hub
/// that the device is currently assigned to."
pub(crate) fn offered_hubs(settings: &Settings, enrollment: &Enrollment, current_hub: Option<&str>) -> Vec<String> {
    let mut selected = enrollment.allocation.selected_hubs().peekable();
    match current_hub {
        Some(hub) if enrollment.reprovision_policy == ReprovisionPolicy::Never => {
            vec![hub.to_owned()]
        }
        _ if selected.peek().is_none() => settings.linked_hubs.clone(),
        // A selected hub may have been unlinked since.
        _ => selected.filter(|hub| settings.linked_hubs.contains(hub)).cloned().collect(),
    }
}

/// Chooses a hub without a webhook.
pub(crate) fn choose(policy: AllocationPolicy, registration_id: &str, hubs: &[String]) -> Result<Allocated, Failure> {
    let hub = match policy {
        AllocationPolicy::Hashed | AllocationPolicy::GeoLatency if !hubs.is_empty() => {
            let digest = Sha256::digest(registration_id.to_ascii_lowercase());
            let hash = digest[..8].iter().fold(0, |hash: u64, byte| hash << 8 | u64::from(*byte));
            // The remainder is smaller than the length, so the conversion cannot fail.
            hubs.get(usize::try_from(hash % hubs.len() as u64).unwrap_or(0))
        }
        _ => hubs.first(),
    };
    hub.map(|hub| Allocated { hub: hub.clone(), initial_twin: None, payload: None }).ok_or_else(Failure::hub_not_found)
}

/// Checks the hub of a webhook: "This must be one of the IoT hubs passed in the linkedHubs property in the request."
pub(crate) fn check_hub(
    mut allocated: Allocated,
    offered: &[String],
    otherwise: UnlinkedHub,
) -> Result<Allocated, Failure> {
    match offered.iter().find(|hub| hub.eq_ignore_ascii_case(&allocated.hub)) {
        Some(hub) => allocated.hub = hub.clone(),
        None => match otherwise {
            UnlinkedHub::Assigned => {}
            UnlinkedHub::HubNotFound => return Err(Failure::hub_not_found()),
            UnlinkedHub::CustomAllocationFailed => {
                return Err(Failure::unreachable("the IoT hub is not a linked hub"));
            }
        },
    }
    Ok(allocated)
}

/// Checks that the hub accepts DPS.
pub(crate) fn check_access(hub: &str, behaviour: &Behaviour) -> Result<(), Failure> {
    if behaviour.inaccessible_hubs.iter().any(|other| other.eq_ignore_ascii_case(hub)) {
        return Err(Failure::hub_unauthorized(behaviour.hub_refusal_message));
    }
    Ok(())
}
