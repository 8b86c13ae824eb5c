//! A session that receives any messages. Only a message with the number of the pending request is the answer. The run
//! ends, and reports no hub that no message contained.
//!
//! A part is a message: its topic, in which `{rid}` is the number of the pending request, then the body.

#![no_main]

use std::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, error::TransportError, mqtt,
    provisioning::Step,
};
use azure_dps_fuzz::{contains, first_line, parts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut key = DeviceKey::new();
    key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    let registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
    let mut messages = parts(input);
    let mut last: &[u8] = &[];
    let mut now = Duration::ZERO;
    let mut buffer = [0; 1024];
    provisioning.start(now, 1_700_000_000);
    for request in 1..1000 {
        // Until a request is answered, or times out.
        loop {
            match provisioning.step(now) {
                Step::Sign => provisioning.sign_with(&mut key, &mut buffer).unwrap(),
                Step::Activate => panic!("a challenge without a TPM"),
                Step::Wait(wait) => now += wait,
                Step::Send => break,
                Step::Finished => {
                    if let Ok(assignment) = provisioning.result(last) {
                        assert!(contains(last, assignment.assigned_hub().as_bytes()));
                    }
                    return;
                }
            }
        }
        let publish = mqtt::write_publish(&mut provisioning, now, &mut buffer).unwrap();
        let number = format!("$rid={request}");
        assert!(publish.topic.contains(&number));
        loop {
            let Some(message) = messages.next() else {
                provisioning.on_error(now, Error::Transport(TransportError::Closed));
                break;
            };
            let (topic, body) = first_line(message);
            let topic = topic.replace("{rid}", &request.to_string());
            if mqtt::on_message(&mut provisioning, now, &topic, body) {
                let parameters = topic.strip_prefix("$dps/registrations/res/").unwrap().split(['/', '?', '&']);
                let mut numbers = parameters.filter_map(|part| part.strip_prefix("$rid=")?.parse().ok());
                assert!(numbers.any(|number: i32| number == request));
                last = body;
                break;
            }
        }
    }
    panic!("the run does not end");
});
