//! What a hub sends about the twin. Each part of a twin is what serde_json reads. An answer belongs to the request that
//! its topic names. A change is applied once.
//!
//! A part is a message: its topic, then its payload.

#![no_main]

use azure_dps::{
    Error,
    after::twin::{self, Message, Order, Properties},
};
use azure_dps_fuzz::{contains, first_line, parts};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let (mut known, mut applied) = (0, None);
    for message in parts(input) {
        let (topic, payload) = first_line(message);
        let answered = |request_id: u32| {
            let mut numbers = topic.split(['/', '?', '&']).filter_map(|part| part.strip_prefix("$rid=")?.parse().ok());
            assert!(numbers.any(|number: u32| number == request_id), "{topic}");
        };
        let read = twin::read(topic, payload);
        match read {
            Ok(Message::Twin(twin)) => {
                answered(twin.request_id);
                let json: Value = match serde_json::from_slice(payload) {
                    Ok(json) => json,
                    // serde_json's numbers have limits.
                    Err(error) => return assert!(error.to_string().starts_with("number out of range"), "{error}"),
                };
                agree(twin.desired, &json["desired"], payload);
                agree(twin.reported, &json["reported"], payload);
                known = twin.desired.version();
                applied = None;
            }
            Ok(Message::Reported { request_id, .. }) => answered(request_id),
            Ok(Message::Refused(refusal)) => {
                answered(refusal.request_id);
                assert!(!(200..=299).contains(&refusal.status));
                assert!(!refusal.to_string().is_empty());
            }
            Ok(Message::Change(patch)) => {
                assert!(contains(payload, patch.object().raw().as_bytes()));
                if patch.order(known) == Order::Next {
                    known = patch.version();
                    assert!(applied.is_none_or(|applied| applied < known));
                    applied = Some(known);
                }
            }
            Ok(Message::Other) => {}
            Err(unreadable) => {
                assert!(matches!(unreadable.error, Error::Malformed(_)));
                assert!(!unreadable.to_string().is_empty());
                unreadable.request_id.into_iter().for_each(answered);
            }
        }
        // Without its payload, a message is what its topic says.
        match (twin::read_skipped(topic, payload.len()), read) {
            (Ok(Message::Refused(skipped)), Ok(Message::Refused(refusal))) => {
                assert_eq!((skipped.request_id, skipped.status), (refusal.request_id, refusal.status));
            }
            (Ok(skipped), read) => assert_eq!(Ok(skipped), read),
            (Err(skipped), Err(unreadable)) => assert_eq!(skipped.request_id, unreadable.request_id),
            (Err(skipped), Ok(Message::Twin(twin))) => assert_eq!(skipped.request_id, Some(twin.request_id)),
            (Err(skipped), Ok(message)) => {
                assert!(matches!(message, Message::Change(_)) && skipped.request_id.is_none());
            }
        }
    }
});

fn agree(properties: Properties<'_>, json: &Value, payload: &[u8]) {
    assert!(contains(payload, properties.object().raw().as_bytes()));
    // A `$version` that occurs twice is no twin, and serde_json takes the last of any others.
    assert_eq!(json["$version"].as_u64(), Some(properties.version()));
    for (name, _) in properties.object().members() {
        let name: String = name.chars().collect();
        assert!(properties.get(&name).is_some() && json.get(&name).is_some(), "{name}");
    }
    let scratch = &mut vec![0; payload.len()];
    match (properties.read_as::<Value>(scratch), json) {
        (Ok(ours), theirs) => assert_eq!(&ours, theirs),
        (Err(error), theirs) => panic!("{error}: {theirs}"),
    }
}
