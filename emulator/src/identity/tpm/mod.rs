//! What the service does for TPM attestation: it reads a TPM's public keys, and encrypts keys so
//! that only the TPM which has both of them can use what it is sent.
//!
//! Names and formats are those of the TPM 2.0 Library specification; numbers are big-endian. A
//! `TPM2B_…` is a length of two bytes and so much content.

mod activation;
mod challenge;
mod keys;
#[cfg(test)]
mod tests;

pub(crate) use challenge::{Challenge, TpmKeys};
pub use keys::EndorsementKey;
pub(crate) use keys::StorageKey;
