//! The attestation part of a registration's result.

pub(in crate::service) use crate::identity::attested::Attested;
use crate::{identity::certificate::Certificate, store::registration_state::AttestationResult};

impl Attested {
    /// Returns the attestation part of a result, in the form that devices have logged. For keys it names only the
    /// group. For certificates it also has only the group, unless `with_info` asks for all members of the
    /// specification. For a TPM it has `authentication_key`.
    pub(in crate::service) fn result(
        &self,
        group: Option<&str>,
        with_info: bool,
        authentication_key: Option<String>,
    ) -> Option<AttestationResult> {
        let info = |certificate: &Certificate| with_info.then(|| Box::new(certificate.info().clone()));
        let group = group.map(str::to_owned);
        match self {
            Self::SymmetricKey(_) | Self::DerivedKey { .. } => {
                group.map(|enrollment_group_id| AttestationResult::SymmetricKey { enrollment_group_id })
            }
            Self::X509 { certificate, signer } => Some(AttestationResult::X509 {
                certificate_info: info(certificate),
                enrollment_group_id: group,
                signing_certificate_info: signer.as_ref().and_then(info),
            }),
            Self::Tpm(_) => authentication_key.map(|authentication_key| AttestationResult::Tpm { authentication_key }),
        }
    }
}
