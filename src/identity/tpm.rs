//! Attestation by a TPM 2.0: the service encrypts a key that the device's TPM alone can
//! decrypt, and the device signs its token with that key.
//!
//! There is no TPM library in this crate. Implement [`Sign`](super::Sign) over the one that the device
//! has, and enable the feature `tpm`. The transports are the same as for a key. The service offers this
//! attestation over HTTP, not over MQTT.
//!
//! ```
//! use azure_dps::identity::{Sign, SignError, tpm::{AuthenticationKey, TpmError}};
//!
//! struct Chip {/* … */}
//!
//! impl Sign for Chip {
//!     fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
//!         // TPM2_HMAC with the key that was imported last
//!         # let _ = (message, signature);
//!         Err(SignError::new("the TPM did not answer"))
//!     }
//!
//!     fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
//!         let mut buffer = [0; 1024];
//!         let key = key.decode(&mut buffer)?;
//!         // TPM2_ActivateCredential(key.id_object, key.encrypted_secret) → inner key,
//!         // TPM2_Import(inner key, key.public, key.duplicate, key.import_seed), TPM2_Load
//!         # let _ = key;
//!         Ok(())
//!     }
//! }
//! ```
//!
//! The TPM's public keys are read once, and go into the attestation:
//!
//! ```
//! # #[cfg(feature = "tpm")] {
//! use azure_dps::{Attestation, identity::tpm::TpmKeys};
//!
//! # let (endorsement_key, storage_root_key) = (&[0, 0][..], &[0, 0][..]);
//! let attestation = Attestation::tpm(TpmKeys { endorsement_key, storage_root_key });
//! # }
//! ```
//!
//! Every run has a challenge, look-ups too. So the key of a challenge must not take the place of the
//! one that the TPM keeps for the hub: load it as a transient object.
//!
//! After assignment, give the TPM
//! [`Assignment::tpm_authentication_key`](crate::Assignment::tpm_authentication_key) in the same
//! way, and have it keep that one (`TPM2_EvictControl`): it signs the tokens for the hub. It is in
//! the [`Record`](crate::after::Record) too.
//!
//! Source: [TPM attestation](https://learn.microsoft.com/azure/iot-dps/concepts-tpm-attestation).

use core::fmt;

use crate::text::{
    BufferTooSmall,
    json::{NoBytes, Object, Text, decode_text},
};

/// The public keys of a TPM, which go into the register request: see
/// [`Attestation::tpm`](crate::Attestation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct TpmKeys<'a> {
    /// The public part of the endorsement key: a marshalled `TPM2B_PUBLIC`, its length first. The
    /// operator enrolled this key.
    pub endorsement_key: &'a [u8],
    /// The public part of the storage root key, marshalled likewise.
    pub storage_root_key: &'a [u8],
}

/// Why a TPM could not activate a key.
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
    /// The TPM refused, for this reason.
    Refused(&'static str),
    /// What the service sent is no encrypted key.
    NotAKey,
    /// The buffer that the key was to be decoded into is too small.
    BufferTooSmall(BufferTooSmall),
}

impl TpmError {
    /// Creates an error with a reason, in the words of the TPM or of its library.
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
                "the TPM could not activate the key that the service encrypted for it ({reason}): is it the TPM that was enrolled?"
            ),
            TpmError::NotAKey => f.write_str("what the service sent is no key that is encrypted for a TPM"),
            TpmError::BufferTooSmall(error) => error.fmt(f),
        }
    }
}

/// A key that the service encrypted for one TPM, as it stands in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct AuthenticationKey<'b>(Text<'b>);

impl<'b> AuthenticationKey<'b> {
    /// Takes a key that was kept as text: base64, perhaps with the escapes of JSON.
    /// [`decode`](Self::decode) checks it.
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

    /// Finds the key for the hub in a registration state that was kept
    /// ([`Assignment::registration_state`](crate::Assignment::registration_state)). `None` if there is none.
    pub fn of_registration_state(state: Object<'b>) -> Option<Self> {
        state.field("tpm")?.object()?.get("authenticationKey")?.text().map(Self)
    }

    /// What a refused register request demands of the TPM; `None` if it is refused for good.
    pub(crate) fn of_challenge(body: &'b [u8]) -> Option<Self> {
        let document = Object::parse_within(body, 0).ok()?;
        document.get("authenticationKey")?.text().map(Self)
    }

    /// The base64 text.
    pub const fn text(&self) -> Text<'b> {
        self.0
    }

    /// Decodes the key into `buffer`, of three quarters of the text's length (776 bytes for an
    /// RSA 2048 key), and takes it apart.
    ///
    /// See the [module](self)'s example.
    ///
    /// # Errors
    /// [`TpmError::BufferTooSmall`] with a size that is sufficient; [`TpmError::NotAKey`] if this is not
    /// base64 of the parts.
    pub fn decode<'o>(&self, buffer: &'o mut [u8]) -> Result<EncryptedKey<'o>, TpmError> {
        let bytes = decode_text(self.0, buffer).map_err(|error| match error {
            NoBytes::NotBase64 => TpmError::NotAKey,
            NoBytes::BufferTooSmall(error) => TpmError::BufferTooSmall(error),
        })?;
        EncryptedKey::read(bytes).ok_or(TpmError::NotAKey)
    }
}

/// The parts of an [`AuthenticationKey`], each without the length that stands before it.
///
/// The layout is documented by the C SDK's TPM client alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct EncryptedKey<'o> {
    /// `TPM2B_ID_OBJECT`, for `TPM2_ActivateCredential`.
    pub id_object: &'o [u8],
    /// `TPM2B_ENCRYPTED_SECRET`, for `TPM2_ActivateCredential`, which returns the inner key.
    pub encrypted_secret: &'o [u8],
    /// `TPM2B_PRIVATE`, for `TPM2_Import`: under AES-128-CFB with the inner key.
    pub duplicate: &'o [u8],
    /// `TPM2B_ENCRYPTED_SECRET`, for `TPM2_Import`.
    pub import_seed: &'o [u8],
    /// `TPMT_PUBLIC` of the key, for `TPM2_Import` and `TPM2_Load`.
    pub public: &'o [u8],
    /// Data encrypted with the inner key, which no client reads.
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
