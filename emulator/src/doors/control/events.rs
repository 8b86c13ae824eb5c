//! A stream of events as server-sent events (HTML Living Standard, 9.2).
//!
//! A reader takes events from the journal when its connection has room, so a slow reader delays nobody. If a reader
//! is so slow that events are dropped, it gets an event with their number.
//!
//! Telemetry is not in the journal. At most once a second, a reader gets an event that lists the devices that sent
//! telemetry since the last such event. So telemetry of a fleet neither floods a reader nor pushes other events out.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    StatusCode,
    body::{Bytes, Frame},
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};

use super::{
    call::{Call, Desk, number},
    records::{data, telemetry},
    reply::{Refusal, Reply},
};
use crate::{hub::Hub, net::http::Body, service::Service};

/// The most readers of events at the same time.
pub(super) const READERS: usize = 64;
/// How many events are written at once.
const BATCH: usize = 64;
/// The time without an event after which a comment is written, so that proxies and clients keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The shortest time between two events about telemetry.
const TELEMETRY: Duration = Duration::from_secs(1);
/// The most devices that an event about telemetry names.
const SENDERS: usize = 100;

struct Reader {
    service: Arc<Service>,
    hub: Arc<Hub>,
    last: watch::Receiver<u64>,
    /// The number of the last event that was written.
    seen: u64,
    telemetry: watch::Receiver<u64>,
    /// The number of the last telemetry message that the reader knows about.
    told: u64,
    /// When the next event about telemetry may be written.
    told_again: Instant,
    /// The text that is written first.
    first: Option<String>,
    _permit: OwnedSemaphorePermit,
}

/// Starts a stream of events.
pub(super) fn read(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let last_seen = match call.headers.get("last-event-id") {
        Some(seen) => Some(("Last-Event-ID", seen.to_str().unwrap_or("?"))),
        None => call.query("after").map(|seen| ("after", seen)),
    };
    let journal = desk.service.journal();
    let last = journal.watch();
    let last_event = journal.last_event();
    let telemetry = desk.hub.activity().watch();
    let mut first = "retry: 1000\n: the events of azure-dps-emulator\n\n".to_owned();
    let seen = match last_seen.map(|(name, seen)| number(name, seen)).transpose()? {
        None => last_event,
        // The reader comes from an emulator that ran before this one.
        Some(seen) if seen > last_event => {
            write_event(&mut first, 0, "reset", r#"{"number":0}"#);
            0
        }
        Some(seen) => seen,
    };
    let permit = Arc::clone(&desk.readers)
        .try_acquire_owned()
        .map_err(|_| Refusal::unavailable(format!("the limit of {READERS} readers is reached: close one of them")))?;
    // A reader that reconnects may have missed telemetry.
    let told = if last_seen.is_some() { 0 } else { *telemetry.borrow() };
    let reader = Reader {
        service: Arc::clone(&desk.service),
        hub: Arc::clone(&desk.hub),
        last,
        seen,
        telemetry,
        told,
        told_again: Instant::now(),
        first: Some(first),
        _permit: permit,
    };
    Ok(Reply::new(StatusCode::OK, "text/event-stream; charset=utf-8", body(reader)))
}

fn body(reader: Reader) -> Body {
    let frames = stream::unfold(reader, async |mut reader| {
        let text = reader.next().await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), reader))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

impl Reader {
    async fn next(&mut self) -> String {
        if let Some(first) = self.first.take() {
            return first;
        }
        loop {
            // Mark the number as seen before reading, so that a later event wakes the reader.
            self.last.borrow_and_update();
            let (events, missed) = self.service.journal().read_events(self.seen, BATCH);
            let mut text = String::new();
            if missed > 0 {
                self.seen += missed;
                write_event(&mut text, self.seen, "missed", &format!(r#"{{"missed":{missed}}}"#));
            }
            for (number, happening) in events {
                write_event(&mut text, number, happening.kind(), &data(number, &happening));
                self.seen = number;
            }
            if let Some(data) = self.new_telemetry() {
                // Telemetry has no number of its own: a reader that reconnects continues after the last event.
                write_event(&mut text, self.seen, "telemetry", &data);
            }
            if !text.is_empty() {
                return text;
            }
            if tokio::time::timeout(KEEP_ALIVE, self.changed()).await.is_err() {
                return ": nothing new\n\n".to_owned();
            }
        }
    }

    /// Returns the event about telemetry, if one is due.
    fn new_telemetry(&mut self) -> Option<String> {
        if Instant::now() < self.told_again {
            return None;
        }
        let (senders, last) = self.hub.activity().senders(self.told, SENDERS);
        self.told = last;
        if senders.devices.is_empty() {
            return None;
        }
        self.told_again = Instant::now() + TELEMETRY;
        Some(telemetry(&senders))
    }

    /// Waits for an event, or for telemetry when an event about it is due.
    async fn changed(&mut self) {
        let (told, again) = (self.told, self.told_again);
        let telemetry = async {
            // `wait_for` fails only if the sender is gone, and `self.hub` holds the sender.
            let _ = self.telemetry.wait_for(|&last| last > told).await;
            tokio::time::sleep_until(again).await;
        };
        tokio::select! {
            _ = self.last.changed() => {}
            () = telemetry => {}
        }
    }
}

/// Writes one event. JSON escapes line breaks inside strings, and this JSON has no others.
fn write_event(text: &mut String, number: u64, kind: &str, data: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "id: {number}\nevent: {kind}\ndata: {data}\n\n");
}
