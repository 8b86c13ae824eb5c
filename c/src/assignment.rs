//! The result of a run.

use core::ffi::{c_char, c_void};

use azure_dps::{Assignment, json::Object, provisioning::Substatus};

use crate::{
    border::{Out, answer, azure_dps_str, bytes, get, outcome, put, structure},
    client::{Client, azure_dps_client},
    error::{azure_dps_result, failure_of},
    json::malformed,
};

/// The hub and the device ID. See the header.
#[repr(C)]
#[allow(missing_docs, reason = "the header documents them")]
pub struct azure_dps_assignment {
    pub assigned_hub: azure_dps_str,
    pub device_id: azure_dps_str,
    pub payload: azure_dps_str,
    pub registration_state: azure_dps_str,
}

impl From<&Assignment<'_>> for azure_dps_assignment {
    fn from(assignment: &Assignment<'_>) -> Self {
        Self {
            assigned_hub: assignment.assigned_hub().into(),
            device_id: assignment.device_id().into(),
            payload: assignment.payload().map_or(azure_dps_str::NONE, |payload| payload.as_bytes().into()),
            registration_state: assignment.registration_state().as_bytes().into(),
        }
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `body` to `body_len` bytes, `assignment` to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_get_assignment(
    dps: *const azure_dps_client,
    body: *const c_void,
    body_len: usize,
    assignment: *mut azure_dps_assignment,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get::<Client>(dps)?;
        match &client.provisioning.result(bytes(body, body_len)?) {
            Ok(result) => put(assignment, result.into()),
            Err(error) => Err(failure_of(error)),
        }
    })
}

/// See the header.
///
/// # Safety
/// `assignment` is NULL or points to an `azure_dps_assignment`, whose texts point to as many bytes as they say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_get_substatus(assignment: *const azure_dps_assignment) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        let state = Object::parse(structure(assignment)?.registration_state.read()?).map_err(malformed)?;
        Ok(match Substatus::of_registration_state(state) {
            None => 0,
            Some(Substatus::InitialAssignment) => 1,
            Some(Substatus::DeviceDataMigrated) => 2,
            Some(Substatus::DeviceDataReset) => 3,
            Some(Substatus::ReprovisionedToInitialAssignment) => 4,
            Some(_) => 255,
        })
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `body` to `body_len` bytes, `buffer` to `size` others; `len`
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_write_service_message(
    dps: *const azure_dps_client,
    body: *const c_void,
    body_len: usize,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get::<Client>(dps)?;
        let body = bytes(body, body_len)?;
        let mut out = Out::text(buffer, size, len)?;
        let message = client.provisioning.details(body).and_then(|details| details.message());
        let written = match message {
            Some(message) => message.copy_to(out.room()).map(str::len),
            None => Ok(0),
        };
        out.finish(written.map_err(Into::into))
    })
}
