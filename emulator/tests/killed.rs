//! Kills an emulator under load with SIGKILL many times: nothing that was answered is lost.
//!
//! `DPS_EMULATOR_KILLS=1000 cargo test --release -p azure-dps-emulator --test killed -- --nocapture` is the long form.
#![cfg(unix)]

mod support;

use std::{
    collections::HashMap,
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use azure_dps_emulator::{Config, Emulator, WELL_KNOWN_SERVICE_KEY};
use reqwest::{Method, blocking::Client, header::CONTENT_TYPE};
use serde_json::{Value, json};
use support::{
    program::Program,
    service::{OWNER, ServiceClient},
    *,
};

const WORKERS: usize = 4;

/// What was answered, so it must be there from then on.
#[derive(Default)]
struct Answered {
    /// Operations: the device, and the answer to a poll if there is a result.
    operations: HashMap<String, (String, Option<Value>)>,
    /// The last assignment of each device.
    devices: HashMap<String, Value>,
    /// Individual enrollments: the last answer of the service, or `None` after a deletion.
    enrollments: HashMap<String, Option<Value>>,
}

/// The program, and its URL.
struct Running {
    program: Program,
    url: String,
}

impl Running {
    fn start(folder: &Path) -> Self {
        Self::of(Command::new(DPS), folder)
    }

    /// Starts the program with this limit for the size of a file.
    fn with_limit(folder: &Path, bytes: u64) -> Self {
        let mut shell = Command::new("sh");
        // POSIX counts blocks of 512 bytes. If the signal is ignored, a write beyond the limit fails as on a full
        // disk.
        shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {}; exec {DPS} \"$@\"", bytes / 512)).arg("sh");
        Self::of(shell, folder)
    }

    fn of(mut command: Command, folder: &Path) -> Self {
        command.args(["--json", "--control", "none", "--http", "127.0.0.1:0", "--data"]).arg(folder);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut program = Program { child, lines };
        // A registration that continues may call its webhook before.
        loop {
            let line = program.json();
            if line["listener"] == "http" {
                return Self { url: line["url"].as_str().unwrap().to_owned(), program };
            }
        }
    }
}

fn device(client: &Client, url: &str, id: &str) -> Device {
    Device {
        client: client.clone(),
        url: url.to_owned(),
        registration_id: id.to_owned(),
        key: derive(GROUP_KEY, id),
        payload: Some(payload()),
    }
}

fn service(client: &Client, url: &str) -> ServiceClient {
    ServiceClient {
        client: client.clone(),
        url: url.to_owned(),
        policy: OWNER.to_owned(),
        key: WELL_KNOWN_SERVICE_KEY.to_owned(),
    }
}

fn client() -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

