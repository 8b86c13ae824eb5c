//! The service API: the forms of its requests and answers, and registrations.

mod support;

use std::time::Duration;

use azure_dps_emulator::{Config, IndividualEnrollment, SymmetricKey};
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, IF_MATCH},
};
use serde_json::{Value, json};
use support::{
    service::{SERVICE_VERSION, ServiceClient, refused},
    *,
};

/// az sends a Content-Type without a body. Paths have any case and may end with a slash. Every error is JSON.
#[test]
fn requests_are_accepted_as_the_clients_write_them() {
    let emulator = contoso();
    Device::of_group(&emulator, TOASTER).assigned();
    let client = ServiceClient::new(&emulator);
    for path in [
        format!("/registrations/{TOASTER}"),
        format!("/Registrations/{TOASTER}/"),
        format!("/registrations/{}", TOASTER.to_uppercase()),
        format!("/registrations/{}", TOASTER.replace('-', "%2D")),
    ] {
        let request = client.request(Method::GET, &path).header(CONTENT_TYPE, "application/json").header(ACCEPT, "*/*");
        let response = request.send().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json; charset=utf-8");
    }
    for (method, path, code, allowed) in [
        (Method::GET, "/registrations/a/b/c", 404_000, None),
        (Method::GET, "/enrollments/a/b", 404_000, None),
        (Method::GET, "/enrollments", 405_000, Some("POST")),
        (Method::PATCH, "/enrollmentGroups/a", 405_000, Some("GET, PUT, DELETE")),
        (Method::GET, "/enrollmentGroups/a/attestationmechanism", 405_000, Some("POST")),
        (Method::GET, "/enrollments/query", 404_201, None),
        (Method::GET, "/registrations", 405_000, Some("")),
        (Method::PUT, "/registrations/a", 405_000, Some("GET, DELETE")),
        (Method::GET, "/registrations/a/query", 405_000, Some("POST")),
        (Method::GET, "/registrations/%FF", 404_000, None),
        (Method::GET, "/registrations/unknown", 404_201, None),
        (Method::DELETE, "/registrations/unknown", 404_201, None),
        (Method::POST, "/registrations/unknown/query", 404_201, None),
    ] {
        let response = client.request(method.clone(), path).send().unwrap();
        let allow = response.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(refused(response).0, code, "{method} {path}");
        assert_eq!(allow.as_deref(), allowed, "{method} {path}");
    }
    let query = format!("/registrations/{GROUP}/query");
    let text = client.request(Method::POST, &query).header(CONTENT_TYPE, "text/plain").body("{}").send().unwrap();
    assert_eq!(refused(text).0, 415_000);
    let long = client.request(Method::POST, &query).header(CONTENT_TYPE, "application/json");
    assert_eq!(refused(long.body(vec![b' '; 1024 * 1024 + 1]).send().unwrap()).0, 413_000);
    // A client without a valid token may send less.
    let stranger = client.unsigned(Method::POST, &query).header(CONTENT_TYPE, "application/json");
    assert_eq!(refused(stranger.body(vec![b' '; 100 * 1024]).send().unwrap()).0, 401_000);
    let count = client.request(Method::POST, &query).header("x-ms-max-item-count", "ten").send().unwrap();
    let (code, message) = refused(count);
    assert!(code == 400_000 && message.contains("x-ms-max-item-count"), "{message}");
    let continuation = client.request(Method::POST, &query).header("x-ms-continuation", "?").send().unwrap();
    let (code, message) = refused(continuation);
    assert!(code == 400_000 && message.contains("x-ms-continuation"), "{message}");
}

#[test]
fn every_request_names_an_api_version() {
    for strict in [false, true] {
        let emulator = changed(|config| config.behaviour.strict_api_version = strict);
        let client = ServiceClient::new(&emulator);
        for (query, code) in [
            ("", 400_000),
            ("?api-version", if strict { 400_000 } else { 404_201 }),
            ("?api-version=2099-01-01", if strict { 400_000 } else { 404_201 }),
            ("?api-version=2018-09-01-preview", 404_201),
            (SERVICE_VERSION, 404_201),
        ] {
            let request = client.client.get(format!("{}/registrations/a{query}", client.url));
            assert_eq!(
                refused(request.header(AUTHORIZATION, client.token()).send().unwrap()).0,
                code,
                "{query} {strict}"
            );
        }
    }
}

