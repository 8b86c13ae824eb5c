//! `GroupKey`.

#![no_std]
#![no_main]

use azure_dps::{GroupKey, RegistrationId};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let (Ok(key), Ok(id)) = (&GroupKey::from_base64(text()), &RegistrationId::new(text())) else { return };
    let mut buffer = [0; 88];
    used(key.derive(id).write_base64(&mut buffer).is_ok());
}
