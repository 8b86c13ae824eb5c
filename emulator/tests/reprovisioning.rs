//! Devices that come again: the three policies, the twin, the substatus.

mod support;

use azure_dps_emulator::{Emulator, IndividualEnrollment, ReprovisionPolicy, SymmetricKey};
use serde_json::{Value, json};
use support::*;

/// A service with this policy, whose webhook sends the device to these hubs in turn, each time with
/// a twin that names the turn.
fn moving(policy: ReprovisionPolicy, hubs: &[&str]) -> Emulator {
    let emulator = changed(|config| {
        let group = &mut config.enrollment_groups[0];
        group.reprovision_policy = policy;
        group.initial_twin.tags.insert("turn".into(), "enrollment".into());
    });
    for (turn, hub) in hubs.iter().enumerate() {
        let twin = json!({ "tags": { "turn": turn } });
        let answer = json!({ "iotHubHostName": hub, "initialTwin": twin, "payload": { "turn": turn } });
        emulator.contoso().unwrap().respond(200, answer.to_string());
    }
    emulator
}

/// The hub, the substatus, and the turn whose twin the device has, after another registration.
fn turn(emulator: &Emulator) -> (String, String, Value) {
    let state = Device::of_group(emulator, TOASTER).assigned();
    let text = |name: &str| state[name].as_str().unwrap().to_owned();
    let twin = emulator.device(TOASTER).unwrap().twin;
    (text("assignedHub"), text("substatus"), twin.tags["turn"].clone())
}

fn expected(hub: &str, substatus: &str, twin: impl Into<Value>) -> (String, String, Value) {
    (hub.into(), substatus.into(), twin.into())
}

/// *Reprovision and migrate data*: "device data was migrated from the previously assigned hub";
/// "In all other cases, DPS ignores the initialTwin property."
#[test]
fn migrate_takes_the_twin_along() {
    let emulator = moving(ReprovisionPolicy::Migrate, &[TOASTERS_HUB, HEATPUMPS_HUB]);
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "initialAssignment", 0));
    assert_eq!(turn(&emulator), expected(HEATPUMPS_HUB, "deviceDataMigrated", 0));
}

/// *Reprovision and reset to initial config*: "DPS only uses initialTwin … if the current IoT hub is
/// changed and the reprovisioning policy set on the enrollment entry is …".
#[test]
fn reset_starts_anew_at_another_hub() {
    let emulator = moving(ReprovisionPolicy::Reset, &[TOASTERS_HUB, HEATPUMPS_HUB, HEATPUMPS_HUB]);
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "initialAssignment", 0));
    assert_eq!(turn(&emulator), expected(HEATPUMPS_HUB, "deviceDataReset", 1));
    // The same hub again: the twin stays.
    assert_eq!(turn(&emulator), expected(HEATPUMPS_HUB, "reprovisionedToInitialAssignment", 1));
    // "exactly as it would during initial assignment": without an initialTwin, the enrollment's.
    emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": TOASTERS_HUB }).to_string());
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "deviceDataReset", "enrollment"));
}

/// "reprovisionedToInitialAssignment: Device has been re-provisioned to a previously assigned IoT
/// hub", which leaves the twin alone.
#[test]
fn the_same_hub_again_changes_nothing() {
    let emulator = moving(ReprovisionPolicy::Migrate, &[TOASTERS_HUB, TOASTERS_HUB]);
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "initialAssignment", 0));
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "reprovisionedToInitialAssignment", 0));
    assert_eq!(emulator.device(TOASTER).unwrap().registrations, 2);
}

/// "if the device is reprovisioning and the *Never reprovision* policy is set on the enrollment
/// entry, [linkedHubs] will contain only the IoT hub that the device is currently assigned to": the
/// webhook is called all the same, and its payload returned.
#[test]
fn never_offers_only_the_current_hub() {
    let emulator = moving(ReprovisionPolicy::Never, &[TOASTERS_HUB, TOASTERS_HUB, HEATPUMPS_HUB]);
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "initialAssignment", 0));
    let device = Device::of_group(&emulator, TOASTER);
    let state = device.assigned();
    assert_eq!(state["substatus"], "reprovisionedToInitialAssignment");
    assert_eq!(state["payload"], json!({ "turn": 1 }));
    let calls = emulator.webhook_calls();
    assert_eq!(calls[0].request["linkedHubs"], json!([TOASTERS_HUB, HEATPUMPS_HUB]));
    assert_eq!(calls[1].request["linkedHubs"], json!([TOASTERS_HUB]));
    // Another hub than the one offered is one that is not linked; the device stays where it is.
    assert_eq!(device.failed().0, 400_207);
    assert_eq!(emulator.device(TOASTER).unwrap().assigned_hub, TOASTERS_HUB);
}

