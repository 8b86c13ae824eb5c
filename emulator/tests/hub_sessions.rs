//! Sessions of devices at their hubs: their subscriptions, their notifications, and their end.

mod support;

use std::time::{Duration, Instant};

use azure_dps_emulator::{
    AllocationPolicy, Behaviour, Config, Emulator, IndividualEnrollment, Operation, ReprovisionPolicy, Script,
    SymmetricKey, X509Attestation,
};
use rumqttc::{
    QoS,
    mqttbytes::v4::{Connect, Packet},
};
use serde_json::{Value, json};
use support::{
    control::Control,
    hub::*,
    x509::{Ca, Identity},
    *,
};

const BOTH: [(&str, QoS); 2] = [(TWIN_ANSWERS, QoS::AtLeastOnce), (DESIRED, QoS::AtMostOnce)];

fn with(change: impl FnOnce(&mut Config)) -> Emulator {
    let mut config = Config::contoso();
    change(&mut config);
    builder(config).http("127.0.0.1:0").https("127.0.0.1:0").mqtt("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap()
}

fn plain() -> Emulator {
    with(|_| ())
}

fn patch(emulator: &Emulator, desired: Value) {
    emulator.patch_twin(TOASTER, json!({ "desired": desired })).unwrap();
}

/// Returns why the hub closed a connection, after the client has seen its end.
fn why_dropped(emulator: &Emulator, client: &mut HubClient) -> String {
    assert_eq!(client.receive(), None);
    let record = eventually(|| emulator.requests().into_iter().rfind(|record| record.method == "-"));
    assert_eq!((record.registration_id.as_deref(), record.hub.is_some()), (Some(TOASTER), true));
    record.outcome.strip_prefix("the connection was dropped: ").unwrap().to_owned()
}

/// Reads a notification: its version and its body.
fn notified(client: &mut HubClient) -> (String, Value) {
    let (topic, body) = client.message();
    (topic.strip_prefix("$iothub/twin/PATCH/properties/desired/?$version=").unwrap().to_owned(), body)
}

/// Moves the toaster to the other hub with its next registration.
fn move_away(emulator: &Emulator) {
    emulator.update(|config| {
        let group = &mut config.enrollment_groups[0];
        group.allocation.policy = AllocationPolicy::Static;
        group.allocation.iot_hubs = vec![HEATPUMPS_HUB.to_owned()];
    });
    assert_eq!(Device::of_group(emulator, TOASTER).assigned()["assignedHub"], HEATPUMPS_HUB);
}

/// Microsoft's clients for Python and Node do not subscribe again after they renew a token.
#[test]
fn a_session_is_kept_until_a_clean_one() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let connect = |clean| toaster.connected_on(&emulator, "mqtt", clean);
    // Is there a session, and does the device get answers and notifications without subscribing again?
    let mut version = 1;
    let mut heard = |(mut client, present): (HubClient, bool)| {
        version += 1;
        patch(&emulator, json!({ "turn": version }));
        client.publish(&format!("{GET}9"), QoS::AtMostOnce, "");
        client.send(&Packet::PingReq);
        let (mut answered, mut told) = (false, false);
        loop {
            match client.receive() {
                Some(Packet::Publish(publish)) if publish.topic.ends_with("$rid=9") => answered = true,
                Some(Packet::Publish(publish)) => told = publish.topic.ends_with(&format!("$version={version}")),
                Some(Packet::PingResp) => break,
                other => panic!("{other:?}"),
            }
        }
        client.disconnect();
        (present, answered, told)
    };
    assert_eq!(heard(connect(false)), (false, false, false));
    // A session without subscriptions is a session, too.
    assert_eq!(heard(connect(false)), (true, false, false));
    let (mut client, _) = connect(false);
    client.subscribe(&BOTH);
    drop(client);
    for _ in 0..2 {
        assert_eq!(heard(connect(false)), (true, true, true));
    }
    let (mut client, _) = connect(false);
    client.unsubscribe(DESIRED);
    assert_eq!(heard((client, true)), (true, true, false));
    assert_eq!(heard(connect(false)), (true, true, false));
    // A clean session deletes the kept session and is not kept itself.
    let (mut client, present) = connect(true);
    client.subscribe(&BOTH);
    assert_eq!(heard((client, present)), (false, true, true));
    assert_eq!(heard(connect(true)), (false, false, false));
    assert_eq!(heard(connect(false)), (false, false, false));
    // A rejected CONNECT does not change the kept session.
    let mut wrong = HubDevice { key: OTHER_KEY.into(), ..toaster.clone() }.packet();
    wrong.clean_session = true;
    assert_eq!(toaster.try_connect(&emulator, wrong), Some(5));
    assert_eq!(heard(connect(false)), (true, false, false));
    assert_eq!(emulator.requests().iter().filter(|record| record.outcome == "connected, session present").count(), 7);
}

