//! Behavior that records of the real service show: one test for each record, named after its source. If records
//! disagree, a setting of `[behaviour]` chooses.

mod support;

use std::{net::TcpListener, thread, time::Duration};

use azure_dps_emulator::{
    AllocationPolicy, Behaviour, Config, DisabledAnswer, Emulator, HubRefusalMessage, IndividualEnrollment, Script,
    SymmetricKey, TpmChallenge,
};
use reqwest::{Method, blocking::Response, header::CONTENT_TYPE};
use rumqttc::QoS;
use serde_json::{Value, json};
use support::{
    mqtt::{Client, FILTER, REGISTER},
    software_tpm::SoftwareTpm,
    x509::Ca,
    *,
};

/// Starts the emulator with HTTP and MQTT. Its own delays take no time.
fn start(change: impl FnOnce(&mut Config)) -> Emulator {
    let mut config = Config::contoso();
    change(&mut config);
    Emulator::builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap()
}

fn with(change: impl FnOnce(&mut Behaviour)) -> Emulator {
    start(|config| change(&mut config.behaviour))
}

fn set(emulator: &Emulator, change: impl FnOnce(&mut Behaviour)) {
    emulator.update(|config| change(&mut config.behaviour));
}

fn toaster(emulator: &Emulator) -> Device {
    Device::of_group(emulator, TOASTER)
}

/// Registers over HTTP with this body.
fn put(device: &Device, body: &str) -> Response {
    let path = format!("{}/register{VERSION}", device.path());
    device.request(Method::PUT, &path).header(CONTENT_TYPE, "application/json").body(body.to_owned()).send().unwrap()
}

/// Registers over MQTT with this password. Returns the status and the body of the answer.
fn put_over_mqtt(emulator: &Emulator, password: &str, body: &str) -> (u16, Value) {
    let mut client = Client::open(emulator, "mqtt", TOASTER);
    assert_eq!(client.connect(password), Some(0));
    client.subscribe(FILTER, QoS::AtLeastOnce);
    let (topic, body) = client.ask(REGISTER, body);
    (topic[..3].parse().unwrap(), body)
}

fn request_id(response: &Response) -> String {
    response.headers()["x-ms-request-id"].to_str().unwrap().to_owned()
}

fn code((status, body): &(u16, Value)) -> (u16, u64, &str) {
    (*status, body["errorCode"].as_u64().unwrap_or_default(), body["message"].as_str().unwrap_or_default())
}

/// The fractions of times: `.62286Z` in the tutorial's log of 2020, `.263671Z` in a capture of 2021, `.949507Z` in
/// one of 2025.
#[test]
fn tutorial_2020_fractions_have_no_zeros_at_the_end() {
    let emulator = start(|_| {});
    let device = toaster(&emulator);
    // One time in ten has a zero as its seventh digit.
    for _ in 0..60 {
        let (_, body) = answer(put(&device, "{"));
        let time = body["timestampUtc"].as_str().unwrap();
        assert!(time.ends_with('Z') && !time.ends_with("0Z"), "{time}");
    }
}

/// A wrong key is 401002 over HTTP: azure-iot-sdk-node#721 and azure-iot-sdk-c#1748 (2020),
/// azure-iot-sdk-csharp#3061. It is 401000 over MQTT: azure-docs#43157. It was 401000 over HTTP in 2019:
/// dps-keygen#7.
#[test]
fn sdk_c_1748_a_refused_key_is_401002_over_http_and_401000_over_mqtt() {
    let emulator = start(|_| {});
    let wrong = Device::new(&emulator, TOASTER, &derive(OTHER_KEY, TOASTER));
    assert_eq!(code(&answer(wrong.put())), (401, 401_002, "Unauthorized"));
    let over_mqtt = put_over_mqtt(&emulator, &token(&wrong.key, TOASTER), "{}");
    assert_eq!(code(&over_mqtt), (401, 401_000, "Unauthorized"));
    // Only a wrong key has this code. Other faults of a token are 401000 over both protocols.
    assert_eq!(code(&wrong.put_with("no token")), (401, 401_000, "Unauthorized"));

    set(&emulator, |behaviour| behaviour.refused_key_code_over_http = 401_000);
    assert_eq!(code(&answer(wrong.put())), (401, 401_000, "Unauthorized"));
}

