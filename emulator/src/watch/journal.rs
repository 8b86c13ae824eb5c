//! The journal: keeps what happened, within limits, and calls an observer with each event.

use std::{
    fmt::Write,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{
    bounded::Flood,
    happening::Happening,
    history::History,
    records::{ConnectionFailure, Event, RequestRecord, WebhookCall},
};
use crate::clock::Clock;

/// Called with every event, on the thread of the service.
pub(crate) type Observer = Box<dyn Fn(&Event) + Send + Sync>;

/// Numbered entries, oldest first.
pub(crate) type Entries<T> = Vec<(u64, Arc<T>)>;

/// The record of requests, webhook calls and other events.
pub(crate) struct Journal {
    kept: Mutex<Kept>,
    clock: Clock,
    started: Instant,
    observer: Option<Observer>,
    /// `true` if the control API may read events. Otherwise events are not kept.
    keeps_events: bool,
    /// The number of the last event. Readers wait for it to change and take events when they can, so a slow reader
    /// delays nobody.
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    requests: History<RequestRecord>,
    webhook_calls: History<AskedCall>,
    events: History<Happening>,
    failures: Flood<20>,
    telemetry: Flood<100>,
}

/// A call of a webhook with its URL. It has no `Debug`, because the URL is a secret.
pub(crate) struct AskedCall {
    pub(crate) call: Arc<WebhookCall>,
    pub(crate) url: String,
}

/// The entries that a reader wants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    After(u64),
    /// The newest entries.
    Newest,
}

impl From {
    fn read<T>(self, history: &History<T>, limit: usize) -> Entries<T> {
        match self {
            Self::After(number) => history.after(number, limit),
            Self::Newest => history.newest(limit),
        }
    }
}

impl Journal {
    pub(crate) fn new(clock: Clock, observer: Option<Observer>, keeps_events: bool) -> Self {
        Self {
            kept: Mutex::default(),
            clock,
            started: Instant::now(),
            observer,
            keeps_events,
            last: watch::Sender::new(0),
        }
    }

