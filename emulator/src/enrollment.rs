//! Which enrollment a device comes through: the one whose key signed its token, or whose certificate
//! vouches for its own.

use rustls::pki_types::CertificateDer;

use crate::{
    config::{
        Allocation, Config, EnrollmentGroup, IndividualEnrollment, ReprovisionPolicy, Twin, enrollments::Attestation,
    },
    error::ServiceError,
    identity::tpm::{Challenge, TpmKeys},
    identity::{certificate::Certificate, device_certificate::DeviceCertificate},
    identity::{
        key::{SymmetricKey, derive_device_key},
        token::SasToken,
    },
};

/// What a device shows to be let in.
pub(crate) struct Credentials<'a> {
    /// A SAS token.
    pub(crate) authorization: Option<&'a str>,
    /// What its end of the TLS session is certified by, its own certificate first.
    pub(crate) certificates: &'a [CertificateDer<'static>],
    /// When it showed them: seconds since 1970.
    pub(crate) shown_at: u64,
    pub(crate) carrier: Carrier,
}

/// The protocols, as far as they make a difference to who is let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    Http,
    Mqtt,
}

/// What the service remembers of a device, and goes by when it lets the device in.
#[derive(Default)]
pub(crate) struct Memory<'a> {
    /// Of its TPM, the last one.
    pub(crate) challenge: Option<&'a Challenge>,
    /// The key that blocks the enrollment's other key.
    pub(crate) last_key: Option<&'a SymmetricKey>,
}

/// What an enrollment says about one device, whichever kind it is.
#[derive(Clone, Debug)]
pub(crate) struct Enrollment {
    pub(crate) kind: Kind,
    /// The group's or the individual enrollment's name.
    pub(crate) id: String,
    pub(crate) enabled: bool,
    pub(crate) device_id: Option<String>,
    pub(crate) attested: Attested,
    pub(crate) certificate_policy: Option<String>,
    pub(crate) allocation: Allocation,
    pub(crate) reprovision_policy: ReprovisionPolicy,
    pub(crate) initial_twin: Twin,
    pub(crate) iot_edge: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    Group,
    Individual,
}

/// By what a device proved who it is.
#[derive(Clone, Debug)]
pub(crate) enum Attested {
    /// With this key of the enrollment's, of a group the one from which the device's is derived.
    SymmetricKey(SymmetricKey),
    X509 {
        certificate: Certificate,
        /// The group's CA that vouches for it.
        signer: Option<Certificate>,
    },
    Tpm(TpmKeys),
}

impl Enrollment {
    fn of_group(group: &EnrollmentGroup, attested: Attested) -> Self {
        Self {
            kind: Kind::Group,
            id: group.enrollment_group_id.clone(),
            enabled: group.enabled,
            device_id: None,
            attested,
            certificate_policy: group.certificate_policy.clone(),
            allocation: group.allocation.clone(),
            reprovision_policy: group.reprovision_policy,
            initial_twin: group.initial_twin.clone(),
            iot_edge: group.iot_edge,
        }
    }

    fn of_individual(individual: &IndividualEnrollment, attested: Attested) -> Self {
        Self {
            kind: Kind::Individual,
            id: individual.registration_id.clone(),
            enabled: individual.enabled,
            device_id: individual.device_id.clone(),
            attested,
            certificate_policy: individual.certificate_policy.clone(),
            allocation: individual.allocation.clone(),
            reprovision_policy: individual.reprovision_policy,
            initial_twin: individual.initial_twin.clone(),
            iot_edge: individual.iot_edge,
        }
    }
}

/// Whether there is an enrollment of this TPM. There are no groups of TPMs.
pub(crate) fn check_tpm(config: &Config, registration_id: &str, keys: &TpmKeys) -> Result<(), ServiceError> {
    let not_found = |why: String| ServiceError::not_found("Enrollment not found", why);
    let individual = individual(config, registration_id)
        .ok_or_else(|| not_found(format!("no individual enrollment is for {registration_id}")))?;
    match individual.attestation() {
        Ok(Attestation::Tpm(tpm)) if keys.are_of(&tpm.endorsement_key) => Ok(()),
        Ok(Attestation::Tpm(_)) => {
            Err(not_found(format!("{registration_id} is enrolled with another endorsement key")))
        }
        _ => Err(ServiceError::unauthorized(OTHER_KIND)),
    }
}

