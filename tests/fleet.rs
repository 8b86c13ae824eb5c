//! The example `fleet`: hundreds of devices at the same time, with an emulator that fails some requests. The tests
//! check the outcome of each device, not the time.

#[path = "support/programs.rs"]
mod programs;

use std::{
    collections::HashMap,
    fs,
    io::Write,
    num::NonZeroU32,
    process::{Command, Output, Stdio},
    thread,
};

use azure_dps_emulator::{Builder, Config, Emulator, Operation, Script};
use programs::{example, output_of};
use serde_json::{Value, json};

const SCOPE: &str = "0ne00002193";
const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const TOASTERS_HUB: &str = "contoso-toasters-hub-1098.azure-devices.net";
const TOASTERS: &str = "fleet-{}-contoso-tstrsd-007";

const USAGE: i32 = 2;
const NOT_ALL_ASSIGNED: i32 = 3;
const DISAGREES: i32 = 4;
const NOT_CONNECTED: i32 = 5;
const INTERRUPTED: i32 = 130;

fn builder(config: Config) -> Builder {
    Emulator::builder(config).time_scale(1000.0)
}

/// Returns the command for a fleet at this service, with waits divided by 100.
fn fleet(url: &str, devices: u32) -> Command {
    let mut command = Command::new(example("fleet"));
    command.args(["--id-scope", SCOPE, "--registration-id", TOASTERS, "--provisioning-host", url]);
    command.args(["--devices", &devices.to_string(), "--time-scale", "100"]).env("AZURE_DPS_SYMMETRIC_KEY", GROUP_KEY);
    command
}

fn json_of(output: &Output) -> Value {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn id(number: u32) -> String {
    TOASTERS.replace("{}", &number.to_string())
}

/// Marsaglia's xorshift32, so that each run fails the same requests.
struct Dice(u32);

impl Dice {
    fn one_in(&mut self, n: u32) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0.is_multiple_of(n)
    }
}

/// Provisions 200 devices through custom allocation, over TLS. Some answers to registrations and polls are lost, some
/// requests are throttled, and the webhook throttles every tenth call.
///
/// Each device gets one assignment, and the service has the same one. The service assigned the device at most as often
/// as the device had to register, always to the same hub.
#[test]
fn two_hundred_devices_are_assigned_once_each_despite_losses() {
    const DEVICES: u32 = 200;
    let mut config = Config::contoso();
    config.contoso.throttle_every = NonZeroU32::new(10);
    let emulator = builder(config).https("127.0.0.1:0").start().unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), emulator.ca_pem()).unwrap();
    let (mut dice, mut registrations) = (Dice(2193), HashMap::new());
    let mut faults = [0; 4];
    for id in (1..=DEVICES).map(id) {
        let scripts = [
            Script::drop_connection(Operation::Register),
            Script::drop_connection(Operation::Status),
            Script::respond(Operation::Register, 429, &[("Retry-After", "2")], ""),
            Script::respond(Operation::Status, 503, &[], ""),
        ];
        registrations.insert(id.clone(), 1);
        for (kind, script) in scripts.into_iter().enumerate().filter(|_| dice.one_in(20)) {
            if kind == 0 {
                registrations.insert(id.clone(), 2);
            }
            faults[kind] += 1;
            emulator.script(script.for_device(&id));
        }
    }
    assert!(faults.iter().all(|&faults| faults > 3), "{faults:?} are too few");

    let mut command = fleet(emulator.https_url().unwrap(), DEVICES);
    let report = json_of(&output_of(command.arg("--json").arg("--verify").arg("--ca").arg(ca.path())));
    assert_eq!(report["assigned"], DEVICES, "{report}");
    assert_eq!([&report["failed"], &report["unfinished"], &report["sharedIdentities"]], [0, 0, 0]);
    assert_eq!(report["hubs"], json!({ TOASTERS_HUB: DEVICES }));
    assert_eq!(report["verification"], json!({ "same": DEVICES, "different": 0, "failed": {} }));
    let retries = &report["retries"];
    assert_eq!([&retries["busy: HTTP 429"], &retries["busy: HTTP 503"]], [faults[2], faults[3]], "{report}");
    // On a reused connection, a lost answer is not yet a failure: the request is repeated on a new connection.
    assert!(report["connections"].as_u64() >= Some(u64::from(DEVICES + faults[0] + faults[1])), "{report}");

    let requests = emulator.requests();
    for (id, registrations) in &registrations {
        let record = emulator.device(id).unwrap();
        assert_eq!((record.assigned_hub.as_str(), record.device_id.as_str()), (TOASTERS_HUB, id.as_str()));
        assert!((1..=*registrations).contains(&record.registrations), "{id}");
        let told = requests.iter().filter(|request| {
            request.registration_id.as_ref() == Some(id)
                && request.method == "GET"
                && request.http_status == Some(200)
                && request.response_body.contains("\"status\":\"assigned\"")
        });
        assert_eq!(told.count(), 1, "{id}");
    }
    assert!(emulator.webhook_calls().iter().any(|call| call.status == Some(429)));
}

