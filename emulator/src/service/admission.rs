//! Decides which devices are let in, and through which enrollment.

use std::sync::Arc;

use super::{
    attestation::{Attested, BLOCKED, Memory, Proof, tpm},
    device_registration::DeviceRegistration,
    enrollment::Enrollment,
    error::ServiceError,
    request::{Carrier, Credentials, DeviceRequest},
};
use crate::{
    clock::Clock,
    config::{IndividualEnrollment, enrollments::Attestation, settings::Settings},
    identity::{ids, key::SymmetricKey, tpm::Challenge},
    store::{
        Store,
        device::{Device, LastKey},
        enrollments::{Enrollments, Stamped, Stored},
    },
};

/// The enrollment that lets a device in, and how the device proved its identity.
pub(super) struct Admitted<'a> {
    found: Stored<'a>,
    attested: Attested,
}

impl Admitted<'_> {
    fn enrollment(self, settings: &Settings, registration_id: &str) -> Enrollment {
        Enrollment::new(self.found, self.attested, settings, registration_id)
    }
}

/// Lets a device in if its token or certificate is valid.
pub(super) fn authenticate<'a>(
    settings: &Settings,
    store: &'a Store,
    request: &DeviceRequest<'_>,
    clock: Clock,
) -> Result<Admitted<'a>, ServiceError> {
    check_address(settings, request)?;
    // The challenge and the last key count over HTTP only: TPMs are challenged over HTTP and AMQP, and "the key used
    // to register is cached for 30 minutes".
    let device = store.devices.get(request.registration_id).filter(|_| request.credentials.carrier == Carrier::Http);
    let memory = Memory {
        challenge: device.and_then(|device| device.challenge.as_deref()),
        last_key: device.and_then(|device| blocking_key(device, settings, clock)),
    };
    find(settings, &store.enrollments, request.registration_id, &request.credentials, &memory)
}

/// Lets in a device whose request body may have the keys of its TPM. If the request has no token, the TPM gets a
/// challenge.
pub(super) fn read_and_authenticate(
    settings: &Settings,
    store: &mut Store,
    request: &DeviceRequest<'_>,
    clock: Clock,
) -> Result<(Enrollment, DeviceRegistration), ServiceError> {
    check_address(settings, request)?;
    let registration = DeviceRegistration::read(request.body, request.registration_id, &settings.behaviour)?;
    if let Some(keys) = registration.tpm_keys()? {
        if request.credentials.carrier != Carrier::Http {
            return Err(ServiceError::unauthorized("TPMs are not challenged over this protocol"));
        }
        let individual = store.enrollments.individual(request.registration_id).map(|stamped| &stamped.entry);
        tpm::check_enrolled(individual, request.registration_id, &keys)?;
        if request.credentials.authorization.is_none() {
            let device = known_device(settings, store, request.registration_id)?;
            let (challenge, authentication_key) = tpm::challenge(keys, &settings.id_scope, request.registration_id)?;
            device.challenge = Some(Arc::new(challenge));
            return Err(ServiceError::tpm_challenge(authentication_key));
        }
        let challenge = store.devices.get(request.registration_id).and_then(|device| device.challenge.as_deref());
        if challenge.is_none_or(|challenge: &Challenge| challenge.keys != keys) {
            return Err(ServiceError::unauthorized("the TPM was not challenged with these keys"));
        }
    }
    let admitted = authenticate(settings, store, request, clock)?;
    Ok((admitted.enrollment(settings, request.registration_id), registration))
}

/// Returns the device, which is added to the store if it is new.
pub(super) fn known_device<'a>(
    settings: &Settings,
    store: &'a mut Store,
    registration_id: &str,
) -> Result<&'a mut Device, ServiceError> {
    store
        .devices
        .get_or_add(registration_id)
        .map_err(|_| ServiceError::throttled(&settings.behaviour, "there is no room for more devices"))
}

fn check_address(settings: &Settings, request: &DeviceRequest<'_>) -> Result<(), ServiceError> {
    ids::check_registration_id(request.registration_id).map_err(ServiceError::invalid_registration_id)?;
    if request.id_scope != settings.id_scope {
        return Err(ServiceError::unauthorized("the request names another ID scope")
            .with_code(settings.behaviour.unknown_id_scope_code));
    }
    Ok(())
}

