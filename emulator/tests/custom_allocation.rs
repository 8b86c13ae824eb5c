//! Custom allocation: the rules of the concept page, and the troubleshooting table of the tutorial.

mod support;

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use azure_dps_emulator::{
    Config, Emulator, Event, IndividualEnrollment, SymmetricKey, Twin, UnlinkedHub,
    contoso::{ContosoOptions, Webhook},
};
use serde_json::{Value, json};
use support::*;

fn toaster_hub() -> String {
    json!({ "iotHubHostName": TOASTERS_HUB }).to_string()
}

/// Starts the tutorial's service. Its webhook answers the next call with this.
fn answering(status: u16, body: impl Into<String>) -> Emulator {
    let emulator = contoso();
    emulator.contoso().unwrap().respond(status, body);
    emulator
}

fn toaster(emulator: &Emulator) -> Device {
    Device::of_group(emulator, TOASTER)
}

// ---- The troubleshooting table, row by row ----

/// "The webhook returns 200 OK with 'iotHubHostName' set to a valid IoT hub host name: Assigned".
#[test]
fn ok_with_a_hub_is_assigned() {
    let emulator = answering(200, toaster_hub());
    assert_eq!(toaster(&emulator).assigned()["assignedHub"], TOASTERS_HUB);
}

/// "The webhook returns 200 OK with 'iotHubHostName' present in the response, but set to an empty string or null:
/// CustomAllocationIotHubNotSpecified (400208)". The same without the member.
#[test]
fn ok_without_a_hub_is_400208() {
    for body in [r#"{"iotHubHostName":""}"#, r#"{"iotHubHostName":null}"#, "{}"] {
        let emulator = answering(200, body);
        assert_eq!(toaster(&emulator).failed().0, 400_208, "{body}");
    }
}

/// "The webhook returns 401 Unauthorized: CustomAllocationUnauthorizedAccess (400209)".
#[test]
fn unauthorized_is_400209() {
    let emulator = answering(401, "");
    assert_eq!(toaster(&emulator).failed().0, 400_209);
}

/// "An Individual Enrollment was created to disable the device: Result status: Disabled".
#[test]
fn a_disabled_individual_enrollment_is_disabled() {
    let emulator = changed(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.into(),
            enabled: false,
            primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
            ..IndividualEnrollment::default()
        });
    });
    // The device still signs with its key of the group.
    let (status, body) = answer(toaster(&emulator).put());
    assert_eq!(status, 200);
    assert_eq!((&body["operationId"], &body["status"]), (&json!(""), &json!("disabled")));
    let state = &body["registrationState"];
    assert_eq!((&state["registrationId"], &state["status"]), (&json!(TOASTER), &json!("disabled")));
    assert!(state.get("assignedHub").is_none());
    assert!(emulator.webhook_calls().is_empty());
    // The other devices of the group are not affected.
    Device::of_group(&emulator, HEAT_PUMP).assigned();
}

/// "The webhook returns error code >= 429: DPS' orchestration will retry several times". The device gets `assigning`
/// meanwhile.
#[test]
fn from_429_on_the_webhook_is_called_again() {
    let emulator = answering(429, "slow down");
    emulator.contoso().unwrap().respond(503, "");
    emulator.contoso().unwrap().respond(599, "");
    assert_eq!(toaster(&emulator).assigned()["assignedHub"], TOASTERS_HUB);
    let calls = emulator.webhook_calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.attempt, call.status)).collect();
    assert_eq!(seen, [(1, Some(429)), (2, Some(503)), (3, Some(599)), (4, Some(200))]);
    assert!(calls.iter().all(|call| call.request_body == calls[0].request_body));
}