    /// A panic of an observer must not stop the service.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn requests(&self) -> Vec<RequestRecord> {
        self.kept().requests.iter().map(|record| RequestRecord::clone(record)).collect()
    }

    pub(crate) fn webhook_calls(&self) -> Vec<WebhookCall> {
        self.kept().webhook_calls.iter().map(|asked| WebhookCall::clone(&asked.call)).collect()
    }

    /// Returns the number of the last event.
    pub(crate) fn last_event(&self) -> u64 {
        *self.last.borrow()
    }

    pub(crate) fn read_requests(&self, from: From, limit: usize) -> Entries<RequestRecord> {
        from.read(&self.kept().requests, limit)
    }

    pub(crate) fn read_webhook_calls(&self, from: From, limit: usize) -> Entries<AskedCall> {
        from.read(&self.kept().webhook_calls, limit)
    }

    pub(crate) fn webhook_call(&self, number: u64) -> Option<Arc<AskedCall>> {
        self.kept().webhook_calls.get(number)
    }

    /// Returns the events after this number, and how many earlier events are no longer kept.
    pub(crate) fn read_events(&self, after: u64, limit: usize) -> (Entries<Happening>, u64) {
        let kept = self.kept();
        let entries = kept.events.after(after, limit);
        // After a reset, the reset is the first event.
        let first = kept.events.first().unwrap_or_else(|| self.last_event() + 1);
        (entries, first.saturating_sub(after.saturating_add(1)))
    }

    /// Returns a receiver of the number of the last event.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    pub(crate) fn record_request(&self, record: RequestRecord) {
        let record = record.without_signatures();
        self.keep_request(self.kept(), record);
    }

    /// Records a telemetry message, unless there are too many. The next message that is recorded has the number of
    /// hidden ones.
    pub(crate) fn record_telemetry(&self, mut record: RequestRecord) {
        let mut kept = self.kept();
        // Real time, not scaled time, because the limit is for people and programs that read the record.
        let Some(hidden) = kept.telemetry.admit(self.started.elapsed()) else { return };
        if hidden > 0 {
            let _ = write!(record.outcome, " ({hidden} messages before this one were not recorded)");
        }
        self.keep_request(kept, record.without_signatures());
    }

    fn keep_request(&self, mut kept: MutexGuard<'_, Kept>, mut record: RequestRecord) {
        record.number = self.next(&kept);
        let bytes = record.text_len();
        let record = Arc::new(record);
        kept.requests.push(record.number, Arc::clone(&record), bytes);
        self.tell(kept, Happening::Request(Arc::clone(&record)));
        self.observe(|| Event::Request(RequestRecord::clone(&record)));
    }

    /// Records a call of the webhook at `url`. Returns the call with its number.
    pub(crate) fn record_webhook_call(&self, mut call: WebhookCall, url: &str) -> Arc<WebhookCall> {
        let mut kept = self.kept();
        call.number = self.next(&kept);
        let bytes = call.text_len();
        let call = Arc::new(call);
        let asked = AskedCall { call: Arc::clone(&call), url: url.to_owned() };
        kept.webhook_calls.push(call.number, Arc::new(asked), bytes);
        self.tell(kept, Happening::Webhook(Arc::clone(&call)));
        self.observe(|| Event::Webhook(WebhookCall::clone(&call)));
        call
    }

    /// Reports a call that has no answer yet.
    pub(crate) fn webhook_under_way(&self, mut call: WebhookCall) {
        let kept = self.kept();
        call.number = self.next(&kept);
        let call = Arc::new(call);
        self.tell(kept, Happening::WebhookUnderWay(Arc::clone(&call)));
        self.observe(|| Event::WebhookUnderWay(WebhookCall::clone(&call)));
    }

    /// Returns `true` if readers of events are possible.
    pub(crate) fn keeps_events(&self) -> bool {
        self.keeps_events
    }

    /// Sends readers an event about a change.
    pub(crate) fn changed(&self, kind: &'static str, members: Map<String, Value>) {
        self.tell(self.kept(), Happening::Changed(kind, members));
    }

    /// Records an event of a listener as a whole.
    pub(crate) fn note(&self, listener: &'static str, outcome: String) {
        self.record_request(RequestRecord { outcome, ..RequestRecord::new(listener, "-") });
    }

    /// Reports a connection without a request, unless there are too many.
    pub(crate) fn connection_failed(&self, listener: &'static str, peer: IpAddr, outcome: String) {
        let mut kept = self.kept();
        let Some(hidden) = kept.failures.admit(self.clock.uptime()) else { return };
        let failure = ConnectionFailure { at: SystemTime::now(), listener, peer, outcome, hidden };
        self.tell(kept, Happening::ConnectionFailed(failure.clone()));
        self.observe(|| Event::ConnectionFailed(failure));
    }

    /// Forgets everything, and sends readers an event about it. The numbers continue, so that a reader that
    /// reconnects misses nothing.
    pub(crate) fn reset(&self) {
        let mut kept = self.kept();
        *kept = Kept::default();
        self.tell(kept, Happening::Reset);
    }

    /// Returns the number of the next event.
    fn next(&self, _locked: &Kept) -> u64 {
        self.last_event() + 1
    }

    /// Keeps an event and wakes the readers.
    fn tell(&self, mut kept: MutexGuard<'_, Kept>, happening: Happening) {
        let number = self.next(&kept);
        if self.keeps_events {
            let bytes = happening.text_len();
            kept.events.push(number, Arc::new(happening), bytes);
        }
        self.last.send_replace(number);
    }

    /// Creates the event only if there is an observer.
    fn observe(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.observer {
            observer(&event());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Telemetry of a fleet does not push other requests out of the record, and the record has the number of hidden
    /// messages.
    #[test]
    fn telemetry_does_not_flood_the_record() {
        let journal = Journal::new(Clock::new(1000.0), None, true);
        let telemetry = || RequestRecord { outcome: "telemetry".to_owned(), ..RequestRecord::new("mqtts", "PUBLISH") };
        journal.record_request(RequestRecord::new("https", "PUT"));
        for _ in 0..20_000 {
            journal.record_telemetry(telemetry());
        }
        assert_eq!((journal.last_event(), journal.requests().len()), (101, 101));
        // Ten seconds later, the next message is recorded.
        let later =
            Journal { started: journal.started.checked_sub(std::time::Duration::from_secs(10)).unwrap(), ..journal };
        later.record_telemetry(telemetry());
        let requests = later.requests();
        assert_eq!(requests[0].method, "PUT");
        assert_eq!(requests[101].outcome, "telemetry (19900 messages before this one were not recorded)");
    }
}
