//! The control API: every call does what its description says.

mod support;

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use azure_dps_emulator::{Config, Emulator, IndividualEnrollment, SymmetricKey};
use reqwest::Method;
use serde_json::{Value, json};
use support::{
    control::{Control, Events},
    service::ServiceClient,
    *,
};

/// Starts the tutorial's service with a control API.
fn start() -> (Emulator, Control) {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut Config)) -> (Emulator, Control) {
    let mut config = Config::contoso();
    change(&mut config);
    let emulator = builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").control("127.0.0.1:0").start().unwrap();
    let control = Control::of(&emulator);
    (emulator, control)
}

/// `docs/control-api.json`, with checks against its schemas.
struct Description(Value);

impl Description {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("../docs/control-api.json")).unwrap())
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference}")),
            None => value,
        }
    }

    fn check(&self, schema: &Value, instance: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(instance).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:?}\n{instance}");
    }

    fn check_named(&self, schema: &str, instance: &Value) {
        self.check(&json!({ "$ref": format!("#/components/schemas/{schema}") }), instance, schema);
    }

    /// Checks an answer against the description of this call and status.
    fn check_answer(&self, call: &Value, status: u16, body: &Value, what: &str) {
        let response = self.resolve(&call["responses"][status.to_string()]);
        assert!(response.is_object(), "{what}: {status} is not described: {body}");
        match &response["content"]["application/json"]["schema"] {
            Value::Null => assert_eq!(body, "", "{what}"),
            schema => self.check(schema, body, what),
        }
    }
}

