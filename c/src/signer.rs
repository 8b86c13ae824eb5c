//! Signers with callbacks of C.

use core::ffi::c_void;

use azure_dps::identity::{
    SIGNATURE_LEN, Sign, SignError,
    tpm::{AuthenticationKey, TpmError},
};

use crate::border::{Failure, azure_dps_str, structure};

type SignFn = unsafe extern "C" fn(*mut c_void, *const u8, usize, *mut u8) -> i32;

/// A signer. See the header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct azure_dps_signer {
    /// Passed to the callbacks.
    pub ctx: *mut c_void,
    /// Signs.
    pub sign: Option<SignFn>,
    /// Signs with the secondary key, if there is one.
    pub sign_with_secondary_key: Option<SignFn>,
    /// Loads the key of a challenge, if there is a TPM.
    pub activate: Option<unsafe extern "C" fn(*mut c_void, azure_dps_str) -> i32>,
}

/// An [`azure_dps_signer`] that implements [`Sign`](azure_dps::identity::Sign).
pub(crate) struct Signer {
    /// `None` is a signer without a key. This is a copy, because a callback may change the original.
    callbacks: Option<azure_dps_signer>,
    /// The number that a failed callback returned.
    pub(crate) io_error: i32,
}

impl Signer {
    /// Creates a signer. NULL is a signer without a key, for a device with a certificate.
    ///
    /// # Safety
    /// The pointer is NULL or valid now, and the callbacks in it, with their context, as long as the result is used.
    pub(crate) unsafe fn new(signer: *const azure_dps_signer) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let callbacks = if signer.is_null() { None } else { Some(unsafe { *structure(signer)? }) };
        Ok(Self { callbacks, io_error: 0 })
    }

    fn call_to_sign(
        &mut self,
        sign: Option<SignFn>,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        let (Some(signer), Some(sign)) = (self.callbacks, sign) else { return Err(SignError::new("no callback")) };
        // SAFETY: the promise of `new`; the message and the signature are as long as the header says.
        self.io_error = unsafe { sign(signer.ctx, message.as_ptr(), message.len(), signature.as_mut_ptr()) };
        if self.io_error == 0 { Ok(()) } else { Err(FAILED) }
    }
}

/// [`azure_dps_signer::sign`] failed.
pub(crate) const FAILED: SignError = SignError::new("see io_error");

/// [`azure_dps_signer::activate`] failed.
pub(crate) const NOT_ACTIVATED: TpmError = TpmError::new("see io_error");

impl Sign for Signer {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; SIGNATURE_LEN]) -> Result<(), SignError> {
        let sign = self.callbacks.and_then(|callbacks| callbacks.sign);
        self.call_to_sign(sign, message, signature)
    }

    fn has_secondary_key(&self) -> bool {
        self.callbacks.is_some_and(|callbacks| callbacks.sign_with_secondary_key.is_some())
    }

    fn sign_with_secondary_key(
        &mut self,
        message: &[u8],
        signature: &mut [u8; SIGNATURE_LEN],
    ) -> Result<(), SignError> {
        let sign = self.callbacks.and_then(|callbacks| callbacks.sign_with_secondary_key);
        self.call_to_sign(sign, message, signature)
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let Some((signer, activate)) = self.callbacks.and_then(|signer| Some((signer, signer.activate?))) else {
            return Err(TpmError::new("no callback"));
        };
        // SAFETY: the promise of `new`. The text is valid while the callback runs.
        self.io_error = unsafe { activate(signer.ctx, key.text().raw().into()) };
        if self.io_error == 0 { Ok(()) } else { Err(NOT_ACTIVATED) }
    }
}
