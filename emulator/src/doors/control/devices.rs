//! Devices and their twins.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    call::{Call, Desk},
    reply::{Refusal, Reply},
};
use crate::{
    hub::{Hub, activity::Telemetry, error::HubError},
    service::{inspection::Page, views::telemetry_view},
    watch::text::excerpt,
};

/// How long a call waits until a connection has ended.
const END: Duration = Duration::from_secs(2);

pub(super) fn list(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let Page { entries, next, last_event } =
        desk.service.device_page(call.query("after").unwrap_or_default(), call.limit()?);
    Ok(Reply::json(&json!({ "devices": entries, "next": next, "lastEvent": last_event })))
}

pub(super) fn show(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let device = desk.service.device_view(&call.parameter).ok_or_else(|| no_device(call))?;
    Ok(Reply::json(&device))
}

/// Returns the last telemetry of a device.
pub(super) fn telemetry(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let device = desk.service.device_view(&call.parameter).ok_or_else(|| no_device(call))?;
    let Telemetry { count, last } = desk.hub.telemetry(&call.parameter);
    let registration_id = &device["registrationId"];
    Ok(Reply::json(&json!({ "registrationId": registration_id, "count": count, "messages": telemetry_view(&last) })))
}

pub(super) fn patch_twin(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Patch {
        // The member may be missing, but not `null`.
        #[serde(default, deserialize_with = "members")]
        tags: Option<Map<String, Value>>,
        #[serde(default, deserialize_with = "members")]
        desired: Option<Map<String, Value>>,
    }
    let Patch { tags, desired } = call.body()?;
    desk.hub.patch_twin(&call.parameter, tags, desired).map_err(|error| refusal(call, &error))?;
    show(desk, call)
}

pub(super) fn enable(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    call.no_body()?;
    desk.hub.set_enabled(&call.parameter, true).map_err(|error| refusal(call, &error))?;
    show(desk, call)
}

pub(super) fn disable(hub: &Hub, registration_id: &str) -> Result<(), HubError> {
    hub.set_enabled(registration_id, false)
}

/// Does something that ends the connection of a device, and waits until the connection has ended.
pub(super) async fn end_connection(
    desk: &Desk,
    call: &Call<'_>,
    act: fn(&Hub, &str) -> Result<(), HubError>,
) -> Result<Reply, Refusal> {
    call.no_body()?;
    let (id, activity) = (&*call.parameter, desk.hub.activity());
    let session = activity.session(id);
    // An event says that the connection has ended.
    let mut events = desk.service.journal().watch();
    act(&desk.hub, id).map_err(|error| refusal(call, &error))?;
    let ended =
        async { while session.is_some() && activity.session(id) == session && events.changed().await.is_ok() {} };
    // If the device does not read, it is shown as connected until its connection breaks.
    let _ = tokio::time::timeout(END, ended).await;
    show(desk, call)
}

fn members<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    Map::deserialize(deserializer).map(Some)
}

fn no_device(call: &Call<'_>) -> Refusal {
    Refusal::not_found(format!("no device {:?} has registered", excerpt(&call.parameter)))
}

fn refusal(call: &Call<'_>, error: &HubError) -> Refusal {
    match error {
        HubError::NoDevice => no_device(call),
        HubError::NotAtHub | HubError::Full => Refusal::conflict(error.to_string()),
        HubError::Json(_) | HubError::Limit(_) => Refusal::bad_request(error.to_string()),
        HubError::NotKept(_) => Refusal::unavailable(error.to_string()),
    }
}
