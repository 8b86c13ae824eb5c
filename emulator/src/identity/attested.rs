//! By what a device proved who it is.

use super::{certificate::Certificate, key::SymmetricKey, tpm::TpmKeys};

#[derive(Clone, Debug)]
pub(crate) enum Attested {
    /// With this key of the enrollment. A device of a group has a key derived from it.
    SymmetricKey(SymmetricKey),
    X509 {
        certificate: Certificate,
        /// The CA of the group that vouches for it.
        signer: Option<Certificate>,
    },
    Tpm(TpmKeys),
}
