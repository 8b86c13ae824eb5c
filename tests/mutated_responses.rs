//! Mutates a million valid answers. The reader does not panic, and never returns a hub that no answer contained.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use azure_dps::http::ResponseReader;
use azure_dps::{Error, Provisioning, RetryPolicy, error::Malformed, provisioning::Step};
use support::*;

const SEED: u64 = 0x5eed_0000_dc05;
const COUNT: u32 = 1_000_000;

/// xorshift64, so that a failure is reproducible.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const BODIES: [&str; 6] = [
    ASSIGNING,
    ASSIGNED,
    include_str!("vectors/registration-state-every-field.json"),
    r#"{"operationId":"","status":"disabled","registrationState":{"registrationId":"d","status":"disabled"}}"#,
    r#"{"operationId":"5.x","status":"failed","registrationState":{"registrationId":"d","status":"failed","errorCode":400207,"errorMessage":"Custom allocation failed with status code: 400"}}"#,
    r#"{"errorCode":401002,"trackingId":"6d75a1fe-0129-4f41-844b-c253a6653d4f","message":"Unauthorized","timestampUtc":"2026-01-02T03:04:05.6789012Z","info":{"k":"v"}}"#,
];

/// Texts that are inserted, or that replace a part.
const TOKENS: [&str; 26] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "\"\"",
    "{}",
    "[]",
    "\"assigned\"",
    "\"failed\"",
    "\"assigning\"",
    "\"status\":",
    "\"assignedHub\":",
    "\"deviceId\":",
    "\"operationId\":",
    "\"registrationState\":",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u0041",
    "\\ud800",
    "\u{0}",
];

/// Returns the spans of whole JSON strings and numbers, and where a change keeps the grammar valid.
fn scalars(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut spans = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => {
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != b'"' {
                    end += 1 + usize::from(bytes[end] == b'\\');
                }
                (end + 1).min(bytes.len())
            }
            b'0'..=b'9' => at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
            _ => {
                at += 1;
                continue;
            }
        };
        spans.push((at, end));
        at = end;
    }
    spans
}

fn mutate(body: &str, random: &mut Random) -> Vec<u8> {
    let mut text = body.to_string();
    for _ in 0..=random.below(3) {
        let spans = scalars(&text);
        if spans.is_empty() || !text.is_ascii() {
            break;
        }
        let (start, end) = spans[random.below(spans.len())];
        match random.below(8) {
            // Replaces it with another scalar, from this answer or another.
            0 | 1 => {
                let (from, to) = spans[random.below(spans.len())];
                let other = text[from..to].to_string();
                text.replace_range(start..end, &other);
            }
            2 => text.replace_range(start..end, random.pick(&TOKENS)),
            // Adds, removes or changes a character.
            3 if end - start > 2 => {
                text.replace_range(start + 1..start + 2, random.pick(&["", "x", "\\n", "\u{e9}", ";"]))
            }
            4 => {
                let at = random.below(text.len());
                text.insert_str(at, random.pick(&TOKENS));
            }
            5 => {
                let at = random.below(text.len());
                text.remove(at);
            }
            // Repeats a member.
            6 => {
                if let Some(comma) = text[end..].find(',') {
                    let piece = text[start..end + comma + 1].to_string();
                    text.insert_str(start, &piece);
                }
            }
            _ => {
                if random.below(4) == 0 {
                    text.truncate(random.below(text.len()));
                }
            }
        }
    }
    if random.below(100) == 0 {
        text = text.replace("value1", &"x".repeat(3000));
    }
    let mut bytes = text.into_bytes();
    if random.below(20) == 0 && !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] = random.below(256) as u8;
    }
    bytes
}

