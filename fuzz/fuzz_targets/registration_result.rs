//! A run that is given any answers at any times: it ends, and no hub appears that no answer
//! contained.

#![no_main]

use std::time::Duration;

use azure_dps::http;
use azure_dps::{
    Answer, Credential, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, Step, TransportFault,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answers: Vec<(u16, Option<u32>, u16, &[u8])>| {
    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    let registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let mut provisioning = Provisioning::new(registration, Credential::sas(&mut key));
    let mut answers = answers.into_iter();
    let mut last: &[u8] = &[];
    let mut now = Duration::ZERO;
    let mut buffer = [0; 1024];
    provisioning.start(now, 1_700_000_000);
    for _ in 0..1000 {
        match provisioning.step(now) {
            Step::Wait(wait) => {
                assert!(wait <= Duration::from_secs(300));
                now += wait;
            }
            Step::Send => {
                http::write_request(&mut provisioning, now, &mut buffer).unwrap();
                match answers.next() {
                    Some((status, retry_after, seconds, body)) => {
                        now += Duration::from_secs(u64::from(seconds));
                        last = body;
                        provisioning.on_answer(now, Answer::new(status, retry_after, body));
                    }
                    None => provisioning.on_error(now, Error::Transport(TransportFault::Closed)),
                }
            }
            Step::Finished => {
                let _ = provisioning.details(last).map(|details| details.message().map(|text| text.to_string()));
                if let Ok(assignment) = provisioning.result(last) {
                    let hub = assignment.assigned_hub().as_bytes();
                    assert!(last.windows(hub.len()).any(|window| window == hub));
                    let _ = (assignment.owned::<32>(), assignment.substatus(), assignment.enrollment_group_id());
                }
                return;
            }
        }
    }
    panic!("the run does not end");
});
