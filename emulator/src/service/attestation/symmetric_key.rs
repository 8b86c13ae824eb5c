//! Attestation with symmetric keys: the token is signed with a key of the enrollment or with a derived key.

use super::attested::Attested;
use crate::identity::{
    key::{SymmetricKey, derive_device_key},
    token::SasToken,
};

/// The end of the reason if the other key of the enrollment was used recently.
pub(in crate::service) const BLOCKED: &str =
    "the last registration used the other key, which blocks the key of this token (other_key_blocked_for)";

/// Finds the key that signed, unless the other key of the enrollment blocks it. If the last key of a device was
/// replaced, no source says what the service does: here the new key is accepted.
fn find_key(
    primary: &SymmetricKey,
    secondary: Option<&SymmetricKey>,
    last_key: Option<&SymmetricKey>,
    attested_by: impl Fn(&SymmetricKey) -> Option<Attested>,
) -> Result<Attested, String> {
    let mut keys = std::iter::once(primary).chain(secondary);
    let (key, attested) =
        keys.clone().find_map(|key| Some((key, attested_by(key)?))).ok_or("the token is signed with another key")?;
    match last_key {
        Some(last) if last != key && keys.any(|key| key == last) => Err(BLOCKED.to_owned()),
        _ => Ok(attested),
    }
}

/// Checks the token of a device with an individual enrollment.
pub(super) fn check_device(
    token: &SasToken<'_>,
    primary: &SymmetricKey,
    secondary: Option<&SymmetricKey>,
    last_key: Option<&SymmetricKey>,
) -> Result<Attested, String> {
    find_key(primary, secondary, last_key, |key| {
        token.is_signed_by(key.bytes()).then(|| Attested::SymmetricKey(key.clone()))
    })
}

/// Checks the token of a device of a group.
///
/// Device keys are derived from the registration ID as the device writes it. No source says whether the service
/// derives them from the ID in lower case, so both are accepted.
pub(super) fn check_member(
    token: &SasToken<'_>,
    primary: &SymmetricKey,
    secondary: Option<&SymmetricKey>,
    last_key: Option<&SymmetricKey>,
    registration_id: &str,
) -> Result<Attested, String> {
    let lower = registration_id.to_ascii_lowercase();
    let spellings = || std::iter::once(registration_id).chain(Some(&*lower).filter(|lower| *lower != registration_id));
    find_key(primary, secondary, last_key, |key| {
        let is_signed = |spelling: &&str| token.is_signed_by(derive_device_key(key, spelling).bytes());
        let derived_from = spellings().find(is_signed)?.to_owned();
        Some(Attested::DerivedKey { group_key: key.clone(), derived_from })
    })
}
