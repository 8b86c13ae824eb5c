//! Health, the description of the API, and the reset.

use serde_json::json;

use super::{
    call::{Call, Desk},
    reply::{Refusal, Reply},
};
use crate::{clock::wall_time, service::inspection::Counts, store::shared::NotKept};

/// The OpenAPI description of the control API.
pub(super) const DESCRIPTION: &str = include_str!("../../../docs/control-api.json");

pub(super) fn health(desk: &Desk, _: &Call<'_>) -> Result<Reply, Refusal> {
    let settings = desk.service.settings();
    let Counts { devices, enrollments } = desk.service.counts();
    let listeners: Vec<_> =
        desk.listeners.iter().map(|(listener, url)| json!({ "listener": listener, "url": url })).collect();
    Ok(Reply::json(&json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "startedAt": wall_time::rfc3339(desk.started),
        "idScope": settings.id_scope,
        "linkedHubs": settings.linked_hubs,
        "listeners": listeners,
        "devices": devices,
        "enrollments": enrollments,
        "lastEvent": desk.service.journal().last_event(),
    })))
}

pub(super) fn openapi(_: &Desk, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::text("application/json; charset=utf-8", DESCRIPTION))
}

pub(super) fn reset(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    call.no_body()?;
    desk.service.reset().map_err(|NotKept(why)| Refusal::unavailable(why))?;
    Ok(Reply::json(&json!({ "lastEvent": desk.service.journal().last_event() })))
}
