//! MQTT: sessions, topics, QoS, and protocol violations. The packets are made and read by another codec than the
//! emulator's.

mod support;

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use azure_dps_emulator::{Config, Emulator, Operation, RequestRecord, Script};
use bytes::BytesMut;
use hyper_tungstenite::tungstenite::{self, Message};
use rumqttc::{
    MqttOptions, QoS,
    mqttbytes::{
        Protocol,
        v4::{Connect, Packet, PubAck, Publish, Subscribe, SubscribeReasonCode, Unsubscribe},
    },
};
use serde_json::{Value, json};
use support::{mqtt::*, *};

fn with(config: Config) -> Emulator {
    builder(config).http("127.0.0.1:0").https("127.0.0.1:0").mqtt("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap()
}

fn all() -> Emulator {
    with(Config::contoso())
}

fn of_method(emulator: &Emulator, method: &str) -> Vec<RequestRecord> {
    emulator.requests().into_iter().filter(|request| request.method == method).collect()
}

/// Returns the n-th record, and waits for it: a device without an answer does not know when it is made.
fn nth(emulator: &Emulator, method: &str, count: usize) -> RequestRecord {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        let mut records = of_method(emulator, method);
        if records.len() >= count {
            return records.remove(count - 1);
        }
        std::thread::yield_now();
    }
    panic!("the request was not recorded");
}

/// "MQTT 3.1.1, on 8883 with TLS or over WebSocket; payload = same JSON bodies as HTTP."
#[test]
fn both_devices_get_their_hub_over_every_listener() {
    let emulator = all();
    let http = Device::of_group(&emulator, TOASTER).assigned();
    for listener in ["mqtt", "mqtts", "ws", "wss"] {
        for (id, hub) in [(TOASTER, TOASTERS_HUB), (HEAT_PUMP, HEATPUMPS_HUB)] {
            let body = Client::of_group(&emulator, listener, id).provision();
            let state = &body["registrationState"];
            assert_eq!((&state["assignedHub"], &state["deviceId"]), (&json!(hub), &json!(id)));
            assert!(state.as_object().unwrap().keys().eq(http.as_object().unwrap().keys()), "{state}");
            let requests = emulator.requests();
            let last = requests.last().unwrap();
            assert_eq!((last.listener, last.method.as_str(), last.http_status), (listener, "GET", Some(200)));
            assert_eq!((last.registration_id.as_deref(), last.authorization), (Some(id), true));
            assert_eq!(last.response_body, body.to_string());
        }
    }
    assert_eq!(emulator.webhook_calls().len(), 9);
    assert_eq!(emulator.device(TOASTER).unwrap().registrations, 5);
    assert!(!format!("{:?}", emulator.requests()).contains("sig="));
}

/// An ordinary client, which sends pings and acknowledgements on its own.
#[test]
fn an_ordinary_mqtt_client_works() {
    let emulator = all();
    let port = emulator.mqtt_url().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    let mut options = MqttOptions::new(TOASTER, "127.0.0.1", port);
    let user_name = format!("{SCOPE}/registrations/{TOASTER}/api-version=2019-03-31");
    options.set_credentials(user_name, token(&derive(GROUP_KEY, TOASTER), TOASTER));
    let (client, mut connection) = rumqttc::Client::new(options, 10);
    client.subscribe(FILTER, QoS::AtLeastOnce).unwrap();
    client.publish(REGISTER, QoS::AtLeastOnce, false, "{}").unwrap();
    for event in connection.iter() {
        let rumqttc::Event::Incoming(Packet::Publish(publish)) = event.unwrap() else { continue };
        let body: Value = serde_json::from_slice(&publish.payload).unwrap();
        if publish.topic.contains("/res/200/") {
            assert_eq!(body["registrationState"]["assignedHub"], TOASTERS_HUB);
            return;
        }
        let topic = poll_topic(body["operationId"].as_str().unwrap());
        client.publish(topic, QoS::AtLeastOnce, false, "").unwrap();
    }
    panic!("the connection ended");
}

