//! Ground: who is who. Keys, certificates, endorsement keys and IDs, and the verification of what devices show.

pub(crate) mod attested;
pub(crate) mod ca;
pub(crate) mod certificate;
pub(crate) mod device_certificate;
pub(crate) mod error;
pub(crate) mod ids;
pub(crate) mod key;
pub(crate) mod server_certificate;
pub(crate) mod token;
pub(crate) mod tpm;
