//! The device side of hubs over MQTT: which devices may connect, topics and filters, and the end of a connection that
//! violates the protocol.

mod support;

use azure_dps_emulator::{Config, Emulator, Operation, RequestRecord, Script};
use rumqttc::{
    QoS,
    mqttbytes::{
        Protocol,
        v4::{Connect, Packet, Publish, SubscribeReasonCode},
    },
};
use serde_json::json;
use support::{hub::*, mqtt::Client, *};

fn all() -> Emulator {
    builder(Config::contoso())
        .http("127.0.0.1:0")
        .https("127.0.0.1:0")
        .mqtt("127.0.0.1:0")
        .mqtts("127.0.0.1:0")
        .start()
        .unwrap()
}

fn plain() -> Emulator {
    builder(Config::contoso()).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap()
}

fn last(emulator: &Emulator) -> RequestRecord {
    emulator.requests().pop().unwrap()
}

fn properties(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Returns the outcome of the last connection that the hub closed. Call it after the connection has ended, so that it
/// is recorded.
fn dropped(emulator: &Emulator) -> String {
    let record = emulator.requests().into_iter().rfind(|record| record.method == "-").unwrap();
    record.outcome.strip_prefix("the connection was dropped: ").unwrap().to_owned()
}

/// From DPS to the twin, on every listener, with one connection after the other.
#[test]
fn a_device_finds_its_twin_at_its_hub_on_every_listener() {
    let emulator = all();
    let toaster = HubDevice::toaster(&emulator);
    for (count, listener) in (0..).zip(["mqtt", "mqtts", "ws", "wss"]) {
        let (mut client, _) = toaster.connected_on(&emulator, listener, true);
        client.subscribe(&[(TWIN_ANSWERS, QoS::AtMostOnce)]);
        let twin = client.twin();
        assert_eq!(twin["desired"]["$version"], 1, "{twin}");
        assert_eq!(twin["reported"]["$version"], 1 + count, "{twin}");
        assert_eq!(twin.as_object().unwrap().len(), 2);
        assert_eq!(client.report(&json!({ "count": count })), 2 + count);
        assert!(client.is_acknowledged(&toaster.events(""), "hello"));
        assert_eq!(emulator.telemetry(TOASTER).count, 1 + count);
        let requests = emulator.requests();
        let methods: Vec<_> = requests.iter().rev().take(5).map(|record| &*record.method).collect();
        assert_eq!(methods, ["PUBLISH", "PATCH", "GET", "SUBSCRIBE", "CONNECT"]);
        for record in requests.iter().rev().take(5) {
            assert_eq!((record.listener, record.hub.as_deref()), (listener, Some(TOASTERS_HUB)));
            assert_eq!((record.registration_id.as_deref(), record.authorization), (Some(TOASTER), true));
        }
        client.disconnect();
    }
    assert_eq!(emulator.device(TOASTER).unwrap().twin.reported["count"], 3);
    let records = format!("{:?}", emulator.requests());
    assert!(!records.contains("sig=") && !records.contains(&toaster.key));
}

/// Two devices at two hubs, on one listener, at the same time.
#[test]
fn the_user_name_selects_the_hub_of_a_listener() {
    let emulator = plain();
    let (toaster, heat_pump) = (HubDevice::toaster(&emulator), HubDevice::heat_pump(&emulator));
    let (mut at_toasters, mut at_heat_pumps) = (toaster.with_twin(&emulator), heat_pump.with_twin(&emulator));
    at_toasters.report(&json!({ "who": "toaster" }));
    at_heat_pumps.report(&json!({ "who": "heat pump" }));
    assert_eq!(at_toasters.twin()["reported"]["who"], "toaster");
    assert_eq!(at_heat_pumps.twin()["reported"]["who"], "heat pump");
    // DPS is on the same listener, with the same client ID at the same time.
    assert_eq!(Client::toaster(&emulator).assigned_hub(), TOASTERS_HUB);
    assert!(at_toasters.pings());
    let stranger = HubDevice { hub: HEATPUMPS_HUB.to_owned(), ..toaster };
    assert_eq!(stranger.try_connect(&emulator, stranger.packet()), Some(5));
    assert!(last(&emulator).outcome.contains(TOASTERS_HUB), "{}", last(&emulator));
}

/// "The hub answers every failed CONNECT with 5", and the log says why.
#[test]
fn a_connect_is_refused_with_5_and_the_log_says_why() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let with = |change: &dyn Fn(&mut HubDevice)| {
        let mut device = toaster.clone();
        change(&mut device);
        device.packet()
    };
    let login = |user_name: &str, password: &str| {
        let mut connect = toaster.packet();
        connect.set_login(user_name, password);
        connect
    };
    let will = |topic: &str, qos| {
        let mut will = toaster.will("", "gone");
        (will.topic, will.qos) = (topic.to_owned(), qos);
        Connect { last_will: Some(will), ..toaster.packet() }
    };
    let name = toaster.user_name();
    let other_hub = HubDevice { hub: HEATPUMPS_HUB.to_owned(), ..toaster.clone() };
    for (connect, why) in [
        (
            with(&|device| (device.hub, device.device_id) = ("no-hub.azure-devices.net".into(), "other".into())),
            "is not a linked hub",
        ),
        (with(&|device| device.hub = "no-hub.azure-devices.net".into()), "DPS assigned it to"),
        (with(&|device| device.hub = HEATPUMPS_HUB.into()), "DPS assigned it to"),
        (with(&|device| device.device_id = HEAT_PUMP.into()), "must register with DPS first"),
        (with(&|device| device.device_id = TOASTER.to_uppercase()), "Device IDs are case-sensitive"),
        (with(&|device| device.query = "/m/?api-version=2021-04-12".into()), "modules are not emulated"),
        (with(&|device| device.key = OTHER_KEY.into()), "signed with neither key"),
        (Connect { client_id: "other".into(), ..toaster.packet() }, "the client ID is"),
        (Connect { login: None, ..toaster.packet() }, ""),
        (login(&name, ""), "there is no password"),
        (login(&name, "no token"), "the password is not a token"),
        (login(&name, &toaster.token_until(now() - 1000)), "expired"),
        (login(&name, &other_hub.token()), "the token's sr is"),
        (login(&name, &token(&toaster.key, TOASTER)), "skn"),
        (will("devices/other/messages/events/", QoS::AtMostOnce), "not telemetry of the device"),
        (will("$iothub/twin/GET/?$rid=1", QoS::AtMostOnce), "not telemetry of the device"),
        (will(&toaster.events(""), QoS::ExactlyOnce), "QoS 2"),
    ] {
        let has_login = connect.login.is_some();
        let code = toaster.try_connect(&emulator, connect);
        let record = last(&emulator);
        if !has_login {
            // Both services reject a client without a user name.
            assert_eq!(code, Some(4));
            continue;
        }
        assert_eq!(code, Some(5), "{record}");
        assert!(record.outcome.starts_with("CONNACK 5: ") && record.outcome.contains(why), "{why}: {record}");
        assert_eq!((&*record.method, record.http_status), ("CONNECT", None));
        assert!(record.hub.is_some());
    }
    // These attempts do not affect the device: it can still connect.
    assert_eq!(toaster.try_connect(&emulator, toaster.packet()), Some(0));
    assert_eq!((emulator.telemetry(TOASTER).count, emulator.device(TOASTER).unwrap().twin.reported_version), (0, 1));
    let version_5 = Connect { protocol: Protocol::V5, ..toaster.packet() };
    assert_eq!(toaster.try_connect(&emulator, version_5), Some(1));
}