/// Unusual requests of az and the clients for Node and Python, and the answers that they expect.
#[test]
fn enrollments_are_managed_as_the_clients_write_them() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let send = |method: Method, path: &str, body: &str| {
        // az sends a Content-Type without a body.
        let request = client.request(method, path).header(CONTENT_TYPE, "application/json; charset=utf-8");
        let response = request.body(body.to_owned()).send().unwrap();
        let kind = response.headers().get(CONTENT_TYPE).cloned();
        let (status, body) = answer(response);
        assert_eq!(kind.is_some(), status != 204, "{path}");
        (status, body)
    };
    let device = json!({ "registrationId": "dev-1",
        "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": OTHER_KEY, "secondaryKey": GROUP_KEY } } });
    let (status, stored) = send(Method::PUT, "/enrollments/dev-1", &device.to_string());
    assert_eq!((status, &stored["registrationId"]), (200, &json!("dev-1")));
    let (status, keys) = send(Method::POST, "/enrollments/dev-1/attestationmechanism", "");
    assert_eq!((status, &keys["symmetricKey"]["primaryKey"]), (200, &json!(OTHER_KEY)));
    let (status, keys) = send(Method::POST, &format!("/enrollmentgroups/{GROUP}/attestationmechanism"), "");
    assert_eq!((status, &keys["symmetricKey"]["primaryKey"]), (200, &json!(GROUP_KEY)));
    let bulk = json!({ "mode": "create", "enrollments": [{ "registrationId": "dev-2",
        "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": "", "secondaryKey": "" } } }] });
    assert_eq!(
        send(Method::POST, "/enrollments/", &bulk.to_string()),
        (200, json!({ "isSuccessful": true, "errors": [] }))
    );
    let az = r#"{"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}"#;
    let (status, all) = send(Method::POST, "/enrollments/query", az);
    let ids: Vec<_> = all.as_array().unwrap().iter().map(|each| each["registrationId"].clone()).collect();
    assert_eq!((status, ids), (200, vec![json!("dev-1"), json!("dev-2")]));
    let changed = client.request(Method::PUT, "/enrollments/dev-1").header(IF_MATCH, "*").body(device.to_string());
    assert_eq!(changed.header(CONTENT_TYPE, "application/json").send().unwrap().status(), 200);
    let stale = client.request(Method::DELETE, "/enrollments/dev-1").header(IF_MATCH, stored["etag"].as_str().unwrap());
    assert_eq!(refused(stale.send().unwrap()).0 / 1000, 412);
    assert_eq!(send(Method::DELETE, "/Enrollments/DEV-1/", ""), (204, json!("")));
    assert_eq!(send(Method::GET, "/enrollments/dev-1", "").0, 404);
    // The record has no key of these requests and answers.
    let shown = format!("{:?}", emulator.requests());
    assert!(!shown.contains(OTHER_KEY) && !shown.contains(GROUP_KEY), "{shown}");
    assert!(shown.contains("****"));
}

