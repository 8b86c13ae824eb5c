//! The rules between the fields of a configuration. They also apply to a configuration built in code.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Allocation, Behaviour, CaCertificate, Config, EnrollmentGroup, IndividualEnrollment, Policy, Twin,
    enrollments::{Attestation, CaReferences},
    finding::{Finding, Path, quoted},
    twin_limits::Part,
    webhook_url,
};
use crate::identity::{certificate::Certificate, ids, key::SymmetricKey};

/// Returns all errors of a configuration.
pub(super) fn errors(config: &Config) -> Vec<Finding> {
    let root = Path::default();
    let mut errors = Vec::new();
    if config.id_scope.is_empty() {
        errors.push(Finding::error(root.key("id_scope"), "the ID scope is missing or empty"));
    }
    for (at, hub) in config.linked_hubs.iter().enumerate() {
        if let Err(fault) = ids::check_hub_name(hub) {
            errors.push(Finding::error(root.key("linked_hubs").index(at), format!("{} {fault}", quoted(hub))));
        }
    }
    if let Some(Err(fault)) = config.webhook_url.as_deref().map(webhook_url::check) {
        errors.push(Finding::error(root.key("webhook_url"), fault));
    }
    let mut names = BTreeSet::new();
    for (at, CaCertificate { name, certificate }) in config.ca_certificates.iter().enumerate() {
        let path = root.key("ca_certificates").index(at);
        if name.is_empty() {
            errors.push(Finding::error(path.key("name"), "the CA has no name"));
        }
        errors.extend(is_there_twice(&mut names, &path.key("name"), name));
        if !certificate.is_ca() {
            errors.push(Finding::error(path.key("certificate"), "this is not a CA certificate"));
        }
    }
    let known = Known { linked_hubs: &config.linked_hubs, ca_certificates: &config.ca_certificates };
    let mut names = BTreeSet::new();
    for (at, group) in config.enrollment_groups.iter().enumerate() {
        let path = root.key("enrollment_groups").index(at);
        errors.extend(is_there_twice(&mut names, &path.key("enrollment_group_id"), &group.enrollment_group_id));
        errors.extend(group_errors(group, &path, &known));
    }
    let mut names = BTreeSet::new();
    for (at, individual) in config.individual_enrollments.iter().enumerate() {
        let path = root.key("individual_enrollments").index(at);
        errors.extend(is_there_twice(&mut names, &path.key("registration_id"), &individual.registration_id));
        errors.extend(individual_errors(individual, &path, &known));
    }
    let mut names = BTreeSet::new();
    for (at, policy) in config.policies.iter().enumerate() {
        let path = root.key("policies").index(at);
        errors.extend(is_there_twice(&mut names, &path.key("name"), &policy.name));
        errors.extend(policy_errors(policy, &path));
    }
    errors.extend(behaviour_errors(&config.behaviour, &root.key("behaviour")));
    errors
}

/// What an enrollment can refer to.
pub(crate) struct Known<'a> {
    pub(crate) linked_hubs: &'a [String],
    pub(crate) ca_certificates: &'a [CaCertificate],
}

/// Returns the errors of the group at `path`.
pub(crate) fn group_errors(group: &EnrollmentGroup, path: &Path, known: &Known<'_>) -> Vec<Finding> {
    let mut errors = Vec::new();
    errors.extend(name_error(ids::check_group_id, &group.enrollment_group_id, path.key("enrollment_group_id")));
    errors.extend(attestation_error(&group.attestation(), path));
    if let Some(x509) = &group.x509 {
        for (name, certificate) in x509.named_certificates() {
            if !Certificate::is_ca(certificate) {
                let message = "a group needs a CA certificate, and this is not one";
                errors.push(Finding::error(path.key("x509").key(name), message));
            }
        }
    }
    for (name, ca) in group.ca_references.iter().flat_map(CaReferences::named) {
        if !known.ca_certificates.iter().any(|known| known.name.eq_ignore_ascii_case(ca)) {
            let message = format!("{} is not in ca_certificates", quoted(ca));
            let error = Finding::error(path.key("ca_references").key(name), message);
            errors.push(error.depends_on(Path::default().key("ca_certificates")));
        }
    }
    errors.extend(allocation_errors(&group.allocation, &path.key("allocation"), known.linked_hubs));
    errors.extend(twin_errors(&group.initial_twin, &path.key("initial_twin")));
    errors
}

/// Returns the errors of the individual enrollment at `path`.
pub(crate) fn individual_errors(individual: &IndividualEnrollment, path: &Path, known: &Known<'_>) -> Vec<Finding> {
    let mut errors = Vec::new();
    let id = &individual.registration_id;
    errors.extend(name_error(ids::check_registration_id, id, path.key("registration_id")));
    errors.extend(attestation_error(&individual.attestation(), path));
    errors.extend(allocation_errors(&individual.allocation, &path.key("allocation"), known.linked_hubs));
    errors.extend(twin_errors(&individual.initial_twin, &path.key("initial_twin")));
    errors
}

