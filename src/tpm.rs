//! Attestation by a TPM 2.0: the service encrypts a key that the device's TPM alone can
//! decrypt, and the device signs its token with that key.
//!
//! There is no TPM library in here. Implement [`Tpm`] over the one that the device has, and
//! turn on the feature `tpm`; [the driving contract](crate#the-driving-contract) stays the
//! same, and so do the transports. The service offers this over HTTP and not over MQTT.
//!
//! ```
//! use azure_dps::{Sign, SignError, tpm::{AuthenticationKey, Tpm, TpmError}};
//!
//! struct Chip { // made at start-up: the keys are read once
//!     endorsement_key: Vec<u8>,
//!     storage_root_key: Vec<u8>,
//! }
//!
//! impl Tpm for Chip {
//!     fn endorsement_key(&self) -> &[u8] {
//!         &self.endorsement_key
//!     }
//!
//!     fn storage_root_key(&self) -> &[u8] {
//!         &self.storage_root_key
//!     }
//!
//!     fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
//!         let mut buffer = [0; 1024];
//!         let key = key.decode(&mut buffer).map_err(|_| TpmError::new("the challenge is no base64"))?;
//!         // TPM2_ActivateCredential(key.id_object, key.encrypted_secret) → inner key,
//!         // TPM2_Import(inner key, key.public, key.duplicate, key.import_seed), TPM2_Load
//!         # let _ = key;
//!         Ok(())
//!     }
//! }
//!
//! impl Sign for Chip {
//!     fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
//!         // TPM2_HMAC with the key that was imported last
//!         # let _ = (message, signature);
//!         Err(SignError::new("the TPM did not answer"))
//!     }
//! }
//! ```
//!
//! After assignment, give the TPM
//! [`Assignment::tpm_authentication_key`](crate::Assignment::tpm_authentication_key) in the same
//! way, and have it keep that one (`TPM2_EvictControl`): it signs the tokens for the hub. It is in
//! the [`Record`](crate::Record) too.
//!
//! Source: [TPM attestation](https://learn.microsoft.com/azure/iot-dps/concepts-tpm-attestation).

use core::fmt;

use crate::{
    Error, Malformed, Sign,
    base64::decode_text,
    json::{Object, Text},
};

/// A TPM 2.0 with its endorsement key, its storage root key, and a place for the key of a
/// challenge. [`Sign`] signs with that key.
pub trait Tpm: Sign {
    /// The public part of the endorsement key: a marshalled `TPM2B_PUBLIC`, its length first.
    /// It is what the operator enrolled.
    fn endorsement_key(&self) -> &[u8];

    /// The public part of the storage root key, marshalled likewise.
    fn storage_root_key(&self) -> &[u8];

    /// Decrypts the key of a challenge inside the TPM, which signs with it from then on.
    ///
    /// Every run has a challenge, look-ups too. So this key must not take the place of the one
    /// that the TPM keeps for the hub: load it as a transient object.
    ///
    /// # Errors
    /// [`TpmError`] if the TPM refuses: the key was not encrypted for it. It ends the run with
    /// [`Error::Tpm`].
    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError>;
}

/// Why a TPM could not activate a key.
///
/// ```
/// use azure_dps::{Error, tpm::TpmError};
///
/// let error = Error::from(TpmError::new("integrity check failed"));
/// assert!(error.to_string().contains("integrity check failed"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TpmError {
    reason: &'static str,
}

impl TpmError {
    /// Creates an error for this reason, in the words of the TPM or of its library.
    pub const fn new(reason: &'static str) -> Self {
        Self { reason }
    }

    /// Returns the reason.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl core::error::Error for TpmError {}

// Written by hand for the reason that `Malformed` has.
impl fmt::Debug for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TpmError(\"{}\")", self.reason)
    }
}

impl fmt::Display for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the TPM could not activate the key that the service encrypted for it ({}): is it the one that was enrolled?",
            self.reason
        )
    }
}

/// A key that the service encrypted for one TPM, as it stands in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticationKey<'b>(Text<'b>);

impl<'b> AuthenticationKey<'b> {
    pub(crate) const fn new(base64: Text<'b>) -> Self {
        Self(base64)
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
    /// [`Error::BufferTooSmall`] with a size that suffices; [`Error::Malformed`] if this is not
    /// base64 of the parts.
    pub fn decode<'o>(&self, buffer: &'o mut [u8]) -> Result<EncryptedKey<'o>, Error> {
        let bytes = decode_text(self.0, "authenticationKey", buffer)?;
        EncryptedKey::read(bytes).ok_or(Malformed::Invalid("authenticationKey").into())
    }
}

/// The parts of an [`AuthenticationKey`], each without the length that stands before it.
///
/// The layout is documented by the C SDK's TPM client alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
