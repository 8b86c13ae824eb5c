//! A call of the control API that has passed its checks.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use hyper::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::reply::Refusal;
use crate::{
    hub::Hub,
    service::Service,
    watch::{journal::From, text::excerpt},
};

/// How many entries a page has by default.
const LIMIT: usize = 100;
/// The most entries that a call may ask for.
const MAX_LIMIT: usize = 1000;

/// What calls read and change.
pub(super) struct Desk {
    pub(super) service: Arc<Service>,
    pub(super) hub: Arc<Hub>,
    pub(super) started: SystemTime,
    /// The names and URLs of all listeners.
    pub(super) listeners: Vec<(&'static str, String)>,
    /// How many more readers of events are allowed.
    pub(super) readers: Arc<Semaphore>,
}

/// A call of the control API.
pub(super) struct Call<'a> {
    /// The value of `{…}` in the path.
    pub(super) parameter: Cow<'a, str>,
    query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) headers: &'a HeaderMap,
    body: &'a [u8],
}

impl<'a> Call<'a> {
    /// Reads a query. It may have only these parameters, each once.
    pub(super) fn new(
        parameter: Cow<'a, str>,
        query: &'a str,
        known: &[&str],
        headers: &'a HeaderMap,
        body: &'a [u8],
    ) -> Result<Self, Refusal> {
        let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        for (at, (name, _)) in query.iter().enumerate() {
            if !known.contains(&&**name) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let name = excerpt(name);
                return Err(Refusal::bad_request(format!(
                    "{name:?} is not a parameter of this call. Parameters: {known}"
                )));
            }
            if query[..at].iter().any(|(other, _)| other == name) {
                return Err(Refusal::bad_request(format!("{name} is given twice")));
            }
        }
        Ok(Self { parameter, query, headers, body })
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        self.query(name).map(|value| number(name, value)).transpose()
    }

    /// Returns the number in the path.
    pub(super) fn number_in_path(&self) -> Result<u64, Refusal> {
        number("the number in the path", &self.parameter)
    }

    /// Returns where in a history the page starts.
    pub(super) fn from(&self) -> Result<From, Refusal> {
        Ok(self.number("after")?.map_or(From::Newest, From::After))
    }

    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        match self.number("limit")?.map(usize::try_from) {
            None => Ok(LIMIT),
            Some(Ok(limit @ 1..=MAX_LIMIT)) => Ok(limit),
            Some(_) => Err(Refusal::bad_request(format!("limit must be 1 to {MAX_LIMIT}"))),
        }
    }

    /// Reads the body as a JSON object.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        // The error of serde may quote a long text.
        let value =
            serde_json::from_slice(self.body).map_err(|error| Refusal::bad_request(excerpt(&error.to_string())))?;
        // serde would accept an array instead of an object.
        if !self.body.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::bad_request("the body is not a JSON object".to_owned()));
        }
        Ok(value)
    }

    /// Rejects a body with members. The body may be missing.
    pub(super) fn no_body(&self) -> Result<(), Refusal> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Empty {}
        if self.body.is_empty() { Ok(()) } else { self.body::<Empty>().map(|Empty {}| ()) }
    }
}

/// Turns 5.0 into 5: JSON has one kind of number, but serde reads 5.0 only as a float.
pub(super) fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            match number.to_string().strip_suffix(".0").and_then(|digits| digits.parse::<i64>().ok()) {
                Some(integer) => integer.into(),
                None => Value::Number(number),
            }
        }
        Value::Array(items) => items.into_iter().map(with_integers).collect(),
        other => other,
    }
}

pub(super) fn number(name: &str, value: &str) -> Result<u64, Refusal> {
    // `parse` would accept a sign.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number.ok_or_else(|| Refusal::bad_request(format!("{name} is {:?}, which is not a number", excerpt(value))))
}
