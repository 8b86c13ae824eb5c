//! A connection to the emulator's HTTP listener, also with MQTT over WebSocket. The connection ends in time. Each
//! answer is a documented one, in well-formed HTTP and JSON. Only a device that showed its token gets a hub. After a
//! switch to WebSocket, only the last rule is checked.

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
    // `client_timeout` ends the connection of a silent peer, once for each wait.
    assert!(conversation.took <= Duration::from_secs(180), "{:?}", conversation.took);
});
