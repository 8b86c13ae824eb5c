//! Which enrollment a device comes through: the one whose key signed its token.

use crate::{
    config::{Allocation, Config, ReprovisionPolicy, SymmetricKey, Twin},
    error::ServiceError,
    sas::{SasToken, derive_device_key},
};

/// What an enrollment says about one device, whichever kind it is.
#[derive(Clone, Debug)]
pub(crate) struct Enrollment {
    pub(crate) kind: Kind,
    /// The group's or the individual enrollment's name.
    pub(crate) id: String,
    pub(crate) enabled: bool,
    pub(crate) device_id: Option<String>,
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

/// Finds the enrollment of a device that presents `authorization`.
///
/// An individual enrollment takes precedence over groups: then only its own keys count. A disabled
/// one answers devices with a group's key too, because it is made to shut out a device of a group.
pub(crate) fn authenticate(
    config: &Config,
    registration_id: &str,
    authorization: Option<&str>,
    now: u64,
) -> Result<Enrollment, ServiceError> {
    let resource = format!("{}/registrations/{registration_id}", config.id_scope);
    let token = authorization
        .ok_or_else(|| "there is no authorization".to_owned())
        .and_then(SasToken::parse)
        .and_then(|token| {
            token.check_resource(&resource)?;
            if !config.behaviour.any_key_name {
                token.check_key_name()?;
            }
            token.check_expiry(now, u64::from(config.behaviour.token_leeway))?;
            Ok(token)
        })
        .map_err(ServiceError::unauthorized)?;

    let individual =
        config.individual_enrollments.iter().find(|each| each.registration_id.eq_ignore_ascii_case(registration_id));
    let group = || {
        config.enrollment_groups.iter().find(|group| {
            keys(&group.primary_key, group.secondary_key.as_ref())
                .any(|key| is_signed_by_derived(&token, key, registration_id))
        })
    };
    if let Some(individual) = individual {
        let own =
            keys(&individual.primary_key, individual.secondary_key.as_ref()).any(|key| token.is_signed_by(key.bytes()));
        if own || (!individual.enabled && group().is_some()) {
            return Ok(Enrollment {
                kind: Kind::Individual,
                id: individual.registration_id.clone(),
                enabled: individual.enabled,
                device_id: individual.device_id.clone(),
                allocation: individual.allocation.clone(),
                reprovision_policy: individual.reprovision_policy,
                initial_twin: individual.initial_twin.clone(),
                iot_edge: individual.iot_edge,
            });
        }
    } else if let Some(group) = group() {
        return Ok(Enrollment {
            kind: Kind::Group,
            id: group.enrollment_group_id.clone(),
            enabled: group.enabled,
            device_id: None,
            allocation: group.allocation.clone(),
            reprovision_policy: group.reprovision_policy,
            initial_twin: group.initial_twin.clone(),
            iot_edge: group.iot_edge,
        });
    } else if config.enrollment_groups.is_empty() {
        // Nobody could have signed for this ID. With a group there, any ID may be the group's, so
        // a signature that does not verify is a wrong key.
        return Err(ServiceError::not_found("Enrollment not found", format!("no enrollment is for {registration_id}")));
    }
    Err(ServiceError::unauthorized("the token's signature was made with none of the enrollments' keys"))
}

fn keys<'a>(primary: &'a SymmetricKey, secondary: Option<&'a SymmetricKey>) -> impl Iterator<Item = &'a SymmetricKey> {
    std::iter::once(primary).chain(secondary)
}

/// Device keys are made from the registration ID as it is written; whether the service makes them
/// from its lower case, nobody has said, so both are taken.
fn is_signed_by_derived(token: &SasToken<'_>, key: &SymmetricKey, registration_id: &str) -> bool {
    let lower = registration_id.to_ascii_lowercase();
    token.is_signed_by(&derive_device_key(key, registration_id))
        || (lower != registration_id && token.is_signed_by(&derive_device_key(key, &lower)))
}
