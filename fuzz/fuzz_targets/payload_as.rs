//! A returned payload as a type is what serde_json reads: any value, and a struct with members of each kind.

#![no_main]

use std::collections::BTreeMap;
use std::fmt::Debug;

use azure_dps::{Assignment, Attestation, IdScope, Provisioning, Registration, RegistrationId, provisioning::Answer};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Model {
    bool: bool,
    small: i8,
    number: u64,
    large: i128,
    float: f64,
    char: char,
    text: String,
    option: Option<u16>,
    unit: (),
    pair: (u8, String),
    list: Vec<i32>,
    numbers: BTreeMap<i16, bool>,
    #[serde(rename = "1")]
    mode: Option<Mode>,
    inner: Option<Box<Model>>,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Mode {
    Off,
    On(bool),
    Between(i8, i8),
    Named { name: String },
}

fuzz_target!(|payload: &str| {
    let body = format!(
        r#"{{"status":"assigned","registrationState":{{"assignedHub":"h","deviceId":"d","payload":{payload}}}}}"#
    );
    let registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let mut provisioning = Provisioning::new(registration, Attestation::x509());
    provisioning.start(Default::default(), 0);
    provisioning.on_answer(Default::default(), Answer::new(200, None, body.as_bytes()));
    // Several members are not a payload.
    let Ok(assignment) = provisioning.result(body.as_bytes()) else { return };
    let Some(payload) = assignment.payload() else { return };
    agree::<Value>(&assignment, payload.raw());
    agree::<Model>(&assignment, payload.raw());
});

/// Whether there may be a minus zero, which serde_json takes for a float alone.
fn has_minus_zero(payload: &str) -> bool {
    payload
        .match_indices("-0")
        .any(|(at, _)| !payload[at + 2..].starts_with(|next: char| matches!(next, '.' | 'e' | 'E' | '0'..='9')))
}

fn agree<'b, T: Debug + Deserialize<'b> + PartialEq>(assignment: &Assignment<'b>, payload: &'b str) {
    match (assignment.payload_as(&mut vec![0; payload.len()]), serde_json::from_str::<T>(payload)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, Some(theirs)),
        (Err(_), Err(_)) => {}
        (Ok(_), Err(_)) if has_minus_zero(payload) => {}
        (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
    }
}
