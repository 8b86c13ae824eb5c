//! How devices prove their identity: one file for each kind of attestation.

mod attested;
mod proof;
mod symmetric_key;
pub(super) mod tpm;
mod x509;

pub(super) use self::{
    attested::Attested,
    proof::{Memory, Proof},
    symmetric_key::BLOCKED,
};
