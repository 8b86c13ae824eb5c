//! `Provisioning`.

#![no_std]
#![no_main]

use azure_dps::{Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy, error::TransportFault, provisioning::{Answer, Progress}};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let mut observer = |progress: Progress| used(progress);
    let Ok(key) = &mut DeviceKey::from_base64(text()) else { return };
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let mut provisioning = Provisioning::new(Registration::new(scope, id), Credential::sas(key));
    provisioning = provisioning.with_observer(&mut observer).with_retry_policy(
        RetryPolicy::new().with_timeout(time()).with_poll_interval(time()).with_request_timeout(time()),
    );
    provisioning.start(time(), number() as u64);
    for _ in 0..number() {
        used(provisioning.step(time()));
        used(provisioning.request_deadline(time()));
        provisioning.on_connected();
        provisioning.on_answer(time(), Answer::new(number() as u16, Some(number() as u32), bytes()));
        provisioning.on_error(time(), Error::Transport(TransportFault::Closed));
        used((provisioning.operation_id(), provisioning.is_running(), provisioning.answer(bytes())));
        used(provisioning.register_was_sent());
    }
    used(provisioning.result(bytes()).is_ok());
}
