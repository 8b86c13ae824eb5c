//! An enrollment as a client of the service API writes it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::attestation::{Attestation, AttestationInput};
use crate::{
    config::{
        Allocation, AllocationPolicy, EnrollmentGroup, IndividualEnrollment, ReprovisionPolicy, Twin, webhook_url,
    },
    service::{
        error::ServiceError,
        json_body::{bad_member, object},
    },
    store::enrollments::{Entry, EntryRef, Kind},
};

/// `EnrollmentGroup` or `IndividualEnrollment`. Unknown members are ignored, and also members that only the service
/// sets, such as times.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Input {
    enrollment_group_id: Option<String>,
    registration_id: Option<String>,
    device_id: Option<String>,
    optional_device_information: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "object")]
    attestation: Option<AttestationInput>,
    #[serde(default, deserialize_with = "object")]
    capabilities: Option<Capabilities>,
    #[serde(default, deserialize_with = "object")]
    initial_twin: Option<TwinInput>,
    /// The entity tag in a bulk operation. Other operations use `If-Match`.
    pub(super) etag: Option<String>,
    provisioning_status: Option<String>,
    #[serde(default, deserialize_with = "object")]
    reprovision_policy: Option<ReprovisionInput>,
    allocation_policy: Option<String>,
    iot_hubs: Option<Vec<String>>,
    iot_hub_host_name: Option<String>,
    #[serde(default, deserialize_with = "object")]
    custom_allocation_definition: Option<CustomAllocationInput>,
    credential_policy_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    iot_edge: Option<bool>,
}

#[derive(Deserialize)]
struct TwinInput {
    tags: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "object")]
    properties: Option<TwinProperties>,
}

