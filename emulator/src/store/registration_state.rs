//! The state of a registration, as the store keeps it and as devices read it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::wall_time,
    identity::{certificate::CertificateInfo, ids},
};

/// `DeviceRegistrationResult`, with its members in the order of the service.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) substatus: Option<Substatus>,
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

/// How far a registration is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    #[default]
    Assigning,
    Assigned,
    Failed,
    Disabled,
}

/// How a device got its assignment.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Substatus {
    /// The device had no assignment before.
    InitialAssignment,
    /// The device moved from another hub, with its twin.
    DeviceDataMigrated,
    /// The device moved from another hub, and got the initial twin.
    DeviceDataReset,
    /// The device keeps its hub.
    ReprovisionedToInitialAssignment,
}

impl Substatus {
    /// Returns the substatus as the service writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InitialAssignment => "initialAssignment",
            Self::DeviceDataMigrated => "deviceDataMigrated",
            Self::DeviceDataReset => "deviceDataReset",
            Self::ReprovisionedToInitialAssignment => "reprovisionedToInitialAssignment",
        }
    }
}

impl fmt::Display for Substatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a result about the attestation: `X509RegistrationResult`, `SymmetricKeyRegistrationResult` or
/// `TpmRegistrationResult`.
#[derive(Clone, Debug, Deserialize, Serialize)]
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

impl RegistrationState {
    pub(crate) fn new(registration_id: &str, status: Status) -> Self {
        Self { registration_id: registration_id.to_owned(), status, ..Self::default() }
    }

    pub(crate) fn failed(registration_id: &str, code: u32, message: String) -> Self {
        Self { error_code: Some(code), error_message: Some(message), ..Self::new(registration_id, Status::Failed) }
    }

    /// Adds the times and the entity tag of a stored registration.
    pub(crate) fn stored(mut self, created: &str) -> Self {
        self.created_date_time_utc = Some(created.to_owned());
        self.last_updated_date_time_utc = Some(wall_time::now());
        self.etag = Some(ids::registration_etag());
        self
    }

    /// Returns about how many bytes of memory the webhook's payload and the issued certificates take.
    pub(super) fn size(&self) -> usize {
        let payload = self.payload.as_ref().map_or(0, |payload| payload.get().len());
        payload + self.issued_certificate_chain.iter().flatten().map(String::len).sum::<usize>()
    }
}

/// Writes the state as one line of the log.
impl fmt::Display for RegistrationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.assigned_hub, self.error_code) {
            (Some(hub), _) => {
                let device_id = self.device_id.as_deref().unwrap_or_default();
                write!(f, "assigned {hub} as {device_id} ({})", self.substatus.map_or("", Substatus::as_str))?;
                f.write_str(if self.issued_certificate_chain.is_some() { ", with a certificate" } else { "" })
            }
            (None, Some(code)) => write!(f, "failed {code} {}", self.error_message.as_deref().unwrap_or_default()),
            (None, None) => f.write_str(match self.status {
                Status::Assigning => "assigning",
                Status::Assigned => "assigned",
                Status::Failed => "failed",
                Status::Disabled => "disabled",
            }),
        }
    }
}
