//! `mqtt`.

#![no_std]
#![no_main]

use azure_dps::mqtt;
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let mut buffer = [0; 512];
            let room = buffer.get_mut(..number()).unwrap_or_default();
            used(provisioning.step(time()));
            provisioning.on_signature(opaque(&mut [0; 32]));
            used(mqtt::client_id(provisioning));
            used(mqtt::write_user_name(provisioning, room).is_ok());
            used(mqtt::write_password(provisioning, room).is_ok());
            mqtt::on_connack(provisioning, time(), number() as u8);
            used(mqtt::write_publish(provisioning, time(), room).is_ok());
            used(mqtt::on_message(provisioning, time(), text(), bytes()));
            used(mqtt::write_publish(provisioning, time(), room).is_ok());
        },
    );
}
