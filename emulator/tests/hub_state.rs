//! State that DPS and the hubs share: the twin and the credentials of a device, and how operators and reprovisioning
//! change them.

mod support;

use azure_dps_emulator::{
    CaCertificate, CaReferences, Config, Emulator, EnrollmentGroup, HubError, HubStatus, IndividualEnrollment,
    ReprovisionPolicy, SymmetricKey, X509Attestation,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair};
use reqwest::{Method, header::CONTENT_TYPE};
use rumqttc::QoS;
use serde_json::{Value, json};
use support::{
    hub::{DESIRED, HubDevice, TWIN_ANSWERS},
    service::ServiceClient,
    x509::{Ca, Identity, x509},
    *,
};

fn start(change: impl FnOnce(&mut Config)) -> Emulator {
    let mut config = Config::contoso();
    // Allow both keys, without the 30 minutes between them.
    config.behaviour.other_key_blocked_for = 0.0;
    change(&mut config);
    builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap()
}

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_base64(text).unwrap()
}

/// Sets the next answers of the webhook: a hub, and an initial twin with the number of the answer.
fn answers(emulator: &Emulator, hubs: &[&str]) {
    for (turn, hub) in hubs.iter().enumerate() {
        let twin = json!({ "tags": { "turn": turn }, "properties": { "desired": { "turn": turn } } });
        let answer = json!({ "iotHubHostName": hub, "initialTwin": twin });
        emulator.contoso().unwrap().respond(200, answer.to_string());
    }
}

/// Returns a device of the group at this hub, even if the hub does not have it.
fn at(hub: &str, registration_id: &str) -> HubDevice {
    HubDevice::new(hub, registration_id, &derive(GROUP_KEY, registration_id))
}

/// Returns the log's reason for the last CONNECT, which was rejected.
fn refusal(emulator: &Emulator, device: &HubDevice) -> String {
    assert_eq!(device.try_connect(emulator, device.packet()), Some(5));
    emulator.requests().pop().unwrap().outcome
}

fn accepts(emulator: &Emulator, device: &HubDevice) -> bool {
    match device.try_connect(emulator, device.packet()) {
        Some(0) => true,
        Some(5) => false,
        other => panic!("{other:?}"),
    }
}

/// "Reprovision and migrate data" moves the twin with its versions, "reset to initial config" creates a new twin, and
/// "never" keeps the hub. The connection at the old hub ends, and the old hub rejects the device.
#[test]
fn the_reprovisioning_policies_act_on_the_twin() {
    let initial = |turn: u32| json!({ "desired": { "turn": turn, "$version": 1 }, "reported": { "$version": 1 } });
    let lived = json!({
        "desired": { "turn": 0, "state": "hot", "$version": 2 },
        "reported": { "fan": 7, "$version": 3 },
    });
    for (policy, hub, substatus, expected, tag) in [
        (ReprovisionPolicy::Migrate, HEATPUMPS_HUB, "deviceDataMigrated", &lived, 0),
        (ReprovisionPolicy::Reset, HEATPUMPS_HUB, "deviceDataReset", &initial(1), 1),
        (ReprovisionPolicy::Migrate, TOASTERS_HUB, "reprovisionedToInitialAssignment", &lived, 0),
        (ReprovisionPolicy::Reset, TOASTERS_HUB, "reprovisionedToInitialAssignment", &lived, 0),
        (ReprovisionPolicy::Never, TOASTERS_HUB, "reprovisionedToInitialAssignment", &lived, 0),
    ] {
        let emulator = start(|config| config.enrollment_groups[0].reprovision_policy = policy);
        answers(&emulator, &[TOASTERS_HUB, hub]);
        let device = Device::of_group(&emulator, TOASTER);
        device.assigned();
        let mut link = at(TOASTERS_HUB, TOASTER).with_twin(&emulator);
        assert_eq!(link.twin(), initial(0));
        assert_eq!((link.report(&json!({ "fan": 6 })), link.report(&json!({ "fan": 7 }))), (2, 3));
        emulator.patch_twin(TOASTER, json!({ "desired": { "state": "hot" } })).unwrap();
        let (topic, patch) = link.message();
        assert_eq!(
            (&*topic, patch),
            ("$iothub/twin/PATCH/properties/desired/?$version=2", json!({ "state": "hot", "$version": 2 }))
        );

        assert_eq!(device.assigned()["substatus"], substatus, "{policy:?}");
        if hub == TOASTERS_HUB {
            assert!(link.pings(), "{policy:?}");
        } else {
            assert!(link.receive().is_none(), "{policy:?}");
            let why = refusal(&emulator, &at(TOASTERS_HUB, TOASTER));
            assert!(why.contains(&format!("DPS assigned it to {HEATPUMPS_HUB}")), "{why}");
        }
        assert_eq!(at(hub, TOASTER).with_twin(&emulator).twin(), *expected, "{policy:?} {hub}");
        assert_eq!(emulator.device(TOASTER).unwrap().twin.tags["turn"], tag, "{policy:?} {hub}");
    }
}

