//! HTTP requests and answers, without I/O.

use core::ffi::c_void;

use azure_dps::{
    error::TransportError,
    http::{self, ResponseReader},
};

use crate::{
    border::{Failure, Out, answer, buffer, get_mut, outcome, put, put_if_wanted},
    client::{Client, Phase, azure_dps_client},
    error::azure_dps_result,
};

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_http_write_request(
    dps: *mut azure_dps_client,
    now_ms: u32,
    buffer: *mut c_void,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        let mut out = Out::bytes(buffer, size, len)?;
        let now = client.clock.read(now_ms);
        let written = http::write_request(&mut client.provisioning, now, out.room());
        match written {
            Ok(_) => {
                client.phase = Phase::Reading;
                client.reader = ResponseReader::new();
            }
            Err(error) => _ = client.refuse(error),
        }
        out.finish(written)
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes, `space` and `space_len` to their
/// types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_http_space(
    dps: *mut azure_dps_client,
    now_ms: u32,
    buffer: *mut c_void,
    size: usize,
    space: *mut *mut u8,
    space_len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.check_phase(Phase::Reading)?;
        let buffer = self::buffer(buffer, size)?;
        client.clock.read(now_ms);
        match client.reader.space(buffer) {
            Ok(free) => {
                put(space, free.as_mut_ptr())?;
                put(space_len, free.len())
            }
            Err(error) => {
                client.on_error(error);
                Err(error.into())
            }
        }
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `keep_alive` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_http_received(
    dps: *mut azure_dps_client,
    now_ms: u32,
    buffer: *mut c_void,
    size: usize,
    len: usize,
    keep_alive: *mut bool,
) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.check_phase(Phase::Reading)?;
        let buffer = self::buffer(buffer, size)?;
        let now = client.clock.read(now_ms);
        // A failed read often returns -1, which is larger than the space as a `size_t`. Without this check, old bytes of
        // the buffer would count as an answer.
        let read = match client.reader.space(buffer) {
            Ok(space) if len > space.len() => Err(TransportError::Stream.into()),
            _ => client.reader.received(buffer, len),
        };
        match read {
            Ok(None) => Ok(0),
            Ok(Some(response)) => {
                client.phase = Phase::Started;
                put_if_wanted(keep_alive, response.keep_alive);
                client.provisioning.on_answer(now, response.answer(buffer));
                Ok(1)
            }
            Err(error) => {
                put_if_wanted(keep_alive, false);
                client.on_error(error);
                Err(Failure::from(error))
            }
        }
    })
}
