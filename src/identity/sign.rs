use core::fmt;

use super::tpm::{AuthenticationKey, TpmError};

/// The length of an HMAC-SHA256 signature in bytes.
pub const SIGNATURE_LEN: usize = 32;

/// Something that holds the device's key and signs with it: a [`DeviceKey`](super::DeviceKey) in
/// memory, a secure element, a hash unit, a TPM.
///
/// Only [`sign`](Self::sign) must be written. A signer that waits for its hardware without blocking
/// implements [`SignAsync`] instead.
///
/// ```
/// use azure_dps::identity::{Sign, SignError};
///
/// struct SecureElement {/* … */}
///
/// impl Sign for SecureElement {
///     fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
///         // send `message` to slot 3 of the chip, read 32 bytes back
///         # let _ = (message, signature);
///         Err(SignError::new("the chip did not answer"))
///     }
/// }
/// ```
///
/// # Two keys
///
/// An array of two signers is a signer with a primary and a secondary key. A run that is given both
/// tries the second key if the service refuses the first one:
///
/// ```
/// use azure_dps::{DeviceKey, identity::Sign};
///
/// let mut keys = [DeviceKey::new(), DeviceKey::new()]; // primary, secondary
/// keys[0].read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// keys[1].read_base64("mLuX8iKJeTzKlqiDGmQ7zzEDeSxWiBHEsLGmL/BOEmQ=")?;
/// assert!(keys.has_secondary_key());
/// # Ok::<(), azure_dps::Error>(())
/// ```
pub trait Sign {
    /// Writes HMAC-SHA256(key, `message`) into `signature`.
    ///
    /// # Errors
    /// [`SignError`] if the key's holder did not answer. It ends the run with
    /// [`Error::Signer`](crate::Error::Signer).
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError>;

    /// Returns `true` if there is a secondary key: `false` unless the signer says otherwise.
    fn has_secondary_key(&self) -> bool {
        false
    }

    /// Does what [`sign`](Self::sign) does, with the secondary key.
    ///
    /// # Errors
    /// [`SignError`], always for a signer with one key.
    fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        let _ = (message, signature);
        Err(SignError::new("there is no secondary key"))
    }

    /// Decrypts the key of a challenge inside the TPM, which signs with this key from then on. Only
    /// a TPM implements this: see [`tpm`](super::tpm).
    ///
    /// # Errors
    /// [`TpmError`] if the TPM refuses the key, always for a signer that is no TPM. It ends the run
    /// with [`Error::Tpm`](crate::Error::Tpm).
    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let _ = key;
        Err(TpmError::new("there is no TPM"))
    }
}

/// The same as [`Sign`], for a signer that does not block. Every [`Sign`] is one.
///
/// A future of this trait may be dropped. Nothing is signed then.
// The futures need not be `Send`: a secure element on a shared bus is not.
#[allow(async_fn_in_trait)]
pub trait SignAsync {
    /// See [`Sign::sign`].
    ///
    /// # Errors
    /// [`SignError`] if the key's holder did not answer.
    async fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError>;

    /// See [`Sign::has_secondary_key`].
    fn has_secondary_key(&self) -> bool {
        false
    }

    /// See [`Sign::sign_with_secondary_key`].
    ///
    /// # Errors
    /// [`SignError`], always for a signer with one key.
    async fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        let _ = (message, signature);
        Err(SignError::new("there is no secondary key"))
    }

    /// See [`Sign::activate`].
    ///
    /// # Errors
    /// [`TpmError`] if the TPM refuses the key, always for a signer that is no TPM.
    async fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let _ = key;
        Err(TpmError::new("there is no TPM"))
    }
}

impl<S: Sign + ?Sized> SignAsync for S {
    async fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        Sign::sign(self, message, signature)
    }

    fn has_secondary_key(&self) -> bool {
        Sign::has_secondary_key(self)
    }

    async fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        Sign::sign_with_secondary_key(self, message, signature)
    }

    async fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        Sign::activate(self, key)
    }
}

impl<S: Sign + ?Sized> Sign for &mut S {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        (**self).sign(message, signature)
    }

    fn has_secondary_key(&self) -> bool {
        (**self).has_secondary_key()
    }

    fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        (**self).sign_with_secondary_key(message, signature)
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        (**self).activate(key)
    }
}

/// The primary and the secondary key.
impl<S: Sign> Sign for [S; 2] {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        let [primary, _] = self;
        primary.sign(message, signature)
    }

    fn has_secondary_key(&self) -> bool {
        true
    }

    fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        let [_, secondary] = self;
        secondary.sign(message, signature)
    }
}

/// The signer of a device without a key to sign with: one that proves itself with a certificate.
///
/// It refuses to sign, and is never asked to if the attestation is
/// [`Attestation::x509`](crate::Attestation::x509).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct NoKey;

impl Sign for NoKey {
    fn sign(&mut self, _: &[u8], _: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        Err(SignError::new("there is no key: the attestation of a certificate is `Attestation::x509`"))
    }
}

/// Names one of the two symmetric keys of an enrollment. For any other attestation, and for one key,
/// it is [`KeyChoice::Primary`].
///
/// The service answers 401000 or 401002 to a key that it refuses. A run that was given two keys
/// tries the other one then, once. [`Provisioning::key`](crate::Provisioning::key) says which key
/// the service accepted.
///
/// # Half an hour
///
/// Over HTTP the service remembers the key of a registration for 30 minutes. Until then it refuses
/// the other key, even if that key is valid. So do not use the two keys by turns. A device that
/// loses its key that soon after a registration has both keys refused. Let it try again later;
/// [`Reprovisioning`](crate::after::Reprovisioning) does so: its first four pauses last for at least
/// 85 minutes.
///
/// Sources: [symmetric key attestation](https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation);
/// [the 30 minutes](https://github.com/Azure/azure-iot-sdk-node/issues/721), seen in 2020.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum KeyChoice {
    /// The primary key, or the only credential.
    #[default]
    Primary,
    /// The secondary key.
    Secondary,
}

impl KeyChoice {
    pub(crate) const fn other(self) -> Self {
        match self {
            KeyChoice::Primary => KeyChoice::Secondary,
            KeyChoice::Secondary => KeyChoice::Primary,
        }
    }
}

/// Why a signer could not sign.
///
/// ```
/// use azure_dps::{Error, identity::SignError};
///
/// let error = Error::from(SignError::new("the chip did not answer"));
/// assert_eq!(error.to_string(), "the signer could not sign: the chip did not answer");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct SignError {
    reason: &'static str,
}

impl SignError {
    /// Creates an error with a reason, in the words of the signer. They must not contain a secret.
    pub const fn new(reason: &'static str) -> Self {
        Self { reason }
    }

    /// Returns the reason.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl core::error::Error for SignError {}

// See `crate::total`.
impl fmt::Debug for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignError(\"{}\")", self.reason)
    }
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the signer could not sign: {}", self.reason)
    }
}
