//! Twins are read and changed.

use serde_json::{Map, Value, json};

use super::{TOASTERS, assign, connect, hub, keys, token};
use crate::{
    config::Twin,
    hub::{Hub, admitted::Admitted, error::HubError},
    store::twin::DeviceTwin,
};

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn twin_of(hub: &Hub) -> DeviceTwin {
    hub.shared.store.read().devices.get("toaster").unwrap().record().unwrap().twin.clone()
}

fn at_toasters(twin: Twin) -> (Hub, Admitted) {
    let hub = hub();
    assign(&hub, "toaster", TOASTERS, "toaster", keys(), twin);
    let session = hub.admit(&connect(TOASTERS, "toaster", &token(TOASTERS, "toaster"))).unwrap();
    (hub, session)
}

/// The device sees desired and reported properties with their versions, and no tags. Each change adds 1 to the
/// version of its part, and `null` deletes a member.
#[test]
fn a_twin_is_read_and_changed() {
    let (hub, session) =
        at_toasters(Twin { tags: members(&json!({ "floor": 4 })), desired: members(&json!({ "state": "on" })) });
    let document = || -> Value { serde_json::from_str(&hub.twin_document(&session).unwrap()).unwrap() };
    let empty = json!({ "desired": { "state": "on", "$version": 1 }, "reported": { "$version": 1 } });
    assert_eq!(document(), empty);

    for (number, (patch, reported)) in [
        (
            r#"{"fan":{"rpm":100,"on":true},"a":[1,{"b":null}]}"#,
            json!({ "fan": { "rpm": 100, "on": true }, "a": [1, { "b": null }] }),
        ),
        (
            r#" { "fan": { "on": null, "new": { "x": null } } } "#,
            json!({ "fan": { "rpm": 100, "new": {} }, "a": [1, { "b": null }] }),
        ),
        (r#"{"a":null,"unknown":null}"#, json!({ "fan": { "rpm": 100, "new": {} } })),
        (r#"{"fan":7}"#, json!({ "fan": 7 })),
        ("{}", json!({ "fan": 7 })),
    ]
    .into_iter()
    .enumerate()
    {
        let version = number as u64 + 2;
        assert_eq!(hub.report(&session, patch.as_bytes()), Ok(version), "{patch}");
        let mut expected = empty.clone();
        expected["reported"] = reported;
        expected["reported"]["$version"] = json!(version);
        assert_eq!(document(), expected, "{patch}");
    }

    hub.patch_twin_with("toaster", json!({ "tags": { "floor": null, "room": "b" } })).unwrap();
    assert_eq!((twin_of(&hub).tags, twin_of(&hub).desired_version), (members(&json!({ "room": "b" })), 1));
    hub.patch_twin_with("TOASTER", json!({ "desired": { "state": null, "darkness": 3 } })).unwrap();
    assert_eq!(document()["desired"], json!({ "darkness": 3, "$version": 2 }));
    for (id, patch, expected) in [
        ("nobody", json!({}), Some(HubError::NoDevice)),
        ("toaster", json!({ "reported": {} }), None),
        ("toaster", json!({ "desired": 1 }), None),
        ("toaster", json!([]), None),
    ] {
        let error = hub.patch_twin_with(id, patch).unwrap_err();
        assert!(expected.map_or(matches!(error, HubError::Json(_)), |expected| error == expected), "{error}");
    }
    hub.remove_device("toaster").unwrap();
    assert_eq!(hub.patch_twin_with("toaster", json!({ "desired": {} })), Err(HubError::NotAtHub));
    assert_eq!(hub.twin_document(&session), Err(HubError::NotAtHub));
    assert_eq!(hub.report(&session, b"{}"), Err(HubError::NotAtHub));
}

/// A change that exceeds a limit changes nothing, and the body of the answer has an error code.
#[test]
fn a_twin_beyond_a_limit_is_rejected() {
    let (hub, session) = at_toasters(Twin::default());
    let large =
        |length: usize| (0..length / 1000).map(|number| (format!("{number:04}"), json!("x".repeat(996)))).collect();
    assert_eq!(hub.report(&session, &serde_json::to_vec(&Value::Object(large(32_000))).unwrap()), Ok(2));
    let before = twin_of(&hub);
    for (body, why, code) in [
        ("", "the body is not JSON", 400_006),
        (" ", "the body is not JSON", 400_006),
        ("{", "the body is not JSON", 400_006),
        (r#"{"a":1}x"#, "the body is not JSON", 400_006),
        ("[1]", "not an object of reported properties", 400_006),
        ("null", "not an object of reported properties", 400_006),
        (&format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "the body is not JSON", 400_006),
        (r#"{"$version":3}"#, "\"$version\" in reported has", 400_004),
        (r#"{"a.b":null}"#, "\"a.b\" in reported has", 400_004),
        (r#"{"a":4503599627370496}"#, "reported.a is 4503599627370496", 400_004),
        (
            r#"{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":{"j":{"k":null}}}}}}}}}}}"#,
            "has more than 10 levels",
            400_004,
        ),
        (&json!({ "a": "x".repeat(4097) }).to_string(), "reported.a has 4097 bytes of text", 400_004),
        (&json!({ "a": "x".repeat(800) }).to_string(), "reported would have 32801 bytes; the limit is 32768", 400_004),
    ] {
        let error = hub.report(&session, body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
        let answer: Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!((error.status(), &answer["errorCode"]), (400, &json!(code)), "{error}");
        assert_eq!(answer["message"], error.to_string());
        assert_eq!(twin_of(&hub), before, "{why}");
    }
    for (patch, why) in [
        (json!({ "tags": large(9000) }), "tags would have 9000 bytes; the limit is 8192"),
        (json!({ "desired": large(33_000) }), "desired would have 33000 bytes; the limit is 32768"),
        (json!({ "tags": {}, "desired": { "a": { "$b": null } } }), "\"$b\" in desired.a"),
    ] {
        let error = hub.patch_twin_with("toaster", patch).unwrap_err();
        assert!(matches!(&error, HubError::Limit(text) if text.contains(why)), "{why}: {error}");
        assert_eq!(twin_of(&hub), before, "{why}");
    }
}
