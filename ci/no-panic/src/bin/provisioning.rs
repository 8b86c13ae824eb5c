//! `Provisioning`.

#![no_std]
#![no_main]

use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy,
    error::TransportError,
    identity::{KeyChoice, NoKey, Sign},
    provisioning::Answer,
};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let mut keys = [DeviceKey::new(), DeviceKey::new()];
    for key in &mut keys {
        used(key.read_base64(text()).is_ok());
    }
    drive(&mut keys);
    drive(&mut NoKey);
}

fn drive(signer: &mut impl Sign) {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let attestation = if number() > 0 { Attestation::symmetric_key() } else { Attestation::x509() };
    let mut provisioning = Provisioning::new(Registration::new(scope, id), attestation)
        .with_retry_policy(
            RetryPolicy::new().with_timeout(time()).with_poll_interval(time()).with_request_timeout(time()),
        )
        .with_token_lifetime(number() as u32)
        .with_max_body(number());
    if number() > 0 {
        provisioning = provisioning.with_first_key(KeyChoice::Secondary).with_secondary_key();
    }
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    let provisioning = opaque(&mut provisioning);
    for _ in 0..number() {
        provisioning.start(time(), number() as u64);
        used(provisioning.step(time()));
        used(provisioning.write_message(room).is_ok());
        provisioning.on_signature(opaque(&mut [0; 32]));
        used(provisioning.sign_with(signer, room).is_ok());
        used(provisioning.request_deadline(time()));
        provisioning.on_connected();
        used(provisioning.progress());
        provisioning.on_answer(time(), Answer::new(number() as u16, Some(number() as u32), bytes()));
        provisioning.on_error(time(), Error::Transport(TransportError::Closed));
        used((provisioning.operation_id(), provisioning.is_running(), provisioning.body(bytes())));
        used((provisioning.register_was_sent(), provisioning.key(), provisioning.progress()));
    }
    used(provisioning.result(bytes()).is_ok());
}
