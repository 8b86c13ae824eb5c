//! A connection to the emulator's HTTP listener, MQTT over WebSocket included: whatever is said on it,
//! it ends in time, each answer is a documented one, in well-formed HTTP and JSON, and nobody gets a
//! hub but the device whose token was shown. Once it is WebSocket's, the last is all that is checked.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use azure_dps_fuzz::http::HttpAnswer;
use azure_dps_fuzz::{Emulator, check_answer, contains, said};
use libfuzzer_sys::fuzz_target;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

fuzz_target!(|bytes: &[u8]| {
    let conversation = EMULATOR.converse(bytes.to_vec(), async |service, wire| service.http(wire).await);
    conversation.check_devices();
    let is_head = contains(&conversation.said, b"HEAD");
    let mut rest = &conversation.answered[..];
    while let Some(answer) = HttpAnswer::split_off(&mut rest, is_head) {
        assert!(answer.is_whole);
        match answer.status {
            // The rest is WebSocket's.
            101 => return,
            100 | 400 | 414 | 431 if answer.body.is_empty() => {}
            _ if answer.body.is_empty() => assert!(is_head, "{} is empty", answer.status),
            status => {
                let json = check_answer(status, &answer.body);
                assert!(status >= 400 || said(&json) == Some("failed") || conversation.has_signature, "{json}");
            }
        }
    }
    // A peer that stays is given up after the patience of `client_timeout`, once for each wait.
    assert!(conversation.took <= Duration::from_secs(180), "{:?}", conversation.took);
});
