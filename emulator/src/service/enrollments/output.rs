//! An enrollment as a client of the service API reads it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    config::{AllocationPolicy, TpmAttestation, X509Attestation, enrollments::Attestation},
    identity::{
        certificate::{Certificate, CertificateInfo},
        tpm::EndorsementKey,
    },
    service::{
        enrollment_json::{Capabilities, CustomAllocationDefinition, ReprovisionSettings, TwinState},
        registrations::DeviceRegistrationState,
    },
    store::enrollments::{EntryRef, Kind, Stored},
};

/// Returns the names of the members of an enrollment.
pub(super) fn members(kind: Kind) -> Vec<&'static str> {
    let own: &[_] = match kind {
        Kind::Group => &["enrollmentGroupId"],
        Kind::Individual => &["registrationId", "deviceId", "optionalDeviceInformation"],
    };
    let of_both = [
        "attestation",
        "capabilities",
        "iotHubHostName",
        "initialTwin",
        "etag",
        "provisioningStatus",
        "reprovisionPolicy",
        "createdDateTimeUtc",
        "lastUpdatedDateTimeUtc",
        "allocationPolicy",
        "iotHubs",
        "customAllocationDefinition",
        "credentialPolicyName",
    ];
    [own, &of_both].concat()
}

/// `EnrollmentGroup` or `IndividualEnrollment`, without keys.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_state: Option<DeviceRegistrationState<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    optional_device_information: Option<&'a Map<String, Value>>,
    attestation: Option<Mechanism<'a>>,
    capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    iot_hub_host_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_twin: Option<TwinState<'a>>,
    etag: &'a str,
    provisioning_status: &'static str,
    reprovision_policy: ReprovisionSettings,
    created_date_time_utc: &'a str,
    last_updated_date_time_utc: &'a str,
    allocation_policy: AllocationPolicy,
    iot_hubs: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_allocation_definition: Option<CustomAllocationDefinition<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_policy_name: Option<&'a str>,
}

/// `AttestationMechanism`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mechanism<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpm: Option<TpmOutput<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509: Option<X509Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symmetric_key: Option<SymmetricKeyOutput>,
}

/// The keys are present only if the client asks for them.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKeyOutput {
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secondary_key: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum X509Output<'a> {
    ClientCertificates(Pair<CertificateOutput<'a>>),
    SigningCertificates(Pair<CertificateOutput<'a>>),
    CaReferences(Pair<&'a str>),
}

#[derive(Serialize)]
struct Pair<T> {
    primary: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    secondary: Option<T>,
}

/// `X509CertificateWithInfo`.
#[derive(Serialize)]
struct CertificateOutput<'a> {
    certificate: String,
    info: &'a CertificateInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TpmOutput<'a> {
    endorsement_key: &'a EndorsementKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_root_key: Option<&'a str>,
}

/// Whether the answer includes keys.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Keys {
    Hidden,
    Told,
}

impl<'a> Output<'a> {
    pub(super) fn new(Stored { entry, stamp }: Stored<'a>, state: Option<DeviceRegistrationState<'a>>) -> Self {
        let (group, individual) = match entry {
            EntryRef::Group(group) => (Some(group), None),
            EntryRef::Individual(individual) => (None, Some(individual)),
        };
        let common = entry.common();
        let allocation = common.allocation;
        Self {
            enrollment_group_id: group.map(|group| &*group.enrollment_group_id),
            registration_id: individual.map(|individual| &*individual.registration_id),
            device_id: individual.and_then(|individual| individual.device_id.as_deref()),
            registration_state: state,
            optional_device_information: individual
                .map(|individual| &individual.optional_device_information)
                .filter(|information| !information.is_empty()),
            attestation: Mechanism::of(entry, Keys::Hidden),
            capabilities: Capabilities { iot_edge: common.iot_edge },
            iot_hub_host_name: allocation.iot_hub_host_name.as_deref(),
            initial_twin: TwinState::of(common.initial_twin),
            etag: &stamp.etag,
            provisioning_status: if common.enabled { "enabled" } else { "disabled" },
            reprovision_policy: common.reprovision_policy.into(),
            created_date_time_utc: &stamp.created,
            last_updated_date_time_utc: &stamp.updated,
            allocation_policy: allocation.policy,
            iot_hubs: &allocation.iot_hubs,
            custom_allocation_definition: allocation
                .webhook_url
                .as_deref()
                .map(|url| CustomAllocationDefinition::new(url, allocation)),
            credential_policy_name: common.certificate_policy,
        }
    }
}

impl<'a> Mechanism<'a> {
    /// Returns `None` for an enrollment without attestation, which the rules do not allow.
    pub(super) fn of(entry: EntryRef<'a>, keys: Keys) -> Option<Self> {
        let attestation = entry.common().attestation.ok()?;
        let none = Self { r#type: attestation.kind(), tpm: None, x509: None, symmetric_key: None };
        Some(match attestation {
            Attestation::SymmetricKey { primary, secondary } => {
                let symmetric_key = match keys {
                    Keys::Hidden => SymmetricKeyOutput::default(),
                    Keys::Told => SymmetricKeyOutput {
                        primary_key: Some(primary.to_base64()),
                        secondary_key: secondary.map(|secondary| secondary.to_base64()),
                    },
                };
                Self { symmetric_key: Some(symmetric_key), ..none }
            }
            Attestation::X509(X509Attestation { primary, secondary }) => {
                let pair = Pair { primary: told(primary), secondary: secondary.as_ref().map(told) };
                let x509 = match entry {
                    EntryRef::Group(_) => X509Output::SigningCertificates(pair),
                    EntryRef::Individual(_) => X509Output::ClientCertificates(pair),
                };
                Self { x509: Some(x509), ..none }
            }
            Attestation::CaReferences(references) => {
                let pair = Pair { primary: &*references.primary, secondary: references.secondary.as_deref() };
                Self { x509: Some(X509Output::CaReferences(pair)), ..none }
            }
            Attestation::Tpm(TpmAttestation { endorsement_key, storage_root_key }) => {
                let tpm = TpmOutput { endorsement_key, storage_root_key: storage_root_key.as_deref() };
                Self { tpm: Some(tpm), ..none }
            }
        })
    }
}

fn told(certificate: &Certificate) -> CertificateOutput<'_> {
    CertificateOutput { certificate: certificate.pem(), info: certificate.info() }
}