/// Finds the enrollment of a device that shows `credentials`.
///
/// An individual enrollment takes precedence over groups: then only its own keys or certificates
/// count. A disabled one answers devices with a group's too, because it is made to shut out a device
/// of a group.
pub(crate) fn authenticate(
    config: &Config,
    registration_id: &str,
    credentials: &Credentials<'_>,
    memory: &Memory<'_>,
) -> Result<Enrollment, ServiceError> {
    let behaviour = &config.behaviour;
    let proof = Proof::read(config, registration_id, credentials)?;
    let mut faults = Vec::new();
    let mut note = |id: &str, fault: String| faults.push(format!("{id}: {fault}"));

    let individual = individual(config, registration_id);
    if let Some(individual) = individual {
        match proof.of_device(individual, memory) {
            Ok(attested) => return Ok(Enrollment::of_individual(individual, attested)),
            Err(fault) => note(&individual.registration_id, fault),
        }
    }
    if individual.is_none_or(|individual| !individual.enabled) {
        for group in &config.enrollment_groups {
            match (proof.of_member(group, registration_id, memory), individual) {
                (Ok(attested), Some(individual)) => return Ok(Enrollment::of_individual(individual, attested)),
                (Ok(attested), None) => return Ok(Enrollment::of_group(group, attested)),
                (Err(fault), _) => note(&group.enrollment_group_id, fault),
            }
        }
    }
    Err(match proof {
        // Nobody could have signed for this ID. With a group's key there, any ID may be the group's,
        // so a signature that does not verify is a wrong key.
        Proof::Token(_) if individual.is_none() && !config.enrollment_groups.iter().any(has_keys) => {
            ServiceError::not_found("Enrollment not found", format!("no enrollment is for {registration_id}"))
        }
        Proof::Token(_) => {
            let has_tpm = individual.is_some_and(|individual| individual.tpm.is_some());
            let code = match credentials.carrier {
                Carrier::Http if !has_tpm => behaviour.refused_key_code_over_http,
                _ => 401_000,
            };
            let why = faults.iter().find(|fault| fault.ends_with(BLOCKED)).map_or(NO_KEY, |fault| fault);
            ServiceError::unauthorized(why).with_code(code)
        }
        Proof::Certificate(_) if faults.is_empty() => {
            ServiceError::invalid_certificate(behaviour, "there is no enrollment")
        }
        Proof::Certificate(_) => ServiceError::invalid_certificate(behaviour, faults.join("; ")),
    })
}

/// What has become of the enrollment through which a device came.
pub(crate) enum Standing {
    Enabled,
    Disabled,
    /// It was deleted, or another one takes precedence now.
    Gone,
}

/// What has become of the enrollment of this kind and name, for this device.
pub(crate) fn standing(config: &Config, kind: Kind, id: &str, registration_id: &str) -> Standing {
    let enabled = match (kind, individual(config, registration_id)) {
        (Kind::Individual, individual) => individual.map(|individual| individual.enabled),
        // It shuts the device out of the group, or is its own from now on.
        (Kind::Group, Some(individual)) => (!individual.enabled).then_some(false),
        (Kind::Group, None) => {
            let mut groups = config.enrollment_groups.iter();
            groups.find(|group| group.enrollment_group_id.eq_ignore_ascii_case(id)).map(|group| group.enabled)
        }
    };
    match enabled {
        Some(true) => Standing::Enabled,
        Some(false) => Standing::Disabled,
        None => Standing::Gone,
    }
}

fn individual<'a>(config: &'a Config, registration_id: &str) -> Option<&'a IndividualEnrollment> {
    config.individual_enrollments.iter().find(|each| each.registration_id.eq_ignore_ascii_case(registration_id))
}

fn has_keys(group: &EnrollmentGroup) -> bool {
    matches!(group.attestation(), Ok(Attestation::SymmetricKey { .. }))
}

