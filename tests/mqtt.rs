//! The MQTT codec: the CONNECT of a session, and how messages are read.
//! Source: <https://learn.microsoft.com/azure/iot-dps/iot-dps-mqtt-support>.

mod support;

use std::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId,
    error::{ErrorCode, Fault, Malformed, TransportError},
    identity::{KeyChoice, sas_token},
    mqtt,
    provisioning::{Answer, Progress, Step},
};
use support::*;

const NOW: Duration = Duration::ZERO;
/// 42 escapes, a last digit that is a letter or a digit since it stands for four bits, and `%3D`.
const LONGEST_SIGNATURE: usize = 42 * 3 + 1 + 3;

/// Gives the run its signature.
fn signed(provisioning: &mut Provisioning<'_>) {
    provisioning.start(NOW, UNIX_TIME);
    assert_eq!(provisioning.step(NOW), Step::Sign);
    provisioning.sign_with(&mut toaster_key(), &mut [0; 128]).unwrap();
    assert_eq!(provisioning.step(NOW), Step::Send);
}

/// Starts a run that waits for the answer to its register request.
fn registering(provisioning: &mut Provisioning<'_>) {
    signed(provisioning);
    publish(provisioning, NOW);
}

/// Publishes the pending request. Returns topic and body.
fn publish(provisioning: &mut Provisioning<'_>, now: Duration) -> (String, String) {
    assert_eq!(provisioning.step(now), Step::Send);
    let mut buffer = [0; 512];
    let message = mqtt::write_publish(provisioning, now, &mut buffer).unwrap();
    (message.topic.into(), String::from_utf8(message.body.into()).unwrap())
}

#[test]
fn an_answer_to_an_earlier_run_is_ignored() {
    let mut provisioning = toaster();
    registering(&mut provisioning);
    // The run restarts in the same session, before the answer arrives.
    signed(&mut provisioning);
    let (topic, _) = publish(&mut provisioning, NOW);
    assert_eq!(topic, "$dps/registrations/PUT/iotdps-register/?$rid=2");
    let refused = br#"{"errorCode":401000,"trackingId":"","message":"","timestampUtc":""}"#;
    assert!(!mqtt::on_message(&mut provisioning, NOW, "$dps/registrations/res/401/?$rid=1", refused));
    assert!(mqtt::on_message(&mut provisioning, NOW, "$dps/registrations/res/200/?$rid=2", ASSIGNED.as_bytes()));
    assert_eq!(provisioning.result(ASSIGNED.as_bytes()).unwrap().assigned_hub(), TOASTERS_HUB);
}

#[test]
fn details_are_not_those_of_an_earlier_answer() {
    let mut provisioning = toaster();
    registering(&mut provisioning);
    assert!(mqtt::on_message(&mut provisioning, NOW, "$dps/registrations/res/202/?$rid=1", ASSIGNING.as_bytes()));
    let now = Duration::from_secs(10);
    assert_eq!(provisioning.step(now), Step::Send);
    mqtt::on_connack(&mut provisioning, now, 5);
    assert!(matches!(provisioning.result(ASSIGNING.as_bytes()), Err(Error::Refused(_))));
    assert_eq!(provisioning.details(ASSIGNING.as_bytes()), None);
}

