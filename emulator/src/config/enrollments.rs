//! Enrollments: the devices, their attestation and their allocation.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::webhook_url;
use crate::identity::{certificate::Certificate, key::SymmetricKey, tpm::EndorsementKey};

/// Devices that share a group key, or whose certificates a CA of the group has signed.
///
/// It has either keys or [`x509`](Self::x509) or [`ca_references`](Self::ca_references).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct EnrollmentGroup {
    /// The group's name.
    pub enrollment_group_id: String,
    /// Allows the devices to be provisioned. If false, they get the status `disabled`.
    pub enabled: bool,
    /// The key from which the devices' keys are derived.
    pub primary_key: SymmetricKey,
    /// The secondary key, for roll-over.
    pub secondary_key: Option<SymmetricKey>,
    /// Instead of keys, the CAs that sign the devices' certificates: roots or intermediates.
    pub x509: Option<X509Attestation>,
    /// Instead of keys, the names of such CAs in [`Config::ca_certificates`](crate::Config::ca_certificates).
    pub ca_references: Option<CaReferences>,
    /// The policy for certificates. Devices that send a `csr` are issued certificates. If absent, no certificates are
    /// issued. The emulator's CA issues the same kind of certificate for every policy name.
    pub certificate_policy: Option<String>,
    /// How the hub is chosen.
    pub allocation: Allocation,
    /// What happens if a device registers again.
    pub reprovision_policy: ReprovisionPolicy,
    /// The twin of a new device, unless the webhook gives one.
    pub initial_twin: Twin,
    /// `true` if the devices are IoT Edge devices.
    pub iot_edge: bool,
}

impl Default for EnrollmentGroup {
    fn default() -> Self {
        Self {
            enrollment_group_id: String::new(),
            enabled: true,
            primary_key: SymmetricKey::default(),
            secondary_key: None,
            x509: None,
            ca_references: None,
            certificate_policy: None,
            allocation: Allocation::default(),
            reprovision_policy: ReprovisionPolicy::default(),
            initial_twin: Twin::default(),
            iot_edge: false,
        }
    }
}

impl EnrollmentGroup {
    pub(crate) fn attestation(&self) -> Result<Attestation<'_>, &'static str> {
        let other = self.ca_references.as_ref().map(Attestation::CaReferences);
        Attestation::of(&self.primary_key, self.secondary_key.as_ref(), self.x509.as_ref(), other)
    }

    pub(crate) fn common(&self) -> Common<'_> {
        Common {
            id: &self.enrollment_group_id,
            enabled: self.enabled,
            attestation: self.attestation(),
            certificate_policy: self.certificate_policy.as_deref(),
            allocation: &self.allocation,
            reprovision_policy: self.reprovision_policy,
            initial_twin: &self.initial_twin,
            iot_edge: self.iot_edge,
        }
    }
}

/// An enrollment of one device, with symmetric keys, an X.509 certificate or a TPM.
///
/// It has exactly one of keys, [`x509`](Self::x509) and [`tpm`](Self::tpm).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct IndividualEnrollment {
    /// The device's registration ID.
    pub registration_id: String,
    /// The device's ID at the hub. If absent, it is the registration ID.
    pub device_id: Option<String>,
    /// Allows the device to be provisioned. If false, it gets the status `disabled`.
    pub enabled: bool,
    /// The key with which the device signs.
    pub primary_key: SymmetricKey,
    /// The secondary key, for roll-over.
    pub secondary_key: Option<SymmetricKey>,
    /// Instead of keys, the device's certificates.
    pub x509: Option<X509Attestation>,
    /// Instead of keys, the device's TPM.
    pub tpm: Option<TpmAttestation>,
    /// The policy for certificates. If the device sends a `csr`, it is issued a certificate. If absent, no certificate
    /// is issued. The emulator's CA issues the same kind of certificate for every policy name.
    pub certificate_policy: Option<String>,
    /// How the hub is chosen.
    pub allocation: Allocation,
    /// What happens if the device registers again.
    pub reprovision_policy: ReprovisionPolicy,
    /// The device's first twin, unless the webhook gives one.
    pub initial_twin: Twin,
    /// `true` if the device is an IoT Edge device.
    pub iot_edge: bool,
    /// Information that the operator stores with the device. The service does not use it.
    pub optional_device_information: Map<String, Value>,
}

