//! `http::write_request`.

#![no_std]
#![no_main]

use azure_dps::{Credential, DeviceKey, Endpoint, IdScope, Provisioning, Registration, RegistrationId, http};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let Ok(key) = &mut DeviceKey::from_base64(text()) else { return };
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let mut provisioning = Provisioning::new(Registration::new(scope, id), Credential::sas(key));
    let Ok(endpoint) = Endpoint::parse(text()) else { return };
    provisioning = provisioning.with_endpoint(endpoint).with_api_version(text());
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    let provisioning = opaque(&mut provisioning);
    provisioning.start(time(), number() as u64);
    used(provisioning.step(time()));
    used(http::write_request(provisioning, time(), room).is_ok());
}
