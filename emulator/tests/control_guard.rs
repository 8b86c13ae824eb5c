//! Access to the control API, and attacks on it.

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use azure_dps_emulator::{Config, Emulator, StartError};
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, ORIGIN, SET_COOKIE},
};
use serde_json::{Value, json};
use support::{control::Control, *};

const TOKEN: &str = "a-token-of-this-test";

fn start_with(change: impl FnOnce(azure_dps_emulator::Builder) -> azure_dps_emulator::Builder) -> (Emulator, Control) {
    let builder = builder(Config::contoso()).http("127.0.0.1:0").control("127.0.0.1:0");
    let emulator = change(builder).start().unwrap();
    let control = Control::of(&emulator);
    (emulator, control)
}

/// A call of each kind: a read, a stream, a change, and the page.
const KINDS: [(&str, &str); 4] = [("GET", "health"), ("GET", "events"), ("POST", "reset"), ("GET", "/")];

fn send(control: &Control, method: &str, path: &str, headers: &[(&str, &str)]) -> reqwest::blocking::Response {
    let mut request = control.request(method.parse().unwrap(), path);
    if method != "GET" && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        request = request.header(CONTENT_TYPE, "application/json").body("{}");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().unwrap()
}

/// Checks the headers that every answer must have, and those that no answer may have.
fn check_headers(headers: &HeaderMap, what: &str) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(headers.get(name).map(|value| value.to_str().unwrap()), Some(value), "{what}: {name}");
    }
    assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{what}");
}

/// A request with a foreign host or from a foreign page is rejected on every path. So is a request without a host.
#[test]
fn foreign_hosts_and_origins_are_rejected() {
    let (_emulator, control) = start_with(|builder| builder.control_host("emulator.test").control_host("Pinned:7"));
    let port = control.port();
    let host = |name: &str| format!("{name}:{port}");
    let own = host("127.0.0.1");
    for (name, is_own) in [
        (own.clone(), true),
        (host("localhost"), true),
        (host("LOCALHOST"), true),
        (host("[::1]"), true),
        ("emulator.test".to_owned(), true),
        ("EMULATOR.test:80".to_owned(), true),
        ("pinned:7".to_owned(), true),
        ("pinned:8".to_owned(), false),
        ("pinned".to_owned(), false),
        ("127.0.0.1".to_owned(), false),
        ("localhost".to_owned(), false),
        (format!("127.0.0.1:{}", port ^ 1), false),
        (host("127.0.0.2"), false),
        (host("[::2]"), false),
        (host("example.com"), false),
        (host("localhost.example.com"), false),
        (host("example.com.emulator.test"), false),
        (host("localhost:1"), false),
        (host(""), false),
        (String::new(), false),
    ] {
        for (method, path) in KINDS {
            let response = send(&control, method, path, &[(HOST.as_str(), &name)]);
            check_headers(response.headers(), &name);
            if is_own {
                assert_eq!(response.status(), 200, "{name} {path}");
            } else {
                let (status, body) = answer(response);
                assert_eq!((status, &body["error"]), (403, &json!("foreignHost")), "{name} {path}");
            }
        }
    }
    let origin = |name: &str| format!("http://{}", host(name));
    for (name, is_own) in [
        (origin("127.0.0.1"), true),
        (origin("localhost"), true),
        ("https://emulator.test".to_owned(), true),
        ("null".to_owned(), false),
        (String::new(), false),
        ("http://127.0.0.1".to_owned(), false),
        (format!("http://127.0.0.1:{}", port ^ 1), false),
        (origin("example.com"), false),
        (format!("http://localhost:{port}.example.com"), false),
        (format!("file://127.0.0.1:{port}"), false),
        (format!("127.0.0.1:{port}"), false),
        ("https://example.com".to_owned(), false),
    ] {
        for (method, path) in KINDS.into_iter().chain([("OPTIONS", "reset")]) {
            let response = send(&control, method, path, &[(ORIGIN.as_str(), &name)]);
            check_headers(response.headers(), &name);
            match (is_own, method) {
                (true, "OPTIONS") => assert_eq!(response.status(), 405),
                (true, _) => assert_eq!(response.status(), 200, "{name} {path}"),
                (false, _) => {
                    let (status, body) = answer(response);
                    assert_eq!((status, &body["error"]), (403, &json!("foreignOrigin")), "{name} {path}");
                }
            }
        }
    }
    // Images and scripts of other pages send no Origin. A link to the page may be anywhere.
    for (site, is_own) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
        for (method, path) in KINDS {
            let status = send(&control, method, path, &[("Sec-Fetch-Site", site)]).status();
            assert_eq!(status == 200, is_own || path == "/", "{site} {path}: {status}");
        }
    }
}

