use core::{fmt, mem::MaybeUninit};

use hmac::{
    KeyInit,
    block_api::HmacCore,
    digest::block_api::{Buffer, FixedOutputCore, UpdateCore},
};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    RegistrationId,
    base64::{self, Undecodable},
    error::BufferTooSmall,
    writer::{Writer, text},
};

/// An HMAC-SHA256 signature.
pub const SIGNATURE_LEN: usize = 32;

/// The key of an enrollment group. It can only derive device keys.
///
/// **A group key does not belong in firmware.** Whoever reads it from one device can be any
/// device of the group. Derive the [`DeviceKey`] in the factory, or on a gateway that you
/// trust, and give each device only its own.
///
/// The key is wiped from memory on drop, has no `Display`, and its `Debug` says nothing. What
/// deriving and signing leave on the stack is wiped too.
///
/// **A key that is moved may leave a copy behind** that no drop reaches, and the `?` after
/// [`from_base64`](Self::from_base64) moves it. Where that matters, leave the key in its
/// `Result`:
///
/// ```
/// # use azure_dps::{GroupKey, InvalidKey, RegistrationId};
/// # fn derive(text: &str, id: &RegistrationId<'_>) -> Result<(), InvalidKey> {
/// let group_key = &GroupKey::from_base64(text);
/// let group_key = group_key.as_ref().map_err(|error| *error)?;
/// let device_key = &mut group_key.derive(id);
/// # let _ = device_key;
/// # Ok(())
/// # }
/// ```
///
/// ```
/// use azure_dps::{GroupKey, RegistrationId};
///
/// let group_key = GroupKey::from_base64(
///     "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==",
/// )?;
/// let device_key = group_key.derive(&RegistrationId::new("breakroom499-contoso-tstrsd-007")?);
///
/// let mut text = [0; 44];
/// assert_eq!(device_key.write_base64(&mut text)?, "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=");
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// It cannot sign, so that it cannot be taken for the device's:
///
/// ```compile_fail,E0277
/// # let mut group_key = azure_dps::GroupKey::from_base64("").unwrap();
/// azure_dps::Credential::sas(&mut group_key);
/// ```
///
/// Source: [group enrollments](https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation#group-enrollments).
#[derive(Clone)]
pub struct GroupKey(KeyBytes);

impl GroupKey {
    /// Reads a key as the portal and the `az` tool print it.
    ///
    /// # Errors
    /// [`InvalidKey`], which names a position or a length and never the key.
    #[inline(never)]
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        // Returned as a clone, since this one is dropped then, and wiped.
        let mut key = KeyBytes::EMPTY;
        key.decode(text)?;
        Ok(Self(key.clone()))
    }

    /// The device's own key: HMAC-SHA256 over the registration ID, verbatim.
    pub fn derive(&self, registration_id: &RegistrationId<'_>) -> DeviceKey {
        // Returned as a clone, since this one is dropped then, and wiped.
        let mut key = KeyBytes::EMPTY;
        if let Some(mac) = key.bytes.first_chunk_mut() {
            self.0.hmac(registration_id.as_str().as_bytes(), mac);
            key.len = mac.len();
        }
        DeviceKey(key.clone())
    }
}

/// The key of one device: it signs tokens for DPS and, after assignment, for its hub.
///
/// Either derived from a [`GroupKey`] or the primary or secondary key of an individual
/// enrollment. Wiped from memory on drop, no `Display`, and its `Debug` says nothing.
///
/// ```
/// use azure_dps::DeviceKey;
///
/// let key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// assert_eq!(format!("{key:?}"), "DeviceKey(..)");
/// # Ok::<(), azure_dps::InvalidKey>(())
/// ```
///
/// Source: [symmetric key attestation](https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation).
#[derive(Clone)]
pub struct DeviceKey(KeyBytes);

impl DeviceKey {
    /// Reads a key as the portal and the `az` tool print it: base64 of 16 to 64 bytes.
    ///
    /// # Errors
    /// [`InvalidKey`], which names a position or a length and never the key.
    #[inline(never)]
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        // Returned as a clone, since this one is dropped then, and wiped.
        let mut key = KeyBytes::EMPTY;
        key.decode(text)?;
        Ok(Self(key.clone()))
    }

    /// Writes the key as base64: 44 characters for a derived key, at most 88.
    ///
    /// This is a secret on its way out, for a hub connection string or to be stored: wipe
    /// the buffer afterwards.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    pub fn write_base64<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b str, BufferTooSmall> {
        let mut writer = Writer::new(buffer);
        self.write(&mut writer);
        Ok(text(writer.finish()?))
    }

    #[inline]
    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.base64(self.0.as_slice());
    }
}

