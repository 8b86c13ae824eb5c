//! A connection to the emulator's MQTT listener. The connection ends in time. Packets are ones that a server may send.
//! Answers use a `$rid` of a request. Only a device that showed its token gets a hub.

#![no_main]

use std::sync::LazyLock;

use azure_dps_fuzz::{
    Emulator, check_answer, contains,
    mqtt::{packet, split_off, string},
    parts,
};
use libfuzzer_sys::fuzz_target;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

fuzz_target!(|input: &[u8]| {
    let conversation = EMULATOR.converse(packets(input), async |service, wire| service.mqtt(wire).await);
    conversation.check_devices();
    assert!(conversation.ended() || keeps_alive_for_ever(&conversation.said), "it does not end");
    let mut rest = &conversation.answered[..];
    let mut is_connected = None;
    while let Some((kind, body)) = split_off(&mut rest) {
        match (kind, is_connected) {
            (0x20, None) => is_connected = Some(body == [0, 0]),
            // An answer, at QoS 0 or 1.
            (0x30 | 0x32, Some(true)) => {
                let (topic, mut body) = string(body);
                if kind == 0x32 {
                    body = &body[2..];
                }
                let (status, query) = topic.strip_prefix("$dps/registrations/res/").unwrap().split_once("/?").unwrap();
                let rid = query.rsplit_once("&retry-after=").map_or(query, |(rid, seconds)| {
                    assert!(seconds.parse::<u32>().is_ok(), "{topic}");
                    rid
                });
                assert!(rid.starts_with("$rid=") && contains(&conversation.said, rid.as_bytes()), "{topic}");
                let json = check_answer(status.parse().unwrap(), body);
                assert!(!status.starts_with('2') || conversation.has_signature, "{json}");
            }
            // PUBACK, UNSUBACK.
            (0x40 | 0xb0, Some(true)) => assert_eq!(body.len(), 2),
            // SUBACK.
            (0x90, Some(true)) => assert!(body[2..].iter().all(|code| matches!(code, 0 | 1 | 0x80))),
            // PINGRESP.
            (0xd0, Some(true)) => assert!(body.is_empty()),
            other => panic!("{other:x?}"),
        }
    }
});

/// Each part of the input is a packet without its length, which is put in. What follows a first byte
/// of 0, which begins no packet, is sent as it is.
fn packets(input: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for part in parts(input) {
        match part {
            [] => {}
            [0, raw @ ..] => sent.extend_from_slice(raw),
            [kind, body @ ..] => sent.extend(packet(*kind, body)),
        }
    }
    sent
}

/// MQTT allows a session without a keep-alive.
fn keeps_alive_for_ever(sent: &[u8]) -> bool {
    let after_length = sent.iter().skip(1).position(|byte| byte & 0x80 == 0).unwrap() + 2;
    // "MQTT", level and flags are before it.
    sent[after_length..].get(8..10) == Some(&[0, 0])
}
