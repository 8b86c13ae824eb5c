//! `GroupKey`.

#![no_std]
#![no_main]

use azure_dps::{DeviceKey, GroupKey, RegistrationId};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let (Ok(mut key), Ok(id)) = (GroupKey::from_base64(text()), &RegistrationId::new(text())) else { return };
    used(key.read_base64(text()).is_ok());
    let mut device_key = DeviceKey::new();
    used(key.derive_into(id, opaque(&mut device_key)).is_ok());
    let mut buffer = [0; 88];
    used(device_key.write_base64(&mut buffer).is_ok());
    used(key.derive(id).write_base64(&mut buffer).is_ok());
}
