//! `Display and Debug of every error`.

#![no_std]
#![no_main]

use azure_dps::identity::tpm::TpmError;
use azure_dps::{
    Error,
    error::{PayloadError, TrackingId},
    identity::{InvalidHub, SignError},
    provisioning::Endpoint,
};
use azure_dps_no_panic::*;
use core::fmt::Write;

links!(proof);

fn proof() {
    let mut error = Error::TimedOut;
    let error = opaque(&mut error);
    used((error.fault(), error.code(), error.is_retryable()));
    shown(&*error);
    shown(opaque(&mut PayloadError::Unfit));
    shown(opaque(&mut InvalidHub::Host));
    shown(SignError::new("no answer"));
    shown(TpmError::new("no answer"));
    if let Some(id) = TrackingId::parse(text()) {
        shown(id);
    }
    if let Ok(endpoint) = Endpoint::parse(text()) {
        used(write!(Nowhere, "{endpoint}"));
    }
}