/// The `trackingId` of an error is its `x-ms-request-id`: vscode-iot-workbench#590 (2019).
#[test]
fn vscode_iot_workbench_590_tracking_id_is_request_id() {
    let emulator = start(|_| {});
    let device = toaster(&emulator);
    for same in [false, true] {
        set(&emulator, |behaviour| behaviour.tracking_id_is_request_id = same);
        let response = device.unsigned(Method::PUT, &format!("{}/register{VERSION}", device.path())).send().unwrap();
        let header = request_id(&response);
        let (_, body) = answer(response);
        assert_eq!(body["trackingId"] == *header, same, "{header} {body}");
        assert_eq!(header.len(), 36);
    }
}

/// There is no `x-ms-error-code`: vscode-iot-workbench#590 (2019). The specification has this header.
#[test]
fn vscode_iot_workbench_590_no_error_code_header() {
    let emulator = start(|_| {});
    let wrong = Device::new(&emulator, TOASTER, OTHER_KEY);
    assert_eq!(wrong.put().headers()["x-ms-error-code"], "401002");
    set(&emulator, |behaviour| behaviour.error_code_header = false);
    assert!(wrong.put().headers().get("x-ms-error-code").is_none());
}

/// 429001 has `"trackingId":""`: the tests of Azure's middleware for FreeRTOS and of NetX Duo (both 2021). So has
/// 400012: azure-docs#66740 (2020), nanoframework/Home#904 (2021).
#[test]
fn azure_docs_66740_400012_and_429001_have_an_empty_tracking_id() {
    let emulator = with(|behaviour| behaviour.registrations_per_minute = Some(2));
    let device = toaster(&emulator);
    let deserialization = || {
        set(&emulator, |behaviour| behaviour.registrations_per_minute = None);
        let response = put(&device, "{");
        let id = request_id(&response);
        (id, answer(response).1)
    };
    let throttled = || {
        set(&emulator, |behaviour| behaviour.registrations_per_minute = Some(0));
        answer(put(&device, "{}")).1
    };
    let (id, body) = deserialization();
    assert_eq!((&body["errorCode"], &body["trackingId"], id.len()), (&json!(400_012), &json!(""), 36));
    let body = throttled();
    assert_eq!((&body["errorCode"], &body["trackingId"]), (&json!(429_001), &json!("")));
    let (_, body) = put_over_mqtt(&emulator, &token(&device.key, TOASTER), "{}");
    assert_eq!((&body["errorCode"], &body["trackingId"]), (&json!(429_001), &json!("")));

    set(&emulator, |behaviour| behaviour.empty_tracking_ids = vec![]);
    for body in [deserialization().1, throttled()] {
        assert_eq!(body["trackingId"].as_str().unwrap().len(), 36, "{body}");
    }
}

