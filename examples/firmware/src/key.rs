//! A signer that computes its HMAC with mbedTLS, which the image contains for TLS. It replaces
//! `azure_dps::DeviceKey`, as a secure element does.

use core::ffi::c_int;

use azure_dps::identity::{SIGNATURE_LEN, Sign, SignError};
use mbedtls_rs::sys;
use zeroize::Zeroizing;

/// The longest key of DPS.
const MAX_LEN: usize = 64;

pub struct DeviceKey {
    bytes: Zeroizing<[u8; MAX_LEN]>,
    len: usize,
}

impl DeviceKey {
    pub fn new() -> Self {
        Self { bytes: Zeroizing::new([0; MAX_LEN]), len: 0 }
    }

    /// Reads a key in base64.
    pub fn read_base64(&mut self, text: &str) -> Result<(), &'static str> {
        // SAFETY: mbedTLS writes at most `MAX_LEN` bytes.
        let code = unsafe {
            mbedtls_base64_decode(self.bytes.as_mut_ptr(), MAX_LEN, &mut self.len, text.as_ptr(), text.len())
        };
        if code == 0 { Ok(()) } else { Err("key-file") }
    }
}

impl Sign for DeviceKey {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        let key = self.bytes.get(..self.len).unwrap_or_default();
        // SAFETY: an HMAC-SHA256 has 32 bytes, the length of `signature`.
        let code = unsafe {
            let sha256 = sys::mbedtls_md_info_from_type(sys::mbedtls_md_type_t_MBEDTLS_MD_SHA256);
            let (key, len) = (key.as_ptr(), key.len());
            sys::mbedtls_md_hmac(sha256, key, len, message.as_ptr(), message.len(), signature.as_mut_ptr())
        };
        if code == 0 { Ok(()) } else { Err(SignError::new("mbedTLS did not make the HMAC")) }
    }
}

unsafe extern "C" {
    // mbedtls-rs has no binding for this function, and the image contains it for PEM.
    fn mbedtls_base64_decode(to: *mut u8, room: usize, len: *mut usize, text: *const u8, text_len: usize) -> c_int;
}
