//! What the emulated service knows: its ID scope, hubs, enrollments and habits.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::{
    allocation, behaviour::Behaviour, contoso::ContosoOptions, registration::check_registration_id,
    tpm::EndorsementKey, webhook, x509::Certificate,
};

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
    /// When the text is no TOML, or says something that the emulator does not know.
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

    /// Tells what is allowed and can hardly be meant: no linked hub, no enrollment, a certificate
    /// that TLS does not take, or settings without effect.
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
            allocation::check_hub_name(hub).map_err(|fault| ConfigError(format!("{hub:?} in linked_hubs {fault}")))?;
        }
        if let Some(url) = &self.webhook_url {
            webhook::check_url(url).map_err(ConfigError)?;
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
                webhook::check_url(url).map_err(|fault| ConfigError(format!("{name}: {fault}")))?;
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
            check_registration_id(registration_id)
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

/// Of two enrollments of one name the service would have refused the second.
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
            .field("webhook_url", &self.webhook_url.as_deref().map(mask_query))
            .field("contoso", &self.contoso)
            .field("enrollment_groups", &self.enrollment_groups)
            .field("individual_enrollments", &self.individual_enrollments)
            .field("behaviour", &self.behaviour)
            .finish()
    }
}

/// Devices that share a group key, or whose certificates a CA of the group has signed.
///
/// It has either keys or [`x509`](Self::x509).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct EnrollmentGroup {
    /// The group's name.
    pub enrollment_group_id: String,
    /// Whether its devices are provisioned; else they are told `disabled`.
    pub enabled: bool,
    /// The key from which the devices' keys are derived.
    pub primary_key: SymmetricKey,
    /// A second such key, for roll-over.
    pub secondary_key: Option<SymmetricKey>,
    /// In the place of keys, the CAs that sign the devices' certificates: roots or intermediates.
    pub x509: Option<X509Attestation>,
    /// The policy by which devices that send a `csr` are issued certificates; absent: they are not.
    /// The emulator's CA issues them all alike, whatever the policy's name.
    pub certificate_policy: Option<String>,
    /// Which hub a device gets.
    pub allocation: Allocation,
    /// What happens to a device that comes again.
    pub reprovision_policy: ReprovisionPolicy,
    /// The twin of a new device, unless the webhook gives one.
    pub initial_twin: Twin,
    /// Whether the devices are IoT Edge devices.
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
        Attestation::of(&self.primary_key, self.secondary_key.as_ref(), self.x509.as_ref())
    }
}

/// One device, with a key, a certificate or a TPM of its own.
///
/// It has either keys or [`x509`](Self::x509) or [`tpm`](Self::tpm).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct IndividualEnrollment {
    /// The device's registration ID.
    pub registration_id: String,
    /// The device's ID at the hub; absent: its registration ID.
    pub device_id: Option<String>,
    /// Whether the device is provisioned; else it is told `disabled`.
    pub enabled: bool,
    /// The key with which the device signs.
    pub primary_key: SymmetricKey,
    /// A second such key, for roll-over.
    pub secondary_key: Option<SymmetricKey>,
    /// In the place of keys, the device's certificates.
    pub x509: Option<X509Attestation>,
    /// In the place of keys, the device's TPM.
    pub tpm: Option<TpmAttestation>,
    /// The policy by which the device, when it sends a `csr`, is issued a certificate; absent: it is
    /// not. The emulator's CA issues them all alike, whatever the policy's name.
    pub certificate_policy: Option<String>,
    /// Which hub the device gets.
    pub allocation: Allocation,
    /// What happens when the device comes again.
    pub reprovision_policy: ReprovisionPolicy,
    /// The device's first twin, unless the webhook gives one.
    pub initial_twin: Twin,
    /// Whether it is an IoT Edge device.
    pub iot_edge: bool,
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
        }
    }
}

impl IndividualEnrollment {
    pub(crate) fn attestation(&self) -> Result<Attestation<'_>, &'static str> {
        let Some(tpm) = &self.tpm else {
            return Attestation::of(&self.primary_key, self.secondary_key.as_ref(), self.x509.as_ref());
        };
        if self.primary_key.is_empty() && self.secondary_key.is_none() && self.x509.is_none() {
            Ok(Attestation::Tpm(tpm))
        } else {
            Err("tpm beside keys or x509: an enrollment has one kind of attestation")
        }
    }
}