/// If a user name fits neither service, the log has the forms of both.
#[test]
fn for_an_unknown_user_name_the_log_has_both_forms() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    for user_name in ["toaster", "hub/", "/toaster/?api-version=2021-04-12"] {
        let mut connect = toaster.packet();
        connect.set_login(user_name, toaster.token());
        assert_eq!(toaster.try_connect(&emulator, connect), Some(4));
        let outcome = last(&emulator).outcome;
        assert!(outcome.contains("{idScope}/registrations/{registrationId}/api-version="), "{outcome}");
        assert!(outcome.contains("{hubName}/{deviceId}/?api-version="), "{outcome}");
    }
}

/// The query of a user name may have many forms, because clients of many years are in use.
#[test]
fn user_names_are_read_loosely() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    for (hub, query, has_twin) in [
        (TOASTERS_HUB, "/?api-version=2021-04-12", true),
        (TOASTERS_HUB, "/?api-version=2025-08-01-preview&DeviceClientType=a%2Fb&c/1.3.0&model-id=dtmi%3Aa%3B1", true),
        (TOASTERS_HUB, "/?DeviceClientType=a/b&api-version=1", true),
        (TOASTERS_HUB, "/api-version=2016-11-14", true),
        (TOASTERS_HUB, "/?a=b", false),
        (TOASTERS_HUB, "/", false),
        (TOASTERS_HUB, "", false),
        (&TOASTERS_HUB.to_uppercase(), "/?api-version=2021-04-12", true),
        (&format!("{TOASTERS_HUB}:8883"), "/?api-version=2021-04-12", true),
    ] {
        let device = HubDevice { query: query.to_owned(), hub: hub.to_owned(), ..toaster.clone() };
        let mut client = device.with_twin(&emulator);
        // "If api-version isn't specified, twin properties return 400 bad requests", but telemetry is accepted.
        let (topic, body) = client.ask(&format!("{GET}7"), "");
        assert_eq!(topic, if has_twin { "200/?$rid=7" } else { "400/?$rid=7" }, "{query}: {body}");
        assert_eq!(body["errorCode"].is_number(), !has_twin, "{body}");
        assert!(client.is_acknowledged(&device.events(""), ""));
    }
}

