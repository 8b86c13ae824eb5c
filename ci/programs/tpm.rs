//! A TPM: its public keys are in the attestation, and one trait has its two commands.

use azure_dps::{
    Attestation, Provisioning, Registration,
    identity::{
        Sign, SignError,
        tpm::{AuthenticationKey, TpmError, TpmKeys},
    },
};

pub struct Chip {
    pub endorsement_key: Vec<u8>,
    pub storage_root_key: Vec<u8>,
    pub has_key: bool,
}

impl Sign for Chip {
    fn sign(&mut self, _message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        if !self.has_key {
            return Err(SignError::new("no key was activated"));
        }
        signature.fill(7);
        Ok(())
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let mut buffer = [0; 1024];
        let key = key.decode(&mut buffer)?;
        self.has_key = !key.public.is_empty();
        Ok(())
    }
}

pub fn provisioning<'a>(chip: &'a Chip, registration: Registration<'a>) -> Provisioning<'a> {
    let (endorsement_key, storage_root_key) = (&chip.endorsement_key[..], &chip.storage_root_key[..]);
    Provisioning::new(registration, Attestation::tpm(TpmKeys { endorsement_key, storage_root_key }))
}
