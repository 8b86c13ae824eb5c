//! How much memory twins and other JSON take, which is bounded for all of them.

use serde_json::{Map, Value};

use crate::config::Twin;

/// A member of an object: its hash, its place in the index, its name and its value.
const MEMBER: usize = size_of::<(u64, usize, String, Value)>();

/// About how many bytes a twin takes. As a tree it takes several times its text.
pub(super) fn twin_size(twin: &Twin) -> usize {
    map_size(&twin.tags) + map_size(&twin.desired)
}

/// About how many bytes an object takes.
pub(super) fn map_size(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| MEMBER + name.len() + content(value)).sum()
}

/// What a value takes besides itself.
fn content(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| size_of::<Value>() + content(value)).sum(),
        Value::Object(members) => map_size(members),
    }
}
