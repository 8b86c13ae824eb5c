//! One call of the control API, after its checks.

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

/// How many entries a page has, unless the call asks for fewer or more.
const LIMIT: usize = 100;
/// How many entries a call may ask for.
const MAX_LIMIT: usize = 1000;

/// What calls work on.
pub(super) struct Desk {
    pub(super) service: Arc<Service>,
    pub(super) hub: Arc<Hub>,
    pub(super) started: SystemTime,
    /// The names and URLs of all listeners.
    pub(super) listeners: Vec<(&'static str, String)>,
    /// How many more may read events.
    pub(super) readers: Arc<Semaphore>,
}

/// A call.
pub(super) struct Call<'a> {
    /// What stands for `{…}` in the path.
    pub(super) parameter: Cow<'a, str>,
    query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) headers: &'a HeaderMap,
    body: &'a [u8],
}

impl<'a> Call<'a> {
    /// Reads a query, which may have these parameters only, each once.
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
                return Err(Refusal::bad_request(format!("{name:?} is no parameter of this call; it has {known}")));
            }
            if query[..at].iter().any(|(other, _)| other == name) {
                return Err(Refusal::bad_request(format!("{name} is there twice")));
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

    /// The parameter in the path, which is a number.
    pub(super) fn number_in_path(&self) -> Result<u64, Refusal> {
        number("the number in the path", &self.parameter)
    }

    /// From where on a history is read.
    pub(super) fn from(&self) -> Result<From, Refusal> {
        Ok(self.number("after")?.map_or(From::Newest, From::After))
    }

    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        match self.number("limit")?.map(usize::try_from) {
            None => Ok(LIMIT),
            Some(Ok(limit @ 1..=MAX_LIMIT)) => Ok(limit),
            Some(_) => Err(Refusal::bad_request(format!("limit goes from 1 to {MAX_LIMIT}"))),
        }
    }

    /// Reads the body as a JSON object.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        // The error may quote a long text.
        let value =
            serde_json::from_slice(self.body).map_err(|error| Refusal::bad_request(excerpt(&error.to_string())))?;
        // serde would read an array as a structure.
        if !self.body.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::bad_request("the body is no JSON object".to_owned()));
        }
        Ok(value)
    }

    /// Refuses a body with members. It may be missing.
    pub(super) fn no_body(&self) -> Result<(), Refusal> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Empty {}
        if self.body.is_empty() { Ok(()) } else { self.body::<Empty>().map(|Empty {}| ()) }
    }
}

/// JSON has one kind of number: 5.0 is an integer. serde tells them apart.
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
    // `parse` takes a sign.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number.ok_or_else(|| Refusal::bad_request(format!("{name} is {:?}, which is no number", excerpt(value))))
}
