//! The example `mqtt_rumqttc`, as built, against the emulator over TLS.

#[path = "support/programs.rs"]
mod programs;
mod support;

use std::{
    fs,
    process::{Command, Output},
};

use azure_dps::{GroupKey, RegistrationId};
use azure_dps_emulator::{Config, Emulator, Operation, Script};
use programs::{example, output_of};
use support::{GROUP_KEY, HEAT_PUMP, HEAT_PUMPS_HUB, TOASTER, TOASTERS_HUB};

fn start() -> Emulator {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    Emulator::builder(config).mqtts("127.0.0.1:0").start().unwrap()
}

fn derived(id: &str) -> String {
    let key = GroupKey::from_base64(GROUP_KEY).unwrap().derive(&RegistrationId::new(id).unwrap());
    key.write_base64(&mut [0; 88]).unwrap().to_owned()
}

fn run(emulator: &Emulator, ca: &str, id: &str, key: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs::write(&file, ca).unwrap();
    let address = emulator.mqtts_url().unwrap().trim_start_matches("mqtts://").replace("127.0.0.1", "localhost");
    output_of(
        Command::new(example("mqtt_rumqttc"))
            .args([address.as_str(), file.to_str().unwrap(), id])
            .env("AZURE_DPS_SYMMETRIC_KEY", key),
    )
}

#[track_caller]
fn refused(output: Output, words: &str) {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(words), "{errors}");
}

#[test]
fn the_tutorials_devices() {
    let emulator = start();
    for (id, hub) in [(TOASTER, TOASTERS_HUB), (HEAT_PUMP, HEAT_PUMPS_HUB)] {
        let output = run(&emulator, emulator.ca_pem(), id, &derived(id));
        let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{errors}");
        assert!(text.starts_with(&format!("{hub} {id}\n")), "{text}");
        assert!(text.contains(&format!("user name {hub}/{id}/?api-version=")), "{text}");
        assert_eq!(emulator.device(id).unwrap().assigned_hub, hub);
    }
}

#[test]
fn what_is_refused_says_why() {
    let emulator = start();
    refused(run(&emulator, emulator.ca_pem(), TOASTER, &derived(HEAT_PUMP)), "401000");
    refused(
        run(&emulator, emulator.ca_pem(), "contoso-unknown-1", &derived("contoso-unknown-1")),
        "see the webhook's log: Custom allocation failed with status code: 400",
    );
    let other = start();
    refused(run(&emulator, other.ca_pem(), TOASTER, &derived(TOASTER)), "did not prove");
    // At once, where the service says so to CONNECT.
    emulator.script(Script::connack(5));
    refused(run(&emulator, emulator.ca_pem(), TOASTER, &derived(TOASTER)), "HTTP status 401");
}

#[test]
fn a_broken_session_is_followed_by_another() {
    let emulator = start();
    emulator.script(Script::drop_connection(Operation::Status));
    let output = run(&emulator, emulator.ca_pem(), TOASTER, &derived(TOASTER));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("the session broke: "), "{errors}");
}
