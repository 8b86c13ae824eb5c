//! The text of every error, and who is at fault.

mod support;

use std::io;

use azure_dps::identity::tpm::TpmError;
use azure_dps::json::Object;
use azure_dps::{
    DeviceKey, Error, IdScope, Registration, RegistrationId, RetryPolicy,
    after::ReprovisioningPolicy,
    blocking,
    error::{BufferTooSmall, Fault, Malformed, PayloadError, TransportError},
    https,
    identity::SignError,
    provisioning::{Answer, Endpoint},
};
use support::*;

/// Returns the error of a run of the toaster that gets this answer.
fn refused(status: u16, body: &str) -> Error {
    let mut provisioning = toaster();
    provisioning.start(Default::default(), UNIX_TIME);
    provisioning.on_answer(Default::default(), Answer::new(status, None, body.as_bytes()));
    provisioning.result(body.as_bytes()).unwrap_err()
}

/// Returns the error of a run that loses its operation twice, with this answer to the poll.
fn lost_operation(body: &str) -> Error {
    let peers = [answers(202, Some(1), ASSIGNING), answers(404, None, body)];
    Bench::start(&mut toaster()).run(&[&peers[..], &peers[..]].concat()).unwrap_err()
}

fn json(text: &str) -> Malformed {
    Malformed::Json(Object::parse(text).unwrap_err())
}

