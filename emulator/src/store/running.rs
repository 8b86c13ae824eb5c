//! A registration that is running.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::enrollments::Kind;
use crate::identity::attested::Attested;

/// The one registration of a device that may still change its record, with everything that it needs to go on.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Running {
    pub(crate) operation_id: String,
    pub(crate) registration_id: String,
    pub(crate) enrollment: (Kind, String),
    /// By what the device proved who it is.
    pub(crate) attested: Attested,
    /// The payload for the webhook.
    pub(crate) payload: Option<Box<RawValue>>,
    /// The base64 of a certificate request that is to be fulfilled.
    pub(crate) csr: Option<String>,
    /// Whether the device's api-version has `reprovisionedToInitialAssignment`.
    pub(crate) has_reprovisioned: bool,
    pub(crate) created: String,
}
