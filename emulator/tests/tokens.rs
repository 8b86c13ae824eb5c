//! SAS tokens: what is verified, and which spellings are accepted.

mod support;

use azure_dps_emulator::{Config, SymmetricKey};
use serde_json::json;
use support::*;

fn accepted(device: &Device, token: &str) {
    let (status, body) = device.put_with(token);
    assert_eq!((status, &body["status"]), (202, &json!("assigning")), "{token}");
}

fn refused(device: &Device, code: u32, token: &str) {
    let (status, body) = device.put_with(token);
    assert_eq!((status, &body["errorCode"]), (401, &json!(code)), "{token}");
}

/// "Encoding is self-consistent, not canonical: server must verify over the raw `sr` text." One line for each form in
/// which a client of Microsoft writes the token.
#[test]
fn tokens_in_the_spelling_of_every_client_are_accepted() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let se = now() + 3600;
    let lower = format!("{SCOPE}%2fregistrations%2f{TOASTER}");
    let upper = format!("{SCOPE}%2Fregistrations%2F{TOASTER}");
    let raw = format!("{SCOPE}/registrations/{TOASTER}");
    let lowered = upper.to_lowercase();
    let sig = |sr: &str| sign(&device.key, sr, se);
    for parameters in [
        // C: lower-case escapes
        format!("sr={lower}&sig={}&se={se}&skn=registration", sig(&lower)),
        // Python, C for embedded devices: no skn
        format!("sr={upper}&sig={}&se={se}", sig(&upper)),
        format!("sr={lower}&sig={}&se={se}", sig(&lower)),
        // Node: raw slashes, skn before se
        format!("sr={raw}&sig={}&skn=registration&se={se}", sig(&raw)),
        // C#: upper-case escapes
        format!("sr={upper}&sig={}&se={se}&skn=registration", sig(&upper)),
        // Java: raw slashes, an empty skn
        format!("sr={raw}&sig={}&se={se}&skn=", sig(&raw)),
        // the identity service: everything in lower case
        format!("sr={lowered}&sig={}&se={se}&skn=registration", sig(&lowered)),
        // the documents' order
        format!("sig={}&se={se}&skn=registration&sr={upper}", sig(&upper)),
        // sig escaped in lower case
        format!(
            "sr={upper}&sig={}&se={se}",
            sig(&upper).replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d")
        ),
    ] {
        accepted(&device, &format!("SharedAccessSignature {parameters}"));
    }
}

/// "string to sign = sr exactly as placed in the token": a signature over another spelling is invalid.
#[test]
fn a_signature_over_another_spelling_is_rejected() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let se = now() + 3600;
    let upper = format!("{SCOPE}%2Fregistrations%2F{TOASTER}");
    let sig = sign(&device.key, &upper.replace("%2F", "%2f"), se);
    refused(&device, 401_002, &format!("SharedAccessSignature sr={upper}&sig={sig}&se={se}"));
}

/// "Expired or mismatched → 401". A signature with another key is 401002 over HTTP, and every other fault is 401000.
#[test]
fn an_invalid_token_is_401() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let sr = format!("{SCOPE}%2Fregistrations%2F{TOASTER}");
    let other = format!("{SCOPE}%2Fregistrations%2F{HEAT_PUMP}");
    let hub = format!("hub.azure-devices.net%2Fdevices%2F{TOASTER}");
    let (past, se) = (now() - 10, now() + 3600);
    let sas =
        |sr: &str, sig: &str, se: u64, rest: &str| format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}{rest}");
    let good = sign(&device.key, &sr, se);
    for token in [
        // the expiry changed after signing
        sas(&sr, &good, se + 1, ""),
        // another key, and the group's key itself
        sas(&sr, &sign(&derive(OTHER_KEY, TOASTER), &sr, se), se, ""),
        sas(&sr, &sign(GROUP_KEY, &sr, se), se, ""),
    ] {
        refused(&device, 401_002, &token);
    }
    for token in [
        // expired
        sas(&sr, &sign(&device.key, &sr, past), past, ""),
        // for another device, for a hub
        sas(&other, &sign(&device.key, &other, se), se, ""),
        sas(&hub, &sign(&device.key, &hub, se), se, ""),
        // another key name
        sas(&sr, &good, se, "&skn=owner"),
        // pieces missing, twice, unknown, not base64, no number
        format!("SharedAccessSignature sr={sr}&sig={good}"),
        format!("SharedAccessSignature sr={sr}&se={se}"),
        format!("SharedAccessSignature sig={good}&se={se}"),
        sas(&sr, &good, se, &format!("&se={se}")),
        sas(&sr, &good, se, "&what=ever"),
        sas(&sr, "%%%", se, ""),
        format!("SharedAccessSignature sr={sr}&sig={good}&se=tomorrow"),
        format!("Bearer {good}"),
        String::from("SharedAccessSignature"),
        String::new(),
    ] {
        refused(&device, 401_000, &token);
    }
    // The complete token is accepted.
    accepted(&device, &sas(&sr, &good, se, ""));
    // Within 9 s, even on a slow machine.
    let outcome = &emulator.requests()[3].outcome;
    assert!(outcome.contains("the token expired 1"), "{outcome}");
}