/// 400012 "Deserialization error." is the answer to a body that is not JSON (nanoframework/Home#904, 2021), to a
/// payload that is a string (azure-docs#81864, 2021) and to an unknown member (azure-docs#66740, 2020).
#[test]
fn azure_docs_81864_a_body_that_cannot_be_read_is_400012() {
    const REFUSED: (u16, u64, &str) = (400, 400_012, "Deserialization error.");
    const TAKEN: (u16, u64, &str) = (202, 0, "");
    let emulator = start(|_| {});
    let device = toaster(&emulator);
    let ask = |body: &str| {
        let over_http = answer(put(&device, body));
        let over_mqtt = put_over_mqtt(&emulator, &token(&device.key, TOASTER), body);
        assert_eq!(code(&over_http), code(&over_mqtt), "{body}");
        over_http
    };
    let string = r#"{"payload":"text"}"#;
    let unknown = r#"{"registrationId":"breakroom499-contoso-tstrsd-007","modelId":"dtmi:com:example:Thermostat;1"}"#;
    for (body, expected) in [
        ("{", REFUSED),
        ("[]", REFUSED),
        ("\0", REFUSED),
        (r#"{"registrationId":7}"#, REFUSED),
        // The quoted object of nanoFramework.
        (r#"{"payload":"{"modelId":"dtmi:com:contoso:mydevises:dev1;1"}"}"#, REFUSED),
        (string, REFUSED),
        // No source has these payloads. The emulator accepts them and does not pass them on.
        (r#"{"payload":7}"#, TAKEN),
        (r#"{"payload":["text"]}"#, TAKEN),
        (r#"{"payload":{"a":"text"}}"#, TAKEN),
        (unknown, TAKEN),
    ] {
        assert_eq!(code(&ask(body)), expected, "{body}");
    }
    set(&emulator, |behaviour| {
        behaviour.refuse_string_payload = false;
        behaviour.refuse_unknown_members = true;
    });
    assert_eq!(code(&ask(string)), TAKEN);
    assert_eq!(code(&ask(unknown)), REFUSED);
    assert!(emulator.requests().pop().unwrap().outcome.contains("\"modelId\""));
    assert_eq!(code(&ask(r#"{"registrationId":"breakroom499-contoso-tstrsd-007","payload":{},"tpm":null}"#)), TAKEN);
    assert!(emulator.webhook_calls().iter().all(|call| call.request["deviceRuntimeContext"]["payload"] != "text"));
}

/// azure-iot-sdk-c PR#2250 (2022): "`Precondition failed.` server error".
#[test]
fn sdk_c_2250_a_registration_while_one_is_running() {
    let webhook = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", webhook.local_addr().unwrap());
    let emulator = start(|config| {
        config.behaviour.refuse_concurrent_registration = true;
        config.webhook_url = Some(url);
    });
    let device = toaster(&emulator);
    device.register();
    assert_eq!(code(&answer(device.put())), (409, 409_203, "Precondition failed."));
}

/// "Invalid certificate." with a period: azure-docs (12/2019), azure-sdk-for-c (2020). Other records have the other
/// texts.
#[test]
fn sdk_for_c_2020_a_refused_certificate() {
    let (ca, other) = (Ca::root("factory"), Ca::root("another"));
    let mut config = Config::contoso();
    config.enrollment_groups[0].x509 = ca.attestation();
    config.enrollment_groups[0].primary_key = SymmetricKey::default();
    let emulator = Emulator::builder(config).https("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap();
    let identity = other.device(TOASTER);
    let refused = |text: &str| {
        let over_https = answer(Device::over_tls(&emulator, TOASTER, Some(&identity)).put());
        assert_eq!(code(&over_https), (401, 401_002, text));
        let mut client = Client::open_as(&emulator, "mqtts", TOASTER, Some(&identity));
        assert_eq!(client.connect(""), Some(0));
        client.subscribe(FILTER, QoS::AtLeastOnce);
        let (topic, body) = client.ask(REGISTER, "");
        assert_eq!(code(&(topic[..3].parse().unwrap(), body)), (401, 401_002, text));
    };
    refused("Invalid certificate.");
    for text in ["Unauthorized", "Signing certificate info did not match chain elements", "IotHubUnauthorizedAccess"] {
        set(&emulator, |behaviour| behaviour.certificate_refusal = text.to_owned());
        refused(text);
    }
}

/// All operation IDs of a device have the same middle part: azure-sdk-for-c (2020), Eclipse Kanto (2021).
#[test]
fn sdk_for_c_2020_the_middle_of_a_devices_operation_ids_is_constant() {
    let emulator = start(|_| {});
    let parts = |operation_id: String| {
        let parts: Vec<_> = operation_id.split('.').map(str::to_owned).collect();
        let [version, middle, guid] = <[String; 3]>::try_from(parts).unwrap();
        assert_eq!((version.as_str(), middle.len(), guid.len()), ("5", 16, 36));
        (middle, guid)
    };
    let register = |id: &str| parts(Device::of_group(&emulator, id).register());
    let (first, second) = (register(TOASTER), register(TOASTER));
    assert!(first.0 == second.0 && first.1 != second.1, "{first:?} {second:?}");
    assert_eq!(first.0, parts(Client::toaster(&emulator).register()).0);
    assert_ne!(first.0, register(HEAT_PUMP).0);

    set(&emulator, |behaviour| behaviour.constant_operation_id_middle = false);
    assert_ne!(register(TOASTER).0, register(TOASTER).0);
}

/// azure-iot-sdk-csharp PR#2397 (2022), iotedge PR#3834 (2020): "For API versions prior to 2019-04-15 a substatus of
/// InitialAssignment was returned".
#[test]
fn sdk_csharp_2397_the_substatus_depends_on_the_api_version() {
    let emulator = start(|_| {});
    let device = toaster(&emulator);
    device.assigned();
    let substatus = |version: &str| {
        let path = format!("{}/register?api-version={version}", device.path());
        let (_, body) = answer(device.request(Method::PUT, &path).send().unwrap());
        device.poll(body["operationId"].as_str().unwrap())["registrationState"]["substatus"].clone()
    };
    for (version, expected) in [
        ("2018-11-01", "initialAssignment"),
        ("2019-03-31", "initialAssignment"),
        ("2019-04-15", "reprovisionedToInitialAssignment"),
        ("2021-06-01", "reprovisionedToInitialAssignment"),
        ("2025-07-01-preview", "reprovisionedToInitialAssignment"),
    ] {
        assert_eq!(substatus(version), expected, "{version}");
    }
    // The answer depends on the api-version, the record does not.
    assert_eq!(substatus("2019-03-31"), "initialAssignment");
    assert_eq!(emulator.device(TOASTER).unwrap().substatus.as_str(), "reprovisionedToInitialAssignment");

    set(&emulator, |behaviour| behaviour.substatus_by_api_version = false);
    assert_eq!(substatus("2019-03-31"), "reprovisionedToInitialAssignment");
}

/// Members of the enrollment that are not set can be absent. The tutorial's logs of 2020 and 2022 have them.
#[test]
fn an_allocation_request_without_members_that_are_not_set() {
    let emulator = start(|config| config.enrollment_groups[0].allocation.iot_hubs.clear());
    let present = || {
        toaster(&emulator).assigned();
        let entry = emulator.webhook_calls().pop().unwrap().request["enrollmentGroup"].clone();
        ["capabilities", "reprovisionPolicy", "iotHubs"].map(|name| entry.get(name).is_some())
    };
    assert_eq!(present(), [true; 3]);
    set(&emulator, |behaviour| behaviour.omit_unset_members = true);
    assert_eq!(present(), [false; 3]);
    emulator.update(|config| {
        let hubs = config.linked_hubs.clone();
        let group = &mut config.enrollment_groups[0];
        group.iot_edge = true;
        group.reprovision_policy = azure_dps_emulator::ReprovisionPolicy::Reset;
        group.allocation.iot_hubs = hubs;
    });
    assert_eq!(present(), [true; 3]);
}

/// A webhook that answers 401 can give the text that the tutorial has for 400.
#[test]
fn a_webhook_that_answers_401() {
    let emulator = start(|_| {});
    emulator.contoso().unwrap().respond(401, "");
    let expected = (400_209, "Custom allocation failed with status code: 401".to_owned());
    assert_eq!(toaster(&emulator).failed(), expected);
}

/// Tests of the SDKs for C and Java (2017) have a longer message and a member that is `null`.
#[test]
fn sdk_java_2017_the_tpm_challenge() {
    let tpm = SoftwareTpm::new();
    let base64 = |key: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, key);
    let emulator = start(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.into(),
            tpm: Some(azure_dps_emulator::TpmAttestation {
                endorsement_key: base64(tpm.endorsement_key()).parse().unwrap(),
                storage_root_key: None,
            }),
            ..IndividualEnrollment::default()
        });
    });
    let device = Device { key: String::new(), ..toaster(&emulator) };
    let keys = json!({
        "endorsementKey": base64(tpm.endorsement_key()),
        "storageRootKey": base64(tpm.storage_root_key()),
    });
    let challenge = || {
        let (status, body) = answer(put(&device, &json!({ "registrationId": TOASTER, "tpm": keys }).to_string()));
        assert_eq!((status, &body["keyName"]), (401, &json!("registration")));
        let key =
            base64::Engine::decode(&base64::prelude::BASE64_STANDARD, body["authenticationKey"].as_str().unwrap());
        tpm.activate(&key.unwrap()).unwrap();
        let names: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
        (body["message"].as_str().unwrap().to_owned(), names.join(" "), body)
    };
    let (message, names, _) = challenge();
    assert_eq!((&*message, &*names), ("Authorization required.", "message authenticationKey keyName"));

    set(&emulator, |behaviour| behaviour.tpm_challenge = TpmChallenge::Long);
    let (message, names, body) = challenge();
    assert_eq!(message, "Authorization required, resend request using supplied key");
    assert_eq!(names, "message authenticationKey unencryptedAuthenticationKey keyName");
    assert!(body["unencryptedAuthenticationKey"].is_null());
}

/// The tests of Azure's middleware for FreeRTOS (2021) have an operation ID and no times. Other records have `""`.
#[test]
fn freertos_2021_a_disabled_device() {
    let emulator = start(|config| config.enrollment_groups[0].enabled = false);
    let device = toaster(&emulator);
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["operationId"], &body["status"]), (200, &json!(""), &json!("disabled")));
    assert!(body["registrationState"]["etag"].is_string());

    set(&emulator, |behaviour| behaviour.disabled_answer = DisabledAnswer::Operation);
    let (status, body) = answer(device.put());
    assert_eq!((status, body["operationId"].as_str().unwrap().len()), (200, "5.".len() + 16 + ".".len() + 36));
    assert_eq!(body["status"], "disabled");
    let state = json!({ "registrationId": TOASTER, "status": "disabled" });
    assert_eq!(body["registrationState"], state);

    // The answer is the same for a device that is disabled while it registers.
    let webhook = TcpListener::bind("127.0.0.1:0").unwrap();
    emulator.update(|config| {
        config.enrollment_groups[0].enabled = true;
        config.webhook_url = Some(format!("http://{}/", webhook.local_addr().unwrap()));
    });
    let operation_id = device.register();
    emulator.update(|config| config.enrollment_groups[0].enabled = false);
    assert_eq!(device.poll(&operation_id)["registrationState"], state);
    assert_eq!(device.lookup(), (200, state));
}

/// azure-iot-sdk-node#721 (2020): "the key used to register is cached for 30 minutes. If you re-register with another
/// key within that 30 minutes you will get an UNAUTH". Also azure-iot-sdk-c#1748 (2020) and azure-iot-cli-extension
/// PR#515 (2022).
#[test]
fn sdk_node_721_the_key_used_last_blocks_the_other_over_http() {
    let keys = |primary: &str, secondary: &str| {
        let key = |text| SymmetricKey::from_base64(text).unwrap();
        (key(primary), Some(key(secondary)))
    };
    let (primary_key, secondary_key) = keys(GROUP_KEY, OTHER_KEY);
    let group = start(|config| config.enrollment_groups[0].secondary_key = secondary_key.clone());
    let individual = start(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.into(),
            primary_key,
            secondary_key,
            ..IndividualEnrollment::default()
        });
    });
    let derived = |key| derive(key, TOASTER);
    for (emulator, primary, secondary) in
        [(&group, derived(GROUP_KEY), derived(OTHER_KEY)), (&individual, GROUP_KEY.to_owned(), OTHER_KEY.to_owned())]
    {
        let (wrong, primary, secondary) =
            [derive(OTHER_KEY, HEAT_PUMP), primary, secondary].map(|key| Device::new(emulator, TOASTER, &key)).into();
        // A rejected key blocks nothing: azure-iot-sdk-c#1815.
        assert_eq!(code(&answer(wrong.put())), (401, 401_002, "Unauthorized"));
        let operation_id = primary.register();
        let blocked = |other: &Device| {
            for response in [other.put(), other.get(&operation_id)] {
                assert_eq!(code(&answer(response)), (401, 401_002, "Unauthorized"));
                assert!(emulator.requests().pop().unwrap().outcome.contains("other_key_blocked_for"));
            }
            assert_eq!(other.lookup().0, 401);
        };
        blocked(&secondary);
        assert_eq!(primary.put().status(), 202);
        // Over MQTT, either key is accepted and blocks nothing.
        assert_eq!(put_over_mqtt(emulator, &token(&secondary.key, TOASTER), "{}").0, 202);
        assert_eq!(put_over_mqtt(emulator, &token(&primary.key, TOASTER), "{}").0, 202);
        blocked(&secondary);

        // After the 30 minutes, the other key can be used.
        set(emulator, |behaviour| behaviour.other_key_blocked_for = 0.05);
        thread::sleep(Duration::from_millis(60));
        assert_eq!(secondary.put().status(), 202);
        set(emulator, |behaviour| behaviour.other_key_blocked_for = 1800.0);
        blocked(&primary);
        // Without the rule, both keys are always accepted.
        set(emulator, |behaviour| behaviour.other_key_blocked_for = 0.0);
        for device in [&primary, &secondary, &primary] {
            assert_eq!(device.put().status(), 202);
        }
    }
    // Each device of a group has its own 30 minutes, and a key that was replaced blocks nothing.
    set(&group, |behaviour| behaviour.other_key_blocked_for = 1800.0);
    let heat_pump = |key| Device::new(&group, HEAT_PUMP, &derive(key, HEAT_PUMP));
    assert_eq!(heat_pump(OTHER_KEY).put().status(), 202);
    assert_eq!(heat_pump(GROUP_KEY).put().status(), 401);
    group.update(|config| config.enrollment_groups[0].secondary_key = None);
    assert_eq!(heat_pump(GROUP_KEY).put().status(), 202);
}

