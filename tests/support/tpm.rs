//! A device with a TPM in software.
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../emulator/tests/support/software_tpm.rs"]
mod software_tpm;

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use azure_dps::Attestation;
use azure_dps::identity::tpm::{AuthenticationKey, TpmError, TpmKeys};
use azure_dps::identity::{Sign, SignError};
use base64::{Engine, prelude::BASE64_STANDARD};
use software_tpm::SoftwareTpm;

/// Shared, because creating their keys takes long.
pub static TPM: LazyLock<SoftwareTpm> = LazyLock::new(SoftwareTpm::new);
pub static OTHER_TPM: LazyLock<SoftwareTpm> = LazyLock::new(SoftwareTpm::new);

/// A device with a TPM. It may present the keys of another TPM.
pub struct Machine {
    pub tpm: &'static SoftwareTpm,
    pub shown: &'static SoftwareTpm,
    /// The keys in the TPM. The last key signs.
    pub activated: Vec<Vec<u8>>,
}

impl Machine {
    pub fn new(tpm: &'static SoftwareTpm) -> Self {
        Self { tpm, shown: tpm, activated: Vec::new() }
    }

    pub fn attestation(&self) -> Attestation<'static> {
        Attestation::tpm(TpmKeys {
            endorsement_key: self.shown.endorsement_key(),
            storage_root_key: self.shown.storage_root_key(),
        })
    }
}

impl Sign for Machine {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        let key =
            hmac::Key::new(hmac::HMAC_SHA256, self.activated.last().ok_or(SignError::new("no key was activated"))?);
        signature.copy_from_slice(hmac::sign(&key, message).as_ref());
        Ok(())
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let mut buffer = [0; 1024];
        let parts = key.decode(&mut buffer)?;
        let parts =
            [parts.id_object, parts.encrypted_secret, parts.duplicate, parts.import_seed, parts.public, parts.data];
        let blob: Vec<u8> = parts
            .iter()
            .flat_map(|part| (part.len() as u16).to_be_bytes().into_iter().chain(part.iter().copied()))
            .collect();
        self.activated.push(self.tpm.activate(&blob).map_err(|_| TpmError::new("the challenge is not for this TPM"))?);
        Ok(())
    }
}

/// Returns the endorsement key for the enrollment of this TPM.
pub fn endorsement_key(tpm: &SoftwareTpm) -> String {
    BASE64_STANDARD.encode(tpm.endorsement_key())
}
