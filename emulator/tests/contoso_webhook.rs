//! The tutorial's webhook without an emulator: its answers and its log.

mod support;

use azure_dps_emulator::contoso::{ContosoOptions, Webhook};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use support::{HEAT_PUMP, HEATPUMPS_HUB, TOASTER, TOASTERS_HUB, answer};

fn start(options: ContosoOptions) -> Webhook {
    // The client needs a TLS provider, which only the emulator installs.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Webhook::start("127.0.0.1:0", options).unwrap()
}

fn post(url: &str, body: impl Into<String>) -> (u16, Value) {
    let client = Client::builder().no_proxy().build().unwrap();
    answer(client.post(url).body(body.into()).send().unwrap())
}

fn ask(webhook: &Webhook, registration_id: &str, hubs: &[&str]) -> (u16, Value) {
    let request = json!({
        "deviceRuntimeContext": { "registrationId": registration_id, "symmetricKey": {} },
        "linkedHubs": hubs,
    });
    post(&webhook.url_with_key(), request.to_string())
}

const HUBS: [&str; 2] = [TOASTERS_HUB, HEATPUMPS_HUB];

/// The answers that the tutorial logs, in its order: two hubs, two twins, no payload. The `temperatureSetting` of the
/// heat pump is a string.
#[test]
fn each_division_has_its_hub_and_twin() {
    let webhook = start(ContosoOptions::default());
    for (id, text) in [
        (
            TOASTER,
            r#"{"iotHubHostName":"contoso-toasters-hub-1098.azure-devices.net","initialTwin":{"properties":{"desired":{"state":"ready","darknessSetting":"medium"}},"tags":{"deviceType":"toaster"}}}"#,
        ),
        (
            HEAT_PUMP,
            r#"{"iotHubHostName":"contoso-heatpumps-hub-1098.azure-devices.net","initialTwin":{"properties":{"desired":{"state":"on","temperatureSetting":"65"}},"tags":{"deviceType":"heatpump"}}}"#,
        ),
    ] {
        let (status, response) = ask(&webhook, id, &HUBS);
        assert_eq!((status, response.to_string().as_str()), (200, text));
    }
}

/// `regId.Contains("-contoso-tstrsd-007")`: the text can be anywhere in the ID, and the toaster is checked first.
#[test]
fn the_suffix_may_be_anywhere() {
    let webhook = start(ContosoOptions::default());
    for (id, hub) in [
        ("a-contoso-tstrsd-007-b", TOASTERS_HUB),
        ("-contoso-hpsd-088x", HEATPUMPS_HUB),
        ("x-contoso-hpsd-088-contoso-tstrsd-007", TOASTERS_HUB),
    ] {
        assert_eq!(ask(&webhook, id, &HUBS).1["iotHubHostName"], hub);
    }
    assert_eq!(ask(&webhook, "x-CONTOSO-tstrsd-007", &HUBS).0, 400);
}

/// The tutorial's loop does not stop at the first hub: the last match wins.
#[test]
fn the_last_matching_hub_wins() {
    let webhook = start(ContosoOptions::default());
    let hubs = ["a-toasters-1", HEATPUMPS_HUB, "b-toasters-2", "c-toaster-3"];
    assert_eq!(ask(&webhook, TOASTER, &hubs).1["iotHubHostName"], "b-toasters-2");
    let hubs = ["a-heatpumps-1", "b-heatpumps-2", TOASTERS_HUB, "c-heatpump-3"];
    assert_eq!(ask(&webhook, HEAT_PUMP, &hubs).1["iotHubHostName"], "b-heatpumps-2");
}

