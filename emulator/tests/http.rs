//! HTTP: statuses, headers, framing, and rejected requests.

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use azure_dps_emulator::{Config, Emulator};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, blocking::Response};
use serde_json::json;
use support::*;

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn is_guid(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Checks a time such as `2026-01-02T03:04:05.6789012Z`, without zeros at the end of the fraction.
fn is_time(text: &str) -> bool {
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let form: String = text.chars().map(digits).collect();
    let fraction = form.strip_prefix("0000-00-00T00:00:00").and_then(|rest| rest.strip_suffix('Z'));
    fraction.is_some_and(|fraction| ".0000000".starts_with(fraction)) && !text.ends_with("0Z")
}

/// "202 example: Date, Content-Type, Transfer-Encoding: chunked, Location (no operation id), Retry-After: 3,
/// x-ms-request-id", for the register answer and for polls.
#[test]
fn an_answer_in_progress_has_the_documented_head() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let response = device.put();
    assert_eq!(response.status(), 202);
    assert_eq!(header(&response, "content-type"), "application/json; charset=utf-8");
    assert_eq!(header(&response, "transfer-encoding"), "chunked");
    assert_eq!(header(&response, "retry-after"), "3");
    assert_eq!(header(&response, "location"), format!("{}{}/register", device.url, device.path()));
    assert!(is_guid(&header(&response, "x-ms-request-id")));
    assert!(!header(&response, "date").is_empty());
    assert!(header(&response, "x-ms-error-code").is_empty());

    let (_, body) = answer(response);
    assert!(body.get("registrationState").is_none(), "{body}");
    let poll = device.get(body["operationId"].as_str().unwrap());
    assert_eq!((poll.status().as_u16(), header(&poll, "retry-after").as_str()), (202, "3"));
}

/// "operationId grammar seen: `4.` or `5.` + 16 hex + `.` + GUID (~55 chars)", and "RFC 3339 UTC, 7 fractional digits
/// in practice", without trailing zeros.
#[test]
fn ids_and_times_have_the_services_form() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let body = device.provision();
    let parts: Vec<_> = body["operationId"].as_str().unwrap().split('.').collect();
    assert_eq!((parts[0], parts[1].len(), is_guid(parts[2])), ("5", 16, true));
    assert!(parts[1].chars().all(|c| c.is_ascii_hexdigit()));
    let state = &body["registrationState"];
    for name in ["createdDateTimeUtc", "lastUpdatedDateTimeUtc"] {
        assert!(is_time(state[name].as_str().unwrap()), "{state}");
    }
    // Base64 of an entity tag with its quotes.
    let etag = BASE64_STANDARD.decode(state["etag"].as_str().unwrap()).unwrap();
    assert!(etag.starts_with(b"\"") && etag.ends_with(b"0000\""));
    let names: Vec<_> = state.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "symmetricKey",
            "registrationId",
            "createdDateTimeUtc",
            "assignedHub",
            "deviceId",
            "status",
            "substatus",
            "lastUpdatedDateTimeUtc",
            "etag"
        ]
    );
}

/// `Retry-After` and chunking can be configured, because the service may change them.
#[test]
fn retry_after_and_framing_are_configurable() {
    let emulator = changed(|config| {
        config.behaviour.retry_after = None;
        config.behaviour.chunked = false;
    });
    let response = Device::of_group(&emulator, TOASTER).put();
    assert!(header(&response, "retry-after").is_empty());
    assert!(header(&response, "transfer-encoding").is_empty());
    assert!(!header(&response, "content-length").is_empty());
}

/// "Any other status: body ProvisioningServiceErrorDetails and possibly header x-ms-error-code."
#[test]
fn a_rejected_request_has_an_error_body() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let response = device.unsigned(Method::PUT, &format!("{}/register{VERSION}", device.path())).send().unwrap();
    assert_eq!(header(&response, "x-ms-error-code"), "401000");
    let (status, body) = answer(response);
    assert_eq!((status, &body["errorCode"]), (401, &json!(401_000)));
    assert_eq!(body["message"], "Unauthorized");
    assert!(is_guid(body["trackingId"].as_str().unwrap()));
    assert!(is_time(body["timestampUtc"].as_str().unwrap()));
}