/// Every example of a request is accepted, and every answer matches its schema, also in the examples.
#[test]
fn the_examples_of_the_description_are_true() {
    let description = Description::read();
    let (emulator, control) = start();
    Device::of_group(&emulator, TOASTER).assigned();
    let number = control.get("webhook-calls")["webhookCalls"][0]["number"].to_string();
    let (mut examples, mut calls) = (0, 0);
    let mut paths: Vec<_> = description.0["paths"].as_object().unwrap().iter().collect();
    // After a reset there is no device, and a device that was removed from its hub has no twin.
    paths.sort_by_key(|(path, _)| (path.ends_with("/reset"), path.ends_with("/hub")));
    for (path, methods) in paths {
        let id = if path.contains("/enrollments/") { GROUP } else { TOASTER };
        let filled = path.replace("{id}", id).replace("{number}", &number);
        for (method, call) in methods.as_object().unwrap() {
            let what = format!("{method} {path}");
            for response in call["responses"].as_object().unwrap().values() {
                let content = &description.resolve(response)["content"]["application/json"];
                if let Some(example) = content.get("example") {
                    description.check(&content["schema"], example, &what);
                    examples += 1;
                }
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let content = &call["requestBody"]["content"]["application/json"];
            let bodies: Vec<_> = content["examples"].as_object().into_iter().flatten().collect();
            for (name, example) in &bodies {
                let body = &example["value"];
                description.check(&content["schema"], body, &what);
                let (status, answer) = control.send(method.clone(), &filled, body);
                assert!((200..300).contains(&status), "{what} {name}: {status} {answer}");
                description.check_answer(call, status, &answer, &what);
                examples += 1;
            }
            if bodies.is_empty() && !path.ends_with("/events") {
                let (status, answer) = control.send(method, &filled, &json!({}));
                assert_eq!(status, 200, "{what}: {answer}");
                description.check_answer(call, status, &answer, &what);
            }
            calls += 1;
        }
    }
    assert!(calls >= 25 && examples >= 60, "{calls} calls, {examples} examples");
}

/// Every error matches the description and names what is wrong.
#[test]
fn a_call_that_cannot_be_answered_says_why() {
    let description = Description::read();
    let (emulator, control) = start_with(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: GROUP.to_owned(),
            primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
            ..IndividualEnrollment::default()
        });
    });
    // The device has no hub, and so no twin.
    Device::of_group(&emulator, "nobody").failed();
    let number = control.get("webhook-calls")["webhookCalls"][0]["number"].as_u64().unwrap();
    let script = |members: Value| {
        let mut script = json!({ "operation": "register", "fault": "dropConnection" });
        script.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        script
    };
    for (method, path, body, status, error, words) in [
        ("GET", "devices/unknown", json!(null), 404, "notFound", "\"unknown\""),
        ("GET", "nothing", json!(null), 404, "notFound", "openapi.json"),
        ("GET", "devices/", json!(null), 404, "notFound", "no such path"),
        ("GET", "devices/%FF", json!(null), 400, "badRequest", "UTF-8"),
        ("PUT", "devices", json!({}), 405, "methodNotAllowed", "GET"),
        ("GET", "reset", json!(null), 405, "methodNotAllowed", "POST"),
        (
            "GET",
            "devices?limt=1",
            json!(null),
            400,
            "badRequest",
            "\"limt\" is not a parameter of this call. Parameters: after, limit",
        ),
        ("GET", "health?x", json!(null), 400, "badRequest", "Parameters: none"),
        ("GET", "devices?limit=0", json!(null), 400, "badRequest", "limit must be 1 to 1000"),
        ("GET", "devices?limit=1001", json!(null), 400, "badRequest", "limit must be"),
        ("GET", "devices?limit=x", json!(null), 400, "badRequest", "limit is \"x\""),
        ("GET", "devices?limit=1&limit=2", json!(null), 400, "badRequest", "limit is given twice"),
        ("GET", "requests?after=-1", json!(null), 400, "badRequest", "after is \"-1\""),
        ("GET", "requests?after=%2B1", json!(null), 400, "badRequest", "after is \"+1\""),
        ("GET", "events?after=x", json!(null), 400, "badRequest", "after is \"x\""),
        ("GET", "webhook-calls/x", json!(null), 400, "badRequest", "\"x\""),
        ("GET", "webhook-calls/4711", json!(null), 404, "notFound", "4711"),
        ("GET", "webhook-calls/18446744073709551615", json!(null), 404, "notFound", "18446744073709551615"),
        ("POST", "webhook-calls/4711/replay", json!({}), 404, "notFound", "4711"),
        ("POST", &format!("webhook-calls/{number}/replay"), json!({ "x": 1 }), 400, "badRequest", "unknown field `x`"),
        ("POST", "reset", json!({ "x": 1 }), 400, "badRequest", "unknown field `x`"),
        ("POST", "reset", json!("x"), 400, "badRequest", "invalid type"),
        ("POST", "reset", json!([]), 400, "badRequest", "not a JSON object"),
        ("POST", "devices/unknown/twin", json!([]), 400, "badRequest", "not a JSON object"),
        ("POST", "devices/unknown/twin", json!({}), 404, "notFound", "\"unknown\""),
        ("POST", "devices/nobody/twin", json!({}), 409, "conflict", "no hub"),
        ("GET", "devices/unknown/telemetry", json!(null), 404, "notFound", "\"unknown\""),
        ("POST", "devices/unknown/hub/disable", json!({}), 404, "notFound", "\"unknown\""),
        ("POST", "devices/unknown/hub/enable", json!({}), 404, "notFound", "\"unknown\""),
        ("POST", "devices/unknown/hub/disconnect", json!({}), 404, "notFound", "\"unknown\""),
        ("DELETE", "devices/unknown/hub", json!({}), 404, "notFound", "\"unknown\""),
        ("POST", "devices/nobody/hub/disable", json!({}), 409, "conflict", "no hub"),
        ("POST", "devices/nobody/hub/enable", json!({}), 409, "conflict", "no hub"),
        ("POST", "devices/nobody/hub/disconnect", json!({}), 409, "conflict", "no hub"),
        ("DELETE", "devices/nobody/hub", json!({}), 409, "conflict", "no hub"),
        ("POST", "devices/nobody/hub/disable", json!({ "x": 1 }), 400, "badRequest", "unknown field `x`"),
        ("GET", "devices/nobody/hub/disable", json!(null), 405, "methodNotAllowed", "POST"),
        ("POST", "devices/nobody/hub", json!({}), 405, "methodNotAllowed", "DELETE"),
        ("POST", "devices/nobody/hub/drop", json!({}), 404, "notFound", "no such path"),
        ("POST", "enrollments/unknown/enable", json!({}), 404, "notFound", "\"unknown\""),
        ("POST", &format!("enrollments/{GROUP}/enable"), json!({}), 409, "conflict", "?kind=group or ?kind=individual"),
        ("POST", &format!("enrollments/{GROUP}/enable?kind=x"), json!({}), 400, "badRequest", "kind is \"x\""),
        ("POST", "scripts", json!({}), 400, "badRequest", "missing field `operation`"),
        ("POST", "scripts", json!(["register", null, 1, 0, "delay"]), 400, "badRequest", "expected a map"),
        ("POST", "scripts", script(json!({ "fault": { "cut": [5] } })), 400, "badRequest", "not an array"),
        ("POST", "scripts", script(json!({ "operation": "x" })), 400, "badRequest", "unknown variant `x`"),
        ("POST", "scripts", script(json!({ "x": 1 })), 400, "badRequest", "unknown field `x`"),
        ("POST", "scripts", script(json!({ "times": 0 })), 400, "badRequest", "times is 0"),
        ("POST", "scripts", script(json!({ "delayMs": -1 })), 400, "badRequest", "-1"),
        ("POST", "scripts", script(json!({ "fault": "x" })), 400, "badRequest", "unknown variant `x`"),
        ("POST", "scripts", script(json!({ "fault": { "cut": {} } })), 400, "badRequest", "missing field `bytes`"),
        ("POST", "scripts", script(json!({ "fault": { "cut": { "bytes": 1, "x": 1 } } })), 400, "badRequest", "`x`"),
        ("POST", "scripts", script(json!({ "fault": { "respond": { "status": 101 } } })), 400, "badRequest", "101"),
        ("POST", "scripts", script(json!({ "fault": { "respond": { "status": 999 } } })), 400, "badRequest", "999"),
        (
            "POST",
            "scripts",
            script(json!({ "fault": { "respond": { "status": 200, "headers": { "a b": "c" } } } })),
            400,
            "badRequest",
            "\"a b\" in headers",
        ),
        ("POST", "scripts", script(json!({ "fault": { "raw": { "base64": "?" } } })), 400, "badRequest", "base64"),
        (
            "POST",
            "scripts",
            script(json!({ "fault": { "merge": { "patch": 1 } } })),
            400,
            "badRequest",
            "expected a map",
        ),
        (
            "POST",
            "scripts",
            script(json!({ "fault": { "connack": { "returnCode": 1 } } })),
            400,
            "badRequest",
            "connect",
        ),
        (
            "POST",
            "scripts",
            script(json!({ "operation": "connect", "fault": "omitRetryAfter" })),
            400,
            "badRequest",
            "connack or raw",
        ),
        ("POST", "scripts", json!("x".repeat(256 * 1024)), 413, "tooLarge", "262144"),
    ] {
        let (got, answer) = match body {
            Value::Null => answer(control.request(method.parse().unwrap(), path).send().unwrap()),
            body => control.send(method.parse().unwrap(), path, &body),
        };
        assert_eq!((got, &answer["error"]), (status, &json!(error)), "{method} {path}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(words), "{method} {path}: {message}");
        description.check_named("Error", &answer);
    }
    assert_eq!(control.get("scripts")["scripts"], json!([]));
}

