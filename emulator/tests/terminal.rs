//! The program at a terminal: `--check`, and output for people.
#![cfg(unix)]

mod support;

use std::{
    fs,
    process::{Command, Output},
};

use azure_dps_emulator::{Config, Emulator};
use reqwest::blocking::Client;
use rumqttc::QoS;
use serde_json::{Value, json};
use support::{
    DPS, Device, GROUP_KEY, TOASTER, TOASTERS_HUB, derive,
    hub::{HubClient, HubDevice, TWIN_ANSWERS},
    mqtt::{Client as MqttClient, tcp},
    program::Program,
};

const KEY: &str = "c2l4dGVlbiBieXRlcyEhIQ==";

fn device(url: &str, id: &str, key: &str) -> Device {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Device {
        client: Client::builder().no_proxy().build().unwrap(),
        url: url.to_owned(),
        registration_id: id.to_owned(),
        key: derive(key, id),
        payload: None,
    }
}

/// Starts the program. Returns it with the address of its first listener.
fn start(command: &mut Command) -> (Program, String) {
    let mut program = Program::start(command);
    let line = program.line();
    let plain = line.replace("\u{1b}[0m", "");
    let url = plain.rsplit(' ').next().unwrap().to_owned();
    (program, url)
}

/// Runs the program with a configuration until it ends on its own.
fn run(config: &str, arguments: &[&str]) -> Output {
    run_with(config, arguments, &[])
}

fn run_with(config: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dps.toml"), config).unwrap();
    let mut command = Command::new(DPS);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command.args(["--config", "dps.toml"]).args(arguments).current_dir(folder.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// `--check` prints all findings on standard output and starts nothing. An ordinary start prints the same errors on
/// standard error.
#[test]
fn check_checks_a_configuration_and_starts_nothing() {
    let bad = format!("id_scope = 's'\nlinked_hubs = ['my hub', 'hub']\nscope = '{KEY}'\n");
    let errors = "dps.toml:2:16: error: linked_hubs[0]: \"my hub\" is not a host name, with or without a port\n\
                  dps.toml:3:1: error: scope: this key is unknown; did you mean `id_scope`?\n";
    let checked = run(&bad, &["--check"]);
    assert_eq!(checked.status.code(), Some(3));
    assert_eq!(
        text(&checked.stdout),
        "dps.toml: warning: there is no enrollment: every device is rejected; add [[enrollment_groups]] or \
         [[individual_enrollments]], or create one with the service API\n"
            .to_owned()
            + errors
            + "dps.toml cannot be used: 2 errors, 1 warning\n"
    );
    assert_eq!(text(&checked.stderr), "");
    let started = run(&bad, &[]);
    assert_eq!((started.status.code(), text(&started.stdout)), (Some(3), ""));
    assert_eq!(text(&started.stderr), format!("dps-emulator: the configuration cannot be used:\n{errors}"));

    let good = format!(
        "id_scope = 's'\nlinked_hubs = ['hub']\n[[enrollment_groups]]\nenrollment_group_id = 'g'\nprimary_key = '{KEY}'"
    );
    // The address is in use, but nothing listens with `--check`.
    let checked = run(&good, &["--check", "--http", "300.0.0.1:0"]);
    assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(0), ""));
    assert_eq!(text(&checked.stdout), "dps.toml can be used: no errors, no warnings\n");
    let built_in = Command::new(DPS).arg("--check").output().unwrap();
    assert_eq!(text(&built_in.stdout), "the built-in configuration can be used: no errors, no warnings\n");
}

/// Flags are checked together with the file. A setting that a flag replaces is not checked.
#[test]
fn flags_are_checked_with_the_file() {
    let file = format!(
        "id_scope = 's'\nlinked_hubs = ['hub']\nwebhook_url = 'nowhere'\ncontoso.by_model = true\n\
         [[enrollment_groups]]\nenrollment_group_id = 'g'\nprimary_key = '{KEY}'\nallocation.policy = 'custom'\n"
    );
    for (webhook, code, told) in [
        (None, 3, "dps.toml:3:15: error: webhook_url: the webhook's URL \"nowhere\" does not begin"),
        (Some("nohow"), 3, "error: --webhook: the webhook's URL \"nohow\" does not begin"),
        (Some("http://127.0.0.1/?code=secret"), 0, "dps.toml:4:1: warning: contoso: [contoso] has no effect"),
    ] {
        let flags = webhook.map(|url| ["--webhook", url]);
        let checked = run(&file, &[&["--check"][..], flags.as_ref().map_or(&[], |flags| &flags[..])].concat());
        let lines = text(&checked.stdout);
        assert_eq!(checked.status.code(), Some(code), "{lines}");
        assert!(lines.lines().any(|line| line.starts_with(told)) && !lines.contains("secret"), "{lines}");
        assert_eq!(lines.contains("nowhere"), webhook.is_none(), "{lines}");
    }
}