/// The HTTP statuses 400, 404, 405, 413 and 415, each with a body.
#[test]
fn an_unknown_request_is_rejected_with_a_body() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let register = format!("{}/register{VERSION}", device.path());
    let no_version = format!("{}/register", device.path());
    let elsewhere = format!("/{SCOPE}/something{VERSION}");
    let json = "application/json";
    let long = format!(r#"{{"payload":{{"x":"{}"}}}}"#, "x".repeat(96 * 1024));
    for (method, path, media_type, body, status, code) in [
        (Method::PUT, &register, json, "{", 400, 400_012),
        (Method::PUT, &register, json, "[]", 400, 400_012),
        (Method::PUT, &register, json, r#"{"registrationId":7}"#, 400, 400_012),
        (Method::PUT, &no_version, json, "", 400, 400_000),
        (Method::PUT, &register, json, r#"{"registrationId":"other"}"#, 400, 400_004),
        (Method::PUT, &elsewhere, json, "", 404, 404_000),
        (Method::POST, &register, json, "", 405, 405_000),
        (Method::PUT, &register, json, &long, 413, 413_000),
        (Method::PUT, &register, "text/plain", "{}", 415, 415_000),
    ] {
        let response =
            device.request(method, path).header("Content-Type", media_type).body(body.to_owned()).send().unwrap();
        if status == 405 {
            assert_eq!(header(&response, "allow"), "PUT");
        }
        let (got, answer) = answer(response);
        assert_eq!((got, &answer["errorCode"]), (status, &json!(code)), "{path}");
        let tracking_id = answer["trackingId"].as_str().unwrap();
        assert!(if code == 400_012 { tracking_id.is_empty() } else { is_guid(tracking_id) }, "{answer}");
    }
}

/// Unusual requests of Microsoft's clients and examples are accepted.
#[test]
fn unusual_requests_of_clients_are_accepted() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let body = device.registration().to_string();
    for (path, name, value, body) in [
        ("?api-version=2019-03-31", "Content-Type", "application/json; charset=utf-8", &*body),
        ("?api-version=2021-06-01", "Content-Encoding", "utf-8", &*body),
        ("?api-version=2021-06-01", "Host", "global.azure-devices-provisioning.net:443", &*body),
        ("?api-version=2019-03-31&forceRegistration=true", "Content-Type", "application/json", &*body),
        ("?api-version=2019-03-31", "UserAgent", "prov_device_client/1.0", &*body),
        ("?api-version=2019-03-31", "Content-Type", "application/json", ""),
        ("?api-version=2019-03-31", "Content-Type", "text/plain", ""),
        ("?api-version=2019-03-31", "Content-Type", "APPLICATION/JSON", "{\"unknown\":[1]}"),
    ] {
        let response = device
            .request(Method::PUT, &format!("{}/register{path}", device.path()))
            .header(name, value)
            .body(body.to_owned())
            .send()
            .unwrap();
        assert_eq!(response.status(), 202, "{path} {name}: {value}");
    }
}

/// "accept any api-version in §1.6 (strict mode rejects unknown with 400)".
#[test]
fn unknown_api_versions_are_refused_only_when_strict() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let put = |version: &str| {
        device
            .request(Method::PUT, &format!("{}/register?api-version={version}", device.path()))
            .send()
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(put("2031-01-01"), 202);
    emulator.update(|config| config.behaviour.strict_api_version = true);
    assert_eq!(put("2031-01-01"), 400);
    for known in ["2019-03-31", "2021-06-01", "2025-07-01-preview", "2026-11-01"] {
        assert_eq!(put(known), 202, "{known}");
    }
}

/// "Registration ID: ≤128 chars; ASCII alphanumerics plus `-` `.` `_` `:`; last char alphanumeric
/// or `-`": else 400004.
#[test]
fn a_bad_registration_id_is_400004() {
    let emulator = contoso();
    for (id, status) in [
        ("a".repeat(128), 202),
        ("-a".into(), 202),
        ("a-".into(), 202),
        ("a_b.c:d".into(), 202),
        ("a".repeat(129), 400),
        ("a.".into(), 400),
        ("a_".into(), 400),
        ("a%20b".into(), 400),
        ("%C3%A9".into(), 400),
    ] {
        let device = Device::of_group(&emulator, &id);
        let (got, body) = answer(device.put());
        assert_eq!(got, status, "{id}: {body}");
        if status == 400 {
            assert_eq!(body["errorCode"], 400_004);
            assert_eq!(body["message"], "Invalid RegistrationId");
        }
    }
}

/// A poll of an unknown operation and a look-up of an unknown device are 404201.
#[test]
fn unknown_registrations_are_404201() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let (status, body) = device.lookup();
    assert_eq!((status, &body["errorCode"]), (404, &json!(404_201)));
    device.register();
    let (status, body) = answer(device.get("5.0123456789abcdef.00000000-0000-0000-0000-000000000000"));
    assert_eq!((status, &body["errorCode"]), (404, &json!(404_201)));
    // An operation belongs to its device.
    let other = Device::of_group(&emulator, HEAT_PUMP);
    let (status, _) = answer(other.get(&device.register()));
    assert_eq!(status, 404);
}

