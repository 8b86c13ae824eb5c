//! The control API shows devices at their hubs, and changes them there.

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use azure_dps_emulator::{Config, Emulator};
use reqwest::Method;
use rumqttc::QoS;
use serde_json::{Value, json};
use support::{
    control::{Control, Events},
    hub::{HubClient, HubDevice},
    *,
};

fn start() -> (Emulator, Control) {
    let builder = builder(Config::contoso()).http("127.0.0.1:0").mqtt("127.0.0.1:0").control("127.0.0.1:0");
    let emulator = builder.start().unwrap();
    let control = Control::of(&emulator);
    (emulator, control)
}

/// Waits until another thread of the emulator has done something.
fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn view(control: &Control, id: &str) -> Value {
    control.get(&format!("devices/{id}"))
}

/// Returns the connection state in the next event of this device.
fn next_state(events: &mut Events) -> Value {
    let seen = events.until(|kind, data| kind == "device" && !data["device"]["hub"].is_null());
    seen.last().unwrap().2["device"]["hub"]["connectionState"].clone()
}

fn is_dropped(client: &mut HubClient) -> bool {
    client.receive().is_none()
}

/// A device is shown as connected while it is connected: in lists, in its own view and in events.
#[test]
fn a_connection_is_shown_while_it_lasts() {
    let (emulator, control) = start();
    let device = HubDevice::toaster(&emulator);
    let of_list = || control.get("devices")["devices"][0]["hub"].clone();
    let expected = json!({ "enabled": true, "connectionState": "disconnected", "since": null, "telemetryCount": 0 });
    assert_eq!(of_list(), expected);
    let last = control.get("health")["lastEvent"].as_u64().unwrap();
    let mut events = control.events_after(last);
    let first = device.connected(&emulator);
    assert_eq!(next_state(&mut events), "connected");
    assert_eq!(view(&control, TOASTER)["hub"]["connectionState"], "connected");
    assert!(of_list()["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{}", of_list());
    assert!(emulator.is_connected(TOASTER));
    // The end of the first connection does not end the second.
    let second = device.connected(&emulator);
    let mut first = first;
    assert!(is_dropped(&mut first));
    until("the first connection is dropped", || {
        emulator.requests().iter().any(|request| request.hub.is_some() && request.method == "-")
    });
    assert_eq!(of_list()["connectionState"], "connected");
    let before = of_list()["since"].clone();
    second.disconnect();
    until("the device is disconnected", || of_list()["connectionState"] == "disconnected");
    assert!(of_list()["since"].as_str() > before.as_str(), "{before} {}", of_list());
    while next_state(&mut events) != "disconnected" {}
}

/// The device gets a change of the desired properties with its version, and no change of the tags. The properties
/// that the device reports are shown with their version.
#[test]
fn a_twin_is_changed_from_both_sides() {
    let (emulator, control) = start();
    let device = HubDevice::toaster(&emulator);
    let mut client = device.with_twin(&emulator);
    let path = format!("devices/{TOASTER}/twin");
    let before = view(&control, TOASTER)["twin"].clone();
    assert_eq!((&before["desiredVersion"], &before["reportedVersion"]), (&json!(1), &json!(1)));
    assert_eq!(control.post(&path, &json!({ "tags": { "room": "5/12" } }))["twin"]["desiredVersion"], 1);
    let changed = control.post(&path, &json!({ "desired": { "state": null, "interval": 30 } }));
    assert_eq!(changed["twin"]["desiredVersion"], 2);
    let (topic, patch) = client.message();
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(patch, json!({ "state": null, "interval": 30, "$version": 2 }));
    let mut events = control.events_after(control.get("health")["lastEvent"].as_u64().unwrap());
    assert_eq!(client.report(&json!({ "firmware": "1.2" })), 2);
    events.until(|kind, data| kind == "device" && data["registrationId"] == TOASTER);
    let twin = view(&control, TOASTER)["twin"].clone();
    assert_eq!((&twin["reported"], &twin["reportedVersion"]), (&json!({ "firmware": "1.2" }), &json!(2)));
    assert_eq!((&twin["desired"]["interval"], &twin["tags"]["room"]), (&json!(30), &json!("5/12")));
    assert_eq!(twin, json!(emulator.device(TOASTER).unwrap().twin));
}

/// If an operator disconnects, disables or removes a device, its connection ends. A device that is disabled or
/// removed cannot connect again.
#[test]
fn a_device_is_disabled_disconnected_and_deleted() {
    let (emulator, control) = start();
    let device = HubDevice::toaster(&emulator);
    let call = |method: Method, what: &str| {
        let (status, answer) = control.send(method, &format!("devices/{TOASTER}/hub{what}"), &json!({}));
        assert_eq!(status, 200, "{what}: {answer}");
        answer
    };
    for (what, enabled, code) in [("/disconnect", true, 0), ("/disable", false, 5), ("/enable", true, 0)] {
        let connected = emulator.device(TOASTER).is_some_and(|record| record.hub_status == Default::default());
        let client = connected.then(|| device.connected(&emulator));
        let hub = call(Method::POST, what)["hub"].clone();
        assert_eq!((&hub["enabled"], &hub["connectionState"]), (&json!(enabled), &json!("disconnected")), "{what}");
        if let Some(mut client) = client {
            assert!(is_dropped(&mut client), "{what}");
        }
        assert_eq!(device.try_connect(&emulator, device.packet()), Some(code), "{what}");
        // Disconnecting a device that is not connected is not an error.
        until("the last connection has ended", || !emulator.is_connected(TOASTER));
        assert_eq!(call(Method::POST, what)["hub"]["enabled"], enabled, "{what}");
    }
    let mut client = device.connected(&emulator);
    let deleted = call(Method::DELETE, "");
    assert_eq!((&deleted["hub"], &deleted["twin"]), (&Value::Null, &Value::Null));
    assert_eq!((&deleted["assignedHub"], &deleted["registrations"]), (&json!(TOASTERS_HUB), &json!(1)));
    assert!(is_dropped(&mut client));
    assert_eq!(device.try_connect(&emulator, device.packet()), Some(5));
    let dropped: Vec<_> = emulator.requests().into_iter().filter(|request| request.method == "-").collect();
    assert_eq!(dropped.len(), 3);
    for record in dropped {
        assert_eq!((record.hub.as_deref(), record.registration_id.as_deref()), (Some(TOASTERS_HUB), Some(TOASTER)));
    }
    for (method, what) in [
        (Method::DELETE, ""),
        (Method::POST, "/disable"),
        (Method::POST, "/enable"),
        (Method::POST, "/disconnect"),
        (Method::POST, ""),
    ] {
        let path = if what.is_empty() && method == Method::POST { "twin".to_owned() } else { format!("hub{what}") };
        let (status, answer) = control.send(method, &format!("devices/{TOASTER}/{path}"), &json!({}));
        assert_eq!((status, &answer["error"]), (409, &json!("conflict")), "{path}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains("at no hub"), "{answer}");
    }
    // The next registration creates the device again.
    Device::of_group(&emulator, TOASTER).assigned();
    assert_eq!(view(&control, TOASTER)["twin"]["desiredVersion"], 1);
    device.connected(&emulator);
}

/// The last messages are shown with their properties, and all are counted. A long body is cut, and bytes that are not
/// UTF-8 are replaced.
#[test]
fn telemetry_is_counted_and_shown() {
    let (emulator, control) = start();
    let device = HubDevice::toaster(&emulator);
    let path = format!("devices/{}/telemetry", TOASTER.to_uppercase());
    assert_eq!(control.get(&path), json!({ "registrationId": TOASTER, "count": 0, "messages": [] }));
    let mut client = device.connected(&emulator);
    let long = "ä".repeat(20_000);
    assert!(client.is_acknowledged(&device.events("%24.ct=application%2Fjson&level=a%26b"), r#"{"a":1}"#));
    assert!(client.is_acknowledged(&device.events(""), [0xFF, b'x']));
    assert!(client.is_acknowledged(&device.events(""), long.as_str()));
    let many: Vec<_> = (0..20_000).map(|number| number.to_string()).collect();
    assert!(client.is_acknowledged(&device.events(&many.join("&")[..60_000]), ""));
    let telemetry = control.get(&path);
    let messages = telemetry["messages"].as_array().unwrap();
    assert_eq!((&telemetry["count"], messages.len()), (&json!(4), 4));
    let property = |name: &str, value: &str| json!({ "name": name, "value": value });
    assert_eq!(messages[0]["properties"], json!([property("$.ct", "application/json"), property("level", "a&b")]));
    assert_eq!((&messages[0]["body"], &messages[0]["size"]), (&json!(r#"{"a":1}"#), &json!(7)));
    assert_eq!((&messages[1]["body"], &messages[1]["size"]), (&json!("\u{FFFD}x"), &json!(2)));
    assert_eq!((messages[2]["body"].as_str(), &messages[2]["size"]), (Some(&long[..16 * 1024]), &json!(40_000)));
    let shown: Vec<_> = many[..100].iter().map(|name| property(name, "")).collect();
    assert_eq!(messages[3]["properties"], json!(shown));
    let whole = view(&control, TOASTER);
    assert_eq!((&whole["hub"]["telemetry"], &whole["hub"]["telemetryCount"]), (&telemetry["messages"], &json!(4)));
    assert_eq!(control.get("devices")["devices"][0]["hub"].get("telemetry"), None);
}

/// Readers get at most one event a second about telemetry, few messages are recorded, and no other event is pushed
/// out.
#[test]
fn telemetry_does_not_flood_readers() {
    const MESSAGES: u64 = 4000;
    let (emulator, control) = start();
    let devices = [HubDevice::toaster(&emulator), HubDevice::heat_pump(&emulator)];
    let last = control.get("health")["lastEvent"].as_u64().unwrap();
    let mut events = control.events_after(last);
    let started = Instant::now();
    thread::scope(|scope| {
        for device in &devices {
            let emulator = &emulator;
            scope.spawn(move || {
                let mut client = device.connected(emulator);
                for number in 1..=MESSAGES {
                    // Every hundredth message waits for the hub.
                    let qos = if number % 100 == 0 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                    client.publish(&device.events(""), qos, number.to_string());
                    if qos == QoS::AtLeastOnce {
                        assert!(client.receive().is_some());
                    }
                }
                client.disconnect();
            });
        }
    });
    let (mut told, mut telemetry, mut records) = (0, 0, 0);
    while told < 2 * MESSAGES {
        let (_, kind, data) = events.next();
        match &*kind {
            "telemetry" => {
                told += data["messages"].as_u64().unwrap();
                telemetry += 1;
            }
            "request" if data["method"] == "PUBLISH" => records += 1,
            _ => {}
        }
    }
    let seconds = started.elapsed().as_secs();
    assert_eq!(told, 2 * MESSAGES);
    assert!((1..=seconds + 2).contains(&telemetry), "{telemetry} events in {seconds} s");
    assert!((100..=100 * (seconds / 10 + 2)).contains(&records), "{records} records in {seconds} s");
    assert_eq!(emulator.requests()[0].method, "PUT");
    // A reader that reconnects gets the number of messages.
    let seen = control.events_after(last).until(|kind, _| kind == "telemetry");
    let (.., data) = seen.last().unwrap();
    assert_eq!((&data["messages"], &data["more"]), (&json!(2 * MESSAGES), &json!(0)));
    let mut counts: Vec<_> = data["devices"].as_array().unwrap().iter().map(|sender| sender["count"].clone()).collect();
    counts.dedup();
    assert_eq!(counts, [json!(MESSAGES)]);
    assert_eq!(view(&control, TOASTER)["hub"]["telemetryCount"], json!(MESSAGES));
}

/// No answer and no event has a key or a token of a device, and a reset forgets the activity of devices.
#[test]
fn no_answer_has_a_secret_and_a_reset_forgets_activity() {
    let (emulator, control) = start();
    let device = HubDevice::toaster(&emulator);
    let mut client = device.with_twin(&emulator);
    client.twin();
    client.report(&json!({ "a": 1 }));
    assert!(client.is_acknowledged(&device.events("a=b"), "body"));
    let last = control.get("health")["lastEvent"].as_u64().unwrap();
    let seen = control.events_after(0).until(|_, data| data["number"] == last);
    let paths = ["devices", "requests", &format!("devices/{TOASTER}"), &format!("devices/{TOASTER}/telemetry")];
    let mut everything: String = paths.iter().map(|path| control.get(path).to_string()).collect();
    everything += &format!("{seen:?}");
    for secret in [GROUP_KEY, &device.key, "sig=", "SharedAccessSignature"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    let requests = control.get("requests");
    let hubs: Vec<_> = requests["requests"].as_array().unwrap().iter().map(|request| &request["hub"]).collect();
    assert_eq!(hubs.iter().filter(|hub| **hub == TOASTERS_HUB).count(), 5, "{requests}");
    assert!(hubs[0].is_null());
    control.post("reset", &json!({}));
    assert!(is_dropped(&mut client));
    let again = HubDevice::toaster(&emulator);
    let hub = view(&control, TOASTER)["hub"].clone();
    assert_eq!((&hub["since"], &hub["telemetryCount"], &hub["telemetry"]), (&Value::Null, &json!(0), &json!([])));
    again.connected(&emulator);
}
