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

/// The key of an enrollment group. It can only derive device keys.
///
/// **A group key does not belong in firmware.** Somebody who reads it from one device can
/// be any device of the group. Derive the [`DeviceKey`] in the factory, or on a gateway that you
/// trust, and give each device only its own.
///
/// The key is wiped from memory on drop. It has no `Display`, and its `Debug` says nothing. What
/// deriving and signing leave on the stack and in registers is wiped too.
///
/// **Do not move a key.** A move may leave a copy behind that no drop reaches. So read the key where it
/// stays:
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
/// A group key cannot sign, so that nobody uses it as a device's:
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
    /// Creates an empty key, which derives nothing: [`read_base64`](Self::read_base64) comes next.
    pub const fn new() -> Self {
        Self(KeyBytes::EMPTY)
    }

    /// Reads a key as the portal and the `az` tool print it: base64 of 16 to 64 bytes.
    ///
    /// # Errors
    /// [`InvalidKey`], which names a position or a length and never the key. The key is empty then.
    pub fn read_base64(&mut self, text: &str) -> Result<(), InvalidKey> {
        self.0.decode(text)
    }

    /// Returns a key that was read from base64. This moves the key: prefer
    /// [`read_base64`](Self::read_base64) where a copy in memory matters.
    ///
    /// # Errors
    /// See [`read_base64`](Self::read_base64).
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let mut key = Self::new();
        // Returned as a clone, since this one is dropped then, and wiped.
        key.read_base64(text).map(|()| key.clone())
    }

    /// Derives the device's own key: HMAC-SHA256 over the registration ID, as it is spelled.
    ///
    /// # Errors
    /// [`InvalidKey::Empty`] if no key was read.
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
        // Afterwards, since it also overwrites a register that HMAC leaves a word of the key in.
        wipe(rest);
        Ok(())
    }

    /// Returns the device's own key. This moves the key: prefer [`derive_into`](Self::derive_into)
    /// where a copy in memory matters. From an empty key it derives an empty one.
    pub fn derive(&self, registration_id: &RegistrationId<'_>) -> DeviceKey {
        let mut key = DeviceKey::new();
        // An empty key stays empty.
        let _ = self.derive_into(registration_id, &mut key);
        // Returned as a clone, since this one is dropped then, and wiped.
        key.clone()
    }
}

/// The key of one device. It signs tokens for DPS and, after the assignment, for the hub.
///
/// The key is either derived from a [`GroupKey`], or the primary or secondary key of an individual
/// enrollment. It is wiped from memory on drop, has no `Display`, and its `Debug` says nothing.
///
/// Read it where it stays, because a move may leave a copy behind:
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
    /// Creates an empty key, which does not sign: [`read_base64`](Self::read_base64) or
    /// [`GroupKey::derive_into`] comes next.
    pub const fn new() -> Self {
        Self(KeyBytes::EMPTY)
    }

    /// Reads a key as the portal and the `az` tool print it: base64 of 16 to 64 bytes.
    ///
    /// # Errors
    /// [`InvalidKey`], which names a position or a length and never the key. The key is empty then.
    pub fn read_base64(&mut self, text: &str) -> Result<(), InvalidKey> {
        self.0.decode(text)
    }

    /// Returns a key that was read from base64. This moves the key: prefer
    /// [`read_base64`](Self::read_base64) where a copy in memory matters.
    ///
    /// # Errors
    /// See [`read_base64`](Self::read_base64).
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let mut key = Self::new();
        // Returned as a clone, since this one is dropped then, and wiped.
        key.read_base64(text).map(|()| key.clone())
    }

    /// Writes the key as base64: 44 characters for a derived key, at most 88.
    ///
    /// The text is a secret, for a connection string of the hub or for storage. Wipe the buffer
    /// afterwards.
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

/// Why a text is not a symmetric key. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum InvalidKey {
    /// Not base64; the position of the first wrong character, in bytes from 0.
    NotBase64 {
        /// Where.
        position: usize,
    },
    /// Base64, but of fewer than 16 or more than 64 bytes.
    Length,
    /// No key was read before it was used.
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
    /// Zero from `len` on.
    bytes: [u8; MAX_KEY_LEN],
    /// At most 64, in as much space on every target.
    len: u32,
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

/// Wiping is a loop of volatile writes: once in the program is enough. In fours, it takes a third of the
/// instructions.
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

/// Wipes what the function that was called last, from the same place, has left on the stack, and in the
/// registers that a function may change: as much of the stack as HMAC takes on a Cortex-M3 or an x86-64.
/// `ci/ram-search` sees what it misses.
#[inline(never)]
fn wipe_stack() {
    const LEN: usize = 19 * size_of::<usize>() / 2;
    // In words as long as there are: a Cortex-M writes sixteen bytes in few instructions.
    [const { MaybeUninit::<u128>::uninit() }; LEN].zeroize();
}

impl ZeroizeOnDrop for GroupKey {}
impl ZeroizeOnDrop for DeviceKey {}

impl KeyBytes {
    const EMPTY: Self = Self { bytes: [0; MAX_KEY_LEN], len: 0 };

    #[inline(never)]
    fn decode(&mut self, text: &str) -> Result<(), InvalidKey> {
        self.len = 0;
        let decoded = base64::decode(text.as_bytes(), &mut self.bytes);
        let len = match decoded {
            Ok(len @ MIN_KEY_LEN..=MAX_KEY_LEN) => len,
            _ => 0,
        };
        // What a longer key, or a broken text, left behind.
        wipe(self.bytes.get_mut(len..).unwrap_or_default());
        self.len = len as u32;
        match decoded {
            Ok(MIN_KEY_LEN..=MAX_KEY_LEN) => Ok(()),
            Ok(_) | Err(Undecodable::TooLong) => Err(InvalidKey::Length),
            Err(Undecodable::At(position)) => Err(InvalidKey::NotBase64 { position }),
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or_default()
    }

    fn hmac(&self, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
        self.hmac_on_the_stack(message, mac);
        wipe_stack();
    }

    /// The hmac crate wipes its values where they end, but not where they were moved from, nor the
    /// padded key; and the states that these hash to are as good as the key.
    #[inline(never)]
    fn hmac_on_the_stack(&self, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
        let mut hmac = begin_hmac(&self.bytes);
        finish_hmac(&mut hmac, message, mac);
    }
}

// In two functions, one after the other: the padded key of the first has the place on the stack that the
// message's blocks have in the second.

/// HMAC itself pads keys with zeros; with a length that the compiler knows, the hashing of longer keys
/// is not linked.
#[inline(never)]
fn begin_hmac(key: &[u8; MAX_KEY_LEN]) -> HmacCore<Sha256> {
    HmacCore::new(key.into())
}

/// The core and its buffer are what `Hmac` wraps; the wrapper would be moved, and is 170 bytes.
#[inline(never)]
fn finish_hmac(hmac: &mut HmacCore<Sha256>, message: &[u8], mac: &mut [u8; SIGNATURE_LEN]) {
    let mut buffer = Buffer::<HmacCore<Sha256>>::default();
    buffer.digest_blocks(message, |blocks| hmac.update_blocks(blocks));
    hmac.finalize_fixed_core(&mut buffer, mac.into());
}
