//! `Hub`.

#![no_std]
#![no_main]

use azure_dps::{DeviceKey, after::Hub};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    if let Ok(hub) = Hub::new(text(), text()) {
        write(hub);
    }
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let Ok(assignment) = provisioning.result(bytes()) else { return };
            write(assignment.hub());
        },
    );
}

fn write(hub: Hub<'_>) {
    let key = &mut DeviceKey::new();
    used(key.read_base64(text()).is_ok());
    let hub = hub.with_api_version(text()).with_device_client_type(text());
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    used((hub.host(), hub.port(), hub.device_id(), hub.client_id()));
    used(hub.write_user_name(room).is_ok());
    used(hub.write_token(key, number() as u64, room).is_ok());
    used(hub.write_message(number() as u64, room).is_ok());
    used(hub.write_signed_token(opaque(&mut [0; 32]), number() as u64, room).is_ok());
    used(hub.write_connection_string(key, room).is_ok());
    used(hub.write_x509_connection_string(room).is_ok());
}
