use core::{fmt, mem::MaybeUninit};

use hmac::{
    KeyInit,
    block_api::HmacCore,
    digest::block_api::{Buffer, FixedOutputCore, UpdateCore},
};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{RegistrationId, SIGNATURE_LEN, Sign, SignError};
use crate::text::{
    BufferTooSmall,
    base64::{self, Undecodable},
    writer::{Writer, text},
};

/// The symmetric key of an enrollment group. Derives device keys.
///
/// **Do not put a group key into firmware.** An attacker who reads it from one device can impersonate every device
/// of the group. Derive the [`DeviceKey`] in the factory or on a trusted gateway, and give each device
/// only its own key.
///
/// The key is wiped from memory on drop. Deriving and signing also wipe the stack and the registers that
/// they use. The type has no `Display`, and its `Debug` does not show the key.
///
/// **Do not move a key.** A move may leave a copy in memory, which is not wiped. Create the variable
/// first, then read the key into it:
///
/// ```
/// use azure_dps::{DeviceKey, GroupKey, RegistrationId};
///
/// let mut group_key = GroupKey::new();
/// group_key.read_base64(
///     "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==",
/// )?;
/// let mut device_key = DeviceKey::new();
/// group_key.derive_into(&RegistrationId::new("breakroom499-contoso-tstrsd-007")?, &mut device_key)?;
///
/// let mut text = [0; 44];
/// assert_eq!(device_key.write_base64(&mut text)?, "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=");
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// A group key cannot sign. This prevents its use in place of a device key:
///
/// ```compile_fail,E0277
/// fn sign(signer: &mut impl azure_dps::identity::Sign) {}
///
/// sign(&mut azure_dps::GroupKey::new());
/// ```
///
/// Source: [group enrollments](https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation#group-enrollments).
#[derive(Clone)]
pub struct GroupKey(KeyBytes);

impl GroupKey {
    /// Creates an empty key. Call [`read_base64`](Self::read_base64) next.
    pub const fn new() -> Self {
        Self(KeyBytes::EMPTY)
    }

    /// Reads the key from base64, as the portal and the `az` tool print it: 16 to 64 bytes.
    ///
    /// # Errors
    /// [`InvalidKey`]. The error does not contain the text, and the key is empty afterwards.
    pub fn read_base64(&mut self, text: &str) -> Result<(), InvalidKey> {
        self.0.decode(text)
    }

    /// Creates a key from base64. Moves the key: use [`read_base64`](Self::read_base64) if a copy in
    /// memory matters.
    ///
    /// # Errors
    /// See [`read_base64`](Self::read_base64).
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let mut key = Self::new();
        // A clone is returned, so that this key is dropped and wiped.
        key.read_base64(text).map(|()| key.clone())
    }

    /// Derives the key of a device: HMAC-SHA256 of the registration ID, in the case that it has.
    ///
    /// # Errors
    /// [`InvalidKey::Empty`] if no group key was read. The device key is empty then.
    pub fn derive_into(
        &self,
        registration_id: &RegistrationId<'_>,
        device_key: &mut DeviceKey,
    ) -> Result<(), InvalidKey> {
        let KeyBytes { bytes, len } = &mut device_key.0;
        *len = 0;
        if self.0.len == 0 {
            return Err(InvalidKey::Empty);
        }
        let (mac, rest) = bytes.split_at_mut(SIGNATURE_LEN);
        if let Some(mac) = mac.first_chunk_mut() {
            self.0.hmac(registration_id.as_str().as_bytes(), mac);
            *len = SIGNATURE_LEN as u32;
        }
        // This must come last: it also overwrites a register in which HMAC leaves a word of the key.
        wipe(rest);
        Ok(())
    }

    /// Returns the key of a device. Moves the key: use [`derive_into`](Self::derive_into) if a copy in
    /// memory matters. An empty group key derives an empty device key.
    pub fn derive(&self, registration_id: &RegistrationId<'_>) -> DeviceKey {
        let mut key = DeviceKey::new();
        // After an error, the device key is empty.
        let _ = self.derive_into(registration_id, &mut key);
        // A clone is returned, so that this key is dropped and wiped.
        key.clone()
    }
}

/// The symmetric key of one device. Signs tokens for DPS and, after the assignment, for the hub.
///
/// The key is derived from a [`GroupKey`], or it is the primary or secondary key of an individual
/// enrollment. It is wiped from memory on drop. The type has no `Display`, and its `Debug` does not show
/// the key.
///
/// Create the variable first, then read the key into it, because a move may leave a copy in memory:
///
/// ```
/// use azure_dps::DeviceKey;
///
/// let mut key = DeviceKey::new();
/// key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// assert_eq!(format!("{key:?}"), "DeviceKey(..)");
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// Source: [symmetric key attestation](https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation).
#[derive(Clone)]
pub struct DeviceKey(KeyBytes);

impl DeviceKey {
    /// Creates an empty key. Call [`read_base64`](Self::read_base64) or [`GroupKey::derive_into`] next.
    pub const fn new() -> Self {
        Self(KeyBytes::EMPTY)
    }

    /// Reads the key from base64, as the portal and the `az` tool print it: 16 to 64 bytes.
    ///
    /// # Errors
    /// [`InvalidKey`]. The error does not contain the text, and the key is empty afterwards.
    pub fn read_base64(&mut self, text: &str) -> Result<(), InvalidKey> {
        self.0.decode(text)
    }

