//! `DeviceKey`.

#![no_std]
#![no_main]

use azure_dps::{DeviceKey, identity::Sign};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let Ok(key) = &mut DeviceKey::from_base64(text()) else { return };
    used(key.sign(bytes(), &mut [0; 32]));
    let mut buffer = [0; 100];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    used(key.write_base64(room).is_ok());
}
