//! Certificates that the service issued.

use core::ffi::c_void;

use azure_dps::{identity::Csr, json::Object, provisioning::CertificateChain};

use crate::{
    assignment::azure_dps_assignment,
    border::{Failure, Out, azure_dps_bytes, outcome, structure},
    error::{AZURE_DPS_ERR_NOT_FOUND, azure_dps_result},
    json::malformed,
};

const NOT_FOUND: Failure = Failure::of(AZURE_DPS_ERR_NOT_FOUND);

/// Reads the chain in an assignment of C.
///
/// # Safety
/// `assignment` is NULL or points to an `azure_dps_assignment`, whose texts are valid during `'a`.
unsafe fn chain<'a>(assignment: *const azure_dps_assignment) -> Result<CertificateChain<'a>, Failure> {
    // SAFETY: the caller's promise.
    let state = unsafe { structure(assignment)?.registration_state.read()? };
    CertificateChain::of_registration_state(Object::parse(state).map_err(malformed)?).ok_or(NOT_FOUND)
}

/// See the header.
///
/// # Safety
/// `assignment` is NULL or points to an `azure_dps_assignment`, whose texts are as long as they say; `buffer` to `size`
/// others; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_certificate_write(
    assignment: *const azure_dps_assignment,
    index: usize,
    buffer: *mut c_void,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let certificate = chain(assignment)?.nth(index).ok_or(NOT_FOUND)?;
        let mut out = Out::bytes(buffer, size, len)?;
        let written = certificate.decode(out.room()).map(<[u8]>::len);
        out.finish(written)
    })
}

/// See the header.
///
/// # Safety
/// As for [`azure_dps_certificate_write`]; `csr` is as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_certificate_write_leaf(
    assignment: *const azure_dps_assignment,
    csr: azure_dps_bytes,
    buffer: *mut c_void,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let csr = Csr::from_der(csr.read()?)?;
        let chain = chain(assignment)?;
        let mut out = Out::bytes(buffer, size, len)?;
        let written = chain.leaf(&csr, out.room()).map(<[u8]>::len);
        out.finish(written)
    })
}
