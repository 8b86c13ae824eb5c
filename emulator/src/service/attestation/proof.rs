//! Checks credentials that need no enrollment. The files for each kind of attestation check to which enrollment they
//! belong.

use super::{attested::Attested, symmetric_key, tpm, x509};
use crate::{
    config::{EnrollmentGroup, IndividualEnrollment, enrollments::Attestation, settings::Settings},
    identity::{device_certificate::DeviceCertificate, key::SymmetricKey, token::SasToken, tpm::Challenge},
    service::{error::ServiceError, request::Credentials},
};

const OTHER_KIND: &str = "it has another kind of attestation";

/// A valid token or certificate, before any enrollment is known.
pub(in crate::service) enum Proof<'a> {
    Token(SasToken<'a>),
    Certificate(DeviceCertificate<'a>),
}

/// The stored state of a device that matters for its attestation.
pub(in crate::service) struct Memory<'a> {
    /// The last challenge of the TPM.
    pub(in crate::service) challenge: Option<&'a Challenge>,
    /// The key that blocks the other key of the enrollment.
    pub(in crate::service) last_key: Option<&'a SymmetricKey>,
}

impl<'a> Proof<'a> {
    /// Reads the credentials of a device. Returns `None` if there are none. A token takes precedence over a
    /// certificate.
    pub(in crate::service) fn read(
        settings: &Settings,
        registration_id: &str,
        credentials: &Credentials<'a>,
    ) -> Result<Option<Self>, ServiceError> {
        let behaviour = &settings.behaviour;
        match (credentials.authorization, credentials.certificates) {
            (Some(text), _) => {
                let resource = format!("{}/registrations/{registration_id}", settings.id_scope);
                let read = || {
                    let token = SasToken::parse(text)?;
                    token.check_resource(&resource)?;
                    if !behaviour.any_key_name {
                        token.check_key_name()?;
                    }
                    token.check_expiry(credentials.shown_at, u64::from(behaviour.token_leeway))?;
                    Ok(Some(Self::Token(token)))
                };
                read().map_err(|fault: String| ServiceError::unauthorized(fault))
            }
            (None, [leaf, intermediates @ ..]) => {
                DeviceCertificate::read(leaf, intermediates, registration_id, credentials.shown_at)
                    .map(|certificate| Some(Self::Certificate(certificate)))
                    .map_err(|fault| ServiceError::invalid_certificate(behaviour, fault))
            }
            (None, []) => Ok(None),
        }
    }

    /// Checks the proof against an individual enrollment.
    pub(in crate::service) fn of_device(
        &self,
        individual: &IndividualEnrollment,
        memory: &Memory<'_>,
    ) -> Result<Attested, String> {
        match (self, individual.attestation()?) {
            (Self::Token(token), Attestation::SymmetricKey { primary, secondary }) => {
                symmetric_key::check_device(token, primary, secondary, memory.last_key)
            }
            (Self::Certificate(device), Attestation::X509(x509)) => x509::check_device(device, x509),
            (Self::Token(token), Attestation::Tpm(tpm)) => tpm::check_device(token, tpm, memory.challenge),
            _ => Err(OTHER_KIND.to_owned()),
        }
    }

    /// Checks the proof against a group.
    pub(in crate::service) fn of_member(
        &self,
        settings: &Settings,
        group: &EnrollmentGroup,
        registration_id: &str,
        memory: &Memory<'_>,
    ) -> Result<Attested, String> {
        match (self, group.attestation()?) {
            (Self::Token(token), Attestation::SymmetricKey { primary, secondary }) => {
                symmetric_key::check_member(token, primary, secondary, memory.last_key, registration_id)
            }
            (Self::Certificate(device), Attestation::X509(x509)) => x509::check_member(device, x509.certificates()),
            (Self::Certificate(device), Attestation::CaReferences(references)) => {
                let cas = references.names().filter_map(|name| settings.ca_certificate(name));
                x509::check_member(device, cas)
            }
            _ => Err(OTHER_KIND.to_owned()),
        }
    }
}
