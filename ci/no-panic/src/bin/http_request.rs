//! `http::write_request`.

#![no_std]
#![no_main]

use azure_dps::{DeviceKey, http, provisioning::Endpoint};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    with_provisioning(
        |provisioning| {
            let provisioning = provisioning.with_api_version(text());
            match Endpoint::parse(text()) {
                Ok(endpoint) => provisioning.with_endpoint(endpoint),
                Err(_) => provisioning,
            }
        },
        |provisioning| {
            let mut buffer = [0; 512];
            let room = buffer.get_mut(..number()).unwrap_or_default();
            used(provisioning.step(time()));
            used(provisioning.sign_with(&mut DeviceKey::new(), room).is_ok());
            provisioning.on_signature(opaque(&mut [0; 32]));
            used(http::write_request(provisioning, time(), room).is_ok());
        },
    );
}