fn name_error(check: fn(&str) -> Result<(), String>, name: &str, path: Path) -> Option<Finding> {
    let fault = check(name).err()?;
    let message = if name.is_empty() { fault } else { format!("{}: {fault}", quoted(name)) };
    Some(Finding::error(path, message))
}

fn attestation_error(attestation: &Result<Attestation<'_>, &'static str>, path: &Path) -> Option<Finding> {
    let fault = attestation.as_ref().err()?;
    let error = Finding::error(path.clone(), format!("the enrollment has {fault}"));
    let fields = ["primary_key", "secondary_key", "x509", "ca_references", "tpm"];
    Some(fields.iter().fold(error, |error, field| error.depends_on(path.key(field))))
}

fn allocation_errors(allocation: &Allocation, path: &Path, linked_hubs: &[String]) -> Vec<Finding> {
    let mut errors = Vec::new();
    let hubs = allocation.iot_hubs.iter().enumerate().map(|(at, hub)| (path.key("iot_hubs").index(at), hub));
    let hub = allocation.iot_hub_host_name.iter().map(|hub| (path.key("iot_hub_host_name"), hub));
    for (path, hub) in hubs.chain(hub) {
        if !linked_hubs.contains(hub) {
            let error = Finding::error(path, format!("{} is not in linked_hubs", quoted(hub)));
            errors.push(error.depends_on(Path::default().key("linked_hubs")));
        }
    }
    if let Some(Err(fault)) = allocation.webhook_url.as_deref().map(webhook_url::check) {
        errors.push(Finding::error(path.key("webhook_url"), fault));
    }
    errors
}

/// Returns the limits that a twin breaks. The hub would reject such a twin.
fn twin_errors(twin: &Twin, path: &Path) -> Vec<Finding> {
    let parts = [("tags", Part::Tags, &twin.tags), ("desired", Part::Desired, &twin.desired)];
    parts
        .into_iter()
        .filter_map(|(name, part, members)| Some(Finding::error(path.key(name), part.check(members).err()?)))
        .collect()
}

/// Checks a policy. A policy built in code may have an empty key, and anybody could sign a token with it.
fn policy_errors(policy: &Policy, path: &Path) -> Vec<Finding> {
    let mut errors = Vec::new();
    if policy.name.is_empty() {
        errors.push(Finding::error(path.key("name"), "the policy has no name"));
    }
    if policy.primary_key.is_empty() {
        errors.push(Finding::error(path.key("primary_key"), "the key is empty"));
    }
    if policy.secondary_key.as_ref().is_some_and(SymmetricKey::is_empty) {
        errors.push(Finding::error(path.key("secondary_key"), "the key is empty"));
    }
    errors
}

/// Returns an error if the name of an enrollment or policy occurs twice, as the service does.
fn is_there_twice(names: &mut BTreeSet<String>, path: &Path, name: &str) -> Option<Finding> {
    // A missing name has its own error.
    let is_new = name.is_empty() || names.insert(name.to_ascii_lowercase());
    let message = || format!("{} exists twice; names are not case-sensitive", quoted(name));
    (!is_new).then(|| Finding::error(path.clone(), message()))
}

pub(crate) fn behaviour_errors(behaviour: &Behaviour, path: &Path) -> Vec<Finding> {
    let mut errors = Vec::new();
    for (name, seconds) in [
        ("webhook_timeout", behaviour.webhook_timeout),
        ("webhook_retry_initial", behaviour.webhook_retry_initial),
        ("webhook_retry_increment", behaviour.webhook_retry_increment),
        ("client_timeout", behaviour.client_timeout),
        ("other_key_blocked_for", behaviour.other_key_blocked_for),
        ("hub_session_after_expiry", behaviour.hub_session_after_expiry),
    ] {
        if Duration::try_from_secs_f64(seconds).is_err() {
            let message = format!("{seconds:?} is not a valid number of seconds");
            errors.push(Finding::error(path.key(name), message));
        }
    }
    for (name, code) in [
        ("unknown_id_scope_code", behaviour.unknown_id_scope_code),
        ("refused_key_code_over_http", behaviour.refused_key_code_over_http),
    ] {
        // Its first three digits are the HTTP status.
        if !(400_000..=599_999).contains(&code) {
            let message = format!("{code} is not an error code; error codes are 400000 to 599999");
            errors.push(Finding::error(path.key(name), message));
        }
    }
    errors
}