#[test]
fn enrollments_are_queried_in_pages() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let ids: Vec<_> = (0..5).map(|number| format!("dev-{number}")).collect();
    for id in &ids {
        let body = json!({ "registrationId": id, "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
        assert_eq!(client.put(&format!("/enrollments/{id}"), &body).0, 200);
    }
    let (mut found, mut continuation) = (vec![], None::<String>);
    loop {
        let mut request = client.request(Method::POST, "/enrollments/query").header("x-ms-max-item-count", "2");
        request = request.header(CONTENT_TYPE, "application/json").body(json!({ "query": "SELECT *" }).to_string());
        if let Some(continuation) = &continuation {
            request = request.header("x-ms-continuation", continuation);
        }
        let response = request.send().unwrap();
        assert_eq!(response.headers()["x-ms-item-type"], "enrollment");
        continuation = response.headers().get("x-ms-continuation").map(|value| value.to_str().unwrap().to_owned());
        let page = answer(response).1.as_array().unwrap().clone();
        assert!(page.len() == 2 || continuation.is_none(), "{page:?}");
        found.extend(page.iter().map(|each| each["registrationId"].as_str().unwrap().to_owned()));
        if continuation.is_none() {
            break;
        }
    }
    assert_eq!(found, ids);
    let groups = client.request(Method::POST, "/enrollmentGroups/query").send().unwrap();
    assert_eq!(groups.headers()["x-ms-item-type"], "enrollmentGroup");
}

/// Without this rule, a client that may write enrollments could make the emulator call any host.
#[test]
fn a_webhook_of_the_service_api_is_on_loopback_or_an_allowed_host() {
    for (allowed, url, status) in [
        (None, "http://localhost:7071/api/HttpTrigger1?code=S3CRET", 200),
        (None, "http://functions.example/api?code=S3CRET", 400),
        (Some("functions.example"), "http://functions.example/api?code=S3CRET", 200),
        (Some("functions.example"), "http://a.functions.example/api?code=S3CRET", 400),
    ] {
        let mut builder = builder(Config::contoso());
        if let Some(host) = allowed {
            builder = builder.allow_webhook(host);
        }
        let emulator = builder.start().unwrap();
        let client = ServiceClient::new(&emulator);
        let group = json!({ "enrollmentGroupId": "g", "allocationPolicy": "custom",
            "attestation": { "type": "symmetricKey", "symmetricKey": {} },
            "customAllocationDefinition": { "webhookUrl": url, "apiVersion": "2021-10-01" } });
        let (got, body) = client.put("/enrollmentGroups/g", &group);
        assert_eq!(got, status, "{url}: {body}");
        if status == 400 {
            let message = body["message"].as_str().unwrap();
            assert!(message.contains("--allow-webhook") && !message.contains("S3CRET"), "{message}");
        }
        // In a bulk operation, the error belongs to one enrollment.
        let bulk = json!({ "mode": "create", "enrollmentGroups": [{ "enrollmentGroupId": "h", "allocationPolicy": "custom",
            "attestation": { "type": "symmetricKey", "symmetricKey": {} },
            "customAllocationDefinition": { "webhookUrl": url, "apiVersion": "2021-10-01" } }] });
        let (_, body) = client.post("/enrollmentGroups", &bulk);
        assert_eq!(body["isSuccessful"], status == 200, "{url}: {body}");
        assert!(!format!("{body} {:?}", emulator.requests()).contains("S3CRET"));
    }
}

/// The service API returns the result of a device, without the parts that are only for the device.
#[test]
fn a_registration_is_read() {
    let mut config = Config::contoso();
    config.contoso.return_payload = true;
    let emulator = builder(config).https("127.0.0.1:0").start().unwrap();
    let mut device = Device::over_tls(&emulator, TOASTER, None);
    device.key = derive(GROUP_KEY, TOASTER);
    let state = device.with_payload(payload()).assigned();
    let client = ServiceClient::over_tls(&emulator);
    let (status, body) = client.get(&format!("/registrations/{TOASTER}"));
    assert_eq!(status, 200);
    let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "registrationId",
            "createdDateTimeUtc",
            "assignedHub",
            "deviceId",
            "status",
            "substatus",
            "lastUpdatedDateTimeUtc",
            "etag",
            "payload"
        ]
    );
    for member in members {
        assert_eq!(body[member], state[member], "{member}");
    }
}

/// A failed registration has its error, and the registration of a disabled device has its status.
#[test]
fn a_registration_that_failed_is_read() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let stranger = Device::of_group(&emulator, "no-known-kind");
    let (code, message) = stranger.failed();
    let (_, body) = client.get("/registrations/no-known-kind");
    assert_eq!(
        (&body["status"], &body["errorCode"], &body["errorMessage"]),
        (&json!("failed"), &json!(code), &json!(message))
    );
    emulator.update(|config| config.enrollment_groups[0].enabled = false);
    answer(stranger.put());
    assert_eq!(client.get("/registrations/no-known-kind").1["status"], "disabled");
}

