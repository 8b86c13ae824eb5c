//! `DeviceKey`.

#![no_std]
#![no_main]

use azure_dps::{DeviceKey, identity::Sign};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let Ok(key) = DeviceKey::from_base64(text()) else { return };
    let keys = &mut [DeviceKey::new(), key];
    for key in keys.iter_mut() {
        used(key.read_base64(text()).is_ok());
        used(key.sign(bytes(), &mut [0; 32]).is_ok());
    }
    used(keys.sign(bytes(), &mut [0; 32]).is_ok());
    used(keys.sign_with_secondary_key(bytes(), &mut [0; 32]).is_ok());
    let [key, _] = keys;
    let mut buffer = [0; 100];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    used(key.write_base64(room).is_ok());
}
