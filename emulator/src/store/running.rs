//! A registration that is running.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::enrollments::Kind;
use crate::identity::attested::Attested;

/// The running registration of a device, with everything that it needs to continue after a restart.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Running {
    pub(crate) operation_id: String,
    pub(crate) registration_id: String,
    pub(crate) enrollment: (Kind, String),
    /// How the device proved its identity.
    pub(crate) attested: Attested,
    /// The payload for the webhook.
    pub(crate) payload: Option<Box<RawValue>>,
    /// The base64 of the certificate request, if the device sent one.
    pub(crate) csr: Option<String>,
    /// `true` if the device's api-version has `reprovisionedToInitialAssignment`.
    pub(crate) has_reprovisioned: bool,
    pub(crate) created: String,
}