impl Default for IndividualEnrollment {
    fn default() -> Self {
        Self {
            registration_id: String::new(),
            device_id: None,
            enabled: true,
            primary_key: SymmetricKey::default(),
            secondary_key: None,
            x509: None,
            tpm: None,
            certificate_policy: None,
            allocation: Allocation::default(),
            reprovision_policy: ReprovisionPolicy::default(),
            initial_twin: Twin::default(),
            iot_edge: false,
            optional_device_information: Map::new(),
        }
    }
}

impl IndividualEnrollment {
    pub(crate) fn attestation(&self) -> Result<Attestation<'_>, &'static str> {
        let other = self.tpm.as_ref().map(Attestation::Tpm);
        Attestation::of(&self.primary_key, self.secondary_key.as_ref(), self.x509.as_ref(), other)
    }

    pub(crate) fn common(&self) -> Common<'_> {
        Common {
            id: &self.registration_id,
            enabled: self.enabled,
            attestation: self.attestation(),
            certificate_policy: self.certificate_policy.as_deref(),
            allocation: &self.allocation,
            reprovision_policy: self.reprovision_policy,
            initial_twin: &self.initial_twin,
            iot_edge: self.iot_edge,
        }
    }
}

/// The common fields of groups and individual enrollments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common<'a> {
    /// The name of the group or individual enrollment.
    pub(crate) id: &'a str,
    pub(crate) enabled: bool,
    pub(crate) attestation: Result<Attestation<'a>, &'static str>,
    pub(crate) certificate_policy: Option<&'a str>,
    pub(crate) allocation: &'a Allocation,
    pub(crate) reprovision_policy: ReprovisionPolicy,
    pub(crate) initial_twin: &'a Twin,
    pub(crate) iot_edge: bool,
}

/// How the devices of an enrollment prove their identity.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attestation<'a> {
    SymmetricKey { primary: &'a SymmetricKey, secondary: Option<&'a SymmetricKey> },
    X509(&'a X509Attestation),
    CaReferences(&'a CaReferences),
    Tpm(&'a TpmAttestation),
}

impl<'a> Attestation<'a> {
    /// Returns the service's name of the kind.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::SymmetricKey { .. } => "symmetricKey",
            Self::X509(_) | Self::CaReferences(_) => "x509",
            Self::Tpm(_) => "tpm",
        }
    }

    /// Returns the attestation of an enrollment, which must have exactly one kind.
    fn of(
        primary: &'a SymmetricKey,
        secondary: Option<&'a SymmetricKey>,
        x509: Option<&'a X509Attestation>,
        other: Option<Self>,
    ) -> Result<Self, &'static str> {
        let has_key = !primary.is_empty() || secondary.is_some();
        match (x509, other) {
            (None, None) if primary.is_empty() => Err("no primary_key and no x509"),
            (None, None) => Ok(Self::SymmetricKey { primary, secondary }),
            (Some(x509), None) if !has_key => Ok(Self::X509(x509)),
            (Some(_), None) => Err("both keys and x509: an enrollment has exactly one kind of attestation"),
            (None, Some(other)) if !has_key => Ok(other),
            (_, Some(Self::Tpm(_))) => {
                Err("both tpm and keys or x509: an enrollment has exactly one kind of attestation")
            }
            (_, Some(_)) => {
                Err("both ca_references and keys or x509: an enrollment has exactly one kind of attestation")
            }
        }
    }
}

/// The certificates of X.509 attestation. A group names CAs; an individual enrollment names the device certificate.
///
/// In TOML, each certificate is PEM, or the path of a PEM file relative to the working directory. Only the first
/// certificate of the PEM is used.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct X509Attestation {
    /// The certificate.
    pub primary: Certificate,
    /// The secondary certificate, for roll-over.
    pub secondary: Option<Certificate>,
}