/// Requests that no client library sends.
#[test]
fn invalid_requests_are_rejected() {
    let (_emulator, control) = start_with(|builder| builder);
    let port = control.port();
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    for (line, headers, expected) in [
        ("GET /_emulator/health HTTP/1.1", own.clone(), "200"),
        ("GET /_emulator/health HTTP/1.1", String::new(), "403"),
        ("GET /_emulator/health HTTP/1.0", String::new(), "403"),
        ("GET /_emulator/health HTTP/1.1", format!("{own}Host: example.com\r\n"), "403"),
        ("GET /_emulator/health HTTP/1.1", "Host: \u{fc}\r\n".to_owned(), "403"),
        ("GET http://example.com/_emulator/health HTTP/1.1", own.clone(), "403"),
        ("GET /_emulator/health HTTP/1.1", format!("{own}Origin: null\r\nOrigin: http://127.0.0.1:{port}\r\n"), "403"),
        ("GET /_emulator/health HTTP/1.1", format!("{own}Origin: http://127.0.0.1:{port}\r\nOrigin: null\r\n"), "403"),
        ("GET /_emulator/../_emulator/health HTTP/1.1", own.clone(), "404"),
        ("GET //_emulator/health HTTP/1.1", own.clone(), "404"),
        ("HEAD /_emulator/health HTTP/1.1", own.clone(), "405"),
        ("POST /_emulator/reset HTTP/1.1", format!("{own}Content-Length: 0\r\n"), "415"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "{line}\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{line} {headers}: {answer}");
    }
}

/// A change must be JSON, which forms of other pages cannot send.
#[test]
fn changes_need_json() {
    let (_emulator, control) = start_with(|builder| builder);
    for (media_type, is_taken) in [
        ("application/json", true),
        ("Application/JSON; charset=utf-8", true),
        ("application/json;x", true),
        ("text/plain", false),
        ("application/x-www-form-urlencoded", false),
        ("multipart/form-data; boundary=application/json", false),
        ("application/jsonp", false),
        ("text/plain; application/json", false),
        ("", false),
    ] {
        for (method, path) in [
            ("POST", "reset"),
            ("POST", "session"),
            ("POST", "scripts"),
            ("DELETE", "scripts"),
            ("POST", "behaviour"),
            ("POST", "devices/x/twin"),
            ("POST", "webhook-calls/1/replay"),
            ("POST", "enrollments/x/enable"),
        ] {
            let response = send(&control, method, path, &[(CONTENT_TYPE.as_str(), media_type)]);
            let (status, body) = answer(response);
            assert_eq!(status == 415, !is_taken, "{media_type} {path}: {status}");
            assert_eq!(body["error"] == "unsupportedMediaType", !is_taken, "{media_type} {path}");
        }
    }
}

/// With a token, only the files of the page are served without it.
#[test]
fn every_call_needs_the_token_and_the_page_does_not() {
    let (emulator, control) = start_with(|builder| builder.control_token(TOKEN));
    Device::of_group(&emulator, TOASTER).assigned();
    let description: Value = serde_json::from_str(include_str!("../docs/control-api.json")).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let wrong = [
        String::new(),
        TOKEN.to_owned(),
        format!("Basic {TOKEN}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", &TOKEN[1..]),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", TOKEN.to_uppercase()),
        format!("Bearer  {TOKEN}"),
    ];
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path = path.replace("{id}", TOASTER).replace("{number}", "1");
        if path.ends_with("/session") {
            continue;
        }
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let response = send(&control, &method, &path, &[]);
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            check_headers(response.headers(), &path);
            let (status, body) = answer(response);
            assert_eq!((status, &body["error"]), (401, &json!("unauthorized")), "{method} {path}");
            for wrong in &wrong {
                let status = send(&control, &method, &path, &[(AUTHORIZATION.as_str(), wrong)]).status();
                assert_eq!(status, 401, "{method} {path} {wrong}");
            }
        }
    }
    // Without the token, existing and unknown paths have the same answer.
    assert_eq!(send(&control, "GET", "nothing", &[]).status(), 401);
    assert_eq!(send(&control, "PUT", "session", &[]).status(), 401);
    for path in ["/", "/app.js", "/app.css"] {
        let response = send(&control, "GET", path, &[]);
        assert_eq!(response.status(), 200, "{path}");
        check_headers(response.headers(), path);
        assert!(!response.text().unwrap().contains(TOKEN));
    }
    let right = send(&control, "GET", "health", &[(AUTHORIZATION.as_str(), &bearer)]);
    assert_eq!(right.status(), 200);
    assert_eq!(
        send(&control, "GET", "health", &[(AUTHORIZATION.as_str(), &bearer.replace("Bearer", "bearer"))]).status(),
        200
    );
    assert!(emulator.device(TOASTER).is_some());
}

