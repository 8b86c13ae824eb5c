//! Attestation with a TPM: the service sends a challenge with a key that only this TPM can decrypt, and the device
//! signs its token with that key.

use super::attested::Attested;
use crate::{
    config::{IndividualEnrollment, TpmAttestation, enrollments::Attestation},
    identity::{
        token::SasToken,
        tpm::{Challenge, TpmKeys},
    },
    service::error::ServiceError,
};

/// Checks that a TPM with these keys is enrolled, before the challenge. There are no groups of TPMs.
pub(in crate::service) fn check_enrolled(
    individual: Option<&IndividualEnrollment>,
    registration_id: &str,
    keys: &TpmKeys,
) -> Result<(), ServiceError> {
    let individual = individual
        .ok_or_else(|| format!("there is no individual enrollment for {registration_id}"))
        .map_err(ServiceError::no_enrollment)?;
    match individual.attestation() {
        Ok(Attestation::Tpm(tpm)) if keys.are_of(&tpm.endorsement_key) => Ok(()),
        Ok(Attestation::Tpm(_)) => {
            Err(ServiceError::no_enrollment(format!("{registration_id} is enrolled with another endorsement key")))
        }
        _ => Err(ServiceError::unauthorized("its enrollment has another kind of attestation")),
    }
}

/// Creates a challenge for a TPM. Returns the challenge with the authentication key for the device.
pub(in crate::service) fn challenge(
    keys: TpmKeys,
    id_scope: &str,
    registration_id: &str,
) -> Result<(Challenge, String), ServiceError> {
    let (key, authentication_key) = keys
        .new_key(&format!("{id_scope}/registrations/{registration_id}"))
        .map_err(|_| ServiceError::bad_request("the TPM's keys cannot be used for encryption"))?;
    Ok((Challenge { keys, key }, authentication_key))
}

/// Checks that the token is signed with the key of the TPM's last challenge.
pub(super) fn check_device(
    token: &SasToken<'_>,
    enrolled: &TpmAttestation,
    challenge: Option<&Challenge>,
) -> Result<Attested, String> {
    challenge
        .filter(|challenge| challenge.keys.are_of(&enrolled.endorsement_key))
        .filter(|challenge| token.is_signed_by(challenge.key.bytes()))
        .map(|challenge| Attested::Tpm(challenge.keys.clone()))
        .ok_or_else(|| "the token is not signed with the key of the TPM's last challenge".to_owned())
}