impl X509Attestation {
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.named_certificates().map(|(_, certificate)| certificate)
    }

    /// Returns the certificates with the names of their fields.
    pub(super) fn named_certificates(&self) -> impl Iterator<Item = (&'static str, &Certificate)> {
        std::iter::once(("primary", &self.primary)).chain(self.secondary.iter().map(|each| ("secondary", each)))
    }
}

/// The CAs of a group, by their names in [`Config::ca_certificates`](crate::Config::ca_certificates).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaReferences {
    /// The CA's name.
    pub primary: String,
    /// The name of the secondary CA, for roll-over.
    pub secondary: Option<String>,
}

impl CaReferences {
    /// Returns the CA names with the names of their fields.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        std::iter::once(("primary", &self.primary)).chain(self.secondary.iter().map(|each| ("secondary", each)))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.primary).chain(&self.secondary)
    }
}

/// A CA's certificate that groups may name.
///
/// In TOML, the certificate is PEM, or the path of a PEM file relative to the working directory.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CaCertificate {
    /// The name.
    pub name: String,
    /// The certificate.
    pub certificate: Certificate,
}

/// The TPM of TPM attestation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TpmAttestation {
    /// The endorsement key, which identifies the TPM.
    pub endorsement_key: EndorsementKey,
    /// The storage root key. The service stores it and does not use it.
    pub storage_root_key: Option<String>,
}

/// How an enrollment chooses a hub.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Allocation {
    /// The allocation policy.
    pub policy: AllocationPolicy,
    /// The hubs to choose from. If empty, all linked hubs.
    pub iot_hubs: Vec<String>,
    /// The hub if `iot_hubs` is empty. The first api-version names a hub with this field.
    pub iot_hub_host_name: Option<String>,
    /// The webhook of custom allocation, with its function key (`?code=…`). If absent, the webhook of the configuration
    /// is called.
    pub webhook_url: Option<String>,
    /// The `apiVersion` in calls of the webhook. It has no other effect.
    pub api_version: String,
}

impl Default for Allocation {
    fn default() -> Self {
        Self {
            policy: AllocationPolicy::default(),
            iot_hubs: Vec::new(),
            iot_hub_host_name: None,
            webhook_url: None,
            api_version: "2021-10-01".to_owned(),
        }
    }
}

impl Allocation {
    /// Returns the hubs that the enrollment selects. If there are none, all linked hubs count.
    pub(crate) fn selected_hubs(&self) -> impl Iterator<Item = &String> {
        self.iot_hubs.iter().chain(self.iot_hub_host_name.as_ref().filter(|_| self.iot_hubs.is_empty()))
    }
}

impl fmt::Debug for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocation")
            .field("policy", &self.policy)
            .field("iot_hubs", &self.iot_hubs)
            .field("iot_hub_host_name", &self.iot_hub_host_name)
            .field("webhook_url", &self.webhook_url.as_deref().map(webhook_url::masked))
            .field("api_version", &self.api_version)
            .finish()
    }
}

/// The allocation policies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AllocationPolicy {
    /// The first hub in the list.
    Static,
    /// Spreads devices evenly. The same registration ID gets the same hub.
    #[default]
    Hashed,
    /// The hub with the lowest latency. In the emulator, all hubs have the same latency, so the result is that of
    /// [`Hashed`](Self::Hashed). The service also hashes devices across hubs with the same latency.
    GeoLatency,
    /// The webhook chooses the hub.
    Custom,
}

/// What happens if a device that has a hub registers again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ReprovisionPolicy {
    /// The device stays at its hub.
    Never,
    /// The device moves to the hub of the new allocation, and keeps its twin.
    #[default]
    Migrate,
    /// The device moves to the hub of the new allocation. At another hub, it starts with the initial twin.
    Reset,
}

/// The parts of a device twin that the service sets.
///
/// The hub's limits apply: 8 KB of tags, 32 KB of desired properties, and at most 10 levels in each. A name has no
/// control character, dot, `$` or space.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Twin {
    /// The tags, which the device does not see.
    pub tags: Map<String, Value>,
    /// The desired properties.
    pub desired: Map<String, Value>,
}
