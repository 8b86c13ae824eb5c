//! `Attestation::tpm, AuthenticationKey`.

#![no_std]
#![no_main]

use azure_dps::{
    Attestation, IdScope, Provisioning, Registration, RegistrationId, http,
    identity::{
        Sign, SignError,
        tpm::{AuthenticationKey, TpmError, TpmKeys},
    },
    provisioning::Answer,
};
use azure_dps_no_panic::*;

links!(proof);

struct Chip;

impl Sign for Chip {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        used((message, signature));
        if number() > 0 { Ok(()) } else { Err(SignError::new("no answer")) }
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        let mut buffer = [0; 512];
        let room = buffer.get_mut(..number()).unwrap_or_default();
        let key = key.decode(room).map_err(|_| TpmError::new("the challenge is not base64"))?;
        used((key.id_object, key.encrypted_secret, key.duplicate, key.import_seed, key.public, key.data));
        Ok(())
    }
}

fn proof() {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let attestation = Attestation::tpm(TpmKeys { endorsement_key: bytes(), storage_root_key: bytes() });
    let registration = Registration::new(scope, id);
    let mut provisioning = match number() {
        0 => Provisioning::new(registration, attestation),
        _ => Provisioning::lookup(registration, attestation),
    };
    provisioning.start(time(), number() as u64);
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    for _ in 0..number() {
        used(provisioning.step(time()));
        used(provisioning.sign_with(&mut Chip, room).is_ok());
        used(http::write_request(&mut provisioning, time(), room).is_ok());
        provisioning.on_answer(time(), Answer::new(number() as u16, Some(number() as u32), bytes()));
        used(provisioning.challenge(bytes()).is_some());
        used(provisioning.activate_with(&mut Chip, bytes()).is_ok());
        provisioning.on_activated();
    }
    let assignment = provisioning.result(bytes());
    used(
        assignment
            .is_ok_and(|assignment| assignment.tpm_authentication_key().is_some_and(|key| key.decode(room).is_ok())),
    );
}
