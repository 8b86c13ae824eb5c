use core::fmt;

use super::tpm::{AuthenticationKey, TpmError};

/// The length of a signature (HMAC-SHA256), in bytes.
pub const SIGNATURE_LEN: usize = 32;

/// A signer: holds the device's key and signs with it.
///
/// [`DeviceKey`](super::DeviceKey) is a signer in memory. Implement this trait for a secure element, a
/// hash unit or a TPM. Only [`sign`](Self::sign) is required. If the signer waits for its hardware in
/// async code, implement [`SignAsync`] instead.
///
/// ```
/// use azure_dps::identity::{Sign, SignError};
///
/// /// A driver of a secure element. Slot 3 holds the device's key.
/// trait Chip {
///     fn hmac_sha256(&mut self, slot: u8, message: &[u8]) -> Option<[u8; 32]>;
/// }
///
/// struct SecureElement<C>(C);
///
/// impl<C: Chip> Sign for SecureElement<C> {
///     fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
///         *signature = self.0.hmac_sha256(3, message).ok_or(SignError::new("the chip did not answer"))?;
///         Ok(())
///     }
/// }
/// ```
///
/// # Two keys
///
/// An array of two signers is a signer with a primary and a secondary key. If the service rejects the
/// primary key, the run tries the secondary key:
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
    /// Writes the HMAC-SHA256 of `message` into `signature`, with the primary or only key.
    ///
    /// # Errors
    /// [`SignError`] if the key is not available. The run ends with
    /// [`Error::Signer`](crate::Error::Signer).
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError>;

    /// Returns `true` if there is a secondary key. The default is `false`.
    fn has_secondary_key(&self) -> bool {
        false
    }

    /// Signs as [`sign`](Self::sign) does, with the secondary key.
    ///
    /// # Errors
    /// [`SignError`] if the key is not available. The default implementation always returns an error.
    fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        let _ = (message, signature);
        Err(SignError::new("there is no secondary key"))
    }

    /// Loads an encrypted key into the TPM. Later signatures use this key.
    ///
    /// Only a TPM implements this function: see [`tpm`](super::tpm).
    ///
    /// # Errors
    /// [`TpmError`] if the TPM rejects the key. The default implementation always returns an error. The run
    /// ends with [`Error::Tpm`](crate::Error::Tpm).
    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let _ = key;
        Err(TpmError::new("there is no TPM"))
    }
}

/// An async signer. Every [`Sign`] is also a `SignAsync`.
///
/// The caller may drop a future of this trait. Then nothing is signed.
///
/// ```
/// use azure_dps::identity::{SignAsync, SignError};
///
/// /// An async driver of a secure element. Slot 3 holds the device's key.
/// trait Chip {
///     async fn hmac_sha256(&mut self, slot: u8, message: &[u8]) -> Option<[u8; 32]>;
/// }
///
/// struct SecureElement<C>(C);
///
/// impl<C: Chip> SignAsync for SecureElement<C> {
///     async fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
///         *signature = self.0.hmac_sha256(3, message).await.ok_or(SignError::new("the chip did not answer"))?;
///         Ok(())
///     }
/// }
/// ```
// The futures are not `Send`, because a secure element on a shared bus is not.
#[allow(async_fn_in_trait)]
pub trait SignAsync {
    /// Writes the HMAC-SHA256 of `message` into `signature`: see [`Sign::sign`].
    ///
    /// # Errors
    /// [`SignError`] if the key is not available.
    async fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError>;

    /// Returns `true` if there is a secondary key: see [`Sign::has_secondary_key`].
    fn has_secondary_key(&self) -> bool {
        false
    }

    /// Signs with the secondary key: see [`Sign::sign_with_secondary_key`].
    ///
    /// # Errors
    /// [`SignError`] if the key is not available. The default implementation always returns an error.
    async fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        let _ = (message, signature);
        Err(SignError::new("there is no secondary key"))
    }

    /// Loads an encrypted key into the TPM: see [`Sign::activate`].
    ///
    /// # Errors
    /// [`TpmError`] if the TPM rejects the key. The default implementation always returns an error.
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

/// A signer with a primary and a secondary key, in this order.
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

/// The signer of a device without a symmetric key. Pass it to a transport for X.509 attestation.
///
/// A run with [`Attestation::x509`](crate::Attestation::x509) does not call the signer. In any other run,
/// [`sign`](Sign::sign) returns an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct NoKey;

impl Sign for NoKey {
    fn sign(&mut self, _: &[u8], _: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        Err(SignError::new("there is no key: use `Attestation::x509` for a device with a certificate"))
    }
}

/// The primary or the secondary symmetric key of an enrollment.
///
/// If a device has only one key, or another attestation, the value is [`KeyChoice::Primary`].
///
/// The service rejects a key with error 401000 or 401002. A run with two keys then tries the other key,
/// once. [`Provisioning::key`](crate::Provisioning::key) returns the key that the service accepted.
///
/// # The 30 minutes after a registration
///
/// Over HTTP, the service remembers the key of a registration for 30 minutes. During this time it rejects
/// the other key, even if that key is valid. So do not alternate between the two keys.
///
/// If the operator replaces the key during this time, the service rejects both keys. Try again later.
/// [`Reprovisioning`](crate::after::Reprovisioning) does this: its first four pauses add up to at least 85
/// minutes.
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

/// The reason why a signer could not sign.
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
    /// Creates an error with a reason. The reason must not contain a secret.
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
