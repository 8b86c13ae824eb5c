//! TPM attestation: challenges, and right and wrong answers to them.

mod support;

use std::sync::LazyLock;

use azure_dps_emulator::{Config, Emulator, EndorsementKey, IndividualEnrollment, SymmetricKey, TpmAttestation};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use rumqttc::QoS;
use serde_json::{Value, json};
use support::{
    hub::HubDevice,
    mqtt::{Client, FILTER, REGISTER},
    software_tpm::{Refusal, SoftwareTpm},
    *,
};

const ID: &str = "mydevice";

static TPM: LazyLock<SoftwareTpm> = LazyLock::new(SoftwareTpm::new);
static OTHER_TPM: LazyLock<SoftwareTpm> = LazyLock::new(SoftwareTpm::new);

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn enrollment(tpm: &SoftwareTpm) -> IndividualEnrollment {
    let endorsement_key = EndorsementKey::from_base64(&base64(tpm.endorsement_key())).unwrap();
    IndividualEnrollment {
        registration_id: ID.into(),
        tpm: Some(TpmAttestation { endorsement_key, storage_root_key: None }),
        ..IndividualEnrollment::default()
    }
}

/// Starts the tutorial's service with an enrollment of the TPM.
fn enrolled(change: impl FnOnce(&mut Config)) -> Emulator {
    changed(|config| {
        config.individual_enrollments.push(enrollment(&TPM));
        change(config);
    })
}

/// Starts the same service with a hub to connect to.
fn with_hub() -> Emulator {
    let mut config = Config::contoso();
    config.individual_enrollments.push(enrollment(&TPM));
    builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap()
}

/// Connects to the hub with this key. Returns the return code.
fn at_hub(emulator: &Emulator, key: &[u8]) -> Option<u8> {
    let hub = emulator.device(ID).unwrap().assigned_hub;
    let device = HubDevice::new(&hub, ID, &base64(key));
    device.try_connect(emulator, device.packet())
}

/// A device that signs with the last key in its TPM.
struct TpmDevice<'t> {
    device: Device,
    tpm: &'t SoftwareTpm,
}

impl<'t> TpmDevice<'t> {
    fn new(emulator: &Emulator, tpm: &'t SoftwareTpm) -> Self {
        Self { device: Device::new(emulator, ID, ""), tpm }
    }

    fn keys(&self) -> Value {
        json!({
            "endorsementKey": base64(self.tpm.endorsement_key()),
            "storageRootKey": base64(self.tpm.storage_root_key()),
        })
    }

    fn registration(&self) -> Value {
        let mut body = self.device.registration();
        body["tpm"] = self.keys();
        body
    }

    fn send(&self, method: Method, path: &str, authorization: Option<&str>, body: String) -> (u16, Value) {
        let mut request = self.device.unsigned(method, path).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        answer(request.send().unwrap())
    }

    fn put(&self, authorization: Option<&str>, body: String) -> (u16, Value) {
        self.send(Method::PUT, &format!("{}/register{VERSION}", self.device.path()), authorization, body)
    }

    /// Requests a challenge, and activates it in the TPM.
    fn take_challenge(&mut self) -> Result<(), Refusal> {
        let (status, body) = self.put(None, self.registration().to_string());
        assert_eq!(status, 401, "{body}");
        self.device.key = base64(&self.tpm.activate(&blob(&body["authenticationKey"]))?);
        Ok(())
    }

    fn token(&self) -> String {
        token(&self.device.key, ID)
    }

    fn put_signed(&self) -> (u16, Value) {
        self.put(Some(&self.token()), self.registration().to_string())
    }

    /// Registers from the challenge to the assignment.
    fn assigned(&mut self) -> Value {
        self.take_challenge().unwrap();
        let (status, body) = self.put_signed();
        assert_eq!((status, &body["status"]), (202, &json!("assigning")), "{body}");
        let body = self.device.poll(body["operationId"].as_str().unwrap());
        assert_eq!(body["status"], "assigned", "{body}");
        body["registrationState"].clone()
    }
}

fn blob(authentication_key: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(authentication_key.as_str().unwrap()).unwrap()
}

/// Checks that the answer is an error and not a challenge.
fn refused((status, body): (u16, Value)) -> (u16, u64) {
    assert!(body.get("authenticationKey").is_none(), "{body}");
    (status, body["errorCode"].as_u64().unwrap())
}