/// A registration fails with 401002 if the hub rejects DPS. azure-iot-sdk-c#1789 (2020) and iotedge#6675 (2022) have
/// JSON in the message, azure-iot-sdk-c#2362 (2022) has JSON in JSON.
#[test]
fn sdk_c_1789_a_hub_that_refuses_the_service() {
    let emulator = start(|config| {
        config.behaviour.inaccessible_hubs = vec![TOASTERS_HUB.to_uppercase()];
    });
    let message = || {
        let (code, message) = toaster(&emulator).failed();
        assert_eq!(code, 401_002);
        message
    };
    let parse = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    let outer = parse(&message().into());
    assert_eq!(outer["Message"], "ErrorCode:IotHubUnauthorizedAccess;Unauthorized");
    assert!(outer["ExceptionMessage"].as_str().unwrap().starts_with("Tracking ID:"), "{outer}");

    set(&emulator, |behaviour| behaviour.hub_refusal_message = HubRefusalMessage::NestedJson);
    let outer = parse(&message().into());
    assert_eq!(outer["ExceptionMessage"], "");
    let inner = parse(&outer["Message"]);
    assert_eq!((&inner["errorCode"], &inner["message"]), (&json!(401_002), &json!("Unauthorized access")));
    assert!(inner["trackingId"].as_str().unwrap().contains("-TimeStamp:"), "{inner}");
    assert_eq!(inner.get("info"), Some(&Value::Null));

    set(&emulator, |behaviour| behaviour.hub_refusal_message = HubRefusalMessage::Plain);
    assert_eq!(message(), "Unauthorized access");
    // The other hub accepts DPS.
    Device::of_group(&emulator, HEAT_PUMP).assigned();
    assert!(emulator.device(TOASTER).is_none());
    // A script can give such a message to any other failure.
    let patch = json!({ "registrationState": { "errorMessage": "{\"Message\":\"m\",\"ExceptionMessage\":\"e\"}" } });
    emulator.contoso().unwrap().respond(403, "");
    let device = toaster(&emulator);
    let operation_id = device.register();
    let plain = device.poll(&operation_id);
    assert!(plain["registrationState"]["errorMessage"].as_str().unwrap().starts_with("Custom allocation"));
    emulator.script(Script::merge(azure_dps_emulator::Operation::Status, patch));
    let state = device.poll(&operation_id)["registrationState"].clone();
    assert_eq!((&state["errorCode"], &parse(&state["errorMessage"])["Message"]), (&json!(400_207), &json!("m")));
}

