//! Enrollments through the service API.

mod support;

use std::{sync::Barrier, thread};

use azure_dps_emulator::{CaCertificate, Config, Emulator};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, IF_MATCH},
};
use serde_json::{Map, Value, json};
use support::{
    service::ServiceClient,
    software_tpm::SoftwareTpm,
    x509::{Ca, Identity, pem},
    *,
};

const GROUPS: &str = "/enrollmentGroups";
const INDIVIDUALS: &str = "/enrollments";

/// Starts the service without enrollments.
fn empty() -> (Emulator, ServiceClient) {
    let emulator = changed(|config| config.enrollment_groups.clear());
    let client = ServiceClient::new(&emulator);
    (emulator, client)
}

fn put(client: &ServiceClient, path: &str, body: &Value, if_match: Option<&str>) -> (u16, Value) {
    let request = client.request(Method::PUT, path).header(CONTENT_TYPE, "application/json");
    let request = if_match.into_iter().fold(request, |request, etag| request.header(IF_MATCH, etag));
    answer(request.body(body.to_string()).send().unwrap())
}

fn created(client: &ServiceClient, path: &str, body: &Value) -> Value {
    let (status, body) = client.put(path, body);
    assert_eq!(status, 200, "{body}");
    body
}

fn keys() -> Value {
    json!({ "type": "symmetricKey", "symmetricKey": {} })
}

fn group(id: &str) -> Value {
    json!({ "enrollmentGroupId": id, "attestation": keys() })
}

fn individual(id: &str) -> Value {
    json!({ "registrationId": id, "attestation": keys() })
}

fn mechanism(client: &ServiceClient, path: &str) -> Value {
    let (status, body) = client.send(Method::POST, &format!("{path}/attestationmechanism"));
    assert_eq!(status, 200, "{body}");
    body
}

fn merged(mut document: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("{changes}") };
    document.as_object_mut().unwrap().extend(changes);
    document
}

/// Returns an enrollment without the members that the service sets.
fn sent_part(document: &Value) -> Map<String, Value> {
    let mut document = document.as_object().unwrap().clone();
    for member in ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"] {
        assert!(document.remove(member).is_some_and(|value| value.is_string()), "{member}");
    }
    document
}

fn failed(answer: (u16, Value)) -> (u64, String) {
    let (status, body) = answer;
    let code = body["errorCode"].as_u64().unwrap_or_else(|| panic!("{status} {body}"));
    assert_eq!(code / 1000, u64::from(status));
    (code, body["message"].as_str().unwrap().to_owned())
}

/// A group as az sends it. The answer has the same members, without keys.
#[test]
fn an_enrollment_is_returned_as_sent() {
    let (_emulator, client) = empty();
    let defaults = json!({
        "capabilities": { "iotEdge": false },
        "provisioningStatus": "enabled",
        "reprovisionPolicy": { "updateHubAssignment": true, "migrateDeviceData": true },
        "allocationPolicy": "hashed",
        "iotHubs": [],
    });
    let full = json!({
        "capabilities": { "iotEdge": true },
        "provisioningStatus": "disabled",
        "reprovisionPolicy": { "updateHubAssignment": true, "migrateDeviceData": false },
        "allocationPolicy": "custom",
        "iotHubs": [HEATPUMPS_HUB],
        "iotHubHostName": TOASTERS_HUB,
        "initialTwin": { "tags": { "a": [1, null, { "b": 1.5 }] }, "properties": { "desired": { "c": "d" } } },
        "customAllocationDefinition": { "webhookUrl": "http://127.0.0.1:9/api", "apiVersion": "2019-03-31" },
        "credentialPolicyName": "policy",
    });
    let mut number = 0;
    let mut check = |changes: Value, expected: Value| {
        number += 1;
        for (path, sent) in [(GROUPS, group(&format!("e-{number}"))), (INDIVIDUALS, individual(&format!("e-{number}")))]
        {
            let path = format!("{path}/e-{number}");
            let answer = created(&client, &path, &merged(sent.clone(), changes.clone()));
            let expected = merged(merged(sent, defaults.clone()), expected.clone());
            assert_eq!(Value::Object(sent_part(&answer)), expected, "{changes}");
            assert_eq!(client.get(&path), (200, answer.clone()));
            // The client can send the answer back.
            let (status, again) = put(&client, &path, &answer, answer["etag"].as_str());
            assert_eq!((status, sent_part(&again)), (200, sent_part(&answer)));
            assert_eq!(again["createdDateTimeUtc"], answer["createdDateTimeUtc"]);
            assert_ne!(again["etag"], answer["etag"]);
        }
    };
    check(json!({}), json!({}));
    check(full.clone(), full.clone());
    for (member, value) in full.as_object().unwrap() {
        let mut change = json!({});
        change[member] = value.clone();
        let static_hub = json!({ "allocationPolicy": "static" });
        let expected = if member == "iotHubHostName" { merged(change.clone(), static_hub) } else { change.clone() };
        check(change, expected);
    }
    let update = |update: bool, migrate: bool| json!({ "updateHubAssignment": update, "migrateDeviceData": migrate });
    for (changes, expected) in [
        // `null` is the same as a missing member.
        (
            json!({ "capabilities": null, "initialTwin": { "tags": null, "properties": null }, "iotHubs": null,
                    "reprovisionPolicy": null, "provisioningStatus": null, "customAllocationDefinition": null }),
            json!({}),
        ),
        (json!({ "reprovisionPolicy": update(false, true) }), json!({ "reprovisionPolicy": update(false, false) })),
        (json!({ "reprovisionPolicy": {} }), json!({})),
        (json!({ "allocationPolicy": "GeoLatency" }), json!({ "allocationPolicy": "geoLatency" })),
        (json!({ "allocationPolicy": "static" }), json!({ "allocationPolicy": "static" })),
        // Members that the service sets, and unknown members.
        (json!({ "etag": "\"x\"", "createdDateTimeUtc": "x", "registrationState": 1, "unknown": {} }), json!({})),
    ] {
        check(changes, expected);
    }

    let own = json!({ "deviceId": "Lock 1", "optionalDeviceInformation": { "serial": [1] } });
    let answer = created(&client, "/enrollments/lock", &merged(individual("lock"), own.clone()));
    assert_eq!(
        (&answer["deviceId"], &answer["optionalDeviceInformation"]),
        (&own["deviceId"], &own["optionalDeviceInformation"])
    );
}

