//! Answers with an invalid optional member, and errors that name who is at fault.

mod support;

use std::time::Duration;

use azure_dps::http::write_request;
use azure_dps::{
    Attestation, Error, Provisioning,
    after::Record,
    error::{ErrorCode, Fault, Malformed, RecordError, ServiceError},
    identity::{Csr, KeyChoice, tpm::TpmKeys},
    mqtt,
    provisioning::{Answer, MAX_BODY, OwnedAssignment, Progress, Step},
};
use serde_json::{Value, json};
use support::*;

const TRACKING_ID: &str = "6d75a1fe-0129-4f41-844b-c253a6653d4f";

/// A value of each JSON type. The service sends none of them.
const ODD: [&str; 7] = ["409", "-1.5e3", "true", "[]", "{}", "\"odd\"", "[{\"errorCode\":1}]"];

/// Runs a registration up to this answer. If the answer leads to a poll, the run stops there.
fn after(provisioning: &mut Provisioning<'_>, status: u16, body: &str) -> Result<Step, Error> {
    provisioning.start(Duration::ZERO, UNIX_TIME);
    provisioning.on_answer(Duration::ZERO, Answer::new(status, None, body.as_bytes()));
    match provisioning.step(Duration::ZERO) {
        Step::Finished => provisioning.result(body.as_bytes()).map(|_| Step::Finished),
        step => Ok(step),
    }
}

fn registered(status: u16, body: &str) -> Result<Step, Error> {
    after(&mut Provisioning::new(registration(TOASTER), Attestation::x509()), status, body)
}

fn refusal(status: u16, body: &str) -> ServiceError {
    match registered(status, body) {
        Err(Error::Refused(refusal) | Error::Failed(refusal)) => refusal,
        other => panic!("{body}: {other:?}"),
    }
}

/// Returns the document with each member, except the needed ones, set to each odd value.
fn with_odd_members(document: &str, members: &[&str], needed: &[&str]) -> Vec<String> {
    let document: Value = serde_json::from_str(document).unwrap();
    let mut documents = Vec::new();
    for member in members.iter().filter(|member| !needed.contains(member)) {
        for odd in ODD {
            let odd: Value = serde_json::from_str(odd).unwrap();
            let mut changed = document.clone();
            match member.strip_prefix("registrationState.") {
                Some(member) => changed["registrationState"][member] = odd,
                None => changed[*member] = odd,
            }
            documents.push(changed.to_string());
        }
    }
    documents
}

const MEMBERS: [&str; 19] = [
    "status",
    "operationId",
    "errorCode",
    "trackingId",
    "message",
    "timestampUtc",
    "info",
    "registrationState",
    "registrationState.status",
    "registrationState.substatus",
    "registrationState.registrationId",
    "registrationState.assignedHub",
    "registrationState.deviceId",
    "registrationState.payload",
    "registrationState.errorCode",
    "registrationState.errorMessage",
    "registrationState.createdDateTimeUtc",
    "registrationState.symmetricKey",
    "registrationState.issuedCertificateChain",
];