/// "Registration status lookup: DeviceRegistrationResult (bare, no operationId wrapper). Lookup
/// does not register."
#[test]
fn a_look_up_returns_the_bare_state() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let state = device.assigned();
    let (status, body) = device.lookup();
    assert_eq!((status, body), (200, state));
    assert_eq!(emulator.device(TOASTER).unwrap().registrations, 1);
    // "csr in a status-lookup POST → bad request"
    let response = device
        .request(Method::POST, &format!("{}{VERSION}", device.path()))
        .body(json!({ "registrationId": TOASTER, "csr": "AAAA" }).to_string())
        .send()
        .unwrap();
    assert_eq!(response.status(), 400);
}

/// A second register starts a new operation. The old operation can still be polled.
#[test]
fn each_register_is_an_operation_of_its_own() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let (first, second) = (device.register(), device.register());
    assert_ne!(first, second);
    assert_eq!(device.poll(&first)["operationId"], *first);
    assert_eq!(device.poll(&second)["operationId"], *second);
}

/// "409203: precondition failed: concurrent registration of same ID", if it is configured.
#[test]
fn a_concurrent_register_is_409203_on_request() {
    let mut config = Config::contoso();
    config.behaviour.refuse_concurrent_registration = true;
    let webhook = HeldWebhook::start();
    let emulator = builder(config).webhook(webhook.url()).start().unwrap();
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    let (call, _) = webhook.call();
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["errorCode"]), (409, &json!(409_203)));
    drop(call);
    device.poll(&operation_id);
    assert_eq!(device.put().status(), 202);
}

/// "Quotas: register 1000/min, operations 1000/min; device polling 5 per 10 s". Each can be configured, and its
/// answer is 429001 with Retry-After.
#[test]
fn quotas_are_429001_on_request() {
    fn throttled(response: Response) {
        assert_eq!(header(&response, "retry-after"), "3");
        let (status, body) = answer(response);
        assert_eq!((status, &body["errorCode"]), (429, &json!(429_001)));
        assert_eq!(body["message"], "Operations are being throttled for this tenant.");
    }
    let emulator = Emulator::builder(Config::contoso()).start().unwrap();
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    emulator.update(|config| config.behaviour.device_polls_per_10s = Some(5));
    for _ in 0..5 {
        assert!(device.get(&operation_id).status().is_success());
    }
    throttled(device.get(&operation_id));
    emulator.update(|config| {
        config.behaviour.device_polls_per_10s = None;
        config.behaviour.operations_per_minute = Some(1);
        config.behaviour.registrations_per_minute = Some(1);
    });
    assert!(device.get(&operation_id).status().is_success());
    throttled(device.get(&operation_id));
    assert_eq!(device.put().status(), 202);
    throttled(device.put());
}

/// The register answer may be the result: "200 or 202".
#[test]
fn a_register_can_be_answered_with_the_result() {
    let emulator = changed(|config| config.behaviour.result_at_once = true);
    let (status, body) = answer(Device::of_group(&emulator, TOASTER).put());
    assert_eq!((status, &body["status"]), (200, &json!("assigned")));
    assert_eq!(body["registrationState"]["assignedHub"], TOASTERS_HUB);
}

/// Several requests at once on one connection. Header names are written as in the service.
#[test]
fn a_connection_is_kept_alive_and_may_be_pipelined() {
    let emulator = contoso();
    let address = emulator.http_url().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "PUT /{SCOPE}/registrations/{TOASTER}/register{VERSION} HTTP/1.1\r\nHost: x\r\n\
         Authorization: {}\r\nContent-Length: 0\r\n",
        token(&derive(GROUP_KEY, TOASTER), TOASTER)
    );
    write!(stream, "{request}\r\n{request}Connection: close\r\n\r\n").unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 202 Accepted\r\n").count(), 2, "{answers}");
    assert!(answers.contains("\r\nRetry-After: 3\r\n"));
}

/// A client that closes its side after the request still gets the answer.
#[test]
fn a_half_closed_connection_is_answered() {
    let emulator = contoso();
    emulator.update(|config| config.behaviour.result_at_once = true);
    let address = emulator.http_url().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "PUT /{SCOPE}/registrations/{TOASTER}/register{VERSION} HTTP/1.1\r\nHost: x\r\n\
         Authorization: {}\r\nContent-Length: 0\r\n\r\n",
        token(&derive(GROUP_KEY, TOASTER), TOASTER)
    )
    .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// A call of the service API with a misspelt path reaches the device API. Its keys are not recorded.
#[test]
fn a_body_without_a_route_leaves_no_key_in_the_records() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    for path in ["/enrollment/x", "/enrolmentGroups/x"] {
        let body = json!({ "attestation": { "symmetricKey": { "primaryKey": OTHER_KEY } } }).to_string();
        let answer = device.unsigned(Method::PUT, path).body(body).send().unwrap();
        assert_eq!(answer.status(), 404);
    }
    let records = emulator.requests();
    assert!(records.iter().all(|record| record.body.contains("****")) && records.len() == 2, "{records:?}");
    assert!(!format!("{records:?}").contains(OTHER_KEY));
}
