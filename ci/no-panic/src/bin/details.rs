//! `Provisioning::details`.

#![no_std]
#![no_main]

use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let Some(details) = provisioning.details(bytes()) else { return };
            used((details.message().is_some(), details.tracking_id().is_some(), details.timestamp().is_some()));
            used(provisioning.refused_value(bytes()).map(|value| value.raw()));
            used((details.info().is_some(), details.object().raw()));
        },
    );
}
