//! Records of what happened, for tests and for the log.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::Value;

use super::text::{excerpt, mask_signatures, printable};
use crate::clock::wall_time;

/// A request of a device or of a client of the service API, and its answer. It holds no key, token or signature.
///
/// Over MQTT, a `CONNECT` and a `SUBSCRIBE` are recorded as requests, too. If the service closes a connection, the
/// record has the method `-`.
///
/// At a hub, `GET` reads the twin, `PATCH` reports properties, and `PUBLISH` is telemetry. `NOTIFY` is a message that
/// the hub sends: a change of the desired properties. All telemetry is counted, but only 100 messages in 10 s are
/// recorded, so that other records stay.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RequestRecord {
    /// The number of the event. It grows by one with every event of any kind.
    pub number: u64,
    /// When the service answered.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The listener: `http`, `https`, `mqtt`, `mqtts`, or `ws` and `wss` for MQTT over WebSocket.
    pub listener: &'static str,
    /// The method: `PUT`, `GET`, `POST`, …. Over MQTT, `PUT` or `GET` of the topic, or one of the words above.
    pub method: String,
    /// The path with its query, as the client sent it. Over MQTT the topic, the user name of a `CONNECT`, or the
    /// filters of a `SUBSCRIBE`.
    pub path: String,
    /// `true` if there was an `Authorization` header or a password. Its text is not kept.
    pub authorization: bool,
    /// The body as the client sent it. In the service API, keys are masked.
    pub body: String,
    /// The device that the path or the `CONNECT` names. `None` in the service API.
    pub registration_id: Option<String>,
    /// The hub that received the request, as the device names it. `None` for DPS.
    pub hub: Option<String>,
    /// The HTTP status of the answer, which topics of MQTT have, too. `None` without an answer: a script suppressed
    /// it, or the device had not subscribed to answers.
    pub http_status: Option<u16>,
    /// The `Retry-After` of the answer, over MQTT `retry-after` in the topic.
    pub retry_after: Option<u32>,
    /// The body of the answer. In the service API, keys are masked.
    pub response_body: String,
    /// The outcome in words. It says what the real service does not say, for example why a token was rejected.
    pub outcome: String,
}

impl RequestRecord {
    pub(crate) fn new(listener: &'static str, method: &str) -> Self {
        Self {
            number: 0,
            at: SystemTime::now(),
            listener,
            // In HTTP, the method can be any word of any length.
            method: method.chars().take(16).collect(),
            path: String::new(),
            authorization: false,
            body: String::new(),
            registration_id: None,
            hub: None,
            http_status: None,
            retry_after: None,
            response_body: String::new(),
            outcome: String::new(),
        }
    }

    /// Returns the record with the signatures of tokens masked, in case a client put a token into a path or a name.
    pub(crate) fn without_signatures(self) -> Self {
        Self {
            path: mask_signatures(&self.path),
            registration_id: self.registration_id.as_deref().map(mask_signatures),
            hub: self.hub.as_deref().map(mask_signatures),
            outcome: mask_signatures(&self.outcome),
            ..self
        }
    }

    /// Returns how many bytes of text the record holds. The sum of all records is limited.
    pub(crate) fn text_len(&self) -> usize {
        let ids = [&self.registration_id, &self.hub].into_iter().flatten().map(String::len).sum::<usize>();
        ids + self.path.len() + self.body.len() + self.response_body.len() + self.outcome.len()
    }
}

/// A call of the custom allocation webhook.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WebhookCall {
    /// The number of the event. It grows by one with every event of any kind.
    pub number: u64,
    /// When the webhook answered, or when the call failed.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The device that is allocated.
    pub registration_id: String,
    /// The URL, with its query masked.
    pub url: String,
    /// `true` for the built-in Contoso webhook, which is called if no other webhook is configured.
    pub built_in: bool,
    /// The `AllocationRequest`.
    pub request: Value,
    /// The text of the `AllocationRequest`, with its members in their order.
    #[serde(skip)]
    pub request_body: String,
    /// The number of the call in this registration: 1 for the first call, then one more for each retry.
    pub attempt: u32,
    /// The most calls in one registration.
    pub attempts: u32,
    /// How long the call took.
    #[serde(rename = "durationMs", serialize_with = "as_millis")]
    pub duration: Duration,
    /// The delay before the webhook is called again. `None` if it is not called again.
    #[serde(rename = "nextInMs", serialize_with = "as_millis_or_none")]
    pub next_in: Option<Duration>,
    /// The HTTP status of the webhook. `None` without an answer.
    pub status: Option<u16>,
    /// The answer of the webhook, without the secrets of its URL.
    pub response_body: String,
    /// The hub that this answer assigns to the device.
    pub assigned_hub: Option<String>,
    /// The outcome in words.
    pub outcome: String,
    /// Hints for the author of the webhook: members of the answer that the service ignores.
    pub warnings: Vec<String>,
    /// The number of the call that the control API repeated. `None` if a device caused this call.
    pub replay_of: Option<u64>,
}

