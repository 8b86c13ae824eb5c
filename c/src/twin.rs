//! The device's twin at the hub: topics and messages.

use core::ffi::{c_char, c_void};

use azure_dps::{
    Error,
    after::twin::{self, Message, Properties, Unreadable},
    error::BufferTooSmall,
};

use crate::{
    border::{Failure, Out, azure_dps_str, bytes, outcome, put},
    error::azure_dps_result,
};

/// Writes a topic.
///
/// # Safety
/// As for [`Out::text`].
unsafe fn write(
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
    write: impl for<'b> FnOnce(&'b mut [u8]) -> Result<&'b str, BufferTooSmall>,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let mut out = Out::text(buffer, size, len)?;
        let written = write(out.room()).map(str::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// `buffer` is NULL or points to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_twin_write_get_topic(
    request_id: u32,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    unsafe { write(buffer, size, len, |room| twin::write_get_topic(request_id, room)) }
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_twin_write_get_topic`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_twin_write_report_topic(
    request_id: u32,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    unsafe { write(buffer, size, len, |room| twin::write_report_topic(request_id, room)) }
}

/// A message about the twin. See the header.
#[repr(C)]
pub struct azure_dps_twin_message {
    /// `AZURE_DPS_TWIN_*`.
    pub what: i32,
    /// The ID of the request.
    pub request_id: u32,
    /// A JSON object.
    pub desired: azure_dps_str,
    /// A JSON object.
    pub reported: azure_dps_str,
    /// The version of the desired properties.
    pub desired_version: u64,
    /// The version of the reported properties.
    pub reported_version: u64,
    /// The hub's six-digit code.
    pub code: u32,
    /// The hub's status.
    pub status: u16,
    /// 1 if the same request may succeed later.
    pub retryable: u8,
    /// 1 if the hub does not know the device any more.
    pub unknown_device: u8,
}

// As in the header.
const OTHER: i32 = 0;
const WHOLE: i32 = 1;
const CHANGE: i32 = 2;
const REPORTED: i32 = 3;
const REFUSED: i32 = 4;

impl azure_dps_twin_message {
    const EMPTY: Self = Self {
        what: OTHER,
        request_id: 0,
        desired: azure_dps_str::NONE,
        reported: azure_dps_str::NONE,
        desired_version: 0,
        reported_version: 0,
        code: 0,
        status: 0,
        retryable: 0,
        unknown_device: 0,
    };

    fn set_desired(&mut self, desired: Properties<'_>) {
        self.desired = desired.object().raw().into();
        self.desired_version = desired.version();
    }

    fn fill(&mut self, message: Message<'_>) {
        match message {
            Message::Twin(twin) => {
                self.what = WHOLE;
                self.request_id = twin.request_id;
                self.set_desired(twin.desired);
                self.reported = twin.reported.object().raw().into();
                self.reported_version = twin.reported.version();
            }
            Message::Change(desired) => {
                self.what = CHANGE;
                self.set_desired(desired);
            }
            Message::Reported { request_id, version } => {
                self.what = REPORTED;
                self.request_id = request_id;
                self.reported_version = version.unwrap_or(0);
            }
            Message::Refused(refusal) => {
                self.what = REFUSED;
                self.request_id = refusal.request_id;
                self.code = refusal.code().unwrap_or(0);
                self.status = refusal.status;
                self.retryable = refusal.is_retryable().into();
                self.unknown_device = refusal.hub_outcome().is_some().into();
            }
            _ => {}
        }
    }
}

/// Fills a message for C.
///
/// # Safety
/// `message` is NULL or valid for writes during the call.
unsafe fn tell(read: Result<Message<'_>, Unreadable>, message: *mut azure_dps_twin_message) -> Result<(), Failure> {
    // Changed in place, because the structure is large.
    // SAFETY: the caller's promise. `put` has written the structure before.
    let told = unsafe {
        put(message, azure_dps_twin_message::EMPTY)?;
        &mut *message
    };
    match read {
        Ok(read) => {
            told.fill(read);
            Ok(())
        }
        Err(Unreadable { request_id, error, .. }) => {
            told.request_id = request_id.unwrap_or(0);
            Err(error.into())
        }
    }
}

/// See the header.
///
/// # Safety
/// `topic` points to as many bytes as it says, `body` to `body_len` bytes; `message` is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_twin_read(
    topic: azure_dps_str,
    body: *const c_void,
    body_len: usize,
    message: *mut azure_dps_twin_message,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe { tell(twin::read(topic.read()?, bytes(body, body_len)?), message) })
}

/// See the header.
///
/// # Safety
/// `topic` points to as many bytes as it says; `message` is NULL or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_twin_read_skipped(
    topic: azure_dps_str,
    body_len: usize,
    message: *mut azure_dps_twin_message,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe { tell(twin::read_skipped(topic.read()?, body_len), message) })
}
