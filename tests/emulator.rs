//! Runs every transport with the emulator, which was built without this library.

#[path = "support/network.rs"]
mod network;
mod support;

use std::time::Duration;

use azure_dps::blocking::{self, ConnectError};
use azure_dps::{
    Attestation, DeviceKey, Error, GroupKey, Provisioning, RetryPolicy,
    error::{ErrorCode, Fault},
    provisioning::{Endpoint, Substatus},
};
use azure_dps_emulator::{
    Allocation, AllocationPolicy, Config, Emulator, IndividualEnrollment, Operation, Script, SymmetricKey,
};
use network::*;
use support::*;

/// Starts the tutorial's service, on plain HTTP and on TLS 1.2. Each second is a millisecond.
fn contoso() -> Emulator {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    start(config)
}

fn start(config: Config) -> Emulator {
    Emulator::builder(config)
        .http("127.0.0.1:0")
        .https("127.0.0.1:0")
        .mqtts("127.0.0.1:0")
        .time_scale(1000.0)
        .start()
        .unwrap()
}

fn url(emulator: &Emulator, transport: Transport) -> String {
    match transport {
        Transport::EmbeddedIoTls | Transport::EmbeddedIoAsyncTls => emulator.https_url().unwrap().into(),
        Transport::MqttTls => emulator.mqtts_url().unwrap().replace("mqtts://", "https://"),
        _ => emulator.http_url().unwrap().into(),
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    hub: String,
    device_id: String,
    payload: Option<String>,
    initial: bool,
}

fn run(emulator: &Emulator, transport: Transport, id: &'static str, key: &DeviceKey) -> Result<Outcome, Error> {
    let mut key = key.clone();
    let registration = registration(id).with_payload(PAYLOAD).unwrap();
    let url = url(emulator, transport);
    let endpoint = Endpoint::parse(&url).unwrap();
    let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(endpoint);
    let mut buffer = [0; 1024];
    let assignment = provision(&mut provisioning, &mut key, transport, emulator.ca_pem(), &mut buffer)?;
    Ok(Outcome {
        hub: assignment.assigned_hub().into(),
        device_id: assignment.device_id().into(),
        payload: assignment.payload().map(|payload| payload.raw().into()),
        initial: assignment.substatus() == Some(Substatus::InitialAssignment),
    })
}

fn derived(id: &'static str) -> DeviceKey {
    GroupKey::from_base64(GROUP_KEY).unwrap().derive(&registration(id).registration_id())
}

#[test]
fn the_tutorials_devices() {
    for transport in TRANSPORTS {
        let emulator = contoso();
        for (id, hub) in [(TOASTER, TOASTERS_HUB), (HEAT_PUMP, HEAT_PUMPS_HUB)] {
            let outcome = run(&emulator, transport, id, &derived(id)).unwrap();
            let expected = Outcome { hub: hub.into(), device_id: id.into(), payload: None, initial: true };
            assert_eq!(outcome, expected, "{transport:?}");
            assert_eq!(emulator.device(id).unwrap().assigned_hub, hub);
        }
        // The webhook received the device's payload.
        let calls = emulator.webhook_calls();
        assert_eq!(calls[0].request["deviceRuntimeContext"]["payload"].to_string(), PAYLOAD);
        // The tutorial's device prints ASSIGNING twice.
        let polls = emulator.requests().iter().filter(|request| request.method == "GET").count();
        assert_eq!(polls, 4, "{transport:?}");
        assert!(emulator.requests().iter().all(|request| request.authorization));
    }
}

/// <https://learn.microsoft.com/azure/iot-dps/tutorial-custom-allocation-policies#troubleshooting-custom-allocation-policies>
mod troubleshooting_table {
    use super::*;

    /// Returns the device's error if the webhook answers with `status` and `body`.
    fn webhook_answers(status: u16, body: &str) -> Vec<Result<Outcome, Error>> {
        TRANSPORTS
            .into_iter()
            .map(|transport| {
                let emulator = contoso();
                emulator.contoso().unwrap().respond(status, body);
                run(&emulator, transport, TOASTER, &toaster_key())
            })
            .collect()
    }

    #[test]
    fn ok_with_a_hub_is_assigned() {
        let body = format!(r#"{{"iotHubHostName":"{HEAT_PUMPS_HUB}","payload":{{"property1":"value1"}}}}"#);
        for result in webhook_answers(200, &body) {
            let outcome = result.unwrap();
            assert_eq!(outcome.hub, HEAT_PUMPS_HUB);
            assert_eq!(outcome.payload.as_deref(), Some(r#"{"property1":"value1"}"#));
        }
    }

    #[test]
    fn ok_with_an_empty_hub_or_null_is_400208() {
        for body in [r#"{"iotHubHostName":""}"#, r#"{"iotHubHostName":null}"#] {
            for result in webhook_answers(200, body) {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Failed(_)));
                assert_eq!(error.code(), Some(ErrorCode::CUSTOM_ALLOCATION_IOT_HUB_NOT_SPECIFIED));
            }
        }
    }

    #[test]
    fn unauthorized_is_400209() {
        for result in webhook_answers(401, "") {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Failed(_)));
            assert_eq!(error.code(), Some(ErrorCode::CUSTOM_ALLOCATION_UNAUTHORIZED_ACCESS));
        }
    }

    #[test]
    fn an_individual_enrollment_that_disables_the_device() {
        for transport in TRANSPORTS {
            let mut config = Config::contoso();
            let key = SymmetricKey::from_base64(TOASTER_KEY).unwrap();
            config.individual_enrollments.push(IndividualEnrollment {
                registration_id: TOASTER.into(),
                enabled: false,
                primary_key: key,
                ..Default::default()
            });
            let emulator = start(config);
            assert_eq!(run(&emulator, transport, TOASTER, &toaster_key()), Err(Error::Disabled));
            assert!(run(&emulator, transport, HEAT_PUMP, &derived(HEAT_PUMP)).is_ok());
        }
    }

    #[test]
    fn at_least_429_is_retried_by_the_service_while_the_device_polls() {
        for transport in TRANSPORTS {
            let emulator = contoso();
            for status in [429, 500, 503] {
                emulator.contoso().unwrap().respond(status, "");
            }
            let outcome = run(&emulator, transport, TOASTER, &toaster_key()).unwrap();
            assert_eq!(outcome.hub, TOASTERS_HUB);
            let attempts: Vec<_> = emulator.webhook_calls().iter().map(|call| call.status).collect();
            assert_eq!(attempts, [Some(429), Some(500), Some(503), Some(200)]);
        }
    }

    #[test]
    fn any_other_status_is_400207() {
        for status in [400, 403, 404, 428, 201, 204] {
            for result in webhook_answers(status, "") {
                let error = result.unwrap_err();
                assert_eq!(error.code(), Some(ErrorCode::CUSTOM_ALLOCATION_FAILED), "{status}");
                assert_eq!(error.fault(), Fault::Refused);
            }
        }
    }
}