/// "A will message is sent on as telemetry with iothub-MessageType=Will" if the connection ends without DISCONNECT.
#[test]
fn a_will_is_telemetry_if_the_device_leaves_without_disconnect() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let connect = |retain| {
        let mut client = toaster.open(&emulator, "mqtt");
        let mut will = toaster.will("a=b%2Fc", "gone");
        will.retain = retain;
        let packet = Connect { last_will: Some(will), ..toaster.packet() };
        assert_eq!(client.connect(packet).map(|(code, _)| code), Some(0));
        client
    };
    connect(false).disconnect();
    assert_eq!(emulator.telemetry(TOASTER).count, 0);
    // A client that violates the protocol, a client that disappears, and a client that is replaced.
    let mut rude = connect(false);
    rude.publish("nowhere", QoS::AtMostOnce, "");
    assert!(rude.receive().is_none());
    eventually(|| (emulator.telemetry(TOASTER).count == 1).then_some(()));
    drop(connect(true));
    eventually(|| (emulator.telemetry(TOASTER).count == 2).then_some(()));
    let mut older = connect(false);
    let _newer = toaster.connected(&emulator);
    assert!(older.receive().is_none());
    let telemetry = eventually(|| Some(emulator.telemetry(TOASTER).last).filter(|last| last.len() == 3));
    for (at, message) in telemetry.iter().enumerate() {
        let mut expected = properties(&[("a", "b/c"), ("iothub-MessageType", "Will")]);
        if at == 1 {
            expected.extend(properties(&[("mqtt-retain", "true")]));
        }
        assert_eq!((&message.properties, &*message.body), (&expected, &b"gone"[..]));
    }
}