const UNAUTHORIZED: (u16, u64) = (401, 401_000);
const NOT_FOUND: (u16, u64) = (404, 404_201);
const BAD_REQUEST: (u16, u64) = (400, 400_000);
const DESERIALIZATION: (u16, u64) = (400, 400_012);

// ---- The flow ----

/// "401 with body {message, authenticationKey, keyName: registration}". Then the same body with a token signed with
/// that key. The result has a new key for the hub.
#[test]
fn a_tpm_is_challenged_and_then_registers() {
    let emulator = with_hub();
    let mut device = TpmDevice::new(&emulator, &TPM);
    let (status, body) = device.put(None, device.registration().to_string());
    let members: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!((status, &body["keyName"]), (401, &json!("registration")));
    assert_eq!(members, ["message", "authenticationKey", "keyName"]);
    let (key, resource) = TPM.open(&blob(&body["authenticationKey"])).unwrap();
    assert_eq!((key.len(), resource), (32, format!("{SCOPE}/registrations/{ID}").into_bytes()));

    device.device.key = base64(&key);
    let (status, body) = device.put_signed();
    assert_eq!((status, &body["status"]), (202, &json!("assigning")));
    let state = device.device.poll(body["operationId"].as_str().unwrap())["registrationState"].clone();
    let (hub, id) = (state["assignedHub"].as_str().unwrap(), state["deviceId"].as_str().unwrap());
    let (hub_key, resource) = TPM.open(&blob(&state["tpm"]["authenticationKey"])).unwrap();
    assert_eq!((id, resource), (ID, format!("{hub}/devices/{id}").into_bytes()));
    assert_ne!(hub_key, key);

    // The hub accepts this key and no other.
    assert_eq!((at_hub(&emulator, &hub_key), at_hub(&emulator, &key)), (Some(0), Some(5)));

    let shown: Vec<_> = emulator.requests().iter().map(|request| request.authorization).collect();
    assert!(!shown[0] && shown[1..].iter().all(|&shown| shown), "{shown:?}");
}

/// A device that registers again gets another challenge with another key.
#[test]
fn a_second_registration_has_a_new_challenge() {
    let emulator = with_hub();
    let mut device = TpmDevice::new(&emulator, &TPM);
    let [first, second] = [device.assigned(), device.assigned()];
    assert_eq!(second["substatus"], "reprovisionedToInitialAssignment");
    let [first, second] = [first, second].map(|state| TPM.activate(&blob(&state["tpm"]["authenticationKey"])).unwrap());
    assert_ne!(first, second);
    assert_eq!((at_hub(&emulator, &second), at_hub(&emulator, &first)), (Some(0), Some(5)));
}

/// A look-up returns the state to a device that answers the challenge.
#[test]
fn a_look_up_is_challenged_too() {
    let emulator = enrolled(|_| {});
    let mut device = TpmDevice::new(&emulator, &TPM);
    let state = device.assigned();
    let path = format!("{}{VERSION}", device.device.path());
    let look_up = |authorization: Option<&str>| {
        device.send(Method::POST, &path, authorization, device.registration().to_string())
    };
    assert_eq!(look_up(Some(&device.token())), (200, state));
    let (status, challenge) = look_up(None);
    assert_eq!((status, &challenge["keyName"]), (401, &json!("registration")));
    let key = base64(&TPM.activate(&blob(&challenge["authenticationKey"])).unwrap());
    assert_eq!(look_up(Some(&token(&key, ID))).0, 200);
}

#[test]
fn the_enrollment_may_be_in_toml() {
    let text = format!(
        r#"
        id_scope = "{SCOPE}"
        linked_hubs = ["{TOASTERS_HUB}"]

        [[individual_enrollments]]
        registration_id = "{ID}"
        device_id = "Device 1"
        tpm = {{ endorsement_key = "{}" }}
        "#,
        base64(TPM.endorsement_key())
    );
    let emulator = builder(Config::from_toml(&text).unwrap()).start().unwrap();
    let state = TpmDevice::new(&emulator, &TPM).assigned();
    assert_eq!((&state["assignedHub"], &state["deviceId"]), (&json!(TOASTERS_HUB), &json!("Device 1")));
}

// ---- Rejected devices ----