/// "Retry count: 10; initial interval: 1 s; increment: 9 s": these are eleven calls with 415 s between them. After
/// that, as we read it, the registration ends with CustomAllocationFailed.
#[test]
fn ten_retries_one_second_and_nine_more_each_time() {
    let scale = 1000.0;
    let emulator = Emulator::builder(Config::contoso()).time_scale(scale).start().unwrap();
    for _ in 0..11 {
        emulator.contoso().unwrap().respond(503, "");
    }
    assert_eq!(toaster(&emulator).failed(), (400_207, "Custom allocation failed with status code: 503".into()));
    let calls = emulator.webhook_calls();
    assert_eq!(calls.len(), 11);
    for (retry, pair) in (0..).zip(calls.windows(2)) {
        let pause = pair[1].at.duration_since(pair[0].at).unwrap().as_secs_f64() * scale;
        assert!(pause >= 1.0 + 9.0 * f64::from(retry), "{pause} s before retry {}", retry + 1);
    }
}

/// "The webhook returns any other status code: CustomAllocationFailed (400207)".
#[test]
fn any_other_status_is_400207() {
    for status in [201, 204, 302, 400, 403, 404, 428] {
        let emulator = answering(status, toaster_hub());
        assert_eq!(
            toaster(&emulator).failed(),
            (400_207, format!("Custom allocation failed with status code: {status}"))
        );
        assert_eq!(emulator.webhook_calls().len(), 1);
    }
}

/// The unknown device of the tutorial: the webhook answers 400.
#[test]
fn an_unrecognized_device_is_400207() {
    let emulator = contoso();
    assert_eq!(
        Device::of_group(&emulator, "somebody-else").failed(),
        (400_207, "Custom allocation failed with status code: 400".into())
    );
    assert_eq!(emulator.webhook_calls()[0].response_body, "Unrecognized device registration.");
    assert!(emulator.device("somebody-else").is_none());
}

/// The webhook is unreachable, too slow, or its answer is not JSON. UNCERTAIN: 400207.
#[test]
fn no_answer_is_400207() {
    for body in ["", "nonsense", "[]", "null", r#"{"iotHubHostName":7}"#, r#"{"initialTwin":7}"#] {
        let emulator = answering(200, body);
        assert_eq!(toaster(&emulator).failed().0, 400_207, "{body}");
    }

    // Bind a free port and close it, so that no program listens there.
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let emulator = builder(Config::contoso()).webhook(format!("http://{nowhere}/")).start().unwrap();
    assert_eq!(toaster(&emulator).failed().0, 400_207);
    assert_eq!(emulator.webhook_calls()[0].status, None);

    // A server that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::contoso();
    config.behaviour.webhook_timeout = 0.05;
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let emulator = builder(config).webhook(url).start().unwrap();
    assert_eq!(
        toaster(&emulator).failed(),
        (400_207, "Custom allocation failed: the webhook did not answer in time".into())
    );
}

/// "Max message 96 KB": a much longer answer is not read to its end.
#[test]
fn an_answer_without_end_is_400207() {
    let payload = json!({ "x": "x".repeat(1 << 20) });
    let emulator = answering(200, json!({ "iotHubHostName": TOASTERS_HUB, "payload": payload }).to_string());
    assert_eq!(
        toaster(&emulator).failed(),
        (400_207, "Custom allocation failed: the webhook's answer is too long".into())
    );
}