/// A page of a list continues the page before, and has at least one entry.
#[test]
fn lists_are_read_in_pages() {
    let (emulator, control) = start_with(|config| {
        for number in 0..3 {
            config.individual_enrollments.push(IndividualEnrollment {
                registration_id: format!("B{number}"),
                primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
                ..IndividualEnrollment::default()
            });
        }
    });
    let ids: Vec<_> = (0..5).map(|number| format!("d{number}-contoso-tstrsd-007")).collect();
    for id in ids.iter().rev() {
        Device::of_group(&emulator, id).assigned();
    }
    let read = |list: &str, name: &str, member: &str, first: &str, limit: usize| {
        let (mut entries, mut after, mut pages) = (Vec::new(), first.to_owned(), 0);
        loop {
            let page = control.get(&format!("{list}?limit={limit}{after}"));
            let of_page = page[name].as_array().unwrap();
            assert!((1..=limit).contains(&of_page.len()));
            entries.extend(of_page.iter().map(|entry| entry[member].clone()));
            pages += 1;
            match &page["next"] {
                Value::Null => return (entries, pages),
                next => after = format!("&after={}", next.to_string().trim_matches('"')),
            }
        }
    };
    assert_eq!(read("devices", "devices", "registrationId", "", 2), (ids.iter().map(|id| json!(id)).collect(), 3));
    let enrollments = [GROUP, "B0", "B1", "B2"].map(|id| json!(id)).to_vec();
    assert_eq!(read("enrollments", "enrollments", "id", "", 1), (enrollments.clone(), 4));
    assert_eq!(read("enrollments", "enrollments", "id", "", 4), (enrollments, 1));
    let requests = emulator.requests();
    let numbers: Vec<_> = requests.iter().map(|request| json!(request.number)).collect();
    let (read_numbers, _) = read("requests", "requests", "number", "&after=0", 4);
    assert_eq!(read_numbers, numbers);
    let calls: Vec<_> = emulator.webhook_calls().iter().map(|call| json!(call.number)).collect();
    assert_eq!(read("webhook-calls", "webhookCalls", "number", "&after=0", 5), (calls.clone(), 1));
    // Without `after`, the page has the newest entries.
    let newest = control.get("webhook-calls?limit=2");
    let newest: Vec<_> = newest["webhookCalls"].as_array().unwrap().iter().map(|call| call["number"].clone()).collect();
    assert_eq!(newest, calls[3..]);
    let none = control.get("requests?after=1000000");
    assert_eq!((&none["requests"], &none["next"]), (&json!([]), &Value::Null));
}

/// A page has at most 8 MB of text, and the next page continues it.
#[test]
fn a_page_of_long_requests_is_shorter() {
    let (emulator, control) = start();
    let body = json!("x".repeat(96 * 1024 - 2)).to_string();
    let device = Device::of_group(&emulator, TOASTER);
    for _ in 0..100 {
        device.unsigned(Method::PUT, "/nothing").body(body.clone()).send().unwrap();
    }
    let page = control.get("requests?after=0&limit=1000");
    let requests = page["requests"].as_array().unwrap();
    assert!((60..100).contains(&requests.len()), "{}", requests.len());
    assert_eq!(page["next"], requests.last().unwrap()["number"]);
    let rest = control.get(&format!("requests?after={}&limit=1000", page["next"]));
    assert_eq!((rest["requests"].as_array().unwrap().len(), &rest["next"]), (100 - requests.len(), &Value::Null));
    let newest = control.get("requests?limit=1000");
    let newest = newest["requests"].as_array().unwrap();
    assert_eq!((newest.len(), &newest.last().unwrap()["number"]), (requests.len(), &rest["lastEvent"]));
}

/// The views of a device, its twin, an enrollment, requests and calls show what happened, and no secret.
#[test]
fn the_views_show_what_happened() {
    let (emulator, control) = start();
    let toaster = Device::of_group(&emulator, TOASTER).with_payload(payload());
    toaster.assigned();
    Device::of_group(&emulator, "nobody").failed();
    let device = control.get(&format!("devices/{}", TOASTER.to_uppercase()));
    for (member, expected) in [
        ("registrationId", json!(TOASTER)),
        ("enrollment", json!({ "kind": "group", "id": GROUP })),
        ("assignedHub", json!(TOASTERS_HUB)),
        ("deviceId", json!(TOASTER)),
        ("substatus", json!("initialAssignment")),
        ("registrations", json!(1)),
    ] {
        assert_eq!(device[member], expected, "{member}");
    }
    assert_eq!(device["lastRegistration"]["status"], "assigned");
    assert_eq!(device["twin"], json!(emulator.device(TOASTER).unwrap().twin));
    assert_ne!(device["twin"]["desired"], json!({}));
    let nobody = control.get("devices/nobody");
    assert_eq!(
        (&nobody["lastRegistration"]["errorCode"], &nobody["twin"], &nobody["assignedHub"], &nobody["enrollment"]),
        (&json!(400_207), &Value::Null, &Value::Null, &device["enrollment"])
    );
    let calls = control.get("webhook-calls");
    let calls = calls["webhookCalls"].as_array().unwrap();
    assert_eq!((&calls[0]["assignedHub"], &calls[0]["reason"]), (&json!(TOASTERS_HUB), &Value::Null));
    let reason = "400207 Custom allocation failed with status code: 400";
    assert_eq!((&calls[1]["assignedHub"], &calls[1]["reason"]), (&Value::Null, &json!(reason)));
    assert!(calls[0].get("requestBody").is_none());
    let call = control.get(&format!("webhook-calls/{}", calls[0]["number"]));
    let request: Value = serde_json::from_str(call["requestBody"].as_str().unwrap()).unwrap();
    assert_eq!(request["deviceRuntimeContext"]["payload"], payload());
    let response: Value = serde_json::from_str(call["responseBody"].as_str().unwrap()).unwrap();
    assert_eq!(response["iotHubHostName"], TOASTERS_HUB);
    let everything: String = ["devices", "enrollments", "requests", "webhook-calls", "behaviour", "scripts", "health"]
        .into_iter()
        .map(|path| control.get(path).to_string())
        .chain([device.to_string(), call.to_string()])
        .collect();
    let function = emulator.contoso().unwrap().url_with_key();
    let function_key = function.split_once("code=").unwrap().1;
    for secret in [GROUP_KEY, &toaster.key, "sig=", "SharedAccessSignature", "code=", function_key] {
        assert!(!everything.contains(secret), "{secret}");
    }
}

