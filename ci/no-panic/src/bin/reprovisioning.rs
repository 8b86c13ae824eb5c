//! `Reprovisioning`.

#![no_std]
#![no_main]

use azure_dps::{
    Attestation, IdScope, Provisioning, Registration, RegistrationId,
    after::{HubOutcome, Pauses, Record, Reprovisioning, ReprovisioningPolicy},
    identity::KeyChoice,
};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let registration = Registration::new(scope, id);
    let record = Record::read(bytes(), &registration);
    let policy = ReprovisioningPolicy::new();
    let policy = if number() > 0 { policy.with_lookup() } else { policy };
    let policy = policy.with_hub_patience(time()).with_first_pause(time()).with_longest_pause(time());
    let mut life = Reprovisioning::new(id, policy, record);
    if let Some(pauses) = bytes().first_chunk().and_then(Pauses::from_bytes) {
        life = life.with_pauses(time(), pauses.after(time()));
    }
    let life = opaque(&mut life);
    for _ in 0..number() {
        used(life.next(time()));
        life.on_hub(time(), HubOutcome::from_connack(number() as u8));
        life.on_hub(time(), HubOutcome::Refused(number() as u16));
        if let Ok(record) = &record {
            used(life.on_assigned(time(), &record.assignment(), *opaque(&mut KeyChoice::Primary)));
        }
        life.on_hub(time(), HubOutcome::Closed);
        let mut provisioning = Provisioning::new(registration, Attestation::x509());
        life.on_failed(time(), opaque(&mut provisioning));
        used((life.key(), life.pauses(time()).to_bytes()));
        life.provision_again();
    }
}
