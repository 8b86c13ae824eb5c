//! Calls of the control API. A foreign host, a page of another origin, or a caller without the token gets nothing. Each
//! answer is well-formed HTTP with JSON, a stream of events or a file of the page, and has the security headers. No key
//! is shown, and the listener keeps answering.
//!
//! A part is a call: the method and the target, headers, an empty line, the body. A `Host` and the type of the body are
//! added unless the call has its own. `{token}` stands for the token. The part `device` registers `d`. A part that
//! starts with `telemetry:` is a message from `d` to its hub.

#![no_main]

use std::sync::LazyLock;

use azure_dps_emulator::fuzzing::{CONTROL_HOST, CONTROL_PORT, CONTROL_TOKEN, Service};
use azure_dps_fuzz::{
    Emulator, contains,
    http::{HttpAnswer, HttpRequest, say},
    parts, register,
    secrets::Secrets,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

/// The highest number of calls in an input.
const CALLS: usize = 24;

fuzz_target!(|input: &[u8]| {
    let (is_unusual, has_token) = (input.len() & 1 != 0, input.len() & 2 != 0);
    EMULATOR.run(is_unusual, async |service| {
        let mut secrets = Secrets::default();
        for part in parts(input).take(CALLS) {
            if part == b"device" {
                register(service).await;
            } else if let Some(body) = part.strip_prefix(b"telemetry:") {
                service.telemetry("d", body);
            } else {
                call(service, has_token, &String::from_utf8_lossy(part), &mut secrets).await;
            }
        }
        let health = "GET /_emulator/health\nAuthorization: Bearer {token}\n\n";
        assert_eq!(call(service, has_token, health, &mut secrets).await, Some(200));
        for record in service.records() {
            secrets.check(record.as_bytes());
        }
        service.check().unwrap();
        service.reset().unwrap();
    });
});

/// Makes a call, and returns the status of the answer.
async fn call(service: &Service, has_token: bool, part: &str, secrets: &mut Secrets) -> Option<u16> {
    let part = part.replace("{token}", CONTROL_TOKEN);
    let request = HttpRequest::parse(part.as_bytes());
    secrets.come_in(&request);
    let host = format!("localhost:{CONTROL_PORT}");
    let said = request.write(&[("Host", &*host), ("Content-Type", "application/json")]);
    let answered = if has_token {
        say(service, said, async |service, wire| service.guarded_control(wire).await).await
    } else {
        say(service, said, async |service, wire| service.control(wire).await).await
    };
    secrets.check(&answered);
    let mut rest = &answered[..];
    let mut answer = HttpAnswer::split_off(&mut rest, request.method == "HEAD")?;
    if answer.status == 100 {
        answer = HttpAnswer::split_off(&mut rest, request.method == "HEAD")?;
    }
    if matches!(answer.status, 400 | 414 | 431) && answer.body.is_empty() {
        // It was no HTTP.
        return None;
    }
    for (name, value) in [("content-security-policy", "default-src 'self'"), ("x-content-type-options", "nosniff")] {
        assert!(answer.header(name).is_some_and(|told| told.starts_with(value)), "{answer:?}");
    }
    let media_type = answer.header("content-type").unwrap_or_default();
    assert!(answer.is_whole || media_type.starts_with("text/event-stream"), "{answer:?}");
    match answer.status {
        200 if media_type.starts_with("application/json") => {
            assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "{answer:?}");
        }
        200 if media_type.starts_with("text/event-stream") => check_events(&answer.body),
        // A file of the page.
        200 => assert!(request.method == "GET" && is_of_page(&request), "{answer:?}"),
        204 => assert!(answer.body.is_empty()),
        202 => assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "{answer:?}"),
        400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 415 | 429 | 503 => {
            if request.method != "HEAD" {
                let refusal: Value = serde_json::from_slice(&answer.body).unwrap();
                assert!(refusal["error"].is_string() && refusal["message"].is_string(), "{refusal}");
            }
        }
        _ => panic!("{answer:?}"),
    }
    if answer.status < 300 {
        assert!(is_own(&request), "{} {} {:?}", request.method, request.target, request.headers);
        let is_file = answer.status == 200 && is_of_page(&request);
        assert!(!has_token || is_file || contains(part.as_bytes(), CONTROL_TOKEN.as_bytes()), "{part}");
    }
    Some(answer.status)
}

/// Whether the target is not part of the API.
fn is_of_page(request: &HttpRequest<'_>) -> bool {
    !request.target.split('?').next().unwrap_or_default().contains("/_emulator")
}

/// Whether a request names this listener, and comes from no other page.
fn is_own(request: &HttpRequest<'_>) -> bool {
    let all = |name: &str| {
        let named = request.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim().to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let is_own_host = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
        is_loopback && host.ends_with(&format!(":{CONTROL_PORT}")) || [host, name].contains(&CONTROL_HOST)
    };
    let is_own_origin = |origin: &str| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(is_own_host)
    };
    let is_file = is_of_page(request);
    all("Host").len() <= 1
        && all("Host").iter().all(|host| is_own_host(host))
        && all("Origin").iter().all(|origin| is_own_origin(origin))
        && (is_file || all("Sec-Fetch-Site").iter().all(|site| ["same-origin", "none"].contains(&&**site)))
}

/// Each event has a number, a kind, and an object of JSON.
fn check_events(stream: &[u8]) {
    for event in str::from_utf8(stream).unwrap().split_terminator("\n\n") {
        for line in event.lines() {
            match line.split_once(": ") {
                Some(("data", data)) => assert!(serde_json::from_str::<Value>(data).unwrap().is_object(), "{data}"),
                Some(("id" | "retry", number)) => assert!(number.parse::<u64>().is_ok(), "{line}"),
                Some(("event" | "", _)) => {}
                _ => panic!("{line}"),
            }
        }
    }
}