/// Enrollments of the service API are in views and events, without their secrets.
#[test]
fn the_service_apis_secrets_are_in_no_answer() {
    let (emulator, control) = start();
    let service = ServiceClient::new(&emulator);
    let mut events = control.events_after(0);
    let secret = "function-key-of-this-test";
    let enrollment = json!({
        "enrollmentGroupId": "made",
        "attestation": {
            "type": "symmetricKey",
            "symmetricKey": { "primaryKey": OTHER_KEY, "secondaryKey": GROUP_KEY },
        },
        "allocationPolicy": "custom",
        "iotHubs": [TOASTERS_HUB],
        "customAllocationDefinition": {
            "webhookUrl": format!("http://127.0.0.1:1/api/x?code={secret}"),
            "apiVersion": "2021-10-01",
        },
        "initialTwin": { "tags": {}, "properties": { "desired": {} } },
    });
    let (status, answer) = service.put("/enrollmentGroups/made", &enrollment);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(service.post("/enrollmentGroups/made/attestationmechanism", &json!({})).0, 200);
    let device = Device::new(&emulator, "made-1", &derive(OTHER_KEY, "made-1"));
    device.failed();
    assert_eq!(service.delete("/registrations/made-1").0, 204);
    assert_eq!(service.delete("/enrollmentGroups/made").0, 204);
    let last = control.get("health")["lastEvent"].as_u64().unwrap();
    let seen = events.until(|_, data| data["number"] == last);
    let made: Vec<_> = seen.iter().filter(|(_, kind, _)| kind == "enrollment").map(|(.., data)| data).collect();
    assert_eq!(made[0]["enrollment"]["webhookUrl"], "http://127.0.0.1:1/api/x?****");
    assert_eq!((&made[1]["id"], &made[1]["enrollment"]), (&json!("made"), &Value::Null));
    let gone = seen.iter().rev().find(|(_, kind, _)| kind == "device").unwrap();
    assert_eq!((&gone.2["registrationId"], &gone.2["device"]), (&json!("made-1"), &Value::Null));
    let number = &control.get("webhook-calls")["webhookCalls"][0]["number"];
    let everything = [
        control.get("requests").to_string(),
        control.get(&format!("webhook-calls/{number}")).to_string(),
        control.post(&format!("webhook-calls/{number}/replay"), &json!({})).to_string(),
        format!("{seen:?}"),
    ]
    .concat();
    for secret in [OTHER_KEY, GROUP_KEY, &device.key, secret, "sig=", "SharedAccessSignature"] {
        assert!(!everything.contains(secret), "{secret}");
    }
}

/// A JSON script breaks the answers of its device as often as it says, and no other answers.
#[test]
fn scripts_of_every_kind_break_an_answer() {
    let (emulator, control) = start();
    let toaster = Device::of_group(&emulator, TOASTER);
    let other = Device::of_group(&emulator, HEAT_PUMP);
    let put = || toaster.request(Method::PUT, &format!("{}/register{VERSION}", toaster.path()));
    let register = || put().header("Content-Type", "application/json").body(toaster.registration().to_string()).send();
    let whole = register().unwrap().text().unwrap();
    for (fault, check) in [
        (
            json!({ "respond": { "status": 429, "headers": { "Retry-After": "7", "X-Test": "a" }, "body": "{}" } }),
            &(|| {
                let response = register().unwrap();
                let headers = response.headers();
                assert_eq!(
                    (response.status().as_u16(), &headers["retry-after"], &headers["x-test"]),
                    (429, &"7".parse().unwrap(), &"a".parse().unwrap())
                );
                assert_eq!(response.text().unwrap(), "{}");
            }) as &dyn Fn(),
        ),
        (json!("dropConnection"), &|| assert!(register().is_err())),
        (json!({ "cut": { "bytes": 20 } }), &|| assert!(register().is_err())),
        (json!({ "raw": { "text": "HTTP/1.1 207 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" } }), &|| {
            assert_eq!(register().unwrap().status(), 207);
        }),
        (json!({ "raw": { "base64": "AP8BAg==" } }), &|| assert!(register().is_err())),
        (json!({ "merge": { "patch": { "status": null, "extra": [1] } } }), &|| {
            let body: Value = serde_json::from_str(&register().unwrap().text().unwrap()).unwrap();
            assert_eq!((body.get("status"), &body["extra"]), (None, &json!([1])));
        }),
        (json!("omitRetryAfter"), &|| assert!(!register().unwrap().headers().contains_key("retry-after"))),
        (json!("permuteTopic"), &|| assert_eq!(register().unwrap().status(), 202)),
    ] {
        let script = json!({ "operation": "register", "registrationId": TOASTER, "times": 2, "fault": fault });
        let waiting = control.post("scripts", &script);
        assert_eq!(waiting["fault"], fault);
        assert_eq!(control.get("scripts")["scripts"], json!([waiting]));
        assert_eq!(other.put().status(), 202, "{fault}");
        check();
        assert_eq!(control.get("scripts")["scripts"][0]["times"], 1);
        check();
        assert_eq!(control.get("scripts")["scripts"], json!([]));
        let response = register().unwrap();
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(response.text().unwrap().len(), whole.len(), "{fault}");
    }
    // The other operations.
    let operation_id = toaster.register();
    for (operation, check) in [
        ("status", &(|| assert_eq!(toaster.get(&operation_id).status(), 503)) as &dyn Fn()),
        ("lookup", &|| assert_eq!(toaster.lookup().0, 503)),
    ] {
        control.post("scripts", &json!({ "operation": operation, "fault": { "respond": { "status": 503 } } }));
        assert_eq!(toaster.put().status(), 202);
        check();
    }
    // An empty queue breaks nothing.
    control.post("scripts", &json!({ "operation": "register", "times": 9, "fault": "dropConnection" }));
    assert_eq!(control.send(Method::DELETE, "scripts", &json!({})).1["scripts"], json!([]));
    assert_eq!(toaster.put().status(), 202);
}

