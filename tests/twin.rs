//! The twin of a device: valid and invalid messages of a hub, compared with serde_json.

mod support;

use azure_dps::{
    Error,
    after::{
        Hub, HubOutcome,
        twin::{self, Message, Order, Properties, Refusal, TOPIC_LEN, Unreadable},
    },
    error::{BufferTooSmall, Fault, Malformed, PayloadError},
    json::{JsonProblem, MAX_DEPTH},
    provisioning::Sizes,
};
use mqttrs::{Packet, Pid, Publish, QosPid};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use support::*;

const ANSWER: &str = "$iothub/twin/res/200/?$rid=7";
const CHANGE: &str = "$iothub/twin/PATCH/properties/desired/";

fn read(topic: &str, payload: &'static str) -> Result<Message<'static>, Unreadable> {
    twin::read(topic, payload.as_bytes())
}

/// Reads the rejection of request 7.
fn refusal(status: u16, body: &'static str) -> Refusal<'static> {
    match read(&format!("$iothub/twin/res/{status}/?$rid=7"), body) {
        Ok(Message::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Reads the desired change in this payload.
fn change(payload: &str) -> Properties<'_> {
    match twin::read(CHANGE, payload.as_bytes()) {
        Ok(Message::Change(patch)) => patch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_that_hubs_send() {
    let rows = include_str!("vectors/twin-messages.tsv").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for row in rows {
        let [topic, payload, expected] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let message = match twin::read(topic, payload.as_bytes()).unwrap() {
            Message::Twin(twin) => {
                format!("twin {} {} {}", twin.request_id, twin.desired.version(), twin.reported.version())
            }
            Message::Reported { request_id, version } => {
                let version = version.map_or("none".into(), |version| version.to_string());
                format!("reported {request_id} {version}")
            }
            Message::Refused(refusal) => format!("refused {} {}", refusal.request_id, refusal.status),
            Message::Change(patch) => format!("change {}", patch.version()),
            Message::Other => "other".into(),
        };
        assert_eq!(message, expected, "{topic}");
        count += 1;
    }
    assert_eq!(count, 13);
}

#[test]
fn topics_are_the_documented_ones() {
    type Write = fn(u32, &mut [u8]) -> Result<&str, BufferTooSmall>;
    for (request_id, get, report) in [
        (0, "$iothub/twin/GET/?$rid=0", "$iothub/twin/PATCH/properties/reported/?$rid=0"),
        (65_536, "$iothub/twin/GET/?$rid=65536", "$iothub/twin/PATCH/properties/reported/?$rid=65536"),
        (u32::MAX, "$iothub/twin/GET/?$rid=4294967295", "$iothub/twin/PATCH/properties/reported/?$rid=4294967295"),
    ] {
        for (write, expected) in [(twin::write_get_topic as Write, get), (twin::write_report_topic, report)] {
            assert_eq!(write(request_id, &mut [0; TOPIC_LEN]), Ok(expected));
            for size in 0..expected.len() {
                let error = write(request_id, &mut vec![0; size]).unwrap_err();
                assert_eq!((error.needed, error.exact), (expected.len(), true));
            }
        }
        assert!(report.len() <= TOPIC_LEN);
    }
    assert_eq!((twin::ANSWER_FILTER, twin::CHANGE_FILTER), ("$iothub/twin/res/#", &*format!("{CHANGE}#")));
}

#[test]
fn telemetry_has_the_devices_topic_and_a_bag() {
    const SIZES: Sizes = Sizes::new(SCOPE, TOASTER);
    let hub = Hub::new(TOASTERS_HUB, TOASTER).unwrap();
    let start = format!("devices/{TOASTER}/messages/events/");
    assert_eq!(hub.write_telemetry_topic(&[], &mut [0; SIZES.hub_telemetry_topic()]), Ok(&*start));
    for (bag, expected) in [
        (&[("level", "storage")][..], "level=storage"),
        // The form that Microsoft's clients send.
        (
            &[("$.mid", "1"), ("$.ct", "application/json"), ("$.ce", "utf-8")],
            "%24.mid=1&%24.ct=application%2Fjson&%24.ce=utf-8",
        ),
        (&[("a&b=c", "1 + 1"), ("", "")], "a%26b%3Dc=1%20%2B%201&="),
        (&[("Größe", "½/#")], "Gr%C3%B6%C3%9Fe=%C2%BD%2F%23"),
    ] {
        let expected = format!("{start}{expected}");
        let mut buffer = [0; 256];
        assert_eq!(hub.write_telemetry_topic(bag, &mut buffer), Ok(&*expected));
        for size in 0..expected.len() {
            let error = hub.write_telemetry_topic(bag, &mut buffer[..size]).unwrap_err();
            assert_eq!((error.needed, error.exact), (expected.len(), true));
        }
    }
    // The device ID is in the topic without escapes.
    assert_eq!(
        Hub::new(TOASTERS_HUB, "caf+'x").unwrap().write_telemetry_topic(&[], &mut [0; 64]),
        Ok("devices/caf+'x/messages/events/")
    );
}

#[test]
fn the_two_parts_of_a_twin() {
    let body =
        r#" {"reported":{"$version":3},"tags":[{}],"desired":{"a":{"b":[1,{"c":"d"}]},"e":null,"$version":2},"x":0} "#;
    let Ok(Message::Twin(twin)) = read(ANSWER, body) else { panic!() };
    assert_eq!((twin.request_id, twin.desired.version(), twin.reported.version()), (7, 2, 3));
    assert_eq!(twin.desired.object().raw(), r#"{"a":{"b":[1,{"c":"d"}]},"e":null,"$version":2}"#);
    assert_eq!(twin.reported.object().raw(), r#"{"$version":3}"#);
    assert_eq!(twin.desired.get("a").unwrap().raw(), r#"{"b":[1,{"c":"d"}]}"#);
    assert!(twin.desired.get("e").unwrap().is_null());
    assert!(twin.desired.get("x").is_none());
    // Parameters of the topic may come in any order, and their names may have escapes.
    let body = "{\"d\\u0065sired\":{\"\\u0024version\":1},\"reported\":{\"$version\":1}}";
    for topic in [
        "$iothub/twin/res/200/?$rid=7&$version=9",
        "$iothub/twin/res/200/?$version=9&$rid=7",
        "$iothub/twin/res/200?new=1&$rid=7",
        "$iothub/twin/res/0200/?$rid=007",
    ] {
        let Ok(Message::Twin(twin)) = read(topic, body) else { panic!("{topic}") };
        assert_eq!((twin.request_id, twin.desired.version()), (7, 1), "{topic}");
    }
}

#[test]
fn properties_as_a_custom_type() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Settings<'a> {
        state: &'a str,
        #[serde(rename = "darknessSetting")]
        darkness: Option<heapless::String<8>>,
        limits: (i32, f32),
        #[serde(rename = "$version")]
        version: u64,
    }
    let body = r#"{"desired":{"state":"cooking","limits":[-5,80.5],"darknessSetting":"d\u00fcster","unknown":{},"$version":4},"reported":{"$version":1}}"#;
    let Ok(Message::Twin(twin)) = read(ANSWER, body) else { panic!() };
    let settings: Settings<'_> = twin.desired.read_as(&mut [0; 16]).unwrap();
    let darkness = Some("düster".try_into().unwrap());
    assert_eq!(settings, Settings { state: "cooking", darkness, limits: (-5, 80.5), version: 4 });
    assert!(matches!(twin.desired.read_as::<Settings<'_>>(&mut [0; 4]), Err(PayloadError::BufferTooSmall(_))));
    assert_eq!(twin.reported.read_as::<Settings<'_>>(&mut []), Err(PayloadError::Missing("state")));
    assert_eq!(twin.desired.read_as::<(u8, u8)>(&mut []), Err(PayloadError::Unfit));
}

/// An invalid message is an error that names the problem and the request. It is never a twin.
#[test]
fn an_invalid_twin_is_an_error() {
    for (body, expected) in [
        (r#"{"reported":{"$version":1}}"#, Malformed::Missing("desired")),
        (r#"{"desired":{"$version":1}}"#, Malformed::Missing("reported")),
        (r#"{"desired":null,"reported":{"$version":1}}"#, Malformed::Invalid("desired")),
        (r#"{"desired":{"$version":1},"reported":[]}"#, Malformed::Invalid("reported")),
        (r#"{"desired":{"$version":1},"desired":{},"reported":{"$version":1}}"#, Malformed::Duplicate("desired")),
        (r#"{"reported":{},"desired":{"$version":1},"reported":{}}"#, Malformed::Duplicate("reported")),
        (r#"{"desired":{},"reported":{"$version":1}}"#, Malformed::Missing("$version")),
        (r#"{"desired":{"$version":1},"reported":{"a":{"$version":1}}}"#, Malformed::Missing("$version")),
        (r#"{"desired":{"$version":1,"$version":2},"reported":{"$version":1}}"#, Malformed::Duplicate("$version")),
        (r#"{"desired":{"$version":"1"},"reported":{"$version":1}}"#, Malformed::Invalid("$version")),
        (r#"{"desired":{"$version":-1},"reported":{"$version":1}}"#, Malformed::Invalid("$version")),
        (r#"{"desired":{"$version":1.0},"reported":{"$version":1}}"#, Malformed::Invalid("$version")),
        (r#"{"desired":{"$version":1e2},"reported":{"$version":1}}"#, Malformed::Invalid("$version")),
        (r#"{"desired":{"$version":null},"reported":{"$version":1}}"#, Malformed::Invalid("$version")),
        (r#"{"desired":{"$version":10000000000000000000},"reported":{}}"#, Malformed::Invalid("$version")),
    ] {
        let unreadable = read(ANSWER, body).unwrap_err();
        assert_eq!((unreadable.request_id, unreadable.error), (Some(7), Error::Malformed(expected)), "{body}");
        assert_eq!(unreadable.error.fault(), Fault::Peer);
        assert!(unreadable.to_string().starts_with("a message about the twin cannot be read: the service's answer"));
        assert_eq!(Error::from(unreadable), unreadable.error);
    }
    let whole = r#"{"desired":{"$version":1},"reported":{"$version":1}}"#;
    for len in 0..whole.len() {
        let unreadable = read(ANSWER, &whole[..len]).unwrap_err();
        let Error::Malformed(Malformed::Json(error)) = unreadable.error else { panic!("{len}: {unreadable}") };
        assert_eq!((unreadable.request_id, error.problem, error.position), (Some(7), JsonProblem::End, len));
    }
    for body in ["[]", "7", "null", "{}x", "{\"a\":\"\u{0}\"}"] {
        assert!(matches!(read(ANSWER, body).unwrap_err().error, Error::Malformed(Malformed::Json(_))), "{body}");
    }
    let unreadable = twin::read(ANSWER, b"{\"a\":\"\xff\"}").unwrap_err();
    assert!(matches!(unreadable.error, Error::Malformed(Malformed::Json(error)) if error.problem == JsonProblem::Utf8));
    let deep = "[".repeat(MAX_DEPTH);
    let unreadable = twin::read(ANSWER, format!("{{\"a\":{deep}").as_bytes()).unwrap_err();
    assert!(
        matches!(unreadable.error, Error::Malformed(Malformed::Json(error)) if error.problem == JsonProblem::Depth)
    );

    for status in ["", "x", "65536", "4294967296", "-1", "+200", "200.0"] {
        let unreadable = read(&format!("$iothub/twin/res/{status}/?$rid=7"), whole).unwrap_err();
        assert_eq!((unreadable.request_id, unreadable.error), (Some(7), Malformed::MqttTopic.into()), "{status}");
    }
}

#[test]
fn other_messages_are_ignored() {
    for topic in [
        "",
        "$iothub/twin/res",
        "$iothub/twin/res/",
        "$iothub/twin/res/200/",
        "$iothub/twin/res/200/?$rid=",
        "$iothub/twin/res/200/?$rid=-1",
        "$iothub/twin/res/200/?$rid=4294967296",
        "$iothub/twin/res/200/?$rid=8a1d9f3e-0000-4000-8000-000000000000",
        "$iothub/twin/res/200/?rid=7",
        "$iothub/twin/PATCH/properties/reported/?$rid=7",
        "$iothub/twin/PATCH/properties/desired",
        "$iothub/twin/GET/?$rid=7",
        "$IOTHUB/twin/res/200/?$rid=7",
        " $iothub/twin/res/200/?$rid=7",
        "$iothub/methods/POST/reboot/?$rid=7",
        "$iothub/credentials/res/202/?$rid=7",
        "$dps/registrations/res/200/?$rid=7",
        "devices/dev-1/messages/devicebound/%24.to=x",
    ] {
        assert_eq!(read(topic, "no JSON"), Ok(Message::Other), "{topic}");
        assert_eq!(twin::read_skipped(topic, 7), Ok(Message::Other), "{topic}");
    }
}

#[test]
fn a_change_has_its_version_in_topic_and_payload() {
    for (end, payload, expected) in [
        ("?$version=8", r#"{"a":null,"$version":8}"#, Ok(8)),
        ("", r#"{"a":null,"$version":8}"#, Ok(8)),
        ("?$version=8", r#"{"a":null}"#, Ok(8)),
        // The version must be a number.
        ("?$version=x", r#"{"$version":8}"#, Ok(8)),
        ("?$version=9223372036854775807", r#"{"$version":9223372036854775807}"#, Ok(i64::MAX as u64)),
        ("?$version=9", r#"{"a":null,"$version":8}"#, Err(Malformed::Contradiction("$version"))),
        ("?$version=8", r#"{"$version":"8"}"#, Err(Malformed::Invalid("$version"))),
        ("?$version=8", r#"{"$version":8,"$version":8}"#, Err(Malformed::Duplicate("$version"))),
        ("?$rid=8", r#"{"a":1}"#, Err(Malformed::Missing("$version"))),
    ] {
        match (read(&format!("{CHANGE}{end}"), payload), expected) {
            (Ok(Message::Change(patch)), Ok(version)) => {
                assert_eq!((patch.version(), patch.object().raw()), (version, payload));
            }
            (Err(unreadable), Err(malformed)) => {
                assert_eq!((unreadable.request_id, unreadable.error), (None, malformed.into()), "{payload}");
            }
            (read, _) => panic!("{end} {payload}: {read:?}"),
        }
    }
    assert!(matches!(read(CHANGE, "").unwrap_err().error, Error::Malformed(Malformed::Json(_))));
    let patch = change(r#"{"gone":null,"new":{"inner":null},"$version":8}"#);
    assert!(patch.get("gone").unwrap().is_null());
    assert!(patch.get("new").unwrap().object().unwrap().get("inner").unwrap().is_null());
    assert!(patch.get("unchanged").is_none());
}

#[test]
fn a_device_applies_each_change_once_and_sees_a_gap() {
    for (known, version, expected) in [
        (0, 0_u64, Order::Known),
        (0, 1, Order::Next),
        (0, 2, Order::Gap),
        (4, 3, Order::Known),
        (4, 4, Order::Known),
        (4, 5, Order::Next),
        (4, 6, Order::Gap),
        (u64::MAX, 1, Order::Known),
        (u64::MAX, 9_999_999_999_999_999_999, Order::Known),
        (0, 9_999_999_999_999_999_999, Order::Gap),
    ] {
        let payload = format!(r#"{{"$version":{version}}}"#);
        assert_eq!(change(&payload).order(known), expected, "{known} {version}");
    }
}

#[test]
fn rejections_name_who_is_at_fault() {
    use Fault::{Busy, Caller, Credential, Refused};
    for (status, fault, ends_session) in [
        (400, Caller, false),
        (401, Credential, true),
        (403, Credential, true),
        (404, Refused, true),
        (408, Busy, false),
        (409, Refused, false),
        (412, Refused, false),
        (413, Caller, false),
        (429, Busy, false),
        (500, Busy, false),
        (503, Busy, false),
        (599, Busy, false),
        // Undocumented values.
        (0, Refused, false),
        (100, Refused, false),
        (302, Refused, false),
        (65_535, Busy, false),
    ] {
        let refusal = refusal(status, "");
        assert_eq!((refusal.request_id, refusal.status, refusal.fault()), (7, status, fault));
        assert_eq!(refusal.is_retryable(), fault == Busy);
        assert_eq!(refusal.hub_outcome(), ends_session.then_some(HubOutcome::Refused(status)));
        assert_eq!((refusal.code(), refusal.message().is_none(), refusal.details().is_none()), (None, true, true));
    }
    for status in [201, 202, 204, 299] {
        let topic = format!("$iothub/twin/res/{status}/?$rid=7&$version=2");
        assert_eq!(read(&topic, "no JSON"), Ok(Message::Reported { request_id: 7, version: Some(2) }));
    }
}

#[test]
fn a_refusal_has_the_hubs_message() {
    let body = r#"{"errorCode":429002,"trackingId":"T-1","message":"Throttl\u0069ng","timestampUtc":"2026-01-30T12:00:00Z","info":null}"#;
    let throttled = refusal(429, body);
    assert_eq!(throttled.code(), Some(429_002));
    assert!(throttled.message().unwrap() == "Throttling");
    assert!(throttled.details().unwrap().tracking_id().unwrap() == "T-1");
    for (refusal, expected) in [
        (throttled, "the hub refused the request: status 429, code 429002, Throttling: try again later"),
        (refusal(401, "<html>"), "the hub refused the request: status 401: check the key, the token and the clock"),
        (
            refusal(400, r#"{"errorCode":"400004"}"#),
            "the hub refused the request: status 400: check the reported properties",
        ),
        (
            refusal(404, r#"{"message":"Gone"}"#),
            "the hub refused the request: status 404, Gone: this hub does not know the device",
        ),
        (refusal(409, ""), "the hub refused the request: status 409"),
    ] {
        assert_eq!(refusal.to_string(), expected);
    }
}

/// For a client with a buffer of 1 KB: a larger message is skipped, and the session continues.
#[test]
fn a_message_larger_than_the_client_is_skipped() {
    const BUFFER: usize = 1024;
    let large = format!(r#"{{"desired":{{"a":"{}","$version":4}},"reported":{{"$version":1}}}}"#, "x".repeat(32_000));
    let small = r#"{"desired":{"b":1,"$version":4},"reported":{"$version":2}}"#;
    let words = format!(r#"{{"errorCode":400004,"message":"{}"}}"#, "x".repeat(2000));
    let messages = [
        ("$iothub/twin/res/200/?$rid=1", large.as_str(), None),
        ("$iothub/twin/res/204/?$rid=2&$version=2", words.as_str(), Some("Reported")),
        ("$iothub/twin/res/400/?$rid=3", words.as_str(), Some("Refused")),
        ("$iothub/twin/PATCH/properties/desired/?$version=5", large.as_str(), None),
        ("$iothub/twin/res/200/?$rid=4", small, Some("Twin")),
        ("devices/dev-1/messages/devicebound/", large.as_str(), Some("Other")),
    ];
    for (topic, payload, expected) in messages {
        let message = match payload.len() {
            0..=BUFFER => twin::read(topic, payload.as_bytes()),
            len => twin::read_skipped(topic, len),
        };
        match (message, expected) {
            (Ok(message), Some(expected)) => assert!(format!("{message:?}").starts_with(expected), "{topic}"),
            (Err(unreadable), None) => {
                let is_answer = topic.contains("$rid=1");
                assert_eq!(unreadable.request_id, is_answer.then_some(1));
                let Error::BufferTooSmall(error) = unreadable.error else { panic!("{topic}: {unreadable}") };
                assert_eq!((error.needed, error.exact), (large.len(), true));
                assert_eq!(unreadable.error.fault(), Fault::Caller);
            }
            (message, _) => panic!("{topic}: {message:?}"),
        }
    }
    let Ok(Message::Refused(refusal)) = twin::read_skipped("$iothub/twin/res/400/?$rid=3", 2000) else { panic!() };
    assert_eq!((refusal.code(), refusal.fault()), (None, Fault::Caller));
}

/// The length also fits the packets of another client.
#[test]
fn the_longest_answer_is_as_long_as_documented() {
    let (desired, reported) = (r#"{"a":1,"$version":9999999999999999999}"#, r#"{"$version":1}"#);
    let topic = format!("$iothub/twin/res/200/?$rid={}&$version=9999999999999999999", u32::MAX);
    let body = format!(r#"{{"desired":{desired},"reported":{reported}}}"#);
    let publish = Publish {
        dup: false,
        qospid: QosPid::AtLeastOnce(Pid::new()),
        retain: false,
        topic_name: &topic,
        payload: body.as_bytes(),
    };
    let len = mqttrs::encode_slice(&Packet::Publish(publish), &mut [0; 512]).unwrap();
    // The fixed header has 5 bytes in packets of 2 MB and more, and 3 in this one.
    assert_eq!(twin::answer_len(desired.len(), reported.len()), len + 2);
    assert!(matches!(twin::read(&topic, body.as_bytes()), Ok(Message::Twin(_))));
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        "[\"\\\\\u{0}-\u{1f}\u{d7ff}\u{e000}\u{10ffff}]{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::hash_map("[a-z$\"\u{e9}]{0,4}", inner, 0..5)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Generates properties and their version.
fn any_properties() -> impl Strategy<Value = (Json, u64)> {
    (prop::collection::hash_map("[a-z$\"\u{e9}]{0,6}", any_json(), 0..5), 0..10_u64.pow(19)).prop_map(
        |(members, version)| {
            let mut object: serde_json::Map<_, _> = members.into_iter().collect();
            object.insert("$version".into(), version.into());
            (Json::Object(object), version)
        },
    )
}

/// Checks each property by name, as a type and as raw text.
fn assert_are(properties: Properties<'_>, json: &Json, version: u64) {
    assert_eq!(properties.version(), version);
    assert_eq!(&serde_json::from_str::<Json>(properties.object().raw()).unwrap(), json);
    assert_eq!(&properties.read_as::<Json>(&mut [0; 256]).unwrap(), json);
    for (name, value) in json.as_object().unwrap() {
        let raw = properties.get(name).unwrap().raw();
        assert_eq!(&serde_json::from_str::<Json>(raw).unwrap(), value, "{name}");
    }
}

/// Returns the two versions that serde_json reads in a twin.
fn versions(text: &[u8]) -> Option<(u64, u64)> {
    let json: Json = serde_json::from_slice(text).ok()?;
    let version = |part: &str| json.as_object()?.get(part)?.as_object()?.get("$version")?.as_u64();
    Some((version("desired")?, version("reported")?))
}

/// Returns `true` if serde_json rejects the text only because of a number.
fn is_out_of_range(text: &[u8]) -> bool {
    serde_json::from_slice::<Json>(text).is_err_and(|error| error.to_string().starts_with("number out of range"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn twins_are_read_as_serde_json_reads_them(
        (desired, desired_version) in any_properties(),
        (reported, reported_version) in any_properties(),
        other in any_json(),
        request_id: u32,
    ) {
        let json = json!({ "desired": desired, "other": other, "reported": reported });
        for body in [json.to_string(), serde_json::to_string_pretty(&json).unwrap()] {
            let topic = format!("$iothub/twin/res/200/?$rid={request_id}");
            let Ok(Message::Twin(twin)) = twin::read(&topic, body.as_bytes()) else { panic!("{body}") };
            prop_assert_eq!(twin.request_id, request_id);
            assert_are(twin.desired, &desired, desired_version);
            assert_are(twin.reported, &reported, reported_version);
        }
    }

    #[test]
    fn changes_are_read_as_serde_json_reads_them((patch, version) in any_properties(), known: u64) {
        for body in [patch.to_string(), serde_json::to_string_pretty(&patch).unwrap()] {
            let topic = format!("{CHANGE}?$version={version}");
            let Ok(Message::Change(read)) = twin::read(&topic, body.as_bytes()) else { panic!("{body}") };
            assert_are(read, &patch, version);
            let order = match version {
                _ if version <= known => Order::Known,
                _ if version == known + 1 => Order::Next,
                _ => Order::Gap,
            };
            prop_assert_eq!(read.order(known), order);
        }
    }

    /// If serde_json finds no twin, the reader finds none. The versions are the same.
    #[test]
    fn a_changed_byte_is_read_as_serde_json_reads_it(
        (desired, _) in any_properties(),
        (reported, _) in any_properties(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let body = json!({ "desired": desired, "reported": reported }).to_string().into_bytes();
        let at = at.index(body.len());
        for replacement in [&[][..], &[byte], b"\"", b"\\", b",", b"}", b"]", b"0", &[byte, body[at]]] {
            let mut changed = body.clone();
            changed.splice(at..=at, replacement.iter().copied());
            match twin::read(ANSWER, &changed) {
                // The grammar has no largest number, serde_json has one.
                Ok(Message::Twin(_)) if is_out_of_range(&changed) => {}
                Ok(Message::Twin(twin)) => {
                    let ours = (twin.desired.version(), twin.reported.version());
                    prop_assert_eq!(Some(ours), versions(&changed), "{:?}", String::from_utf8_lossy(&changed));
                }
                Ok(other) => panic!("{other:?}"),
                Err(unreadable) => match unreadable.error {
                    // serde_json uses the last of several equal members.
                    Error::Malformed(Malformed::Duplicate(_)) => {}
                    // serde_json reads larger numbers.
                    Error::Malformed(Malformed::Invalid("$version")) => {}
                    _ => prop_assert_eq!(versions(&changed), None, "{:?}", String::from_utf8_lossy(&changed)),
                },
            }
        }
    }

    #[test]
    fn no_topic_or_payload_causes_a_panic(
        topic in "(\\$iothub/twin/(res/|PATCH/properties/desired/))?[0-9]{0,6}[/?&a-z$=]{0,8}(\\$rid=[0-9]{0,11})?(&\\$version=[0-9]{0,21})?",
        payload: Vec<u8>,
        len: usize,
    ) {
        let _ = twin::read(&topic, &payload);
        let _ = twin::read_skipped(&topic, len);
    }
}
