//! The status look-up: it returns the assignment and registers nothing.

mod support;

use std::time::Duration;

use azure_dps::{
    Attestation, Error, Provisioning,
    error::{ErrorCode, Fault, Malformed, TransportError},
    identity::Csr,
    provisioning::Progress,
};
use support::*;

fn lookup() -> Provisioning<'static> {
    Provisioning::lookup(registration(TOASTER).with_payload(PAYLOAD).unwrap(), Attestation::symmetric_key())
}

/// Returns a `DeviceRegistrationResult` as the service answers a look-up.
fn state(members: &str) -> String {
    format!(r#"{{"registrationId":"{TOASTER}",{members}}}"#)
}

fn assigned() -> String {
    state(&format!(
        r#""status":"assigned","substatus":"initialAssignment","assignedHub":"{TOASTERS_HUB}","deviceId":"{TOASTER}","payload":{{"property1":"value1"}}"#
    ))
}

#[test]
fn the_request_is_that_of_the_rest_specification() {
    let mut provisioning = lookup();
    let mut bench = Bench::start(&mut provisioning);
    assert_eq!(bench.run(&[answers(200, None, assigned())]), Ok((TOASTERS_HUB.into(), TOASTER.into())));
    let [request] = &bench.sent[..] else { panic!("{:?}", bench.sent) };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("POST /{SCOPE}/registrations/{TOASTER}?api-version=2021-06-01 HTTP/1.1\r\n")));
    assert!(head.contains(&format!("Authorization: SharedAccessSignature sr={SCOPE}%2fregistrations%2f{TOASTER}&")));
    assert!(head.contains("Content-Type: application/json\r\n"));
    // The service rejects a csr here, and ignores the payload.
    assert_eq!(body, format!(r#"{{"registrationId":"{TOASTER}"}}"#));
    assert_eq!(bench.progress, [Progress::LookingUp, Progress::Assigned]);
}

#[test]
fn a_csr_is_not_looked_up() {
    let request = rcgen::CertificateParams::default().serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let csr = Csr::from_der(request.der()).unwrap();
    let mut provisioning = Provisioning::lookup(registration(TOASTER).with_csr(csr), Attestation::x509());
    let mut bench = Bench::start(&mut provisioning);
    bench.run(&[answers(200, None, assigned())]).unwrap();
    assert!(bench.sent[0].ends_with(&format!("\r\n\r\n{{\"registrationId\":\"{TOASTER}\"}}")));
    // So the look-up does not need the newer api-version.
    assert!(bench.sent[0].contains("?api-version=2021-06-01 "));
}

#[test]
fn the_whole_registration_state_is_readable() {
    let mut provisioning = lookup();
    let body = assigned();
    Bench::start(&mut provisioning).run(&[answers(200, None, body.as_str())]).unwrap();
    let assignment = provisioning.result(body.as_bytes()).unwrap();
    assert_eq!(assignment.substatus(), Some(azure_dps::provisioning::Substatus::InitialAssignment));
    assert_eq!(assignment.payload().unwrap().raw(), r#"{"property1":"value1"}"#);
    assert_eq!(assignment.registration_state().raw(), body);
}

#[test]
fn every_status_has_its_outcome() {
    let failed = state(r#""status":"failed","errorCode":400207,"errorMessage":"words""#);
    for (body, expected) in [
        (state(r#""status":"unassigned""#), Error::Unassigned),
        (state(r#""status":"assigning""#), Error::Unassigned),
        (state(r#""status":"somethingNew""#), Error::Unassigned),
        (state(r#""status":"disabled""#), Error::Disabled),
        (state(r#""etag":"x""#), Malformed::Missing("status").into()),
        (state(r#""status":"assigned","deviceId":"d""#), Malformed::Missing("assignedHub").into()),
        (
            state(r#""status":"assigned","assignedHub":"h","deviceId":"d","deviceId":"d""#),
            Malformed::Duplicate("deviceId").into(),
        ),
        (assigned().replace(TOASTER, HEAT_PUMP), Malformed::Contradiction("registrationId").into()),
        // The answer to a register request is not an answer to a look-up.
        (ASSIGNED.into(), Malformed::Missing("assignedHub").into()),
    ] {
        let mut provisioning = lookup();
        let mut bench = Bench::start(&mut provisioning);
        assert_eq!(bench.run(&[answers(200, None, body.as_str())]), Err(expected), "{body}");
        assert_eq!(bench.sent.len(), 1);
    }
    let mut provisioning = lookup();
    let error = Bench::start(&mut provisioning).run(&[answers(200, None, failed.as_str())]).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::CUSTOM_ALLOCATION_FAILED));
    assert!(provisioning.details(failed.as_bytes()).unwrap().message().unwrap() == "words");
    assert_eq!(Error::Unassigned.fault(), Fault::Refused);
}

#[test]
fn throttling_and_the_network_are_retried_and_not_found_is_final() {
    let mut provisioning = lookup();
    let mut bench = Bench::start(&mut provisioning);
    let throttled = r#"{"errorCode":429001,"trackingId":"","message":"","timestampUtc":""}"#;
    bench
        .run(&[
            answers(429, Some(27), throttled),
            Peer::Fails(Error::Transport(TransportError::Closed)),
            // The answer is cut short.
            answers(200, None, &assigned()[..60]),
            answers(200, None, assigned()),
        ])
        .unwrap();
    assert!((27..=54).contains(&bench.waits[0].as_secs()), "{:?}", bench.waits);
    assert!(bench.sent.iter().all(|request| request.starts_with("POST ")) && bench.sent.len() == 4);

    let body = r#"{"errorCode":404201,"trackingId":"","message":"Registration not found","timestampUtc":""}"#;
    let error = Bench::start(&mut provisioning).run(&[answers(404, None, body)]).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ENROLLMENT_NOT_FOUND));
}

#[test]
fn a_look_up_over_mqtt_is_unsupported() {
    let mut provisioning = lookup();
    provisioning.start(Duration::ZERO, UNIX_TIME);
    let mut buffer = [0; 512];
    provisioning.sign_with(&mut toaster_key(), &mut buffer).unwrap();
    assert_eq!(azure_dps::mqtt::write_password(&provisioning, &mut buffer), Err(Error::Unsupported));
    let publish = azure_dps::mqtt::write_publish(&mut provisioning, Duration::ZERO, &mut buffer);
    assert_eq!(publish, Err(Error::Unsupported));
}