#[test]
fn a_device_that_the_webhook_does_not_know() {
    for transport in TRANSPORTS {
        let emulator = contoso();
        let id = "lobby1-contoso-unknown-001";
        let mut provisioning_buffer = [0; 1024];
        let mut key = derived(id);
        let url = url(&emulator, transport);
        let endpoint = Endpoint::parse(&url).unwrap();
        let mut provisioning =
            Provisioning::new(registration(id), Attestation::symmetric_key()).with_endpoint(endpoint);
        let error =
            provision(&mut provisioning, &mut key, transport, emulator.ca_pem(), &mut provisioning_buffer).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::CUSTOM_ALLOCATION_FAILED));
        let details = provisioning.details(&provisioning_buffer).unwrap();
        assert!(details.message().unwrap() == "Custom allocation failed with status code: 400");
    }
}

#[test]
fn a_wrong_key_is_a_credential_fault_with_a_tracking_id() {
    for transport in TRANSPORTS {
        let emulator = contoso();
        let error = run(&emulator, transport, TOASTER, &derived(HEAT_PUMP)).unwrap_err();
        assert_eq!((error.code(), error.fault()), (Some(transport.refused_key()), Fault::Credential));
        assert!(
            matches!(error, Error::Refused(refusal) if refusal.http_status == 401 && refusal.tracking_id.is_some())
        );
        // One call: the run does not retry.
        assert_eq!(emulator.requests().iter().filter(|request| request.method == "PUT").count(), 1);
    }
}

#[test]
fn a_device_clock_that_is_hours_behind() {
    let emulator = contoso();
    let endpoint = Endpoint::parse(emulator.http_url().unwrap()).unwrap();
    let mut provisioning = toaster().with_endpoint(endpoint);
    let mut buffer = [0; 1024];
    let mut connect = |_| {
        let socket = std::net::TcpStream::connect((endpoint.host(), endpoint.port()))?;
        Ok::<_, ConnectError<std::io::Error>>(embedded_io_adapters::std::FromStd::new(socket))
    };
    let now = Duration::ZERO;
    let two_hours_ago = unix_time() - 7200;
    provisioning.start(now, two_hours_ago);
    let key = &mut toaster_key();
    let result = blocking::run(&mut provisioning, key, &mut buffer, &mut connect, || now, |_| (), |_| ());
    assert_eq!(result.unwrap_err().kind().code(), Some(ErrorCode::UNAUTHORIZED));
    // The answer contains the time of the service's clock.
    assert!(provisioning.details(&buffer).unwrap().timestamp().is_some());
}

