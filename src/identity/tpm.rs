//! Attestation with a TPM 2.0.
//!
//! The service sends an encrypted key as a challenge. Only the device's TPM can decrypt the key. The device
//! signs its token with it.
//!
//! This crate contains no TPM library. Enable the feature `tpm`, and implement [`Sign`](super::Sign) with
//! the library that the device has. The transports are the same as for a symmetric key. The service offers
//! TPM attestation over HTTP only, not over MQTT.
//!
//! ```
//! use azure_dps::identity::tpm::{AuthenticationKey, EncryptedKey, TpmError};
//! use azure_dps::identity::{Sign, SignError};
//!
//! /// The TPM library of the device. Each function returns `None` if the TPM fails.
//! trait Library {
//!     /// TPM2_HMAC with the key that was loaded last.
//!     fn hmac(&mut self, message: &[u8]) -> Option<[u8; 32]>;
//!     /// TPM2_ActivateCredential with `id_object` and `encrypted_secret`, which returns the inner key;
//!     /// TPM2_Import with the inner key, `public`, `duplicate` and `import_seed`; TPM2_Load.
//!     fn load(&mut self, key: EncryptedKey<'_>) -> Option<()>;
//! }
//!
//! struct Tpm<L>(L);
//!
//! impl<L: Library> Sign for Tpm<L> {
//!     fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
//!         *signature = self.0.hmac(message).ok_or(SignError::new("the TPM did not answer"))?;
//!         Ok(())
//!     }
//!
//!     fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
//!         let mut buffer = [0; 1024];
//!         self.0.load(key.decode(&mut buffer)?).ok_or(TpmError::new("the TPM rejects the key"))
//!     }
//! }
//! ```
//!
//! Read the TPM's public keys once, and create the attestation with them:
//!
//! ```
//! # #[cfg(feature = "tpm")] {
//! use azure_dps::{Attestation, identity::tpm::TpmKeys};
//!
//! fn attestation<'a>(endorsement_key: &'a [u8], storage_root_key: &'a [u8]) -> Attestation<'a> {
//!     Attestation::tpm(TpmKeys { endorsement_key, storage_root_key })
//! }
//! # }
//! ```
//!
//! Every run has a challenge, and every look-up too. Load the key of a challenge as a transient object, so
//! that it does not replace the key that the TPM keeps for the hub.
//!
//! After the assignment, load
//! [`Assignment::tpm_authentication_key`](crate::Assignment::tpm_authentication_key) in the same way and
//! make it persistent (`TPM2_EvictControl`). This key signs the tokens for the hub. The
//! [`Record`](crate::after::Record) contains it too.
//!
//! Source: [TPM attestation](https://learn.microsoft.com/azure/iot-dps/concepts-tpm-attestation).

use core::fmt;

use crate::text::{
    BufferTooSmall,
    json::{NoBytes, Object, Text, decode_text},
};

/// The public keys of a TPM, for [`Attestation::tpm`](crate::Attestation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct TpmKeys<'a> {
    /// The public part of the endorsement key, which the operator enrolled: a marshaled `TPM2B_PUBLIC`,
    /// which begins with its length.
    pub endorsement_key: &'a [u8],
    /// The public part of the storage root key: a marshaled `TPM2B_PUBLIC`.
    pub storage_root_key: &'a [u8],
}

/// The reason why a TPM could not load an encrypted key.
///
/// ```
/// use azure_dps::{Error, identity::tpm::TpmError};
///
/// let error = Error::from(TpmError::new("integrity check failed"));
/// assert!(error.to_string().contains("integrity check failed"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum TpmError {
    /// The TPM, or its library, rejected the key for this reason.
    Refused(&'static str),
    /// The service sent a text that is not an encrypted key.
    NotAKey,
    /// The buffer is too small to decode the key.
    BufferTooSmall(BufferTooSmall),
}

impl TpmError {
    /// Creates an error with a reason, which must not contain a secret.
    pub const fn new(reason: &'static str) -> Self {
        Self::Refused(reason)
    }
}

impl core::error::Error for TpmError {}

// See `crate::total`.
impl fmt::Debug for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TpmError::Refused(reason) => write!(f, "Refused(\"{reason}\")"),
            TpmError::NotAKey => f.write_str("NotAKey"),
            TpmError::BufferTooSmall(error) => f.debug_tuple("BufferTooSmall").field(error).finish(),
        }
    }
}

