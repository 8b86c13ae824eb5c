//! How a device proved its identity.

use serde::{Deserialize, Serialize};

use super::{
    certificate::Certificate,
    key::{SymmetricKey, kept},
    tpm::TpmKeys,
};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Attested {
    /// The device used this key of the enrollment.
    SymmetricKey(#[serde(with = "kept")] SymmetricKey),
    /// The device used a key that is derived from a key of a group.
    DerivedKey {
        #[serde(with = "kept")]
        group_key: SymmetricKey,
        /// The registration ID from which the key is derived, in the spelling of the device.
        derived_from: String,
    },
    X509 {
        certificate: Certificate,
        /// The CA of the group that signed the certificate.
        signer: Option<Certificate>,
    },
    Tpm(TpmKeys),
}

impl Attested {
    /// Returns the key of the enrollment, if the device used a key.
    pub(crate) fn enrollment_key(&self) -> Option<&SymmetricKey> {
        match self {
            Self::SymmetricKey(key) | Self::DerivedKey { group_key: key, .. } => Some(key),
            Self::X509 { .. } | Self::Tpm(_) => None,
        }
    }
}
