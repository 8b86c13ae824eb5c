//! `http::write_request`.

#![no_std]
#![no_main]

use azure_dps::{http, provisioning::Endpoint};
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
            used(http::write_request(provisioning, time(), room).is_ok());
        },
    );
}