/// "DPS ignores the initialTwin for all other reprovisioning settings in the enrollment entry."
#[test]
fn never_leaves_the_twin_alone() {
    let emulator = moving(ReprovisionPolicy::Never, &[TOASTERS_HUB, TOASTERS_HUB]);
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "initialAssignment", 0));
    assert_eq!(turn(&emulator), expected(TOASTERS_HUB, "reprovisionedToInitialAssignment", 0));
}

/// "If the payload property is set in the response, DPS will always return it to the device
/// regardless of whether the request is for initial assignment or reprovisioning."
#[test]
fn the_payload_is_returned_under_every_policy() {
    for (policy, second_hub) in [
        (ReprovisionPolicy::Migrate, HEATPUMPS_HUB),
        (ReprovisionPolicy::Reset, HEATPUMPS_HUB),
        (ReprovisionPolicy::Never, TOASTERS_HUB),
    ] {
        let emulator = moving(policy, &[TOASTERS_HUB, second_hub]);
        for (turn, hub) in [TOASTERS_HUB, second_hub].into_iter().enumerate() {
            let state = Device::of_group(&emulator, TOASTER).assigned();
            assert_eq!((&state["assignedHub"], &state["payload"]), (&json!(hub), &json!({ "turn": turn })));
        }
    }
}

/// "examining the reprovisionPolicy property of either the AllocationRequest.individualEnrollment
/// or the …"; "currentDeviceId: The device ID from the device's previous assignment", which need
/// not be the registration ID.
#[test]
fn an_individual_enrollments_request_tells_policy_and_device_id() {
    let emulator = changed(|config| {
        let mut allocation = config.enrollment_groups[0].allocation.clone();
        allocation.api_version = "2019-03-31".into();
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.into(),
            device_id: Some("toaster-1".into()),
            primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
            allocation,
            reprovision_policy: ReprovisionPolicy::Never,
            ..IndividualEnrollment::default()
        });
    });
    let device = Device::new(&emulator, TOASTER, OTHER_KEY);
    device.assigned();
    device.assigned();
    let request = &emulator.webhook_calls()[1].request;
    let entry = &request["individualEnrollment"];
    assert_eq!(entry["attestation"], json!({ "type": "symmetricKey" }));
    assert_eq!(entry["reprovisionPolicy"], json!({ "updateHubAssignment": false, "migrateDeviceData": false }));
    assert_eq!(entry["customAllocationDefinition"]["apiVersion"], "2019-03-31");
    assert_eq!(
        request["deviceRuntimeContext"],
        json!({
            "registrationId": TOASTER,
            "currentIotHubHostName": TOASTERS_HUB,
            "currentDeviceId": "toaster-1",
            "symmetricKey": {}
        })
    );
}

/// "You can determine which of the reprovisioning policies is currently set on the enrollment
/// entry, by examining the reprovisionPolicy property".
#[test]
fn the_request_tells_the_policy() {
    for (policy, update, migrate) in [
        (ReprovisionPolicy::Migrate, true, true),
        (ReprovisionPolicy::Reset, true, false),
        (ReprovisionPolicy::Never, false, false),
    ] {
        let emulator = moving(policy, &[TOASTERS_HUB]);
        turn(&emulator);
        assert_eq!(
            emulator.webhook_calls()[0].request["enrollmentGroup"]["reprovisionPolicy"],
            json!({ "updateHubAssignment": update, "migrateDeviceData": migrate })
        );
    }
}

/// "deviceRuntimeContext will contain a currentIotHubHostName property, which will be set to the
/// hostname of the IoT hub where the device is currently assigned", and currentDeviceId.
#[test]
fn the_request_tells_where_the_device_is() {
    let emulator = moving(ReprovisionPolicy::Migrate, &[TOASTERS_HUB, HEATPUMPS_HUB]);
    for (hub, id) in
        [(Value::Null, Value::Null), (json!(TOASTERS_HUB), json!(TOASTER)), (json!(HEATPUMPS_HUB), json!(TOASTER))]
    {
        Device::of_group(&emulator, TOASTER).assigned();
        let request = emulator.webhook_calls().pop().unwrap().request;
        let context = &request["deviceRuntimeContext"];
        assert_eq!((&context["currentIotHubHostName"], &context["currentDeviceId"]), (&hub, &id));
    }
}

/// A failed attempt to come again leaves the device where it is, and is what a look-up tells.
#[test]
fn a_failure_leaves_the_assignment() {
    let emulator = moving(ReprovisionPolicy::Migrate, &[TOASTERS_HUB]);
    turn(&emulator);
    emulator.contoso().unwrap().respond(403, "");
    let device = Device::of_group(&emulator, TOASTER);
    device.failed();
    assert_eq!(device.lookup().1["errorCode"], 400_207);
    assert_eq!(emulator.device(TOASTER).unwrap().assigned_hub, TOASTERS_HUB);
    let state = device.assigned();
    assert_eq!(state["substatus"], "reprovisionedToInitialAssignment");
}
