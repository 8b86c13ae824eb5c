//! The identity of a device: IDs, keys, signers, tokens, TPM.
//!
//! A gateway derives the key of a device from the group key, and signs with it:
//!
//! ```
//! use azure_dps::{DeviceKey, GroupKey, RegistrationId, identity::Sign};
//!
//! let mut group_key = GroupKey::new();
//! group_key.read_base64(
//!     "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==",
//! )?;
//! let mut device_key = DeviceKey::new();
//! group_key.derive_into(&RegistrationId::new("breakroom499-contoso-tstrsd-007")?, &mut device_key)?;
//!
//! let mut signature = [0; 32];
//! device_key.sign(b"message", &mut signature)?;
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! | item | use |
//! |---|---|
//! | [`IdScope`], [`RegistrationId`] | name the DPS instance and the device |
//! | [`GroupKey`], [`DeviceKey`] | symmetric keys: a group key derives device keys, a device key signs |
//! | [`Sign`], [`SignAsync`] | the trait of a signer: a [`DeviceKey`], a secure element, a TPM |
//! | [`KeyChoice`] | the primary or the secondary key |
//! | [`sas_token`] | writes a token, for a client of your own |
//! | [`tpm`] | attestation with a TPM 2.0 |
//! | [`Csr`] | a certificate signing request |

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