/// "CONNACK can be 0 and then res/401/… errorCode 401000 comes after register". "CONNACK 4/5 are also possible" with
/// a setting.
#[test]
fn a_bad_token_is_rejected_at_register_or_at_connect() {
    let emulator = all();
    let other_scope = token(&derive(GROUP_KEY, TOASTER), TOASTER).replace("0ne", "0nf");
    let passwords = ["", "no token", &token(OTHER_KEY, TOASTER), &other_scope];
    for password in passwords {
        let mut client = Client::open(&emulator, "mqtt", TOASTER);
        assert_eq!(client.connect(password), Some(0));
        client.subscribe(FILTER, QoS::AtLeastOnce);
        for topic in [REGISTER, &poll_topic("5.0")] {
            let (topic, body) = client.ask(topic, "");
            assert!(topic.starts_with("401/?$rid="), "{topic}");
            assert_eq!((&body["errorCode"], &body["message"]), (&json!(401_000), &json!("Unauthorized")));
        }
    }
    emulator.update(|config| config.behaviour.refuse_at_connect = true);
    for password in passwords {
        let mut client = Client::open(&emulator, "mqtt", TOASTER);
        assert_eq!(client.connect(password), Some(5));
        assert!(client.receive().is_none());
    }
    assert_eq!(Client::toaster(&emulator).assigned_hub(), TOASTERS_HUB);
    assert_eq!(emulator.requests()[0].outcome, "connected");
}

