//! The JSON that devices send and get.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    clock::wall_time,
    config::Behaviour,
    enrollment::{Attested, Enrollment, Kind},
    error::ServiceError,
    identity::certificate::{Certificate, CertificateInfo},
    identity::ids,
    identity::tpm::{StorageKey, TpmKeys},
};

/// The api-versions that a specification names.
pub(crate) const API_VERSIONS: [&str; 13] = [
    "2017-08-31-preview",
    "2017-11-15",
    "2018-04-01",
    "2018-09-01-preview",
    "2018-11-01",
    "2019-03-31",
    "2021-06-01",
    "2021-10-01",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2026-04-01",
    "2026-11-01",
    "2026-11-02-preview",
];

/// Whether an api-version's `DeviceRegistration` has a `csr`. Versions are dates, and so in order.
pub(crate) fn has_csr(api_version: &str) -> bool {
    api_version >= "2025-07-01-preview"
}

/// Whether an api-version has the substatus `reprovisionedToInitialAssignment`: "Starting API
/// version 2019-04-15".
pub(crate) fn has_reprovisioned(api_version: &str) -> bool {
    api_version >= "2019-04-15"
}

/// `DeviceRegistration`, as far as it is looked at.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeviceRegistration {
    pub(crate) registration_id: Option<String>,
    pub(crate) tpm: Option<TpmAttestation>,
    pub(crate) payload: Option<Box<RawValue>>,
    pub(crate) csr: Option<String>,
    pub(crate) client_certificate_csr: Option<String>,
}

/// The members of `DeviceRegistration` that a specification names.
const MEMBERS: [&str; 5] = ["registrationId", "tpm", "payload", "csr", "clientCertificateCsr"];

/// `TpmAttestation`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TpmAttestation {
    endorsement_key: String,
    storage_root_key: String,
}

/// `RegistrationOperationStatus`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OperationStatus<'a> {
    pub(crate) operation_id: &'a str,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registration_state: Option<&'a RegistrationState>,
}

/// `DeviceRegistrationResult`, in the order in which the service writes it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RegistrationState {
    #[serde(flatten)]
    pub(crate) attestation: Option<AttestationResult>,
    pub(crate) registration_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_date_time_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) assigned_hub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_id: Option<String>,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) substatus: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_updated_date_time_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issued_certificate_chain: Option<Vec<String>>,
}

/// What a result says of the attestation: `X509RegistrationResult`, `SymmetricKeyRegistrationResult`,
/// `TpmRegistrationResult`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum AttestationResult {
    SymmetricKey {
        enrollment_group_id: String,
    },
    X509 {
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate_info: Option<Box<CertificateInfo>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        enrollment_group_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        signing_certificate_info: Option<Box<CertificateInfo>>,
    },
    Tpm {
        authentication_key: String,
    },
}

impl AttestationResult {
    /// As devices have logged it: of keys only the group, of certificates too, unless `with_info`
    /// asks for all that the specification has. A TPM gets a new key, for `resource`.
    pub(crate) fn of(enrollment: &Enrollment, with_info: bool, resource: &str) -> Option<Self> {
        let enrollment_group_id = (enrollment.kind == Kind::Group).then(|| enrollment.id.clone());
        let info = |certificate: &Certificate| with_info.then(|| Box::new(certificate.info().clone()));
        match &enrollment.attested {
            Attested::SymmetricKey(_) => {
                enrollment_group_id.map(|enrollment_group_id| Self::SymmetricKey { enrollment_group_id })
            }
            Attested::X509 { certificate, signer } => Some(Self::X509 {
                certificate_info: info(certificate),
                enrollment_group_id,
                signing_certificate_info: signer.as_ref().and_then(info),
            }),
            // The challenge was encrypted for the same TPM, so that this will be, too.
            Attested::Tpm(keys) => {
                keys.new_key(resource).ok().map(|(_, authentication_key)| Self::Tpm { authentication_key })
            }
        }
    }
}

impl RegistrationState {
    pub(crate) fn new(registration_id: &str, status: &'static str) -> Self {
        Self { registration_id: registration_id.to_owned(), status, ..Self::default() }
    }

    /// With the times and the tag that a stored registration has.
    pub(crate) fn stored(mut self, created: &str) -> Self {
        self.created_date_time_utc = Some(created.to_owned());
        self.last_updated_date_time_utc = Some(wall_time::now());
        self.etag = Some(ids::registration_etag());
        self
    }

    pub(crate) fn outcome(&self) -> String {
        match (&self.assigned_hub, self.error_code) {
            (Some(hub), _) => format!(
                "assigned {hub} as {} ({}){}",
                self.device_id.as_deref().unwrap_or_default(),
                self.substatus.unwrap_or_default(),
                if self.issued_certificate_chain.is_some() { ", with a certificate" } else { "" }
            ),
            (None, Some(code)) => format!("failed {code} {}", self.error_message.as_deref().unwrap_or_default()),
            (None, None) => self.status.to_owned(),
        }
    }
}

impl DeviceRegistration {
    /// The body is optional; what there is must be a `DeviceRegistration` of this device.
    pub(crate) fn read(body: &[u8], registration_id: &str, behaviour: &Behaviour) -> Result<Self, ServiceError> {
        let body = body.trim_ascii();
        if body.is_empty() {
            return Ok(Self::default());
        }
        // serde would take an array for a structure.
        if !body.starts_with(b"{") {
            return Err(ServiceError::deserialization("the body is no JSON object"));
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

    /// The keys of the device's TPM, if it shows any. The specification has the storage root key
    /// optional, but without it there is nothing to challenge.
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

/// What we write are structures of text, numbers and checked JSON: writing them cannot fail.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