/// Returns the key of the last registration. It blocks the other key of the enrollment for a while.
fn blocking_key<'a>(device: &'a Device, settings: &Settings, clock: Clock) -> Option<&'a SymmetricKey> {
    let LastKey { key, at } = device.last_key.as_ref()?;
    let blocked_for = settings.behaviour.other_key_blocked_for;
    (clock.since(*at).as_secs_f64() < blocked_for).then_some(key)
}

/// Finds the enrollment of a device with these credentials.
///
/// An individual enrollment takes precedence over groups: only its own keys or certificates are valid then. A
/// disabled individual enrollment also rejects devices with credentials of a group, because its purpose is to exclude
/// one device of a group.
fn find<'a>(
    settings: &Settings,
    enrollments: &'a Enrollments,
    registration_id: &str,
    credentials: &Credentials<'_>,
    memory: &Memory<'_>,
) -> Result<Admitted<'a>, ServiceError> {
    let individual = enrollments.individual(registration_id);
    let Some(proof) = Proof::read(settings, registration_id, credentials)? else {
        return Err(nothing_shown(settings, enrollments, individual));
    };
    let mut faults = Vec::new();
    if let Some(stamped) = individual {
        match proof.of_device(&stamped.entry, memory) {
            Ok(attested) => return Ok(Admitted { found: stamped.into(), attested }),
            Err(fault) => faults.push(format!("{}: {fault}", stamped.entry.registration_id)),
        }
    }
    if individual.is_none_or(|individual| !individual.entry.enabled) {
        for group in enrollments.groups() {
            match proof.of_member(settings, &group.entry, registration_id, memory) {
                Ok(attested) => {
                    let found = individual.map_or(group.into(), Stored::from);
                    return Ok(Admitted { found, attested });
                }
                Err(fault) => faults.push(format!("{}: {fault}", group.entry.enrollment_group_id)),
            }
        }
    }
    let individual = individual.map(|stamped| &stamped.entry);
    Err(refusal(settings, enrollments, individual, registration_id, credentials.carrier, &proof, &faults))
}

/// Returns the answer to a device that no enrollment lets in.
fn refusal(
    settings: &Settings,
    enrollments: &Enrollments,
    individual: Option<&IndividualEnrollment>,
    registration_id: &str,
    carrier: Carrier,
    proof: &Proof<'_>,
    faults: &[String],
) -> ServiceError {
    let behaviour = &settings.behaviour;
    match proof {
        // Without an individual enrollment and without a group with keys, no key can sign for this ID. If there is a
        // group with keys, the ID may belong to the group, so the signature is wrong.
        Proof::Token(_) if individual.is_none() && !has_group_with_keys(enrollments) => {
            ServiceError::no_enrollment(format!("there is no enrollment for {registration_id}"))
        }
        Proof::Token(_) => {
            let has_tpm = individual.is_some_and(|individual| individual.tpm.is_some());
            let code = match carrier {
                Carrier::Http if !has_tpm => behaviour.refused_key_code_over_http,
                _ => 401_000,
            };
            let blocked = faults.iter().find(|fault| fault.ends_with(BLOCKED));
            let why = blocked.map_or("the token is not signed with a key of any enrollment", |why| why);
            ServiceError::unauthorized(why).with_code(code)
        }
        Proof::Certificate(_) if faults.is_empty() => {
            ServiceError::invalid_certificate(behaviour, "there is no enrollment")
        }
        Proof::Certificate(_) => ServiceError::invalid_certificate(behaviour, faults.join("; ")),
    }
}

/// Returns the answer to a device that shows neither a token nor a certificate.
fn nothing_shown(
    settings: &Settings,
    enrollments: &Enrollments,
    individual: Option<&Stamped<IndividualEnrollment>>,
) -> ServiceError {
    let wants_certificate = match individual {
        Some(individual) => matches!(individual.entry.attestation(), Ok(Attestation::X509(_))),
        None => enrollments.groups().next().is_some() && !has_group_with_keys(enrollments),
    };
    if wants_certificate {
        ServiceError::invalid_certificate(&settings.behaviour, "there is no client certificate")
    } else {
        ServiceError::unauthorized("there is no authorization")
    }
}

fn has_group_with_keys(enrollments: &Enrollments) -> bool {
    enrollments.groups().any(|group| matches!(group.entry.attestation(), Ok(Attestation::SymmetricKey { .. })))
}