/// "It only supports the documented topic names and filters": there are five, each with QoS 0 or 1.
#[test]
fn the_documented_filters_are_granted_and_others_end_the_link() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let devicebound = format!("devices/{TOASTER}/messages/devicebound/#");
    let five = [TWIN_ANSWERS, DESIRED, METHODS, &devicebound, CREDENTIALS];
    for (qos, granted) in
        [(QoS::AtMostOnce, QoS::AtMostOnce), (QoS::AtLeastOnce, QoS::AtLeastOnce), (QoS::ExactlyOnce, QoS::AtLeastOnce)]
    {
        let mut client = toaster.connected(&emulator);
        let codes = client.try_subscribe(&five.map(|filter| (filter, qos))).unwrap();
        assert_eq!(codes, [SubscribeReasonCode::Success(granted); 5]);
        assert_eq!(last(&emulator).path, five.join(" "));
        // Answers have QoS 0 in both cases.
        client.twin();
    }
    for filter in [
        "#",
        "$iothub/#",
        "$iothub/twin/res/200/#",
        "$iothub/twin/res/+/?$rid=1",
        "$dps/registrations/res/#",
        "devices/+/messages/devicebound/#",
        &format!("devices/{HEAT_PUMP}/messages/devicebound/#"),
        &format!("devices/{TOASTER}/messages/events/#"),
        &format!("devices/{TOASTER}/modules/m/inputs/#"),
    ] {
        let mut client = toaster.connected(&emulator);
        assert_eq!(client.try_subscribe(&[(TWIN_ANSWERS, QoS::AtMostOnce), (filter, QoS::AtMostOnce)]), None);
        let why = dropped(&emulator);
        assert!(why.contains(filter) && why.contains(TWIN_ANSWERS), "{why}");
    }
}

/// Unknown topics and messages with QoS 2 end the connection.
#[test]
fn other_topics_end_the_link() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    for (topic, why) in [
        ("nowhere", "no such topic"),
        ("$iothub/twin/GET/", "no such topic"),
        ("$iothub/twin/GET/?rid=1", "no $rid"),
        ("$iothub/twin/PATCH/properties/reported/?rid=1", "no $rid"),
        ("$iothub/twin/PATCH/properties/desired/?$rid=1", "no such topic"),
        ("$iothub/credentials/POST/issueCertificate/?$rid=1", "issues no certificates"),
        ("$dps/registrations/PUT/iotdps-register/?$rid=1", "a topic of DPS"),
        (&format!("devices/{TOASTER}/messages/events"), "a slash at its end"),
        (&format!("devices/{TOASTER}/messages/devicebound/"), "no such topic"),
        (&format!("devices/{HEAT_PUMP}/messages/events/"), "another device"),
        (&format!("devices/{TOASTER}/modules/m/messages/events/"), "modules are not emulated"),
    ] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut client = toaster.with_twin(&emulator);
            client.publish(topic, qos, "{}");
            assert_eq!(client.receive(), None, "{topic}");
            assert!(dropped(&emulator).contains(why), "{}", dropped(&emulator));
        }
    }
    for topic in [toaster.events(""), format!("{GET}1"), format!("{REPORT}1")] {
        let mut client = toaster.with_twin(&emulator);
        client.publish(&topic, QoS::ExactlyOnce, "{}");
        assert_eq!(client.receive(), None, "{topic}");
        assert_eq!(dropped(&emulator), "a message with QoS 2");
    }
    assert_eq!((emulator.telemetry(TOASTER).count, emulator.device(TOASTER).unwrap().twin.reported_version), (0, 1));
}