/// Another TPM with the same registration ID.
#[test]
fn another_tpm_is_refused() {
    let emulator = enrolled(|_| {});
    let mut right = TpmDevice::new(&emulator, &TPM);
    right.assigned();

    let other = TpmDevice::new(&emulator, &OTHER_TPM);
    assert_eq!(refused(other.put(None, other.registration().to_string())), NOT_FOUND);

    // This device shows the enrolled endorsement key, which is not a secret.
    for storage_root_key in [OTHER_TPM.storage_root_key(), TPM.storage_root_key()] {
        let mut body = right.registration();
        body["tpm"]["storageRootKey"] = base64(storage_root_key).into();
        let (status, challenge) = other.put(None, body.to_string());
        assert_eq!(status, 401);
        assert_eq!(OTHER_TPM.activate(&blob(&challenge["authenticationKey"])), Err(Refusal::ActivateCredential));
        assert_eq!(refused(other.put(Some(&token(OTHER_KEY, ID)), body.to_string())), UNAUTHORIZED);
    }
    right.assigned();
}

/// "TPM_Clear": the endorsement key stays, and the storage root key changes.
#[test]
fn a_cleared_tpm_needs_a_new_challenge() {
    let before = SoftwareTpm::new();
    let emulator = changed(|config| config.individual_enrollments.push(enrollment(&before)));
    let mut device = TpmDevice::new(&emulator, &before);
    device.take_challenge().unwrap();
    let (signed, old_keys) = (device.token(), device.registration().to_string());

    let after = before.cleared();
    let mut device = TpmDevice::new(&emulator, &after);
    // A token of the old key does not fit the new storage root key …
    assert_eq!(refused(device.put(Some(&signed), device.registration().to_string())), UNAUTHORIZED);
    // … but fits the old one.
    assert_eq!(device.put(Some(&signed), old_keys).0, 202);
    device.assigned();
}

#[test]
fn only_the_last_challenges_key_counts() {
    let emulator = enrolled(|_| {});
    let mut device = TpmDevice::new(&emulator, &TPM);
    // A token without a challenge.
    assert_eq!(refused(device.put(Some(&token(OTHER_KEY, ID)), device.registration().to_string())), UNAUTHORIZED);
    device.take_challenge().unwrap();
    let old = device.token();
    device.take_challenge().unwrap();
    assert_eq!(refused(device.put(Some(&old), device.registration().to_string())), UNAUTHORIZED);
    let (status, body) = device.put_signed();
    assert_eq!(status, 202);

    // A poll needs the token, too, and the key for the hub is only for the hub.
    let poll = |authorization: Option<&str>| {
        let path = format!("{}/operations/{}{VERSION}", device.device.path(), body["operationId"].as_str().unwrap());
        device.send(Method::GET, &path, authorization, String::new())
    };
    assert_eq!(refused(poll(None)), UNAUTHORIZED);
    assert_eq!(refused(poll(Some(&old))), UNAUTHORIZED);
    let state = device.device.poll(body["operationId"].as_str().unwrap())["registrationState"].clone();
    let hub_key = base64(&TPM.activate(&blob(&state["tpm"]["authenticationKey"])).unwrap());
    assert_eq!(refused(poll(Some(&token(&hub_key, ID)))), UNAUTHORIZED);
    assert_eq!(poll(Some(&device.token())).0, 200);
}

/// In other respects, tokens are the same as for symmetric keys.
#[test]
fn an_expired_token_is_refused() {
    let emulator = enrolled(|_| {});
    let mut device = TpmDevice::new(&emulator, &TPM);
    device.take_challenge().unwrap();
    let sr = format!("{SCOPE}%2fregistrations%2f{ID}");
    let signed = |se| {
        let sig = sign(&device.device.key, &sr, se);
        let token = format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn=registration");
        device.put(Some(&token), device.registration().to_string())
    };
    assert_eq!(refused(signed(now() - 10)), UNAUTHORIZED);
    assert_eq!(signed(now() + 60).0, 202);
}

/// "Unknown EK or ID: 404201."
#[test]
fn an_unknown_tpm_is_404201() {
    let emulator = enrolled(|config| config.individual_enrollments[0].registration_id = "another-device".into());
    let device = TpmDevice::new(&emulator, &TPM);
    let ask = || device.put(None, device.registration().to_string());
    assert_eq!(refused(ask()), NOT_FOUND);
    emulator.update(|config| config.behaviour.not_found_as_failed = true);
    let (status, body) = ask();
    assert_eq!((status, &body["registrationState"]["errorCode"]), (200, &json!(404_201)));
}