/// Scripts for MQTT: CONNACK, and the order of a topic.
#[test]
fn scripts_break_mqtt_too() {
    let (emulator, control) = start();
    let fault = json!({ "connack": { "returnCode": 3 } });
    assert_eq!(control.post("scripts", &json!({ "operation": "connect", "fault": fault }))["fault"], fault);
    let mut refused = mqtt::Client::open(&emulator, "mqtt", TOASTER);
    assert_eq!(refused.connect(""), Some(3));
    let mut client = mqtt::Client::toaster(&emulator);
    control.post("scripts", &json!({ "operation": "register", "fault": "permuteTopic" }));
    assert_eq!(client.ask(mqtt::REGISTER, "").0, "202/?retry-after=3&$rid=1");
    for fault in [json!("dropConnection"), json!({ "raw": { "base64": "IAI=" } })] {
        control.post("scripts", &json!({ "operation": "connect", "fault": fault }));
        let mut lost = mqtt::Client::open(&emulator, "mqtt", TOASTER);
        let password = token(&derive(GROUP_KEY, TOASTER), TOASTER);
        let connect = lost.packet(&password);
        lost.send(&rumqttc::mqttbytes::v4::Packet::Connect(connect));
        assert!(lost.receive().is_none(), "{fault}");
    }
}

/// A script can only delay an answer.
#[test]
fn a_script_delays_an_answer() {
    let emulator = Emulator::builder(Config::contoso()).http("127.0.0.1:0").control("127.0.0.1:0").start().unwrap();
    let control = Control::of(&emulator);
    let toaster = Device::of_group(&emulator, TOASTER);
    for fault in [json!("delay"), json!("omitRetryAfter")] {
        control.post("scripts", &json!({ "operation": "register", "delayMs": 300, "fault": fault }));
        let started = Instant::now();
        assert_eq!(toaster.put().status(), 202);
        assert!(started.elapsed() >= Duration::from_millis(300), "{fault}: {:?}", started.elapsed());
    }
}