/// With `--json` each finding is an object, and there is no other output.
#[test]
fn with_json_findings_are_objects() {
    let checked = run("id_scope = 's'\nlinked_hubs = ['h']\nbehaviour.tls13 = 1", &["--check", "--json"]);
    assert_eq!(checked.status.code(), Some(3));
    let findings: Vec<Value> = text(&checked.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [warning, error] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((&warning["finding"]["level"], &warning["finding"]["line"]), (&json!("warning"), &Value::Null));
    assert_eq!(
        *error,
        json!({
            "finding": {
                "level": "error", "path": "behaviour.tls13", "line": 3, "column": 19,
                "message": "this is the number 1, but true or false is expected",
            },
            "file": "dps.toml",
        })
    );
    let missing = Command::new(DPS).args(["--config", "/nowhere/dps.toml", "--check", "--json"]).output().unwrap();
    let finding: Value = serde_json::from_str(text(&missing.stdout)).unwrap();
    assert_eq!((missing.status.code(), &finding["file"]), (Some(3), &json!("/nowhere/dps.toml")));
    assert!(finding["finding"]["message"].as_str().unwrap().starts_with("the file cannot be read: "), "{finding}");
}

/// `--verbose` prints bodies below their line, and JSON keeps its order. Secrets are masked as in the records, and
/// text of clients cannot control the terminal.
#[test]
fn bodies_are_printed_indented() {
    let webhook = Emulator::builder(Config::contoso()).start().unwrap();
    let webhook = webhook.contoso().unwrap();
    let key = webhook.url_with_key().rsplit_once("code=").unwrap().1.to_owned();
    webhook.respond(200, json!({ "iotHubHostName": "nowhere", "echo": key, "csi": "\u{9b}2J" }).to_string());
    let (program, url) = start(Command::new(DPS).arg("--verbose").env("DPS_EMULATOR_WEBHOOK", webhook.url_with_key()));
    let toaster = device(&url, TOASTER, GROUP_KEY).with_payload(json!({ "b": [], "a": [1, "\u{202e}"] }));
    toaster.failed();
    let log = program.end("-TERM").1;
    for lines in [
        format!("    request:\n      {{\n        \"registrationId\": \"{TOASTER}\",\n        \"payload\": {{\n"),
        "          \"b\": [],\n          \"a\": [\n            1,\n            \"\\u202e\"\n          ]\n".into(),
        "    AllocationRequest:\n      {\n        \"enrollmentGroup\": {\n".into(),
        "    webhook's answer:\n      {\n        \"iotHubHostName\": \"nowhere\",\n".into(),
        "        \"echo\": \"****\",\n        \"csi\": \"\\u009b2J\"\n      }\n".into(),
        "    answer:\n      {\n        \"operationId\": ".into(),
    ] {
        assert!(log.contains(&lines), "{lines}\n{log}");
    }
    for secret in [&*key, &toaster.key, "sig=", GROUP_KEY, "\u{9b}", "\u{202e}", "\u{1b}"] {
        assert!(!log.contains(secret), "{secret:?}\n{log}");
    }

    let (program, url) = start(&mut Command::new(DPS));
    device(&url, TOASTER, GROUP_KEY).assigned();
    assert!(!program.end("-TERM").1.contains("AllocationRequest"));
}

/// Returns the color that precedes these words.
fn colour_of(log: &str, words: &str) -> String {
    let (before, _) = log.split_once(words).unwrap_or_else(|| panic!("{words}\n{log}"));
    let line = before.rsplit('\n').next().unwrap();
    line.rsplit(" -> ").next().unwrap().to_owned()
}

/// An error of a device, a success and an error of a webhook have different colors and different words.
#[test]
fn colour_shows_the_outcome() {
    let (program, url) = start(Command::new(DPS).args(["--color", "always"]));
    device(&url, TOASTER, GROUP_KEY).assigned();
    device(&url, "somebody-else", GROUP_KEY).failed();
    assert_eq!(device(&url, TOASTER, "c2l4dGVlbiBieXRlcyEhIQ==").put().status(), 401);
    let log = program.end("-TERM").1;
    let found = ["200 assigned", "401 401002", "400 400207", "202 assigning"].map(|words| colour_of(&log, words));
    for (at, colour) in found.iter().enumerate() {
        assert!(colour.starts_with('\u{1b}'), "{colour:?}");
        assert_eq!(found.iter().filter(|other| *other == colour).count(), 1, "{at} {found:?}");
    }
    let events = log.lines().filter(|line| line.contains(" -> "));
    assert!(events.clone().count() > 5 && events.clone().all(|line| line.ends_with("\u{1b}[0m")), "{log}");
}

/// Lines of hubs have the same form as lines of DPS, with the name of the hub. The start also lists the hubs.
#[test]
fn lines_of_hubs_name_the_hub() {
    let arguments = ["--verbose", "--color", "always", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
    let (mut program, url) = start(Command::new(DPS).args(arguments));
    let mqtt = program.line().rsplit(' ').next().unwrap().to_owned();
    let announced = program.line() + &program.line();
    let hubs = format!("hubs on the same listeners, over MQTT: {TOASTERS_HUB}, contoso-heatpumps-hub-1098");
    assert!(announced.contains(&hubs) && announced.contains("--hosts"), "{announced}");

    device(&url, TOASTER, GROUP_KEY).assigned();
    let connect = |device: &HubDevice| {
        let mut client = HubClient { client: MqttClient::new(tcp(&mqtt), TOASTER) };
        let code = client.connect(device.packet()).unwrap().0;
        (client, code)
    };
    let toaster = HubDevice::new(TOASTERS_HUB, TOASTER, &derive(GROUP_KEY, TOASTER));
    let (mut client, code) = connect(&toaster);
    assert_eq!(code, 0);
    client.subscribe(&[(TWIN_ANSWERS, QoS::AtMostOnce)]);
    client.twin();
    client.report(&json!({ "firmware": "1.2" }));
    assert!(client.is_acknowledged(&toaster.events("level=warm"), r#"{"t":21}"#));
    let (_, code) = connect(&HubDevice::new("other.example:8883", TOASTER, &toaster.key));
    assert_eq!(code, 5);
    let log = program.end("-TERM").1;

    let at = format!("{TOASTER} at contoso-toasters-hub-1098 -> ");
    let plain: String = log.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
    for line in [
        format!(" mqtt  CONNECT {at}--- connected\n"),
        format!(" mqtt  SUBSCRIBE {at}--- subscribed\n"),
        format!(" mqtt  GET  {at}200 "),
        format!(" mqtt  PATCH {at}204 reported, $version 2\n"),
        format!(" mqtt  PUBLISH {at}--- telemetry: "),
        format!(" mqtt  CONNECT {TOASTER} at other.example:8883 -> --- CONNACK 5: "),
        "    answer:\n      {\n        \"desired\": {\n".to_owned(),
        "    request:\n      {\n        \"firmware\": \"1.2\"\n      }\n".to_owned(),
        "    request:\n      {\n        \"t\": 21\n      }\n".to_owned(),
    ] {
        assert!(plain.contains(&line), "{line}\n{plain}");
    }
    // A success has the color of a success at DPS, and an error does not.
    let good = colour_of(&log, "200 assigned");
    for words in ["--- connected", "--- subscribed", "204 reported", "--- telemetry"] {
        assert_eq!(colour_of(&log, words), good, "{words}");
    }
    assert_ne!(colour_of(&log, "--- CONNACK 5"), good);
    for secret in [&toaster.key, "sig=", GROUP_KEY] {
        assert!(!log.contains(secret), "{secret}");
    }
}

/// Color is for terminals only, never for JSON, and the environment can turn it on and off.
#[test]
fn colour_follows_the_option_and_the_environment() {
    let coloured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let bad = run_with("id_scope = ''", &[&["--check"], arguments].concat(), variables);
        assert_eq!(bad.status.code(), Some(3), "{bad:?}");
        text(&bad.stdout).contains('\u{1b}')
    };
    let force = [("CLICOLOR_FORCE", "1")];
    for (arguments, variables, expected) in [
        (&[][..], &[][..], false),
        (&["--color", "always"], &[], true),
        (&["--color", "always"], &[("NO_COLOR", "1")], true),
        (&["--color", "always", "--json"], &force, false),
        (&[], &force, true),
        (&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&["--color", "never"], &force, false),
        (&["--json"], &force, false),
    ] {
        assert_eq!(coloured(arguments, variables), expected, "{arguments:?} {variables:?}");
    }
}

/// A terminal has color, unless the terminal or the environment does not support it.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_colour() {
    let terminal = |variables: &str| {
        let command = format!("{variables} {DPS} --config /nowhere/dps.toml --check");
        let mut script = Command::new("script");
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            script.env_remove(name);
        }
        let output = script.args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").output();
        text(&output.expect("script, of util-linux").stdout).contains('\u{1b}')
    };
    assert_eq!(["", "NO_COLOR=1", "TERM=dumb"].map(terminal), [true, false, false]);
}

/// `--check | head -1`: if the reader closes the pipe, the exit code stays the same and nothing panics.
#[test]
fn check_survives_a_closed_pipe() {
    for (arguments, code) in [(&["--check"][..], 0), (&["--check", "--json", "--config", "/nowhere/dps.toml"], 3)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let checked = Command::new(DPS).args(arguments).stdout(writer).output().unwrap();
        assert_eq!(checked.status.code(), Some(code), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
