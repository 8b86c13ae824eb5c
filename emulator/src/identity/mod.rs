//! Base layer: keys, certificates, endorsement keys and IDs, and the checks of device credentials.

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
