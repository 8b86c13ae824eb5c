//! `Display of every error`.

#![no_std]
#![no_main]

use azure_dps::{Endpoint, Error, TrackingId};
use azure_dps_no_panic::*;
use core::fmt::Write;

links!(proof);

fn proof() {
    let mut error = Error::TimedOut;
    let error = opaque(&mut error);
    used((error.fault(), error.code(), error.is_retryable()));
    used(write!(Nowhere, "{error}"));
    used(TrackingId::parse(text()).map(|id| write!(Nowhere, "{id}")));
    used(Endpoint::parse(text()).map(|endpoint| write!(Nowhere, "{endpoint}")).is_ok());
}

struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        used(text);
        Ok(())
    }
}