fn frame(body: &[u8], random: &mut Random) -> Vec<u8> {
    let status = random.pick(&["200 OK", "202 Accepted", "200 OK", "401 Unauthorized", "429 Too Many Requests"]);
    let retry = random.pick(&["", "Retry-After: 3\r\n", "retry-after: x\r\n"]);
    let mut answer = format!("HTTP/1.1 {status}\r\n{retry}").into_bytes();
    if random.below(2) == 0 {
        answer.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        answer.extend(body);
    } else {
        answer.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(1 + random.below(300)) {
            answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
            answer.extend(chunk);
            answer.extend(b"\r\n");
        }
        answer.extend(b"0\r\n\r\n");
    }
    if random.below(10) == 0 {
        let at = random.below(answer.len());
        answer[at] = random.below(256) as u8;
    }
    if random.below(100) == 0 {
        answer.truncate(random.below(answer.len()));
    }
    answer
}

fn outcome(provisioning: &mut Provisioning<'_>, answer: &[u8], random: &mut Random) -> &'static str {
    let now = Duration::ZERO;
    let mut buffer = [0; 2048];
    let mut reader = ResponseReader::new();
    let mut rest = answer;
    provisioning.start(now, UNIX_TIME);
    let response = loop {
        let space = match reader.space(&mut buffer) {
            Ok(space) => space,
            Err(_) => return "too long",
        };
        let len = rest.len().min(space.len()).min(1 + random.below(512));
        space[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        match reader.received(&mut buffer, len) {
            Ok(Some(response)) => break response,
            Ok(None) => {}
            Err(Error::Malformed(_)) => return "http malformed",
            Err(Error::BufferTooSmall(_)) => return "too long",
            Err(Error::Transport(_)) => return "http cut short",
            Err(error) => panic!("{error}"),
        }
    };
    let answer = response.answer(&buffer);
    provisioning.on_answer(now, answer);
    let _ = provisioning.details(answer.body).map(|details| {
        (details.message().map(|text| text.to_string()), details.tracking_id(), details.timestamp(), details.info())
    });
    if let Step::Wait(_) | Step::Send = provisioning.step(now) {
        let is_json = std::str::from_utf8(answer.body).is_ok_and(|text| azure_dps::json::Object::parse(text).is_ok());
        return match answer.status {
            300.. => "retried",
            _ if is_json => "pending",
            _ => "json cut short",
        };
    }
    match provisioning.result(answer.body) {
        Ok(assignment) => {
            let hub = assignment.assigned_hub().to_string();
            assert!(answer.body.windows(hub.len()).any(|window| window == hub.as_bytes()), "{hub}");
            for (_, value) in assignment.registration_state().members() {
                let _ = (value.text().map(|text| text.to_string()), value.u32(), value.elements().count());
            }
            let _ = (
                assignment.owned::<64>(),
                assignment.substatus(),
                assignment.x509().map(|x509| x509.certificate_info()),
            );
            #[derive(serde::Deserialize)]
            struct Anything {}
            let _ = assignment.payload_as::<Anything>(&mut [0; 64]);
            "assigned"
        }
        Err(Error::Malformed(Malformed::Json(_))) => "json malformed",
        Err(Error::Malformed(_)) => "not a dps document",
        Err(Error::Refused(_)) => "refused",
        Err(Error::Failed(_)) => "failed",
        Err(Error::Disabled) => "disabled",
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_million_mutated_responses() {
    let mut provisioning = toaster().with_retry_policy(RetryPolicy::new());
    let mut random = Random(SEED);
    let mut counts = BTreeMap::<_, u32>::new();
    for _ in 0..COUNT {
        let body = mutate(random.pick(&BODIES), &mut random);
        let answer = frame(&body, &mut random);
        let name = outcome(&mut provisioning, &answer, &mut random);
        *counts.entry(name).or_default() += 1;
    }
    println!("seed {SEED:#x}, {COUNT} answers: {counts:#?}");
    // Rejections count too. Their documents are read like all others, and an unreadable document is still a rejection.
    let past_the_lexer: u32 =
        ["assigned", "pending", "not a dps document", "failed", "disabled"].iter().map(|name| counts[name]).sum();
    assert!(past_the_lexer * 10 > COUNT, "{past_the_lexer}");
    assert!(counts.values().all(|&count| count > COUNT / 10_000), "{counts:?}");
}
