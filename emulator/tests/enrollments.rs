//! Enrollments, and allocation without a webhook.

mod support;

use std::collections::HashMap;

use azure_dps_emulator::{
    Allocation, AllocationPolicy, Config, EnrollmentGroup, IndividualEnrollment, ReprovisionPolicy, SymmetricKey, Twin,
};
use serde_json::json;
use support::*;

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_base64(text).unwrap()
}

/// Starts a service with one group that allocates without a webhook.
fn without_webhook(policy: AllocationPolicy) -> Config {
    let mut config = Config::contoso();
    config.enrollment_groups[0].allocation.policy = policy;
    config
}

fn individual(change: impl FnOnce(&mut IndividualEnrollment)) -> Config {
    let mut individual = IndividualEnrollment {
        registration_id: TOASTER.into(),
        primary_key: key(OTHER_KEY),
        ..IndividualEnrollment::default()
    };
    change(&mut individual);
    let mut config = Config::contoso();
    config.individual_enrollments.push(individual);
    config
}

/// Static allocation: every device gets the hub of the enrollment.
#[test]
fn static_allocation_takes_the_enrollments_hub() {
    let mut config = without_webhook(AllocationPolicy::Static);
    config.enrollment_groups[0].allocation.iot_hubs = vec![HEATPUMPS_HUB.into()];
    let emulator = builder(config).start().unwrap();
    for id in [TOASTER, HEAT_PUMP, "somebody-else"] {
        let state = Device::of_group(&emulator, id).assigned();
        assert_eq!((&state["assignedHub"], &state["deviceId"]), (&json!(HEATPUMPS_HUB), &json!(id)));
    }
    assert!(emulator.webhook_calls().is_empty());
}

/// Hashed allocation: devices are spread over the hubs, and a device always gets the same hub. Lowest latency is the
/// same here: "If multiple linked IoT hubs would provide the same lowest latency, the provisioning service hashes
/// devices across those hubs".
#[test]
fn hashed_allocation_spreads_devices_and_remembers() {
    for policy in [AllocationPolicy::Hashed, AllocationPolicy::GeoLatency] {
        let emulator = builder(without_webhook(policy)).start().unwrap();
        let mut hubs = HashMap::new();
        for n in 0..40 {
            let device = Device::of_group(&emulator, &format!("device-{n}"));
            let hub = device.assigned()["assignedHub"].clone();
            assert_eq!(device.assigned()["assignedHub"], hub);
            *hubs.entry(hub.as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        assert_eq!(hubs.len(), 2);
        assert!(hubs.values().all(|&devices| devices >= 8), "{hubs:?}");
    }
}

/// `iot_hub_host_name` names one hub, as the first api-version did. `iot_hubs` takes precedence.
#[test]
fn a_single_hub_counts_if_no_list_of_hubs_is_given() {
    for (hubs, hub) in [(vec![], HEATPUMPS_HUB), (vec![TOASTERS_HUB.to_owned()], TOASTERS_HUB)] {
        let mut config = without_webhook(AllocationPolicy::Static);
        let allocation = &mut config.enrollment_groups[0].allocation;
        (allocation.iot_hubs, allocation.iot_hub_host_name) = (hubs, Some(HEATPUMPS_HUB.to_owned()));
        let emulator = builder(config).start().unwrap();
        assert_eq!(Device::of_group(&emulator, TOASTER).assigned()["assignedHub"], hub);
    }
}

/// Reprovisioning without a webhook: *never* keeps a device at its hub, and the other policies move it.
#[test]
fn reprovisioning_policies_apply_without_a_webhook() {
    for (policy, hub, substatus, tag) in [
        (ReprovisionPolicy::Never, TOASTERS_HUB, "reprovisionedToInitialAssignment", "old"),
        (ReprovisionPolicy::Migrate, HEATPUMPS_HUB, "deviceDataMigrated", "old"),
        (ReprovisionPolicy::Reset, HEATPUMPS_HUB, "deviceDataReset", "new"),
    ] {
        let mut config = without_webhook(AllocationPolicy::Static);
        config.enrollment_groups[0].reprovision_policy = policy;
        config.enrollment_groups[0].initial_twin.tags.insert("a".into(), "old".into());
        let emulator = builder(config).start().unwrap();
        let device = Device::of_group(&emulator, TOASTER);
        assert_eq!(device.assigned()["assignedHub"], TOASTERS_HUB);
        emulator.update(|config| {
            let group = &mut config.enrollment_groups[0];
            group.allocation.iot_hubs = vec![HEATPUMPS_HUB.into()];
            group.initial_twin.tags.insert("a".into(), "new".into());
        });
        let state = device.assigned();
        assert_eq!((&state["assignedHub"], &state["substatus"]), (&json!(hub), &json!(substatus)));
        assert_eq!(emulator.device(TOASTER).unwrap().twin.tags["a"], tag);
    }
}

/// Without a hub, the registration fails as in the real service: 401001 "IoTHub not found.".
#[test]
fn without_linked_hubs_a_registration_fails() {
    let emulator = builder(without_webhook(AllocationPolicy::Hashed)).start().unwrap();
    emulator.update(|config| {
        config.linked_hubs.clear();
        config.enrollment_groups[0].allocation.iot_hubs.clear();
    });
    assert_eq!(Device::of_group(&emulator, TOASTER).failed(), (401_001, "IoTHub not found.".into()));
}

/// An individual enrollment has its own key, which the device uses directly, its own device ID and its own initial
/// twin.
#[test]
fn an_individual_enrollment_has_its_own_key_id_and_twin() {
    let emulator = builder(individual(|individual| {
        individual.secondary_key = Some(key(GROUP_KEY));
        individual.device_id = Some("Toaster 1".into());
        individual.initial_twin = Twin {
            tags: json!({ "floor": 4 }).as_object().unwrap().clone(),
            desired: json!({ "state": "ready" }).as_object().unwrap().clone(),
        };
    }))
    .start()
    .unwrap();
    // Allow both keys, without the 30 minutes between them.
    emulator.update(|config| config.behaviour.other_key_blocked_for = 0.0);
    for key in [OTHER_KEY, GROUP_KEY] {
        let state = Device::new(&emulator, TOASTER, key).assigned();
        assert_eq!(state["deviceId"], "Toaster 1");
    }
    let record = emulator.device(TOASTER).unwrap();
    assert_eq!(record.enrollment_id, TOASTER);
    let twin = json!({
        "tags": { "floor": 4 },
        "desired": { "state": "ready" },
        "desiredVersion": 1,
        "reported": {},
        "reportedVersion": 1,
    });
    assert_eq!(json!(record.twin), twin);
}

/// An individual enrollment takes precedence over a group: the group's key is no longer accepted.
#[test]
fn an_individual_enrollment_takes_precedence() {
    let emulator = builder(individual(|_| {})).start().unwrap();
    let (status, body) = answer(Device::of_group(&emulator, TOASTER).put());
    assert_eq!((status, &body["errorCode"]), (401, &json!(401_002)));
    Device::new(&emulator, TOASTER, OTHER_KEY).assigned();
    // The other devices of the group are not affected.
    Device::of_group(&emulator, HEAT_PUMP).assigned();
}

/// A disabled individual enrollment answers its own key and the key of the group. Other keys are rejected.
#[test]
fn a_disabled_enrollment_still_needs_a_valid_key() {
    let emulator = builder(individual(|individual| individual.enabled = false)).start().unwrap();
    for key in [OTHER_KEY.to_owned(), derive(GROUP_KEY, TOASTER)] {
        assert_eq!(answer(Device::new(&emulator, TOASTER, &key).put()).1["status"], "disabled");
    }
    let stranger = derive(OTHER_KEY, TOASTER);
    assert_eq!(Device::new(&emulator, TOASTER, &stranger).put().status(), 401);
}

/// A disabled group answers as a disabled individual enrollment: an empty operation ID, and a state with a tag and
/// times but no device ID. A look-up has the same state.
#[test]
fn a_disabled_group_is_disabled() {
    let emulator = changed(|config| config.enrollment_groups[0].enabled = false);
    let device = Device::of_group(&emulator, TOASTER);
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["operationId"], &body["status"]), (200, &json!(""), &json!("disabled")));
    let state = &body["registrationState"];
    assert!(state["etag"].is_string() && state["lastUpdatedDateTimeUtc"].is_string());
    assert!(state.get("deviceId").is_none());
    assert_eq!(device.lookup(), (200, state.clone()));
    // After the group is enabled again, the device is assigned.
    emulator.update(|config| config.enrollment_groups[0].enabled = true);
    device.assigned();
}

