//! The compiled example `mqtt_embedded`, with the emulator over real sockets.

#[path = "support/programs.rs"]
mod programs;
mod support;

use std::{fs, path::PathBuf, process::Command};

use azure_dps_emulator::{Config, Emulator, Operation, Script};
use programs::{example, output_of};
use support::{HEAT_PUMP, HEAT_PUMPS_HUB, TOASTER, TOASTER_KEY, TOASTERS_HUB};

const HEAT_PUMP_KEY: &str = "6uejA9PfkQgmYylj8Zerp3kcbeVrGZ172YLa7VSnJzg=";
/// A device of the same group that is neither a toaster nor a heat pump.
const LAMP: &str = "garage12-contoso-lamp-001";
const LAMP_KEY: &str = "YIvZIu4WYkb0f0nWoi2a7k+w5lPyr60ga6wJJm43E/0=";

/// Starts the tutorial's service. The device polls once.
fn start(change: impl FnOnce(&mut Config)) -> Emulator {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    config.behaviour.polls_before_result = 0;
    change(&mut config);
    Emulator::builder(config).mqtt("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap()
}

/// Returns the output of the program over mqtts, and whether it succeeded. It never takes longer than a minute,
/// and never prints a key or a token.
fn run(emulator: &Emulator, id: &str, key: &str) -> (bool, String, String) {
    run_trusting(emulator.ca_pem(), emulator.mqtts_url().unwrap(), id, key)
}

fn run_trusting(ca: &str, url: &str, id: &str, key: &str) -> (bool, String, String) {
    let port = url.rsplit(':').next().unwrap();
    let ca_file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mqtt-embedded-{id}-{port}.pem"));
    fs::write(&ca_file, ca).unwrap();
    let output = output_of(
        Command::new(example("mqtt_embedded"))
            .args([url, id, ca_file.to_str().unwrap()])
            .env("AZURE_DPS_SYMMETRIC_KEY", key),
    );
    fs::remove_file(ca_file).unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    for secret in [key, "skn=registration", "%2fregistrations"] {
        assert!(!stdout.contains(secret) && !stderr.contains(secret), "{stdout}{stderr}");
    }
    (output.status.success(), stdout, stderr)
}

#[test]
fn the_tutorials_devices_and_their_hubs() {
    let emulator = start(|_| ());
    for (id, key, hub) in [(TOASTER, TOASTER_KEY, TOASTERS_HUB), (HEAT_PUMP, HEAT_PUMP_KEY, HEAT_PUMPS_HUB)] {
        let (succeeded, stdout, stderr) = run(&emulator, id, key);
        assert!(succeeded, "{stderr}");
        assert_eq!(stderr, "Connected\nRegistering\nAssigning\nAssigned\n");
        for line in [
            format!("hub:        {hub}\ndevice ID:  {id}\n"),
            format!("host:       {hub}, port 8883\nclient ID:  {id}\n"),
            format!("user name:  {hub}/{id}/?api-version=2021-04-12\n"),
        ] {
            assert!(stdout.contains(&line), "no {line} in {stdout}");
        }
        assert_eq!(emulator.device(id).unwrap().assigned_hub, hub);
        // Both requests use one session.
        let asked: Vec<_> = emulator.requests().into_iter().map(|request| (request.listener, request.method)).collect();
        assert_eq!(asked.len() % 4, 0, "{asked:?}");
        let session = ["CONNECT", "SUBSCRIBE", "PUT", "GET"].map(|method| ("mqtts", method.to_owned()));
        assert_eq!(asked[asked.len() - 4..], session);
    }
}

#[test]
fn without_tls_on_this_machine_only() {
    let emulator = start(|_| ());
    let url = emulator.mqtt_url().unwrap();
    assert!(run_trusting("", url, TOASTER, TOASTER_KEY).0);
    // 0.0.0.0 reaches this machine, but only by convention.
    let elsewhere = url.replace("127.0.0.1", "0.0.0.0");
    for url in [&elsewhere, "http://127.0.0.1:1", "mqttx://127.0.0.1:1"] {
        assert!(!run_trusting("", url, TOASTER, TOASTER_KEY).0, "{url}");
    }
}

#[test]
fn a_wrong_key() {
    let emulator = start(|_| ());
    let (succeeded, stdout, stderr) = run(&emulator, TOASTER, HEAT_PUMP_KEY);
    assert!(!succeeded && stdout.is_empty());
    // The service still accepts CONNECT.
    assert!(stderr.contains("Connected\nRegistering\n"), "{stderr}");
    assert!(stderr.contains("401000"), "{stderr}");

    let emulator = start(|config| config.behaviour.refuse_at_connect = true);
    let (succeeded, _, stderr) = run(&emulator, TOASTER, HEAT_PUMP_KEY);
    assert!(!succeeded && !stderr.contains("Connected"), "{stderr}");
    assert!(stderr.contains("HTTP status 401"), "{stderr}");
}

#[test]
fn a_device_that_the_webhook_does_not_know() {
    let emulator = start(|_| ());
    let (succeeded, stdout, stderr) = run(&emulator, LAMP, LAMP_KEY);
    assert!(!succeeded && stdout.is_empty());
    assert!(stderr.contains("400207"), "{stderr}");
    assert!(stderr.contains("Custom allocation failed with status code: 400"), "{stderr}");
}

#[test]
fn a_certificate_of_another_ca_ends_the_run_at_once() {
    let (emulator, another) = (start(|_| ()), start(|_| ()));
    let (succeeded, _, stderr) = run_trusting(another.ca_pem(), emulator.mqtts_url().unwrap(), TOASTER, TOASTER_KEY);
    assert!(!succeeded);
    assert!(stderr.contains("invalid peer certificate"), "{stderr}");
    assert!(stderr.contains("Failed(Untrusted)") && !stderr.contains("Retrying"), "{stderr}");
    assert_eq!(emulator.requests().iter().filter(|request| request.method == "CONNECT").count(), 0);
}

/// After a lost answer, or a session that ends between two requests, the run continues in a new session.
#[test]
fn a_broken_session_is_opened_again() {
    let emulator = start(|_| ());
    emulator.script(Script::drop_connection(Operation::Status));
    let (succeeded, _, stderr) = run(&emulator, TOASTER, TOASTER_KEY);
    assert!(succeeded, "{stderr}");
    assert!(stderr.contains("Retrying { error: Transport(Closed), "), "{stderr}");
}

#[test]
fn an_answer_that_does_not_fit_names_the_needed_size() {
    let emulator = start(|_| ());
    let payload = "x".repeat(2000);
    let hub = "contoso-toasters-hub-1098.azure-devices.net";
    emulator.contoso().unwrap().respond(200, format!(r#"{{"iotHubHostName":"{hub}","payload":{{"x":"{payload}"}}}}"#));
    let (succeeded, _, stderr) = run(&emulator, TOASTER, TOASTER_KEY);
    let (_, size) = stderr.split_once("the buffer is too small: at least ").unwrap_or_else(|| panic!("{stderr}"));
    let size: usize = size.split(' ').next().unwrap().parse().unwrap();
    // The packet starts with its length, so the error names the size for the whole payload at once.
    assert!(!succeeded && size > payload.len(), "{stderr}");
}
