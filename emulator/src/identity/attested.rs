//! By what a device proved who it is.

use serde::{Deserialize, Serialize};

use super::{
    certificate::Certificate,
    key::{SymmetricKey, kept},
    tpm::TpmKeys,
};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Attested {
    /// With this key of the enrollment.
    SymmetricKey(#[serde(with = "kept")] SymmetricKey),
    /// With a key derived from a key of a group.
    DerivedKey {
        #[serde(with = "kept")]
        group_key: SymmetricKey,
        /// The registration ID from which the key is derived, as the device spelled it there.
        derived_from: String,
    },
    X509 {
        certificate: Certificate,
        /// The CA of the group that vouches for it.
        signer: Option<Certificate>,
    },
    Tpm(TpmKeys),
}

impl Attested {
    /// The key of the enrollment, if the device proved with a key who it is.
    pub(crate) fn enrollment_key(&self) -> Option<&SymmetricKey> {
        match self {
            Self::SymmetricKey(key) | Self::DerivedKey { group_key: key, .. } => Some(key),
            Self::X509 { .. } | Self::Tpm(_) => None,
        }
    }
}