#[test]
fn the_primary_and_the_secondary_key_of_an_individual_enrollment() {
    let (primary, secondary) = ("cHJpbWFyeSBrZXkgb2YgdGhlIHRvYXN0ZXI=", "c2Vjb25kYXJ5IGtleSBvZiB0aGUgdG9hc3Rlcg==");
    for transport in TRANSPORTS {
        let mut config = Config::contoso();
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.into(),
            device_id: Some("kitchen-toaster".into()),
            primary_key: SymmetricKey::from_base64(primary).unwrap(),
            secondary_key: Some(SymmetricKey::from_base64(secondary).unwrap()),
            allocation: Allocation {
                policy: AllocationPolicy::Static,
                iot_hubs: vec![HEAT_PUMPS_HUB.into()],
                ..Default::default()
            },
            ..Default::default()
        });
        // Allows the other key at once, without the 30-minute block.
        config.behaviour.other_key_blocked_for = 0.0;
        let emulator = start(config);
        for key in [primary, secondary] {
            let key = DeviceKey::from_base64(key).unwrap();
            let outcome = run(&emulator, transport, TOASTER, &key).unwrap();
            assert_eq!((outcome.hub.as_str(), outcome.device_id.as_str()), (HEAT_PUMPS_HUB, "kitchen-toaster"));
        }
        // The group key no longer belongs to this device.
        let error = run(&emulator, transport, TOASTER, &toaster_key()).unwrap_err();
        assert_eq!(error.code(), Some(transport.refused_key()));
    }
}

#[test]
fn throttled_requests_are_repeated() {
    for transport in TRANSPORTS {
        let emulator = contoso();
        let throttled = r#"{"errorCode":429001,"trackingId":"","message":"Operations are being throttled for this tenant.","timestampUtc":"2026-01-01T00:00:00.0000000Z"}"#;
        let retry = [("Retry-After", "7")];
        emulator.script(Script::respond(Operation::Register, 429, &retry, throttled));
        emulator.script(Script::respond(Operation::Status, 429, &retry, throttled));
        assert_eq!(run(&emulator, transport, TOASTER, &toaster_key()).unwrap().hub, TOASTERS_HUB);
    }
}

#[test]
fn requests_with_lost_answers_are_repeated() {
    for transport in TRANSPORTS {
        let emulator = contoso();
        for operation in [Operation::Register, Operation::Status] {
            emulator.script(Script::drop_connection(operation));
            for bytes in [1, 20, 150, 400] {
                emulator.script(Script::cut(operation, bytes));
            }
        }
        assert_eq!(run(&emulator, transport, TOASTER, &toaster_key()).unwrap().hub, TOASTERS_HUB, "{transport:?}");
    }
}

#[test]
fn a_second_registration_is_not_an_initial_assignment() {
    for transport in TRANSPORTS {
        let emulator = contoso();
        assert!(run(&emulator, transport, TOASTER, &toaster_key()).unwrap().initial);
        assert!(!run(&emulator, transport, TOASTER, &toaster_key()).unwrap().initial);
    }
}

#[test]
fn bodies_with_a_length_and_in_chunks() {
    for transport in TRANSPORTS {
        for chunked in [true, false] {
            let mut config = Config::contoso();
            config.behaviour.chunked = chunked;
            config.behaviour.retry_after = None;
            config.contoso.return_payload = true;
            let emulator = start(config);
            assert!(run(&emulator, transport, TOASTER, &toaster_key()).unwrap().payload.is_some());
        }
    }
}

#[test]
fn a_certificate_of_another_ca_is_untrusted() {
    let emulator = contoso();
    let other = contoso();
    let endpoint = Endpoint::parse(emulator.https_url().unwrap()).unwrap();
    let policy = RetryPolicy::new().with_max_retries(0);
    let mut provisioning = toaster().with_endpoint(endpoint).with_retry_policy(policy);
    let mut run = |ca: &str| {
        provision(&mut provisioning, &mut toaster_key(), Transport::EmbeddedIoTls, ca, &mut [0; 1024]).map(|_| ())
    };
    let error = run(other.ca_pem()).unwrap_err();
    assert_eq!(error, Error::Untrusted);
    assert_eq!(emulator.requests().len(), 0);
    assert_eq!(run(emulator.ca_pem()), Ok(()));
}