/// The same after a restart with a data folder.
#[test]
fn a_session_is_kept_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    let start = || builder(Config::contoso()).data(&folder).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap();
    let emulator = start();
    let toaster = HubDevice::toaster(&emulator);
    let (mut client, _) = toaster.connected_on(&emulator, "mqtt", false);
    client.subscribe(&BOTH);
    assert_eq!(client.report(&json!({ "a": 1 })), 2);
    drop((client, emulator));

    let emulator = start();
    assert!(!emulator.is_connected(TOASTER));
    let (mut client, present) = toaster.connected_on(&emulator, "mqtt", false);
    assert!(present);
    assert_eq!(client.twin()["reported"], json!({ "a": 1, "$version": 2 }));
    patch(&emulator, json!({ "b": 2 }));
    assert_eq!(notified(&mut client), ("2".to_owned(), json!({ "b": 2, "$version": 2 })));
}

/// "400027: the older link is dropped", on whatever listeners the two connections are.
#[test]
fn a_second_connection_ends_the_first() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let mut older = toaster.connected(&emulator);
    for listener in ["mqtts", "ws", "wss", "mqtt"] {
        let (mut newer, _) = toaster.connected_on(&emulator, listener, true);
        assert!(why_dropped(&emulator, &mut older).starts_with("400027"));
        assert!(newer.pings() && emulator.is_connected(TOASTER));
        older = newer;
    }
    // A device whose CONNECT is rejected replaces no session.
    let mut wrong = HubDevice { key: OTHER_KEY.into(), ..toaster.clone() }.packet();
    wrong.clean_session = true;
    assert_eq!(toaster.try_connect(&emulator, wrong), Some(5));
    assert!(older.pings());
    older.disconnect();
    eventually(|| (!emulator.is_connected(TOASTER)).then_some(()));
}

