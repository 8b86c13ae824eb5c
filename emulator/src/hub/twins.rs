//! The twins of devices: how they are read and changed.

use serde_json::{Map, Value};

use super::Hub;
use crate::{
    config::twin_limits::Part,
    store::{merge::merged, shared::NotKept},
};

/// Why a twin is not changed.
#[derive(Debug)]
pub(crate) enum TwinFault {
    NoDevice,
    /// The device is at no hub, and so has no twin.
    NoTwin,
    /// The twin would break a limit.
    Limit(String),
    /// There is no room for more twins.
    Full,
    /// The change could not be written.
    NotKept(String),
}

impl From<NotKept> for TwinFault {
    fn from(NotKept(why): NotKept) -> Self {
        Self::NotKept(why)
    }
}

impl Hub {
    /// Merges these members into tags and desired properties (RFC 7396), as an operator does.
    pub(crate) fn patch_twin(
        &self,
        registration_id: &str,
        tags: Option<Map<String, Value>>,
        desired: Option<Map<String, Value>>,
    ) -> Result<(), TwinFault> {
        self.shared.store.change(
            |store| {
                let device = store.devices.get(registration_id).ok_or(TwinFault::NoDevice)?;
                let mut twin = device.at_hub().ok_or(TwinFault::NoTwin)?.twin.clone();
                if let Some(patch) = tags {
                    twin.tags = merged(twin.tags, patch);
                    Part::Tags.check(&twin.tags).map_err(TwinFault::Limit)?;
                }
                if let Some(patch) = desired {
                    twin.desired = merged(twin.desired, patch);
                    Part::Desired.check(&twin.desired).map_err(TwinFault::Limit)?;
                    twin.desired_version = twin.desired_version.saturating_add(1);
                }
                store.devices.set_twin(registration_id, twin).map_err(|_| TwinFault::Full)
            },
            |()| (),
        )
    }
}
