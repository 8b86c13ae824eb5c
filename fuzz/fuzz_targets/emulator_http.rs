//! A connection to the emulator's HTTP listener, MQTT over WebSocket included: whatever is said on it,
//! it ends in time, each answer is a documented one, in well-formed HTTP and JSON, and nobody gets a
//! hub but the device whose token was shown. Once it is WebSocket's, the last is all that is checked.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use azure_dps_fuzz::{Emulator, check_answer, contains, said};
use libfuzzer_sys::fuzz_target;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

fuzz_target!(|bytes: &[u8]| {
    let conversation = EMULATOR.converse(bytes.to_vec(), async |service, wire| service.http(wire).await);
    conversation.check_devices();
    let is_head = contains(&conversation.said, b"HEAD");
    let mut rest = &conversation.answered[..];
    while let Some(answer) = Answer::split_off(&mut rest, is_head) {
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

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// The first of the answers in `bytes`. One to a HEAD has no body, whatever its head says.
    fn split_off(bytes: &mut &[u8], may_be_head: bool) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut headers);
        let length = head.parse(bytes).unwrap().unwrap();
        let status = head.code.unwrap();
        let header = |name| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let content_length =
            header("Content-Length").map(|header| str::from_utf8(header.value).unwrap().parse().unwrap());
        let is_chunked = header("Transfer-Encoding").is_some_and(|header| header.value == b"chunked");
        *bytes = &bytes[length..];
        let body = match content_length {
            _ if matches!(status, 100..200) => Vec::new(),
            _ if may_be_head && (bytes.is_empty() || bytes.starts_with(b"HTTP/1.")) => Vec::new(),
            Some(length) => take(bytes, length).to_vec(),
            None if is_chunked => chunks(bytes),
            // HTTP/1.0 has no chunks: the end of the connection ends it.
            None => std::mem::take(bytes).to_vec(),
        };
        Some(Self { status, body })
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn chunks(bytes: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let (start, size) = httparse::parse_chunk_size(bytes).unwrap().unwrap();
        take(bytes, start);
        body.extend_from_slice(take(bytes, size as usize));
        assert_eq!(take(bytes, 2), b"\r\n");
        if size == 0 {
            return body;
        }
    }
}