/// The notification is the patch itself, with nulls. A device that is offline gets no notifications later.
#[test]
fn a_device_receives_changes_of_desired_properties() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let initial = emulator.device(TOASTER).unwrap().twin.desired;
    assert!(!initial.is_empty());
    patch(&emulator, json!({ "offline": true }));
    let (mut client, _) = toaster.connected_on(&emulator, "mqtt", false);
    client.subscribe(&BOTH);
    assert_eq!(client.twin()["desired"]["$version"], 2);
    for (version, change) in (3..).zip([
        json!({ "state": "off", "offline": null, "nested": { "a": [1, null], "b": { "c": 1 } } }),
        json!({ "nested": { "b": null } }),
        json!({}),
    ]) {
        patch(&emulator, change.clone());
        let mut expected = change;
        expected["$version"] = json!(version);
        assert_eq!(notified(&mut client), (version.to_string(), expected));
    }
    let twin = client.twin();
    assert_eq!((&twin["desired"]["nested"], &twin["desired"]["$version"]), (&json!({ "a": [1, null] }), &json!(5)));
    let record = eventually(|| emulator.requests().into_iter().rfind(|record| record.method == "NOTIFY"));
    assert_eq!((&*record.response_body, record.hub.as_deref()), (r#"{"$version":5}"#, Some(TOASTERS_HUB)));
    // Changes of tags are not sent to the device, and a rejected patch changes nothing.
    emulator.patch_twin(TOASTER, json!({ "tags": { "building": 43 } })).unwrap();
    assert!(emulator.patch_twin(TOASTER, json!({ "desired": { "a.b": 1 } })).is_err());
    assert!(client.pings());
    assert!(!client.twin().to_string().contains("building"));
    client.unsubscribe(DESIRED);
    patch(&emulator, json!({ "unheard": true }));
    assert!(client.pings());
    assert_eq!(emulator.requests().iter().filter(|record| record.method == "NOTIFY").count(), 3);
}

/// "Moved": the session ends, and the old hub rejects a CONNECT.
#[test]
fn a_device_that_is_moved_is_dropped_and_refused_at_its_old_hub() {
    for policy in [ReprovisionPolicy::Migrate, ReprovisionPolicy::Reset] {
        let emulator = with(|config| config.enrollment_groups[0].reprovision_policy = policy);
        let toaster = HubDevice::toaster(&emulator);
        let (mut client, _) = toaster.connected_on(&emulator, "mqtt", false);
        client.subscribe(&BOTH);
        client.report(&json!({ "kept": true }));
        move_away(&emulator);
        assert!(why_dropped(&emulator, &mut client).contains(HEATPUMPS_HUB));
        assert_eq!(toaster.try_connect(&emulator, toaster.packet()), Some(5));
        let moved = HubDevice { hub: HEATPUMPS_HUB.into(), ..toaster };
        // The new hub has no session of the device.
        let (mut client, present) = moved.connected_on(&emulator, "mqtt", false);
        assert!(!present);
        client.subscribe(&BOTH);
        assert_eq!(client.twin()["reported"].get("kept").is_some(), policy == ReprovisionPolicy::Migrate);
        // At the same hub, the session continues.
        Device::of_group(&emulator, TOASTER).assigned();
        assert!(client.pings());
    }
}

/// The session ends if the device is disabled, removed, reset or disconnected. The answer to the next CONNECT
/// differs.
#[test]
fn an_operator_ends_sessions() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    type Act<'a> = &'a dyn Fn();
    let disable: Act<'_> = &|| emulator.set_hub_enabled(TOASTER, false).unwrap();
    let enable: Act<'_> = &|| emulator.set_hub_enabled(TOASTER, true).unwrap();
    let remove: Act<'_> = &|| emulator.remove_from_hub(TOASTER).unwrap();
    let register: Act<'_> = &|| drop(Device::of_group(&emulator, TOASTER).assigned());
    let cut: Act<'_> = &|| assert!(emulator.disconnect(TOASTER));
    for (act, why, code, mend, is_kept) in [
        (cut, "the operator disconnected", 0, &|| (), true),
        (disable, "401003: the device was disabled", 5, enable, true),
        (remove, "404001: the device was removed", 5, register, false),
    ] as [(Act<'_>, &str, u8, Act<'_>, bool); 3]
    {
        let (mut client, _) = toaster.connected_on(&emulator, "mqtt", false);
        client.subscribe(&BOTH);
        act();
        let dropped = why_dropped(&emulator, &mut client);
        assert!(dropped.starts_with(why) || dropped.contains(why), "{dropped}");
        assert_eq!(toaster.try_connect(&emulator, toaster.packet()), Some(code));
        mend();
        let (client, present) = toaster.connected_on(&emulator, "mqtt", false);
        assert_eq!(present, is_kept, "{why}");
        client.disconnect();
    }
    eventually(|| (!emulator.is_connected(TOASTER)).then_some(()));
    assert!(!emulator.disconnect(TOASTER));
}

