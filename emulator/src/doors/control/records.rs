//! Records and events as JSON.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    clock::wall_time,
    hub::activity::Senders,
    watch::{
        happening::Happening,
        records::{WebhookCall, as_u64_millis},
    },
};

/// Returns a webhook call without its bodies.
pub(super) fn summary(call: &WebhookCall) -> Value {
    json!({
        "number": call.number,
        "at": wall_time::rfc3339(call.at),
        "registrationId": call.registration_id,
        "url": call.url,
        "attempt": call.attempt,
        "attempts": call.attempts,
        "durationMs": as_u64_millis(call.duration),
        "nextInMs": call.next_in.map(as_u64_millis),
        "status": call.status,
        "assignedHub": call.assigned_hub,
        "reason": call.assigned_hub.is_none().then_some(&call.outcome),
        "outcome": call.outcome,
        "warnings": call.warnings,
        "replayOf": call.replay_of,
    })
}

/// Returns a webhook call with its bodies.
pub(super) fn whole_call(call: &WebhookCall) -> Value {
    let mut whole = summary(call);
    whole["requestBody"] = json!(call.request_body);
    whole["responseBody"] = json!(call.response_body);
    whole
}

/// Returns the data of an event about telemetry.
pub(super) fn telemetry(Senders { devices, more, messages }: &Senders) -> String {
    let devices = devices.iter().map(|(id, count)| json!({ "registrationId": id, "count": count }));
    json!({ "messages": messages, "devices": devices.collect::<Vec<_>>(), "more": more }).to_string()
}

/// Returns the data of an event.
pub(super) fn data(number: u64, happening: &Happening) -> String {
    /// Adds the number to the members.
    #[derive(Serialize)]
    struct Numbered<T> {
        number: u64,
        #[serde(flatten)]
        members: T,
    }
    let data = match happening {
        Happening::Request(record) => serde_json::to_string(&**record),
        Happening::Webhook(call) => serde_json::to_string(&summary(call)),
        Happening::WebhookUnderWay(call) => serde_json::to_string(&summary(call)),
        Happening::ConnectionFailed(members) => serde_json::to_string(&Numbered { number, members }),
        Happening::Changed(_, members) => serde_json::to_string(&Numbered { number, members }),
        Happening::Reset => serde_json::to_string(&json!({ "number": number })),
    };
    // Serializing these types cannot fail.
    data.unwrap_or_default()
}