/// The hub accepts both keys, whichever key the device registered with. These are the keys of an individual
/// enrollment, or the keys derived from the group's keys, with the registration ID in the spelling that the device
/// used for its key.
#[test]
fn a_device_has_both_keys_at_its_hub() {
    let individual = IndividualEnrollment {
        registration_id: "lock".to_owned(),
        device_id: Some("the-lock".to_owned()),
        primary_key: key(GROUP_KEY),
        secondary_key: Some(key(OTHER_KEY)),
        ..IndividualEnrollment::default()
    };
    let emulator = start(|config| {
        config.enrollment_groups[0].secondary_key = Some(key(OTHER_KEY));
        config.individual_enrollments.push(individual);
    });
    let mixed = "Kitchen-contoso-tstrsd-007";
    let lower = mixed.to_lowercase();
    for (registration_id, device_id, keys, others) in [
        (TOASTER, TOASTER, [GROUP_KEY, OTHER_KEY].map(|key| derive(key, TOASTER)), derive(GROUP_KEY, "other")),
        (mixed, mixed, [GROUP_KEY, OTHER_KEY].map(|key| derive(key, &lower)), derive(GROUP_KEY, mixed)),
        ("lock", "the-lock", [GROUP_KEY, OTHER_KEY].map(str::to_owned), derive(GROUP_KEY, "lock")),
    ] {
        for with in &keys {
            let state = Device::new(&emulator, registration_id, with).assigned();
            let hub = state["assignedHub"].as_str().unwrap();
            assert_eq!(state["deviceId"], device_id);
            for key in &keys {
                assert!(accepts(&emulator, &HubDevice::new(hub, device_id, key)), "{registration_id}");
            }
            for key in [&others, GROUP_KEY].into_iter().filter(|other| keys.iter().all(|key| key != other)) {
                let why = refusal(&emulator, &HubDevice::new(hub, device_id, key));
                assert!(why.contains("signed with neither key of the device"), "{registration_id}: {why}");
            }
        }
    }
    // The hub uses the device ID, which is case-sensitive.
    for (id, why) in [("lock", "the ID of this device there is \"the-lock\""), ("The-Lock", "has no device")] {
        let hub = emulator.device("lock").unwrap().assigned_hub;
        let refused = refusal(&emulator, &HubDevice::new(&hub, id, GROUP_KEY));
        assert!(refused.contains(why), "{refused}");
    }
}

/// The hub has the keys of the last registration: it accepts a new key of the enrollment after the device registered
/// with it. An open connection does not end.
#[test]
fn a_new_key_is_valid_from_the_next_registration() {
    let emulator = start(|_| ());
    Device::of_group(&emulator, TOASTER).assigned();
    let [old, new] = [GROUP_KEY, OTHER_KEY].map(|key| HubDevice::new(TOASTERS_HUB, TOASTER, &derive(key, TOASTER)));
    emulator.update(|config| config.enrollment_groups[0].primary_key = key(OTHER_KEY));
    assert!(refusal(&emulator, &new).contains("after the device registers with DPS again"));
    let mut link = old.connected(&emulator);
    Device::new(&emulator, TOASTER, &new.key).assigned();
    assert!(link.pings());
    assert!(!accepts(&emulator, &old) && accepts(&emulator, &new));
}

