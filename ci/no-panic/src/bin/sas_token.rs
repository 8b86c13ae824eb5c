//! `sas_token::write`.

#![no_std]
#![no_main]

use azure_dps::{DeviceKey, IdScope, RegistrationId, identity::sas_token};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let key = &mut DeviceKey::new();
    used(key.read_base64(text()).is_ok());
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    used(sas_token::write(key, scope, id, number() as u64, room).is_ok());
}