/// A reset of the emulator ends the sessions of all devices.
#[test]
fn a_reset_ends_sessions() {
    let emulator =
        builder(Config::contoso()).http("127.0.0.1:0").mqtt("127.0.0.1:0").control("127.0.0.1:0").start().unwrap();
    let toaster = HubDevice::toaster(&emulator);
    let mut client = toaster.connected(&emulator);
    Control::of(&emulator).post("reset", &json!({}));
    // The client may see the end of its connection before the reset has finished.
    assert_eq!(client.receive(), None);
    assert_eq!(toaster.try_connect(&emulator, toaster.packet()), Some(5));
    assert!(!emulator.is_connected(TOASTER) && emulator.telemetry(TOASTER).count == 0);
}

/// "A hub that is down" answers CONNECT with 3. If a hub goes down while it runs, its connections end.
#[test]
fn an_unavailable_hub_answers_3() {
    let emulator = plain();
    let (toaster, heat_pump) = (HubDevice::toaster(&emulator), HubDevice::heat_pump(&emulator));
    let (mut client, mut other) = (toaster.connected(&emulator), heat_pump.connected(&emulator));
    let set = |hubs: &[&str]| {
        let hubs = hubs.iter().map(|hub| (*hub).to_owned()).collect();
        emulator.update(|config| config.behaviour.unavailable_hubs = hubs);
    };
    set(&[&TOASTERS_HUB.to_uppercase()]);
    assert!(why_dropped(&emulator, &mut client).contains("unavailable_hubs"));
    for _ in 0..2 {
        assert_eq!(toaster.try_connect(&emulator, toaster.packet()), Some(3));
    }
    assert!(other.pings());
    assert_eq!(Device::of_group(&emulator, TOASTER).assigned()["assignedHub"], TOASTERS_HUB);
    set(&[]);
    assert!(toaster.connected(&emulator).pings());
}

/// After the token expires, a session lasts for `hub_session_after_expiry` of the service's time.
#[test]
fn a_session_outlives_its_token_and_then_ends() {
    // Ten minutes take 60 ms here.
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let mut connect = toaster.packet();
    let expiry = now() + 2;
    connect.set_login(toaster.user_name(), toaster.token_until(expiry));
    let mut client = toaster.open(&emulator, "mqtt");
    assert_eq!(client.connect(connect.clone()).map(|(code, _)| code), Some(0));
    let why = why_dropped(&emulator, &mut client);
    assert!(why.starts_with("401003: the token expired") && now() >= expiry, "{why}");
    eventually(|| (now() > expiry).then_some(()));
    assert_eq!(toaster.try_connect(&emulator, connect), Some(5));
    assert!(toaster.connected(&emulator).pings());

    // As long as in the real service.
    let emulator = with(|config| {
        config.behaviour = Behaviour { hub_session_after_expiry: 1e9, token_leeway: 100, ..Behaviour::default() };
    });
    let toaster = HubDevice::toaster(&emulator);
    let mut connect = toaster.packet();
    connect.set_login(toaster.user_name(), toaster.token_until(now() - 10));
    let mut client = toaster.open(&emulator, "mqtt");
    assert_eq!(client.connect(connect).map(|(code, _)| code), Some(0));
    assert!(client.pings());
    emulator.update(|config| config.behaviour.hub_session_after_expiry = 0.0);
    assert!(why_dropped(&emulator, &mut client).starts_with("401003"));
}

/// "Drop after 1.5 times the keep-alive."
#[test]
fn a_silent_device_is_dropped() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let mut client = toaster.open(&emulator, "mqtt");
    assert_eq!(client.connect(Connect { keep_alive: 1, ..toaster.packet() }).map(|(code, _)| code), Some(0));
    let started = Instant::now();
    assert!(why_dropped(&emulator, &mut client).contains("not even a ping"));
    assert!(started.elapsed() > Duration::from_millis(1400));
    // 0 means no keep-alive, and the limit is 1767 s.
    let mut client = toaster.open(&emulator, "mqtt");
    assert_eq!(client.connect(Connect { keep_alive: 0, ..toaster.packet() }).map(|(code, _)| code), Some(0));
    assert!(client.pings());
}