/// A device can register through an enrollment of the API, as through one of the configuration file.
#[test]
fn a_device_registers_through_an_enrollment_of_the_api() {
    let (emulator, client) = empty();
    let hub = json!({ "iotHubs": [HEATPUMPS_HUB], "allocationPolicy": "static",
                      "initialTwin": { "tags": { "floor": 4 }, "properties": { "desired": {} } } });
    created(&client, "/enrollmentGroups/g", &merged(group("g"), hub));
    let key = mechanism(&client, "/enrollmentgroups/g")["symmetricKey"]["primaryKey"].as_str().unwrap().to_owned();
    let state = Device::new(&emulator, "device-1", &derive(&key, "device-1")).assigned();
    assert_eq!(state["assignedHub"], HEATPUMPS_HUB);
    assert_eq!(emulator.device("device-1").unwrap().twin.tags["floor"], 4);

    let own = json!({ "deviceId": "lock-1" });
    created(&client, "/enrollments/lock", &merged(individual("lock"), own));
    let key = mechanism(&client, "/enrollments/lock")["symmetricKey"]["secondaryKey"].as_str().unwrap().to_owned();
    assert_eq!(Device::new(&emulator, "lock", &key).assigned()["deviceId"], "lock-1");
    // An individual enrollment includes the state of its device, but not in lists.
    let (_, read) = client.get("/enrollments/lock");
    assert_eq!(
        (&read["registrationState"]["status"], &read["registrationState"]["deviceId"]),
        (&json!("assigned"), &json!("lock-1"))
    );
    assert_eq!(client.post("/enrollments/query", &json!({})).1[0].get("registrationState"), None);
}

/// The API can read and change an enrollment of the configuration. The function key of its webhook stays hidden and
/// is kept.
#[test]
fn the_api_changes_enrollments_of_the_configuration() {
    let url = "http://functions.example/api/HttpTrigger1?code=the-function-key";
    let emulator = changed(|config| {
        config.enrollment_groups[0].allocation.webhook_url = Some(url.to_owned());
    });
    let client = ServiceClient::new(&emulator);
    let path = &format!("{GROUPS}/{GROUP}");
    let (status, read) = client.get(path);
    let masked = "http://functions.example/api/HttpTrigger1?****";
    assert_eq!((status, &read["customAllocationDefinition"]["webhookUrl"]), (200, &json!(masked)));
    assert_eq!(
        (&read["iotHubs"], &read["allocationPolicy"]),
        (&json!([TOASTERS_HUB, HEATPUMPS_HUB]), &json!("custom"))
    );
    assert_eq!(read["attestation"], keys());
    assert_eq!(
        mechanism(&client, path),
        json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": GROUP_KEY } })
    );

    let (status, again) = put(&client, path, &merged(read, json!({ "iotHubs": [TOASTERS_HUB] })), Some("*"));
    assert_eq!((status, &again["customAllocationDefinition"]["webhookUrl"]), (200, &json!(masked)));
    emulator.update(|config| {
        let group = &config.enrollment_groups[0];
        assert_eq!(group.allocation.webhook_url.as_deref(), Some(url));
        assert_eq!(group.allocation.iot_hubs, [TOASTERS_HUB]);
        assert_eq!(group.primary_key, GROUP_KEY.parse().unwrap());
    });

    // Another URL must be on this machine and complete.
    let with_url = |url: &str| merged(again.clone(), json!({ "customAllocationDefinition": { "webhookUrl": url } }));
    for (url, why) in [
        (
            "http://functions.example/other",
            "customAllocationDefinition.webhookUrl: the webhook's host \"functions.example\"",
        ),
        ("http://127.0.0.1:7071/api?****", "customAllocationDefinition.webhookUrl: **** stands for a secret"),
        ("localhost/api", "customAllocationDefinition.webhookUrl: the webhook's URL"),
    ] {
        let (code, message) = failed(put(&client, path, &with_url(url), Some("*")));
        assert!(code == 400_000 && message.contains(why), "{message}");
    }
    let local = with_url("http://127.0.0.1:7071/api?code=another-key");
    let (status, again) = put(&client, path, &local, Some("*"));
    assert_eq!(
        (status, &again["customAllocationDefinition"]["webhookUrl"]),
        (200, &json!("http://127.0.0.1:7071/api?****"))
    );
    for secret in ["the-function-key", "another-key", GROUP_KEY] {
        for record in emulator.requests() {
            assert!(!format!("{record:?}").contains(secret), "{record:?}");
        }
    }
}

