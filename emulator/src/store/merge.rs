//! JSON merge patches.

use serde_json::{Map, Value};

/// Merges a patch into a value (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Merges a patch into an object (RFC 7396).
pub(crate) fn merged(old: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    let mut value = Value::Object(old);
    merge(&mut value, &Value::Object(patch));
    match value {
        Value::Object(members) => members,
        // Both are objects, so the result is an object.
        _ => Map::new(),
    }
}
