//! An answer of a webhook. A device gets a hub only if the answer names it and it was offered. The returned payload
//! reaches the device unchanged. The first line is the status, the rest is the body.

#![no_main]

use std::sync::LazyLock;

use azure_dps::json::{JsonError, JsonProblem, Object};
use azure_dps::{
    Attestation, Error, IdScope, Provisioning, Registration, RegistrationId, error::Malformed, provisioning::Answer,
};
use azure_dps_emulator::fuzzing;
use azure_dps_fuzz::{contains, first_line};
use libfuzzer_sys::fuzz_target;

static OFFERED: LazyLock<[String; 2]> = LazyLock::new(|| ["hub-1", "hub-2"].map(str::to_owned));

fuzz_target!(|input: &[u8]| {
    let (status, body) = first_line(input);
    let status = status.parse().unwrap_or(200);
    let Some((hub, answer)) = fuzzing::webhook_answer(status, body, &*OFFERED) else {
        assert!(status >= 429);
        return;
    };
    // The library and the emulator have different readers. The library also rejects texts that the emulator ignores.
    let theirs = str::from_utf8(body).ok().and_then(|body| Object::parse(body).ok());
    let named = |name: &str| {
        theirs.is_none_or(|object| {
            object.members().any(|(key, _)| key.chars().collect::<String>().eq_ignore_ascii_case(name))
        })
    };
    let registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let mut provisioning = Provisioning::new(registration, Attestation::x509());
    provisioning.start(Default::default(), 0);
    provisioning.on_answer(Default::default(), Answer::new(200, None, answer.as_bytes()));
    let Some(hub) = hub else {
        assert!(matches!(provisioning.result(answer.as_bytes()), Err(Error::Failed { .. })), "{answer}");
        return;
    };
    assert!(status == 200 && OFFERED.contains(&hub) && named("iotHubHostName"), "{answer}");
    match provisioning.result(answer.as_bytes()) {
        Ok(assignment) => {
            assert_eq!(assignment.assigned_hub(), hub);
            if let Some(payload) = assignment.payload() {
                assert!(named("payload") && contains(body, payload.raw().as_bytes()), "{answer}");
            }
        }
        // The payload is nested more deeply here.
        Err(Error::Malformed(Malformed::Json(JsonError { problem: JsonProblem::Depth, .. }))) => {}
        Err(error) => panic!("{error}: {answer}"),
    }
});