/// "Needed on every call incl. polling GET."
#[test]
fn each_operation_needs_a_token() {
    let emulator = contoso();
    let device = Device::of_group(&emulator, TOASTER);
    let operation_id = device.register();
    for (method, path) in [
        ("PUT", format!("{}/register", device.path())),
        ("GET", format!("{}/operations/{operation_id}", device.path())),
        ("POST", device.path()),
    ] {
        let method = method.parse().unwrap();
        let response = device.unsigned(method, &format!("{path}{VERSION}")).send().unwrap();
        let (status, body) = answer(response);
        assert_eq!((status, &body["errorCode"]), (401, &json!(401_000)), "{path}");
    }
}

/// "Primary and secondary both accepted", but not for the same device at the same time.
#[test]
fn both_keys_of_a_group_are_accepted() {
    let emulator = changed(|config| {
        config.enrollment_groups[0].secondary_key = Some(SymmetricKey::from_base64(OTHER_KEY).unwrap());
    });
    for (key, id) in [(GROUP_KEY, TOASTER), (OTHER_KEY, HEAT_PUMP)] {
        Device::new(&emulator, id, &derive(key, id)).assigned();
    }
}

/// Clock skew and other key names are UNCERTAIN. Settings allow both.
#[test]
fn leeway_and_key_names_can_be_allowed() {
    let emulator = changed(|config| {
        config.behaviour.token_leeway = 60;
        config.behaviour.any_key_name = true;
    });
    let device = Device::of_group(&emulator, TOASTER);
    let sr = format!("{SCOPE}%2Fregistrations%2F{TOASTER}");
    let se = now() - 10;
    let sig = sign(&device.key, &sr, se);
    accepted(&device, &format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn=owner"));
}

/// "Registration ID … case-insensitive". The text from which the service derives a device key is UNCERTAIN. So keys
/// of the ID as written and of its lower case are both accepted, and belong to the same device.
#[test]
fn registration_ids_are_not_case_sensitive() {
    let emulator = contoso();
    let mixed = TOASTER.replace("breakroom", "BreakRoom");
    Device::of_group(&emulator, &mixed).assigned();
    Device::new(&emulator, &mixed, &derive(GROUP_KEY, TOASTER)).assigned();
    assert_eq!(emulator.device(TOASTER).unwrap().registrations, 2);
}

/// Registration IDs may contain `:`, which clients may escape, in the path and in `sr`.
#[test]
fn a_colon_may_be_escaped_or_not() {
    let emulator = contoso();
    let id = "a:b-contoso-tstrsd-007";
    let device = Device::of_group(&emulator, id);
    let se = now() + 60;
    for path_id in [id, "a%3Ab-contoso-tstrsd-007", "a%3ab-contoso-tstrsd-007"] {
        for sr_id in [id, "a%3Ab-contoso-tstrsd-007"] {
            let sr = format!("{SCOPE}%2Fregistrations%2F{sr_id}");
            let sig = sign(&device.key, &sr, se);
            let response = device
                .unsigned(reqwest::Method::PUT, &format!("/{SCOPE}/registrations/{path_id}/register{VERSION}"))
                .header("Authorization", format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}"))
                .send()
                .unwrap();
            assert_eq!(response.status(), 202);
        }
    }
}

/// Another ID scope: UNCERTAIN, 401000 by default.
#[test]
fn another_id_scope_is_refused() {
    let mut config = Config::contoso();
    config.id_scope = "0ne00000000".into();
    let emulator = builder(config).start().unwrap();
    let device = Device::of_group(&emulator, TOASTER);
    refused(&device, 401_000, &token(&device.key, TOASTER));
    emulator.update(|config| config.behaviour.unknown_id_scope_code = 404_202);
    let (status, body) = answer(device.put());
    assert_eq!((status, &body["errorCode"]), (404, &json!(404_202)));
}

/// Records show no keys, signatures or tokens.
#[test]
fn no_record_shows_a_secret() {
    let emulator = builder(Config::contoso()).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap();
    let device = Device::of_group(&emulator, TOASTER);
    device.assigned();
    // A client that puts its token into a wrong place: the query, the path, an ID, a topic.
    let path = device.path();
    for path in [
        format!("{path}?x&sig=c2lnbmF0dXJl&y"),
        format!("{path}?x&Sig=/c2lnbmF0dXJl/"),
        format!("{path}/register?token=SharedAccess%26sig%3Dc2lnbmF0dXJl"),
        format!("/{SCOPE}/registrations/SharedAccess%26sig%3dc2lnbmF0dXJl/register"),
        "/SharedAccess%2526sig%253dc2lnbmF0dXJl".to_owned(),
    ] {
        device.unsigned(reqwest::Method::GET, &path).send().unwrap();
    }
    let mut client = mqtt::Client::of_group(&emulator, "mqtt", "SharedAccess&sig=c2lnbmF0dXJl");
    assert!(client.ask(mqtt::REGISTER, "{}").0.starts_with("400/"));
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        emulator.requests(),
        emulator.webhook_calls(),
        emulator.contoso(),
        Config::contoso()
    );
    let function_key = emulator.contoso().unwrap().url_with_key();
    let function_key = function_key.split_once("?code=").unwrap().1;
    for secret in [&device.key, GROUP_KEY, "c2lnbmF0dXJl", "SharedAccessSignature", function_key] {
        assert!(!shown.contains(secret), "{secret}");
    }
}
