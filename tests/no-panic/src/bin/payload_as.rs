//! `Assignment::payload_as`.

#![no_std]
#![no_main]

use azure_dps_no_panic::*;
use serde::Deserialize;

links!(proof);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings<'a> {
    darkness: &'a str,
    slices: Option<u8>,
    offset: i64,
    letter: char,
    range: (u32, u64),
    #[serde(borrow)]
    mode: Mode<'a>,
    #[serde(default)]
    nested: Nested,
}

#[derive(Deserialize)]
enum Mode<'a> {
    Off,
    On(bool),
    Between(i8, i8),
    Named { name: &'a str },
}

#[derive(Default, Deserialize)]
struct Nested {
    lamp: [bool; 4],
}

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let Ok(assignment) = provisioning.result(bytes()) else { return };
            let mut scratch = [0; 64];
            let scratch = scratch.get_mut(..number()).unwrap_or_default();
            if let Ok(Some(settings)) = assignment.payload_as::<Settings<'_>>(scratch) {
                used((settings.darkness, settings.slices, settings.offset, settings.letter, settings.range));
                used(settings.nested.lamp);
                match settings.mode {
                    Mode::Off => used(0),
                    Mode::On(on) => used(on),
                    Mode::Between(from, to) => used((from, to)),
                    Mode::Named { name } => used(name),
                }
            }
        },
    );
}
