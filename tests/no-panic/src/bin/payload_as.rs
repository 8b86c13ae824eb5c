//! `Assignment::payload_as`.

#![no_std]
#![no_main]

use azure_dps::{Credential, DeviceKey, IdScope, Provisioning, Registration, RegistrationId};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let Ok(key) = &mut DeviceKey::from_base64(text()) else { return };
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let mut provisioning = Provisioning::new(Registration::new(scope, id), Credential::sas(key));
    let provisioning = opaque(&mut provisioning);
    let Ok(assignment) = provisioning.result(bytes()) else { return };
    #[derive(serde::Deserialize)]
    struct Settings<'a> {
        darkness: &'a str,
        slices: u8,
    }
    let mut scratch = [0; 64];
    if let Ok(Some(settings)) = assignment.payload_as::<Settings<'_>>(&mut scratch) {
        used((settings.darkness, settings.slices));
    }
}