fn send(request: reqwest::blocking::RequestBuilder) -> Option<(u16, Value)> {
    let response = request.send().ok()?;
    let status = response.status().as_u16();
    // An answer that is cut off says nothing.
    let text = response.text().ok()?;
    Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

/// Registers devices and changes enrollments until the emulator is gone, then returns `None`.
fn work(url: &str, worker: usize, round: usize, answered: &Mutex<Answered>, progress: &mpsc::Sender<()>) -> Option<()> {
    let client = client();
    let service = service(&client, url);
    for turn in 0.. {
        // Some devices register again.
        let id = format!("{worker}-{}-{}-contoso-tstrsd-007", if turn % 3 == 0 { 0 } else { round }, turn % 10);
        let device = device(&client, url, &id);
        let path = device.path();
        // Without an answer, the device may or may not have been assigned again.
        answered.lock().unwrap().devices.remove(&id);
        let put = device.request(Method::PUT, &format!("{path}/register{VERSION}"));
        let put = put.header(CONTENT_TYPE, "application/json").body(device.registration().to_string());
        let (status, body) = send(put)?;
        assert_eq!(status, 202, "{body}");
        let operation = body["operationId"].as_str().unwrap().to_owned();
        answered.lock().unwrap().operations.insert(operation.clone(), (id.clone(), None));
        let result = loop {
            let (status, body) = send(device.request(Method::GET, &format!("{path}/operations/{operation}{VERSION}")))?;
            match status {
                202 => {}
                200 => break body,
                _ => panic!("{status} {body}"),
            }
        };
        assert_eq!(result["status"], "assigned", "{result}");
        let mut known = answered.lock().unwrap();
        known.devices.insert(id.clone(), result["registrationState"].clone());
        known.operations.insert(operation, (id, Some(result)));
        drop(known);

        let id = format!("enrollment-{worker}-{}", turn % 5);
        let path = format!("/enrollments/{id}");
        // Without an answer, the change may or may not have been made.
        let before = answered.lock().unwrap().enrollments.remove(&id).flatten();
        if before.is_some() && turn % 4 == 3 {
            let (status, body) = send(service.request(Method::DELETE, &path))?;
            assert_eq!(status, 204, "{body}");
            answered.lock().unwrap().enrollments.insert(id, None);
        } else {
            let twin = json!({ "tags": { "turn": turn, "round": round } });
            let body = json!({ "registrationId": id, "attestation": { "type": "symmetricKey" }, "initialTwin": twin });
            let put = || {
                let put = service.request(Method::PUT, &path).header(CONTENT_TYPE, "application/json");
                put.body(body.to_string())
            };
            let (status, body) = match send(put())? {
                // The change had been made.
                (409, _) => send(put().header("If-Match", "*"))?,
                created => created,
            };
            assert_eq!(status, 200, "{body}");
            answered.lock().unwrap().enrollments.insert(id, Some(body));
        }
        let _ = progress.send(());
    }
    None
}

/// Checks that everything that was answered is there. Waits for operations that were running.
fn check(url: &str, answered: &mut Answered) {
    let client = client();
    let service = service(&client, url);
    // A device's fifth operation removes its first operation.
    let operations: Vec<_> = answered.operations.drain().collect();
    for (operation, (id, expected)) in operations {
        let device = device(&client, url, &id);
        match expected {
            // The next registration may have started without an answer. Then this one has no result.
            None => {
                let deadline = Instant::now() + Duration::from_secs(20);
                loop {
                    let (status, body) = answer(device.get(&operation));
                    assert!(matches!(status, 200 | 202), "{operation} of {id}: {status} {body}");
                    if status == 200 {
                        assert_eq!(body["status"], "assigned", "{body}");
                        break;
                    }
                    assert!(Instant::now() < deadline, "{operation} of {id} does not continue");
                    thread::sleep(Duration::from_millis(2));
                }
            }
            Some(expected) => assert_eq!(poll_again(&device, &operation), (200, expected), "{operation} of {id}"),
        }
    }
    for (id, expected) in &answered.devices {
        let (status, state) = device(&client, url, id).lookup();
        assert_eq!((status, &state), (200, expected), "{id}");
    }
    for (id, expected) in &answered.enrollments {
        let (status, body) = service.get(&format!("/enrollments/{id}"));
        match expected {
            Some(expected) => {
                assert_eq!((status, &body["etag"]), (200, &expected["etag"]), "{id}");
                assert_eq!(body["initialTwin"], expected["initialTwin"], "{id}");
            }
            None => assert_eq!(status, 404, "{id}"),
        }
    }
}

/// Returns the result of an operation. After a restart, this may take another poll.
fn poll_again(device: &Device, operation: &str) -> (u16, Value) {
    match answer(device.get(operation)) {
        (202, _) => answer(device.get(operation)),
        told => told,
    }
}

#[test]
fn nothing_that_was_answered_is_lost() {
    let kills = env::var("DPS_EMULATOR_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    let answered = Mutex::new(Answered::default());
    let (mut devices, mut operations, mut enrollments, mut restarts) = (0, 0, 0, Vec::new());
    let mut running = Running::start(&folder);
    for round in 1..=kills {
        // Each round is different. Most kills come while all workers are busy, and some come at once.
        let random = u64::try_from(uuid::Uuid::new_v4().as_u128() >> 64).unwrap();
        let (life, at_once) = (Duration::from_micros(random % 150_000), random % 7 == 0);
        thread::scope(|scope| {
            let (progress, begun) = mpsc::channel();
            for worker in 0..WORKERS {
                let (url, answered, progress) = (running.url.clone(), &answered, progress.clone());
                scope.spawn(move || work(&url, worker, round, answered, &progress));
            }
            drop(progress);
            if !at_once {
                // A worker that fails ends early, and the test fails.
                let _ = begun.recv_timeout(Duration::from_secs(20));
            }
            thread::sleep(life);
            running.program.child.kill().unwrap();
            running.program.child.wait().unwrap();
        });
        let started = Instant::now();
        running = Running::start(&folder);
        restarts.push(started.elapsed());
        let mut answered = answered.lock().unwrap();
        devices = devices.max(answered.devices.len());
        operations += answered.operations.len();
        enrollments += answered.enrollments.len();
        check(&running.url, &mut answered);
    }
    running.program.child.kill().unwrap();
    running.program.child.wait().unwrap();

    // The device API does not show the hub.
    let emulator = Emulator::builder(Config::contoso()).data(&folder).start().unwrap();
    for (id, state) in &answered.lock().unwrap().devices {
        let record = emulator.device(id).unwrap();
        assert_eq!(record.assigned_hub, state["assignedHub"], "{id}");
        assert!(record.twin.desired.contains_key("state"), "{id}: {:?}", record.twin);
    }
    restarts.sort_unstable();
    let (median, longest) = (restarts[restarts.len() / 2], restarts.last().unwrap());
    println!(
        "{kills} kills: {operations} operations, {devices} devices and {enrollments} changes of enrollments checked; \
         a restart took {median:?}, at most {longest:?}"
    );
    assert!(operations > kills, "{operations} operations in {kills} lives");
}

/// If the disk is full, a change is answered with 500, and memory and disk do not change.
#[test]
fn a_full_disk_refuses_changes_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    Running::start(&folder).program.end("-TERM");
    let length = fs::metadata(folder.join("emulator.redb")).unwrap().len();
    let mut limited = Running::with_limit(&folder, length + 64 * 1024);
    let client = client();
    let body = |id: usize| {
        let twin = json!({ "tags": { "text": "x".repeat(4000) } });
        json!({ "registrationId": id.to_string(), "attestation": { "type": "symmetricKey" }, "initialTwin": twin })
    };
    let put = |running: &Running, id| service(&client, &running.url).put(&format!("/enrollments/{id}"), &body(id));
    let get = |running: &Running, id| service(&client, &running.url).get(&format!("/enrollments/{id}"));
    let mut there = Vec::new();
    let refused = loop {
        let id = there.len();
        assert!(id < 5000, "the disk did not get full");
        match put(&limited, id) {
            (200, enrollment) => there.push(enrollment["etag"].clone()),
            refused => break refused,
        }
    };
    assert_eq!((refused.0, &refused.1["errorCode"]), (500, &json!(500_000)), "{}", refused.1);
    assert!(there.len() > 5, "{}", there.len());
    let check = |running: &Running| {
        for (id, etag) in there.iter().enumerate() {
            let (status, enrollment) = get(running, id);
            assert_eq!((status, &enrollment["etag"]), (200, etag), "{id}");
        }
        assert_eq!(get(running, there.len()).0, 404);
    };
    check(&limited);
    // Changes are rejected until the emulator starts again.
    assert_eq!(put(&limited, there.len()).0, 500);
    let outcome = loop {
        let outcome = limited.program.json()["request"]["outcome"].as_str().unwrap_or_default().to_owned();
        if outcome.starts_with("500000") {
            break outcome;
        }
    };
    assert!(outcome.contains("data cannot be written"), "{outcome}");
    limited.program.end("-KILL");

    let running = Running::start(&folder);
    check(&running);
    assert_eq!(put(&running, there.len()).0, 200);
}
