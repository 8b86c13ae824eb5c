//! The tutorial "Use custom allocation policies with Device Provisioning Service", from start to end: its devices,
//! its log, its troubleshooting table.

mod support;

use serde_json::{Value, json};
use support::*;

/// "Registration Information received from service: contoso-toasters-hub-1098.azure-devices.net,
/// deviceId: breakroom499-contoso-tstrsd-007", and the same for the heat pump.
#[test]
fn each_device_is_assigned_to_its_divisions_hub() {
    let emulator = contoso();
    for (registration_id, hub) in [(TOASTER, TOASTERS_HUB), (HEAT_PUMP, HEATPUMPS_HUB)] {
        let state = Device::of_group(&emulator, registration_id).with_payload(payload()).assigned();
        assert_eq!(state["assignedHub"], hub);
        assert_eq!(state["deviceId"], registration_id);
        assert_eq!(state["substatus"], "initialAssignment");
    }
}

/// "It also sets the initial state of the device twin based on whether the device is a toaster or a
/// heat pump."
#[test]
fn each_device_has_its_divisions_twin() {
    let emulator = contoso();
    for (registration_id, tags, desired) in [
        (TOASTER, json!({ "deviceType": "toaster" }), json!({ "state": "ready", "darknessSetting": "medium" })),
        (HEAT_PUMP, json!({ "deviceType": "heatpump" }), json!({ "state": "on", "temperatureSetting": "65" })),
    ] {
        Device::of_group(&emulator, registration_id).assigned();
        let twin = emulator.device(registration_id).unwrap().twin;
        assert_eq!((json!(twin.tags), json!(twin.desired)), (tags, desired));
        assert_eq!((twin.desired_version, twin.reported.len(), twin.reported_version), (1, 0, 1));
    }
}

/// "Provisioning Status: PROV_DEVICE_REG_STATUS_ASSIGNING" is printed twice: for the register answer, and for a poll.
#[test]
fn the_device_sees_assigning_twice() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    let (status, body) = answer(device.get(&operation_id));
    assert_eq!(status, 202);
    assert_eq!(
        body,
        json!({ "operationId": operation_id, "status": "assigning",
                "registrationState": { "registrationId": TOASTER, "status": "assigning" } })
    );
    assert_eq!(device.poll(&operation_id)["status"], "assigned");
}

/// "Also notice the payload property that contains the custom JSON content": the request in the log of the tutorial's
/// function, member by member, except for etag, times and URL.
#[test]
fn the_allocation_request_is_the_one_in_the_tutorials_log() {
    let logged = r#"{"enrollmentGroup":{"enrollmentGroupId":"contoso-custom-allocated-devices","attestation":{"type":"symmetricKey"},"capabilities":{"iotEdge":false},"etag":"\"0000f176-0000-0700-0000-62eaad1e0000\"","provisioningStatus":"enabled","reprovisionPolicy":{"updateHubAssignment":true,"migrateDeviceData":true},"createdDateTimeUtc":"2022-08-03T17:15:10.8464255Z","lastUpdatedDateTimeUtc":"2022-08-03T17:15:10.8464255Z","allocationPolicy":"custom","iotHubs":["contoso-toasters-hub-1098.azure-devices.net","contoso-heatpumps-hub-1098.azure-devices.net"],"customAllocationDefinition":{"webhookUrl":"https://contoso-function-app-1098.azurewebsites.net/api/HttpTrigger1?****","apiVersion":"2021-10-01"}},"deviceRuntimeContext":{"registrationId":"breakroom499-contoso-tstrsd-007","currentIotHubHostName":"contoso-toasters-hub-1098.azure-devices.net","currentDeviceId":"breakroom499-contoso-tstrsd-007","symmetricKey":{},"payload":{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}},"linkedHubs":["contoso-toasters-hub-1098.azure-devices.net","contoso-heatpumps-hub-1098.azure-devices.net"]}"#;
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER).with_payload(payload());
    device.assigned();
    device.assigned();
    let calls = emulator.webhook_calls();

    // Use the log's etag, times and URL, after checking that ours have the same form.
    let mut sent: Value = serde_json::from_str(&calls[1].request_body).unwrap();
    let mut like_logged: Value = serde_json::from_str(logged).unwrap();
    let group = &mut sent["enrollmentGroup"];
    // Trailing zeros of a time are trimmed.
    for (name, lengths) in [("etag", 38..=38), ("createdDateTimeUtc", 20..=28), ("lastUpdatedDateTimeUtc", 20..=28)] {
        assert!(lengths.contains(&group[name].as_str().unwrap().len()), "{name}");
        group[name] = like_logged["enrollmentGroup"][name].clone();
    }
    let url = &mut group["customAllocationDefinition"]["webhookUrl"];
    assert!(url.as_str().unwrap().ends_with("/api/HttpTrigger1?****"));
    *url = like_logged["enrollmentGroup"]["customAllocationDefinition"]["webhookUrl"].clone();
    assert_eq!(sent.to_string(), logged, "the repeat form, in the log's order");

    // "Not present if this is an initial assignment."
    let context = like_logged["deviceRuntimeContext"].as_object_mut().unwrap();
    context.shift_remove("currentIotHubHostName");
    context.shift_remove("currentDeviceId");
    assert_eq!(
        calls[0].request["deviceRuntimeContext"].to_string(),
        like_logged["deviceRuntimeContext"].to_string(),
        "the first-time form"
    );
    assert_eq!(calls[0].request["linkedHubs"], like_logged["linkedHubs"]);
}
