//! `Assignment::payload_as`.

#![no_std]
#![no_main]

use core::fmt;

use azure_dps_no_panic::*;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

links!(proof);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings<'a> {
    darkness: &'a str,
    slices: Option<u8>,
    offset: i64,
    large: i128,
    letter: char,
    range: (u32, u64),
    bytes: &'a [u8],
    ignored: IgnoredAny,
    #[serde(borrow)]
    mode: Mode<'a>,
    lamps: Lamps,
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

/// `true` if any lamp is on. The lamps have numbers.
struct Lamps(bool);

impl<'de> Deserialize<'de> for Lamps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Lamps(false))
    }
}

impl<'de> Visitor<'de> for Lamps {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lamps")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some((number, on)) = members.next_entry::<u16, bool>()? {
            used(number);
            self.0 |= on;
        }
        Ok(self)
    }
}

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let Ok(assignment) = provisioning.result(bytes()) else { return };
            let mut scratch = [0; 64];
            let scratch = scratch.get_mut(..number()).unwrap_or_default();
            match assignment.payload_as::<Settings<'_>>(scratch) {
                Ok(Some(settings)) => {
                    used((settings.darkness, settings.slices, settings.offset, settings.large, settings.letter));
                    used((settings.range, settings.bytes, settings.ignored, settings.lamps.0, settings.nested.lamp));
                    match settings.mode {
                        Mode::Off => used(0),
                        Mode::On(on) => used(on),
                        Mode::Between(from, to) => used((from, to)),
                        Mode::Named { name } => used(name),
                    }
                }
                Ok(None) => {}
                Err(error) => shown(error),
            }
        },
    );
}