/// An operator can disable and remove a device at its hub, without DPS. Disabling or deleting the enrollment does not
/// affect the hub.
#[test]
fn the_operator_disables_and_removes_devices_at_their_hub() {
    let emulator = start(|_| ());
    answers(&emulator, &[TOASTERS_HUB, TOASTERS_HUB, HEATPUMPS_HUB, HEATPUMPS_HUB, TOASTERS_HUB]);
    let device = Device::of_group(&emulator, TOASTER);
    let (toasters, pumps) = (at(TOASTERS_HUB, TOASTER), at(HEATPUMPS_HUB, TOASTER));
    let status = || emulator.device(TOASTER).unwrap().hub_status;
    assert_eq!(emulator.set_hub_enabled(TOASTER, false), Err(HubError::NoDevice));
    device.assigned();

    let mut link = toasters.with_twin(&emulator);
    assert_eq!(link.report(&json!({ "fan": 7 })), 2);
    emulator.set_hub_enabled(&TOASTER.to_uppercase(), false).unwrap();
    assert!(link.receive().is_none());
    assert!(refusal(&emulator, &toasters).contains("is disabled at"));
    // DPS assigns the device, but it stays disabled at the hub.
    assert_eq!(device.assigned()["substatus"], "reprovisionedToInitialAssignment");
    assert_eq!((status(), accepts(&emulator, &toasters)), (HubStatus::Disabled, false));
    // The twin can still be changed.
    emulator.patch_twin(TOASTER, json!({ "desired": { "state": "off" } })).unwrap();
    emulator.set_hub_enabled(TOASTER, true).unwrap();
    let twin = toasters.with_twin(&emulator).twin();
    assert_eq!((&twin["desired"]["state"], &twin["reported"]["fan"]), (&json!("off"), &json!(7)));

    // Another hub creates the device enabled.
    emulator.set_hub_enabled(TOASTER, false).unwrap();
    assert_eq!(device.assigned()["substatus"], "deviceDataMigrated");
    assert_eq!((status(), accepts(&emulator, &pumps)), (HubStatus::Enabled, true));

    // After the removal DPS still has the assignment. It creates the device again with the initial twin, at this hub
    // or at another.
    for (hub, substatus, turn) in [(&pumps, "reprovisionedToInitialAssignment", 3), (&toasters, "deviceDataReset", 4)] {
        let mut link = pumps.connected(&emulator);
        emulator.remove_from_hub(TOASTER).unwrap();
        assert!(link.receive().is_none());
        assert!(refusal(&emulator, &pumps).contains("register with DPS again"));
        for error in [
            emulator.set_hub_enabled(TOASTER, true),
            emulator.remove_from_hub(TOASTER),
            emulator.patch_twin(TOASTER, json!({ "desired": {} })),
        ] {
            assert_eq!(error, Err(HubError::NotAtHub));
        }
        assert_eq!(device.lookup().1["assignedHub"], HEATPUMPS_HUB);
        assert_eq!(device.assigned()["substatus"], substatus);
        let initial = json!({ "desired": { "turn": turn, "$version": 1 }, "reported": { "$version": 1 } });
        assert_eq!(hub.with_twin(&emulator).twin(), initial, "{substatus}");
    }

    emulator.update(|config| config.enrollment_groups[0].enabled = false);
    assert!(accepts(&emulator, &toasters));
    emulator.update(|config| config.enrollment_groups.clear());
    assert!(accepts(&emulator, &toasters));
}

/// "Deleting the registration": the hub keeps the device, and the next registration is an initial assignment.
#[test]
fn the_hub_keeps_a_device_whose_registration_is_deleted() {
    let emulator = start(|_| ());
    let toaster = HubDevice::toaster(&emulator);
    assert_eq!(toaster.with_twin(&emulator).report(&json!({ "fan": 7 })), 2);
    let service = ServiceClient::new(&emulator);
    let deleted = service.request(Method::DELETE, &format!("/registrations/{TOASTER}")).send().unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(toaster.with_twin(&emulator).twin()["reported"]["fan"], 7);
    assert_eq!(Device::of_group(&emulator, TOASTER).assigned()["substatus"], "initialAssignment");
    assert_eq!(toaster.with_twin(&emulator).twin()["reported"], json!({ "$version": 1 }));
}

