//! What is configured: the service's ID scope, hubs, enrollments and behaviour.

pub(crate) mod behaviour;
mod contoso;
pub(crate) mod enrollments;
pub(crate) mod settings;
pub(crate) mod webhook_url;

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::Deserialize;

pub use self::{
    behaviour::Behaviour,
    contoso::ContosoOptions,
    enrollments::{
        Allocation, AllocationPolicy, EnrollmentGroup, IndividualEnrollment, ReprovisionPolicy, TpmAttestation, Twin,
        X509Attestation,
    },
};
use crate::identity::{certificate::Certificate, error::CredentialError, ids, key::SymmetricKey};

/// The whole set-up of an emulator.
///
/// It is read from TOML by [`Config::from_toml`], or built in code: every field is public, and
/// `..Default::default()` fills in the rest.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The ID scope that devices name. Compared exactly in the path, without case in tokens.
    pub id_scope: String,
    /// Host names of the hubs that are linked to the service. One may have a port, `localhost:8443`:
    /// then `assignedHub` has it, too.
    #[serde(default)]
    pub linked_hubs: Vec<String>,
    /// Where custom allocation POSTs, unless an enrollment names a URL of its own. Absent: the
    /// emulator starts the Contoso webhook inside.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// How the Contoso webhook that the emulator starts inside behaves.
    #[serde(default)]
    pub contoso: ContosoOptions,
    /// Enrollments for many devices, each with a key derived from the group's.
    #[serde(default)]
    pub enrollment_groups: Vec<EnrollmentGroup>,
    /// Enrollments for one device each. They take precedence over groups.
    #[serde(default)]
    pub individual_enrollments: Vec<IndividualEnrollment>,
    /// How the service answers.
    #[serde(default)]
    pub behaviour: Behaviour,
}

impl Config {
    /// The set-up of Microsoft's tutorial "Use custom allocation policies": its ID scope, group
    /// key and two hubs, and the Contoso webhook.
    #[must_use]
    pub fn contoso() -> Self {
        let hubs = ["contoso-toasters-hub-1098.azure-devices.net", "contoso-heatpumps-hub-1098.azure-devices.net"]
            .map(str::to_owned)
            .to_vec();
        // 64 bytes of base64 that the tutorial prints; no secret.
        let primary_key = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
        Self {
            id_scope: "0ne00002193".to_owned(),
            linked_hubs: hubs.clone(),
            enrollment_groups: vec![EnrollmentGroup {
                enrollment_group_id: "contoso-custom-allocated-devices".to_owned(),
                primary_key: SymmetricKey::from_base64(primary_key).unwrap_or_default(),
                allocation: Allocation { policy: AllocationPolicy::Custom, iot_hubs: hubs, ..Allocation::default() },
                ..EnrollmentGroup::default()
            }],
            behaviour: Behaviour { polls_before_result: 1, ..Behaviour::default() },
            ..Self::default()
        }
    }