/// "Two random 64-byte keys" are created if the client sends none. An empty key in an update keeps the present key.
#[test]
fn keys_are_created_kept_and_replaced() {
    let (_emulator, client) = empty();
    for (collection, new) in [(GROUPS, group as fn(&str) -> Value), (INDIVIDUALS, individual)] {
        let path = &format!("{collection}/e");
        let with_keys =
            |keys: Value| merged(new("e"), json!({ "attestation": { "type": "symmetricKey", "symmetricKey": keys } }));
        let told = || mechanism(&client, path)["symmetricKey"].clone();
        assert_eq!(created(&client, path, &new("e"))["attestation"], keys());
        let made = told();
        let [primary, secondary] = ["primaryKey", "secondaryKey"].map(|name| made[name].as_str().unwrap());
        assert_ne!(primary, secondary);
        for key in [primary, secondary] {
            assert_eq!(BASE64_STANDARD.decode(key).unwrap().len(), 64);
        }
        for (sent, expected) in [
            (json!({}), json!({ "primaryKey": primary, "secondaryKey": secondary })),
            (json!(null), json!({ "primaryKey": primary, "secondaryKey": secondary })),
            (json!({ "primaryKey": "", "secondaryKey": null }), made.clone()),
            (json!({ "primaryKey": GROUP_KEY }), json!({ "primaryKey": GROUP_KEY, "secondaryKey": secondary })),
            (json!({ "secondaryKey": OTHER_KEY }), json!({ "primaryKey": GROUP_KEY, "secondaryKey": OTHER_KEY })),
            (made.clone(), made.clone()),
        ] {
            let (status, answer) = put(&client, path, &with_keys(sent.clone()), Some("*"));
            assert_eq!((status, &answer["attestation"], told()), (200, &keys(), expected), "{sent}");
        }
        for (name, key, why) in [
            ("primaryKey", "secret!", "attestation.symmetricKey.primaryKey: a symmetric key is not base64"),
            ("secondaryKey", "c2VjcmV0", "attestation.symmetricKey.secondaryKey: a symmetric key has 6 bytes"),
        ] {
            let mut keys = json!({});
            keys[name] = key.into();
            let (_, message) = failed(put(&client, path, &with_keys(keys), Some("*")));
            assert!(message.contains(why) && !message.contains(key), "{message}");
        }
        // A key in the wrong place is not quoted.
        let misplaced =
            merged(new("e"), json!({ "attestation": { "type": "symmetricKey", "symmetricKey": GROUP_KEY } }));
        let (_, message) = failed(put(&client, path, &misplaced, Some("*")));
        assert!(
            message.starts_with("Bad request: attestation.symmetricKey: ") && !message.contains(GROUP_KEY),
            "{message}"
        );
    }
}