#[test]
fn each_error_has_its_text_and_fault() {
    let too_long = "x".repeat(129);
    let rows: &[(Error, Fault, &str)] = &[
        (
            IdScope::new("0ne/1").unwrap_err().into(),
            Fault::Caller,
            "the ID scope has a character at position 3 that is not allowed: use letters, digits, - . _",
        ),
        (IdScope::new("").unwrap_err().into(), Fault::Caller, "the ID scope is empty"),
        (
            RegistrationId::new(&too_long).unwrap_err().into(),
            Fault::Caller,
            "the registration ID is longer than 128 characters",
        ),
        (
            DeviceKey::from_base64("JC8F96ea*").unwrap_err().into(),
            Fault::Caller,
            "the symmetric key is not base64: wrong at position 8",
        ),
        (
            DeviceKey::from_base64("JC8F96ea").unwrap_err().into(),
            Fault::Caller,
            "the symmetric key must be base64 of 16 to 64 bytes",
        ),
        (
            Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap())
                .with_payload("[1]")
                .unwrap_err(),
            Fault::Caller,
            "the payload is not a JSON object: JSON is not an object at position 0",
        ),
        (
            Endpoint::parse("http://example.com").unwrap_err(),
            Fault::Caller,
            "the endpoint must be host, host:port or an https:// URL of these; http:// is for loopback addresses only",
        ),
        (Error::NotStarted, Fault::Caller, "no provisioning run was started: call start() first"),
        (Error::NotFinished, Fault::Caller, "the provisioning run is not finished: drive it until Step::Finished"),
        (Error::NotDue, Fault::Caller, "no request is due: call step() first"),
        (Error::WrongBuffer, Fault::Caller, "the buffer no longer holds the last answer"),
        (SignError::new("no answer").into(), Fault::Caller, "the signer could not sign: no answer"),
        (
            TpmError::new("integrity check failed").into(),
            Fault::Credential,
            "the TPM could not load the key that the service encrypted (integrity check failed): check that this TPM was enrolled",
        ),
        (Error::InvalidCsr, Fault::Caller, "the certificate signing request is not one PKCS #10 document in DER"),
        (
            Error::Unsupported,
            Fault::Caller,
            "this transport cannot do that: TPM and status look-up need HTTP; client certificates and a proxy do not work with minreq",
        ),
        (BufferTooSmall::at_least(700).into(), Fault::Caller, "the buffer is too small: at least 700 bytes are needed"),
        (
            Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap())
                .with_serialized(&["x"; 9], &mut [0; 8])
                .unwrap_err(),
            Fault::Caller,
            "the buffer is too small: at least 9 bytes are needed",
        ),
        (
            refused(401, r#"{"errorCode":401000,"trackingId":"6d75a1fe-0129-4f41-844b-c253a6653d4f"}"#),
            Fault::Credential,
            "the service refused the request: 401000, the credential was refused: check the key or certificate, the ID scope, the registration ID and the clock (tracking ID 6d75a1fe-0129-4f41-844b-c253a6653d4f)",
        ),
        (refused(302, ""), Fault::Peer, "the service refused the request: HTTP status 302"),
        (
            refused(200, r#"{"status":"failed","registrationState":{"errorCode":400208}}"#),
            Fault::Refused,
            "the registration failed: 400208, the custom allocation webhook named no IoT hub",
        ),
        (
            refused(200, r#"{"status":"failed","registrationState":{"errorCode":401002}}"#),
            Fault::Refused,
            "the registration failed: 401002, access was refused: check the service's access to the hub",
        ),
        (Error::Disabled, Fault::Refused, "the enrollment is disabled: the operator must enable it"),
        (Error::Unassigned, Fault::Refused, "the registration has no hub, or no hub yet"),
        (Malformed::HttpHead.into(), Fault::Peer, "the service's answer is invalid: its HTTP head is malformed"),
        (
            Malformed::TooManyHeaders.into(),
            Fault::Peer,
            "the service's answer is invalid: it has too many header lines",
        ),
        (Malformed::HttpChunk.into(), Fault::Peer, "the service's answer is invalid: its chunked body is malformed"),
        (Malformed::MqttTopic.into(), Fault::Peer, "the service's answer is invalid: its MQTT topic has no status"),
        (json(r#"{"a":1,}"#).into(), Fault::Peer, "the service's answer is invalid: JSON syntax error at position 7"),
        (json("{").into(), Fault::Peer, "the service's answer is invalid: JSON ends too early at position 1"),
        (
            json(&format!("{{\"a\":{}", "[".repeat(64))).into(),
            Fault::Peer,
            "the service's answer is invalid: JSON is nested too deeply at position 68",
        ),
        (json("7").into(), Fault::Peer, "the service's answer is invalid: JSON is not an object at position 0"),
        (
            json("{}{}").into(),
            Fault::Peer,
            "the service's answer is invalid: the JSON is followed by other text at position 2",
        ),
        (
            Malformed::Missing("assignedHub").into(),
            Fault::Peer,
            "the service's answer is invalid: `assignedHub` is missing",
        ),
        (
            Malformed::Invalid("assignedHub").into(),
            Fault::Peer,
            "the service's answer is invalid: `assignedHub` has an invalid value",
        ),
        (Malformed::Duplicate("status").into(), Fault::Peer, "the service's answer is invalid: `status` occurs twice"),
        (
            Malformed::Contradiction("status").into(),
            Fault::Peer,
            "the service's answer is invalid: `status` contradicts another field or the request",
        ),
        (Error::StillAssigning, Fault::Busy, "the time-out of this run passed while the service was still assigning"),
        (Error::TimedOut, Fault::Transport, "the time-out of this run passed before the service answered"),
        (
            lost_operation(r#"{"errorCode":404201,"trackingId":"6d75a1fe-0129-4f41-844b-c253a6653d4f"}"#),
            Fault::Busy,
            "the service lost the operation of this registration (tracking ID 6d75a1fe-0129-4f41-844b-c253a6653d4f)",
        ),
        (
            Error::Untrusted,
            Fault::Peer,
            "the server did not prove that it is the service: check the roots, the host name and the clock",
        ),
        (Error::Transport(TransportError::Connect), Fault::Transport, "cannot connect to the service"),
        (Error::Transport(TransportError::Stream), Fault::Transport, "the connection to the service failed"),
        (
            Error::Transport(TransportError::Closed),
            Fault::Transport,
            "the connection was closed before the answer was complete",
        ),
        (Error::Transport(TransportError::Stalled), Fault::Transport, "the service did not answer in time"),
    ];
    for (error, fault, text) in rows {
        assert_eq!(error.to_string(), *text, "{error:?}");
        assert_eq!(error.fault(), *fault, "{error:?}");
        assert_eq!(error.is_retryable(), matches!(fault, Fault::Busy | Fault::Transport), "{error:?}");
    }
}

#[test]
fn debug_equals_the_derived_one() {
    for (malformed, text) in [
        (Malformed::HttpHead, "HttpHead"),
        (Malformed::TooManyHeaders, "TooManyHeaders"),
        (Malformed::HttpChunk, "HttpChunk"),
        (Malformed::MqttTopic, "MqttTopic"),
        (json("7"), "Json(JsonError { problem: NotAnObject, position: 0 })"),
        (Malformed::Missing("etag"), r#"Missing("etag")"#),
        (Malformed::Invalid("etag"), r#"Invalid("etag")"#),
        (Malformed::Duplicate("etag"), r#"Duplicate("etag")"#),
        (Malformed::Contradiction("etag"), r#"Contradiction("etag")"#),
    ] {
        assert_eq!(format!("{malformed:?}"), text);
    }
    for (error, text) in [
        (PayloadError::Missing("name"), r#"Missing("name")"#),
        (
            PayloadError::BufferTooSmall(BufferTooSmall::at_least(9)),
            "BufferTooSmall(BufferTooSmall { needed: 9, exact: false })",
        ),
        (PayloadError::Unfit, "Unfit"),
    ] {
        assert_eq!(format!("{error:?}"), text);
    }
}

/// The error keeps what a stream or a client reports, and its text contains the report.
#[test]
fn the_transports_add_their_own_cause() {
    use std::error::Error as _;
    type StreamError = blocking::Error<io::Error, io::Error>;

    let cause = || io::Error::other("the modem sleeps");
    for (error, kind, text) in [
        (
            StreamError::Connect(cause()),
            Error::Transport(TransportError::Connect),
            "cannot connect to the service: the modem sleeps",
        ),
        (
            StreamError::Stream(cause()),
            Error::Transport(TransportError::Stream),
            "the connection to the service failed: the modem sleeps",
        ),
        (
            StreamError::Untrusted(cause()),
            Error::Untrusted,
            "the server did not prove that it is the service: check the roots, the host name and the clock: the modem sleeps",
        ),
    ] {
        assert_eq!((error.kind(), error.fault(), error.to_string().as_str()), (kind, kind.fault(), text));
        assert_eq!(error.source().unwrap().to_string(), "the modem sleeps");
    }
    // A function that provisions may use `?` on all earlier steps.
    let invalid_key = DeviceKey::from_base64("").unwrap_err();
    let invalid_id = RegistrationId::new("").unwrap_err();
    let too_small = BufferTooSmall::at_least(1);
    for (error, kind) in [
        (StreamError::from(Error::NotDue), Error::NotDue),
        (invalid_key.into(), invalid_key.into()),
        (invalid_id.into(), invalid_id.into()),
        (too_small.into(), too_small.into()),
    ] {
        assert_eq!((error.kind(), error.to_string()), (kind, kind.to_string()));
        assert!(error.source().is_none());
    }
    let error = https::Error::from(Error::TimedOut);
    assert_eq!(
        (error.kind(), error.fault(), error.to_string()),
        (Error::TimedOut, Fault::Transport, Error::TimedOut.to_string())
    );
    assert!(error.source().is_none());

    assert_eq!(SignError::new("no answer").reason(), "no answer");
    assert_eq!(TpmError::new("no answer"), TpmError::Refused("no answer"));
    assert_eq!(Error::from(TransportError::Closed), Error::Transport(TransportError::Closed));
}

#[test]
fn default_equals_new() {
    assert_eq!(RetryPolicy::default(), RetryPolicy::new());
    assert_eq!(ReprovisioningPolicy::default(), ReprovisioningPolicy::new());
    assert_eq!(Endpoint::default(), Endpoint::GLOBAL);
}
