//! What happens, as server-sent events (HTML Living Standard, 9.2).
//!
//! A reader takes events from the journal when its connection has room, so a slow one holds up nobody. If it falls so
//! far behind that events are no longer kept, it is told how many it missed.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    StatusCode,
    body::{Bytes, Frame},
};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    call::{Call, Desk, number},
    records::data,
    reply::{Refusal, Reply},
};
use crate::{net::http::Body, service::Service};

/// How many may read events at a time.
pub(super) const READERS: usize = 64;
/// How many events are written at once.
const BATCH: usize = 64;
/// After how long without an event a comment is written, so that nobody takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Reader {
    service: Arc<Service>,
    last: watch::Receiver<u64>,
    /// The number of the last event that was written.
    seen: u64,
    /// What is written next, whatever happens.
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
    let mut first = "retry: 1000\n: the events of azure-dps-emulator\n\n".to_owned();
    let seen = match last_seen.map(|(name, seen)| number(name, seen)).transpose()? {
        None => last_event,
        // The reader knows an emulator that ran before this one.
        Some(seen) if seen > last_event => {
            write_event(&mut first, 0, "reset", r#"{"number":0}"#);
            0
        }
        Some(seen) => seen,
    };
    let permit = Arc::clone(&desk.readers)
        .try_acquire_owned()
        .map_err(|_| Refusal::unavailable(format!("{READERS} read events already: close one of them")))?;
    let reader = Reader { service: Arc::clone(&desk.service), last, seen, first: Some(first), _permit: permit };
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
            // An event that comes after this wakes the reader again.
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
            if !text.is_empty() {
                return text;
            }
            if tokio::time::timeout(KEEP_ALIVE, self.last.changed()).await.is_err() {
                return ": nothing new\n\n".to_owned();
            }
        }
    }
}

/// JSON has no line breaks outside its strings, and inside they are escaped.
fn write_event(text: &mut String, number: u64, kind: &str, data: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "id: {number}\nevent: {kind}\ndata: {data}\n\n");
}