/// A certificate is accepted as PEM, as base64 of PEM or of DER, and returned as PEM with its description.
#[test]
fn certificates_are_returned_with_their_description() {
    let (ca, next) = (Ca::root("factory"), Ca::root("next"));
    let device = Identity::self_signed("lock");
    let emulator = builder(Config { enrollment_groups: vec![], ..Config::contoso() })
        .http("127.0.0.1:0")
        .https("127.0.0.1:0")
        .start()
        .unwrap();
    let client = ServiceClient::new(&emulator);
    let x509 = |part: &str, certificates: Value| {
        let mut x509 = json!({});
        x509[part] = certificates;
        json!({ "attestation": { "type": "x509", "x509": x509 } })
    };
    for (collection, new, part, certificate) in [
        (GROUPS, group as fn(&str) -> Value, "signingCertificates", ca.pem()),
        (INDIVIDUALS, individual, "clientCertificates", pem(&device.chain[0])),
    ] {
        let path = &format!("{collection}/lock");
        let der: String = certificate.lines().filter(|line| !line.contains("-----")).collect();
        let mut last = None;
        for sent in [certificate.clone(), der.clone(), BASE64_STANDARD.encode(&certificate)] {
            let body = merged(new("lock"), x509(part, json!({ "primary": { "certificate": sent } })));
            let if_match = last.is_some().then_some("*");
            let (status, answer) = put(&client, path, &body, if_match);
            assert_eq!(status, 200, "{answer}");
            let primary = &answer["attestation"]["x509"][part]["primary"];
            let given: String = primary["certificate"].as_str().unwrap().lines().filter(|l| !l.contains('-')).collect();
            assert_eq!(given, der);
            let info: Vec<_> = primary["info"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(
                info,
                [
                    "subjectName",
                    "sha1Thumbprint",
                    "sha256Thumbprint",
                    "issuerName",
                    "notBeforeUtc",
                    "notAfterUtc",
                    "serialNumber",
                    "version"
                ]
            );
            assert_eq!(mechanism(&client, path), answer["attestation"]);
            last = Some(answer);
        }
        // A client may send back only the description.
        let mut again = last.unwrap();
        again["attestation"]["x509"][part]["primary"].as_object_mut().unwrap().remove("certificate");
        let (status, kept) = put(&client, path, &again, Some("*"));
        assert_eq!(
            (status, &kept["attestation"]["x509"][part]["primary"]["info"]),
            (200, &again["attestation"]["x509"][part]["primary"]["info"])
        );
        again["attestation"]["x509"][part]["primary"]["info"]["sha256Thumbprint"] = "00".into();
        let (_, message) = failed(put(&client, path, &again, Some("*")));
        assert!(message.contains(&format!("attestation.x509.{part}.primary.certificate: it is missing")), "{message}");
    }
    let identity = ca.device("device-1");
    assert_eq!(Device::over_tls(&emulator, "device-1", Some(&identity)).assigned()["status"], "assigned");
    assert_eq!(Device::over_tls(&emulator, "lock", Some(&device)).assigned()["status"], "assigned");

    // CAs by name.
    let references = json!({ "primary": "first", "secondary": "next" });
    let body = merged(group("by-name"), x509("caReferences", references.clone()));
    let (_, message) = failed(client.put("/enrollmentGroups/by-name", &body));
    assert!(
        message.contains("attestation.x509.caReferences.primary: \"first\" is not in ca_certificates"),
        "{message}"
    );
    emulator.update(|config| {
        for (name, ca) in [("first", &ca), ("next", &next)] {
            config.ca_certificates.push(CaCertificate { name: name.to_owned(), certificate: ca.certificate() });
        }
    });
    let answer = created(&client, "/enrollmentGroups/by-name", &body);
    assert_eq!(answer["attestation"], json!({ "type": "x509", "x509": { "caReferences": references } }));
    let identity = next.device("device-2");
    assert_eq!(Device::over_tls(&emulator, "device-2", Some(&identity)).assigned()["status"], "assigned");
}

#[test]
fn a_tpms_keys_are_returned() {
    let (_emulator, client) = empty();
    let endorsement_key = BASE64_STANDARD.encode(SoftwareTpm::new().endorsement_key());
    let tpm = json!({ "type": "tpm", "tpm": { "endorsementKey": endorsement_key, "storageRootKey": "c3Jr" } });
    let body = merged(individual("mydevice"), json!({ "attestation": tpm }));
    assert_eq!(created(&client, "/enrollments/mydevice", &body)["attestation"], tpm);
    assert_eq!(mechanism(&client, "/enrollments/mydevice"), tpm);
}

/// Without If-Match, an enrollment is created. With If-Match, it is changed or deleted if the client has its present
/// version.
#[test]
fn changes_need_the_current_etag() {
    let (_emulator, client) = empty();
    for (collection, new) in [(GROUPS, group as fn(&str) -> Value), (INDIVIDUALS, individual)] {
        let path = &format!("{collection}/Lock-1");
        let (body, delete) = (&new("Lock-1"), |if_match: Option<&str>| {
            let request = client.request(Method::DELETE, path);
            let request = if_match.into_iter().fold(request, |request, etag| request.header(IF_MATCH, etag));
            answer(request.send().unwrap())
        });
        for if_match in ["*", "\"0000f176-0000-0700-0000-62eaad1e0000\""] {
            assert_eq!(failed(put(&client, path, body, Some(if_match))).0, 404_201, "{if_match}");
        }
        let (code, message) = failed(client.get(path));
        assert!(code == 404_201 && message.starts_with("Enrollment not found: there is no "), "{message}");
        assert!(message.ends_with("\"Lock-1\"."), "{message}");
        assert_eq!(failed(delete(None)).0, 404_201);
        assert_eq!(failed(client.send(Method::POST, &format!("{path}/attestationmechanism"))).0, 404_201);

        let first = created(&client, path, body);
        let (code, message) = failed(put(&client, path, body, None));
        assert!(code == 409_201 && message.contains("send If-Match with its etag, or *"), "{message}");
        // IDs have no case.
        let lower = format!("{collection}/lock-1");
        assert_eq!(failed(put(&client, &lower, body, None)).0, 409_201);
        let etag = first["etag"].as_str().unwrap();
        assert!(etag.starts_with('"') && etag.ends_with('"'));
        assert_eq!(put(&client, &lower, body, Some(etag)).0, 200);
        assert_eq!(failed(put(&client, path, body, Some(etag))).0, 412_000);
        assert_eq!(failed(delete(Some(etag))).0, 412_000);
        let etag = client.get(path).1["etag"].as_str().unwrap().to_owned();
        assert_eq!(put(&client, path, body, Some(etag.trim_matches('"'))).0, 200);
        assert_eq!(put(&client, path, body, Some("*")).0, 200);
        assert_eq!(delete(Some("*")), (204, json!("")));
        assert_eq!(failed(delete(Some("*"))).0, 404_201);
    }
}

/// If several clients change the same version at the same moment, one succeeds.
#[test]
fn one_of_several_concurrent_updates_succeeds() {
    const CLIENTS: usize = 8;
    let (_emulator, client) = empty();
    let path = "/enrollmentGroups/g";
    let mut etag = created(&client, path, &group("g"))["etag"].as_str().unwrap().to_owned();
    for _ in 0..20 {
        let barrier = Barrier::new(CLIENTS);
        let answers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let (client, barrier, etag) = (client.clone(), &barrier, &etag);
                    scope.spawn(move || {
                        let floor = json!({ "initialTwin": { "tags": { "by": number } } });
                        barrier.wait();
                        put(&client, path, &merged(group("g"), floor), Some(etag))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|(status, _)| *status == 412).count(), CLIENTS - 1);
        assert_eq!(client.get(path).1, winners[0].1);
        etag = winners[0].1["etag"].as_str().unwrap().to_owned();
    }
}

#[test]
fn the_error_names_the_wrong_member_of_an_enrollment() {
    let (_emulator, client) = empty();
    let device = pem(&Identity::self_signed("lock").chain[0]);
    let x509 = |x509: Value| json!({ "attestation": { "type": "x509", "x509": x509 } });
    let one = |certificate: &str| json!({ "primary": { "certificate": certificate } });
    for (changes, fault) in [
        (json!({ "enrollmentGroupId": null }), "enrollmentGroupId: it is missing"),
        (json!({ "enrollmentGroupId": "h" }), "enrollmentGroupId: the path has another ID"),
        (json!({ "attestation": null }), "attestation: it is missing"),
        (json!({ "attestation": {} }), "attestation.type: symmetricKey or x509 is expected"),
        (json!({ "attestation": { "type": "tpm" } }), "attestation.type: symmetricKey or x509 is expected"),
        (json!({ "attestation": { "type": "none" } }), "attestation.type: "),
        (json!({ "attestation": 1 }), "attestation: an object is expected"),
        (x509(json!({})), "attestation.x509: a group needs signingCertificates or caReferences"),
        (x509(json!({ "clientCertificates": one(&device) })), "attestation.x509: a group needs signingCertificates"),
        (
            x509(json!({ "signingCertificates": one(&device), "caReferences": { "primary": "a" } })),
            "attestation.x509: give signingCertificates or caReferences, not both",
        ),
        (
            x509(json!({ "signingCertificates": one(&device) })),
            "attestation.x509.signingCertificates.primary: a group needs a CA certificate",
        ),
        (
            x509(json!({ "signingCertificates": one("!") })),
            "attestation.x509.signingCertificates.primary.certificate: a certificate is neither PEM nor base64",
        ),
        (
            x509(json!({ "signingCertificates": one(OTHER_KEY) })),
            "attestation.x509.signingCertificates.primary.certificate: a certificate cannot be read",
        ),
        (json!({ "provisioningStatus": "off" }), "provisioningStatus: enabled or disabled is expected"),
        (json!({ "allocationPolicy": "nearest" }), "allocationPolicy: hashed, geoLatency, static or custom"),
        (json!({ "iotHubs": [TOASTERS_HUB, "nub"] }), "iotHubs[1]: \"nub\" is not in linked_hubs"),
        (json!({ "iotHubs": TOASTERS_HUB }), "iotHubs: a list is expected"),
        (json!({ "iotHubHostName": "nub" }), "iotHubHostName: \"nub\" is not in linked_hubs"),
        (json!({ "attestation": ["symmetricKey"] }), "attestation: an object is expected"),
        (
            json!({ "attestation": { "type": "symmetricKey", "symmetricKey": [OTHER_KEY, OTHER_KEY] } }),
            "attestation.symmetricKey: an object is expected",
        ),
        (
            x509(json!({ "signingCertificates": { "primary": [device] } })),
            "attestation.x509.signingCertificates.primary: an",
        ),
        (json!({ "capabilities": [true] }), "capabilities: an object is expected"),
        (json!({ "initialTwin": [] }), "initialTwin: an object is expected"),
        (json!({ "capabilities": { "iotEdge": "yes" } }), "capabilities.iotEdge: a boolean is expected"),
        (json!({ "initialTwin": { "tags": [] } }), "initialTwin.tags: an object is expected"),
        (
            json!({ "initialTwin": { "tags": { "a": "x".repeat(4096), "b": "x".repeat(4086), "c": 12345678 } } }),
            "initialTwin.tags: tags would have 8193 bytes; the limit is 8192",
        ),
        (
            json!({ "initialTwin": { "properties": { "desired": { "a": { "b.c": 1 } } } } }),
            "initialTwin.properties.desired: \"b.c\" in desired.a has a control character, a dot, a $ or a space",
        ),
    ] {
        let (code, message) = failed(client.put("/enrollmentGroups/g", &merged(group("g"), changes)));
        assert!(code == 400_000 && message.starts_with(&format!("Bad request: {fault}")), "{message} / {fault}");
        assert!(!message.contains(OTHER_KEY));
    }
    for (id, changes, fault) in [
        ("lock", json!({ "registrationId": "LOCK-2" }), "registrationId: the path has another ID"),
        ("lock!", json!({}), "registrationId: \"lock!\": the registration ID has a character that is not allowed"),
        ("lock", json!({ "attestation": { "type": "tpm" } }), "attestation.tpm.endorsementKey: "),
        ("lock", json!({ "attestation": { "type": "x" } }), "attestation.type: symmetricKey, x509 or tpm is expected"),
        (
            "lock",
            x509(json!({ "caReferences": { "primary": "a" } })),
            "attestation.x509: an individual enrollment needs",
        ),
    ] {
        let (code, message) = failed(client.put(&format!("/enrollments/{id}"), &merged(individual(id), changes)));
        assert!(code == 400_000 && message.starts_with(&format!("Bad request: {fault}")), "{message} / {fault}");
    }
    for (id, why) in [("g!", "has a character"), ("g_", "ends in a special"), (&*"g".repeat(129), "is longer than 128")]
    {
        let (_, message) = failed(client.put(&format!("/enrollmentGroups/{id}"), &group(id)));
        let (member, fault) = (message.contains("enrollmentGroupId: "), format!("the enrollment group ID {why}"));
        assert!(member && message.contains(&fault), "{message}");
    }
    let long = merged(group("g"), json!({ "iotHubs": ["h".repeat(100_000)] }));
    let (_, message) = failed(client.put("/enrollmentGroups/g", &long));
    assert!(message.starts_with("Bad request: iotHubs[0]: ") && message.len() < 600, "{message:.600}");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["", "{", "null", "1", "[]", "{}{}", &*deep, "{\"a\":\"\u{1}\"}"] {
        let request = client.request(Method::PUT, "/enrollmentGroups/g").header(CONTENT_TYPE, "application/json");
        assert_eq!(failed(answer(request.body(body.to_owned()).send().unwrap())).0, 400_000, "{body:.20}");
    }
    assert_eq!(client.post("/enrollmentGroups/query", &json!({})), (200, json!([])));
    assert_eq!(client.post("/enrollments/query", &json!({})), (200, json!([])));
}

#[test]
fn a_bulk_operation_reports_every_failure() {
    let (_emulator, client) = empty();
    for (collection, member, id, new) in [
        (GROUPS, "enrollmentGroups", "enrollmentGroupId", group as fn(&str) -> Value),
        (INDIVIDUALS, "enrollments", "registrationId", individual),
    ] {
        let bulk = |mode: &str, items: Vec<Value>| {
            let mut body = json!({ "mode": mode });
            body[member] = items.into();
            // Node ends the path with a slash.
            client.post(&format!("{collection}/"), &body)
        };
        let errors = |answer: (u16, Value)| -> Vec<(String, u64)> {
            let (status, body) = answer;
            let errors = body["errors"].as_array().unwrap().clone();
            assert_eq!((status, &body["isSuccessful"]), (200, &json!(errors.is_empty())));
            errors
                .iter()
                .map(|error| {
                    assert!(!error["errorStatus"].as_str().unwrap().is_empty());
                    (error[id].as_str().unwrap().to_owned(), error["errorCode"].as_u64().unwrap())
                })
                .collect()
        };
        let disabled = |name: &str| merged(new(name), json!({ "provisioningStatus": "disabled" }));
        let status = |name: &str| client.get(&format!("{collection}/{name}")).1["provisioningStatus"].clone();
        assert_eq!(bulk("create", vec![new("a"), new("b")]), (200, json!({ "isSuccessful": true, "errors": [] })));
        let wrong = merged(new("w"), json!({ "iotHubs": ["nub"] }));
        assert_eq!(
            errors(bulk("create", vec![new("c"), new("a"), wrong, new("B")])),
            [("a".to_owned(), 409_201), ("w".to_owned(), 400_000), ("B".to_owned(), 409_201)]
        );
        assert_eq!(errors(bulk("update", vec![disabled("a"), disabled("x")])), [("x".to_owned(), 404_201)]);
        assert_eq!((status("a"), status("b"), status("c")), (json!("disabled"), json!("enabled"), json!("enabled")));
        let read = |name: &str| client.get(&format!("{collection}/{name}")).1;
        let (b, stale) = (merged(read("b"), json!({ "provisioningStatus": "disabled" })), read("c"));
        assert_eq!(errors(bulk("update", vec![new("c")])), []);
        assert_eq!(
            errors(bulk("updateIfMatchETag", vec![b, stale, new("a")])),
            [("c".to_owned(), 412_000), ("a".to_owned(), 400_000)]
        );
        assert_eq!(status("b"), "disabled");
        // An ID is enough to delete. The second deletion of the same ID fails.
        let mut named = json!({});
        named[id] = "a".into();
        assert_eq!(errors(bulk("DELETE", vec![named.clone(), named, new("b")])), [("a".to_owned(), 404_201)]);
        assert_eq!(errors(bulk("delete", vec![])), []);

        for (mode, items, fault) in [
            ("remove", vec![], "mode: create, update, updateIfMatchETag or delete is expected"),
            ("create", (0..11).map(|n| new(&format!("n-{n}"))).collect(), ": 11 are too many: at most 10 are allowed"),
        ] {
            let (code, message) = failed(bulk(mode, items));
            assert!(code == 400_000 && message.contains(fault), "{message}");
        }
        assert_eq!(failed(client.post(collection, &json!({ "mode": "create" }))).0, 400_000);
        let (_, body) = bulk("create", vec![json!(1)]);
        assert_eq!(body["errors"][0]["errorCode"], 400_000);
        let (_, listed) = client.post(&format!("{collection}/query"), &json!({}));
        assert_eq!((listed.as_array().unwrap().len(), &listed[0][id]), (1, &json!("c")));
    }
}

/// Returns the pages of a query: their items, and the continuation.
fn page(client: &ServiceClient, path: &str, count: usize, token: Option<&str>) -> (Vec<String>, Option<String>) {
    let request = client.request(Method::POST, path).header("x-ms-max-item-count", count);
    let request = token.into_iter().fold(request, |request, token| request.header("x-ms-continuation", token));
    let response = request.send().unwrap();
    let token = response.headers().get("x-ms-continuation").map(|token| token.to_str().unwrap().to_owned());
    let (status, body) = answer(response);
    assert_eq!(status, 200, "{body}");
    let ids = body.as_array().unwrap().iter().map(|item| item["registrationId"].as_str().unwrap().to_owned());
    (ids.collect(), token)
}

#[test]
fn lists_come_in_pages_that_changes_do_not_shift() {
    let (_emulator, client) = empty();
    for number in 0..10 {
        created(&client, &format!("/enrollments/D-{number}"), &individual(&format!("D-{number}")));
    }
    let query = "/enrollments/query";
    let (first, token) = page(&client, query, 4, None);
    assert_eq!(first, ["D-0", "D-1", "D-2", "D-3"]);
    // Delete the last item of the page, create one before it, and delete one after it.
    client.delete("/enrollments/D-3");
    created(&client, "/enrollments/D-00", &individual("D-00"));
    client.delete("/enrollments/D-5");
    let (second, token) = page(&client, query, 4, token.as_deref());
    assert_eq!(second, ["D-4", "D-6", "D-7", "D-8"]);
    let (third, token) = page(&client, query, 4, token.as_deref());
    assert_eq!((third, token), (vec!["D-9".to_owned()], None));

    let request = client.request(Method::POST, query).header("x-ms-continuation", "not a token");
    assert_eq!(failed(answer(request.send().unwrap())).0, 400_000);
}

#[test]
fn queries_filter_enrollments_and_registrations() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    for (id, floor) in [("lock-1", 1), ("lock-2", 2), ("lock-3", 3)] {
        let twin = json!({ "initialTwin": { "tags": { "floor": floor } }, "capabilities": { "iotEdge": floor == 2 } });
        created(&client, &format!("/enrollments/{id}"), &merged(individual(id), twin));
    }
    for id in [TOASTER, HEAT_PUMP] {
        Device::of_group(&emulator, id).assigned();
    }
    let registrations = format!("/registrations/{GROUP}/query");
    for (path, query, ids) in [
        ("/enrollments/query", "", vec!["lock-1", "lock-2", "lock-3"]),
        ("/enrollments/query", "*", vec!["lock-1", "lock-2", "lock-3"]),
        (
            "/enrollments/query",
            "{'additional_properties': {}, 'query': 'SELECT *'}",
            vec!["lock-1", "lock-2", "lock-3"],
        ),
        ("/enrollments/query", "SELECT * FROM enrollments WHERE enrollments.registrationId = 'lock-2'", vec!["lock-2"]),
        (
            "/enrollments/query",
            "select * where initialTwin.tags.floor > 1 and not capabilities.iotEdge = true",
            vec!["lock-3"],
        ),
        ("/enrollments/query", "SELECT * FROM e WHERE attestation.type = 'tpm'", vec![]),
        (&registrations, "", vec![TOASTER, HEAT_PUMP]),
        (&registrations, "SELECT * FROM deviceRegistrations WHERE status = 'assigned'", vec![TOASTER, HEAT_PUMP]),
        (&registrations, &format!("SELECT * WHERE assignedHub = '{HEATPUMPS_HUB}'"), vec![HEAT_PUMP]),
    ] {
        let (status, body) = client.post(path, &json!({ "query": query }));
        assert_eq!(status, 200, "{body}");
        let found: Vec<_> =
            body.as_array().unwrap().iter().map(|item| item["registrationId"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }
    let (_, groups) = client.post("/enrollmentGroups/query", &json!({ "query": "SELECT * WHERE etag > ''" }));
    assert_eq!(groups[0]["enrollmentGroupId"], GROUP);
    for (path, query, fault) in [
        ("/enrollments/query", "SELECT * WHERE registratonId = 'a'", "query: \"registratonId\" is not a member"),
        ("/enrollmentGroups/query", "SELECT * WHERE registrationId = 'a'", "query: \"registrationId\" is not a member"),
        ("/enrollments/query", "SELECT * WHERE startswith(deviceId, 'a')", "query: \"startswith\" is not a member"),
        (&*registrations, "SELECT count() AS c", "query: * is expected, not \"count\""),
    ] {
        let (code, message) = failed(client.post(path, &json!({ "query": query })));
        assert!(code == 400_000 && message.contains(fault), "{message}");
    }
}

/// A device that is no longer allowed gets its answer at once, even while its webhook is being called.
#[test]
fn a_change_ends_registrations_that_are_running() {
    type Act = fn(&ServiceClient);
    let path = &format!("{GROUPS}/{GROUP}");
    let acts: [(Act, Value, Value); 4] = [
        (|client| assert_eq!(client.delete(&format!("{GROUPS}/{GROUP}")).0, 204), json!("failed"), json!(404_201)),
        (
            |client| {
                let path = &format!("{GROUPS}/{GROUP}");
                let disabled = merged(client.get(path).1, json!({ "provisioningStatus": "disabled" }));
                assert_eq!(put(client, path, &disabled, Some("*")).0, 200);
            },
            json!("disabled"),
            json!(null),
        ),
        (
            |client| {
                let disabled = merged(individual(TOASTER), json!({ "provisioningStatus": "disabled" }));
                created(client, &format!("/enrollments/{TOASTER}"), &disabled);
            },
            json!("disabled"),
            json!(null),
        ),
        (
            |client| {
                let own = merged(individual(TOASTER), json!({}));
                let bulk = json!({ "mode": "create", "enrollments": [own] });
                assert_eq!(client.post(INDIVIDUALS, &bulk).1["isSuccessful"], true);
            },
            json!("failed"),
            json!(404_201),
        ),
    ];
    for (act, status, code) in acts {
        let webhook = HeldWebhook::start();
        let emulator = changed(|config| config.webhook_url = Some(webhook.url()));
        let client = ServiceClient::new(&emulator);
        assert_eq!(client.get(path).0, 200);
        let device = Device::of_group(&emulator, TOASTER);
        device.register();
        let _call = webhook.call();
        act(&client);
        let (read, state) = client.get(&format!("/registrations/{TOASTER}"));
        assert_eq!((read, &state["status"], &state["errorCode"]), (200, &status, &code));
        assert!(emulator.device(TOASTER).is_none());
    }
}

/// "Deleting an enrollment group doesn't delete the registration records for devices in the group." The hub also
/// keeps the devices.
#[test]
fn deleting_a_group_keeps_its_registrations() {
    let emulator = contoso();
    let client = ServiceClient::new(&emulator);
    let device = Device::of_group(&emulator, TOASTER);
    device.assigned();
    assert_eq!(client.delete(&format!("{GROUPS}/{GROUP}")).0, 204);
    assert_eq!(client.get(&format!("/registrations/{TOASTER}")).1["status"], "assigned");
    assert_eq!(emulator.device(TOASTER).unwrap().assigned_hub, TOASTERS_HUB);
    assert_eq!(answer(device.put()).0, 404);
    // When the group is created again, the device still has its hub.
    let own = json!({ "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": GROUP_KEY } } });
    created(&client, &format!("{GROUPS}/{GROUP}"), &merged(group(GROUP), own));
    assert_eq!(device.assigned()["assignedHub"], emulator.device(TOASTER).unwrap().assigned_hub);
}
