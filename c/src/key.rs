//! Symmetric keys.

use core::ffi::{c_char, c_void};

use azure_dps::{
    DeviceKey, GroupKey, RegistrationId,
    identity::{SIGNATURE_LEN, Sign},
};
use zeroize::Zeroize;

use crate::{
    border::{Failure, Guarded, azure_dps_str, bytes, get_mut, mark, outcome, place, structure_mut, write_text},
    error::azure_dps_result,
};

/// The memory of a key. See the header.
#[repr(C)]
pub struct azure_dps_key {
    opaque: [u64; 9],
}

impl Guarded for DeviceKey {
    type Memory = azure_dps_key;
    const KIND: u8 = b'k';
}

/// See the header.
///
/// # Safety
/// See the header: `key` is NULL or points to an `azure_dps_key`, `base64` to as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_key_from_base64(key: *mut azure_dps_key, base64: azure_dps_str) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let base64 = base64.read();
        make(key, |device_key| Ok(device_key.read_base64(base64?)?))
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_key_from_base64`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_key_derive(
    key: *mut azure_dps_key,
    group_key_base64: azure_dps_str,
    registration_id: azure_dps_str,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let (base64, registration_id) = (group_key_base64.read(), registration_id.read());
        make(key, |device_key| {
            let registration_id = RegistrationId::new(registration_id?)?;
            let mut group_key = GroupKey::new();
            group_key.read_base64(base64?)?;
            Ok(group_key.derive_into(&registration_id, device_key)?)
        })
    })
}

/// Creates a key in its memory, so that it is not moved. If `read` fails, the memory has no key.
///
/// # Safety
/// `key` is NULL or points to an `azure_dps_key`.
unsafe fn make(
    key: *mut azure_dps_key,
    read: impl FnOnce(&mut DeviceKey) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise. The place is valid for writes; nobody else has a reference to it.
    unsafe {
        let place = place::<DeviceKey>(key)?;
        place.write(DeviceKey::new());
        read(&mut *place)?;
        mark::<DeviceKey>(key);
    }
    Ok(())
}

/// See the header.
///
/// # Safety
/// `key` is NULL or points to an `azure_dps_key`, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_key_write_base64(
    key: *const azure_dps_key,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    unsafe { write_text::<DeviceKey>(key, buffer, size, len, |key, room| Ok(key.write_base64(room)?.len())) }
}

/// See the header.
///
/// # Safety
/// `key` is NULL or points to an `azure_dps_key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_key_wipe(key: *mut azure_dps_key) {
    // Wipes any memory, valid key or not, because a copy of a key is a secret too.
    // SAFETY: the caller's promise.
    if let Ok(key) = unsafe { structure_mut(key) } {
        key.opaque.zeroize();
    }
}

/// See the header.
///
/// # Safety
/// `ctx` is NULL or points to an `azure_dps_key`, `message` to `len` bytes, `signature` to 32 others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_key_sign(
    ctx: *mut c_void,
    message: *const u8,
    len: usize,
    signature: *mut u8,
) -> i32 {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let key = get_mut::<DeviceKey>(ctx.cast())?;
        let message = bytes(message.cast(), len)?;
        let signature = structure_mut(signature.cast::<[u8; SIGNATURE_LEN]>())?;
        Ok(key.sign(message, signature)?)
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_key_sign`], with two keys one after the other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_key_sign_second(
    ctx: *mut c_void,
    message: *const u8,
    len: usize,
    signature: *mut u8,
) -> i32 {
    let second = if ctx.is_null() { ctx } else { ctx.cast::<azure_dps_key>().wrapping_add(1).cast() };
    // SAFETY: the caller's promise.
    unsafe { azure_dps_key_sign(second, message, len, signature) }
}