/// An enrollment has one kind of attestation and rejects the others.
#[test]
fn an_enrollment_accepts_one_kind_of_attestation() {
    let emulator = enrolled(|config| {
        config.individual_enrollments[0].tpm = None;
        config.individual_enrollments[0].primary_key = SymmetricKey::from_base64(OTHER_KEY).unwrap();
    });
    let device = TpmDevice::new(&emulator, &TPM);
    assert_eq!(refused(device.put(None, device.registration().to_string())), UNAUTHORIZED);

    let emulator = enrolled(|_| {});
    let device = Device::new(&emulator, ID, OTHER_KEY);
    assert_eq!(refused(answer(device.put())), UNAUTHORIZED);
    let device = Device::of_group(&emulator, ID);
    assert_eq!(refused(answer(device.put())), UNAUTHORIZED);
    // Neither a token nor a TPM.
    let device = TpmDevice::new(&emulator, &TPM);
    assert_eq!(refused(device.put(None, device.device.registration().to_string())), UNAUTHORIZED);
}

/// Only the enrolled device learns that the enrollment is disabled.
#[test]
fn a_disabled_enrollment_is_reported_after_the_challenge() {
    let emulator = enrolled(|config| config.individual_enrollments[0].enabled = false);
    let mut device = TpmDevice::new(&emulator, &TPM);
    device.take_challenge().unwrap();
    let (status, body) = device.put_signed();
    assert_eq!((status, &body["status"]), (200, &json!("disabled")));
    assert!(body["registrationState"].get("tpm").is_none());
    assert!(emulator.device(ID).is_none());
}

/// "TPM over MQTT is not supported": there are no challenges over MQTT, and a key of a challenge over HTTP is
/// rejected.
#[test]
fn tpms_are_not_accepted_over_mqtt() {
    let emulator = with_hub();
    let mut device = TpmDevice::new(&emulator, &TPM);
    device.take_challenge().unwrap();
    for password in ["", &device.token()] {
        for body in [device.registration(), device.device.registration()] {
            let mut client = Client::open(&emulator, "mqtt", ID);
            assert_eq!(client.connect(password), Some(0));
            client.subscribe(FILTER, QoS::AtLeastOnce);
            let (topic, body) = client.ask(REGISTER, &body.to_string());
            assert_eq!((topic.as_str(), refused((401, body))), ("401/?$rid=1", UNAUTHORIZED));
        }
    }
    assert_eq!(device.put_signed().0, 202);
}

/// An invalid key of a TPM is a bad request. The message names the key and the reason.
#[test]
fn malformed_keys_are_bad_requests() {
    let emulator = enrolled(|_| {});
    let device = TpmDevice::new(&emulator, &TPM);
    let whole = TPM.storage_root_key();
    let cut = base64(&whole[..whole.len() - 1]);
    let mut ecc = whole.to_vec();
    ecc[3] = 0x23;
    let mut even_modulus = whole.to_vec();
    *even_modulus.last_mut().unwrap() &= 0xfe;
    for (key, text, why) in [
        ("storageRootKey", "xxxx-device-storage-root-key-xxxxx".into(), "base64"),
        ("endorsementKey", "xxxx-device-endorsement-key-xxxxx".into(), "base64"),
        ("storageRootKey", String::new(), "TPM2B_PUBLIC"),
        ("storageRootKey", cut, "TPM2B_PUBLIC"),
        ("endorsementKey", base64(b"a key"), "TPM2B_PUBLIC"),
        ("endorsementKey", base64(&ecc), "RSA"),
        ("storageRootKey", base64(&[0xff; 60_000]), "TPM2B_PUBLIC"),
    ] {
        let mut body = device.registration();
        body["tpm"][key] = text.into();
        let (status, body) = device.put(None, body.to_string());
        let message = body["message"].as_str().unwrap().to_owned();
        assert_eq!(refused((status, body)), BAD_REQUEST);
        assert!(message.contains(key) && message.contains(why), "{message}");
    }
    for (change, code) in [
        (json!({}), BAD_REQUEST),
        (json!({ "endorsementKey": device.keys()["endorsementKey"] }), BAD_REQUEST),
        (json!("x"), DESERIALIZATION),
        (json!([7]), DESERIALIZATION),
    ] {
        let mut body = device.registration();
        body["tpm"] = change;
        assert_eq!(refused(device.put(None, body.to_string())), code, "{body}");
    }
    // An RSA key in form, but it cannot encrypt.
    let mut body = device.registration();
    body["tpm"]["storageRootKey"] = base64(&even_modulus).into();
    assert_eq!(refused(device.put(None, body.to_string())), BAD_REQUEST);

    assert!(device.put(None, device.registration().to_string()).1["authenticationKey"].is_string());
}