/// Every `BadRequestObjectResult`, word for word.
#[test]
fn the_refusals_have_the_tutorials_words() {
    let webhook = start(ContosoOptions::default());
    let refused = |body: Value, message: &str| {
        assert_eq!(post(&webhook.url(), body.to_string()), (400, json!(message)));
    };
    let context = |id: &str| json!({ "registrationId": id });
    refused(json!({}), "Registration ID not provided for the device.");
    refused(Value::Null, "Registration ID not provided for the device.");
    refused(json!({ "deviceRuntimeContext": context(TOASTER) }), "No hub group defined for the enrollment.");
    refused(
        json!({ "deviceRuntimeContext": context(TOASTER), "linkedHubs": [HEATPUMPS_HUB] }),
        "No toasters hub found for the enrollment.",
    );
    refused(
        json!({ "deviceRuntimeContext": context(HEAT_PUMP), "linkedHubs": [] }),
        "No heat pumps hub found for the enrollment.",
    );
    refused(json!({ "deviceRuntimeContext": context("x"), "linkedHubs": HUBS }), "Unrecognized device registration.");
    // JSON errors, which the tutorial's code does not catch.
    assert_eq!(post(&webhook.url(), "{").0, 500);
}

/// "This logging is available by clicking Logs under the function code in the portal".
#[test]
fn it_logs_what_the_tutorials_function_logs() {
    let webhook = start(ContosoOptions::default());
    let (_, response) = ask(&webhook, TOASTER, &HUBS);
    let log = webhook.log();
    assert_eq!(
        [&log[0], &log[1], &log[3], &log[4]],
        ["C# HTTP trigger function processed a request.", "Request.Body:...", "Response", &response.to_string()]
    );
    assert!(log[2].starts_with(r#"{"deviceRuntimeContext":{"registrationId":"breakroom499"#));
    ask(&webhook, "x", &HUBS);
    assert_eq!(webhook.log()[8..], ["Unknown device registration", "Response", "Unrecognized device registration."]);
}

/// "a webhook response that includes a payload": `{ "property1": "value1" }`.
#[test]
fn it_can_return_the_concept_documents_payload() {
    let webhook = start(ContosoOptions { return_payload: true, ..ContosoOptions::default() });
    assert_eq!(ask(&webhook, TOASTER, &HUBS).1["payload"], json!({ "property1": "value1" }));
}

/// "you may want to allocate devices based on the device model. In this case, you can configure the
/// device to report its model information in the request payload".
#[test]
fn it_can_allocate_by_the_model_in_the_payload() {
    let webhook = start(ContosoOptions { by_model: true, ..ContosoOptions::default() });
    let ask = |payload: Value| {
        let request = json!({
            "deviceRuntimeContext": { "registrationId": "any", "payload": payload },
            "linkedHubs": HUBS,
        });
        post(&webhook.url(), request.to_string())
    };
    for (payload, hub) in [
        (json!({ "deviceModel": "contoso-tstrsd-007" }), TOASTERS_HUB),
        (json!({ "modelId": "dtmi:contoso-hpsd-088;1" }), HEATPUMPS_HUB),
    ] {
        assert_eq!(ask(payload).1["iotHubHostName"], hub);
    }
    assert_eq!(ask(json!({ "deviceModel": "kettle" })), (400, json!("Unrecognized device registration.")));
    assert_eq!(ask(json!({})), (400, json!("Device model not provided in the payload.")));
}

/// "Custom allocation policies use function keys to authenticate calls": 401 without a key.
#[test]
fn it_can_require_a_function_key() {
    let key = "k/e+y=";
    let webhook = start(ContosoOptions { function_key: Some(key.into()), ..ContosoOptions::default() });
    assert_eq!(ask(&webhook, TOASTER, &HUBS).0, 200);
    for url in [webhook.url(), format!("{}?code=k", webhook.url())] {
        assert_eq!(post(&url, "{}").0, 401);
    }
    let client = Client::builder().no_proxy().build().unwrap();
    let by_header = client.post(webhook.url()).header("x-functions-key", key);
    assert_eq!(by_header.body("{}").send().unwrap().status(), 400);
    assert_eq!(post(&webhook.url().replace("HttpTrigger1", "Other"), "{}").0, 404);
    assert!(!format!("{webhook:?}").contains(key));
}
