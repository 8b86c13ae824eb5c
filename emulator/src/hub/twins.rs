//! Reads and changes the twins of devices.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Hub, admitted::Admitted, error::HubError, registry::record_at_hub};
use crate::{
    config::twin_limits::Part,
    store::{Store, device::DeviceRecord, merge::merged, twin::DeviceTwin},
};

/// A change of a twin, as operators write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    #[serde(default)]
    tags: Option<Map<String, Value>>,
    #[serde(default)]
    desired: Option<Map<String, Value>>,
}

impl Hub {
    /// Changes a twin with an object that has `tags` and `desired`.
    pub(crate) fn patch_twin_with(&self, registration_id: &str, patch: Value) -> Result<(), HubError> {
        let read = |patch: Value| -> serde_json::Result<Patch> {
            // serde would accept an array instead of an object.
            Patch::deserialize(Value::Object(Map::deserialize(patch)?))
        };
        let Patch { tags, desired } =
            read(patch).map_err(|error| HubError::Json(format!("the patch cannot be read: {error}")))?;
        self.patch_twin(registration_id, tags, desired)
    }

    /// Returns the part of the twin that the device sees.
    pub(crate) fn twin_document(&self, session: &Admitted) -> Result<String, HubError> {
        let store = self.shared.store.read();
        let DeviceTwin { desired, desired_version, reported, reported_version, .. } = &record_of(&store, session)?.twin;
        let desired = with_version(desired, *desired_version);
        Ok(format!(r#"{{"desired":{desired},"reported":{}}}"#, with_version(reported, *reported_version)))
    }

    /// Merges the properties that a device reports into its reported properties (RFC 7396). Returns the new
    /// `$version`.
    pub(crate) fn report(&self, session: &Admitted, body: &[u8]) -> Result<u64, HubError> {
        let patch: Value =
            serde_json::from_slice(body).map_err(|error| HubError::Json(format!("the body is not JSON: {error}")))?;
        let Value::Object(patch) = patch else {
            return Err(HubError::Json("the body is JSON, but not an object of reported properties".to_owned()));
        };
        self.shared.store.change(
            |store| {
                let mut twin = record_of(store, session)?.twin.clone();
                twin.reported = patched(Part::Reported, twin.reported, patch)?;
                twin.reported_version = twin.reported_version.saturating_add(1);
                let version = twin.reported_version;
                store.devices.set_twin(&session.registration_id, twin).map_err(|_| HubError::Full)?;
                Ok(version)
            },
            |version| version,
        )
    }

    /// Merges the change of an operator into tags and desired properties (RFC 7396).
    pub(crate) fn patch_twin(
        &self,
        registration_id: &str,
        tags: Option<Map<String, Value>>,
        desired: Option<Map<String, Value>>,
    ) -> Result<(), HubError> {
        self.shared.store.change(
            |store| {
                let mut twin = record_at_hub(store, registration_id)?.twin.clone();
                if let Some(patch) = tags {
                    twin.tags = patched(Part::Tags, twin.tags, patch)?;
                }
                let notification = desired.clone();
                if let Some(patch) = desired {
                    twin.desired = patched(Part::Desired, twin.desired, patch)?;
                    twin.desired_version = twin.desired_version.saturating_add(1);
                }
                let version = twin.desired_version;
                store.devices.set_twin(registration_id, twin).map_err(|_| HubError::Full)?;
                Ok((notification, version))
            },
            |(notification, version)| {
                if let Some(patch) = notification {
                    self.sessions.desired_changed(registration_id, with_version(&patch, version), version);
                }
            },
        )
    }
}

/// Returns the device of a session, if it is still at the hub to which it connected.
fn record_of<'a>(store: &'a Store, session: &Admitted) -> Result<&'a DeviceRecord, HubError> {
    let found = store.devices.at_hub(&session.hub, &session.device_id);
    let own = found.filter(|(key, _)| key.eq_ignore_ascii_case(&session.registration_id));
    own.and_then(|(_, device)| device.record()).ok_or(HubError::NotAtHub)
}

/// Returns a part of a twin after this patch. The patch is also checked on its own, because a patch that only deletes
/// has to keep the limits, too.
fn patched(part: Part, old: Map<String, Value>, patch: Map<String, Value>) -> Result<Map<String, Value>, HubError> {
    part.check(&patch).map_err(HubError::Limit)?;
    let new = merged(old, patch);
    part.check(&new).map_err(HubError::Limit)?;
    Ok(new)
}

/// Returns properties as a device reads them: with their version.
fn with_version(members: &Map<String, Value>, version: u64) -> String {
    let mut text = Value::Object(members.clone()).to_string();
    text.pop();
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{text}{comma}"$version":{version}}}"#)
}