/// Keys in the configuration are checked, and an enrollment cannot have two kinds of attestation.
#[test]
fn a_configuration_is_checked() {
    assert!(EndorsementKey::from_base64("xxxx").is_err());
    let toml = |enrollment: &str| Config::from_toml(&format!("id_scope = \"{SCOPE}\"\n{enrollment}")).err();
    let key = base64(TPM.endorsement_key());
    let individual = format!("[[individual_enrollments]]\nregistration_id = \"{ID}\"\ntpm.endorsement_key = ");
    assert_eq!(toml(&format!("{individual}\"{key}\"")), None);
    assert!(toml(&format!("{individual}\"{}\"", &key[4..])).unwrap().to_string().contains("line 4"));
    let both = toml(&format!("{individual}\"{key}\"\nprimary_key = \"{OTHER_KEY}\"")).unwrap();
    assert!(both.to_string().contains("both tpm and keys"), "{both}");
    // There are no groups of TPMs.
    let group = format!("[[enrollment_groups]]\nenrollment_group_id = \"g\"\ntpm.endorsement_key = \"{key}\"");
    assert!(toml(&group).unwrap().to_string().contains("tpm"));
}

/// Records do not show the keys that only the TPM may know.
#[test]
fn no_record_shows_a_key() {
    let emulator = enrolled(|_| {});
    let mut device = TpmDevice::new(&emulator, &TPM);
    let state = device.assigned();
    let shown = format!("{:?} {:?}", emulator.requests(), emulator.device(ID));
    for key in [device.device.key.clone(), base64(&TPM.activate(&blob(&state["tpm"]["authenticationKey"])).unwrap())] {
        assert!(!shown.contains(&key));
    }
}

// ---- The concept page ----

/// The register request as printed. Its keys are placeholders, and two dots replace a part.
const REQUEST: &str = r#"{
    "registrationId": "mydevice",
    "tpm": {
        "endorsementKey": "xxxx-device-endorsement-key-xxxxx",
        "storageRootKey": "xxxx-device-storage-root-key-xxxxx"
    },
    "payload": { "property1": "value1", "property2": {"propertyA":"valueA", "property2-2":1234}, .. }
}"#;

/// The result as printed, with the quotes that are missing around two values.
const RESULT: &str = r#"{
   "operationId":"5.316aac5bdc130deb.b1e02da8-xxxx-xxxx-xxxx-7ea7a6b7f550",
   "status":"assigned",
   "registrationState":{
      "assignedHub":"myIotHub",
      "createdDateTimeUtc" : "2022-08-01T22:57:47Z",
      "deviceId" : "myDeviceId",
      "etag" : "xxxx-etag-value-xxxxx",
      "lastUpdatedDateTimeUtc" : "2022-08-01T22:57:47Z",
      "payload": { "property1": "value1" },
      "registrationId": "mydevice",
      "status": "assigned",
      "substatus": "initialAssignment",
      "tpm": {"authenticationKey": "xxxx-encrypted-authentication-key-xxxxx"}
   }
}"#;

/// The request as printed is not JSON.
#[test]
fn the_documents_request_as_printed_is_refused() {
    let emulator = enrolled(|_| {});
    let device = TpmDevice::new(&emulator, &TPM);
    assert_eq!(refused(device.put(None, REQUEST.to_owned())), DESERIALIZATION);
    // Without the dots it is JSON, and the placeholders are rejected.
    let (status, body) = device.put(None, REQUEST.replace(", ..", ""));
    assert!(body["message"].as_str().unwrap().contains("endorsementKey"));
    assert_eq!(refused((status, body)), BAD_REQUEST);
}

