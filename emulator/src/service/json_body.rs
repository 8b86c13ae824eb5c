//! Reads the JSON of clients of the service API.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer as Source,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Deserializer, Value, error::Category};
use serde_path_to_error::{Error, Path, deserialize};

use super::error::ServiceError;

/// Reads a body. Errors name the path of the wrong member.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ServiceError> {
    let mut deserializer = Deserializer::from_slice(body);
    let Whole(value) = deserialize(&mut deserializer).map_err(|error| fault(&error))?;
    deserializer.end().map_err(|error| ServiceError::bad_request(format!("the body is not JSON: {error}")))?;
    value.ok_or_else(|| bad_member("the body", "an object is expected"))
}

/// Reads a part of a body.
pub(super) fn read_value<T: DeserializeOwned>(value: Value) -> Result<T, ServiceError> {
    let Whole(value) = deserialize(value).map_err(|error| fault(&error))?;
    value.ok_or_else(|| bad_member("the item", "an object is expected"))
}

/// Reads an object or `null`. Rejects an array, which serde would accept as the values of an object.
pub(super) fn object<'de, D: Source<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

/// An object, read as a whole.
struct Whole<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Source<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

/// Returns the error for a member that cannot be used. A quoted text may be long.
pub(super) fn bad_member(member: &str, why: impl fmt::Display) -> ServiceError {
    const MOST: usize = 500;
    ServiceError::bad_request(format!("{member}: {why}").chars().take(MOST).collect::<String>())
}

fn fault(error: &Error<serde_json::Error>) -> ServiceError {
    let (path, error) = (error.path(), error.inner());
    let text = error.to_string();
    if error.classify() != Category::Data {
        return ServiceError::bad_request(format!("the body is not JSON: {text}"));
    }
    // The error of serde quotes the value, which may be a key. The expected type follows at its end.
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| expected);
    let expected = expected.map(|expected| expected.split_once(" at line ").map_or(expected, |(what, _)| what));
    let why = match expected {
        Some("a map") => "an object is expected".to_owned(),
        Some("a sequence") => "a list is expected".to_owned(),
        Some(expected) => format!("{expected} is expected"),
        None if text.starts_with("duplicate field") => "a member is given twice".to_owned(),
        None => "this cannot be read".to_owned(),
    };
    bad_member(&member(path), why)
}

fn member(path: &Path) -> String {
    let path = path.to_string();
    if path == "." { "the body".to_owned() } else { path }
}