/// A device may show a certificate instead of a password: its own, or one by a CA of its group. The password may be
/// absent or empty.
#[test]
fn devices_with_certificates_connect_without_a_password() {
    let ca = Ca::root("factory");
    let (own, of_group) = (Identity::self_signed("own"), ca.device("member"));
    let hubs = vec![TOASTERS_HUB.to_owned()];
    let x509 = |primary| Some(X509Attestation { primary, secondary: None });
    let emulator = with(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: "own".into(),
            device_id: Some("Own-Device".into()),
            x509: x509(own.certificate()),
            ..IndividualEnrollment::default()
        });
        config.individual_enrollments[0].allocation.iot_hubs.clone_from(&hubs);
        let mut group = config.enrollment_groups[0].clone();
        group.enrollment_group_id = "certificates".into();
        (group.primary_key, group.secondary_key) = (SymmetricKey::default(), None);
        group.x509 = x509(ca.certificate());
        group.allocation.policy = AllocationPolicy::Static;
        group.allocation.iot_hubs = hubs;
        config.enrollment_groups.push(group);
    });
    for (registration_id, device_id, identity) in [("own", "Own-Device", &own), ("member", "member", &of_group)] {
        let state = Device::over_tls(&emulator, registration_id, Some(identity)).assigned();
        let mut device = HubDevice::new(state["assignedHub"].as_str().unwrap(), device_id, "");
        device.query = "/?api-version=1".to_owned();
        assert_eq!(state["deviceId"], device_id);
        // Scripts and records identify the device by its registration ID.
        emulator.script(Script::hub_connack(2).for_device(registration_id));
        assert_eq!(device.try_connect(&emulator, device.packet()), Some(2));
        assert_eq!(emulator.requests().pop().unwrap().registration_id.as_deref(), Some(registration_id));
        for (listener, password) in [("mqtts", None), ("wss", None), ("mqtts", Some(""))] {
            let mut client = device.open_as(&emulator, listener, Some(identity));
            client.client.write(&connect_bytes(&device, password));
            assert!(matches!(client.receive(), Some(Packet::ConnAck(ack)) if ack.code as u8 == 0), "{listener}");
            client.subscribe(&BOTH);
            client.twin();
        }
        // Another certificate, and no certificate.
        for identity in [Some(&Identity::self_signed(device_id)), None] {
            let mut client = device.open_as(&emulator, "mqtts", identity);
            client.client.write(&connect_bytes(&device, None));
            assert!(matches!(client.receive(), Some(Packet::ConnAck(ack)) if ack.code as u8 == 5));
        }
    }
}

/// Raw bytes, because the codec of the tests cannot send a user name without a password.
fn connect_bytes(device: &HubDevice, password: Option<&str>) -> Vec<u8> {
    let string = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let flags = if password.is_some() { 0xc2 } else { 0x82 };
    let mut body = [&b"\0\x04MQTT\x04"[..], &[flags, 0, 60]].concat();
    body.extend(string(&device.device_id));
    body.extend(string(&device.user_name()));
    body.extend(password.map(string).unwrap_or_default());
    [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

/// Messages that arrived before the end of the connection are processed, and the missing session changes nothing.
#[test]
fn messages_before_a_disconnect_are_processed() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let mut client = toaster.with_twin(&emulator);
    emulator.script(Script::delay(Operation::TwinReport, Duration::from_secs(1000)));
    client.publish(&format!("{REPORT}1"), QoS::AtMostOnce, json!({ "late": true }).to_string());
    drop(client);
    eventually(|| emulator.device(TOASTER).unwrap().twin.reported.get("late").cloned());
    let record = eventually(|| emulator.requests().into_iter().rfind(|record| record.method == "PATCH"));
    assert!(record.outcome.ends_with("but the device had disconnected") && record.http_status.is_none(), "{record}");
}
