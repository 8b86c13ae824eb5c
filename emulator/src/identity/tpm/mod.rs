//! The service's part of TPM attestation: it reads the public keys of a TPM, and encrypts keys that only this TPM can
//! use.
//!
//! Names and formats are those of the TPM 2.0 Library specification. Numbers are big-endian. A `TPM2B_…` is a length
//! of two bytes, followed by its content.

mod activation;
mod challenge;
mod keys;
#[cfg(test)]
mod tests;

pub(crate) use challenge::{Challenge, TpmKeys};
pub use keys::EndorsementKey;
pub(crate) use keys::StorageKey;