/// `DELETE` is answered with 204 without a body. Then the device is unknown, and polls and look-ups are 404. Its next
/// registration is an initial assignment. The hub keeps the device and its twin.
#[test]
fn a_device_registers_from_the_start_after_its_registration_is_deleted() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let path = format!("/registrations/{TOASTER}");
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    device.poll(&operation_id);
    assert_eq!(device.assigned()["substatus"], "reprovisionedToInitialAssignment");
    let twin = emulator.device(TOASTER).unwrap().twin;

    let response = client.request(Method::DELETE, &path).header(CONTENT_TYPE, "application/json").send().unwrap();
    assert_eq!(response.status(), 204);
    let has = |headers: &HeaderMap, name: &str| headers.contains_key(name);
    let headers = response.headers();
    assert!(!has(headers, "content-type") && !has(headers, "transfer-encoding") && has(headers, "x-ms-request-id"));
    assert_eq!(response.text().unwrap(), "");
    assert_eq!(client.get(&path).0, 404);
    assert_eq!(client.delete(&path).0, 404);
    assert_eq!(answer(device.get(&operation_id)).1["errorCode"], 404_201);
    assert_eq!(device.lookup().1["errorCode"], 404_201);
    let record = emulator.device(TOASTER).unwrap();
    assert!(!record.registered && record.twin == twin);

    assert_eq!(device.assigned()["substatus"], "initialAssignment");
    assert!(emulator.device(TOASTER).unwrap().registered);
    // The request to the webhook does not have the previous hub.
    let contexts: Vec<_> =
        emulator.webhook_calls().iter().map(|call| call.request["deviceRuntimeContext"].clone()).collect();
    let current: Vec<_> = contexts.iter().map(|context| context["currentIotHubHostName"].is_string()).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(device.assigned()["substatus"], "reprovisionedToInitialAssignment");
}

/// Quotes of the etag do not matter, because clients send what they read.
#[test]
fn a_stale_etag_is_412() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let path = format!("/registrations/{TOASTER}");
    let device = Device::of_group(&emulator, TOASTER);
    let etag = || client.get(&path).1["etag"].as_str().unwrap().to_owned();
    let delete = |if_match: &str| client.request(Method::DELETE, &path).header(IF_MATCH, if_match).send().unwrap();
    device.assigned();
    let stale = etag();
    device.assigned();
    for if_match in [&stale, "\"a\"", ""] {
        assert_eq!(refused(delete(if_match)).0, 412_000, "{if_match:?}");
    }
    for written in ["{}", "\"{}\"", "W/\"{}\"", "\"a\", \"{}\"", "*"] {
        let if_match = written.replace("{}", &etag());
        assert_eq!(delete(&if_match).status(), 204, "{if_match}");
        device.assigned();
    }
}

/// A running registration ends when it is deleted. It assigns nothing, whatever the webhook answers.
#[test]
fn a_running_registration_that_is_deleted_ends() {
    let webhook = HeldWebhook::start();
    let emulator = changed(|config| config.webhook_url = Some(webhook.url()));
    let client = ServiceClient::new(&emulator);
    let path = format!("/registrations/{TOASTER}");
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    let (call, _) = webhook.call();
    assert_eq!(client.get(&path).1["status"], "assigning");
    assert_eq!(client.delete(&path).0, 204);
    // The connection of the call is closed, so its answer has no reader.
    assert_eq!(answer(device.get(&operation_id)).0, 404);
    let _ = try_answer(&call, &json!({ "iotHubHostName": TOASTERS_HUB }));
    drop(call);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while emulator.webhook_calls().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the call never ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    let outcome = &emulator.webhook_calls()[0].outcome;
    assert!(outcome.contains("its registration was deleted"), "{outcome}");
    assert_eq!((client.get(&path).0, emulator.device(TOASTER).is_none()), (404, true));
    device.register();
    assert_eq!(webhook.call().1["registrationId"], TOASTER);
}