    /// Creates a key from base64. Moves the key: use [`read_base64`](Self::read_base64) if a copy in
    /// memory matters.
    ///
    /// # Errors
    /// See [`read_base64`](Self::read_base64).
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let mut key = Self::new();
        // A clone is returned, so that this key is dropped and wiped.
        key.read_base64(text).map(|()| key.clone())
    }

    /// Writes the key as base64, for storage. A derived key has 44 characters; any key has at most 88.
    ///
    /// The text is a secret. Wipe the buffer after use.
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

impl Default for GroupKey {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for DeviceKey {
    fn default() -> Self {
        Self::new()
    }
}

impl Sign for DeviceKey {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        if self.0.len == 0 {
            return Err(SignError::new("no key was read"));
        }
        self.0.hmac(message, signature);
        Ok(())
    }
}

#[cfg(feature = "defmt-v1")]
impl defmt::Format for GroupKey {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "GroupKey(..)");
    }
}

#[cfg(feature = "defmt-v1")]
impl defmt::Format for DeviceKey {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "DeviceKey(..)");
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

/// The reason why a text is not a symmetric key. The error does not contain the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum InvalidKey {
    /// The text is not base64.
    NotBase64 {
        /// The position of the first wrong or missing character, in bytes from 0.
        position: usize,
    },
    /// The text is base64 of fewer than 16 or more than 64 bytes.
    Length,
    /// The key was used before it was read.
    Empty,
}

impl core::error::Error for InvalidKey {}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidKey::NotBase64 { position } => {
                write!(f, "the symmetric key is not base64: wrong at position {position}")
            }
            InvalidKey::Length => f.write_str("the symmetric key must be base64 of 16 to 64 bytes"),
            InvalidKey::Empty => f.write_str("the symmetric key is empty: read it first"),
        }
    }
}

const MAX_KEY_LEN: usize = 64;
const MIN_KEY_LEN: usize = 16;

#[derive(Clone)]
struct KeyBytes {
    /// The key. The bytes after `len` are zero.
    bytes: [u8; MAX_KEY_LEN],
    /// At most 64. A `u32` gives the type the same size on every target.
    len: u32,
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

/// Overwrites a secret with zeros. The loop of volatile writes exists once in the program. Four bytes at a
/// time take a third of the instructions.
#[inline(never)]
pub(crate) fn wipe(secret: &mut [u8]) {
    let (fours, rest) = secret.as_chunks_mut();
    for [a, b, c, d] in fours {
        a.zeroize();
        b.zeroize();
        c.zeroize();
        d.zeroize();
    }
    rest.zeroize();
}

/// Wipes the stack and the registers that the last function called by the same caller has used. Wipes as
/// much of the stack as HMAC uses on a Cortex-M3 or an x86-64. `ci/ram-search` searches for remains of a
/// key.
#[inline(never)]
fn wipe_stack() {
    const LEN: usize = 19 * size_of::<usize>() / 2;
    // The longest integer: a Cortex-M writes 16 bytes in few instructions.
    [const { MaybeUninit::<u128>::uninit() }; LEN].zeroize();
}

impl ZeroizeOnDrop for GroupKey {}
impl ZeroizeOnDrop for DeviceKey {}

impl KeyBytes {
    const EMPTY: Self = Self { bytes: [0; MAX_KEY_LEN], len: 0 };

    #[inline(never)]
    fn decode(&mut self, text: &str) -> Result<(), InvalidKey> {
        self.len = 0;
        let decoded = match base64::decode(text.as_bytes(), &mut self.bytes) {
            Ok(len @ MIN_KEY_LEN..=MAX_KEY_LEN) => Ok(len),
            Ok(_) | Err(Undecodable::TooLong) => Err(InvalidKey::Length),
            Err(Undecodable::At(position)) => Err(InvalidKey::NotBase64 { position }),
        };
        let len = decoded.unwrap_or(0);
        // Wipes the rest of a longer key, or of a text that is not a key.
        wipe(self.bytes.get_mut(len..).unwrap_or_default());
        self.len = len as u32;
        decoded.map(|_| ())
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or_default()
    }

    fn hmac(&self, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
        self.hmac_on_the_stack(message, mac);
        wipe_stack();
    }

    /// The hmac crate wipes its values on drop. It does not wipe the padded key, nor the places that the
    /// values were moved from. The hash states there are as secret as the key. So the caller wipes the
    /// stack afterwards.
    #[inline(never)]
    fn hmac_on_the_stack(&self, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
        let mut hmac = begin_hmac(&self.bytes);
        finish_hmac(&mut hmac, message, mac);
    }
}

// These two functions run one after the other. The second one overwrites the padded key of the first one
// with blocks of the message, because both use the same part of the stack.

/// Begins an HMAC. HMAC pads keys with zeros, so the key may have its full length here. A length that the
/// compiler knows keeps the code that hashes longer keys out of the program.
#[inline(never)]
fn begin_hmac(key: &[u8; MAX_KEY_LEN]) -> HmacCore<Sha256> {
    HmacCore::new(key.into())
}

/// Finishes an HMAC. `Hmac` wraps the same core and buffer, but it has 170 bytes and would be moved.
#[inline(never)]
fn finish_hmac(hmac: &mut HmacCore<Sha256>, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
    let mut buffer = Buffer::<HmacCore<Sha256>>::default();
    buffer.digest_blocks(message, |blocks| hmac.update_blocks(blocks));
    hmac.finalize_fixed_core(&mut buffer, mac.into());
}
