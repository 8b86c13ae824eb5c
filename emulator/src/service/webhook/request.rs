//! The request to a webhook: `AllocationRequest`.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    config::{AllocationPolicy, ReprovisionPolicy},
    identity::{
        certificate::{Certificate, CertificateInfo},
        tpm::TpmKeys,
    },
    service::{
        answer::json,
        attestation::Attested,
        enrollment::Enrollment,
        enrollment_json::{Capabilities, CustomAllocationDefinition, ReprovisionSettings, TwinState},
    },
};

/// `AllocationRequest`, in the order of the tutorial's log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct AllocationRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    individual_enrollment: Option<EnrollmentEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group: Option<EnrollmentEntry<'a>>,
    device_runtime_context: DeviceRuntimeContext<'a>,
    linked_hubs: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnrollmentEntry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    attestation: Attestation,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_twin: Option<TwinState<'a>>,
    etag: &'a str,
    provisioning_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reprovision_policy: Option<ReprovisionSettings>,
    created_date_time_utc: &'a str,
    last_updated_date_time_utc: &'a str,
    allocation_policy: AllocationPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    iot_hubs: Option<&'a [String]>,
    custom_allocation_definition: CustomAllocationDefinition<'a>,
}

#[derive(Serialize)]
struct Attestation {
    r#type: &'static str,
}

/// The part of the request about the device that registers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service) struct DeviceRuntimeContext<'a> {
    registration_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_iot_hub_host_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_device_id: Option<&'a str>,
    #[serde(flatten)]
    attestation: DeviceAttestation<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

/// How the device proved its identity.
#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum DeviceAttestation<'a> {
    /// Empty: it names the kind of attestation, never a key.
    SymmetricKey {},
    X509 {
        /// The member that existing functions read.
        client_certificate: String,
        /// The "certificate details" of the documentation, in the form of the specification.
        certificate_info: &'a CertificateInfo,
        #[serde(skip_serializing_if = "Option::is_none")]
        signing_certificate_info: Option<&'a CertificateInfo>,
    },
    Tpm(&'a TpmKeys),
}

impl<'a> DeviceRuntimeContext<'a> {
    /// Creates the context. `current` is the present hub and device ID of the device.
    pub(in crate::service) fn new(
        registration_id: &'a str,
        attested: &'a Attested,
        current: Option<&'a (String, String)>,
        payload: Option<&'a RawValue>,
    ) -> Self {
        Self {
            registration_id,
            current_iot_hub_host_name: current.map(|(hub, _)| hub.as_str()),
            current_device_id: current.map(|(_, device_id)| device_id.as_str()),
            attestation: DeviceAttestation::of(attested),
            payload,
        }
    }
}

impl<'a> DeviceAttestation<'a> {
    fn of(attested: &'a Attested) -> Self {
        match attested {
            Attested::SymmetricKey(_) | Attested::DerivedKey { .. } => Self::SymmetricKey {},
            Attested::X509 { certificate, signer } => Self::X509 {
                client_certificate: certificate.base64(),
                certificate_info: certificate.info(),
                signing_certificate_info: signer.as_ref().map(Certificate::info),
            },
            Attested::Tpm(keys) => Self::Tpm(keys),
        }
    }
}

impl<'a> AllocationRequest<'a> {
    pub(in crate::service) fn new(
        enrollment: &'a Enrollment,
        webhook_url: &str,
        device_runtime_context: DeviceRuntimeContext<'a>,
        linked_hubs: &'a [String],
        omits_unset: bool,
    ) -> Self {
        let is_group = enrollment.group().is_some();
        let policy = enrollment.reprovision_policy;
        let entry = EnrollmentEntry {
            enrollment_group_id: is_group.then_some(&enrollment.id),
            registration_id: (!is_group).then_some(&enrollment.id),
            device_id: enrollment.device_id.as_deref(),
            attestation: Attestation {
                r#type: match enrollment.attested {
                    Attested::SymmetricKey(_) | Attested::DerivedKey { .. } => "symmetricKey",
                    Attested::X509 { .. } => "x509",
                    Attested::Tpm(_) => "tpm",
                },
            },
            capabilities: (!omits_unset || enrollment.iot_edge)
                .then_some(Capabilities { iot_edge: enrollment.iot_edge }),
            initial_twin: TwinState::of(&enrollment.initial_twin),
            etag: &enrollment.stamp.etag,
            provisioning_status: "enabled",
            reprovision_policy: (!omits_unset || policy != ReprovisionPolicy::default()).then_some(policy.into()),
            created_date_time_utc: &enrollment.stamp.created,
            last_updated_date_time_utc: &enrollment.stamp.updated,
            allocation_policy: enrollment.allocation.policy,
            iot_hubs: Some(&*enrollment.allocation.iot_hubs).filter(|hubs| !(omits_unset && hubs.is_empty())),
            custom_allocation_definition: CustomAllocationDefinition::new(webhook_url, &enrollment.allocation),
        };
        let (individual_enrollment, enrollment_group) =
            if is_group { (None, Some(entry)) } else { (Some(entry), None) };
        Self { individual_enrollment, enrollment_group, device_runtime_context, linked_hubs }
    }

    pub(in crate::service) fn to_json(&self) -> String {
        json(self)
    }
}
