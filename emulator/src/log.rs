//! What happened, for tests to look at and for people to read.

use std::{
    collections::VecDeque,
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::Value;

use crate::{quota::Window, registration::Answer, wall_time};

/// One request of a device and its answer. It holds no key, token or signature.
///
/// Over MQTT, `CONNECT` and `SUBSCRIBE` are requests too, and what made the service drop the link
/// is on record as a request with method `-`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RequestRecord {
    /// When it was answered.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// `http`, `https`, `mqtt`, `mqtts`, or MQTT over WebSocket: `ws`, `wss`.
    pub listener: &'static str,
    /// `PUT`, `GET`, `POST`, …; over MQTT the `PUT` or `GET` of the topic.
    pub method: String,
    /// The path with its query, as it was asked; over MQTT the topic, the user name of a `CONNECT`,
    /// or the filters of a `SUBSCRIBE`.
    pub path: String,
    /// Whether there was an `Authorization` header, or a password. What it said is not kept.
    pub authorization: bool,
    /// The body as it was sent.
    pub body: String,
    /// The device, when the path, or over MQTT the `CONNECT`, names one.
    pub registration_id: Option<String>,
    /// The answer's HTTP status, which MQTT's topics have too; `None` when there was no answer,
    /// because a script kept it back or nobody had subscribed to it.
    pub http_status: Option<u16>,
    /// The answer's `Retry-After`, in MQTT's topics `retry-after`.
    pub retry_after: Option<u32>,
    /// The answer's body.
    pub response_body: String,
    /// What it came to, in words, with what the real service would not say: why a token was
    /// refused, for instance.
    pub outcome: String,
}

impl RequestRecord {
    pub(crate) fn new(listener: &'static str, method: &str) -> Self {
        Self {
            at: SystemTime::now(),
            listener,
            // Of HTTP it may be any word, of any length.
            method: method.chars().take(16).collect(),
            path: String::new(),
            authorization: false,
            body: String::new(),
            registration_id: None,
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
            outcome: mask_signatures(&self.outcome),
            ..self
        }
    }

    /// How much text it holds, which is bounded for all of them.
    pub(crate) fn text_len(&self) -> usize {
        let id = self.registration_id.as_ref().map_or(0, String::len);
        id + self.path.len() + self.body.len() + self.response_body.len() + self.outcome.len()
    }

    /// What it came to, and whether the device was told.
    pub(crate) fn answered(&mut self, answer: &Answer, told: bool) {
        self.at = SystemTime::now();
        self.http_status = told.then_some(answer.status);
        self.retry_after = answer.retry_after;
        self.response_body.clone_from(&answer.body);
        self.outcome.clone_from(&answer.outcome);
    }
}

/// One call of the custom allocation webhook.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WebhookCall {
    /// When it was answered, or given up.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: SystemTime,
    /// The device it was about.
    pub registration_id: String,
    /// The URL, with the query masked.
    pub url: String,
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
        let what = match &self.registration_id {
            Some(id) => printable(id),
            None => printable(&self.path),
        };
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
        if let Some(next_in) = self.next_in {
            write!(f, ", next in {next_in:?}")?;
        }
        write!(f, ", {})", printable(&self.url))?;
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

/// A peer's text on a terminal: no control characters, and none that are invisible or turn the text around.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.escape_debug().len() > 1 && !matches!(c, '"' | '\'' | '\\') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A text without the signatures of tokens: `sig=` in any case, also with escapes such as `sig%3D`, and what
/// follows up to the next `&`.
fn mask_signatures(text: &str) -> String {
    let is_named_by = |name: &str| {
        let escape = name.strip_prefix('%').map(|escape| escape.trim_start_matches("25"));
        name.starts_with('=') || escape.is_some_and(|escape| escape.starts_with("3d"))
    };
    // Of the same length.
    let lower = text.to_ascii_lowercase();
    let (mut masked, mut done) = (String::with_capacity(text.len()), 0);
    for (at, name) in lower.match_indices("sig") {
        let value = at + name.len();
        if value > done && is_named_by(&lower[value..]) {
            masked.push_str(&text[done..value]);
            masked.push_str("=****");
            done = lower[value..].find('&').map_or(text.len(), |end| value + end);
        }
    }
    masked + &text[done..]
}

/// A text without these secrets.
pub(crate) fn mask(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| if text.contains(secret) { text.replace(secret, "****") } else { text })
}

/// The beginning of a text that may be long.
pub(crate) fn excerpt(text: &str) -> String {
    const LENGTH: usize = 200;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(text),
    }
}

fn as_u64_millis(duration: Duration) -> u64 {
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

/// Lets through so many of what strangers can bring about, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    shown: Window,
    hidden: u64,
}

impl Flood {
    const SHOWN: u32 = 20;
    const PERIOD: Duration = Duration::from_secs(10);

    /// Whether one at `now` is shown, and how many were not before it.
    pub(crate) fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.shown.admit(now, Self::PERIOD, Some(Self::SHOWN)) {
            Some(std::mem::take(&mut self.hidden))
        } else {
            self.hidden += 1;
            None
        }
    }
}

/// Keeps the newest entries, within a number and a size.
#[derive(Debug)]
pub(crate) struct Bounded<T> {
    entries: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Clone> Bounded<T> {
    const ENTRIES: usize = 100_000;
    const BYTES: usize = 64 * 1024 * 1024;

    /// Adds `entry`, which holds `bytes` of text.
    pub(crate) fn push(&mut self, entry: T, bytes: usize) {
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.entries.len() > Self::ENTRIES || self.bytes > Self::BYTES {
            let Some((_, freed)) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= freed;
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<T> {
        self.entries.iter().map(|(entry, _)| entry.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal is not steered, and what is shown is what is there.
    #[test]
    fn what_cannot_be_seen_is_escaped() {
        assert_eq!(printable("a\u{1b}[2J\r\n\u{9b}"), r"a\u{1b}[2J\r\n\u{9b}");
        assert_eq!(printable("\u{feff}a\u{202e}b\u{200b}\u{2028}"), r"\u{feff}a\u{202e}b\u{200b}\u{2028}");
        let plain = r#"Größe "x" \ it's 温度 {"a": 1}"#;
        assert_eq!(printable(plain), plain);
    }

    /// Of a flood, the first ones are shown, and how many were hidden is told by the next that is.
    #[test]
    fn a_flood_is_counted_and_not_shown() {
        let mut flood = Flood::default();
        let at = Duration::from_secs;
        let shown: Vec<_> = (0..1000).filter_map(|_| flood.admit(at(1))).collect();
        assert_eq!(shown, [0; 20]);
        assert_eq!([flood.admit(at(10)), flood.admit(at(11)), flood.admit(at(11))], [None, Some(981), Some(0)]);
    }
}