/// Properties in the forms of all clients, QoS 0 and 1, 256 KB. RETAIN becomes a property.
#[test]
fn telemetry_is_accepted_and_kept() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let mut client = toaster.connected(&emulator);
    for (bag, expected) in [
        ("", properties(&[])),
        (
            "%24.mid=1&%24.ct=application%2Fjson&%24.ce=utf-8",
            properties(&[("$.mid", "1"), ("$.ct", "application/json"), ("$.ce", "utf-8")]),
        ),
        ("$.ct=text%2Fplain&a%20b=c%26d", properties(&[("$.ct", "text/plain"), ("a b", "c&d")])),
        ("%24.on=out1/", properties(&[("$.on", "out1")])),
        ("a%2Bb=c%2Bd&f=", properties(&[("a+b", "c+d"), ("f", "")])),
        ("e", properties(&[("e", "")])),
    ] {
        assert!(client.is_acknowledged(&toaster.events(bag), bag));
        let message = emulator.telemetry(TOASTER).last.pop().unwrap();
        assert_eq!((&message.properties, &*message.body), (&expected, bag.as_bytes()));
        let record = last(&emulator);
        assert_eq!((&*record.method, &*record.path, &*record.body), ("PUBLISH", &*toaster.events(bag), bag));
        assert_eq!(record.outcome, format!("telemetry: {} bytes, {} properties", bag.len(), expected.len()));
    }
    let mut retained = Publish::new(toaster.events("a=b"), QoS::AtMostOnce, vec![0, 255]);
    retained.retain = true;
    client.send(&Packet::Publish(retained));
    // QoS 0 has no acknowledgement. The message is processed before the ping.
    assert!(client.pings());
    let telemetry = emulator.telemetry(&TOASTER.to_uppercase()).last;
    assert_eq!((emulator.telemetry(TOASTER).count, telemetry.len()), (7, 7));
    assert_eq!(telemetry[6].properties, properties(&[("a", "b"), ("mqtt-retain", "true")]));
    assert_eq!(telemetry[6].body, [0, 255]);
    for _ in 0..40 {
        assert!(client.is_acknowledged(&toaster.events(""), "x"));
    }
    assert_eq!((emulator.telemetry(TOASTER).count, emulator.telemetry(TOASTER).last.len()), (47, 32));

    let longest = 256 * 1024;
    assert!(client.is_acknowledged(&toaster.events(""), vec![0; longest]));
    assert!(client.is_acknowledged(&toaster.events("ab=cd"), vec![0; longest - 4]));
    assert!(!client.is_acknowledged(&toaster.events("ab=cd"), vec![0; longest - 3]));
    assert!(dropped(&emulator).contains("262145 bytes"), "{}", dropped(&emulator));
    assert_eq!(emulator.telemetry(TOASTER).count, 49);
    assert_eq!(emulator.telemetry(HEAT_PUMP).count, 0);
}

/// A QoS-1 request gets a PUBACK besides its answer. The answer has the same `$rid`.
#[test]
fn requests_are_acknowledged_and_answered() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let mut client = toaster.with_twin(&emulator);
    for rid in ["1", "65535", "a7c8ff76-e6ee-4b20-95ab-5bf34aa7b9d6", "", "a%20b", "ä"] {
        // Clients send an empty body or a space.
        for body in ["", " ", "{", "{}"] {
            assert_eq!(client.ask(&format!("{GET}{rid}"), body).0, format!("200/?$rid={rid}"));
        }
        assert!(client.is_acknowledged(&format!("$iothub/twin/GET/?a=b&$rid={rid}&c"), " "));
        assert_eq!(client.message().0, format!("$iothub/twin/res/200/?$rid={rid}"));
        assert!(client.is_acknowledged(&format!("{REPORT}{rid}"), "{}"));
        assert!(client.message().0.starts_with(&format!("$iothub/twin/res/204/?$rid={rid}&$version=")));
    }
    // An answer to a method that was not called.
    assert!(client.is_acknowledged("$iothub/methods/res/200/?$rid=1", "{}"));
    assert!(client.pings());
    assert!(last(&emulator).outcome.contains("calls no methods"));
    // Without a subscription the device gets no answer, and the record says so.
    client.unsubscribe(TWIN_ANSWERS);
    client.unsubscribe("never/subscribed");
    client.publish(&format!("{GET}1"), QoS::AtMostOnce, "");
    assert!(client.pings());
    let record = last(&emulator);
    assert!(record.outcome.ends_with("but the device has not subscribed") && record.http_status.is_none(), "{record}");
    client.subscribe(&[(TWIN_ANSWERS, QoS::AtMostOnce)]);
    client.twin();
}

