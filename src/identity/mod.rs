//! Who the device is: its IDs, its key, the tokens that it signs, its TPM.
//!
//! | | |
//! |---|---|
//! | [`IdScope`], [`RegistrationId`] | the two names that a device registers with |
//! | [`GroupKey`], [`DeviceKey`] | symmetric keys: the first one derives, the second one signs |
//! | [`Sign`], [`SignAsync`] | what holds the key: a [`DeviceKey`], a secure element, a TPM |
//! | [`KeyChoice`] | the primary or the secondary key |
//! | [`sas_token`] | a token by itself, for clients of your own |
//! | [`tpm`] | attestation by a TPM 2.0 |
//! | [`Csr`] | a request for a certificate, which the service can have issued |

pub(crate) mod csr;
pub(crate) mod hub_name;
mod id;
mod key;
pub mod sas_token;
mod sign;
pub mod tpm;

pub use csr::{Csr, InvalidCsr};
pub use hub_name::InvalidHub;
pub use id::{IdScope, Identifier, IdentifierProblem, InvalidIdentifier, RegistrationId};
pub(crate) use key::wipe;
pub use key::{DeviceKey, GroupKey, InvalidKey};
pub use sign::{KeyChoice, NoKey, SIGNATURE_LEN, Sign, SignAsync, SignError};