/// Drops every n-th request, as the emulator does with `--drop-every`. Over MQTT, this ends the session.
#[test]
fn all_devices_are_assigned_despite_dropped_connections() {
    let mut config = Config::contoso();
    config.behaviour.drop_every = NonZeroU32::new(10);
    let emulator = builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap();
    let mqtt = emulator.mqtt_url().unwrap().replace("mqtt://", "http://");
    for (url, transport) in [(emulator.http_url().unwrap(), "http"), (&mqtt, "mqtt")] {
        let output = output_of(fleet(url, 50).args(["--json", "--transport", transport]));
        let report = json_of(&output);
        assert_eq!(report["assigned"], 50, "{transport}: {report}");
        assert_eq!(output.status.code(), Some(0));
        assert!(!report["retries"].as_object().unwrap().is_empty());
    }
}

/// The text summary, with few devices at a time. The percentiles are in order.
#[test]
fn the_summary_has_outcomes_and_latencies() {
    let emulator = builder(Config::contoso()).start().unwrap();
    let url = emulator.http_url().unwrap();
    let output = output_of(fleet(url, 20).args(["--concurrency", "3", "--verify"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()), "{text}");
    assert!(text.starts_with("20 of 20 devices assigned in "), "{text}");
    assert!(text.contains(&format!("    20  {TOASTERS_HUB}\n")), "{text}");
    assert!(text.contains("\nrequests    "), "{text}");
    assert!(text.ends_with("20 the same, 0 different\n"), "{text}");

    let report = json_of(&output_of(fleet(url, 20).args(["--json", "--first", "100"])));
    let latency = ["p50", "p90", "p99", "max"].map(|name| report["latencySeconds"][name].as_f64().unwrap());
    assert!(latency.is_sorted() && latency[0] > 0.0, "{report}");
    assert_eq!(report["verification"], Value::Null);
    assert!(emulator.device(&id(119)).is_some() && emulator.device(&id(120)).is_none());
}

/// Each device has a result: its assignment or its failure, and the number of requests. The counts equal those in the
/// emulator's log.
#[test]
fn json_has_a_result_for_each_device() {
    let tracking_id = "8f6f1d27-3f5e-4d3c-9a5e-1c0a5d4b2e11";
    for transport in ["http", "mqtt"] {
        let emulator = builder(Config::contoso()).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap();
        let mqtt = emulator.mqtt_url().unwrap().replace("mqtt://", "http://");
        let url = if transport == "mqtt" { &mqtt } else { emulator.http_url().unwrap() };
        let refusal = json!({ "errorCode": 400207, "trackingId": tracking_id, "message": "No hub for you." });
        emulator.script(Script::respond(Operation::Register, 429, &[], "").times(2).for_device(&id(2)));
        emulator.script(Script::respond(Operation::Register, 400, &[], refusal.to_string()).for_device(&id(3)));
        emulator.script(Script::drop_connection(Operation::Register).for_device(&id(4)));
        let output = output_of(fleet(url, 4).args(["--json", "--transport", transport]));
        assert_eq!(output.status.code(), Some(NOT_ALL_ASSIGNED));
        let report = json_of(&output);
        let results = report["results"].as_array().unwrap();
        let column = |name: &str| results.iter().map(|result| result[name].clone()).collect::<Vec<_>>();

        assert_eq!(column("registrationId"), [1, 2, 3, 4].map(id));
        assert_eq!(column("outcome"), ["assigned", "assigned", "failed", "assigned"]);
        assert_eq!(column("registerRequests"), [1, 3, 1, 2], "{transport}: {report}");
        assert_eq!(column("refusedCalls"), [0, 2, 0, 0]);
        assert_eq!(column("retries"), [0, 2, 0, 1]);
        let hub = json!(TOASTERS_HUB);
        assert_eq!(column("assignedHub"), [hub.clone(), hub.clone(), Value::Null, hub]);
        assert_eq!(column("deviceId"), [json!(id(1)), json!(id(2)), Value::Null, json!(id(4))]);
        let error = &results[2]["error"];
        assert_eq!(
            [&error["kind"], &error["code"], &error["httpStatus"], &error["trackingId"]],
            [&json!("refused: 400207"), &json!(400207), &json!(400), &json!(tracking_id)]
        );
        assert!(error["seen"].as_str().unwrap().contains("400207"), "{error}");
        assert!(results.iter().all(|result| result["seconds"].as_f64() > Some(0.0)), "{report}");

        let logged = emulator.requests();
        let requests = results.iter().map(|result| {
            let id = result["registrationId"].as_str().unwrap();
            let of_device = logged.iter().filter(|request| request.registration_id.as_deref() == Some(id));
            json!(of_device.filter(|request| ["PUT", "GET"].contains(&request.method.as_str())).count())
        });
        assert_eq!(column("requests"), requests.collect::<Vec<_>>(), "{transport}");
        for name in ["requests", "registerRequests", "refusedCalls", "connections"] {
            let sum: u64 = column(name).iter().map(|count| count.as_u64().unwrap()).sum();
            assert_eq!(report[name], sum, "{name}");
        }
    }
}

/// The text names failed devices, up to a maximum number.
#[test]
fn the_summary_names_devices_that_failed() {
    let mut config = Config::contoso();
    config.enrollment_groups[0].enabled = false;
    let emulator = builder(config).start().unwrap();
    let text_of =
        |devices| String::from_utf8(output_of(&mut fleet(emulator.http_url().unwrap(), devices)).stdout).unwrap();
    let text = text_of(2);
    assert!(text.contains("\nfailed           2  disabled\n"), "{text}");
    assert!(text.ends_with(&format!("device      {}: disabled\ndevice      {}: disabled\n", id(1), id(2))), "{text}");
    let text = text_of(25);
    assert_eq!(text.matches(": disabled\n").count(), 20, "{text}");
    assert!(text.ends_with("and 5 more: --json names all\n"), "{text}");
}

/// A fleet above the quota: every device is assigned, and the rejected calls are counted.
#[test]
fn a_throttled_fleet_is_assigned_and_its_refused_calls_are_counted() {
    let mut config = Config::contoso();
    config.behaviour.registrations_per_minute = Some(10);
    // The emulator divides the minute of the quota by the same factor as the devices divide their waits.
    let emulator = Emulator::builder(config).time_scale(100.0).start().unwrap();
    let url = emulator.http_url().unwrap();
    let report = json_of(&output_of(fleet(url, 30).arg("--json")));
    assert_eq!(report["assigned"], 30, "{report}");
    let is_refused = |id: &Value| {
        let requests = emulator.requests();
        requests
            .iter()
            .filter(|request| request.http_status == Some(429) && id == &json!(request.registration_id))
            .count()
    };
    for result in report["results"].as_array().unwrap() {
        assert_eq!(result["refusedCalls"], is_refused(&result["registrationId"]), "{result}");
    }
    assert!(report["refusedCalls"].as_u64() >= Some(20), "{report}");
    let text = String::from_utf8(output_of(&mut fleet(url, 11)).stdout).unwrap();
    assert!(text.contains(" requests with 429: ") && text.contains(" a device, at most "), "{text}");
}

/// The registration IDs come from a file or from standard input.
#[test]
fn the_ids_may_come_from_a_list() {
    let emulator = builder(Config::contoso()).start().unwrap();
    let list = format!("# toasters\n\n{}\n{}\n", id(7), id(3));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(list.as_bytes()).unwrap();
    let of_list = |list: &str| {
        let mut command = Command::new(example("fleet"));
        command.args(["--scope", SCOPE, "--host", emulator.http_url().unwrap(), "--json", "--ids-file", list]);
        command.args(["--time-scale", "100"]).env("AZURE_DPS_SYMMETRIC_KEY", GROUP_KEY);
        command
    };
    let path = file.path().to_str().unwrap();
    let from_file = output_of(of_list(path).args(["--concurrency", "1"]));
    let mut child = of_list("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    for output in [from_file, child.wait_with_output().unwrap()] {
        let report = json_of(&output);
        assert_eq!((output.status.code(), &report["assigned"]), (Some(0), &json!(2)), "{report}");
        let results = report["results"].as_array().unwrap();
        assert_eq!([&results[0]["registrationId"], &results[1]["registrationId"]], [&id(7), &id(3)]);
    }
}

/// Rejected devices are counted by reason, and they determine the exit code.
#[test]
fn failures_are_counted_by_kind() {
    let mut config = Config::contoso();
    config.enrollment_groups[0].enabled = false;
    let emulator = builder(config).start().unwrap();
    let url = emulator.http_url().unwrap();
    let run = |command: &mut Command| {
        let output = output_of(command.arg("--json"));
        (output.status.code().unwrap(), json_of(&output)["errors"].clone())
    };
    assert_eq!(run(&mut fleet(url, 5)), (NOT_ALL_ASSIGNED, json!({ "disabled": 5 })));
    emulator.update(|config| config.enrollment_groups[0].enabled = true);
    let mut strangers = Command::new(example("fleet"));
    strangers.args(["--scope", SCOPE, "--devices", "5", "--host", url]).env("AZURE_DPS_SYMMETRIC_KEY", GROUP_KEY);
    assert_eq!(run(strangers.args(["--time-scale", "100"])), (NOT_ALL_ASSIGNED, json!({ "refused: 400207": 5 })));
    let mut wrong = fleet(url, 5);
    wrong.env(
        "AZURE_DPS_SYMMETRIC_KEY",
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
    );
    assert_eq!(run(&mut wrong), (NOT_ALL_ASSIGNED, json!({ "unauthorized: 401002": 5 })));
}

/// Each kind of rejection is reported with the fields that support asks for.
#[test]
fn a_lost_operation_is_reported_with_its_tracking_id() {
    let emulator = builder(Config::contoso()).start().unwrap();
    let tracking_id = "6d75a1fe-0129-4f41-844b-c253a6653d4f";
    let body = json!({ "errorCode": 404201, "trackingId": tracking_id }).to_string();
    emulator.script(Script::respond(Operation::Status, 404, &[], &body).times(2));
    let report = json_of(&output_of(fleet(emulator.http_url().unwrap(), 1).arg("--json")));
    let result = &report["results"][0];
    let error = &result["error"];
    assert_eq!((&error["httpStatus"], &error["code"]), (&json!(404), &json!(404201)), "{report}");
    assert_eq!(error["trackingId"], tracking_id);
    assert_eq!(result["registerRequests"], 2);
}

#[test]
fn a_certificate_that_is_not_trusted_is_reported_with_its_cause() {
    let emulator = builder(Config::contoso()).https("127.0.0.1:0").start().unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), builder(Config::contoso()).https("127.0.0.1:0").start().unwrap().ca_pem()).unwrap();
    let mut fleet = fleet(emulator.https_url().unwrap(), 1);
    let report = json_of(&output_of(fleet.arg("--json").arg("--ca").arg(ca.path())));
    let error = &report["results"][0]["error"];
    assert_eq!(error["kind"], "untrusted certificate");
    assert!(error["seen"].as_str().unwrap().contains(": invalid peer certificate: "), "{error}");
}

