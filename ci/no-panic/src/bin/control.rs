//! The control, which panics.

#![no_std]
#![no_main]

use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    used(bytes()[number()]);
}