/// Half of a surrogate pair cannot be sent to a device. Found by fuzzing.
#[test]
fn a_payload_that_is_not_unicode_is_400207() {
    let emulator = answering(200, format!(r#"{{"iotHubHostName":"{TOASTERS_HUB}","payload":{{"a":"\ude92"}}}}"#));
    let (code, message) = toaster(&emulator).failed();
    assert_eq!(code, 400_207);
    assert!(message.starts_with("Custom allocation failed: the response cannot be read: "), "{message}");
}

/// "This must be one of the IoT hubs passed in the linkedHubs property in the request." The result for another hub is
/// UNCERTAIN: 400207, or as configured.
#[test]
fn a_hub_that_is_not_linked_is_400207_or_as_configured() {
    let elsewhere = json!({ "iotHubHostName": "elsewhere.azure-devices.net" }).to_string();
    let emulator = answering(200, &*elsewhere);
    assert_eq!(toaster(&emulator).failed().0, 400_207);

    emulator.update(|config| config.behaviour.unlinked_hub = UnlinkedHub::HubNotFound);
    emulator.contoso().unwrap().respond(200, &*elsewhere);
    assert_eq!(toaster(&emulator).failed(), (401_001, "IoTHub not found.".into()));

    emulator.update(|config| config.behaviour.unlinked_hub = UnlinkedHub::Assigned);
    emulator.contoso().unwrap().respond(200, &*elsewhere);
    assert_eq!(toaster(&emulator).assigned()["assignedHub"], "elsewhere.azure-devices.net");
}

// ---- The log ----

/// Returns the line of the log for the last call.
fn line(emulator: &Emulator) -> String {
    emulator.webhook_calls().pop().unwrap().to_string()
}

/// The log says that a hub is refused, not that it is allocated, and lists the offered hubs, but only some of many.
#[test]
fn the_log_has_the_rejected_hub() {
    let emulator = answering(200, json!({ "iotHubHostName": "else\u{1b}where" }).to_string());
    toaster(&emulator).failed();
    let call = emulator.webhook_calls().pop().unwrap();
    assert_eq!(
        call.outcome,
        format!(
            "400207 rejected else\\u{{1b}}where, which is not one of the offered hubs: {TOASTERS_HUB}, {HEATPUMPS_HUB}"
        )
    );
    assert_eq!(call.assigned_hub, None);
    emulator.update(|config| {
        config.linked_hubs = (0..100).map(|n| format!("hub-{n}")).collect();
        config.enrollment_groups[0].allocation.iot_hubs.clear();
    });
    emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": "elsewhere" }).to_string());
    toaster(&emulator).failed();
    assert!(
        line(&emulator).contains("offered hubs: hub-0, hub-1, hub-2, hub-3, hub-4, hub-5, hub-6, hub-7 and 92 more")
    );

    // A hub that was offered, but rejects DPS.
    emulator.update(|config| config.behaviour.inaccessible_hubs = vec!["hub-99".into()]);
    emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": "hub-99" }).to_string());
    assert_eq!(toaster(&emulator).failed().0, 401_002);
    let call = emulator.webhook_calls().pop().unwrap();
    assert_eq!(call.outcome, "401002 hub-99 rejects the service (inaccessible_hubs)");
    assert_eq!(call.assigned_hub, None);

    // With this setting, any hub is accepted.
    emulator.update(|config| config.behaviour.unlinked_hub = UnlinkedHub::Assigned);
    emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": "elsewhere" }).to_string());
    toaster(&emulator).assigned();
    let call = emulator.webhook_calls().pop().unwrap();
    assert_eq!((call.outcome.as_str(), call.assigned_hub.as_deref()), ("allocated elsewhere", Some("elsewhere")));
}

/// "attempt 2 of 11, next in 9 s", in the log and in JSON.
#[test]
fn a_retry_has_its_number_and_the_time_of_the_next_one() {
    let emulator = answering(429, "slow down");
    emulator.contoso().unwrap().respond(503, "");
    toaster(&emulator).assigned();
    let calls = emulator.webhook_calls();
    let expected = [(1, 11, Some(1)), (2, 11, Some(10)), (3, 11, None)];
    for (call, (attempt, attempts, next_in)) in calls.iter().zip(expected) {
        assert_eq!((call.attempt, call.attempts), (attempt, attempts));
        assert_eq!(call.next_in, next_in.map(Duration::from_secs));
        let json = json!(call);
        assert_eq!(json["nextInMs"], next_in.map_or(Value::Null, |seconds| json!(seconds * 1000)));
        assert!(json["durationMs"].is_u64(), "{json}");
    }
    let line = calls[1].to_string();
    assert!(line.contains("-> 503 will be called again (attempt 2 of 11, "), "{line}");
    assert!(line.contains("ms, next in 10s, ") && line.contains("http://"), "{line}");

    let mut config = Config::contoso();
    config.behaviour.webhook_retries = 0;
    let emulator = builder(config).start().unwrap();
    emulator.contoso().unwrap().respond(503, "");
    toaster(&emulator).failed();
    let call = &emulator.webhook_calls()[0];
    let failed = "400207 Custom allocation failed with status code: 503";
    assert_eq!((call.attempts, call.next_in, call.outcome.as_str()), (1, None, failed));
}

/// A call without an answer is reported while it waits, and recorded once.
#[test]
fn a_call_in_progress_is_reported() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/?code=a-secret", silent.local_addr().unwrap());
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let seen = Arc::clone(&events);
    let mut config = Config::contoso();
    config.behaviour.webhook_timeout = 0.5;
    let emulator = builder(config)
        .webhook(url)
        .observer(move |event: &Event| seen.lock().unwrap().push(event.clone()))
        .start()
        .unwrap();
    toaster(&emulator).failed();
    let events = events.lock().unwrap();
    let calls: Vec<_> = events.iter().filter(|event| !matches!(event, Event::Request(_))).collect();
    let [Event::WebhookUnderWay(under_way), Event::Webhook(call)] = calls[..] else { panic!("{calls:?}") };
    assert_eq!((under_way.status, under_way.outcome.as_str()), (None, "no answer yet, the time-out is 500ms"));
    assert!(under_way.duration >= Duration::from_millis(100) && call.duration >= Duration::from_millis(500));
    let line = calls[0].to_string();
    assert!(line.contains(&format!("hook  POST {TOASTER} -> --- no answer yet, ")), "{line}");
    assert!(json!(calls[0])["webhookUnderWay"]["attempt"] == 1 && !line.contains("a-secret"));
    assert_eq!(emulator.webhook_calls().len(), 1);
}

/// The log shows the beginning of an answer that is not an `AllocationResponse`, without control characters and
/// without the key of the webhook.
#[test]
fn an_answer_that_is_not_json_is_shown() {
    let html = format!(
        "<html>\u{1b}[2J404: /api/HttpTrigger1?code=a+key%2F12&clientId=default or a key/12 of default</html>{}",
        "x".repeat(1000)
    );
    let mut config = Config::contoso();
    config.contoso.function_key = Some("a key/12".into());
    let emulator = builder(config).start().unwrap();
    emulator.contoso().unwrap().respond(200, html);
    toaster(&emulator).failed();
    let line = line(&emulator);
    assert!(line.contains("400207 Custom allocation failed: the response cannot be read"), "{line}");
    assert!(
        line.contains(
            "?****): <html>\\u{1b}[2J404: /api/HttpTrigger1?****&clientId=default or **** of default</html>xxx"
        ),
        "{line}"
    );
    assert!(line.ends_with("xxx…") && line.len() < 700, "{line}");
    assert!(!json!(emulator.webhook_calls()[0]).to_string().contains("key/12"));
    // The log does not repeat an answer that allocates a hub.
    toaster(&emulator).assigned();
    assert!(!self::line(&emulator).contains('{'));
}

/// The key of a webhook is masked with the escapes of JSON, of a URL or of HTML. It is also masked if it stands
/// instead of an object, so that the failure quotes it. A long text is cut there.
#[test]
fn a_key_is_masked_in_every_spelling() {
    let mut config = Config::contoso();
    config.contoso.function_key = Some("left-half+in/right-half==".into());
    let emulator = builder(config).start().unwrap();
    let spellings = [
        "left-half+in/right-half==",
        "left-half\\u002Bin\\/right-half\\u003d\\u003d",
        "left-half%2bin%2fright-half%3d%3d",
        "left-half&#43;in&#47;right-half&#61;&#61;",
    ];
    for spelling in spellings {
        let twin = format!(r#"{{"iotHubHostName":"{TOASTERS_HUB}","initialTwin":"{spelling}"}}"#);
        for (status, answer) in [(200, spelling), (200, &twin), (400, &twin)] {
            emulator.contoso().unwrap().respond(status, answer);
            let (_, message) = toaster(&emulator).failed();
            assert!(!message.contains("left-half") && !message.contains("right-half"), "{message}");
        }
    }
    let log = json!([emulator.webhook_calls(), emulator.requests()]).to_string();
    assert!(!log.contains("left-half") && !log.contains("right-half"));

    let long = json!({ "iotHubHostName": TOASTERS_HUB, "initialTwin": "x".repeat(100_000) });
    emulator.contoso().unwrap().respond(200, long.to_string());
    let (_, message) = toaster(&emulator).failed();
    assert!(message.ends_with("xxx…") && message.len() < 300, "{message}");
    assert!(line(&emulator).len() < 1000);
}

/// A hub rejects an initial twin that exceeds a limit, so the registration fails. If DPS ignores the twin, because
/// the device stays at its hub, the registration succeeds. In both cases there is a warning for the author of the
/// webhook.
#[test]
fn an_initial_twin_beyond_the_limits_fails_the_device() {
    let emulator = contoso();
    let large = json!({ "iotHubHostName": TOASTERS_HUB, "initialTwin": { "tags": { "a": "x".repeat(4097) } } });
    let fault = "tags.a has 4097 bytes of text; the limit is 4096";
    let warning = || emulator.webhook_calls().last().unwrap().warnings.join("\n");
    emulator.contoso().unwrap().respond(200, large.to_string());
    let (code, message) = toaster(&emulator).failed();
    assert_eq!((code, message), (400_004, format!("The IoT hub rejected the initial twin: {fault}")));
    assert!(warning().ends_with(fault), "{}", warning());
    assert!(emulator.device(TOASTER).is_none());

    emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": TOASTERS_HUB }).to_string());
    toaster(&emulator).assigned();
    emulator.contoso().unwrap().respond(200, large.to_string());
    toaster(&emulator).assigned();
    assert!(warning().ends_with(fault), "{}", warning());
}

/// A member that is ignored has a warning with the right place for it.
#[test]
fn ignored_members_have_a_warning() {
    let known = "the known members are iotHubHostName, initialTwin, payload";
    for (twin, extra, warnings) in [
        (json!({ "tags": {}, "properties": { "desired": {} } }), json!({}), vec![]),
        (
            json!({ "desired": { "a": 1 } }),
            json!({}),
            vec!["initialTwin.desired is ignored: it belongs in initialTwin.properties.desired".to_owned()],
        ),
        (
            json!({ "properties": { "Tags": {}, "reported": {} } }),
            json!({}),
            vec![
                "initialTwin.properties.Tags is ignored: it belongs in initialTwin.tags".to_owned(),
                "initialTwin.properties.reported is ignored: the known members are desired".to_owned(),
            ],
        ),
        (
            json!({ "payload": {} }),
            json!({ "Payload": {}, "payload": {}, "tags": {}, "hub\u{7}": 1 }),
            vec![
                format!("hub\\u{{7}} is ignored: {known}"),
                "payload appears more than once".to_owned(),
                "tags is ignored: it belongs in initialTwin.tags".to_owned(),
                "initialTwin.payload is ignored: it belongs in payload".to_owned(),
            ],
        ),
    ] {
        let mut answer = json!({ "iotHubHostName": TOASTERS_HUB, "initialTwin": twin });
        answer.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let emulator = answering(200, answer.to_string());
        toaster(&emulator).assigned();
        let call = &emulator.webhook_calls()[0];
        assert_eq!(call.warnings, warnings, "{answer}");
        assert_eq!(json!(call)["warnings"], json!(warnings));
        for warning in &warnings {
            assert!(line(&emulator).contains(&format!("; warning: {warning}")));
        }
    }
    // A hub with another name, and too many of them.
    let mut answer = json!({ "iotHub": TOASTERS_HUB });
    for n in 0..1000 {
        answer[format!("member {n}")] = json!(n);
    }
    let emulator = answering(200, answer.to_string());
    assert_eq!(toaster(&emulator).failed().0, 400_208);
    let warnings = &emulator.webhook_calls()[0].warnings;
    assert_eq!((warnings[0].clone(), warnings.len()), (format!("iotHub is ignored: {known}"), 8));
}

// ---- Hubs with a port ----

/// `assignedHub` has a port only if the linked hub has one. Webhooks return the name as it was offered.
#[test]
fn a_hub_has_a_port_if_it_was_linked_with_one() {
    let hub = "localhost:8443";
    let emulator = changed(|config| {
        config.linked_hubs.push(hub.into());
        config.enrollment_groups[0].allocation.iot_hubs.clear();
    });
    for (answer, assigned) in [
        (hub, Some(hub)),
        ("LOCALHOST:8443", Some(hub)),
        (TOASTERS_HUB, Some(TOASTERS_HUB)),
        ("localhost", None),
        ("localhost:8444", None),
        (&format!("{TOASTERS_HUB}:8883"), None),
    ] {
        emulator.contoso().unwrap().respond(200, json!({ "iotHubHostName": answer }).to_string());
        let device = toaster(&emulator);
        match assigned {
            Some(hub) => assert_eq!(device.assigned()["assignedHub"], hub, "{answer}"),
            None => assert_eq!(device.failed().0, 400_207, "{answer}"),
        }
    }
    let request = &emulator.webhook_calls()[1].request;
    assert_eq!(request["linkedHubs"], json!([TOASTERS_HUB, HEATPUMPS_HUB, hub]));
    assert_eq!(request["deviceRuntimeContext"]["currentIotHubHostName"], hub);
}

// ---- The request ----

/// "DPS sends a POST request to your webhook". The body is JSON, and the URL is the whole `webhookUrl`.
#[test]
fn the_webhook_is_called_by_post() {
    let webhook = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = webhook.local_addr().unwrap();
    let url = format!("http://{address}/api/HttpTrigger1?code=a%2Fkey%3D");
    let emulator = builder(Config::contoso()).webhook(url).start().unwrap();
    let device = toaster(&emulator);
    let operation_id = device.register();

    let (call, _) = webhook.accept().unwrap();
    let (head, body) = read_call(&call);
    assert_eq!(head[0], "post /api/httptrigger1?code=a%2fkey%3d http/1.1");
    assert!(head.contains(&format!("host: {address}")), "{head:?}");
    assert!(head.contains(&"content-type: application/json; charset=utf-8".into()), "{head:?}");
    assert_eq!(body["deviceRuntimeContext"]["registrationId"], TOASTER);

    answer_call(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
    assert_eq!(device.poll(&operation_id)["registrationState"]["assignedHub"], TOASTERS_HUB);
}

/// "You can then configure the webhook in one or more individual enrollments and enrollment groups": each enrollment
/// has its own webhook and its own key.
#[test]
fn each_enrollment_has_a_webhook_of_its_own() {
    let options =
        ContosoOptions { return_payload: true, function_key: Some("a+key".into()), ..ContosoOptions::default() };
    let other = Webhook::start("127.0.0.1:0", options).unwrap();
    let emulator = changed(|config| {
        let mut allocation = config.enrollment_groups[0].allocation.clone();
        allocation.webhook_url = Some(other.url_with_key());
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.into(),
            primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
            allocation,
            ..IndividualEnrollment::default()
        });
    });
    let state = Device::new(&emulator, TOASTER, OTHER_KEY).assigned();
    assert_eq!(state["payload"], json!({ "property1": "value1" }));
    assert!(emulator.contoso().unwrap().log().is_empty());
    let lines = other.log().len();
    assert!(lines > 0);
    assert!(Device::of_group(&emulator, HEAT_PUMP).assigned().get("payload").is_none());
    assert_eq!(other.log().len(), lines);
}

/// "linkedHubs: typically composed of the IoT hubs selected for the enrollment entry. If no IoT
/// hubs are selected in the enrollment entry, it will contain all the IoT hubs linked to the DPS
/// instance."
#[test]
fn linked_hubs_are_the_enrollments_or_else_all() {
    let emulator = changed(|config| config.linked_hubs.push("third.azure-devices.net".into()));
    toaster(&emulator).assigned();
    emulator.update(|config| config.enrollment_groups[0].allocation.iot_hubs.clear());
    toaster(&emulator).assigned();
    let calls = emulator.webhook_calls();
    assert_eq!(calls[0].request["linkedHubs"], json!([TOASTERS_HUB, HEATPUMPS_HUB]));
    assert_eq!(calls[1].request["linkedHubs"], json!([TOASTERS_HUB, HEATPUMPS_HUB, "third.azure-devices.net"]));
}

/// "individualEnrollment: Present if the device is registering through an individual enrollment."
/// "enrollmentGroup: Present if the device is registering through an enrollment group."
#[test]
fn the_request_names_the_kind_of_enrollment() {
    let mut config = Config::contoso();
    let group = &config.enrollment_groups[0];
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: TOASTER.into(),
        device_id: Some("toaster-1".into()),
        primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
        allocation: group.allocation.clone(),
        initial_twin: Twin { tags: json!({ "floor": 4 }).as_object().unwrap().clone(), ..Twin::default() },
        iot_edge: true,
        ..IndividualEnrollment::default()
    });
    let emulator = builder(config).start().unwrap();
    let state = Device::new(&emulator, TOASTER, OTHER_KEY).assigned();
    assert_eq!(state["deviceId"], "toaster-1");
    let request = &emulator.webhook_calls()[0].request;
    assert!(request.get("enrollmentGroup").is_none());
    let entry = &request["individualEnrollment"];
    assert_eq!(entry["registrationId"], TOASTER);
    assert_eq!(entry["deviceId"], "toaster-1");
    assert_eq!(entry["capabilities"], json!({ "iotEdge": true }));
    assert_eq!(entry["initialTwin"], json!({ "tags": { "floor": 4 }, "properties": { "desired": {} } }));
    Device::of_group(&emulator, HEAT_PUMP).assigned();
    let request = &emulator.webhook_calls()[1].request;
    assert!(request.get("individualEnrollment").is_none());
    assert_eq!(request["enrollmentGroup"]["enrollmentGroupId"], GROUP);
}