/// A browser exchanges the token for a cookie, which scripts cannot read and other sites cannot send.
#[test]
fn the_token_is_exchanged_for_a_cookie() {
    let (_emulator, control) = start_with(|builder| builder.control_token(TOKEN));
    let (_other_emulator, other) = start_with(|builder| builder.control_token(TOKEN));
    for (body, status) in [
        (json!({ "token": "wrong-wrong-wrong-wrong" }), 401),
        (json!({ "token": "" }), 401),
        (json!({ "token": 7 }), 400),
        (json!({}), 400),
        (json!({ "token": TOKEN, "x": 1 }), 400),
    ] {
        let (got, answer) = control.try_post("session", &body);
        assert_eq!(got, status, "{body}");
        assert!(!answer.to_string().contains(TOKEN), "{answer}");
    }
    let session = |control: &Control| {
        let request = control.request(Method::POST, "session").header(CONTENT_TYPE, "application/json");
        let response = request.body(json!({ "token": TOKEN }).to_string()).send().unwrap();
        assert_eq!(response.status(), 204);
        check_headers(response.headers(), "session");
        response.headers()[SET_COOKIE].to_str().unwrap().to_owned()
    };
    let cookie = session(&control);
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
    assert!(pair.starts_with(&format!("dps-emulator-{}=", control.port())) && !cookie.contains(TOKEN));
    let foreign = session(&other);
    let (foreign, _) = foreign.split_once(';').unwrap();
    let renamed = format!("dps-emulator-{}={}", control.port(), foreign.split_once('=').unwrap().1);
    for (cookie, status) in [
        (pair.to_owned(), 200),
        (format!("a=b; {pair};c=d"), 200),
        (format!("dps-emulator-{}=x; {pair}", control.port()), 200),
        (foreign.to_owned(), 401),
        (renamed, 401),
        (pair.to_uppercase(), 401),
        (format!("x{pair}"), 401),
        (pair[..pair.len() - 1].to_owned(), 401),
        (format!("dps-emulator-{}=", control.port()), 401),
        (format!("dps-emulator-{}={TOKEN}", control.port()), 401),
    ] {
        for (method, path) in [("GET", "health"), ("GET", "events"), ("POST", "reset")] {
            let response = send(&control, method, path, &[(COOKIE.as_str(), &cookie)]);
            assert_eq!(response.status(), status, "{cookie} {path}");
        }
    }
    // The cookie does not help another page.
    let origin =
        [(COOKIE.as_str(), pair), (ORIGIN.as_str(), "http://example.com"), (ACCEPT.as_str(), "text/event-stream")];
    assert_eq!(send(&control, "GET", "events", &origin).status(), 403);
    // If the emulator has no token, there is nothing to exchange.
    let (_open_emulator, open) = start_with(|builder| builder);
    let response = send(&open, "POST", "session", &[(CONTENT_TYPE.as_str(), "application/json")]);
    assert_eq!(response.status(), 400);
    let request = open.request(Method::POST, "session").header(CONTENT_TYPE, "application/json");
    let response = request.body(r#"{"token":"x"}"#).send().unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get(SET_COOKIE)), (204, None));
}

/// Other machines can use the control API only with a token that cannot be guessed.
#[test]
fn without_a_token_it_listens_on_loopback_only() {
    for (address, token, words) in [
        ("0.0.0.0:0", None, "is not a loopback address, so other machines could use the control API: set a token"),
        ("0.0.0.0:0", Some(""), "fewer than 16 characters"),
        ("127.0.0.1:0", Some("fifteen-letters"), "fewer than 16 characters"),
        ("127.0.0.1:0", Some("with a space in the token"), "other than letters"),
        ("127.0.0.1:0", Some("with-ü-in-the-token"), "other than letters"),
    ] {
        let mut builder = builder(Config::contoso()).control(address);
        if let Some(token) = token {
            builder = builder.control_token(token);
        }
        match builder.start() {
            Err(StartError::Control(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{address} {token:?}: {other:?}"),
        }
    }
    let emulator = builder(Config::contoso()).control("0.0.0.0:0").control_token(TOKEN).start().unwrap();
    let port = Control::of(&emulator).port();
    let control = Control::at(&format!("http://127.0.0.1:{port}"));
    assert_eq!(control.try_get("health").0, 401);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(send(&control, "GET", "health", &[(AUTHORIZATION.as_str(), &bearer)]).status(), 200);
    assert!(!format!("{emulator:?}").contains(TOKEN));
}
