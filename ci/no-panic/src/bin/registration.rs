//! `IdScope, RegistrationId, Registration`.

#![no_std]
#![no_main]

use azure_dps::{IdScope, Registration, RegistrationId};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    used(id.has_upper_case());
    used(Registration::new(scope, id).with_payload(text()).is_ok());
}
