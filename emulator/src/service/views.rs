//! Devices and enrollments as the control API shows them. They contain no keys.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    clock::wall_time,
    config::{
        enrollments::{Attestation, Common},
        webhook_url,
    },
    hub::activity::{Activity, TelemetryMessage},
    store::{
        Store,
        device::Device,
        enrollments::{Kind, Stored},
        hub_device::HubStatus,
        shared::Watcher,
    },
    watch::journal::Journal,
};

/// How many bytes of a message's body are shown, and how many of its properties.
const SHOWN: usize = 16 * 1024;
const SHOWN_PROPERTIES: usize = 100;

/// Returns a watcher that sends events about changed devices and enrollments. Returns `None` if events are not kept.
pub(crate) fn teller(journal: &Arc<Journal>, activity: &Arc<Activity>) -> Option<Watcher> {
    if !journal.keeps_events() {
        return None;
    }
    let (journal, activity) = (Arc::clone(journal), Arc::clone(activity));
    Some(Box::new(move |store, changed| {
        for &(kind, ref id) in &changed.enrollments {
            let enrollment = enrollment_view(store, kind, id);
            let id = enrollment.as_ref().and_then(|view| view.get("id").cloned()).unwrap_or_else(|| json!(id));
            let event = json!({ "kind": kind.name(), "id": id, "enrollment": enrollment });
            journal.changed("enrollment", members(event));
        }
        for id in &changed.devices {
            let device = store.devices.get(id).map(|device| device_summary(id, device, &activity));
            let id = device.as_ref().and_then(|view| view.get("registrationId").cloned()).unwrap_or_else(|| json!(id));
            journal.changed("device", members(json!({ "registrationId": id, "device": device })));
        }
    }))
}

pub(super) fn device_view(store: &Store, registration_id: &str, activity: &Activity) -> Option<Map<String, Value>> {
    let device = store.devices.get(registration_id)?;
    let mut view = device_summary(registration_id, device, activity);
    view.insert("twin".to_owned(), json!(device.at_hub().map(|record| &record.twin)));
    if let Some(Value::Object(hub)) = view.get_mut("hub") {
        hub.insert("telemetry".to_owned(), telemetry_view(&activity.telemetry(registration_id).last));
    }
    Some(view)
}

/// Returns the last telemetry of a device. Long bodies and long lists of properties are cut.
pub(crate) fn telemetry_view(messages: &[Arc<TelemetryMessage>]) -> Value {
    let messages = messages.iter().map(|message| {
        let TelemetryMessage { at, properties, body } = &**message;
        let shown = properties.iter().take(SHOWN_PROPERTIES);
        let shown: Vec<_> = shown.map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let (start, size) = (&body[..body.len().min(SHOWN)], body.len());
        let text = String::from_utf8_lossy(start);
        json!({ "at": wall_time::rfc3339(*at), "properties": shown, "body": text, "size": size })
    });
    messages.collect()
}

/// Returns a device without its twin and its telemetry.
pub(super) fn device_summary(registration_id: &str, device: &Device, activity: &Activity) -> Map<String, Value> {
    let seen = activity.seen(registration_id);
    let (record, last) = (device.record(), device.last());
    // The registration ID as the device last wrote it.
    let id = last.map(|last| &*last.registration_id).or(record.map(|record| &*record.registration_id));
    members(json!({
        "registrationId": id.unwrap_or(registration_id),
        "enrollment": device.enrollment.as_ref().map(|(kind, id)| json!({ "kind": kind.name(), "id": id })),
        "assignedHub": record.map(|record| &record.assigned_hub),
        "deviceId": record.map(|record| &record.device_id),
        "substatus": record.map(|record| record.substatus),
        "registrations": record.map_or(0, |record| record.registrations),
        "lastRegistration": last.map(|last| json!({
            "status": last.status,
            "errorCode": last.error_code,
            "errorMessage": last.error_message,
            "createdDateTimeUtc": last.created_date_time_utc,
            "lastUpdatedDateTimeUtc": last.last_updated_date_time_utc,
        })),
        "hub": device.at_hub().map(|record| json!({
            "enabled": record.hub_status == HubStatus::Enabled,
            "connectionState": if seen.is_connected { "connected" } else { "disconnected" },
            "since": seen.since.map(wall_time::rfc3339),
            "telemetryCount": seen.messages,
        })),
    }))
}

pub(super) fn enrollment_view(store: &Store, kind: Kind, id: &str) -> Option<Map<String, Value>> {
    let Stored { entry, stamp } = store.enrollments.get(kind, id)?;
    let Common { id, enabled, attestation, allocation, .. } = entry.common();
    Some(members(json!({
        "kind": kind.name(),
        "id": id,
        "enabled": enabled,
        "attestation": attestation.ok().map(Attestation::kind),
        "allocationPolicy": allocation.policy,
        "iotHubs": allocation.iot_hubs,
        "webhookUrl": allocation.webhook_url.as_deref().map(webhook_url::masked),
        "etag": stamp.etag,
        "createdDateTimeUtc": stamp.created,
        "lastUpdatedDateTimeUtc": stamp.updated,
    })))
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
