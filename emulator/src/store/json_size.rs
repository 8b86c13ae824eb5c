//! Estimates the memory of JSON, such as twins, which are limited.

use serde_json::{Map, Value};

/// The memory of a member of an object: its hash, its place in the index, its name and its value.
const MEMBER: usize = size_of::<(u64, usize, String, Value)>();

/// Returns about how many bytes an object takes.
pub(super) fn map_size(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| MEMBER + name.len() + content(value)).sum()
}

/// Returns how many bytes a value takes in addition to its own size.
fn content(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| size_of::<Value>() + content(value)).sum(),
        Value::Object(members) => map_size(members),
    }
}
