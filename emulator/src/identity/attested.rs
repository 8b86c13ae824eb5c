//! By what a device proved who it is.

use serde::{Deserialize, Serialize};

use super::{
    certificate::Certificate,
    key::{SymmetricKey, kept},
    tpm::TpmKeys,
};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Attested {
    /// With this key of the enrollment. A device of a group has a key derived from it.
    SymmetricKey(#[serde(with = "kept")] SymmetricKey),
    X509 {
        certificate: Certificate,
        /// The CA of the group that vouches for it.
        signer: Option<Certificate>,
    },
    Tpm(TpmKeys),
}