/// The one way in which an enrollment's devices prove who they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attestation<'a> {
    SymmetricKey { primary: &'a SymmetricKey, secondary: Option<&'a SymmetricKey> },
    X509(&'a X509Attestation),
    Tpm(&'a TpmAttestation),
}

impl<'a> Attestation<'a> {
    /// What there is, unless it is nothing or more than one kind.
    fn of(
        primary: &'a SymmetricKey,
        secondary: Option<&'a SymmetricKey>,
        x509: Option<&'a X509Attestation>,
    ) -> Result<Self, &'static str> {
        match x509 {
            Some(x509) if primary.is_empty() && secondary.is_none() => Ok(Self::X509(x509)),
            Some(_) => Err("both keys and x509: an enrollment has one kind of attestation"),
            None if primary.is_empty() => Err("no primary_key and no x509"),
            None => Ok(Self::SymmetricKey { primary, secondary }),
        }
    }
}

/// The certificates of X.509 attestation: of an individual enrollment the device's own, of a group
/// those of CAs.
///
/// In TOML each is PEM, or the path of a PEM file from the working directory; its first certificate
/// counts.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct X509Attestation {
    /// The certificate.
    pub primary: Certificate,
    /// A second one, for roll-over.
    pub secondary: Option<Certificate>,
}

impl X509Attestation {
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.primary).chain(&self.secondary)
    }
}

/// The TPM of TPM attestation.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TpmAttestation {
    /// The endorsement key, by which it is known.
    pub endorsement_key: EndorsementKey,
}

/// How an enrollment chooses a hub.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Allocation {
    /// The way of choosing.
    pub policy: AllocationPolicy,
    /// The hubs to choose from; none: all that are linked to the service.
    pub iot_hubs: Vec<String>,
    /// The webhook of a custom allocation, function key (`?code=…`) included; absent: the one of
    /// the [`Config`].
    pub webhook_url: Option<String>,
    /// The version in which the webhook is spoken to. It is passed on, and changes nothing.
    pub api_version: String,
}

impl Default for Allocation {
    fn default() -> Self {
        Self {
            policy: AllocationPolicy::default(),
            iot_hubs: Vec::new(),
            webhook_url: None,
            api_version: "2021-10-01".to_owned(),
        }
    }
}

impl fmt::Debug for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocation")
            .field("policy", &self.policy)
            .field("iot_hubs", &self.iot_hubs)
            .field("webhook_url", &self.webhook_url.as_deref().map(mask_query))
            .field("api_version", &self.api_version)
            .finish()
    }
}

/// A webhook's URL as it may be shown: the query holds the function key, and what is before an `@` a
/// password.
pub(crate) fn mask_query(url: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, ""), |(address, _)| (address, "?****"));
    let (scheme, rest) =
        address.split_once("://").map_or(("", address), |(_, rest)| address.split_at(address.len() - rest.len()));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}****@{host}{path}{query}"),
        None => format!("{address}{query}"),
    }
}

/// The ways of choosing a hub. Lowest latency is not emulated.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AllocationPolicy {
    /// The first of the hubs.
    Static,
    /// Spread evenly, and the same hub for the same registration ID.
    #[default]
    Hashed,
    /// As the webhook says.
    Custom,
}

/// What happens to a device that has a hub and registers again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum ReprovisionPolicy {
    /// It stays at its hub.
    Never,
    /// It goes where the allocation says, and takes its twin along.
    #[default]
    Migrate,
    /// It goes where the allocation says; at another hub it starts with its initial twin.
    Reset,
}

/// A device twin, as far as the service sets it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Twin {
    /// The tags, which the device does not see.
    pub tags: Map<String, Value>,
    /// The desired properties.
    pub desired: Map<String, Value>,
}

/// A symmetric key of 16 to 64 bytes. It has no `Display`, and its `Debug` hides it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct SymmetricKey(Vec<u8>);

impl SymmetricKey {
    /// Reads a key as the portal shows it.
    ///
    /// # Errors
    ///
    /// When the text is not base64 of 16 to 64 bytes.
    pub fn from_base64(text: &str) -> Result<Self, ConfigError> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| ConfigError("a symmetric key is not base64".into()))?;
        if (16..=64).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(ConfigError(format!("a symmetric key has {} bytes; 16 to 64 are allowed", bytes.len())))
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the default, which is no key.
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for SymmetricKey {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::from_base64(text)
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(****)")
    }
}

impl<'de> Deserialize<'de> for SymmetricKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(de::Error::custom)
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