/// A device ID is unique at a hub: the last registration has it.
#[test]
fn the_last_registration_gets_the_device_id() {
    let emulator = start(|config| {
        for (id, primary) in [("first", GROUP_KEY), ("second", OTHER_KEY)] {
            config.individual_enrollments.push(IndividualEnrollment {
                registration_id: id.to_owned(),
                device_id: Some("shared".to_owned()),
                primary_key: key(primary),
                ..IndividualEnrollment::default()
            });
        }
    });
    let registered = |id: &str, key: &str| {
        let state = Device::new(&emulator, id, key).assigned();
        HubDevice::new(TOASTERS_HUB, state["deviceId"].as_str().unwrap(), key)
    };
    emulator.update(|config| {
        for individual in &mut config.individual_enrollments {
            individual.allocation.iot_hubs = vec![TOASTERS_HUB.to_owned()];
        }
    });
    let first = registered("first", GROUP_KEY);
    let mut link = first.with_twin(&emulator);
    assert_eq!(link.report(&json!({ "by": "first" })), 2);
    let second = registered("second", OTHER_KEY);
    assert!(link.receive().is_none());
    assert!(!accepts(&emulator, &first));
    assert_eq!(second.with_twin(&emulator).twin()["reported"], json!({ "$version": 1 }));
    assert_eq!(emulator.device("first").unwrap().hub_status, HubStatus::Removed);
    registered("first", GROUP_KEY);
    assert!(accepts(&emulator, &first) && !accepts(&emulator, &second));
}

/// After a restart, the twin with its versions, the session, the credentials and the operator's changes are still
/// there.
#[test]
fn a_restart_keeps_what_the_hub_knows() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    let start = || {
        let builder = builder(Config::contoso()).data(&folder);
        builder.http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap()
    };
    let emulator = start();
    let (toaster, pump) = (HubDevice::toaster(&emulator), HubDevice::heat_pump(&emulator));
    let (mut link, was_present) = toaster.connected_on(&emulator, "mqtt", false);
    assert!(!was_present);
    link.subscribe(&[(TWIN_ANSWERS, QoS::AtMostOnce), (DESIRED, QoS::AtLeastOnce)]);
    assert_eq!((link.report(&json!({ "fan": 6 })), link.report(&json!({ "fan": 7 }))), (2, 3));
    emulator.patch_twin(TOASTER, json!({ "desired": { "state": null } })).unwrap();
    assert_eq!(link.message().1, json!({ "state": null, "$version": 2 }));
    let before = link.twin();
    emulator.set_hub_enabled(HEAT_PUMP, false).unwrap();
    let record = emulator.device(TOASTER).unwrap();
    emulator.stop();

    let emulator = start();
    assert_eq!(json!(emulator.device(TOASTER).unwrap()), json!(record));
    let (mut link, was_present) = toaster.connected_on(&emulator, "mqtt", false);
    assert!(was_present);
    // The device does not subscribe again.
    let (_, after) = link.ask("$iothub/twin/GET/?$rid=1", "");
    assert_eq!((&after["desired"]["$version"], &after["reported"]), (&json!(2), &json!({ "fan": 7, "$version": 3 })));
    assert_eq!(after["desired"], before["desired"]);
    emulator.patch_twin(TOASTER, json!({ "desired": { "state": "on" } })).unwrap();
    assert_eq!(link.message().1, json!({ "state": "on", "$version": 3 }));
    assert!(refusal(&emulator, &pump).contains("is disabled at"));
    emulator.remove_from_hub(HEAT_PUMP).unwrap();
    emulator.stop();

    let emulator = start();
    assert!(refusal(&emulator, &pump).contains("was removed from"));
    Device::of_group(&emulator, HEAT_PUMP).assigned();
    assert!(accepts(&emulator, &pump));
}

