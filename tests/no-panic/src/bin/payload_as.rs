//! `Assignment::payload_as`.

#![no_std]
#![no_main]

use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
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
        },
    );
}