impl WebhookCall {
    /// Returns about how many bytes of memory the call takes. It holds the request twice: as text, and as a tree that
    /// takes several times the memory of the text.
    pub(crate) fn text_len(&self) -> usize {
        self.request_body.len() * 8 + self.response_body.len()
    }
}

/// A connection that ended before any request: the TLS handshake failed, the client used another protocol than the
/// listener, its HTTP was malformed, or its first MQTT packet was not CONNECT.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConnectionFailure {
    /// When the connection ended.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The listener: `http`, `https`, `mqtt` or `mqtts`.
    pub listener: &'static str,
    /// The address of the client.
    pub peer: IpAddr,
    /// What was wrong, and how to correct it.
    pub outcome: String,
    /// The number of failures before this one that were not reported. At most 20 failures in 10 s are reported.
    pub hidden: u64,
}

/// An event, which an observer receives when it happens.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// The service answered a request.
    Request(RequestRecord),
    /// A webhook answered, or its call failed.
    Webhook(WebhookCall),
    /// A webhook has not answered yet: sent after 1 s, 10 s and 100 s. [`Webhook`](Self::Webhook) follows when the
    /// call ends.
    WebhookUnderWay(WebhookCall),
    /// A connection ended before any request.
    ConnectionFailed(ConnectionFailure),
}

/// Writes the record as one line of the log.
impl fmt::Display for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.http_status.map_or("---".to_owned(), |status| status.to_string());
        // The client chooses the path, so control characters must not reach the terminal.
        let mut what = match &self.registration_id {
            Some(id) => printable(id),
            None => printable(&self.path),
        };
        if let Some(hub) = &self.hub {
            // The usual domain makes every line longer and says nothing.
            what += " at ";
            what += &printable(hub.strip_suffix(".azure-devices.net").unwrap_or(hub));
        }
        write!(
            f,
            "{} {:<5} {:<4} {what} -> {status} {}",
            wall_time::log_time(self.at),
            self.listener,
            // HTTP allows no control characters in a method.
            self.method,
            printable(&self.outcome)
        )
    }
}

/// Writes the call as one line of the log.
impl fmt::Display for WebhookCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or("---".to_owned(), |status| status.to_string());
        write!(
            f,
            "{} hook  POST {} -> {status} {} (attempt {} of {}, {:?}",
            wall_time::log_time(self.at),
            printable(&self.registration_id),
            printable(&self.outcome),
            self.attempt,
            self.attempts,
            Duration::from_millis(as_u64_millis(self.duration)),
        )?;
        if let Some(number) = self.replay_of {
            write!(f, ", a replay of call {number}")?;
        }
        if let Some(next_in) = self.next_in {
            write!(f, ", next in {next_in:?}")?;
        }
        let built_in = if self.built_in { "the built-in webhook, because no webhook_url is set: " } else { "" };
        write!(f, ", {built_in}{})", printable(&self.url))?;
        if self.assigned_hub.is_none() && !self.response_body.is_empty() {
            write!(f, ": {}", excerpt(&self.response_body))?;
        }
        for warning in &self.warnings {
            write!(f, "; warning: {}", printable(warning))?;
        }
        Ok(())
    }
}

/// Writes the failure as one line of the log.
impl fmt::Display for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, listener, peer, outcome, hidden } = self;
        write!(f, "{} {listener:<5} -    {peer} -> --- {}", wall_time::log_time(*at), printable(outcome))?;
        match hidden {
            0 => Ok(()),
            hidden => write!(f, " ({hidden} connections before this one are not shown)"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(record) => record.fmt(f),
            Self::ConnectionFailed(failure) => failure.fmt(f),
            Self::Webhook(call) | Self::WebhookUnderWay(call) => call.fmt(f),
        }
    }
}

pub(crate) fn as_u64_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(as_u64_millis(*duration))
}

fn as_millis_or_none<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(as_u64_millis).serialize(serializer)
}

fn as_rfc3339<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&wall_time::rfc3339(*at))
}
