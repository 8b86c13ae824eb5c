//! `Provisioning::details`.

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
    provisioning.start(time(), number() as u64);
    let Some(details) = provisioning.details(bytes()) else { return };
    used((details.message().is_some(), details.tracking_id().is_some(), details.timestamp().is_some()));
    used((details.info().is_some(), details.object().raw()));
}
