//! The example `mqtt_rumqttc`, as built, against the emulator over TLS.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use azure_dps::{GroupKey, RegistrationId};
use azure_dps_emulator::{Config, Emulator, Operation, Script};

const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const TOASTER: &str = "breakroom499-contoso-tstrsd-007";
const HEAT_PUMP: &str = "mainbuilding167-contoso-hpsd-088";

fn start() -> Emulator {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    Emulator::builder(config).mqtts("127.0.0.1:0").start().unwrap()
}

fn derived(id: &str) -> String {
    let key = GroupKey::from_base64(GROUP_KEY).unwrap().derive(&RegistrationId::new(id).unwrap());
    key.write_base64(&mut [0; 88]).unwrap().to_owned()
}

/// Runs the example to its end, within a minute.
fn run(emulator: &Emulator, ca: &str, id: &str, key: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs::write(&file, ca).unwrap();
    let address = emulator.mqtts_url().unwrap().trim_start_matches("mqtts://").replace("127.0.0.1", "localhost");
    let mut process = Command::new(example())
        .args([address.as_str(), file.to_str().unwrap(), id])
        .env("AZURE_DPS_SYMMETRIC_KEY", key)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(60) {
            process.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(20));
    }
    process.wait_with_output().unwrap()
}

/// Beside this test's own program.
fn example() -> PathBuf {
    let target = env::current_exe().unwrap();
    let example = target.parent().unwrap().parent().unwrap().join("examples/mqtt_rumqttc");
    assert!(example.exists(), "run `cargo build --examples` first: {}", example.display());
    example
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
    for (id, hub) in [
        (TOASTER, "contoso-toasters-hub-1098.azure-devices.net"),
        (HEAT_PUMP, "contoso-heatpumps-hub-1098.azure-devices.net"),
    ] {
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
    refused(run(&emulator, emulator.ca_pem(), "contoso-unknown-1", &derived("contoso-unknown-1")), "400207");
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
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