/// With X.509, the hub accepts the certificate that DPS accepted, and a certificate that DPS issued. It accepts a new
/// certificate of the enrollment after the next registration.
#[test]
fn the_hub_accepts_the_certificates_that_dps_accepts() {
    let (root, other_root) = (Ca::root("factory"), Ca::root("other"));
    let [own, rolled] = ["own", "own"].map(Identity::self_signed);
    let mut config = Config::contoso();
    config.enrollment_groups[0].certificate_policy = Some("short-lived".to_owned());
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: "own".to_owned(),
        device_id: Some("own at the hub".to_owned()),
        x509: Some(X509Attestation { primary: own.certificate(), secondary: None }),
        ..IndividualEnrollment::default()
    });
    let by_name = Ca::root("by name");
    config.ca_certificates.push(CaCertificate { name: "by-name".to_owned(), certificate: by_name.certificate() });
    for (id, x509, ca_references) in [
        ("factory", root.attestation(), None),
        ("by-name", None, Some(CaReferences { primary: "by-name".to_owned(), secondary: None })),
    ] {
        let enrollment_group_id = id.to_owned();
        config.enrollment_groups.push(EnrollmentGroup {
            enrollment_group_id,
            x509,
            ca_references,
            ..EnrollmentGroup::default()
        });
    }
    let emulator = builder(config)
        .http("127.0.0.1:0")
        .https("127.0.0.1:0")
        .mqtt("127.0.0.1:0")
        .mqtts("127.0.0.1:0")
        .start()
        .unwrap();
    let code = |hub: &str, device_id: &str, identity: Option<&Identity>| {
        let device = HubDevice::new(hub, device_id, OTHER_KEY);
        let mut connect = device.packet();
        connect.set_login(device.user_name(), "");
        let (code, _) = device.open_as(&emulator, "mqtts", identity).connect(connect).unwrap();
        (code, emulator.requests().pop().unwrap().outcome)
    };
    let line = root.intermediate("line 1");
    for (id, identity, wrong) in [
        ("own", &own, &rolled),
        ("device-7", &root.device("device-7"), &other_root.device("device-7")),
        ("device-8", &by_name.device("device-8"), &root.device("device-9")),
        // With an intermediate, and with a common name in another case than the device ID.
        ("Device-9", &line.device("device-9").with(&line), &line.device("device-9")),
    ] {
        let state = Device::over_tls(&emulator, id, Some(identity)).assigned();
        let (hub, device_id) = (state["assignedHub"].as_str().unwrap(), state["deviceId"].as_str().unwrap());
        assert_eq!(code(hub, device_id, Some(identity)).0, 0, "{id}");
        let (refused, why) = code(hub, device_id, Some(wrong));
        assert!(refused == 5 && why.contains("certificate"), "{id}: {why}");
        let (refused, why) = code(hub, device_id, None);
        assert!(refused == 5 && why.contains("no client certificate"), "{id}: {why}");
        // A token is rejected.
        let device = HubDevice::new(hub, device_id, GROUP_KEY);
        assert!(refusal(&emulator, &device).contains("its enrollment has X.509"), "{id}");
    }

    // A new certificate in the enrollment.
    emulator.update(|config| {
        config.individual_enrollments[0].x509 = x509(rolled.certificate());
    });
    let hub = emulator.device("own").unwrap().assigned_hub;
    assert_eq!((code(&hub, "own at the hub", Some(&rolled)).0, code(&hub, "own at the hub", Some(&own)).0), (5, 0));
    Device::over_tls(&emulator, "own", Some(&rolled)).assigned();
    assert_eq!((code(&hub, "own at the hub", Some(&rolled)).0, code(&hub, "own at the hub", Some(&own)).0), (0, 5));

    // An issued certificate is accepted besides the keys of the group.
    let issued = issued(&emulator, TOASTER);
    assert_eq!(code(TOASTERS_HUB, TOASTER, Some(&issued)).0, 0);
    assert!(accepts(&emulator, &at(TOASTERS_HUB, TOASTER)));
    Device::of_group(&emulator, HEAT_PUMP).assigned();
    let (refused, why) = code(HEATPUMPS_HUB, HEAT_PUMP, Some(&issued));
    assert!(refused == 5 && why.contains("the certificate's common name is"), "{why}");
}

/// Returns the certificate that DPS issues to a device of the group.
fn issued(emulator: &Emulator, id: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, id);
    let device = Device::of_group(emulator, id);
    let mut body = device.registration();
    body["csr"] = json!(BASE64_STANDARD.encode(params.serialize_request(&key).unwrap().der()));
    let path = format!("{}/register?api-version=2025-07-01-preview", device.path());
    let put = device.request(Method::PUT, &path).header(CONTENT_TYPE, "application/json").body(body.to_string());
    let (_, begun) = answer(put.send().unwrap());
    let state = device.poll(begun["operationId"].as_str().unwrap())["registrationState"].clone();
    let chain = state["issuedCertificateChain"].as_array().unwrap().iter();
    let der = |element: &Value| BASE64_STANDARD.decode(element.as_str().unwrap()).unwrap().into();
    Identity { chain: chain.map(der).collect(), key }
}
