//! `Registration::with_serialized`.

#![no_std]
#![no_main]

use azure_dps::{IdScope, Registration, RegistrationId};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    #[derive(serde::Serialize)]
    struct Model<'a> {
        name: &'a str,
        number: u32,
    }
    let mut scratch = [0; 64];
    let model = Model { name: text(), number: number() as u32 };
    used(Registration::new(scope, id).with_serialized(&model, &mut scratch).is_ok());
}
