//! The limits of a twin. Source: the hub's documentation, "Device twin size" and "format".

use std::fmt;

use serde_json::{Map, Value};

use super::enrollments::Twin;
use crate::watch::text::excerpt;

const MAX_NAME: usize = 1024;
const MAX_STRING: usize = 4096;
const MAX_INTEGER: i64 = 4_503_599_627_370_495;
const MIN_INTEGER: i64 = -4_503_599_627_370_496;
const MAX_DEPTH: usize = 10;
const MAX_TAGS: usize = 8 * 1024;
const MAX_DESIRED: usize = 32 * 1024;
const MAX_REPORTED: usize = 32 * 1024;

/// A part of a twin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Tags,
    Desired,
    Reported,
}

impl Part {
    /// Checks that the part may contain these members. The error names the broken limit.
    pub(crate) fn check(self, members: &Map<String, Value>) -> Result<(), String> {
        let (name, limit) = match self {
            Self::Tags => ("tags", MAX_TAGS),
            Self::Desired => ("desired", MAX_DESIRED),
            Self::Reported => ("reported", MAX_REPORTED),
        };
        let size = object_size(&name, members, 1)?;
        if size > limit {
            return Err(format!("{name} would have {size} bytes; the limit is {limit}"));
        }
        Ok(())
    }
}

/// Checks an initial twin.
pub(crate) fn check(twin: &Twin) -> Result<(), String> {
    Part::Tags.check(&twin.tags)?;
    Part::Desired.check(&twin.desired)
}

/// Returns the size of the members as the hub counts it. The error names the broken limit.
fn object_size(path: &dyn fmt::Display, members: &Map<String, Value>, depth: usize) -> Result<usize, String> {
    if depth > MAX_DEPTH {
        return Err(format!("{path} has more than {MAX_DEPTH} levels"));
    }
    let mut size = 0;
    for (name, value) in members {
        let shown = excerpt(name);
        if name.len() > MAX_NAME {
            return Err(format!("a name in {path} has {} bytes; the limit is {MAX_NAME}", name.len()));
        }
        if name.chars().any(|c| c.is_control() || matches!(c, '.' | '$' | ' ')) {
            return Err(format!("{shown:?} in {path} has a control character, a dot, a $ or a space"));
        }
        size += name.len() + value_size(&format_args!("{path}.{shown}"), value, depth)?;
    }
    Ok(size)
}

fn value_size(path: &dyn fmt::Display, value: &Value, depth: usize) -> Result<usize, String> {
    match value {
        Value::Null => Ok(0),
        Value::Bool(_) => Ok(4),
        Value::Number(number) => {
            let is_integer = number.is_i64() || number.is_u64();
            if is_integer && !number.as_i64().is_some_and(|integer| (MIN_INTEGER..=MAX_INTEGER).contains(&integer)) {
                return Err(format!("{path} is {number}; integers go from {MIN_INTEGER} to {MAX_INTEGER}"));
            }
            Ok(8)
        }
        Value::String(text) if text.len() > MAX_STRING => {
            Err(format!("{path} has {} bytes of text; the limit is {MAX_STRING}", text.len()))
        }
        Value::String(text) => Ok(text.len()),
        Value::Array(values) => {
            if depth >= MAX_DEPTH {
                return Err(format!("{path} has more than {MAX_DEPTH} levels"));
            }
            values.iter().map(|value| value_size(path, value, depth + 1)).sum()
        }
        Value::Object(members) => object_size(path, members, depth + 1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_twin_has_limits() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }));
        for (twin, expected) in [
            (json!({ "a": "bc", "d": 1, "e": true, "f": [1, null], "g": { "h": "" } }), Ok(3 + 9 + 5 + 9 + 2)),
            (nested(10), Ok(18)),
            (nested(11), Err("has more than 10 levels")),
            (json!({ "a": nested(9) }), Ok(18)),
            (json!({ "a": [nested(8)] }), Ok(17)),
            (json!({ "a": [nested(9)] }), Err("tags.a.a.a.a.a.a.a.a.a has more than 10 levels")),
            (json!({ "a": MAX_INTEGER }), Ok(9)),
            (json!({ "a": MAX_INTEGER + 1 }), Err("tags.a is 4503599627370496; integers go from")),
            (json!({ "a": { "b": MIN_INTEGER - 1 } }), Err("tags.a.b is -4503599627370497")),
            (json!({ "a": u64::MAX }), Err("tags.a is 18446744073709551615")),
            (json!({ "a": 1e300 }), Ok(9)),
            (json!({ "a": "x".repeat(4096) }), Ok(4097)),
            (json!({ "a": ["x".repeat(4097)] }), Err("tags.a has 4097 bytes of text")),
            (json!({ "x".repeat(1024): 1 }), Ok(1032)),
            (json!({ "x".repeat(1025): 1 }), Err("a name in tags has 1025 bytes")),
            (json!({ "a.b": 1 }), Err("\"a.b\" in tags has")),
            (json!({ "$version": 1 }), Err("\"$version\" in tags has")),
            (json!({ "a": { "b c": 1 } }), Err("\"b c\" in tags.a has")),
            (json!({ "a\n": 1 }), Err("in tags has a control character")),
        ] {
            let size = object_size(&"tags", twin.as_object().unwrap(), 1);
            match expected {
                Ok(bytes) => assert_eq!(size, Ok(bytes), "{twin}"),
                Err(why) => assert!(size.as_ref().is_err_and(|error| error.contains(why)), "{twin}: {size:?}"),
            }
        }
    }
}
