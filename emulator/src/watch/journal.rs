//! What happened: kept within bounds for tests to look at, and told to an observer at once.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{
    bounded::{Bounded, Flood},
    records::{ConnectionFailure, Event, RequestRecord, WebhookCall},
};
use crate::clock::Clock;

/// Is told of every event, on the service's thread.
pub(crate) type Observer = Box<dyn Fn(&Event) + Send + Sync>;

/// The record of requests and webhook calls.
pub(crate) struct Journal {
    kept: Mutex<Kept>,
    clock: Clock,
    observer: Option<Observer>,
}

#[derive(Default)]
struct Kept {
    requests: Bounded<RequestRecord>,
    webhook_calls: Bounded<WebhookCall>,
    failures: Flood,
}

impl Journal {
    pub(crate) fn new(clock: Clock, observer: Option<Observer>) -> Self {
        Self { kept: Mutex::default(), clock, observer }
    }

    /// An observer that panics must not take the service down with it.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn requests(&self) -> Vec<RequestRecord> {
        self.kept().requests.to_vec()
    }

    pub(crate) fn webhook_calls(&self) -> Vec<WebhookCall> {
        self.kept().webhook_calls.to_vec()
    }

    pub(crate) fn record_request(&self, record: RequestRecord) {
        let record = record.without_signatures();
        let bytes = record.text_len();
        self.kept().requests.push(record.clone(), bytes);
        self.observe(&Event::Request(record));
    }

    pub(crate) fn record_webhook_call(&self, call: WebhookCall) {
        // The request is held twice, and as a tree takes several times its text.
        let bytes = call.request_body.len() * 8 + call.response_body.len();
        self.kept().webhook_calls.push(call.clone(), bytes);
        self.observe(&Event::Webhook(call));
    }

    /// Tells of a call that is not answered yet.
    pub(crate) fn webhook_under_way(&self, call: WebhookCall) {
        self.observe(&Event::WebhookUnderWay(call));
    }

    /// Records what concerns a listener as a whole.
    pub(crate) fn note(&self, listener: &'static str, outcome: String) {
        self.record_request(RequestRecord { outcome, ..RequestRecord::new(listener, "-") });
    }

    /// Tells of a connection without a request, unless there are too many.
    pub(crate) fn connection_failed(&self, listener: &'static str, peer: IpAddr, outcome: String) {
        let Some(hidden) = self.kept().failures.admit(self.clock.uptime()) else { return };
        let at = SystemTime::now();
        self.observe(&Event::ConnectionFailed(ConnectionFailure { at, listener, peer, outcome, hidden }));
    }

    /// Forgets everything.
    #[cfg(fuzzing)]
    pub(crate) fn forget(&self) {
        *self.kept() = Kept::default();
    }

    fn observe(&self, event: &Event) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}
