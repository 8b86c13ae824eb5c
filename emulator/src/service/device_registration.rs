//! The body of a register request: `DeviceRegistration`.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::error::ServiceError;
use crate::{
    config::Behaviour,
    identity::tpm::{StorageKey, TpmKeys},
};

/// `DeviceRegistration`, without the members that are ignored.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeviceRegistration {
    pub(crate) registration_id: Option<String>,
    pub(crate) tpm: Option<TpmAttestation>,
    pub(crate) payload: Option<Box<RawValue>>,
    pub(crate) csr: Option<String>,
    pub(crate) client_certificate_csr: Option<String>,
}

/// The members of `DeviceRegistration` that have a specification.
const MEMBERS: [&str; 5] = ["registrationId", "tpm", "payload", "csr", "clientCertificateCsr"];

/// `TpmAttestation`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TpmAttestation {
    endorsement_key: String,
    storage_root_key: String,
}

impl DeviceRegistration {
    /// Reads a body. It may be empty. Otherwise it must be a `DeviceRegistration` of this device.
    pub(crate) fn read(body: &[u8], registration_id: &str, behaviour: &Behaviour) -> Result<Self, ServiceError> {
        let body = body.trim_ascii();
        if body.is_empty() {
            return Ok(Self::default());
        }
        // serde would accept an array instead of an object.
        if !body.starts_with(b"{") {
            return Err(ServiceError::deserialization("the body is not a JSON object"));
        }
        let registration: Self = serde_json::from_slice(body)
            .map_err(|error| ServiceError::deserialization(format!("the body is not valid: {error}")))?;
        let is_string = registration.payload.as_ref().is_some_and(|payload| payload.get().starts_with('"'));
        if behaviour.refuse_string_payload && is_string {
            return Err(ServiceError::deserialization("the payload is a JSON string, not an object"));
        }
        if behaviour.refuse_unknown_members {
            let members: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body).unwrap_or_default();
            if let Some(name) = members.into_keys().find(|name| !MEMBERS.contains(&&**name)) {
                return Err(ServiceError::deserialization(format!("the member {name:?} is unknown")));
            }
        }
        match &registration.registration_id {
            Some(id) if !id.eq_ignore_ascii_case(registration_id) => {
                Err(ServiceError::invalid_registration_id("the registration IDs of path and body differ"))
            }
            _ => Ok(registration),
        }
    }

    /// Returns the keys of the device's TPM, if the body has them. The storage root key is optional in the
    /// specification, but a challenge needs it.
    pub(crate) fn tpm_keys(&self) -> Result<Option<TpmKeys>, ServiceError> {
        let Some(tpm) = &self.tpm else {
            return Ok(None);
        };
        let read = |name, text| {
            StorageKey::from_base64(text)
                .map_err(|fault| ServiceError::bad_request(format!("tpm.{name} cannot be used: {fault}")))
        };
        Ok(Some(TpmKeys {
            endorsement_key: read("endorsementKey", &tpm.endorsement_key)?,
            storage_root_key: read("storageRootKey", &tpm.storage_root_key)?,
        }))
    }
}
