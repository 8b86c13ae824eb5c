//! The texts that a hub client needs: host, user name, password, connection string, topic.

use core::ffi::{c_char, c_void};

use azure_dps::{
    DeviceKey, Error,
    after::Hub,
    error::BufferTooSmall,
    identity::{KeyChoice, SIGNATURE_LEN, Sign, SignError},
};

use crate::{
    border::{Failure, Out, azure_dps_str, copy, get, outcome, put_if_wanted, structure, structures},
    client::key_choice,
    error::azure_dps_result,
    key::azure_dps_key,
    signer::{Signer, azure_dps_signer},
};

/// The hub. See the header.
#[repr(C)]
pub struct azure_dps_hub {
    /// Host and port.
    pub assigned_hub: azure_dps_str,
    /// The device ID.
    pub device_id: azure_dps_str,
}

/// Checks a hub of C.
///
/// # Safety
/// The pointer is NULL or valid for reads during `'a`, and so are the texts in it.
unsafe fn read<'a>(hub: *const azure_dps_hub) -> Result<Hub<'a>, Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        let hub = structure(hub)?;
        Ok(Hub::new(hub.assigned_hub.read()?, hub.device_id.read()?)?)
    }
}

/// Writes a text of the hub.
///
/// # Safety
/// As for [`read`] and [`Out::text`].
unsafe fn write(
    hub: *const azure_dps_hub,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
    write: impl for<'b> FnOnce(Hub<'_>, &'b mut [u8]) -> Result<&'b str, BufferTooSmall>,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let hub = read(hub)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = write(hub, out.room()).map(str::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// `hub` is NULL or points to a hub, whose texts point to as many bytes as they say; `buffer` to `size` bytes. `len` and
/// `port` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_host(
    hub: *const azure_dps_hub,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
    port: *mut u16,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let hub = read(hub)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = copy(hub.host().as_bytes(), out.room());
        out.finish(Ok(written))?;
        if let Some(named) = hub.port() {
            put_if_wanted(port, named);
        }
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_hub_write_host`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_user_name(
    hub: *const azure_dps_hub,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    unsafe { write(hub, buffer, size, len, |hub, room| hub.write_user_name(room)) }
}

/// A signer that uses one of two keys.
struct OneKey {
    signer: Signer,
    key: KeyChoice,
}

impl Sign for OneKey {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        match self.key {
            KeyChoice::Primary => self.signer.sign(message, signature),
            KeyChoice::Secondary => self.signer.sign_with_secondary_key(message, signature),
        }
    }
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_hub_write_host`]; `signer` is NULL or points to a signer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_password(
    hub: *const azure_dps_hub,
    signer: *const azure_dps_signer,
    which_key: i32,
    expiry: u64,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let hub = read(hub)?;
        if signer.is_null() {
            return Err(Failure::ARGUMENT);
        }
        let mut signer = OneKey { signer: Signer::new(signer)?, key: key_choice(which_key)? };
        let mut out = Out::text(buffer, size, len)?;
        let written = hub.write_token(&mut signer, expiry, out.room()).map(str::len);
        out.finish(written)
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_hub_write_host`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_message(
    hub: *const azure_dps_hub,
    expiry: u64,
    buffer: *mut c_void,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let hub = read(hub)?;
        let mut out = Out::bytes(buffer, size, len)?;
        let written = hub.write_message(expiry, out.room()).map(<[u8]>::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_hub_write_host`]; `signature` is NULL or points to 32 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_signed_password(
    hub: *const azure_dps_hub,
    signature: *const u8,
    expiry: u64,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let signature = structure(signature.cast::<[u8; SIGNATURE_LEN]>())?;
        let hub = read(hub)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = hub.write_signed_token(signature, expiry, out.room()).map(str::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_hub_write_host`]; `key` is NULL or points to an `azure_dps_key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_connection_string(
    hub: *const azure_dps_hub,
    key: *const azure_dps_key,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let hub = read(hub)?;
        let key = get::<DeviceKey>(key)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = hub.write_connection_string(key, out.room()).map(str::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_hub_write_host`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_x509_connection_string(
    hub: *const azure_dps_hub,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    unsafe { write(hub, buffer, size, len, |hub, room| hub.write_x509_connection_string(room)) }
}

/// A property of a message. See the header.
#[repr(C)]
pub struct azure_dps_property {
    /// Its name.
    pub name: azure_dps_str,
    /// Its value.
    pub value: azure_dps_str,
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_hub_write_host`]; `properties` points to `count` of them, or is NULL and `count` 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_hub_write_telemetry_topic(
    hub: *const azure_dps_hub,
    properties: *const azure_dps_property,
    count: usize,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let hub = read(hub)?;
        let properties = structures(properties, count)?;
        let mut out = Out::text(buffer, size, len)?;
        // Each text is read when it is written.
        let mut all_read = Ok(());
        let mut text = |text: azure_dps_str| {
            text.read().unwrap_or_else(|failure| {
                all_read = Err(failure);
                ""
            })
        };
        let properties = properties.iter().map(|property| (text(property.name), text(property.value)));
        let written = hub.write_telemetry_topic_of(properties, out.room()).map(str::len);
        all_read?;
        out.finish(written.map_err(Error::from))
    })
}