/// Whoever can make an HMAC-SHA256 with the device's key: a [`DeviceKey`] in memory, a
/// secure element, an MCU's hash unit, a TPM.
///
/// The method takes `&mut self`, as drivers of hardware want it.
///
/// ```
/// use azure_dps::{Sign, SignError};
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
pub trait Sign {
    /// Writes HMAC-SHA256(key, `message`) into `signature`.
    ///
    /// # Errors
    /// [`SignError`] if the key's holder did not answer; it ends the run with
    /// [`Error::Signer`](crate::Error::Signer).
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError>;
}

/// Why a signer could not sign.
///
/// ```
/// use azure_dps::{Error, SignError};
///
/// let error = Error::from(SignError::new("the chip did not answer"));
/// assert_eq!(error.to_string(), "the signer could not sign: the chip did not answer");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignError {
    reason: &'static str,
}

impl SignError {
    /// Creates an error for this reason, in the words of the signer. They must not name a secret.
    pub const fn new(reason: &'static str) -> Self {
        Self { reason }
    }

    /// Returns the reason.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl core::error::Error for SignError {}

// Written by hand for the reason that `Malformed` has.
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

impl Sign for DeviceKey {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        self.0.hmac(message, signature);
        Ok(())
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey(..)")
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}

/// Why a text is not a symmetric key. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Not base64; the position of the first wrong character, in bytes from 0.
    NotBase64 {
        /// Where.
        position: usize,
    },
    /// Base64, but of fewer than 16 or more than 64 bytes.
    Length,
}

impl core::error::Error for InvalidKey {}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidKey::NotBase64 { position } => {
                write!(f, "the symmetric key is not base64: wrong at position {position}")
            }
            InvalidKey::Length => f.write_str("the symmetric key must be base64 of 16 to 64 bytes"),
        }
    }
}

const MAX_KEY_LEN: usize = 64;
const MIN_KEY_LEN: usize = 16;

#[derive(Clone)]
struct KeyBytes {
    /// Zero from `len` on.
    bytes: [u8; MAX_KEY_LEN],
    len: usize,
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

/// Wiping is a loop of volatile writes: once in the program is enough.
#[inline(never)]
pub(crate) fn wipe(secret: &mut [u8]) {
    secret.zeroize();
}

/// Wipes what the function that was called last, from the same place, has left on the stack: as much
/// of it as HMAC takes on a Cortex-M3 or an x86-64. `tests/ram-search` sees what it misses.
#[inline(never)]
fn wipe_stack() {
    const LEN: usize = 20 * size_of::<usize>();
    // In words: a Cortex-M writes eight bytes as fast as one.
    [const { MaybeUninit::<u64>::uninit() }; LEN].zeroize();
}

impl ZeroizeOnDrop for GroupKey {}
impl ZeroizeOnDrop for DeviceKey {}

impl KeyBytes {
    const EMPTY: Self = Self { bytes: [0; MAX_KEY_LEN], len: 0 };

    fn decode(&mut self, text: &str) -> Result<(), InvalidKey> {
        match base64::decode(text.as_bytes(), &mut self.bytes) {
            Ok(len @ MIN_KEY_LEN..=MAX_KEY_LEN) => {
                self.len = len;
                Ok(())
            }
            Ok(_) | Err(Undecodable::TooLong) => Err(InvalidKey::Length),
            Err(Undecodable::At(position)) => Err(InvalidKey::NotBase64 { position }),
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn hmac(&self, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
        self.hmac_on_the_stack(message, mac);
        wipe_stack();
    }

    /// The hmac crate wipes its values where they end, but not where they were moved from, nor the
    /// padded key; and the states that these hash to are as good as the key.
    #[inline(never)]
    fn hmac_on_the_stack(&self, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
        // HMAC itself pads keys with zeros; with a length that the compiler knows, the hashing of
        // longer keys is not linked. The core and its buffer are what `Hmac` wraps; the wrapper
        // would be moved, and is 170 bytes.
        let mut hmac = HmacCore::<Sha256>::new((&self.bytes).into());
        let mut buffer = Buffer::<HmacCore<Sha256>>::default();
        buffer.digest_blocks(message, |blocks| hmac.update_blocks(blocks));
        hmac.finalize_fixed_core(&mut buffer, mac.into());
    }
}