/// `--verify` detects that the service now names another assignment.
#[test]
fn verify_finds_another_assignment() {
    let emulator = builder(Config::contoso()).start().unwrap();
    let elsewhere = json!({ "assignedHub": "elsewhere.azure-devices.net" });
    emulator.script(Script::merge(Operation::Lookup, elsewhere).for_device(&id(2)));
    let failed = Script::respond(Operation::Lookup, 404, &[], r#"{"errorCode":404201}"#);
    emulator.script(failed.clone().for_device(&id(3)));
    let output = output_of(fleet(emulator.http_url().unwrap(), 3).args(["--verify", "--json"]));
    let report = json_of(&output);
    let failures = json!({ "refused: 404201": 1 });
    assert_eq!(report["verification"], json!({ "same": 1, "different": 1, "failed": failures }));
    assert_eq!(output.status.code(), Some(DISAGREES));
    let verification = |at: usize| report["results"][at]["verification"].as_str().unwrap();
    assert_eq!([0, 1, 2].map(verification), ["same", "different", "failed"]);
    assert_eq!(report["results"][2]["error"]["code"], 404201);

    emulator.script(failed.for_device(&id(3)));
    let output = output_of(fleet(emulator.http_url().unwrap(), 3).arg("--verify"));
    let text = String::from_utf8(output.stdout).unwrap();
    let named = format!("device      {}: the look-up failed: refused: 404201\n", id(3));
    assert!(text.ends_with(&named), "{text}");
}

/// Two devices with the same identity are reported.
#[test]
fn shared_identities_are_reported() {
    let emulator = builder(Config::contoso()).start().unwrap();
    emulator.update(|config| config.behaviour.result_at_once = true);
    let same = json!({ "registrationState": { "deviceId": id(1) } });
    emulator.script(Script::merge(Operation::Register, same).for_device(&id(2)));
    let output = output_of(fleet(emulator.http_url().unwrap(), 3).arg("--json"));
    let report = json_of(&output);
    assert_eq!(report["sharedIdentities"], 1);
    let shares = [0, 1, 2].map(|at: usize| report["results"][at]["sharesIdentityWith"].clone());
    assert_eq!(shares, [Value::Null, json!(id(1)), Value::Null]);
    assert_eq!(output.status.code(), Some(DISAGREES));
}

/// Connected devices report the same counts as the hub.
#[test]
fn the_hub_has_all_reports_and_telemetry() {
    const DEVICES: u32 = 30;
    let emulator = builder(Config::contoso()).https("127.0.0.1:0").mqtt("127.0.0.1:0").mqtts("127.0.0.1:0");
    let emulator = emulator.start().unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), emulator.ca_pem()).unwrap();
    for (round, gateway) in [(1, emulator.mqtt_url().unwrap()), (2, emulator.mqtts_url().unwrap())] {
        let mut command = fleet(emulator.https_url().unwrap(), DEVICES);
        command.arg("--ca").arg(ca.path()).args([
            "--connect",
            "--hold",
            "1",
            "--interval",
            "1",
            "--hub-address",
            gateway,
        ]);
        let output = output_of(command.arg("--json"));
        let report = json_of(&output);
        assert_eq!(output.status.code(), Some(0), "{report}");
        let connection = &report["connection"];
        // From the second round on, the hub has kept the subscriptions.
        let resumed = DEVICES * (round - 1);
        assert_eq!([&connection["connected"], &connection["sessions"]], [DEVICES, DEVICES], "{connection}");
        assert_eq!([&connection["resumedSessions"], &connection["connections"]], [&json!(resumed), &json!(DEVICES)]);
        assert_eq!([&connection["failed"], &connection["breaks"]], [&json!({}), &json!({})]);
        for result in report["results"].as_array().unwrap() {
            let id = result["registrationId"].as_str().unwrap();
            let (stay, twin) = (&result["stay"], emulator.device(id).unwrap().twin);
            assert!(stay["reports"].as_u64() >= Some(1) && stay["telemetry"] == stay["reports"], "{stay}");
            assert_eq!([&stay["lastReport"], &stay["reports"]], [&twin.reported["report"], &twin.reported["report"]]);
            assert_eq!(stay["reportedVersion"], twin.reported_version);
            assert_eq!(stay["desiredVersion"], twin.desired_version);
            assert!(!emulator.telemetry(id).last.is_empty(), "{id}");
        }
    }
}

