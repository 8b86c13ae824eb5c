//! Applies the rules of the configuration to an enrollment of the service API.

use crate::{
    config::{
        finding::Path,
        rules::{Known, group_errors, individual_errors},
    },
    service::{error::ServiceError, json_body::bad_member},
    store::enrollments::Entry,
};

/// The members of the configuration and the members of the API. Longer names come first.
const MEMBERS: [(&str, &str); 10] = [
    ("enrollment_group_id", "enrollmentGroupId"),
    ("registration_id", "registrationId"),
    ("allocation.iot_hubs", "iotHubs"),
    ("allocation.iot_hub_host_name", "iotHubHostName"),
    ("allocation.webhook_url", "customAllocationDefinition.webhookUrl"),
    ("initial_twin.desired", "initialTwin.properties.desired"),
    ("initial_twin.tags", "initialTwin.tags"),
    ("ca_references", "attestation.x509.caReferences"),
    ("x509", "attestation.x509.signingCertificates"),
    ("", "attestation"),
];

/// Checks an enrollment. The error names the member that is wrong.
pub(super) fn check(entry: &Entry, known: &Known<'_>) -> Result<(), ServiceError> {
    let errors = match entry {
        Entry::Group(group) => group_errors(group, &Path::default(), known),
        Entry::Individual(individual) => individual_errors(individual, &Path::default(), known),
    };
    let Some(error) = errors.first() else { return Ok(()) };
    let path = error.path();
    let renamed = MEMBERS.iter().find_map(|(ours, theirs)| Some(format!("{theirs}{}", path.strip_prefix(ours)?)));
    Err(bad_member(&renamed.unwrap_or(path), error.message()))
}
