//! The reasons why a registration fails.

use serde_json::json;

use crate::{clock::wall_time, config::behaviour::HubRefusalMessage, identity::ids};

/// The reason why a registration fails: `errorCode` and `errorMessage` of its registration state.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl Failure {
    /// CustomAllocationFailed: the webhook answered with a status that the service does not accept.
    pub(crate) fn status(status: u16) -> Self {
        Self { code: 400_207, message: format!("Custom allocation failed with status code: {status}") }
    }

    /// CustomAllocationFailed: there was no answer.
    pub(crate) fn unreachable(why: &str) -> Self {
        Self { code: 400_207, message: format!("Custom allocation failed: {why}") }
    }

    /// CustomAllocationFailed: the answer was 200, but not an `AllocationResponse`.
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

    /// The hub rejects DPS. The text has the forms of logs of 2020 and 2022: plain, or one or two levels deep in JSON
    /// with a tracking ID of the hub.
    pub(super) fn hub_unauthorized(form: HubRefusalMessage) -> Self {
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

    /// The device got a hub, but not the certificate that it requested. No source says what the service answers.
    pub(crate) fn not_issued(why: &str) -> Self {
        Self { code: 500_000, message: format!("Certificate issuance failed: {why}") }
    }

    /// The enrollment was deleted while the registration was running, or another enrollment applies to the device
    /// now. No source says what the service answers.
    pub(crate) fn enrollment_gone() -> Self {
        Self { code: 404_201, message: "Enrollment not found".to_owned() }
    }

    /// The emulator has no room for the twin. The real service has no such limit.
    pub(crate) fn too_many_twins() -> Self {
        Self { code: 429_001, message: "The emulator has no room for more twins".to_owned() }
    }

    /// The hub rejects the initial twin. No source says what the service answers. This is the code with which hubs
    /// reject arguments, just as `hub_unauthorized` has a code of the hub.
    pub(super) fn twin_refused(why: &str) -> Self {
        Self { code: 400_004, message: format!("The IoT hub rejected the initial twin: {why}") }
    }

    /// No hub is linked. Code and text are those of the real service.
    pub(crate) fn hub_not_found() -> Self {
        Self { code: 401_001, message: "IoTHub not found.".to_owned() }
    }
}
