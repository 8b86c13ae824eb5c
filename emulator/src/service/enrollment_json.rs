//! The parts of an enrollment that have the same JSON in requests to webhooks and in the service API.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{Allocation, ReprovisionPolicy, Twin, webhook_url};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capabilities {
    pub(super) iot_edge: bool,
}

#[derive(Serialize)]
pub(super) struct TwinState<'a> {
    tags: &'a Map<String, Value>,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Properties<'a> {
    desired: &'a Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReprovisionSettings {
    update_hub_assignment: bool,
    migrate_device_data: bool,
}

/// The URL of the webhook is shown without its secrets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CustomAllocationDefinition<'a> {
    webhook_url: String,
    api_version: &'a str,
}

impl<'a> TwinState<'a> {
    /// Returns `None` if the twin is empty.
    pub(super) fn of(twin: &'a Twin) -> Option<Self> {
        let Twin { tags, desired } = twin;
        (*twin != Twin::default()).then_some(Self { tags, properties: Properties { desired } })
    }
}

impl From<ReprovisionPolicy> for ReprovisionSettings {
    fn from(policy: ReprovisionPolicy) -> Self {
        Self {
            update_hub_assignment: policy != ReprovisionPolicy::Never,
            migrate_device_data: policy == ReprovisionPolicy::Migrate,
        }
    }
}

impl<'a> CustomAllocationDefinition<'a> {
    pub(super) fn new(url: &str, allocation: &'a Allocation) -> Self {
        Self { webhook_url: webhook_url::masked(url), api_version: &allocation.api_version }
    }
}