/// "For the TPM registration request in the previous section, the device runtime context will look like the
/// following", here with keys instead of placeholders. "The following JSON shows a successful registration response
/// for a TPM device."
#[test]
fn the_documents_request_context_and_result() {
    let emulator = enrolled(|config| {
        let allocation = config.enrollment_groups[0].allocation.clone();
        config.linked_hubs.push("myIotHub".into());
        let individual = &mut config.individual_enrollments[0];
        individual.device_id = Some("myDeviceId".into());
        individual.allocation = azure_dps_emulator::Allocation { iot_hubs: vec!["myIotHub".into()], ..allocation };
    });
    emulator.contoso().unwrap().respond(200, r#"{"iotHubHostName":"myIotHub","payload":{"property1":"value1"}}"#);

    let mut device = TpmDevice::new(&emulator, &TPM);
    let request = REQUEST
        .replace(", ..", "")
        .replace("xxxx-device-endorsement-key-xxxxx", &base64(TPM.endorsement_key()))
        .replace("xxxx-device-storage-root-key-xxxxx", &base64(TPM.storage_root_key()));
    let (status, challenge) = device.put(None, request.clone());
    assert_eq!(status, 401);
    device.device.key = base64(&TPM.activate(&blob(&challenge["authenticationKey"])).unwrap());
    let (status, body) = device.put(Some(&device.token()), request.clone());
    assert_eq!(status, 202);
    let result = device.device.poll(body["operationId"].as_str().unwrap());

    let call = &emulator.webhook_calls()[0].request;
    assert_eq!(call["deviceRuntimeContext"], serde_json::from_str::<Value>(&request).unwrap());
    assert_eq!(call["individualEnrollment"]["registrationId"], ID);
    assert_eq!(call["individualEnrollment"]["attestation"], json!({ "type": "tpm" }));

    // IDs, times, tag and key differ each time. Everything else is as printed.
    let mut expected: Value = serde_json::from_str(RESULT).unwrap();
    expected["operationId"] = result["operationId"].clone();
    for name in ["createdDateTimeUtc", "etag", "lastUpdatedDateTimeUtc", "tpm"] {
        assert_eq!(
            expected["registrationState"][name].is_string(),
            result["registrationState"][name].is_string(),
            "{name}"
        );
        expected["registrationState"][name] = result["registrationState"][name].clone();
    }
    assert_eq!(result, expected);
    assert!(TPM.activate(&blob(&result["registrationState"]["tpm"]["authenticationKey"])).is_ok());
}

/// A registration that was replaced creates no key for the hub. Only the newest does.
#[test]
fn a_superseded_registration_has_no_key_of_its_own() {
    let webhook = HeldWebhook::start();
    let emulator = enrolled(|config| {
        config.webhook_url = Some(webhook.url());
        config.individual_enrollments[0].allocation = config.enrollment_groups[0].allocation.clone();
    });
    let mut device = TpmDevice::new(&emulator, &TPM);
    device.take_challenge().unwrap();
    let mut calls = vec![];
    let operations = [(); 2].map(|()| {
        let (_, body) = device.put_signed();
        calls.push(webhook.call().0);
        body["operationId"].as_str().unwrap().to_owned()
    });
    let _ = try_answer(&calls[0], &json!({ "iotHubHostName": TOASTERS_HUB }));
    answer_call(&calls[1], &json!({ "iotHubHostName": HEATPUMPS_HUB }));
    let [superseded, newest] = operations.map(|operation_id| device.device.poll(&operation_id));
    assert_eq!(newest["registrationState"]["assignedHub"], HEATPUMPS_HUB);
    assert_eq!(superseded["registrationState"], newest["registrationState"]);
}

/// The key for a hub is for its host without the port.
#[test]
fn the_resource_of_a_hubs_key_has_no_port() {
    let emulator = enrolled(|config| {
        config.enrollment_groups.clear();
        config.linked_hubs = vec!["localhost:8443".into()];
    });
    let state = TpmDevice::new(&emulator, &TPM).assigned();
    assert_eq!(state["assignedHub"], "localhost:8443");
    let (_, resource) = TPM.open(&blob(&state["tpm"]["authenticationKey"])).unwrap();
    assert_eq!(resource, format!("localhost/devices/{ID}").into_bytes());
}