/// Microsoft's client for Node uses `errorCode` in the body, and the client for Python uses the status.
#[test]
fn a_refused_report_has_a_status_and_an_error_code() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    let mut client = toaster.with_twin(&emulator);
    let deep = "{\"a\":".repeat(12) + "1" + &"}".repeat(12);
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"a\"",
        "\u{feff}{}",
        "{\"a.b\":1}",
        "{\"$a\":1}",
        "{\"a b\":1}",
        "{\"a\":4503599627370496}",
        &deep,
        &json!({ "a": "x".repeat(4097) }).to_string(),
        &json!({ "a": vec!["x".repeat(4000); 9] }).to_string(),
    ] {
        let (topic, answer) = client.ask(&format!("{REPORT}5"), body);
        assert_eq!(topic, "400/?$rid=5", "{body}: {answer}");
        assert!(answer["errorCode"].as_u64().is_some_and(|code| code / 1000 == 400), "{answer}");
        assert!(answer["message"].is_string() && answer["trackingId"].is_string() && answer["info"].is_null());
        let record = last(&emulator);
        assert_eq!((&*record.method, record.http_status), ("PATCH", Some(400)));
    }
    assert_eq!(client.report(&json!({ "a": 1 })), 2);
    assert_eq!(client.twin()["reported"], json!({ "a": 1, "$version": 2 }));
}

/// Each script is one line.
#[test]
fn scripts_break_what_a_hub_does() {
    let emulator = plain();
    let toaster = HubDevice::toaster(&emulator);
    for code in 1..=5 {
        emulator.script(Script::hub_connack(code));
        assert_eq!(toaster.try_connect(&emulator, toaster.packet()), Some(code));
        assert_eq!(last(&emulator).outcome, "answered by a script");
    }
    emulator.script(Script::drop_connection(Operation::HubConnect).for_device(TOASTER));
    assert_eq!(toaster.try_connect(&emulator, toaster.packet()), None);
    // One script is for DPS, and the other for another device.
    emulator.script(Script::connack(3));
    emulator.script(Script::hub_connack(3).for_device(HEAT_PUMP));
    let mut client = toaster.with_twin(&emulator);
    assert!(!emulator.is_connected(HEAT_PUMP) && emulator.is_connected(TOASTER));

    let throttled = json!({ "errorCode": 429_001 }).to_string();
    emulator.script(Script::respond(Operation::TwinGet, 429, &[], &*throttled).times(2));
    emulator.script(Script::respond(Operation::TwinReport, 503, &[], ""));
    emulator.script(Script::merge(Operation::TwinGet, json!({ "reported": null })));
    for _ in 0..2 {
        let (topic, body) = client.ask(&format!("{GET}1"), "");
        assert_eq!((&*topic, body), ("429/?$rid=1", json!({ "errorCode": 429_001 })));
    }
    assert_eq!(client.ask(&format!("{REPORT}1"), "{}"), ("503/?$rid=1".to_owned(), json!("")));
    assert!(client.twin().get("reported").is_none());
    emulator.script(Script::permute_topic(Operation::TwinReport));
    assert_eq!(client.ask(&format!("{REPORT}1"), "{}").0, "204/?$version=2&$rid=1");

    // The message is accepted, but its acknowledgement is lost.
    emulator.script(Script::drop_connection(Operation::Telemetry));
    assert!(!client.is_acknowledged(&toaster.events(""), "x"));
    assert_eq!(emulator.telemetry(TOASTER).count, 1);
    let mut client = toaster.with_twin(&emulator);
    emulator.script(Script::cut(Operation::TwinReport, 5));
    client.publish(&format!("{REPORT}1"), QoS::AtMostOnce, "{}");
    assert!(client.receive().is_none());
    assert_eq!(emulator.device(TOASTER).unwrap().twin.reported_version, 3);
}
