//! The identity that DPS creates at the hub.

use super::attestation::Attested;
use crate::{
    config::{X509Attestation, enrollments::Attestation, settings::Settings},
    identity::{
        certificate::Certificate,
        key::{SymmetricKey, derive_device_key},
    },
    store::{enrollments::EntryRef, hub_device::Authentication},
};

/// Returns the credentials that the hub accepts from a device of this enrollment. For a TPM this is `Unknown`,
/// because its key is created with each assignment.
///
/// "The device uses the same credentials at the hub", except in a group with symmetric keys. There, the hub has the
/// two keys that are derived from the keys of the group.
/// are derived from both keys of the group.
pub(super) fn authentication(
    entry: EntryRef<'_>,
    attested: &Attested,
    settings: &Settings,
    registration_id: &str,
) -> Authentication {
    let is_group = matches!(entry, EntryRef::Group(_));
    match entry.common().attestation {
        Ok(Attestation::SymmetricKey { primary, secondary }) => {
            let derived_from = match attested {
                Attested::DerivedKey { derived_from, .. } => derived_from,
                _ => registration_id,
            };
            let own = |key: &SymmetricKey| match is_group {
                true => derive_device_key(key, derived_from),
                false => key.clone(),
            };
            Authentication::Keys { primary: own(primary), secondary: secondary.map(own) }
        }
        Ok(Attestation::X509(x509)) if is_group => Authentication::Authorities(certificates(x509)),
        Ok(Attestation::X509(x509)) => Authentication::Certificates(certificates(x509)),
        Ok(Attestation::CaReferences(references)) => {
            let cas = references.names().filter_map(|name| settings.ca_certificate(name));
            Authentication::Authorities(cas.cloned().collect())
        }
        Ok(Attestation::Tpm(_)) | Err(_) => Authentication::Unknown,
    }
}

fn certificates(x509: &X509Attestation) -> Vec<Certificate> {
    x509.certificates().cloned().collect()
}
