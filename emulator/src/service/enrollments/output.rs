//! An enrollment as a client of the service API reads it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    config::{
        Allocation, AllocationPolicy, ReprovisionPolicy, TpmAttestation, Twin, X509Attestation,
        enrollments::Attestation, webhook_url,
    },
    identity::{
        certificate::{Certificate, CertificateInfo},
        tpm::EndorsementKey,
    },
    service::registrations::DeviceRegistrationState,
    store::enrollments::{Entry, Stamped},
};

/// The members of an enrollment group.
pub(super) const GROUP_MEMBERS: [&str; 14] = [
    "enrollmentGroupId",
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

/// The members of an individual enrollment.
pub(super) const INDIVIDUAL_MEMBERS: [&str; 16] = [
    "registrationId",
    "deviceId",
    "optionalDeviceInformation",
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

/// `EnrollmentGroup` or `IndividualEnrollment`. Keys are not in it.
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
    initial_twin: Option<TwinOutput<'a>>,
    etag: &'a str,
    provisioning_status: &'static str,
    reprovision_policy: ReprovisionOutput,
    created_date_time_utc: &'a str,
    last_updated_date_time_utc: &'a str,
    allocation_policy: AllocationPolicy,
    iot_hubs: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_allocation_definition: Option<CustomAllocationOutput<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_policy_name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    iot_edge: bool,
}

#[derive(Serialize)]
struct TwinOutput<'a> {
    tags: &'a Map<String, Value>,
    properties: TwinProperties<'a>,
}

#[derive(Serialize)]
struct TwinProperties<'a> {
    desired: &'a Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReprovisionOutput {
    update_hub_assignment: bool,
    migrate_device_data: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CustomAllocationOutput<'a> {
    webhook_url: String,
    api_version: &'a str,
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

/// Keys are in it only if the client asks for them.
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

/// Whether keys are told.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Keys {
    Hidden,
    Told,
}

impl<'a> Output<'a> {
    pub(super) fn new(stamped: &'a Stamped<Entry>, state: Option<DeviceRegistrationState<'a>>) -> Self {
        let stamp = &stamped.stamp;
        let (group, individual) = match &stamped.entry {
            Entry::Group(group) => (Some(group), None),
            Entry::Individual(individual) => (None, Some(individual)),
        };
        let (enabled, iot_edge, reprovision_policy, initial_twin, allocation, certificate_policy) = match &stamped.entry
        {
            Entry::Group(each) => (
                each.enabled,
                each.iot_edge,
                each.reprovision_policy,
                &each.initial_twin,
                &each.allocation,
                &each.certificate_policy,
            ),
            Entry::Individual(each) => (
                each.enabled,
                each.iot_edge,
                each.reprovision_policy,
                &each.initial_twin,
                &each.allocation,
                &each.certificate_policy,
            ),
        };
        Self {
            enrollment_group_id: group.map(|group| &*group.enrollment_group_id),
            registration_id: individual.map(|individual| &*individual.registration_id),
            device_id: individual.and_then(|individual| individual.device_id.as_deref()),
            registration_state: state,
            optional_device_information: individual
                .map(|individual| &individual.optional_device_information)
                .filter(|information| !information.is_empty()),
            attestation: Mechanism::of(&stamped.entry, Keys::Hidden),
            capabilities: Capabilities { iot_edge },
            iot_hub_host_name: allocation.iot_hub_host_name.as_deref(),
            initial_twin: (*initial_twin != Twin::default()).then_some(TwinOutput {
                tags: &initial_twin.tags,
                properties: TwinProperties { desired: &initial_twin.desired },
            }),
            etag: &stamp.etag,
            provisioning_status: if enabled { "enabled" } else { "disabled" },
            reprovision_policy: ReprovisionOutput {
                update_hub_assignment: reprovision_policy != ReprovisionPolicy::Never,
                migrate_device_data: reprovision_policy == ReprovisionPolicy::Migrate,
            },
            created_date_time_utc: &stamp.created,
            last_updated_date_time_utc: &stamp.updated,
            allocation_policy: allocation.policy,
            iot_hubs: &allocation.iot_hubs,
            custom_allocation_definition: CustomAllocationOutput::of(allocation),
            credential_policy_name: certificate_policy.as_deref(),
        }
    }
}

impl<'a> CustomAllocationOutput<'a> {
    fn of(allocation: &'a Allocation) -> Option<Self> {
        let webhook_url = webhook_url::masked(allocation.webhook_url.as_deref()?);
        Some(Self { webhook_url, api_version: &allocation.api_version })
    }
}

impl<'a> Mechanism<'a> {
    /// `None`: an enrollment without attestation, which the rules do not allow.
    pub(super) fn of(entry: &'a Entry, keys: Keys) -> Option<Self> {
        let (attestation, certificates): (_, fn(_) -> X509Output<'a>) = match entry {
            Entry::Group(group) => (group.attestation().ok()?, X509Output::SigningCertificates),
            Entry::Individual(individual) => (individual.attestation().ok()?, X509Output::ClientCertificates),
        };
        let none = Self { r#type: "x509", tpm: None, x509: None, symmetric_key: None };
        Some(match attestation {
            Attestation::SymmetricKey { primary, secondary } => {
                let symmetric_key = match keys {
                    Keys::Hidden => SymmetricKeyOutput::default(),
                    Keys::Told => SymmetricKeyOutput {
                        primary_key: Some(primary.to_base64()),
                        secondary_key: secondary.map(|secondary| secondary.to_base64()),
                    },
                };
                Self { r#type: "symmetricKey", symmetric_key: Some(symmetric_key), ..none }
            }
            Attestation::X509(X509Attestation { primary, secondary }) => {
                let pair = Pair { primary: told(primary), secondary: secondary.as_ref().map(told) };
                Self { x509: Some(certificates(pair)), ..none }
            }
            Attestation::CaReferences(references) => {
                let pair = Pair { primary: &*references.primary, secondary: references.secondary.as_deref() };
                Self { x509: Some(X509Output::CaReferences(pair)), ..none }
            }
            Attestation::Tpm(TpmAttestation { endorsement_key, storage_root_key }) => {
                let tpm = TpmOutput { endorsement_key, storage_root_key: storage_root_key.as_deref() };
                Self { r#type: "tpm", tpm: Some(tpm), ..none }
            }
        })
    }
}

fn told(certificate: &Certificate) -> CertificateOutput<'_> {
    CertificateOutput { certificate: certificate.pem(), info: certificate.info() }
}