/// A device does not retry at a hub that rejects it. It retries at a hub that is unreachable.
#[test]
fn only_an_unreachable_hub_is_tried_again() {
    let emulator = builder(Config::contoso()).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap();
    assert_eq!(output_of(&mut fleet(emulator.http_url().unwrap(), 3)).status.code(), Some(0));
    emulator.set_hub_enabled(&id(2), false).unwrap();
    emulator.update(|config| config.behaviour.unavailable_hubs = vec![TOASTERS_HUB.to_owned()]);
    let mut command = fleet(emulator.http_url().unwrap(), 3);
    command.args(["--connect", "--hold", "0", "--hub-address", emulator.mqtt_url().unwrap(), "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let connects = || emulator.requests().iter().filter(|request| request.method == "CONNECT").count();
    while connects() < 6 {
        thread::yield_now();
    }
    emulator.update(|config| config.behaviour.unavailable_hubs.clear());
    let output = child.wait_with_output().unwrap();
    let report = json_of(&output);
    assert_eq!(output.status.code(), Some(NOT_CONNECTED), "{report}");
    let connection = &report["connection"];
    assert_eq!([&connection["connected"], &connection["failed"]], [&json!(2), &json!({ "CONNACK 5": 1 })]);
    assert!(connection["breaks"]["CONNACK 3"].as_u64() >= Some(2), "{connection}");
    let output = output_of(
        fleet(emulator.http_url().unwrap(), 3)
            .args(["--connect", "--hold", "0", "--hub-address"])
            .arg(emulator.mqtt_url().unwrap()),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nconnected   2 at their hubs, in "), "{text}");
    assert!(text.ends_with(&format!("device      {}: not connected to its hub: CONNACK 5\n", id(2))), "{text}");
}

/// Ctrl-C prints the results so far. Here the first of two devices is done, at a rate of one a minute.
#[test]
fn an_interrupt_prints_the_summary_so_far() {
    let emulator = builder(Config::contoso()).start().unwrap();
    let mut command = fleet(emulator.http_url().unwrap(), 2);
    command.args(["--rate", "1", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    while emulator.requests().iter().all(|request| !request.response_body.contains("\"assigned\"")) {
        thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let report = json_of(&output);
    assert_eq!((report["interrupted"].clone(), output.status.code()), (json!(true), Some(INTERRUPTED)));
    // The answer may not have arrived yet.
    assert_eq!(report["assigned"].as_u64().unwrap() + report["unfinished"].as_u64().unwrap(), 2);
    assert_eq!(report["results"][1], json!({ "registrationId": id(2), "outcome": "unfinished" }));
    assert!(emulator.device(&id(2)).is_none());
}

/// An invalid command line ends with exit code 2 and a message, before any request.
#[test]
fn an_invalid_command_line_is_a_usage_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "no key").unwrap();
    let file = file.path().to_str().unwrap();
    let local = ["--host", "http://127.0.0.1:9"];
    for (arguments, why) in [
        (&["--devices", "0", local[0], local[1]][..], "0 is not in"),
        (&["--devices", "1", "--rid", "no-number", local[0], local[1]], "{}"),
        (&["--devices", "1", "--rid", "no good {}", local[0], local[1]], "registration ID"),
        (&["--devices", "1", "--host", "http://example.com"], "loopback"),
        (&["--devices", "1", "--time-scale", "2", "--host", "dps.invalid"], "--time-scale"),
        (&["--devices", "1", "--payload", "nowhere.json", local[0], local[1]], "nowhere.json"),
        (&["--devices", "1", "--payload", "{\"a\":", local[0], local[1]], "payload"),
        (&["--devices", "1", "--key-file", file, local[0], local[1]], "base64"),
        (&["--devices", "1", "--key-file", "/nowhere", local[0], local[1]], "/nowhere"),
        (&["--devices", "1", local[0], local[1]], "AZURE_DPS_SYMMETRIC_KEY"),
        (&["--ids-file", file, local[0], local[1]], "line 1: the registration ID has a character"),
        (&["--ids-file", "/nowhere", local[0], local[1]], "/nowhere"),
        (&["--ids-file", "-", "--key-file", "-", local[0], local[1]], "only one of key and IDs"),
        (&["--ids-file", "/dev/stdin", "--key-file", "-", local[0], local[1]], "only one of key and IDs"),
        (&["--ids-file", "-", "--key-file", "/dev/stdin", local[0], local[1]], "only one of key and IDs"),
        (&["--ids-file", file, "--devices", "1", local[0], local[1]], "cannot be used with"),
        (&["--ids-file", file, "--rid", TOASTERS, local[0], local[1]], "cannot be used with"),
        (&[local[0], local[1]], "--devices"),
        (&["--devices", "1", "--ca", file, local[0], local[1]], "--ca"),
        (&["--devices", "1", "--hold", "1", local[0], local[1]], "--connect"),
        (&["--devices", "1", "--connect", "--hub-address", "mqtt://example.com", local[0], local[1]], "loopback"),
        (&["--devices", "1", "--verify", "--transport", "mqtt", local[0], local[1]], "--verify"),
    ] {
        let mut command = Command::new(example("fleet"));
        command.args(["--scope", SCOPE]).args(arguments).env_remove("AZURE_DPS_SYMMETRIC_KEY");
        let output = output_of(&mut command);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(USAGE), 0), "{arguments:?}: {stderr}");
        assert!(stderr.contains(why), "{arguments:?}: {stderr}");
    }
}

/// The page contains the table that `benches/fleet.py` prints.
#[test]
fn the_documented_table_is_that_of_the_benchmark() {
    let read = |path| fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (page, benchmark) = (read("docs/evidence/fleet.md"), read("benches/fleet.py"));
    let header = benchmark.lines().find_map(|line| line.strip_prefix("HEADER = \"")?.strip_suffix('"')).unwrap();
    assert!(page.lines().any(|line| line == header), "{header}");
}
