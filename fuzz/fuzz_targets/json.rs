//! The JSON reader and serde_json accept the same texts.

#![no_main]

use azure_dps::json::{JsonProblem, Object, Value};
use libfuzzer_sys::fuzz_target;
use serde_json::Value as Json;

fuzz_target!(|text: &str| {
    let theirs = serde_json::from_str::<Json>(text);
    match (Object::parse(text), theirs) {
        (Ok(object), Ok(json)) => {
            for (key, value) in object.members() {
                let key: String = key.chars().collect();
                assert!(json.get(&key).is_some(), "{key}");
                walk(value);
            }
        }
        (Ok(_), Err(error)) => assert!(error.to_string().starts_with("number out of range"), "{error}"),
        (Err(error), Ok(json)) => {
            assert!(!json.is_object() || error.problem == JsonProblem::Depth, "{error}");
        }
        (Err(_), Err(_)) => {}
    }
});

/// An accepted text can be read completely.
fn walk(value: Value<'_>) {
    let raw = value.raw();
    assert!(serde_json::from_str::<Json>(raw).is_ok() || raw.contains(['e', 'E', '0', '9']), "{raw}");
    if let Some(text) = value.text() {
        assert_eq!(serde_json::from_str::<String>(raw).unwrap(), text.to_string());
    }
    if let Some(object) = value.object() {
        object.members().for_each(|(_, value)| walk(value));
    }
    value.elements().for_each(walk);
}
