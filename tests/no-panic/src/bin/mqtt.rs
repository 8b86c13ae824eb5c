//! `mqtt`.

#![no_std]
#![no_main]

use azure_dps::{Credential, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, mqtt};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let Ok(key) = &mut DeviceKey::from_base64(text()) else { return };
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let mut provisioning = Provisioning::new(Registration::new(scope, id), Credential::sas(key));
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    let provisioning = opaque(&mut provisioning);
    provisioning.start(time(), number() as u64);
    used(provisioning.step(time()));
    used(mqtt::client_id(provisioning));
    used(mqtt::write_user_name(provisioning, room).is_ok());
    used(mqtt::write_password(provisioning, time(), room).is_ok());
    mqtt::on_connack(provisioning, time(), number() as u8);
    used(mqtt::write_publish(provisioning, time(), room).is_ok());
    used(mqtt::on_message(provisioning, time(), text(), bytes()));
    used(mqtt::write_publish(provisioning, time(), room).is_ok());
}