/// The queue is limited in number and in size.
#[test]
fn the_queue_of_scripts_is_bounded() {
    let (_emulator, control) = start();
    let large =
        json!({ "operation": "register", "fault": { "respond": { "status": 200, "body": "x".repeat(250_000) } } });
    let taken = (0..100).take_while(|_| control.try_post("scripts", &large).0 == 200).count();
    assert!((60..70).contains(&taken), "{taken}");
    let (status, answer) = control.try_post("scripts", &large);
    assert_eq!((status, &answer["error"]), (409, &json!("conflict")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("1000 scripts or 16 MB"), "{answer}");
    control.send(Method::DELETE, "scripts", &json!({}));
    assert_eq!(control.try_post("scripts", &large).0, 200);
}

/// A change of the behaviour changes only the settings that it names.
#[test]
fn behaviour_is_changed_by_the_names_of_the_file() {
    let (emulator, control) = start();
    let toaster = Device::of_group(&emulator, TOASTER);
    let before = control.get("behaviour");
    // Sending the answer back changes nothing.
    assert_eq!(control.post("behaviour", &before), before);
    // JSON does not distinguish 5.0 from 5.
    let changed = control.post("behaviour", &json!({ "retry_after": 5.0, "empty_tracking_ids": [400_012.0] }));
    assert_eq!((&changed["retry_after"], &changed["empty_tracking_ids"]), (&json!(5), &json!([400_012])));
    control.post("behaviour", &before);
    for (change, check) in [
        (json!({ "retry_after": 17 }), &(|| assert_eq!(toaster.put().headers()["retry-after"], "17")) as &dyn Fn()),
        (json!({ "retry_after": false }), &|| assert!(!toaster.put().headers().contains_key("retry-after"))),
        (json!({ "chunked": false }), &|| assert!(toaster.put().headers().contains_key("content-length"))),
        (json!({ "registrations_per_minute": 0 }), &|| assert_eq!(toaster.put().status(), 429)),
        (json!({ "registrations_per_minute": null, "retry_after": null }), &|| {
            let response = toaster.put();
            assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (202, false));
        }),
        (json!({ "unlinked_hub": "hub_not_found", "inaccessible_hubs": [TOASTERS_HUB] }), &|| {
            assert_eq!(toaster.failed().0, 401_002);
        }),
    ] {
        let was = control.get("behaviour");
        let mut expected = was.as_object().unwrap().clone();
        expected.extend(change.as_object().unwrap().clone());
        if expected["retry_after"].is_null() {
            expected["retry_after"] = json!(false);
        }
        assert_eq!(control.post("behaviour", &change), Value::Object(expected), "{change}");
        check();
    }
    let changed = control.get("behaviour");
    for (change, words) in [
        (json!({ "retry_afer": 5 }), "retry_afer: unknown field `retry_afer`"),
        (json!({ "chunked": false, "retry_after": true }), "retry_after: expected a number of seconds, or false"),
        (json!({ "retry_after": -1 }), "retry_after: "),
        (json!({ "retry_after": 1.5 }), "retry_after: "),
        (json!({ "chunked": null }), "chunked: invalid type: null"),
        (json!({ "unlinked_hub": "x" }), "unlinked_hub: unknown variant `x`"),
        (json!({ "webhook_timeout": -1 }), "webhook_timeout: "),
        (json!({ "unknown_id_scope_code": 200 }), "unknown_id_scope_code: 200"),
        (json!({ "drop_every": 0 }), "drop_every: "),
        (json!({ "tls13": true }), "tls13: it cannot change while the emulator runs"),
        (json!([1]), "expected a map"),
    ] {
        let (status, answer) = control.try_post("behaviour", &change);
        assert_eq!((status, &answer["error"]), (400, &json!("badRequest")), "{change}");
        assert!(answer["message"].as_str().unwrap().starts_with(words) || words == "expected a map", "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(control.get("behaviour"), changed, "{change}");
    }
}

/// A twin is merged within the limits of the hub, and a rejected patch changes nothing.
#[test]
fn a_twin_is_patched_within_the_limits_of_the_hub() {
    let (emulator, control) = start();
    Device::of_group(&emulator, TOASTER).assigned();
    let path = format!("devices/{TOASTER}/twin");
    let set = json!({ "tags": { "a": { "b": 1, "c": 2 } }, "desired": { "x": [1, null], "ü": "y" } });
    control.post(&path, &set);
    let device = control.post(&path, &json!({ "tags": { "a": { "b": null, "d": 3 } }, "desired": { "x": null } }));
    assert_eq!(device["twin"]["tags"]["a"], json!({ "c": 2, "d": 3 }));
    assert_eq!(device["twin"]["desired"]["x"], Value::Null);
    assert_eq!(device["twin"]["desired"]["ü"], "y");
    assert_eq!(json!(emulator.device(TOASTER).unwrap().twin), device["twin"]);
    let long = "x".repeat(4000);
    for (patch, words) in [
        (json!({ "tags": { "a.b": 1 } }), "\"a.b\" in tags has a control character, a dot"),
        (json!({ "desired": { "a": { "$b": 1 } } }), "\"$b\" in desired.a"),
        (json!({ "desired": { "a": 4_503_599_627_370_496_u64 } }), "desired.a is 4503599627370496"),
        (json!({ "desired": { "a": "x".repeat(5000) } }), "desired.a has 5000 bytes of text"),
        (json!({ "tags": { "a": long, "b": long, "c": long } }), "tags would have 12"),
        (json!({ "tags": null }), "expected a map"),
        (json!({ "properties": {} }), "unknown field `properties`"),
    ] {
        let (status, answer) = control.try_post(&path, &patch);
        assert_eq!(status, 400, "{patch:.50}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(control.get(&format!("devices/{TOASTER}")), device);
    }
}

/// A replay calls the webhook with the same request. The new call has its own number, and no device changes.
#[test]
fn a_replay_calls_the_webhook_and_changes_no_device() {
    let (emulator, control) = start();
    Device::of_group(&emulator, TOASTER).assigned();
    let first = control.get("webhook-calls")["webhookCalls"][0].clone();
    let number = &first["number"];
    let whole = control.get(&format!("webhook-calls/{number}"));
    let before = control.get(&format!("devices/{TOASTER}"));
    let replay = |number: &Value| control.post(&format!("webhook-calls/{number}/replay"), &json!({}));
    let same = replay(number);
    for (member, expected) in [
        ("replayOf", number),
        ("requestBody", &whole["requestBody"]),
        ("responseBody", &whole["responseBody"]),
        ("assignedHub", &json!(TOASTERS_HUB)),
        ("url", &whole["url"]),
        ("attempt", &json!(1)),
        ("attempts", &json!(1)),
        ("reason", &Value::Null),
    ] {
        assert_eq!(&same[member], expected, "{member}");
    }
    assert!(same["number"].as_u64() > number.as_u64());
    assert_eq!(control.get(&format!("webhook-calls/{}", same["number"])), same);
    let contoso = emulator.contoso().unwrap();
    for (status, answer, reason) in [
        (500, "broken", "400207 Custom allocation failed with status code: 500".to_owned()),
        (429, "later", "400207 Custom allocation failed with status code: 429".to_owned()),
        (200, "{}", "400208 Custom allocation failed: IoT hub not specified".to_owned()),
        (
            200,
            r#"{"iotHubHostName":"x"}"#,
            format!("400207 rejected x, which is not one of the offered hubs: {TOASTERS_HUB}, {HEATPUMPS_HUB}"),
        ),
    ] {
        contoso.respond(status, answer);
        let call = replay(&same["number"]);
        assert_eq!((&call["status"], &call["reason"]), (&json!(status), &json!(reason)));
        assert_eq!((&call["responseBody"], &call["replayOf"]), (&json!(answer), &same["number"]));
    }
    assert_eq!(control.get(&format!("devices/{TOASTER}")), before);
    assert_eq!(emulator.webhook_calls().len(), 6);
    assert_eq!(emulator.webhook_calls()[1].replay_of, number.as_u64());
    let line = emulator.webhook_calls()[1].to_string();
    assert!(line.contains(&format!(", a replay of call {number}, ")), "{line}");
}

/// Too many replays at the same time are rejected, and a reset ends the running ones.
#[test]
fn replays_are_bounded_and_end_with_a_reset() {
    let held = HeldWebhook::start();
    let (emulator, control) = start_with(|config| config.webhook_url = Some(held.url()));
    let toaster = Device::of_group(&emulator, TOASTER);
    let operation_id = toaster.register();
    let (call, _) = held.call();
    answer_call(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
    toaster.poll(&operation_id);
    let path = format!("webhook-calls/{}/replay", control.get("webhook-calls")["webhookCalls"][0]["number"]);
    thread::scope(|scope| {
        let replays: Vec<_> = (0..16).map(|_| scope.spawn(|| control.try_post(&path, &json!({})))).collect();
        let calls: Vec<_> = (0..16).map(|_| held.call()).collect();
        let (status, answer) = control.try_post(&path, &json!({}));
        assert_eq!((status, &answer["error"]), (503, &json!("unavailable")), "{answer}");
        control.post("reset", &json!({}));
        for replay in replays {
            let (status, answer) = replay.join().unwrap();
            assert_eq!((status, &answer["error"]), (409, &json!("conflict")), "{answer}");
        }
        drop(calls);
    });
    assert_eq!(control.get("webhook-calls")["webhookCalls"], json!([]));
}

/// A disabled enrollment rejects its devices until it is enabled.
#[test]
fn an_enrollment_is_disabled_and_enabled() {
    let own = SymmetricKey::from_base64(OTHER_KEY).unwrap();
    let (emulator, control) = start_with(|config| {
        for id in [GROUP, TOASTER] {
            config.individual_enrollments.push(IndividualEnrollment {
                registration_id: id.to_owned(),
                primary_key: own.clone(),
                ..IndividualEnrollment::default()
            });
        }
    });
    let heat_pump = Device::of_group(&emulator, HEAT_PUMP);
    let toaster = Device::new(&emulator, TOASTER, OTHER_KEY);
    let status = |device: &Device| {
        let (_, body) = answer(device.put());
        body["status"].as_str().unwrap().to_owned()
    };
    for (path, id, enabled, statuses) in [
        (format!("enrollments/{GROUP}/disable?kind=group"), GROUP, false, ["disabled", "assigning"]),
        (format!("enrollments/{TOASTER}/disable"), TOASTER, false, ["disabled", "disabled"]),
        (format!("enrollments/{}/enable?kind=group", GROUP.to_uppercase()), GROUP, true, ["assigning", "disabled"]),
        (format!("enrollments/{TOASTER}/enable?kind=individual"), TOASTER, true, ["assigning", "assigning"]),
    ] {
        let enrollment = control.post(&path, &json!({}));
        assert_eq!((&enrollment["id"], &enrollment["enabled"]), (&json!(id), &json!(enabled)), "{path}");
        assert_eq!([status(&heat_pump), status(&toaster)], statuses, "{path}");
        let listed = control.get("enrollments");
        let listed = listed["enrollments"].as_array().unwrap();
        assert!(listed.contains(&enrollment), "{path}");
    }
}

/// A reset restores the state after the start.
#[test]
fn a_reset_restores_the_state_after_the_start() {
    let held = HeldWebhook::start();
    let mut config = Config { webhook_url: Some(held.url()), ..Config::contoso() };
    config.behaviour.registrations_per_minute = Some(3);
    // The quota window lasts a whole minute.
    let emulator = Emulator::builder(config).http("127.0.0.1:0").control("127.0.0.1:0").start().unwrap();
    let control = Control::of(&emulator);
    let enrollments = control.get("enrollments")["enrollments"].clone();
    let behaviour = control.get("behaviour");
    let toaster = Device::of_group(&emulator, TOASTER);
    let heat_pump = Device::of_group(&emulator, HEAT_PUMP);
    let operation_id = toaster.register();
    let (call, _) = held.call();
    answer_call(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
    toaster.poll(&operation_id);
    // This registration is still running.
    let running = heat_pump.register();
    let (call, _) = held.call();
    control.post("behaviour", &json!({ "refuse_concurrent_registration": true, "retry_after": 9 }));
    assert_eq!([heat_pump.put().status(), toaster.put().status()], [409, 429]);
    control.post("scripts", &json!({ "operation": "register", "fault": "dropConnection" }));
    emulator.update(|config| config.enrollment_groups[0].initial_twin.tags.extend([("a".to_owned(), json!(1))]));
    control.post(&format!("enrollments/{GROUP}/disable"), &json!({}));
    let last = control.get("health")["lastEvent"].as_u64().unwrap();
    let mut events = control.events_after(last);
    let reset = control.post("reset", &json!({}))["lastEvent"].as_u64().unwrap();
    assert!(reset > last);
    let seen = events.until(|kind, _| kind == "reset");
    assert_eq!(seen.last().unwrap().0, reset);
    for (path, name) in
        [("devices", "devices"), ("requests", "requests"), ("webhook-calls", "webhookCalls"), ("scripts", "scripts")]
    {
        assert_eq!(control.get(path)[name], json!([]), "{path}");
    }
    assert_eq!(control.get("behaviour"), behaviour);
    let without_times = |enrollments: &Value| {
        let mut enrollments = enrollments.as_array().unwrap().clone();
        for enrollment in &mut enrollments {
            for member in ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"] {
                assert!(enrollment.as_object_mut().unwrap().remove(member).is_some());
            }
        }
        enrollments
    };
    assert_eq!(without_times(&control.get("enrollments")["enrollments"]), without_times(&enrollments));
    assert!(
        emulator.device(TOASTER).is_none() && emulator.requests().is_empty() && emulator.webhook_calls().is_empty()
    );
    // The late answer of the webhook changes nothing, and the device can register again.
    let _ = try_answer(&call, &json!({ "iotHubHostName": HEATPUMPS_HUB }));
    assert_eq!(heat_pump.get(&running).status(), 404);
    let operation_id = toaster.register();
    let (call, request) = held.call();
    assert!(request.get("currentIotHubHostName").is_none());
    answer_call(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
    assert_eq!(toaster.poll(&operation_id)["registrationState"]["substatus"], "initialAssignment");
    assert!(emulator.webhook_calls().iter().all(|call| call.registration_id == TOASTER));
}

/// A reader sees the events of a device from its first request to its hub, and gets them again when it reconnects.
#[test]
fn events_come_in_order_and_can_be_read_again() {
    let description = Description::read();
    let (emulator, control) = start();
    let mut live = Events::of(control.request(Method::GET, "events").send().unwrap());
    Device::of_group(&emulator, TOASTER).assigned();
    std::net::TcpStream::connect(emulator.mqtt_url().unwrap().strip_prefix("mqtt://").unwrap())
        .and_then(|mut stream| std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n"))
        .unwrap();
    let mut seen = live.until(|kind, _| kind == "connectionFailed");
    control.post(&format!("enrollments/{GROUP}/disable"), &json!({}));
    seen.extend(live.until(|kind, _| kind == "enrollment"));
    for (at, (number, kind, data)) in seen.iter().enumerate() {
        assert_eq!(*number, at as u64 + 1);
        assert_eq!(data["number"].as_u64(), Some(*number));
        let schema = match &**kind {
            "request" => "Request",
            "webhook" => "WebhookCallSummary",
            "device" => "DeviceEvent",
            "enrollment" => "EnrollmentEvent",
            "connectionFailed" => "ConnectionFailedEvent",
            other => panic!("{other}"),
        };
        description.check_named(schema, data);
    }
    let device: Vec<_> = seen.iter().filter(|(_, kind, _)| kind == "device").map(|(.., data)| data).collect();
    let statuses: Vec<_> = device.iter().map(|data| data["device"]["lastRegistration"]["status"].as_str()).collect();
    assert_eq!(statuses, [Some("assigning"), Some("assigned")]);
    assert_eq!(device[1]["device"]["assignedHub"], TOASTERS_HUB);
    let (.., enrollment) = seen.last().unwrap();
    assert_eq!((&enrollment["id"], &enrollment["enrollment"]["enabled"]), (&json!(GROUP), &json!(false)));
    // The records have the same numbers.
    for (number, kind, data) in &seen {
        match &**kind {
            "request" => assert!(emulator.requests().iter().any(|request| request.number == *number)),
            "webhook" => {
                let mut whole = control.get(&format!("webhook-calls/{number}"));
                for body in ["requestBody", "responseBody"] {
                    assert!(whole.as_object_mut().unwrap().remove(body).is_some());
                }
                assert_eq!(&whole, data);
            }
            _ => {}
        }
    }
    let after = seen[1].0;
    for request in [
        control.request(Method::GET, &format!("events?after={after}")),
        control.request(Method::GET, "events").header("Last-Event-ID", after),
        // The header takes precedence, because a browser repeats the address.
        control.request(Method::GET, "events?after=0").header("Last-Event-ID", after),
    ] {
        assert_eq!(Events::of(request.send().unwrap()).take(seen.len() - 2), seen[2..]);
    }
}

/// A call that takes long has an event before it ends.
#[test]
fn a_call_in_progress_is_an_event() {
    let description = Description::read();
    let held = HeldWebhook::start();
    let (emulator, control) = start_with(|config| config.webhook_url = Some(held.url()));
    let mut events = control.events_after(0);
    Device::of_group(&emulator, TOASTER).register();
    let (call, _) = held.call();
    let seen = events.until(|kind, _| kind == "webhookUnderWay");
    let (.., under_way) = seen.last().unwrap();
    description.check_named("WebhookCallSummary", under_way);
    answer_call(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
    let ended = events.until(|kind, _| kind == "webhook");
    let (.., ended) = ended.last().unwrap();
    for member in ["registrationId", "attempt", "url"] {
        assert_eq!(under_way[member], ended[member]);
    }
    assert_eq!(ended["assignedHub"], TOASTERS_HUB);
}

/// A reader that reconnects after a reset, or to another emulator, gets an event about it.
#[test]
fn a_reader_gets_the_number_of_events_that_it_missed() {
    let (emulator, control) = start();
    Device::of_group(&emulator, TOASTER).assigned();
    let reset = control.post("reset", &json!({}))["lastEvent"].as_u64().unwrap();
    let mut late = control.events_after(1);
    assert_eq!(late.next(), (reset - 1, "missed".to_owned(), json!({ "missed": reset - 2 })));
    assert_eq!(late.next(), (reset, "reset".to_owned(), json!({ "number": reset })));
    let mut other = control.events_after(reset + 1000);
    assert_eq!(other.next(), (0, "reset".to_owned(), json!({ "number": 0 })));
    assert_eq!(other.next().1, "missed");
    assert_eq!(other.next().0, reset);
}

/// A reader that stops reading delays neither devices nor other readers, and gets the number of events that it
/// missed.
#[test]
fn a_slow_reader_delays_nobody() {
    const REQUESTS: usize = 900;
    let (emulator, control) = start();
    let mut slow: Vec<_> = (0..3).map(|_| control.events_after(0)).collect();
    let device = Device::of_group(&emulator, TOASTER);
    let body = json!("x".repeat(96 * 1024 - 2)).to_string();
    for _ in 0..REQUESTS {
        device.unsigned(Method::PUT, "/nothing").body(body.clone()).send().unwrap();
    }
    Device::of_group(&emulator, TOASTER).assigned();
    let last = control.get("health")["lastEvent"].as_u64().unwrap();
    for reader in &mut slow {
        // The reader gets what was on its way, then the number of missed events, then the events after them.
        let (mut expected, mut gap) = (1, None);
        while gap.is_none() {
            assert!(expected <= last, "it missed nothing");
            let Some((number, kind, data)) = reader.try_next() else {
                // On a slow machine, the connection was idle for so long that it was closed. The reader reconnects.
                *reader = control.events_after(expected - 1);
                continue;
            };
            if kind == "missed" {
                expected += data["missed"].as_u64().unwrap();
                gap = Some(data["missed"].as_u64().unwrap());
                assert_eq!(number, expected - 1);
            } else {
                assert_eq!(number, expected);
                expected += 1;
            }
        }
        assert!(gap > Some(0) && expected < last, "{gap:?}");
        assert_eq!(reader.next().0, expected);
    }
    // A fast reader gets the last events.
    let mut quick = control.events_after(last - 1);
    assert_eq!(quick.next().0, last);
}

/// The number of readers is limited, and a reader that leaves makes room at once.
#[test]
fn readers_of_events_are_bounded() {
    let (_emulator, control) = start();
    let mut readers: Vec<_> = (0..64).map(|_| control.events_after(0)).collect();
    let (status, answer) = control.try_get("events");
    assert_eq!((status, &answer["error"]), (503, &json!("unavailable")), "{answer}");
    drop(readers.pop());
    let started = Instant::now();
    while control.request(Method::GET, "events").send().unwrap().status() != 200 {
        assert!(started.elapsed() < Duration::from_secs(10), "no reader could connect");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The library starts no control API by default.
#[test]
fn the_control_api_is_off_by_default() {
    assert_eq!(contoso().control_url(), None);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = builder(Config::contoso()).control(&address).start().unwrap_err().to_string();
    assert!(error.contains(&address), "{error}");
}
