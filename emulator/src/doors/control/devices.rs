//! Devices and their twins.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    call::{Call, Desk},
    reply::{Refusal, Reply},
};
use crate::{
    hub::activity::Telemetry,
    hub::error::HubError,
    service::{inspection::Page, views::telemetry_view},
    watch::text::excerpt,
};

pub(super) fn list(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let Page { entries, next, last_event } =
        desk.service.device_page(call.query("after").unwrap_or_default(), call.limit()?);
    Ok(Reply::json(&json!({ "devices": entries, "next": next, "lastEvent": last_event })))
}

pub(super) fn show(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let device = desk.service.device_view(&call.parameter).ok_or_else(|| no_device(call))?;
    Ok(Reply::json(&device))
}

/// The last telemetry of a device.
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
        // Absent, but not null.
        #[serde(default, deserialize_with = "members")]
        tags: Option<Map<String, Value>>,
        #[serde(default, deserialize_with = "members")]
        desired: Option<Map<String, Value>>,
    }
    let Patch { tags, desired } = call.body()?;
    match desk.hub.patch_twin(&call.parameter, tags, desired) {
        Ok(()) => show(desk, call),
        Err(HubError::NoDevice) => Err(no_device(call)),
        Err(error @ (HubError::NotAtHub | HubError::Full)) => Err(Refusal::conflict(error.to_string())),
        Err(error @ (HubError::Json(_) | HubError::Limit(_))) => Err(Refusal::bad_request(error.to_string())),
        Err(error @ HubError::NotKept(_)) => Err(Refusal::unavailable(error.to_string())),
    }
}

fn members<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    Map::deserialize(deserializer).map(Some)
}

fn no_device(call: &Call<'_>) -> Refusal {
    Refusal::not_found(format!("no device {:?} has registered", excerpt(&call.parameter)))
}