/// Credentials that are good in themselves. Whose they are, the enrollments tell.
enum Proof<'a> {
    Token(SasToken<'a>),
    Certificate(DeviceCertificate<'a>),
}

impl<'a> Proof<'a> {
    /// A device that shows a token means to be judged by it, whatever its TLS session is certified
    /// by.
    fn read(config: &Config, registration_id: &str, credentials: &Credentials<'a>) -> Result<Self, ServiceError> {
        match (credentials.authorization, credentials.certificates) {
            (Some(text), _) => {
                let resource = format!("{}/registrations/{registration_id}", config.id_scope);
                let read = || {
                    let token = SasToken::parse(text)?;
                    token.check_resource(&resource)?;
                    if !config.behaviour.any_key_name {
                        token.check_key_name()?;
                    }
                    token.check_expiry(credentials.shown_at, u64::from(config.behaviour.token_leeway))?;
                    Ok(Self::Token(token))
                };
                read().map_err(|fault: String| ServiceError::unauthorized(fault))
            }
            (None, [leaf, intermediates @ ..]) => {
                DeviceCertificate::read(leaf, intermediates, registration_id, credentials.shown_at)
                    .map(Self::Certificate)
                    .map_err(|fault| ServiceError::invalid_certificate(&config.behaviour, fault))
            }
            (None, []) => {
                let wants_certificate = match individual(config, registration_id) {
                    Some(individual) => matches!(individual.attestation(), Ok(Attestation::X509(_))),
                    None => !config.enrollment_groups.is_empty() && !config.enrollment_groups.iter().any(has_keys),
                };
                Err(if wants_certificate {
                    ServiceError::invalid_certificate(&config.behaviour, "there is no client certificate")
                } else {
                    ServiceError::unauthorized("there is no authorization")
                })
            }
        }
    }

    /// Whether it is the device's of an individual enrollment.
    fn of_device(&self, individual: &IndividualEnrollment, memory: &Memory<'_>) -> Result<Attested, String> {
        match (self, individual.attestation()?) {
            (Self::Token(token), Attestation::SymmetricKey { primary, secondary }) => {
                find_key(primary, secondary, memory, |key| token.is_signed_by(key.bytes()))
            }
            (Self::Certificate(device), Attestation::X509(x509)) => {
                x509.certificates()
                    .find(|certificate| *certificate == device.certificate())
                    .ok_or("the device's certificate is another one")?;
                Ok(Attested::X509 { certificate: device.certificate().clone(), signer: None })
            }
            (Self::Token(token), Attestation::Tpm(tpm)) => {
                let challenge = memory
                    .challenge
                    .filter(|challenge| challenge.keys.are_of(&tpm.endorsement_key))
                    .filter(|challenge| token.is_signed_by(challenge.key.bytes()))
                    .ok_or("the token is not signed with the key of the TPM's last challenge")?;
                Ok(Attested::Tpm(challenge.keys.clone()))
            }
            _ => Err(OTHER_KIND.to_owned()),
        }
    }

    /// Whether it is of a device of a group.
    fn of_member(
        &self,
        group: &EnrollmentGroup,
        registration_id: &str,
        memory: &Memory<'_>,
    ) -> Result<Attested, String> {
        match (self, group.attestation()?) {
            (Self::Token(token), Attestation::SymmetricKey { primary, secondary }) => {
                find_key(primary, secondary, memory, |key| is_signed_by_derived(token, key, registration_id))
            }
            (Self::Certificate(device), Attestation::X509(x509)) => {
                let mut fault = String::new();
                for ca in x509.certificates() {
                    match device.check_signed_by(ca) {
                        Ok(()) => {
                            return Ok(Attested::X509 {
                                certificate: device.certificate().clone(),
                                signer: Some(ca.clone()),
                            });
                        }
                        Err(other) => fault = other,
                    }
                }
                Err(fault)
            }
            _ => Err(OTHER_KIND.to_owned()),
        }
    }
}

const OTHER_KIND: &str = "its attestation is of another kind";

const NO_KEY: &str = "the token's signature was made with none of the enrollments' keys";

const BLOCKED: &str =
    "the token is signed with the other key than the device's last registration (other_key_blocked_for)";

/// The key that signed, unless the other key of the enrollment blocks it. What happens to a device
/// whose last key was replaced, no source says: it is not blocked.
fn find_key(
    primary: &SymmetricKey,
    secondary: Option<&SymmetricKey>,
    memory: &Memory<'_>,
    is_signed_by: impl Fn(&SymmetricKey) -> bool,
) -> Result<Attested, String> {
    let mut keys = std::iter::once(primary).chain(secondary);
    let key = keys.clone().find(|key| is_signed_by(key)).ok_or("the token is signed with another key")?;
    match memory.last_key {
        Some(last) if last != key && keys.any(|key| key == last) => Err(BLOCKED.to_owned()),
        _ => Ok(Attested::SymmetricKey(key.clone())),
    }
}

/// Device keys are made from the registration ID as it is written; whether the service makes them
/// from its lower case, nobody has said, so both are taken.
fn is_signed_by_derived(token: &SasToken<'_>, key: &SymmetricKey, registration_id: &str) -> bool {
    let lower = registration_id.to_ascii_lowercase();
    token.is_signed_by(&derive_device_key(key, registration_id))
        || (lower != registration_id && token.is_signed_by(&derive_device_key(key, &lower)))
}