#[test]
fn the_tutorial_from_connect_to_hub() {
    let mut provisioning = toaster();
    signed(&mut provisioning);
    assert_eq!(mqtt::client_id(&provisioning), TOASTER);
    let mut buffer = [0; 512];
    assert_eq!(
        mqtt::write_user_name(&provisioning, &mut buffer).unwrap(),
        format!(
            "{SCOPE}/registrations/{TOASTER}/api-version=2021-06-01&ClientVersion=azure-dps%2F{}",
            env!("CARGO_PKG_VERSION")
        ),
    );
    let mut expected = [0; 512];
    let (scope, id) = (IdScope::new(SCOPE).unwrap(), RegistrationId::new(TOASTER).unwrap());
    assert_eq!(
        mqtt::write_password(&provisioning, &mut buffer).unwrap(),
        sas_token::write(&mut toaster_key(), scope, id, UNIX_TIME + 3600, &mut expected).unwrap(),
    );
    mqtt::on_connack(&mut provisioning, NOW, 0);

    let body = format!(r#"{{"registrationId":"{TOASTER}","payload":{PAYLOAD}}}"#);
    assert_eq!(publish(&mut provisioning, NOW), ("$dps/registrations/PUT/iotdps-register/?$rid=1".into(), body));
    let topic = "$dps/registrations/res/202/?$rid=1&retry-after=3";
    assert!(mqtt::on_message(&mut provisioning, NOW, topic, ASSIGNING.as_bytes()));
    assert_eq!(provisioning.step(NOW), Step::Wait(Duration::from_secs(3)));

    let now = Duration::from_secs(3);
    let poll = format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId={OPERATION}");
    assert_eq!(publish(&mut provisioning, now), (poll, String::new()));
    assert!(mqtt::on_message(&mut provisioning, now, "$dps/registrations/res/200/?$rid=2", ASSIGNED.as_bytes()));
    assert_eq!(provisioning.step(now), Step::Finished);
    assert_eq!(provisioning.result(ASSIGNED.as_bytes()).unwrap().assigned_hub(), TOASTERS_HUB);
}

#[test]
fn parameters_come_in_any_order() {
    for (parameters, seconds) in [
        ("$rid=1&retry-after=7", 7),
        ("retry-after=7&$rid=1", 7),
        ("new=thing&retry-after=7&$rid=1&another", 7),
        ("$rid=1&retry-after=0", 1),
        ("$rid=1&retry-after=99999999999", 300),
    ] {
        let mut provisioning = toaster();
        registering(&mut provisioning);
        let topic = format!("$dps/registrations/res/202/?{parameters}");
        assert!(mqtt::on_message(&mut provisioning, NOW, &topic, ASSIGNING.as_bytes()), "{topic}");
        assert_eq!(provisioning.step(NOW), Step::Wait(Duration::from_secs(seconds)), "{topic}");
    }
    // A Retry-After that is not a number of seconds is ignored.
    for parameters in ["$rid=1", "$rid=1&retry-after=", "$rid=1&retry-after=soon"] {
        let mut provisioning = toaster();
        registering(&mut provisioning);
        let topic = format!("$dps/registrations/res/202/?{parameters}");
        assert!(mqtt::on_message(&mut provisioning, NOW, &topic, ASSIGNING.as_bytes()), "{topic}");
        let Step::Wait(wait) = provisioning.step(NOW) else { panic!("{topic}") };
        assert!((Duration::from_secs(3)..=Duration::from_millis(4500)).contains(&wait), "{topic}: {wait:?}");
    }
}

#[test]
fn an_answer_to_another_request_is_ignored() {
    let mut provisioning = toaster();
    registering(&mut provisioning);
    for topic in [
        "",
        "devices/toaster/messages/devicebound/",
        "$dps/registrations/res",
        "$dps/registrations/res/",
        "$dps/registrations/res/200",
        "$dps/registrations/res/200/?",
        "$dps/registrations/res/200/?$rid=",
        "$dps/registrations/res/200/?$rid=2",
        "$dps/registrations/res/200/?$rid=01x",
        "$dps/registrations/res/200/?rid=1",
        "$DPS/registrations/res/200/?$rid=1",
        "$dps/registrations/PUT/iotdps-register/?$rid=1",
    ] {
        assert!(!mqtt::on_message(&mut provisioning, NOW, topic, ASSIGNED.as_bytes()), "{topic}");
        assert_eq!(provisioning.result(ASSIGNED.as_bytes()), Err(Error::NotFinished), "{topic}");
    }
    // The request is repeated, and the answer to the first request comes late.
    provisioning.on_error(NOW, Error::Transport(TransportError::Stalled));
    let late = "$dps/registrations/res/200/?$rid=1";
    assert!(!mqtt::on_message(&mut provisioning, NOW, late, ASSIGNED.as_bytes()));
    let now = Duration::from_secs(60);
    assert!(publish(&mut provisioning, now).0.ends_with("$rid=2"));
    assert!(!mqtt::on_message(&mut provisioning, now, late, ASSIGNED.as_bytes()));
    assert!(mqtt::on_message(&mut provisioning, now, "$dps/registrations/res/200/?$rid=2", ASSIGNED.as_bytes()));
    assert_eq!(provisioning.step(now), Step::Finished);
    // No request is pending any more.
    assert!(!mqtt::on_message(&mut provisioning, now, "$dps/registrations/res/401/?$rid=2", b""));
    assert!(provisioning.result(ASSIGNED.as_bytes()).is_ok());
}

#[test]
fn refusals_equal_those_of_http() {
    for (status, body, fault, code) in [
        (401, r#"{"errorCode":401000,"message":"Unauthorized"}"#, Fault::Credential, Some(ErrorCode::UNAUTHORIZED)),
        (401, r#"{"errorCode":401002}"#, Fault::Credential, Some(ErrorCode::CREDENTIAL_REFUSED)),
        (404, r#"{"errorCode":404201}"#, Fault::Refused, Some(ErrorCode::ENROLLMENT_NOT_FOUND)),
        (403, "", Fault::Credential, None),
        (
            200,
            r#"{"status":"failed","registrationState":{"errorCode":400207}}"#,
            Fault::Refused,
            Some(ErrorCode::from(400_207)),
        ),
        (200, "", Fault::Transport, None),
    ] {
        let (mut over_mqtt, mut over_http) = (toaster(), toaster());
        registering(&mut over_mqtt);
        registering(&mut over_http);
        let topic = format!("$dps/registrations/res/{status}/?$rid=1");
        assert!(mqtt::on_message(&mut over_mqtt, NOW, &topic, body.as_bytes()));
        over_http.on_answer(NOW, Answer::new(status, None, body.as_bytes()));
        assert_eq!(over_mqtt.result(body.as_bytes()), over_http.result(body.as_bytes()), "{status} {body}");
        if fault != Fault::Transport {
            let error = over_mqtt.result(body.as_bytes()).unwrap_err();
            assert_eq!((error.fault(), error.code()), (fault, code), "{status} {body}");
        }
    }
    for (status, retried) in [(429, true), (500, true), (503, true)] {
        let mut provisioning = toaster();
        registering(&mut provisioning);
        let topic = format!("$dps/registrations/res/{status}/?$rid=1&retry-after=29");
        assert!(mqtt::on_message(&mut provisioning, NOW, &topic, b""));
        assert_eq!(
            matches!(provisioning.step(NOW), Step::Wait(wait) if (29..=58).contains(&wait.as_secs())),
            retried,
            "{status}"
        );
    }
}

#[test]
fn a_status_that_is_not_a_number_is_malformed() {
    for status in ["", "ok", "2OO", "-200", "65536", "99999999999"] {
        let mut provisioning = toaster();
        registering(&mut provisioning);
        let topic = format!("$dps/registrations/res/{status}/?$rid=1&200");
        assert!(mqtt::on_message(&mut provisioning, NOW, &topic, ASSIGNED.as_bytes()), "{topic}");
        assert_eq!(provisioning.result(b""), Err(Error::Malformed(Malformed::MqttTopic)), "{topic}");
    }
}

#[test]
fn connack() {
    for (return_code, http_status, fault) in [
        (1, 400, Fault::Refused),
        (2, 400, Fault::Refused),
        (3, 503, Fault::Busy),
        (4, 401, Fault::Credential),
        (5, 401, Fault::Credential),
        (6, 400, Fault::Refused),
        (255, 400, Fault::Refused),
    ] {
        let mut provisioning = toaster();
        signed(&mut provisioning);
        mqtt::on_connack(&mut provisioning, NOW, return_code);
        match provisioning.result(b"") {
            // The run continues.
            Err(Error::NotFinished) => assert_eq!(fault, Fault::Busy, "{return_code}"),
            Err(Error::Refused(refusal)) => {
                let error = Error::Refused(refusal);
                assert_eq!((refusal.http_status, error.fault()), (http_status, fault), "{return_code}");
            }
            other => panic!("{return_code}: {other:?}"),
        }
    }
}

/// A run with a key has a signed token. A run with a certificate has none.
#[test]
fn passwords() {
    let registration = Registration::new(IdScope::new(SCOPE).unwrap(), RegistrationId::new("a:b").unwrap());
    let mut buffer = [0; 512];
    let mut certificate = Provisioning::new(registration, Attestation::x509());
    assert_eq!(mqtt::write_password(&certificate, &mut buffer), Err(Error::NotStarted));
    certificate.start(NOW, 0);
    assert_eq!(mqtt::write_password(&certificate, &mut buffer), Ok(""));
    // Client ID and user name are not percent-encoded. The resource in the token is.
    assert!(mqtt::write_user_name(&certificate, &mut buffer).unwrap().starts_with("0ne00002193/registrations/a:b/api"));
    let mut sas = Provisioning::new(registration, Attestation::symmetric_key());
    sas.start(NOW, UNIX_TIME);
    // There is no password before the signature.
    assert_eq!(mqtt::write_password(&sas, &mut buffer), Err(Error::NotDue));
    assert_eq!(mqtt::write_publish(&mut sas, NOW, &mut buffer), Err(Error::NotDue));
    assert_eq!(sas.step(NOW), Step::Sign);
    sas.sign_with(&mut toaster_key(), &mut buffer).unwrap();
    let password = mqtt::write_password(&sas, &mut buffer).unwrap().to_owned();
    assert!(password.contains("registrations%2fa%3Ab&sig="), "{password}");
    assert!(password.contains(&format!("&se={}&", UNIX_TIME + 3600)), "{password}");
    // A later session uses the same token, without a new signature.
    mqtt::on_connack(&mut sas, NOW, 3);
    let Step::Wait(wait) = sas.step(NOW) else { panic!() };
    assert_eq!(sas.step(NOW + wait), Step::Send);
    assert_eq!(mqtt::write_password(&sas, &mut buffer), Ok(password.as_str()));
    let Err(Error::BufferTooSmall(error)) = mqtt::write_password(&sas, &mut []) else { panic!() };
    // The size is sufficient for any signature, also with many escapes.
    let signature = password.split_once("&sig=").unwrap().1.find('&').unwrap();
    assert_eq!((error.needed, error.exact), (password.len() - signature + LONGEST_SIGNATURE, true));
    // There is no password after the run.
    mqtt::on_connack(&mut sas, NOW + wait, 4);
    assert_eq!(mqtt::write_password(&sas, &mut buffer), Err(Error::NotDue));
}

/// If the service rejects the first key, by CONNACK or by a message, the next session has the other
/// key's password.
#[test]
fn the_other_key_needs_a_new_session() {
    let (scope, id) = (IdScope::new(SCOPE).unwrap(), RegistrationId::new(TOASTER).unwrap());
    let wrong = || DeviceKey::from_base64(GROUP_KEY).unwrap();
    for by_connack in [true, false] {
        for first in [KeyChoice::Primary, KeyChoice::Secondary] {
            let mut keys = match first {
                KeyChoice::Primary => [wrong(), toaster_key()],
                KeyChoice::Secondary => [toaster_key(), wrong()],
            };
            let mut provisioning = toaster().with_first_key(first);
            let mut buffer = [0; 512];
            let token = |mut key: DeviceKey| {
                let mut buffer = [0; 512];
                sas_token::write(&mut key, scope, id, UNIX_TIME + 3600, &mut buffer).unwrap().to_owned()
            };
            provisioning.start(NOW, UNIX_TIME);
            assert_eq!(provisioning.step(NOW), Step::Sign);
            provisioning.sign_with(&mut keys, &mut buffer).unwrap();
            assert_eq!(mqtt::write_password(&provisioning, &mut buffer), Ok(token(wrong()).as_str()));
            assert_eq!(provisioning.key(), first);

            if by_connack {
                assert_eq!(provisioning.step(NOW), Step::Send);
                mqtt::on_connack(&mut provisioning, NOW, 5);
            } else {
                mqtt::on_connack(&mut provisioning, NOW, 0);
                publish(&mut provisioning, NOW);
                let body = br#"{"errorCode":401000}"#;
                assert!(mqtt::on_message(&mut provisioning, NOW, "$dps/registrations/res/401/?$rid=1", body));
            }
            // The run signs at once. The old session cannot be used: it gets no password and no request.
            assert_eq!(provisioning.step(NOW), Step::Sign);
            assert_eq!(mqtt::write_password(&provisioning, &mut buffer), Err(Error::NotDue));
            assert_eq!(mqtt::write_publish(&mut provisioning, NOW, &mut buffer), Err(Error::NotDue));

            provisioning.sign_with(&mut keys, &mut buffer).unwrap();
            assert_ne!(provisioning.key(), first);
            assert_eq!(provisioning.step(NOW), Step::Send);
            assert_eq!(mqtt::write_password(&provisioning, &mut buffer), Ok(token(toaster_key()).as_str()));
            mqtt::on_connack(&mut provisioning, NOW, 0);
            let (topic, _) = publish(&mut provisioning, NOW);
            let number = topic.rsplit('=').next().unwrap();
            let answer = format!("$dps/registrations/res/200/?$rid={number}");
            assert!(mqtt::on_message(&mut provisioning, NOW, &answer, ASSIGNED.as_bytes()));
            assert_eq!(provisioning.result(ASSIGNED.as_bytes()).unwrap().assigned_hub(), TOASTERS_HUB);
            assert_ne!(provisioning.key(), first);
        }
    }
}

/// The progress that a driver reads after each call.
#[test]
fn progress_comes_in_order() {
    let mut provisioning = toaster();
    signed(&mut provisioning);
    assert_eq!(provisioning.progress(), None);
    mqtt::on_connack(&mut provisioning, NOW, 0);
    assert_eq!(provisioning.progress(), Some(Progress::Connected));
    publish(&mut provisioning, NOW);
    assert_eq!(provisioning.progress(), Some(Progress::Registering));
    let topic = "$dps/registrations/res/202/?$rid=1&retry-after=3";
    assert!(mqtt::on_message(&mut provisioning, NOW, topic, ASSIGNING.as_bytes()));
    assert_eq!(provisioning.progress(), Some(Progress::Assigning));
    let now = Duration::from_secs(3);
    publish(&mut provisioning, now);
    assert_eq!(provisioning.progress(), None);
    assert!(mqtt::on_message(&mut provisioning, now, "$dps/registrations/res/200/?$rid=2", ASSIGNED.as_bytes()));
    assert_eq!(provisioning.progress(), Some(Progress::Assigned));
    assert_eq!(provisioning.progress(), None);
}

/// CONNACK codes have the meaning that the documentation gives, and no other.
#[test]
fn small_buffer_errors_name_the_needed_size() {
    let mut provisioning = toaster();
    signed(&mut provisioning);
    let needed = mqtt::write_user_name(&provisioning, &mut []).unwrap_err().needed;
    assert!(needed <= 74 + SCOPE.len() + TOASTER.len());
    assert!(mqtt::write_user_name(&provisioning, &mut vec![0; needed]).is_ok());
    for part in ["the register request", "the poll"] {
        let Err(Error::BufferTooSmall(error)) = mqtt::write_publish(&mut provisioning, NOW, &mut []) else {
            panic!("{part}")
        };
        assert!(error.exact, "{part}");
        // The size of the request number stays the same for all attempts.
        for _ in 0..10 {
            assert_eq!(mqtt::write_publish(&mut provisioning, NOW, &mut []), Err(error.into()), "{part}");
        }
        let size = match part {
            "the poll" => 74 + OPERATION.len(),
            _ => 82 + TOASTER.len() + PAYLOAD.len(),
        };
        assert!(error.needed <= size, "{part}: {} of {size}", error.needed);
        assert!(mqtt::write_publish(&mut provisioning, NOW, &mut vec![0; error.needed]).is_ok(), "{part}");
        provisioning.on_answer(NOW, Answer::new(202, Some(1), ASSIGNING.as_bytes()));
        let _ = provisioning.step(Duration::from_secs(1));
    }
}