#[test]
fn an_error_body_keeps_code_and_tracking_id_beside_any_other_member() {
    // In the form of RFC 7807.
    let problem = format!(
        r#"{{"type":"about:blank","title":"Conflict","status":409,"errorCode":404201,"trackingId":"{TRACKING_ID}"}}"#
    );
    let plain = format!(r#"{{"errorCode":404201,"trackingId":"{TRACKING_ID}","message":"words"}}"#);
    let flat: Vec<_> = MEMBERS.into_iter().filter(|member| !member.contains('.')).collect();
    let mut bodies = with_odd_members(&plain, &flat, &["errorCode", "trackingId"]);
    // A member that is not read, twice.
    bodies.push(plain.replace('{', r#"{"status":1,"status":2,"operationId":{},"operationId":"","#));
    bodies.push(problem);
    for body in bodies {
        let refusal = refusal(404, &body);
        assert_eq!(refusal.code, Some(ErrorCode::ENROLLMENT_NOT_FOUND), "{body}");
        assert_eq!(refusal.tracking_id.map(|id| id.to_string()).as_deref(), Some(TRACKING_ID), "{body}");
    }
    // If one of the two is invalid, the other is still used.
    for body in with_odd_members(&plain, &["trackingId"], &[]) {
        assert_eq!((refusal(404, &body).code, refusal(404, &body).tracking_id), (Some(404_201.into()), None), "{body}");
    }
    for body in with_odd_members(&plain, &["errorCode"], &[]).iter().filter(|body| !body.contains(":409")) {
        let refusal = refusal(404, body);
        assert_eq!((refusal.code, refusal.tracking_id.is_some()), (None, true), "{body}");
    }
}

#[test]
fn other_members_may_have_any_type() {
    let failed = format!(
        r#"{{"operationId":"{OPERATION}","status":"failed","registrationState":{{"status":"failed","errorCode":400207}}}}"#
    );
    let disabled = r#"{"operationId":"","status":"disabled","registrationState":{"status":"disabled"}}"#;
    let code = ["registrationState", "registrationState.errorCode"];
    for body in with_odd_members(&failed, &MEMBERS, &[&["status"][..], &code].concat()) {
        assert_eq!(refusal(200, &body).code, Some(ErrorCode::CUSTOM_ALLOCATION_FAILED), "{body}");
    }
    for body in with_odd_members(&failed, &code, &[]) {
        assert!(matches!(registered(200, &body), Err(Error::Failed(_))), "{body}");
    }
    for body in with_odd_members(disabled, &MEMBERS, &["status"]) {
        assert_eq!(registered(200, &body), Err(Error::Disabled), "{body}");
    }
    for body in with_odd_members(ASSIGNING, &MEMBERS, &["status", "operationId"]) {
        assert!(matches!(registered(202, &body), Ok(Step::Wait(_))), "{body}");
    }
    let needed = ["status", "registrationState", "registrationState.assignedHub", "registrationState.deviceId"];
    for body in &with_odd_members(ASSIGNED, &MEMBERS, &needed) {
        // Strings that contradict the other members.
        if [r#""registrationId":"odd""#, r#""status":"odd""#].iter().any(|contradiction| body.contains(contradiction)) {
            continue;
        }
        assert_eq!(registered(200, body), Ok(Step::Finished), "{body}");
        // The valid members are there.
        let assignment = assigned(&registration(TOASTER), body).unwrap();
        assert_eq!(assignment.hub().host(), TOASTERS_HUB);
        let _ = assignment.owned::<256>().unwrap();
        let mut buffer = [0; 2048];
        let record = assignment.write_record(&registration(TOASTER), KeyChoice::Primary, &mut buffer).unwrap();
        assert_eq!(Record::read(record, &registration(TOASTER)).unwrap().assignment(), assignment, "{body}");
    }
}

#[test]
fn a_look_up_needs_status_hub_and_device_id() {
    let document: Value = serde_json::from_str(ASSIGNED).unwrap();
    let state = document["registrationState"].to_string();
    let members: Vec<_> = MEMBERS.into_iter().filter_map(|member| member.strip_prefix("registrationState.")).collect();
    let needed = ["status", "assignedHub", "deviceId"];
    let lookup = |body: &str| {
        let mut provisioning = Provisioning::lookup(registration(TOASTER), Attestation::x509());
        after(&mut provisioning, 200, body)
    };
    for body in with_odd_members(&state, &members, &needed) {
        let is_another = body.contains(r#""registrationId":"odd""#);
        assert_eq!(lookup(&body).is_ok(), !is_another, "{body}");
    }
    for (member, odd) in needed.into_iter().flat_map(|member| ODD[..5].iter().map(move |odd| (member, odd))) {
        let mut changed: Value = serde_json::from_str(&state).unwrap();
        changed[member] = serde_json::from_str(odd).unwrap();
        assert_eq!(lookup(&changed.to_string()), Err(Malformed::Invalid(member).into()), "{member}: {odd}");
    }
}

#[test]
fn needed_members_must_have_their_type() {
    let cases = [
        (ASSIGNING, "status", "status"),
        (ASSIGNING, "operationId", "operationId"),
        (ASSIGNED, "status", "status"),
        (ASSIGNED, "registrationState", "registrationState"),
        (ASSIGNED, "registrationState.assignedHub", "assignedHub"),
        (ASSIGNED, "registrationState.deviceId", "deviceId"),
    ];
    for (document, member, name) in cases {
        for body in with_odd_members(document, &[member], &[]) {
            let is_object = name == "registrationState" && body.contains(r#""registrationState":{}"#);
            // A string may be valid or fail differently. An empty state has no hub.
            if body.contains("\"odd\"") && name != "registrationState" {
                continue;
            }
            let wrong = if is_object { Malformed::Missing("assignedHub") } else { Malformed::Invalid(name) };
            assert_eq!(registered(200, &body), Err(wrong.into()), "{body}");
        }
    }
}

/// Only a poll needs the operation ID, and no poll follows the last answer.
#[test]
fn the_operation_id_is_needed_for_polls_only() {
    let long = "x".repeat(129);
    for operation in [json!(7), json!(long), json!("\u{e9}")] {
        let mut assigned: Value = serde_json::from_str(ASSIGNED).unwrap();
        assigned["operationId"] = operation.clone();
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        assert_eq!(after(&mut provisioning, 200, &assigned.to_string()), Ok(Step::Finished), "{operation}");
        assert_eq!(provisioning.operation_id(), None);

        let assigning = json!({ "operationId": operation, "status": "assigning" }).to_string();
        assert_eq!(registered(202, &assigning), Err(Malformed::Invalid("operationId").into()));
    }
    // The answer to a poll may omit it.
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
    assert!(after(&mut provisioning, 202, ASSIGNING).is_ok());
    let now = Duration::from_secs(10);
    assert_eq!(provisioning.step(now), Step::Send);
    provisioning.on_answer(now, Answer::new(202, None, br#"{"operationId":7,"status":"assigning"}"#));
    assert!(matches!(provisioning.step(now), Step::Wait(_)));
    assert_eq!(provisioning.operation_id(), Some(OPERATION));
}

#[test]
fn a_group_is_found_in_either_attestation() {
    let state = |attestation: &str| {
        ASSIGNED.replace(r#""registrationState":{"#, &format!(r#""registrationState":{{{attestation},"#))
    };
    for (attestation, group) in [
        (r#""symmetricKey":{"enrollmentGroupId":"g"}"#, Some("g")),
        (r#""symmetricKey":{},"x509":{"enrollmentGroupId":"g"}"#, Some("g")),
        (r#""symmetricKey":{"enrollmentGroupId":7},"x509":{"enrollmentGroupId":"g"}"#, Some("g")),
        (r#""symmetricKey":7"#, None),
    ] {
        let body = state(attestation);
        let assignment = assigned(&registration(TOASTER), &body).unwrap();
        assert_eq!(assignment.enrollment_group_id().map(|id| id.to_string()).as_deref(), group);
    }
}

#[test]
fn a_refused_credential_is_a_key_or_a_certificate() {
    for code in [ErrorCode::UNAUTHORIZED, ErrorCode::CREDENTIAL_REFUSED] {
        let body = format!(r#"{{"errorCode":{},"trackingId":"","message":"Unauthorized"}}"#, code.value());
        let error = after(&mut toaster(), 401, &body).unwrap_err();
        assert_eq!((error.fault(), error.code()), (Fault::Credential, Some(code)));
        let text = error.to_string();
        assert!(text.contains("check the key or certificate"), "{text}");
        assert!(!text.contains("certificate is"), "{text}");
    }
    let meanings = [401_000, 401_002].map(|code| ErrorCode::from(code).meaning());
    assert_eq!(meanings[0], meanings[1]);
}

#[test]
fn an_unreadable_or_too_large_request_blames_the_payload() {
    for (status, body, part) in [
        (
            400,
            r#"{"errorCode":400012,"trackingId":"","message":"Deserialization error."}"#,
            "400012, the service cannot read the request: check the payload",
        ),
        (413, "", "HTTP status 413, the request is too large: send a smaller payload"),
        (413, "<html>Request Entity Too Large</html>", "send a smaller payload"),
        (
            413,
            r#"{"errorCode":413001,"message":"Too large"}"#,
            "413001, the request is too large: send a smaller payload",
        ),
    ] {
        let error = registered(status, body).unwrap_err();
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Caller, false), "{body}");
        assert!(error.to_string().contains(part), "{error}");

        // The same over MQTT.
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        provisioning.start(Duration::ZERO, UNIX_TIME);
        mqtt::write_publish(&mut provisioning, Duration::ZERO, &mut [0; 512]).unwrap();
        let topic = format!("$dps/registrations/res/{status}/?$rid={}", 1);
        assert!(mqtt::on_message(&mut provisioning, Duration::ZERO, &topic, body.as_bytes()));
        assert_eq!(provisioning.result(body.as_bytes()), Err(error));
    }
    // Only the operator can resolve the other rejections.
    assert_eq!(registered(400, r#"{"errorCode":400004}"#).unwrap_err().fault(), Fault::Refused);
}

fn payload_of(len: usize) -> String {
    format!(r#"{{"x":"{}"}}"#, "x".repeat(len - 8))
}

/// The service accepts 96 KB. A larger payload fails before the device connects.
#[test]
fn a_request_that_is_too_large_is_not_sent() {
    let envelope = format!(r#"{{"registrationId":"{TOASTER}","payload":}}"#).len();
    for (limit, len, fits) in [
        (MAX_BODY, MAX_BODY - envelope, true),
        (MAX_BODY, MAX_BODY - envelope + 1, false),
        (MAX_BODY, 1_000_000, false),
        (200, 200 - envelope, true),
        (200, 201 - envelope, false),
        (usize::MAX, 1_000_000, true),
    ] {
        let payload = payload_of(len);
        let registration = registration(TOASTER).with_payload(&payload).unwrap();
        let mut provisioning = Provisioning::new(registration, Attestation::x509()).with_max_body(limit);
        provisioning.start(Duration::ZERO, UNIX_TIME);
        if fits {
            assert_eq!(provisioning.step(Duration::ZERO), Step::Send);
            let mut buffer = vec![0; len + 1000];
            let len = write_request(&mut provisioning, Duration::ZERO, &mut buffer).unwrap();
            let request = std::str::from_utf8(&buffer[..len]).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
            continue;
        }
        assert_eq!(provisioning.step(Duration::ZERO), Step::Finished);
        let error = provisioning.result(&[]).unwrap_err();
        let Error::RequestTooLarge(too_large) = error else { panic!("{error}") };
        assert_eq!((too_large.size, too_large.limit), (len + envelope, limit));
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Caller, false));
        let text = format!(
            "the request has {} bytes, but the service accepts at most {limit}: send a smaller payload",
            len + envelope
        );
        assert_eq!(error.to_string(), text);
        // Neither codec writes anything.
        assert_eq!(write_request(&mut provisioning, Duration::ZERO, &mut [0; 4096]), Err(Error::NotDue));
        assert_eq!(mqtt::write_password(&provisioning, &mut [0; 512]), Err(Error::NotDue));
        assert_eq!(mqtt::write_publish(&mut provisioning, Duration::ZERO, &mut [0; 512]), Err(Error::NotDue));
        assert_eq!(provisioning.progress(), Some(Progress::Failed(error)));
        assert_eq!(provisioning.progress(), None);
    }
}

/// The body contains the keys of a TPM and a `csr`. A look-up has neither payload nor `csr`.
#[test]
fn tpm_keys_and_csr_count_towards_the_size_limit() {
    let tpm = Attestation::tpm(TpmKeys { endorsement_key: &[1; 316], storage_root_key: &[2; 314] });
    let der = rcgen::CertificateParams::default()
        .serialize_request(&rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec();
    let payload = payload_of(100);
    let plain = registration(TOASTER);
    let all = plain.with_payload(&payload).unwrap().with_csr(Csr::from_der(&der).unwrap());
    for mut provisioning in [
        Provisioning::new(plain, Attestation::x509()),
        Provisioning::new(all, Attestation::x509()),
        Provisioning::new(all, tpm),
        Provisioning::new(plain, tpm),
        Provisioning::lookup(all, Attestation::x509()),
        Provisioning::lookup(all, tpm),
    ] {
        let mut buffer = [0; 4096];
        provisioning.start(Duration::ZERO, UNIX_TIME);
        let len = write_request(&mut provisioning, Duration::ZERO, &mut buffer).unwrap();
        let request = std::str::from_utf8(&buffer[..len]).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{request}");

        for (limit, fits) in [(body.len(), true), (body.len() - 1, false)] {
            provisioning = provisioning.with_max_body(limit);
            provisioning.start(Duration::ZERO, UNIX_TIME);
            assert_eq!(provisioning.is_running(), fits);
        }
    }
}

/// The same text with another hub or device ID of the same length.
#[test]
fn the_result_is_read_from_the_buffer_that_was_checked() {
    let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
    assert_eq!(after(&mut provisioning, 200, ASSIGNED), Ok(Step::Finished));
    for (from, to) in [("toasters-hub-1098", "toasters-hub-1099"), ("contoso-toasters", "toasters-contoso")] {
        let other = ASSIGNED.replace(from, to);
        assert_eq!(other.len(), ASSIGNED.len());
        assert_eq!(provisioning.result(other.as_bytes()), Err(Error::WrongBuffer), "{to}");
    }
    // The device ID stays the one that was checked, even if the buffer changes.
    let other = ASSIGNED.replace(r#""deviceId":"breakroom499-"#, r#""deviceId":"breakroom498-"#);
    assert_ne!(other, ASSIGNED);
    assert_eq!(provisioning.result(other.as_bytes()).unwrap().device_id(), TOASTER);
    for other in [String::new(), "x".repeat(ASSIGNED.len()), ASSIGNED.replace(':', ": "), format!("{ASSIGNED} ")] {
        // Bytes after the answer in the buffer are ignored.
        let expected = other.starts_with(ASSIGNED);
        assert_eq!(provisioning.result(other.as_bytes()).is_ok(), expected, "{other}");
    }
    assert!(provisioning.result(ASSIGNED.as_bytes()).is_ok());
}

fn with_hub(hub: &str) -> String {
    ASSIGNED.replace(&format!(r#""assignedHub":"{TOASTERS_HUB}""#), &format!(r#""assignedHub":"{hub}""#))
}

/// Microsoft's mock service names the hub `localhost:8443`.
#[test]
fn a_hub_may_have_a_port() {
    let longest = "h".repeat(253);
    let longest_with_port = format!("{longest}:65535");
    for (assigned_hub, host, port) in [
        ("localhost:8443", "localhost", Some(8443)),
        ("hub.azure-devices.net:1", "hub.azure-devices.net", Some(1)),
        ("hub.azure-devices.net:65535", "hub.azure-devices.net", Some(65535)),
        ("127.0.0.1:8883", "127.0.0.1", Some(8883)),
        ("hub.azure-devices.net", "hub.azure-devices.net", None),
        (&longest_with_port, &longest, Some(65535)),
    ] {
        let body = with_hub(assigned_hub);
        let assignment = assigned(&registration(TOASTER), &body).unwrap();
        let mut buffer = [0; 1024];
        // The assignment, its record, its copy and the connection string keep the host as sent.
        assert_eq!(assignment.assigned_hub(), assigned_hub);
        let record = assignment.write_record(&registration(TOASTER), KeyChoice::Primary, &mut buffer).unwrap();
        let record = Record::read(record, &registration(TOASTER)).unwrap();
        assert_eq!((record.assignment(), record.assignment().assigned_hub()), (assignment, assigned_hub));
        let mut hubs = vec![assignment.hub(), azure_dps::after::Hub::new(assigned_hub, TOASTER).unwrap()];
        let owned: Result<OwnedAssignment, _> = assignment.owned();
        if let Ok(owned) = &owned {
            assert_eq!(owned.assigned_hub(), assigned_hub);
            hubs.push(owned.hub());
        } else {
            assert!(host.len() > OwnedAssignment::<0>::MAX_NAME);
        }
        for hub in hubs {
            assert_eq!((hub.host(), hub.port()), (host, port));
            let mut buffer = [0; 1024];
            let connection_string = hub.write_x509_connection_string(&mut buffer).unwrap();
            assert_eq!(connection_string, format!("HostName={assigned_hub};DeviceId={TOASTER};x509=true"));
            let connection_string = hub.write_connection_string(&toaster_key(), &mut buffer).unwrap();
            assert!(connection_string.starts_with(&format!("HostName={assigned_hub};DeviceId=")));
            // User name and token contain the host without the port.
            let user_name = hub.write_user_name(&mut buffer).unwrap();
            assert_eq!(user_name, format!("{host}/{TOASTER}/?api-version=2021-04-12"));
            let token = hub.write_token(&mut toaster_key(), UNIX_TIME, &mut buffer).unwrap();
            assert!(
                token.starts_with(&format!("SharedAccessSignature sr={host}%2Fdevices%2F{TOASTER}&sig=")),
                "{token}"
            );
        }
    }
    // The longest host and port that are accepted.
    let hub = format!("{}:65535", "h".repeat(128));
    let body = with_hub(&hub);
    let owned: OwnedAssignment<256> = assigned(&registration(TOASTER), &body).unwrap().owned().unwrap();
    assert_eq!(owned.assigned_hub(), hub);
}

#[test]
fn an_invalid_hub_is_malformed_and_can_be_shown() {
    let long = "h".repeat(254);
    let hubs = [
        "",
        ":",
        ":8443",
        "hub:",
        "hub:0",
        "hub:00",
        "hub:08443",
        "hub:65536",
        "hub:99999",
        "hub:100000",
        "hub:4294967297",
        "hub:+1",
        "hub:-1",
        "hub: 1",
        "hub:1 ",
        "hub :1",
        " hub:1",
        "hub:1:2",
        "hub::1",
        "hub:x",
        "hub:1x",
        "hub:0x1",
        "hub:\u{661}",
        "[::1]",
        "[::1]:8443",
        "::1",
        "https://hub",
        "hub/x",
        "hub:1/x",
        "hub;x509=true",
        "hub:1;x509=true",
        "hub\\n",
        "hub\\u003a1",
        "h\u{e4}b",
        "hub_1",
        &long,
    ];
    for hub in hubs {
        let body = with_hub(hub);
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        assert_eq!(after(&mut provisioning, 200, &body), Err(Malformed::Invalid("assignedHub").into()), "{hub}");
        assert_eq!(provisioning.refused_value(body.as_bytes()).unwrap().raw(), format!("\"{hub}\""));
        assert!(azure_dps::after::Hub::new(hub, TOASTER).is_err(), "{hub}");
    }
}

#[test]
fn the_value_that_was_refused_can_be_shown() {
    for (body, error, value) in [
        (
            ASSIGNED.replace(r#""status":"assigned","registrationState""#, r#""status":7,"registrationState""#),
            Malformed::Invalid("status"),
            Some("7"),
        ),
        (with_hub("a b"), Malformed::Invalid("assignedHub"), Some("\"a b\"")),
        (
            ASSIGNED.replace(r#""deviceId":""#, r#""deviceId":"a b"#),
            Malformed::Invalid("deviceId"),
            Some(&*format!("\"a b{TOASTER}\"")),
        ),
        (
            ASSIGNED.replace(r#""registrationId":""#, r#""registrationId":"x"#),
            Malformed::Contradiction("registrationId"),
            Some(&*format!("\"x{TOASTER}\"")),
        ),
        (r#"{"status":"assigned","registrationState":7}"#.into(), Malformed::Invalid("registrationState"), Some("7")),
        (
            r#"{"status":"assigned","registrationState":{"status":"failed"}}"#.into(),
            Malformed::Contradiction("registrationState.status"),
            Some("\"failed\""),
        ),
        (r#"{"status":"assigned"}"#.into(), Malformed::Missing("registrationState"), None),
    ] {
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        assert_eq!(after(&mut provisioning, 200, &body), Err(error.into()), "{body}");
        assert_eq!(provisioning.refused_value(body.as_bytes()).map(|value| value.raw()), value, "{body}");
    }
    // The document of a look-up is the state itself.
    let body = r#"{"status":"assigned","assignedHub":"a b","deviceId":"d"}"#;
    let mut provisioning = Provisioning::lookup(registration(TOASTER), Attestation::x509());
    assert_eq!(after(&mut provisioning, 200, body), Err(Malformed::Invalid("assignedHub").into()));
    assert_eq!(provisioning.refused_value(body.as_bytes()).unwrap().raw(), "\"a b\"");
    // No other outcome can be written.
    assert_eq!(after(&mut provisioning, 401, r#"{"status":7}"#).unwrap_err().fault(), Fault::Credential);
    assert!(provisioning.refused_value(br#"{"status":7}"#).is_none());
}

#[test]
fn a_record_of_a_hub_with_a_bad_port_is_impossible() {
    let body = with_hub("localhost:8443");
    let assignment = assigned(&registration(TOASTER), &body).unwrap();
    let mut buffer = [0; 1024];
    let len = assignment.write_record(&registration(TOASTER), KeyChoice::Primary, &mut buffer).unwrap().len();
    // Written by another program, with its digest.
    let mut bytes = buffer[..len - 16].to_vec();
    let at = bytes.windows(5).position(|window| window == b":8443").unwrap();
    bytes[at + 1] = b'0';
    bytes.extend(&<sha2::Sha256 as sha2::Digest>::digest(&bytes)[..16]);
    let error = Record::read(&bytes, &registration(TOASTER)).unwrap_err();
    assert_eq!(error, RecordError::Impossible(Malformed::Invalid("assignedHub")));
}