/// "payload: Present if the device sends a custom payload", exactly as the device sent it.
#[test]
fn the_payload_reaches_the_webhook_as_it_was_sent() {
    let emulator = contoso();
    let device = toaster(&emulator);
    device.assigned();
    assert!(emulator.webhook_calls()[0].request["deviceRuntimeContext"].get("payload").is_none());
    let payload = r#"{"z":1.10,"a":[null,{"property2-2":123456789012345678901234567890}],"e":"\u00e9"}"#;
    let response = device
        .request(reqwest::Method::PUT, &format!("{}/register{VERSION}", device.path()))
        .header("Content-Type", "application/json")
        .body(format!(r#"{{"registrationId":"{TOASTER}","payload":{payload}}}"#))
        .send()
        .unwrap();
    device.poll(answer(response).1["operationId"].as_str().unwrap());
    let sent = &emulator.webhook_calls()[1].request_body;
    assert!(sent.contains(&format!(r#""symmetricKey":{{}},"payload":{payload}}}"#)), "{sent}");
}

/// "Payload must be a JSON object; other types are not delivered."
#[test]
fn other_payloads_are_not_delivered() {
    let emulator = contoso();
    for payload in [json!([1]), json!(7), json!(true), Value::Null] {
        toaster(&emulator).with_payload(payload).assigned();
    }
    for call in emulator.webhook_calls() {
        assert!(call.request["deviceRuntimeContext"].get("payload").is_none());
    }
}

/// "include the function key in the webhookUrl field": the key is sent, and it is masked everywhere else.
#[test]
fn the_function_key_is_sent_and_masked() {
    let mut config = Config::contoso();
    config.contoso.function_key = Some("a key+with/odd=signs&more".into());
    let emulator = builder(config).start().unwrap();
    toaster(&emulator).assigned();
    let call = &emulator.webhook_calls()[0];
    assert!(call.url.ends_with("/api/HttpTrigger1?****"));
    let definition = &call.request["enrollmentGroup"]["customAllocationDefinition"];
    assert_eq!(definition["webhookUrl"], call.url);
    assert!(!emulator.contoso().unwrap().log().concat().contains("odd"));
}

/// "If the key isn't provided, the Azure Functions call fails authentication."
#[test]
fn without_the_function_key_the_call_fails() {
    let emulator = contoso();
    let url = emulator.contoso().unwrap().url();
    for url in [url.clone(), format!("{url}?code=wrong")] {
        emulator.update(|config| config.enrollment_groups[0].allocation.webhook_url = Some(url));
        assert_eq!(toaster(&emulator).failed().0, 400_209);
    }
}

// ---- The response ----

/// "AllocationResponse.payload … RegistrationOperationStatus.registrationState.payload".
#[test]
fn the_webhooks_payload_reaches_the_device() {
    let emulator = changed(|config| config.contoso.return_payload = true);
    let device = toaster(&emulator);
    let state = device.assigned();
    assert_eq!(state["payload"], json!({ "property1": "value1" }));
    // "always return it to the device regardless of whether the request is for initial assignment
    // or reprovisioning"
    assert_eq!(device.assigned()["payload"], json!({ "property1": "value1" }));
    assert_eq!(device.lookup().1["payload"], json!({ "property1": "value1" }));
}

/// Without a payload of the webhook, the device gets no payload.
#[test]
fn without_a_payload_the_field_is_absent() {
    let emulator = answering(200, json!({ "iotHubHostName": TOASTERS_HUB, "payload": null }).to_string());
    assert!(toaster(&emulator).assigned().get("payload").is_none());
}

/// "An object that contains data to be passed back to the device". For other JSON the service is UNCERTAIN: the
/// emulator passes it back, too.
#[test]
fn a_payload_that_is_not_an_object_reaches_the_device_too() {
    for payload in [json!([1, { "a": 2 }]), json!("text"), json!(7), json!(false)] {
        let emulator = answering(200, json!({ "iotHubHostName": TOASTERS_HUB, "payload": payload }).to_string());
        assert_eq!(toaster(&emulator).assigned()["payload"], payload);
    }
}

/// "Doc tables spell some names differently (`iotHubHostname`): match case-insensitively."
#[test]
fn response_names_are_not_case_sensitive() {
    let emulator = answering(
        200,
        json!({
            "IotHubHostname": TOASTERS_HUB.to_uppercase(),
            "InitialTwin": { "Tags": { "a": 1 }, "Properties": { "Desired": { "b": 2 } } },
            "Payload": { "c": 3 }
        })
        .to_string(),
    );
    let state = toaster(&emulator).assigned();
    assert_eq!((&state["assignedHub"], &state["payload"]), (&json!(TOASTERS_HUB), &json!({ "c": 3 })));
    let twin = emulator.device(TOASTER).unwrap().twin;
    assert_eq!((&twin.tags["a"], &twin.desired["b"]), (&json!(1), &json!(2)));
}

/// "On initial assignment, if the initialTwin property is returned by the webhook, DPS will set the
/// initial twin accordingly. If the initialTwin property is omitted or is null, DPS sets the initial
/// twin to the initial twin setting specified in the enrollment entry."
#[test]
fn the_first_twin_is_the_webhooks_or_else_the_enrollments() {
    for (answer, tags) in [
        (json!({ "iotHubHostName": TOASTERS_HUB, "initialTwin": { "tags": { "from": "webhook" } } }), "webhook"),
        (json!({ "iotHubHostName": TOASTERS_HUB, "initialTwin": null }), "enrollment"),
        (json!({ "iotHubHostName": TOASTERS_HUB }), "enrollment"),
    ] {
        let emulator = changed(|config| {
            config.enrollment_groups[0].initial_twin.tags.insert("from".into(), "enrollment".into());
        });
        emulator.contoso().unwrap().respond(200, answer.to_string());
        toaster(&emulator).assigned();
        assert_eq!(emulator.device(TOASTER).unwrap().twin.tags["from"], tags);
    }
}

/// A webhook with HTTPS must have a certificate that the system's roots trust. A self-signed webhook is not called.
#[test]
fn a_webhook_with_an_untrusted_certificate_is_not_called() {
    let stranger = builder(Config::contoso()).https("127.0.0.1:0").start().unwrap();
    let emulator = builder(Config::contoso()).webhook(stranger.https_url().unwrap()).start().unwrap();
    assert_eq!(toaster(&emulator).failed().0, 400_207);
    assert!(stranger.requests().is_empty());
    let call = &emulator.webhook_calls()[0];
    assert_eq!(call.status, None);
    assert!(call.outcome.contains("certificate"), "{}", call.outcome);
}