impl fmt::Display for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TpmError::Refused(reason) => write!(
                f,
                "the TPM could not load the key that the service encrypted ({reason}): check that this TPM was enrolled"
            ),
            TpmError::NotAKey => f.write_str("the service sent a text that is not an encrypted key for a TPM"),
            TpmError::BufferTooSmall(error) => error.fmt(f),
        }
    }
}

/// A key that the service encrypted for one TPM, in the base64 of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct AuthenticationKey<'b>(Text<'b>);

impl<'b> AuthenticationKey<'b> {
    /// Creates a key from base64, with or without JSON escapes. [`decode`](Self::decode) checks the text.
    ///
    /// ```
    /// use azure_dps::identity::tpm::{AuthenticationKey, TpmError};
    ///
    /// let kept = AuthenticationKey::from_base64("AAIBAgACAwQAAAAAAAAAAA==");
    /// assert_eq!(kept.decode(&mut [0; 32])?.id_object, [1, 2]);
    /// assert_eq!(AuthenticationKey::from_base64("%").decode(&mut [0; 32]), Err(TpmError::NotAKey));
    /// # Ok::<(), TpmError>(())
    /// ```
    pub const fn from_base64(base64: &'b str) -> Self {
        Self(Text::checked(base64.as_bytes()))
    }

    /// Returns the key for the hub from a registration state that was stored
    /// ([`Assignment::registration_state`](crate::Assignment::registration_state)), if it contains one.
    pub fn of_registration_state(state: Object<'b>) -> Option<Self> {
        state.field("tpm")?.object()?.get("authenticationKey")?.text().map(Self)
    }

    /// Returns the challenge from the answer 401 to a register request. Returns `None` if the answer is a
    /// final rejection.
    pub(crate) fn of_challenge(body: &'b [u8]) -> Option<Self> {
        let document = Object::parse_within(body, 0).ok()?;
        document.get("authenticationKey")?.text().map(Self)
    }

    /// Returns the base64 text.
    pub const fn text(&self) -> Text<'b> {
        self.0
    }

    /// Decodes the key into `buffer`, and returns its parts. See the [module](self) for an example.
    ///
    /// The buffer needs three quarters of the length of the text: 776 bytes for an RSA 2048 key.
    ///
    /// # Errors
    /// - [`TpmError::BufferTooSmall`] with a size that is sufficient;
    /// - [`TpmError::NotAKey`] if the text is not base64, or a part is missing.
    pub fn decode<'o>(&self, buffer: &'o mut [u8]) -> Result<EncryptedKey<'o>, TpmError> {
        let bytes = decode_text(self.0, buffer).map_err(|error| match error {
            NoBytes::NotBase64 => TpmError::NotAKey,
            NoBytes::BufferTooSmall(error) => TpmError::BufferTooSmall(error),
        })?;
        EncryptedKey::read(bytes).ok_or(TpmError::NotAKey)
    }
}

/// The parts of an [`AuthenticationKey`], without the length before each part.
///
/// Microsoft documents this layout only in the source of the C SDK's TPM client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct EncryptedKey<'o> {
    /// `TPM2B_ID_OBJECT`, for `TPM2_ActivateCredential`.
    pub id_object: &'o [u8],
    /// `TPM2B_ENCRYPTED_SECRET`, for `TPM2_ActivateCredential`, which returns the inner key.
    pub encrypted_secret: &'o [u8],
    /// `TPM2B_PRIVATE`, for `TPM2_Import`. Encrypted with the inner key (AES-128-CFB).
    pub duplicate: &'o [u8],
    /// `TPM2B_ENCRYPTED_SECRET`, for `TPM2_Import`.
    pub import_seed: &'o [u8],
    /// `TPMT_PUBLIC` of the key, for `TPM2_Import` and `TPM2_Load`.
    pub public: &'o [u8],
    /// Data encrypted with the inner key. No known client uses it.
    pub data: &'o [u8],
}

impl<'o> EncryptedKey<'o> {
    fn read(bytes: &'o [u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut part = || {
            let (&len, after) = rest.split_first_chunk()?;
            let (part, after) = after.split_at_checked(u16::from_be_bytes(len).into())?;
            rest = after;
            Some(part)
        };
        Some(Self {
            id_object: part()?,
            encrypted_secret: part()?,
            duplicate: part()?,
            import_seed: part()?,
            public: part()?,
            data: part()?,
        })
    }
}
