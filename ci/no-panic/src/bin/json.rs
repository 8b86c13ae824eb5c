//! `json`.

#![no_std]
#![no_main]

use azure_dps::json::{Object, Value};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let Ok(object) = Object::parse(text()) else { return };
    used(object.raw());
    used(object.get(text()).is_some());
    object.members().for_each(|(name, each)| {
        used(name == text());
        value(each);
        each.elements().for_each(value);
        each.object().iter().for_each(|object| used(object.raw()));
    });
}

fn value(value: Value<'_>) {
    used((value.raw(), value.is_null(), value.bool(), value.u32()));
    let Some(text) = value.text() else { return };
    used((text.raw(), text.as_str(), text == text, text.eq_ignore_ascii_case(azure_dps_no_panic::text())));
    text.chars().for_each(used);
    let mut buffer = [0; 64];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    used(text.copy_to(room).is_ok());
}
