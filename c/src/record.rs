//! The record: the assignment in flash.

use core::ffi::c_void;

use azure_dps::{
    Error, IdScope, Registration, RegistrationId,
    after::{Record, RecordError},
    identity::KeyChoice,
};

use crate::{
    assignment::azure_dps_assignment,
    border::{Failure, Out, bytes, get, outcome, overlap, put, put_if_wanted, structure},
    client::{Client, azure_dps_client, azure_dps_config},
    error::azure_dps_result,
};

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `body` to `body_len` bytes, `buffer` to `size` bytes, which are
/// others or begin with the body; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_write_record(
    dps: *const azure_dps_client,
    body: *const c_void,
    body_len: usize,
    buffer: *mut c_void,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise. There is one reference to the buffer, or two references that do not overlap.
    outcome(|| unsafe {
        let provisioning = &get::<Client>(dps)?.provisioning;
        if body == buffer.cast_const() {
            let mut out = Out::bytes(buffer, size, len)?;
            let written = provisioning.write_record(out.room()).map(<[u8]>::len);
            return out.finish(written);
        }
        if overlap(body, body_len, buffer, size) {
            return Err(Failure::ARGUMENT);
        }
        let assignment = provisioning.result(bytes(body, body_len)?)?;
        let mut out = Out::bytes(buffer, size, len)?;
        let (owner, key) = (provisioning.registration(), provisioning.key());
        let written = assignment.write_record(owner, key, out.room()).map(<[u8]>::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// `header` is NULL or points to 16 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_record_len(header: *const u8) -> usize {
    // SAFETY: the caller's promise.
    let header = unsafe { structure(header.cast::<[u8; Record::HEADER_LEN]>()) };
    header.ok().and_then(Record::len).unwrap_or(0)
}

/// Reads the registration that the record must belong to.
///
/// # Safety
/// `config` is NULL or points to an `azure_dps_config`, whose texts are valid during `'a`.
pub(crate) unsafe fn owner<'a>(config: *const azure_dps_config) -> Result<Registration<'a>, Failure> {
    // SAFETY: the caller's promise.
    let (id_scope, registration_id) = unsafe {
        let config = structure(config)?;
        (config.id_scope.read()?, config.registration_id.read()?)
    };
    Ok(Registration::new(IdScope::new(id_scope)?, RegistrationId::new(registration_id)?))
}

/// Reads the record at the start of the bytes.
///
/// # Safety
/// `record` is NULL or points to `len` bytes, which do not change during `'a`.
pub(crate) unsafe fn read<'a>(
    record: *const c_void,
    len: usize,
    owner: &Registration<'_>,
) -> Result<Result<Record<'a>, RecordError>, Failure> {
    // SAFETY: the caller's promise.
    Ok(Record::read(unsafe { bytes(record, len)? }, owner))
}

/// See the header.
///
/// # Safety
/// `config` is NULL or points to an `azure_dps_config`, `record` to `record_len` bytes, `assignment` to its type; `key`
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_record_read(
    config: *const azure_dps_config,
    record: *const c_void,
    record_len: usize,
    assignment: *mut azure_dps_assignment,
    key: *mut i32,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let owner = owner(config)?;
        let record = read(record, record_len, &owner)??;
        put(assignment, (&record.assignment()).into())?;
        put_if_wanted(key, number_of(record.key()));
        Ok(())
    })
}

/// As in the header.
pub(crate) fn number_of(key: KeyChoice) -> i32 {
    match key {
        KeyChoice::Primary => 0,
        KeyChoice::Secondary => 1,
    }
}
