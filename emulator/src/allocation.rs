//! Which hub a device gets.

use serde_json::{json, value::RawValue};
use sha2::{Digest, Sha256};

use crate::clock::wall_time;
use crate::config::Behaviour;
use crate::config::behaviour::{HubRefusalMessage, UnlinkedHub};
use crate::config::{AllocationPolicy, Config, ReprovisionPolicy, Twin};
use crate::enrollment::Enrollment;
use crate::identity::ids;

/// A hub for a device, and what the webhook gave with it.
#[derive(Clone, Debug)]
pub(crate) struct Allocated {
    pub(crate) hub: String,
    pub(crate) initial_twin: Option<Twin>,
    pub(crate) payload: Option<Box<RawValue>>,
}

/// Why a device gets no hub: the `errorCode` and `errorMessage` of its registration state.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl Failure {
    /// CustomAllocationFailed: the webhook answered a status that the service does not take.
    pub(crate) fn status(status: u16) -> Self {
        Self { code: 400_207, message: format!("Custom allocation failed with status code: {status}") }
    }

    /// CustomAllocationFailed: there was no answer.
    pub(crate) fn unreachable(why: &str) -> Self {
        Self { code: 400_207, message: format!("Custom allocation failed: {why}") }
    }

    /// CustomAllocationFailed: 200, but no `AllocationResponse`.
    pub(crate) fn unreadable(why: &str) -> Self {
        Self { code: 400_207, message: format!("Custom allocation failed: the response cannot be read: {why}") }
    }

    /// CustomAllocationIotHubNotSpecified.
    pub(crate) fn no_hub() -> Self {
        Self { code: 400_208, message: "Custom allocation failed: IoT hub not specified".to_owned() }
    }

    /// CustomAllocationUnauthorizedAccess.
    pub(crate) fn unauthorized() -> Self {
        Self { code: 400_209, ..Self::status(401) }
    }

    /// The hub refuses the service: the text as devices saw it in 2020 and 2022, alone or one or two
    /// levels deep in JSON, with a tracking ID of the hub's.
    fn hub_unauthorized(form: HubRefusalMessage) -> Self {
        let guid = ids::guid().replace('-', "");
        let now = wall_time::now();
        let message = match form {
            HubRefusalMessage::Plain => "Unauthorized access".to_owned(),
            HubRefusalMessage::Json => json!({
                "Message": "ErrorCode:IotHubUnauthorizedAccess;Unauthorized",
                "ExceptionMessage": format!("Tracking ID:{guid}-G:10-TimeStamp:{now}"),
            })
            .to_string(),
            HubRefusalMessage::NestedJson => {
                let inner = json!({
                    "errorCode": 401_002,
                    "message": "Unauthorized access",
                    "trackingId": format!("{}-G2:-TimeStamp:{now}", guid.to_uppercase()),
                    "timestampUtc": now,
                    "info": null,
                });
                json!({ "Message": inner.to_string(), "ExceptionMessage": "" }).to_string()
            }
        };
        Self { code: 401_002, message }
    }

    /// The device has a hub, but not the certificate that it asked for. What the service says then,
    /// nobody has written down.
    pub(crate) fn not_issued(why: &str) -> Self {
        Self { code: 500_000, message: format!("Certificate issuance failed: {why}") }
    }

    /// The enrollment was deleted while the registration was running, or no longer is the device's.
    /// What the service says then, nobody has written down.
    pub(crate) fn enrollment_gone() -> Self {
        Self { code: 404_201, message: "Enrollment not found".to_owned() }
    }

    /// No hub is linked: code and words as the real service says them.
    pub(crate) fn hub_not_found() -> Self {
        Self { code: 401_001, message: "IoTHub not found.".to_owned() }
    }
}

/// The hubs that a device may be assigned to: `linkedHubs` of an allocation request.
///
/// "This is typically composed of the IoT hubs selected for the enrollment entry. If no IoT hubs
/// are selected in the enrollment entry, it will contain all the IoT hubs linked to the DPS
/// instance. Finally, if the device is reprovisioning and the *Never reprovision* policy is set on
/// the enrollment entry, it will contain only the IoT hub that the device is currently assigned
/// to."
pub(crate) fn offered_hubs(config: &Config, enrollment: &Enrollment, current_hub: Option<&str>) -> Vec<String> {
    let selected = &enrollment.allocation.iot_hubs;
    match current_hub {
        Some(hub) if enrollment.reprovision_policy == ReprovisionPolicy::Never => {
            vec![hub.to_owned()]
        }
        _ if selected.is_empty() => config.linked_hubs.clone(),
        // A hub that was unlinked after it was selected is no longer there.
        _ => selected.iter().filter(|hub| config.linked_hubs.contains(hub)).cloned().collect(),
    }
}

/// Chooses as the service itself does, without a webhook.
pub(crate) fn choose(policy: AllocationPolicy, registration_id: &str, hubs: &[String]) -> Result<Allocated, Failure> {
    let hub = match policy {
        AllocationPolicy::Hashed if !hubs.is_empty() => {
            let digest = Sha256::digest(registration_id.to_ascii_lowercase());
            let hash = digest[..8].iter().fold(0, |hash: u64, byte| hash << 8 | u64::from(*byte));
            // The remainder is smaller than a length, so it fits.
            hubs.get(usize::try_from(hash % hubs.len() as u64).unwrap_or(0))
        }
        _ => hubs.first(),
    };
    hub.map(|hub| Allocated { hub: hub.clone(), initial_twin: None, payload: None }).ok_or_else(Failure::hub_not_found)
}

/// "This must be one of the IoT hubs passed in the linkedHubs property in the request."
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
                return Err(Failure::unreachable("the IoT hub is not among the linked hubs"));
            }
        },
    }
    Ok(allocated)
}

/// The service can only put a device at a hub that lets the service in.
pub(crate) fn check_access(hub: &str, behaviour: &Behaviour) -> Result<(), Failure> {
    if behaviour.inaccessible_hubs.iter().any(|other| other.eq_ignore_ascii_case(hub)) {
        return Err(Failure::hub_unauthorized(behaviour.hub_refusal_message));
    }
    Ok(())
}
