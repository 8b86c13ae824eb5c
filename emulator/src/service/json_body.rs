//! The JSON that clients of the service API send.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value, error::Category};
use serde_path_to_error::{Error, Path, deserialize};

use super::error::ServiceError;

/// Reads a body. What does not fit is named by its path.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ServiceError> {
    let mut deserializer = Deserializer::from_slice(body);
    let value = deserialize(&mut deserializer).map_err(|error| fault(&error))?;
    deserializer.end().map_err(|error| ServiceError::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// Reads a part of a body.
pub(super) fn read_value<T: DeserializeOwned>(value: Value) -> Result<T, ServiceError> {
    deserialize(value).map_err(|error| fault(&error))
}

/// A member that cannot be used, and why. What is quoted of a body may be long.
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
    // The text of such an error quotes the value, which may be a key. What was expected comes last.
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| expected);
    let expected = expected.map(|expected| expected.split_once(" at line ").map_or(expected, |(what, _)| what));
    let why = match expected {
        Some("a map") => "an object is expected".to_owned(),
        Some("a sequence") => "a list is expected".to_owned(),
        Some(expected) if expected.starts_with("struct ") => "an object is expected".to_owned(),
        Some(expected) => format!("{expected} is expected"),
        None if text.starts_with("duplicate field") => "a member is there twice".to_owned(),
        None => "this cannot be read".to_owned(),
    };
    bad_member(&member(path), why)
}

fn member(path: &Path) -> String {
    let path = path.to_string();
    if path == "." { "the body".to_owned() } else { path }
}