/// The mock of iot-identity-service sends a 202 without `status`, and a hub with a port.
#[test]
fn iot_identity_service_mock_no_status_in_202_and_a_hub_with_a_port() {
    let emulator = start(|config| {
        config.behaviour.status_in_202 = false;
        config.behaviour.polls_before_result = 1;
        config.linked_hubs = vec!["localhost:8443".into()];
        config.enrollment_groups[0].allocation =
            azure_dps_emulator::Allocation { policy: AllocationPolicy::Static, ..Default::default() };
    });
    let device = toaster(&emulator);
    let (status, body) = answer(device.put());
    assert_eq!((status, body.get("status")), (202, None));
    let operation_id = body["operationId"].as_str().unwrap();
    let (status, body) = answer(device.get(operation_id));
    assert_eq!((status, body.get("status")), (202, None));
    assert_eq!(body["registrationState"]["status"], "assigning");
    let (status, body) = answer(device.get(operation_id));
    assert_eq!((status, &body["status"]), (200, &json!("assigned")));
    assert_eq!(body["registrationState"]["assignedHub"], "localhost:8443");

    set(&emulator, |behaviour| behaviour.status_in_202 = true);
    assert_eq!(answer(device.put()).1["status"], "assigning");
}

/// Every setting can be set in TOML.
#[test]
fn the_switches_may_be_in_toml() {
    let text = format!(
        r#"
        id_scope = "{SCOPE}"

        [behaviour]
        refused_key_code_over_http = 401000
        other_key_blocked_for = 0.0
        refuse_string_payload = false
        refuse_unknown_members = true
        empty_tracking_ids = [400004]
        tracking_id_is_request_id = true
        error_code_header = false
        certificate_refusal = "Unauthorized"
        constant_operation_id_middle = false
        substatus_by_api_version = false
        omit_unset_members = true
        tpm_challenge = "long"
        disabled_answer = "operation"
        inaccessible_hubs = ["{TOASTERS_HUB}"]
        hub_refusal_message = "nested_json"
        status_in_202 = false
        "#
    );
    let read = Config::from_toml(&text).unwrap().behaviour;
    let expected = Behaviour {
        refused_key_code_over_http: 401_000,
        other_key_blocked_for: 0.0,
        refuse_string_payload: false,
        refuse_unknown_members: true,
        empty_tracking_ids: vec![400_004],
        tracking_id_is_request_id: true,
        error_code_header: false,
        certificate_refusal: "Unauthorized".into(),
        constant_operation_id_middle: false,
        substatus_by_api_version: false,
        omit_unset_members: true,
        tpm_challenge: TpmChallenge::Long,
        disabled_answer: DisabledAnswer::Operation,
        inaccessible_hubs: vec![TOASTERS_HUB.into()],
        hub_refusal_message: HubRefusalMessage::NestedJson,
        status_in_202: false,
        ..Behaviour::default()
    };
    assert_eq!(format!("{read:?}"), format!("{expected:?}"));
    assert!(Config::from_toml(&text.replace("for = 0.0", "for = -1.0")).is_err());
}