#[derive(Deserialize)]
struct TwinProperties {
    desired: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReprovisionInput {
    update_hub_assignment: Option<bool>,
    migrate_device_data: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomAllocationInput {
    webhook_url: Option<String>,
    api_version: Option<String>,
}

impl Input {
    /// Returns the ID in the body.
    pub(super) fn id(&self, kind: Kind) -> Result<&str, ServiceError> {
        let id = match kind {
            Kind::Group => &self.enrollment_group_id,
            Kind::Individual => &self.registration_id,
        };
        id.as_deref().ok_or_else(|| bad_member(id_member(kind), "it is missing"))
    }

    /// Returns the enrollment. Values that the client cannot read, and so cannot send back, stay as in `stored`.
    pub(super) fn entry(self, kind: Kind, stored: Option<EntryRef<'_>>) -> Result<Entry, ServiceError> {
        let id = self.id(kind)?.to_owned();
        let stored = stored.map(EntryRef::common);
        let attestation = self.attestation.ok_or_else(|| bad_member("attestation", "it is missing"))?;
        let attestation = attestation.read(kind, stored.and_then(|stored| stored.attestation.ok()))?;
        let enabled = match self.provisioning_status.as_deref() {
            None => true,
            Some(status) if status.eq_ignore_ascii_case("enabled") => true,
            Some(status) if status.eq_ignore_ascii_case("disabled") => false,
            Some(_) => return Err(bad_member("provisioningStatus", "enabled or disabled is expected")),
        };
        let allocation = allocation(
            self.allocation_policy.as_deref(),
            self.iot_hubs,
            self.iot_hub_host_name,
            self.custom_allocation_definition,
            stored.map(|stored| stored.allocation),
        )?;
        // Clients of older api-versions do not know this member and would remove it.
        let stored_policy = || Some(stored?.certificate_policy?.to_owned());
        let certificate_policy = self.credential_policy_name.or_else(stored_policy).filter(|name| !name.is_empty());
        let reprovision_policy = reprovision_policy(self.reprovision_policy.as_ref());
        let initial_twin = self.initial_twin.map(TwinInput::read).unwrap_or_default();
        let iot_edge = self.capabilities.and_then(|capabilities| capabilities.iot_edge).unwrap_or(false);
        let mut entry = match kind {
            Kind::Group => Entry::Group(EnrollmentGroup {
                enrollment_group_id: id,
                enabled,
                certificate_policy,
                allocation,
                reprovision_policy,
                initial_twin,
                iot_edge,
                ..EnrollmentGroup::default()
            }),
            Kind::Individual => Entry::Individual(IndividualEnrollment {
                registration_id: id,
                device_id: self.device_id.filter(|id| !id.is_empty()),
                enabled,
                certificate_policy,
                allocation,
                reprovision_policy,
                initial_twin,
                iot_edge,
                optional_device_information: self.optional_device_information.unwrap_or_default(),
                ..IndividualEnrollment::default()
            }),
        };
        attest(&mut entry, attestation);
        Ok(entry)
    }
}

/// Returns the name of the member that has the ID of an enrollment.
pub(super) fn id_member(kind: Kind) -> &'static str {
    match kind {
        Kind::Group => "enrollmentGroupId",
        Kind::Individual => "registrationId",
    }
}

/// Sets the attestation of an enrollment that has none.
fn attest(entry: &mut Entry, attestation: Attestation) {
    let (primary_key, secondary_key, x509) = match entry {
        Entry::Group(group) => (&mut group.primary_key, &mut group.secondary_key, &mut group.x509),
        Entry::Individual(individual) => {
            (&mut individual.primary_key, &mut individual.secondary_key, &mut individual.x509)
        }
    };
    match attestation {
        Attestation::SymmetricKey { primary, secondary } => (*primary_key, *secondary_key) = (primary, secondary),
        Attestation::X509(certificates) => *x509 = Some(certificates),
        Attestation::CaReferences(references) => {
            if let Entry::Group(group) = entry {
                group.ca_references = Some(references);
            }
        }
        Attestation::Tpm(tpm) => {
            if let Entry::Individual(individual) = entry {
                individual.tpm = Some(tpm);
            }
        }
    }
}

fn allocation(
    policy: Option<&str>,
    iot_hubs: Option<Vec<String>>,
    iot_hub_host_name: Option<String>,
    custom: Option<CustomAllocationInput>,
    stored: Option<&Allocation>,
) -> Result<Allocation, ServiceError> {
    let iot_hubs = iot_hubs.unwrap_or_default();
    let iot_hub_host_name = iot_hub_host_name.filter(|hub| !hub.is_empty());
    let policy = match policy.map(str::to_ascii_lowercase).as_deref() {
        // The first api-version had no policies: the client named a hub, or the service chose one.
        None if iot_hub_host_name.is_some() && iot_hubs.is_empty() => AllocationPolicy::Static,
        None | Some("hashed") => AllocationPolicy::Hashed,
        Some("static") => AllocationPolicy::Static,
        Some("geolatency") => AllocationPolicy::GeoLatency,
        Some("custom") => AllocationPolicy::Custom,
        Some(_) => return Err(bad_member("allocationPolicy", "hashed, geoLatency, static or custom is expected")),
    };
    let default = Allocation::default();
    let (url, api_version) = custom.map_or((None, None), |custom| (custom.webhook_url, custom.api_version));
    let webhook_url = match url.filter(|url| !url.is_empty()) {
        None => None,
        // The client sends the URL that it read, which has no function key.
        Some(url) => match stored.and_then(|stored| stored.webhook_url.as_ref()) {
            Some(stored) if webhook_url::masked(stored) == url => Some(stored.clone()),
            _ if url.contains("****") => {
                let why = "**** stands for a secret, and the enrollment has no such URL: send the whole URL";
                return Err(bad_member("customAllocationDefinition.webhookUrl", why));
            }
            _ => Some(url),
        },
    };
    let api_version = api_version.unwrap_or(default.api_version);
    Ok(Allocation { policy, iot_hubs, iot_hub_host_name, webhook_url, api_version })
}

fn reprovision_policy(input: Option<&ReprovisionInput>) -> ReprovisionPolicy {
    let Some(input) = input else { return ReprovisionPolicy::default() };
    match (input.update_hub_assignment.unwrap_or(true), input.migrate_device_data.unwrap_or(true)) {
        (false, _) => ReprovisionPolicy::Never,
        (true, true) => ReprovisionPolicy::Migrate,
        (true, false) => ReprovisionPolicy::Reset,
    }
}

impl TwinInput {
    fn read(self) -> Twin {
        let desired = self.properties.and_then(|properties| properties.desired);
        Twin { tags: self.tags.unwrap_or_default(), desired: desired.unwrap_or_default() }
    }
}
