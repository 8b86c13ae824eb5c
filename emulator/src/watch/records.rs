//! What happened, for tests to look at and for people to read.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::Value;

use super::text::{excerpt, mask_signatures, printable};
use crate::clock::wall_time;

/// One request of a device, or of a client of the service API, and its answer. It holds no key, token or signature.
///
/// Over MQTT, `CONNECT` and `SUBSCRIBE` are requests too, and what made the service drop the link
/// is on record as a request with method `-`.
///
/// At a hub, `GET` reads the twin, `PATCH` reports properties, and `PUBLISH` is telemetry. What the hub sends by itself is
/// on record, too: `NOTIFY` is a change of the desired properties. At most 100 messages of telemetry in 10 s are on
/// record, so that a fleet does not push everything else out; all of them are counted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RequestRecord {
    /// The number of the event: it grows by one with every event of any kind.
    pub number: u64,
    /// When it was answered.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// `http`, `https`, `mqtt`, `mqtts`, or MQTT over WebSocket: `ws`, `wss`.
    pub listener: &'static str,
    /// `PUT`, `GET`, `POST`, …; over MQTT the `PUT` or `GET` of the topic, or a word of the list above.
    pub method: String,
    /// The path with its query, as it was asked; over MQTT the topic, the user name of a `CONNECT`,
    /// or the filters of a `SUBSCRIBE`.
    pub path: String,
    /// Whether there was an `Authorization` header, or a password. What it said is not kept.
    pub authorization: bool,
    /// The body as it was sent. In the service API the keys are masked.
    pub body: String,
    /// The device, when the path, or over MQTT the `CONNECT`, names one. In the service API `None`.
    pub registration_id: Option<String>,
    /// The hub at which the request arrived, as the device names it. `None`: it arrived at DPS.
    pub hub: Option<String>,
    /// The answer's HTTP status, which MQTT's topics have too; `None` when there was no answer,
    /// because a script kept it back or nobody had subscribed to it.
    pub http_status: Option<u16>,
    /// The answer's `Retry-After`, in MQTT's topics `retry-after`.
    pub retry_after: Option<u32>,
    /// The answer's body. In the service API the keys are masked.
    pub response_body: String,
    /// What it came to, in words, with what the real service would not say: why a token was
    /// refused, for instance.
    pub outcome: String,
}

impl RequestRecord {
    pub(crate) fn new(listener: &'static str, method: &str) -> Self {
        Self {
            number: 0,
            at: SystemTime::now(),
            listener,
            // Of HTTP it may be any word, of any length.
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

    /// The same without tokens: they belong in no path and no name, and a record does not repeat them.
    pub(crate) fn without_signatures(self) -> Self {
        Self {
            path: mask_signatures(&self.path),
            registration_id: self.registration_id.as_deref().map(mask_signatures),
            hub: self.hub.as_deref().map(mask_signatures),
            outcome: mask_signatures(&self.outcome),
            ..self
        }
    }

    /// How much text it holds, which is bounded for all of them.
    pub(crate) fn text_len(&self) -> usize {
        let ids = [&self.registration_id, &self.hub].into_iter().flatten().map(String::len).sum::<usize>();
        ids + self.path.len() + self.body.len() + self.response_body.len() + self.outcome.len()
    }
}

/// One call of the custom allocation webhook.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WebhookCall {
    /// The number of the event: it grows by one with every event of any kind.
    pub number: u64,
    /// When it was answered, or given up.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The device it was about.
    pub registration_id: String,
    /// The URL, with the query masked.
    pub url: String,
    /// Whether it is the built-in Contoso webhook, which is called because nobody has named another one.
    pub built_in: bool,
    /// The `AllocationRequest`.
    pub request: Value,
    /// The `AllocationRequest` as it was sent, in its order.
    #[serde(skip)]
    pub request_body: String,
    /// 1 for the first call of a registration, then one more for each retry.
    pub attempt: u32,
    /// How many calls of a registration there are at most.
    pub attempts: u32,
    /// How long it took.
    #[serde(rename = "durationMs", serialize_with = "as_millis")]
    pub duration: Duration,
    /// After how much of the service's time the webhook is called again; `None` when it is not.
    #[serde(rename = "nextInMs", serialize_with = "as_millis_or_none")]
    pub next_in: Option<Duration>,
    /// The webhook's HTTP status; `None` when it gave none.
    pub status: Option<u16>,
    /// What the webhook answered, without what is secret in its URL.
    pub response_body: String,
    /// The hub that the device gets by this answer.
    pub assigned_hub: Option<String>,
    /// What it came to, in words.
    pub outcome: String,
    /// Hints for the author of the webhook: members of its answer that are ignored.
    pub warnings: Vec<String>,
    /// The number of the call that was asked again through the control API. `None`: a device caused this call.
    pub replay_of: Option<u64>,
}

impl WebhookCall {
    /// About how much memory it takes. The request is held twice, and as a tree takes several times its text.
    pub(crate) fn text_len(&self) -> usize {
        self.request_body.len() * 8 + self.response_body.len()
    }
}

/// A connection that came to no request: a TLS handshake that failed, a peer that spoke something else than
/// the listener, malformed HTTP, or no CONNECT of MQTT.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConnectionFailure {
    /// When it ended.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// `http`, `https`, `mqtt` or `mqtts`.
    pub listener: &'static str,
    /// Where it came from.
    pub peer: IpAddr,
    /// What was wrong, and what to do about it.
    pub outcome: String,
    /// The number of failures before this one that were not reported: at most 20 are reported in 10 s.
    pub hidden: u64,
}

/// Something that an observer is told, as soon as it has happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// A device was answered.
    Request(RequestRecord),
    /// A webhook was called.
    Webhook(WebhookCall),
    /// A webhook has not answered yet: after 1 s, 10 s and 100 s. [`Webhook`](Self::Webhook) follows.
    WebhookUnderWay(WebhookCall),
    /// A connection came to nothing.
    ConnectionFailed(ConnectionFailure),
}

/// One readable line.
impl fmt::Display for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.http_status.map_or("---".to_owned(), |status| status.to_string());
        // A path is a peer's text: show no control characters on a terminal.
        let mut what = match &self.registration_id {
            Some(id) => printable(id),
            None => printable(&self.path),
        };
        if let Some(hub) = &self.hub {
            // The usual domain would make every line longer, and tell nothing.
            what += " at ";
            what += &printable(hub.strip_suffix(".azure-devices.net").unwrap_or(hub));
        }
        write!(
            f,
            "{} {:<5} {:<4} {what} -> {status} {}",
            wall_time::log_time(self.at),
            self.listener,
            // A token by HTTP's grammar: no control characters in it.
            self.method,
            printable(&self.outcome)
        )
    }
}

/// One readable line.
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
        let built_in = if self.built_in { "the built-in webhook, for no webhook_url is set: " } else { "" };
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

/// One readable line.
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