/// A token is checked at CONNECT. If it expires later, the session continues.
#[test]
fn a_token_is_checked_at_connect() {
    let emulator = all();
    let sr = format!("{SCOPE}%2Fregistrations%2F{TOASTER}");
    let (se, mut client) = loop {
        // The last second before the expiry, if it is the present second.
        let se = now();
        let sig = sign(&derive(GROUP_KEY, TOASTER), &sr, se);
        let mut client = Client::open(&emulator, "mqtt", TOASTER);
        assert_eq!(client.connect(&format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}")), Some(0));
        if now() == se {
            break (se, client);
        }
    };
    client.subscribe(FILTER, QoS::AtMostOnce);
    while now() <= se {
        client.send(&Packet::PingReq);
        assert_eq!(client.receive(), Some(Packet::PingResp));
    }
    assert_eq!(client.assigned_hub(), TOASTERS_HUB);
}

/// MQTT 3.1.1: "0x01 unacceptable protocol version", "0x02 identifier rejected", "0x04 the data in the user name or
/// password is malformed". Then the connection is closed.
#[test]
fn a_malformed_connect_is_refused_in_connack() {
    let emulator = with({
        let mut config = Config::contoso();
        config.behaviour.strict_api_version = true;
        config
    });
    let version = "api-version=2019-03-31";
    for (client_id, user_name, code) in [
        (TOASTER, format!("{SCOPE}/registrations/{TOASTER}/{version}"), 0),
        (TOASTER, format!("{SCOPE}/registrations/{TOASTER}/ClientVersion=a/b&{version}"), 0),
        (TOASTER, format!("another/registrations/{}/{version}", TOASTER.to_uppercase()), 0),
        (HEAT_PUMP, format!("{SCOPE}/registrations/{TOASTER}/{version}"), 2),
        ("", format!("{SCOPE}/registrations/{TOASTER}/{version}"), 2),
        (TOASTER, String::new(), 4),
        (TOASTER, TOASTER.to_owned(), 4),
        (TOASTER, format!("{SCOPE}/registrations/{TOASTER}"), 4),
        (TOASTER, format!("{SCOPE}/registrations/{TOASTER}/?{version}"), 4),
        (TOASTER, format!("{SCOPE}/registrations/{TOASTER}/api-version=2031-01-01"), 4),
        (TOASTER, format!("/{TOASTER}/?{version}"), 4),
    ] {
        let mut client = Client::open(&emulator, "mqtt", TOASTER);
        let mut connect = Connect::new(client_id);
        connect.set_login(user_name.clone(), "");
        assert_eq!(client.connect_with(connect), Some(code), "{user_name}");
        assert!(code == 0 || client.receive().is_none());
        let record = emulator.requests().pop().unwrap();
        assert_eq!((record.method.as_str(), record.path, record.http_status), ("CONNECT", user_name, None));
    }
    let mut client = Client::open(&emulator, "mqtt", TOASTER);
    let version_5 = Connect { protocol: Protocol::V5, ..client.packet("") };
    assert_eq!(client.connect_with(version_5), Some(1));
    let mut client = Client::open(&emulator, "mqtt", TOASTER);
    client.write(b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01x");
    assert_eq!(client.connack(), Some(1));
    assert!(client.receive().is_none());
}

/// A script can answer CONNECT with any return code, with nothing, or with garbage.
#[test]
fn a_script_answers_a_connect() {
    let emulator = all();
    for code in 1..=5 {
        emulator.script(Script::connack(code));
        let mut client = Client::open(&emulator, "mqtt", TOASTER);
        assert_eq!(client.connect(""), Some(code));
        assert!(client.receive().is_none());
    }
    assert_eq!(emulator.requests().last().unwrap().outcome, "answered by a script");
    emulator.script(Script::connack(3).for_device(HEAT_PUMP));
    emulator.script(Script::drop_connection(Operation::Connect).for_device(TOASTER));
    assert_eq!(Client::open(&emulator, "mqtt", TOASTER).connect(""), None);
    assert_eq!(Client::open(&emulator, "mqtt", HEAT_PUMP).connect(""), Some(3));
    emulator.script(Script::raw(Operation::Connect, &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]));
    let mut client = Client::open(&emulator, "mqtt", TOASTER);
    client.send(&Packet::Connect(client.packet("")));
    let mut answer = vec![];
    client.wire.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"));
    assert_eq!(Client::toaster(&emulator).assigned_hub(), TOASTERS_HUB);
}

/// "QoS 0 or 1; QoS 2 is granted 1. Server sends responses at subscribed QoS". The QoS of the request does not
/// matter. A QoS-1 request is acknowledged.
#[test]
fn answers_have_the_granted_qos() {
    let emulator = all();
    let (zero, one, two) = (QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce);
    for (asked, level) in [(zero, zero), (one, one), (two, one)] {
        let mut client = Client::toaster(&emulator);
        assert_eq!(client.subscribe(FILTER, asked), granted(level));
        for published in [zero, one] {
            client.publish(REGISTER, published, "");
            if published == one {
                assert_eq!(client.receive(), Some(Packet::PubAck(PubAck::new(9))));
            }
            assert_eq!(client.message().0, level);
        }
    }
}

/// "It only supports the documented topic names and topic filters": other filters are rejected. Without a
/// subscription, an answer is only recorded.
#[test]
fn only_the_documented_filter_is_granted() {
    let emulator = all();
    let mut client = Client::open(&emulator, "mqtt", TOASTER);
    client.connect(&token(&derive(GROUP_KEY, TOASTER), TOASTER));
    for filter in ["#", "$dps/registrations/res/+", "$dps/registrations/res/200/#", "$dps/#", "other"] {
        assert_eq!(client.subscribe(filter, QoS::AtMostOnce), SubscribeReasonCode::Failure, "{filter}");
    }
    let refused = emulator.requests().pop().unwrap();
    assert_eq!((refused.method.as_str(), refused.path.as_str()), ("SUBSCRIBE", "other"));
    assert!(refused.outcome.contains(FILTER));

    let unheard = |client: &mut Client, count| {
        client.publish(REGISTER, QoS::AtMostOnce, "");
        client.send(&Packet::PingReq);
        assert_eq!(client.receive(), Some(Packet::PingResp));
        let record = nth(&emulator, "PUT", count);
        assert_eq!((record.http_status, record.outcome.contains("has not subscribed")), (None, true));
    };
    unheard(&mut client, 1);
    client.subscribe(FILTER, QoS::AtMostOnce);
    client.register();
    let mut unsubscribe = Unsubscribe::new(FILTER);
    unsubscribe.pkid = 8;
    client.send(&Packet::Unsubscribe(unsubscribe));
    assert!(matches!(client.receive(), Some(Packet::UnsubAck(ack)) if ack.pkid == 8));
    unheard(&mut client, 3);
}

/// "CS sends an empty payload when no custom data; NEW omits registrationId → the ID comes from CONNECT". Wrong
/// bodies are rejected as over HTTP.
#[test]
fn unusual_register_bodies_are_accepted_or_rejected() {
    let emulator = all();
    let mut client = Client::toaster(&emulator);
    let payload = r#"{"payload":{"a":1}}"#;
    let own = format!(r#"{{"registrationId":"{}"}}"#, TOASTER.to_uppercase());
    let long = format!(r#"{{"payload":{{"x":"{}"}}}}"#, "x".repeat(96 * 1024));
    for (body, status, code) in [
        ("", "202", Value::Null),
        (" ", "202", Value::Null),
        ("{}", "202", Value::Null),
        (payload, "202", Value::Null),
        (&own, "202", Value::Null),
        (r#"{"registrationId":"other"}"#, "400", json!(400_004)),
        (r#"{"registrationId":7}"#, "400", json!(400_012)),
        ("[]", "400", json!(400_012)),
        ("\0", "400", json!(400_012)),
        (&long, "413", json!(413_000)),
    ] {
        let (topic, answer) = client.ask(REGISTER, body);
        assert_eq!((topic.split('/').next(), &answer["errorCode"]), (Some(status), &code), "{body:.40}");
    }
    let records = of_method(&emulator, "PUT");
    assert_eq!(
        (records[3].body.as_str(), records[3].http_status, records[3].retry_after),
        (payload, Some(202), Some(3))
    );
    assert_eq!((records[9].http_status, records[9].body.as_str()), (Some(413), ""));
}

/// "Payload ignored (empty, `" "` in PY/ND, or JSON)."
#[test]
fn a_polls_body_is_ignored() {
    let emulator = all();
    let mut client = Client::toaster(&emulator);
    let operation_id = client.register();
    client.poll(&operation_id);
    for body in ["", " ", "{}", r#"{"registrationId":"other"}"#, "{{{", "\u{0}"] {
        let (topic, answer) = client.ask(&poll_topic(&operation_id), body);
        assert_eq!((topic.as_str(), &answer["status"]), ("200/?$rid=2", &json!("assigned")), "{body:?}");
    }
}

/// "`$rid` is any string: counter (C), fixed `1` (EC), UUID (PY, ND)". The parameters may come in any order.
#[test]
fn a_request_id_is_returned_as_sent() {
    let emulator = all();
    let mut client = Client::toaster(&emulator);
    let uuid = "6f1d8a02-0d0a-4c3e-9a0e-1c2b3d4e5f60";
    for request_id in ["1", "0007", uuid, "", "a/b c%20=?", "gerät", &"9".repeat(4000)] {
        let (topic, body) = client.ask(&format!("$dps/registrations/PUT/iotdps-register/?$rid={request_id}"), "");
        assert_eq!(topic, format!("202/?$rid={request_id}&retry-after=3"));
        let operation_id = body["operationId"].as_str().unwrap();
        client.poll(operation_id);
        let status = "$dps/registrations/GET/iotdps-get-operationstatus/?";
        for query in [
            format!("$rid={request_id}&operationId={operation_id}"),
            format!("operationId={operation_id}&$rid={request_id}"),
            format!("new=1&operationId={}&$rid={request_id}&other", operation_id.replace('.', "%2E")),
        ] {
            let (topic, body) = client.ask(&format!("{status}{query}"), "");
            assert_eq!((topic, &body["status"]), (format!("200/?$rid={request_id}"), &json!("assigned")));
        }
    }
    let (topic, body) = client.ask(&poll_topic("5.unknown"), "");
    assert_eq!((topic.as_str(), &body["errorCode"]), ("404/?$rid=2", &json!(404_201)));
}

/// Errors of quotas, enrollments and the webhook are the same as over HTTP.
#[test]
fn errors_are_the_same_over_both_protocols() {
    let emulator = all();
    // A device that the tutorial's webhook does not know, and a webhook that fails.
    let body = Client::of_group(&emulator, "mqtt", "somebody-else").provision();
    let state = &body["registrationState"];
    assert_eq!((&body["status"], &state["errorCode"]), (&json!("failed"), &json!(400_207)));
    emulator.contoso().unwrap().respond(403, "");
    let body = Client::toaster(&emulator).provision();
    assert_eq!(body["registrationState"]["errorMessage"], "Custom allocation failed with status code: 403");

    // An operation that started over HTTP is polled over MQTT.
    let operation_id = Device::of_group(&emulator, HEAT_PUMP).register();
    let body = Client::of_group(&emulator, "mqtt", HEAT_PUMP).poll(&operation_id);
    assert_eq!(body["registrationState"]["assignedHub"], HEATPUMPS_HUB);

    let mut client = Client::toaster(&emulator);
    emulator.update(|config| config.behaviour.registrations_per_minute = Some(0));
    let (topic, body) = client.ask(REGISTER, "");
    assert_eq!((topic.as_str(), &body["errorCode"]), ("429/?$rid=1&retry-after=3", &json!(429_001)));
    emulator.update(|config| {
        config.behaviour.registrations_per_minute = None;
        config.enrollment_groups.clear();
    });
    let (topic, body) = client.ask(REGISTER, "");
    assert_eq!((topic.as_str(), &body["errorCode"]), ("404/?$rid=1", &json!(404_201)));
    emulator.update(|config| config.behaviour.not_found_as_failed = true);
    let (topic, body) = client.ask(REGISTER, "");
    assert_eq!((topic.as_str(), &body["registrationState"]["errorCode"]), ("200/?$rid=1", &json!(404_201)));
}

/// "Parse the tail as a query string in any order (EC tests put retry-after first)", "assigning without retry-after
/// is a failure" (NX), and every script that HTTP has.
#[test]
fn scripts_change_answers() {
    let emulator = all();
    let mut client = Client::toaster(&emulator);
    emulator.script(Script::permute_topic(Operation::Register));
    assert_eq!(client.ask(REGISTER, "").0, "202/?retry-after=3&$rid=1");
    emulator.script(Script::omit_retry_after(Operation::Register));
    assert_eq!(client.ask(REGISTER, "").0, "202/?$rid=1");
    assert_eq!(of_method(&emulator, "PUT").last().unwrap().retry_after, None);
    emulator.script(Script::respond(Operation::Register, 503, &[("Retry-After", "7")], "busy"));
    assert_eq!(client.ask(REGISTER, ""), ("503/?$rid=1&retry-after=7".to_owned(), json!("busy")));
    emulator.script(Script::respond(Operation::Status, 429, &[], ""));
    assert_eq!(client.ask(&poll_topic("5.0"), ""), ("429/?$rid=2".to_owned(), json!("")));
    emulator.script(Script::merge(Operation::Register, json!({ "status": "pondering", "operationId": null })));
    assert_eq!(client.ask(REGISTER, "").1, json!({ "status": "pondering" }));
    emulator.script(Script::delay(Operation::Register, Duration::from_secs(1000)));
    client.publish(REGISTER, QoS::AtMostOnce, "");
    // A slow answer does not delay other messages.
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Some(Packet::PingResp));
    assert_eq!(client.message().1, "202/?$rid=1&retry-after=3");
}

/// Over HTTP, a script can also omit `Retry-After`.
#[test]
fn http_can_omit_retry_after_as_well() {
    let emulator = all();
    emulator.script(Script::omit_retry_after(Operation::Register));
    let device = Device::of_group(&emulator, TOASTER);
    assert!(!device.put().headers().contains_key("retry-after"));
    assert!(device.put().headers().contains_key("retry-after"));
}

/// A script can lose an answer, or a part of it. The request is still processed.
#[test]
fn scripts_cut_the_link() {
    let emulator = all();
    for listener in ["mqtt", "mqtts", "ws", "wss"] {
        for (script, answer) in [
            (Script::drop_connection(Operation::Register), &b""[..]),
            (Script::cut(Operation::Register, 3), b"\x32"),
            (Script::raw(Operation::Register, &b"\xf0\x00noise"[..]), b"\xf0\x00noise"),
        ] {
            let mut client = Client::of_group(&emulator, listener, TOASTER);
            emulator.script(script);
            client.publish(REGISTER, QoS::AtMostOnce, "");
            let mut received = vec![];
            let _ = client.wire.read_to_end(&mut received);
            assert!(received.starts_with(answer), "{received:?}");
            assert_eq!(received.len(), if answer == b"\x32" { 3 } else { answer.len() });
        }
    }
    let cut = &of_method(&emulator, "PUT")[0];
    assert_eq!((cut.http_status, cut.outcome.contains("cut after 0 bytes")), (None, true));
}

/// A script is used up by the answer that it is for.
#[test]
fn a_script_breaks_the_link_of_a_device_that_has_not_subscribed_too() {
    let emulator = all();
    let mut client = Client::open(&emulator, "mqtt", TOASTER);
    assert_eq!(client.connect(""), Some(0));
    emulator.script(Script::drop_connection(Operation::Register));
    client.publish(REGISTER, QoS::AtMostOnce, "");
    assert!(client.receive().is_none());
    assert!(nth(&emulator, "-", 1).outcome.contains("a script"));
}

/// "The oldest are forgotten after 10 000, or 64 MiB of text".
#[test]
fn the_record_of_requests_is_limited() {
    const LONG: usize = 64_000;
    let emulator = all();
    let mut client = Client::open(&emulator, "mqtt", &"x".repeat(LONG));
    assert_eq!(client.connect(""), Some(0));
    for _ in 0..64 * 1024 * 1024 / LONG + 10 {
        client.publish(REGISTER, QoS::AtMostOnce, "");
        client.send(&Packet::PingReq);
        assert!(client.receive().is_some());
    }
    let text: usize =
        emulator.requests().iter().filter_map(|request| Some(request.registration_id.as_ref()?.len())).sum();
    assert!((32..=64).contains(&(text / 1024 / 1024)), "{text}");
}

/// A device that disconnects during a poll finds its operation again, and its last request is processed.
#[test]
fn an_abrupt_disconnect_loses_no_registration() {
    let emulator = all();
    let mut client = Client::toaster(&emulator);
    let operation_id = client.register();
    client.publish(&poll_topic(&operation_id), QoS::AtLeastOnce, " ");
    drop(client);
    let body = Client::toaster(&emulator).poll(&operation_id);
    assert_eq!(body["registrationState"]["assignedHub"], TOASTERS_HUB);

    let mut pump = Client::of_group(&emulator, "mqtt", HEAT_PUMP);
    pump.publish(REGISTER, QoS::AtMostOnce, "");
    pump.send(&Packet::Disconnect);
    assert!(pump.receive().is_none_or(|packet| matches!(packet, Packet::Publish(_))));
    let started = Instant::now();
    while emulator.device(HEAT_PUMP).is_none() {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
}

/// "If the Server does not receive a Control Packet within one and a half times the Keep Alive time period, it MUST
/// disconnect". PINGREQ is a control packet.
#[test]
fn a_silent_device_is_cut_off() {
    let emulator = all();
    let mut client = Client::open(&emulator, "mqtt", TOASTER);
    let connect = Connect { keep_alive: 1, ..client.packet("") };
    assert_eq!(client.connect_with(connect), Some(0));
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Some(Packet::PingResp));
    let silent = Instant::now();
    assert!(client.receive().is_none());
    assert!((1.4..10.0).contains(&silent.elapsed().as_secs_f64()), "{:?}", silent.elapsed());
    assert!(nth(&emulator, "-", 1).outcome.contains("not even a ping"));
}

/// "Server may simply drop the TCP link on protocol errors": the emulator does so, the log says why, and other
/// devices are still served.
#[test]
fn a_client_that_violates_the_protocol_is_disconnected() {
    let emulator = all();
    let mut other = Client::of_group(&emulator, "mqtt", HEAT_PUMP);
    let publish = |topic: &str, qos| {
        let mut publish = Publish::new(topic, qos, "");
        publish.pkid = 3;
        let mut bytes = BytesMut::new();
        Packet::Publish(publish).write(&mut bytes, usize::MAX).unwrap();
        bytes.to_vec()
    };
    let unknown = "$dps/registrations/POST/something/?$rid=1";
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x";
    for (bytes, why) in [
        (connect.to_vec(), "an unexpected Connect"),
        ([&connect[..8], b"\x05", &connect[9..]].concat(), "another protocol"),
        (b"\x20\x02\x00\x00".to_vec(), "an unexpected Connack"),
        (publish(unknown, QoS::AtMostOnce), unknown),
        (publish("$dps/registrations/PUT/iotdps-register/", QoS::AtMostOnce), "a message to"),
        (publish(&poll_topic("")[..60], QoS::AtMostOnce), "a message to"),
        (publish(&format!("{REGISTER}#"), QoS::AtMostOnce), "invalid topic name"),
        (publish(REGISTER, QoS::ExactlyOnce), "QoS 2"),
        (b"\xf0\x00".to_vec(), "invalid header"),
        (b"\xc1\x00".to_vec(), "invalid header"),
        (b"\x82\x02\x00\x07".to_vec(), "empty subscription"),
        (b"\x82\x06\x00\x07\x00\xffab".to_vec(), "shorter than its content"),
        (b"\x30\xff\xff\xff\x7f".to_vec(), "more than 327680 bytes"),
        (b"\x30\xff\xff\xff\xff\x01".to_vec(), "integer"),
        (b"\x30\x04\x00\x02\xff\xff".to_vec(), "invalid string"),
    ] {
        let before = of_method(&emulator, "-").len();
        let mut client = Client::toaster(&emulator);
        client.write(&bytes);
        assert!(client.receive().is_none());
        let dropped = of_method(&emulator, "-");
        assert_eq!(dropped.len(), before + 1);
        assert!(dropped[before].outcome.contains(why), "{} / {why}", dropped[before].outcome);
    }
    for bytes in [&b"\xc0\x00"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x10\x00", b""] {
        let mut stream = tcp(emulator.mqtt_url().unwrap());
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    assert_eq!(other.assigned_hub(), HEATPUMPS_HUB);
}

/// "WS: subprotocol `mqtt`. Path: `/$iothub/websocket` (C, ND, NX), root `/` (CS, JV) → not
/// enforced."
#[test]
fn a_websocket_is_for_subprotocol_mqtt_on_any_path() {
    let emulator = all();
    let root = ws_url(&emulator);
    for path in ["", "$iothub/websocket", "any/thing?x=1"] {
        let url = format!("{root}{path}");
        let mut client = Client::new(Frames(websocket(&url, Some("mqtt"), tcp(&url)).unwrap(), vec![]), TOASTER);
        assert_eq!(client.connect(""), Some(0));
    }
    for subprotocol in [None, Some("mqttv3.1"), Some("amqp")] {
        let Err(tungstenite::Error::Http(response)) = websocket(&root, subprotocol, tcp(&root)) else {
            panic!("upgraded")
        };
        assert_eq!(response.status(), 400);
        let refused = emulator.requests().pop().unwrap();
        assert_eq!((refused.listener, refused.http_status), ("ws", Some(400)));
        assert!(refused.outcome.contains("subprotocol"), "{}", refused.outcome);
    }
    // Microsoft's client for C offers `MQTT` in every release. The answer has the same spelling.
    for subprotocol in ["MQTT", "Mqtt", "amqp, MQTT", "mqttv5, MQTT, mqtt"] {
        let url = format!("{root}$iothub/websocket");
        let websocket = websocket(&url, Some(subprotocol), tcp(&url)).unwrap();
        let mut client = Client::new(Frames(websocket, vec![]), TOASTER);
        assert_eq!(client.connect(""), Some(0), "{subprotocol}");
    }
    // "MQTT Control Packets MUST be sent in WebSocket binary data frames."
    let mut text = websocket(&root, Some("mqtt"), tcp(&root)).unwrap();
    text.send(Message::text("\u{10}\u{0}")).unwrap();
    assert!(text.read().is_err() || text.read().is_err());
    let dropped = nth(&emulator, "-", 1);
    let why = "the WebSocket was dropped: a text frame, but MQTT needs binary frames";
    assert_eq!((dropped.listener, dropped.outcome.as_str()), ("ws", why));
    let mut client = Client::open(&emulator, "ws", TOASTER);
    client.write(b"\xf0\x00");
    assert!(client.receive().is_none());
    assert_eq!(nth(&emulator, "-", 2).outcome, "the MQTT session did not start: invalid header");
}

/// A packet is one frame, or a few if it is long, because a client for small devices may read one frame at a time.
#[test]
fn a_packet_is_not_cut_into_small_frames() {
    let emulator = all();
    let payload = json!({ "x": "x".repeat(40_000) });
    let answer = json!({ "iotHubHostName": TOASTERS_HUB, "payload": payload }).to_string();
    emulator.contoso().unwrap().respond(200, answer);
    let url = ws_url(&emulator);
    let mut websocket = websocket(&url, Some("mqtt"), tcp(&url)).unwrap();
    let mut ask = |packet: Packet| {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        websocket.send(Message::binary(bytes.to_vec())).unwrap();
        // The frames of the answer.
        let (mut received, mut frames) = (BytesMut::new(), 0);
        loop {
            received.extend_from_slice(&websocket.read().unwrap().into_data());
            frames += 1;
            if let Ok(packet) = Packet::read(&mut received, usize::MAX) {
                return (packet, frames);
            }
        }
    };
    let connect = Client::new(tcp(&url), TOASTER).packet(&token(&derive(GROUP_KEY, TOASTER), TOASTER));
    assert_eq!(ask(Packet::Connect(connect)).1, 1);
    let mut subscribe = Subscribe::new(FILTER, QoS::AtMostOnce);
    subscribe.pkid = 1;
    assert_eq!(ask(Packet::Subscribe(subscribe)).1, 1);
    let mut publish = |topic: &str| {
        let (Packet::Publish(publish), frames) = ask(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, ""))) else {
            panic!("no message")
        };
        (serde_json::from_slice::<Value>(&publish.payload).unwrap(), frames)
    };
    let (registered, frames) = publish(REGISTER);
    assert_eq!(frames, 1);
    let topic = poll_topic(registered["operationId"].as_str().unwrap());
    let started = Instant::now();
    loop {
        let (polled, frames) = publish(&topic);
        if polled["status"] == "assigned" {
            assert_eq!(polled["registrationState"]["payload"], payload);
            assert!(frames <= 4, "{frames} frames for 40 KB");
            break;
        }
        assert_eq!(frames, 1);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

/// "A single WebSocket data frame can contain multiple or partial MQTT Control Packets", and so can a TCP segment.
#[test]
fn packets_are_cut_out_of_the_stream() {
    let emulator = all();
    for listener in ["mqtt", "ws"] {
        let mut client = Client::open(&emulator, listener, TOASTER);
        let mut bytes = BytesMut::new();
        let connect = client.packet(&token(&derive(GROUP_KEY, TOASTER), TOASTER));
        Packet::Connect(connect).write(&mut bytes, usize::MAX).unwrap();
        let mut subscribe = Subscribe::new(FILTER, QoS::AtMostOnce);
        subscribe.pkid = 1;
        Packet::Subscribe(subscribe).write(&mut bytes, usize::MAX).unwrap();
        for _ in 0..20 {
            Packet::Publish(Publish::new(REGISTER, QoS::AtMostOnce, "")).write(&mut bytes, usize::MAX).unwrap();
        }
        let (first, rest) = bytes.split_at(100);
        for byte in first {
            client.write(&[*byte]);
        }
        client.write(rest);
        assert_eq!(client.connack(), Some(0));
        assert!(matches!(client.receive(), Some(Packet::SubAck(_))));
        for _ in 0..20 {
            assert_eq!(client.message().1, "202/?$rid=1&retry-after=3");
        }
    }
}

/// The emulator can listen for MQTT only, and stops with open sessions.
#[test]
fn mqtt_works_alone_and_stops_when_it_is_dropped() {
    let emulator = builder(Config::contoso()).mqtt("127.0.0.1:0").start().unwrap();
    assert_eq!((emulator.http_url(), emulator.mqtts_url(), emulator.wss_url()), (None, None, None));
    assert!(emulator.mqtt_url().unwrap().starts_with("mqtt://127.0.0.1:"));
    let mut client = Client::toaster(&emulator);
    emulator.contoso().unwrap().respond_after(Duration::from_secs(600), 200, "{}");
    client.register();
    let started = Instant::now();
    drop(emulator);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(client.receive().is_none());
}
