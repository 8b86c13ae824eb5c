//! Reads JSON: payloads, twins, registration states.

use core::ffi::c_char;

use azure_dps::{
    Error,
    json::{JsonError, Object, Value},
};

use crate::{
    border::{Failure, Out, azure_dps_str, outcome, put},
    error::{AZURE_DPS_ERR_MALFORMED, AZURE_DPS_ERR_NOT_FOUND, azure_dps_result},
};

/// The result for a value of another kind, or for text that is not JSON.
const MALFORMED: Failure = Failure::of(AZURE_DPS_ERR_MALFORMED);

/// Reads a text. It may come from any source, so it is checked.
///
/// # Safety
/// As for [`azure_dps_str::read`].
unsafe fn read<'a>(value: azure_dps_str) -> Result<Value<'a>, Failure> {
    // SAFETY: the caller's promise.
    Value::parse(unsafe { value.read()? }).map_err(malformed)
}

/// Only what C passes as JSON is no JSON: see [`MALFORMED`].
pub(crate) fn malformed(_: JsonError) -> Failure {
    MALFORMED
}

/// See the header.
///
/// # Safety
/// `object` and `name` point to as many bytes as they say; `value` is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_json_get(
    object: azure_dps_str,
    name: azure_dps_str,
    value: *mut azure_dps_str,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let (name, object) = (name.read()?, object.read()?);
        if object.is_empty() {
            // The webhook returned no payload.
            return Err(Failure::of(AZURE_DPS_ERR_NOT_FOUND));
        }
        let object = Object::parse(object).map_err(malformed)?;
        let found = object.get(name).ok_or(Failure::of(AZURE_DPS_ERR_NOT_FOUND))?;
        put(value, found.raw().into())
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_json_get`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_json_at(
    array: azure_dps_str,
    index: usize,
    value: *mut azure_dps_str,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let array = read(array)?;
        if !array.raw().starts_with('[') {
            return Err(MALFORMED);
        }
        let found = array.elements().nth(index).ok_or(Failure::of(AZURE_DPS_ERR_NOT_FOUND))?;
        put(value, found.raw().into())
    })
}

/// See the header.
///
/// # Safety
/// `value` points to as many bytes as it says, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_json_write_text(
    value: azure_dps_str,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let text = read(value)?.text().ok_or(MALFORMED)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = text.copy_to(out.room()).map(str::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// `value` points to as many bytes as it says; `number` is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_json_u32(value: azure_dps_str, number: *mut u32) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe { put(number, read(value)?.u32().ok_or(MALFORMED)?) })
}

/// See the header.
///
/// # Safety
/// `value` points to as many bytes as it says; `truth` is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_json_bool(value: azure_dps_str, truth: *mut bool) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe { put(truth, read(value)?.bool().ok_or(MALFORMED)?) })
}

/// See the header.
///
/// # Safety
/// `value` points to as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_json_is_null(value: azure_dps_str) -> bool {
    // SAFETY: the caller's promise.
    unsafe { read(value) }.is_ok_and(|value| value.is_null())
}