    /// Reads a configuration, refusing what it does not know.
    ///
    /// ```
    /// # use azure_dps_emulator::Config;
    /// let config = Config::from_toml(
    ///     r#"
    ///     id_scope = "0ne00002193"
    ///     linked_hubs = ["hub-1.azure-devices.net"]
    ///
    ///     [[enrollment_groups]]
    ///     enrollment_group_id = "all-my-devices"
    ///     primary_key = "c2l4dGVlbiBieXRlcyEhIQ=="
    ///     "#,
    /// )?;
    /// assert_eq!(config.linked_hubs.len(), 1);
    /// # Ok::<(), azure_dps_emulator::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the text is no TOML, or names something that the emulator does not know.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            // The error's own text quotes the line, which may hold a key.
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            ConfigError(format!("line {line}: {}", error.message()))
        })?;
        config.check()?;
        Ok(config)
    }

    /// Returns what is allowed but hardly intended: no linked hub, no enrollment, a certificate that TLS does not
    /// accept, or settings without effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.linked_hubs.is_empty() {
            warnings.push(
                "no hub is linked: registrations fail with 401001, under custom allocation with 400207; name hubs in \
                 linked_hubs"
                    .to_owned(),
            );
        }
        if self.enrollment_groups.is_empty() && self.individual_enrollments.is_empty() {
            warnings.push(
                "there is no enrollment: every device is refused; add [[enrollment_groups]] or \
                 [[individual_enrollments]]"
                    .to_owned(),
            );
        }
        for IndividualEnrollment { registration_id, x509, .. } in &self.individual_enrollments {
            if x509.iter().flat_map(X509Attestation::certificates).any(|certificate| !certificate.is_version_3()) {
                warnings.push(format!(
                    "a certificate of {registration_id} is not of X.509 version 3: a TLS handshake with it fails; make \
                     it with at least one extension"
                ));
            }
        }
        if self.webhook_url.is_some() && self.contoso != ContosoOptions::default() {
            warnings.push("[contoso] has no effect: another webhook is called".to_owned());
        }
        let is_linked = |hub: &&String| self.linked_hubs.iter().any(|linked| linked.eq_ignore_ascii_case(hub));
        if let Some(hub) = self.behaviour.inaccessible_hubs.iter().find(|hub| !is_linked(hub)) {
            warnings.push(format!("{hub:?} in inaccessible_hubs has no effect: it is not in linked_hubs"));
        }
        warnings
    }

    /// The rules between fields, which hold for configurations built in code too.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.id_scope.is_empty() {
            return Err(ConfigError("id_scope is empty".into()));
        }
        for hub in &self.linked_hubs {
            ids::check_hub_name(hub).map_err(|fault| ConfigError(format!("{hub:?} in linked_hubs {fault}")))?;
        }
        if let Some(url) = &self.webhook_url {
            webhook_url::check(url).map_err(ConfigError)?;
        }
        let groups = self
            .enrollment_groups
            .iter()
            .map(|group| (&group.enrollment_group_id, group.attestation(), &group.allocation));
        let individuals = self
            .individual_enrollments
            .iter()
            .map(|each| (&each.registration_id, each.attestation(), &each.allocation));
        for (name, attestation, allocation) in groups.chain(individuals) {
            if name.is_empty() {
                return Err(ConfigError("an enrollment has no name".into()));
            }
            attestation.map_err(|error| ConfigError(format!("{name} has {error}")))?;
            if let Some(hub) = allocation.iot_hubs.iter().find(|hub| !self.linked_hubs.contains(hub)) {
                return Err(ConfigError(format!("{hub}, a hub of {name}, is not in linked_hubs")));
            }
            if let Some(url) = &allocation.webhook_url {
                webhook_url::check(url).map_err(|fault| ConfigError(format!("{name}: {fault}")))?;
            }
        }
        let mut groups = BTreeSet::new();
        for group in &self.enrollment_groups {
            check_single(&mut groups, &group.enrollment_group_id)?;
            if let Some(x509) = &group.x509
                && !x509.certificates().all(Certificate::is_ca)
            {
                return Err(ConfigError(format!("a certificate of {} is no CA's", group.enrollment_group_id)));
            }
        }
        let mut devices = BTreeSet::new();
        for IndividualEnrollment { registration_id, .. } in &self.individual_enrollments {
            check_single(&mut devices, registration_id)?;
            ids::check_registration_id(registration_id)
                .map_err(|fault| ConfigError(format!("{registration_id}: {fault}")))?;
        }
        let behaviour = &self.behaviour;
        for (name, seconds) in [
            ("webhook_timeout", behaviour.webhook_timeout),
            ("webhook_retry_initial", behaviour.webhook_retry_initial),
            ("webhook_retry_increment", behaviour.webhook_retry_increment),
            ("client_timeout", behaviour.client_timeout),
            ("other_key_blocked_for", behaviour.other_key_blocked_for),
        ] {
            if Duration::try_from_secs_f64(seconds).is_err() {
                return Err(ConfigError(format!("{name} is {seconds:?}, which is no number of seconds")));
            }
        }
        for (name, code) in [
            ("unknown_id_scope_code", behaviour.unknown_id_scope_code),
            ("refused_key_code_over_http", behaviour.refused_key_code_over_http),
        ] {
            // Its first three digits are the HTTP status.
            if !(400_000..=599_999).contains(&code) {
                return Err(ConfigError(format!("{name} is {code}; the codes of refusals are 400000 to 599999")));
            }
        }
        Ok(())
    }
}

/// Refuses two enrollments of the same name, as the service does.
fn check_single(names: &mut BTreeSet<String>, name: &str) -> Result<(), ConfigError> {
    match names.insert(name.to_ascii_lowercase()) {
        true => Ok(()),
        false => Err(ConfigError(format!("{name} is there twice; the case of letters does not count"))),
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("id_scope", &self.id_scope)
            .field("linked_hubs", &self.linked_hubs)
            .field("webhook_url", &self.webhook_url.as_deref().map(webhook_url::masked))
            .field("contoso", &self.contoso)
            .field("enrollment_groups", &self.enrollment_groups)
            .field("individual_enrollments", &self.individual_enrollments)
            .field("behaviour", &self.behaviour)
            .finish()
    }
}

/// A configuration that cannot be used, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl From<CredentialError> for ConfigError {
    fn from(error: CredentialError) -> Self {
        Self(error.to_string())
    }
}
