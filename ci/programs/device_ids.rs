//! Device ID and client ID are `&str`, even if the service sent them with escapes.

use azure_dps::{Assignment, after::Hub};

pub fn topic(assignment: &Assignment<'_>) -> String {
    let id: &str = assignment.device_id();
    format!("devices/{id}/messages/events/")
}

pub fn client_id<'a>(hub: &Hub<'a>) -> &'a str {
    hub.client_id()
}
