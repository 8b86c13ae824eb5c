//! The events that readers of the control API receive.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::records::{ConnectionFailure, RequestRecord, WebhookCall};

/// An event.
#[derive(Debug)]
pub(crate) enum Happening {
    Request(Arc<RequestRecord>),
    Webhook(Arc<WebhookCall>),
    WebhookUnderWay(Arc<WebhookCall>),
    ConnectionFailed(ConnectionFailure),
    /// A device or an enrollment changed: the kind of the event and its members.
    Changed(&'static str, Map<String, Value>),
    Reset,
}

impl Happening {
    /// Returns the name of the kind in the control API.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Webhook(_) => "webhook",
            Self::WebhookUnderWay(_) => "webhookUnderWay",
            Self::ConnectionFailed(_) => "connectionFailed",
            Self::Changed(kind, _) => kind,
            Self::Reset => "reset",
        }
    }

    /// Returns how many bytes of text the event holds.
    pub(super) fn text_len(&self) -> usize {
        match self {
            Self::Request(record) => record.text_len(),
            Self::Webhook(call) => call.text_len(),
            Self::WebhookUnderWay(call) => call.text_len(),
            Self::ConnectionFailed(failure) => failure.outcome.len(),
            // A tree takes several times the memory of its text.
            Self::Changed(_, members) => {
                8 * members.iter().map(|(name, value)| name.len() + text_len(value)).sum::<usize>()
            }
            Self::Reset => 0,
        }
    }
}

/// Returns about how long a value is as text.
fn text_len(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(text_len).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + text_len(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}
