//! Color for people at a terminal. The text of a line is the same without color.

use std::io;

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use anstyle::{AnsiColor, Style};
use azure_dps_emulator::{Event, Finding, RequestRecord, WebhookCall};

use crate::arguments::{Output, When};

const GOOD: Style = AnsiColor::Green.on_default();
const UNDER_WAY: Style = AnsiColor::Cyan.on_default();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
/// On red, because only the author of the webhook can correct it.
const REFUSED_BY_WEBHOOK: Style = BAD.invert();
const ASIDE: Style = Style::new().dimmed();

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Returns the paint for a stream. JSON gets no color.
    fn new<S: RawStream>(stream: &S, when: When, is_json: bool) -> Self {
        match when {
            When::Auto => {}
            When::Always => ColorChoice::Always.write_global(),
            When::Never => ColorChoice::Never.write_global(),
        }
        // By default, the choice depends on NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM, and whether the stream is a
        // terminal.
        let is_on = !is_json && AutoStream::choice(stream) != ColorChoice::Never;
        if is_on {
            let _ = anstyle_query::windows::enable_ansi_colors();
        }
        Self(is_on)
    }

    pub(crate) fn of_output(output: &Output) -> Self {
        Self::new(&io::stdout(), output.color, output.json)
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Returns a line of the log. The time is dim, and the outcome has the color of its kind.
    pub(crate) fn event(self, event: &Event) -> String {
        let line = event.to_string();
        let (time, rest) = line.split_once(' ').unwrap_or(("", &line));
        let (what, outcome) = rest.split_once(" -> ").unwrap_or((rest, ""));
        if outcome.is_empty() {
            return line;
        }
        let style = match event {
            Event::Request(record) => of_request(record),
            Event::Webhook(call) => of_webhook(call),
            Event::WebhookUnderWay(_) => DOUBTFUL,
            Event::ConnectionFailed(_) => BAD,
            _ => Style::new(),
        };
        format!("{} {what} -> {}", self.paint(ASIDE, time), self.paint(style, outcome))
    }

    pub(crate) fn aside(self, text: &str) -> String {
        self.paint(ASIDE, text)
    }

    pub(crate) fn finding(self, finding: &Finding, line: &str) -> String {
        self.paint(if finding.is_error() { BAD } else { DOUBTFUL }, line)
    }
}

fn of_request(record: &RequestRecord) -> Style {
    let outcome = record.outcome.strip_prefix("look-up: ").unwrap_or(&record.outcome);
    let begins = |word: &str| outcome.starts_with(word);
    match record.http_status {
        Some(200..=299) if begins("failed") || begins("disabled") => BAD,
        Some(200..=299) if begins("assigning") => UNDER_WAY,
        Some(200..=299) => GOOD,
        Some(429) => DOUBTFUL,
        Some(_) => BAD,
        // MQTT has no status for these outcomes.
        None if ["connected", "subscribed", "telemetry", "the will was accepted", "desired properties"]
            .into_iter()
            .any(begins) =>
        {
            GOOD
        }
        None if ["CONNACK", "rejected", "not accepted", "the will was not"].into_iter().any(begins) => BAD,
        None => DOUBTFUL,
    }
}

fn of_webhook(call: &WebhookCall) -> Style {
    if call.assigned_hub.is_some() {
        GOOD
    } else if call.next_in.is_some() || call.outcome.starts_with("cancelled") {
        DOUBTFUL
    } else {
        REFUSED_BY_WEBHOOK
    }
}