/// A query returns each registration of a group once, in pages, even if devices register or are deleted in between.
#[test]
fn registrations_of_a_group_are_queried_in_pages() {
    let mut config = Config::contoso();
    config.individual_enrollments = vec![IndividualEnrollment {
        registration_id: HEAT_PUMP.into(),
        primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
        ..Default::default()
    }];
    let emulator = builder(config).start().unwrap();
    let client = ServiceClient::new(&emulator);
    let query = |id: &str, count: Option<&str>, continuation: Option<&str>, body: &str| {
        let mut request = client.request(Method::POST, &format!("/registrations/{id}/query"));
        request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        for (name, value) in [("x-ms-max-item-count", count), ("x-ms-continuation", continuation)] {
            request = match value {
                Some(value) => request.header(name, value),
                None => request,
            };
        }
        let response = request.send().unwrap();
        let more = response.headers().get("x-ms-continuation").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(response.headers()["x-ms-item-type"], "deviceRegistration");
        let (status, body) = answer(response);
        assert_eq!(status, 200, "{body}");
        let ids: Vec<_> =
            body.as_array().unwrap().iter().map(|state| state["registrationId"].as_str().unwrap().to_owned()).collect();
        (ids, more)
    };
    assert_eq!(query(GROUP, None, None, ""), (vec![], None));
    let ids: Vec<_> = (0..7).map(|number| format!("{number}-contoso-tstrsd-007")).collect();
    for id in &ids {
        Device::of_group(&emulator, id).assigned();
    }
    Device::new(&emulator, HEAT_PUMP, OTHER_KEY).assigned();
    for body in ["", "{}", r#"{"query":"*"}"#] {
        assert_eq!(query(GROUP, None, None, body), (ids.clone(), None), "{body}");
    }
    assert_eq!(query(&GROUP.to_uppercase(), Some("7"), None, "").0, ids);
    assert_eq!(query(HEAT_PUMP, None, None, ""), (vec![HEAT_PUMP.to_owned()], None));
    let (first, more) = query(GROUP, Some("3"), None, "");
    client.delete(&format!("/registrations/{}", ids[1]));
    client.delete(&format!("/registrations/{}", ids[2]));
    let (second, more) = query(GROUP, Some("3"), more.as_deref(), "");
    let (third, more) = query(GROUP, Some("3"), more.as_deref(), "");
    assert_eq!(([first, second, third].concat(), more), (ids, None));
}

/// The record has the path, and the bodies without keys.
#[test]
fn requests_are_recorded_without_keys() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let body = json!({ "attestation": { "symmetricKey": { "primaryKey": OTHER_KEY } },
        "customAllocationDefinition": { "webhookUrl": "http://127.0.0.1/?code=S3CRET" } });
    client.post(&format!("/registrations/{GROUP}/query"), &body);
    let request = client.request(Method::POST, &format!("/registrations/{GROUP}/query"));
    request.header(CONTENT_TYPE, "application/json").body(format!("primaryKey={OTHER_KEY}")).send().unwrap();
    let records = emulator.requests();
    assert_eq!(records[0].path, format!("/registrations/{GROUP}/query{SERVICE_VERSION}"));
    assert_eq!((records[0].listener, &*records[0].method, records[0].authorization), ("http", "POST", true));
    let recorded: Value = serde_json::from_str(&records[0].body).unwrap();
    assert_eq!(recorded["attestation"]["symmetricKey"]["primaryKey"], "****");
    assert_eq!(recorded["customAllocationDefinition"]["webhookUrl"], "http://127.0.0.1/?****");
    assert_eq!(records[1].body, format!("({} bytes that are not JSON)", 11 + OTHER_KEY.len()));
    let shown = format!("{records:?}");
    assert!(!shown.contains(OTHER_KEY) && !shown.contains("S3CRET"), "{shown}");
}
