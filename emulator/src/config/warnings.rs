//! Warnings: settings that are allowed, but are probably mistakes.

use super::{
    Allocation, AllocationPolicy, Config, ContosoOptions, IndividualEnrollment,
    finding::{Finding, Path, quoted},
};

/// Returns all warnings, in the order of the configuration.
pub(super) fn warnings(config: &Config) -> Vec<Finding> {
    let root = Path::default();
    let [linked_hubs, groups, individuals] =
        ["linked_hubs", "enrollment_groups", "individual_enrollments"].map(|name| root.key(name));
    let mut warnings = Vec::new();
    if config.linked_hubs.is_empty() {
        let message = "no hub is linked: registrations fail with 401001, or with 400207 under custom allocation; add \
                       hubs to linked_hubs";
        warnings.push(Finding::warning(linked_hubs.clone(), message).depends_on(linked_hubs.clone()));
    }
    if config.webhook_url.is_some() && config.contoso != ContosoOptions::default() {
        let message = "[contoso] has no effect: another webhook is called";
        warnings.push(Finding::warning(root.key("contoso"), message));
    }
    if config.enrollment_groups.is_empty() && config.individual_enrollments.is_empty() {
        let message = "there is no enrollment: every device is rejected; add [[enrollment_groups]] or \
                       [[individual_enrollments]], or create one with the service API";
        warnings
            .push(Finding::warning(root.clone(), message).depends_on(groups.clone()).depends_on(individuals.clone()));
    }
    let tutorial = Config::contoso().enrollment_groups;
    for (at, group) in config.enrollment_groups.iter().enumerate() {
        if !tutorial.contains(group) {
            warnings.extend(falls_back(config, &group.allocation, &groups.index(at).key("allocation")));
        }
    }
    for (at, individual) in config.individual_enrollments.iter().enumerate() {
        let path = individuals.index(at);
        warnings.extend(certificates_of_version_1(individual, &path));
        warnings.extend(falls_back(config, &individual.allocation, &path.key("allocation")));
    }
    for (at, policy) in config.policies.iter().enumerate() {
        if policy.rights.is_empty() {
            let message = format!("the policy {} has no rights: its tokens are rejected", quoted(&policy.name));
            warnings.push(Finding::warning(root.key("policies").index(at).key("rights"), message));
        }
    }
    let behaviour = &config.behaviour;
    for (key, hubs) in
        [("inaccessible_hubs", &behaviour.inaccessible_hubs), ("unavailable_hubs", &behaviour.unavailable_hubs)]
    {
        for (at, hub) in hubs.iter().enumerate() {
            if !config.linked_hubs.iter().any(|linked| linked.eq_ignore_ascii_case(hub)) {
                let message = format!("{} in {key} has no effect: it is not in linked_hubs", quoted(hub));
                let path = root.key("behaviour").key(key).index(at);
                warnings.push(Finding::warning(path, message).depends_on(linked_hubs.clone()));
            }
        }
    }
    warnings
}

/// Warns if custom allocation has no webhook. Then the emulator calls the tutorial's function, which knows only the
/// tutorial's devices. Settings in `[contoso]` show that this is intended.
fn falls_back(config: &Config, allocation: &Allocation, path: &Path) -> Option<Finding> {
    let names_webhook = allocation.webhook_url.is_some() || config.webhook_url.is_some();
    let is_unaware = config.contoso == ContosoOptions::default();
    (allocation.policy == AllocationPolicy::Custom && !names_webhook && is_unaware).then(|| {
        let message = "the policy is custom, but there is no webhook_url: the built-in Contoso webhook is called, \
                       which knows only the tutorial's toasters and heat pumps; set webhook_url, or set an option of \
                       [contoso] if this is intended";
        Finding::warning(path.clone(), message)
            .depends_on(path.key("webhook_url"))
            .depends_on(Path::default().key("webhook_url"))
            .depends_on(Path::default().key("contoso"))
    })
}

fn certificates_of_version_1(individual: &IndividualEnrollment, path: &Path) -> Vec<Finding> {
    let certificates = individual.x509.iter().flat_map(|x509| x509.named_certificates());
    certificates
        .filter(|(_, certificate)| !certificate.is_version_3())
        .map(|(name, _)| {
            let message = format!(
                "the certificate of {} does not have X.509 version 3: the TLS handshake fails; create the certificate \
                 with at least one extension",
                quoted(&individual.registration_id)
            );
            Finding::warning(path.key("x509").key(name), message)
        })
        .collect()
}