/// "404201: enrollment not found" if no enrollment can be for the device. With a group, any ID may belong to the
/// group, so a wrong key is 401002.
#[test]
fn without_any_enrollment_it_is_404201() {
    let emulator = builder(Config { enrollment_groups: vec![], ..individual(|_| {}) }).start().unwrap();
    let device = Device::new(&emulator, HEAT_PUMP, OTHER_KEY);
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["errorCode"]), (404, &json!(404_201)));

    // "not-found (404201) has been seen in both forms"
    emulator.update(|config| config.behaviour.not_found_as_failed = true);
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["status"]), (200, &json!("failed")));
    assert_eq!(body["registrationState"]["errorCode"], 404_201);

    let emulator = contoso();
    let (status, body) = answer(Device::new(&emulator, HEAT_PUMP, OTHER_KEY).put());
    assert_eq!((status, &body["errorCode"]), (401, &json!(401_002)));
}

/// If there are several groups, the device belongs to the group whose key signed.
#[test]
fn the_signing_key_selects_the_group() {
    let emulator = changed(|config| {
        config.enrollment_groups.push(EnrollmentGroup {
            enrollment_group_id: "others".into(),
            primary_key: key(OTHER_KEY),
            allocation: Allocation {
                policy: AllocationPolicy::Static,
                iot_hubs: vec![HEATPUMPS_HUB.into()],
                ..Allocation::default()
            },
            ..EnrollmentGroup::default()
        });
    });
    Device::new(&emulator, TOASTER, &derive(OTHER_KEY, TOASTER)).assigned();
    let record = emulator.device(TOASTER).unwrap();
    assert_eq!((record.enrollment_id.as_str(), record.assigned_hub.as_str()), ("others", HEATPUMPS_HUB));
    Device::of_group(&emulator, TOASTER).assigned();
    assert_eq!(emulator.device(TOASTER).unwrap().enrollment_id, GROUP);
}

/// A changed enrollment gets a new etag and a new time. An unchanged enrollment does not.
#[test]
fn an_enrollments_etag_changes_with_it() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let mut stamps = vec![];
    for turn in 0..3 {
        if turn == 2 {
            emulator.update(|config| config.enrollment_groups[0].iot_edge = true);
        } else {
            emulator.update(|config| config.behaviour.retry_after = Some(1));
        }
        device.assigned();
        let group = emulator.webhook_calls().pop().unwrap().request["enrollmentGroup"].clone();
        stamps.push([
            group["etag"].clone(),
            group["lastUpdatedDateTimeUtc"].clone(),
            group["createdDateTimeUtc"].clone(),
        ]);
    }
    assert_eq!(stamps[0], stamps[1]);
    assert_ne!(stamps[1][0], stamps[2][0]);
    assert_ne!(stamps[1][1], stamps[2][1]);
    assert_eq!(stamps[1][2], stamps[2][2]);
}
