//! Load and abuse: slow clients, oversized requests, idle connections, and webhooks that hang or answer garbage.
//! Well-behaved devices are served, memory is limited, and the emulator stops at once.

mod support;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    num::NonZeroU32,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use azure_dps_emulator::{
    Allocation, AllocationPolicy, Config, Emulator, EnrollmentGroup, IndividualEnrollment, Operation, Script,
    SymmetricKey,
};
use serde_json::json;
use support::*;

/// Longer than anything here takes on a busy machine.
const TOO_LONG: Duration = Duration::from_secs(30);

/// A raw connection.
fn connect(url: &str) -> TcpStream {
    let authority = url.split_once("://").unwrap().1;
    let stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(TOO_LONG)).unwrap();
    stream.set_write_timeout(Some(TOO_LONG)).unwrap();
    stream
}

/// Returns what arrives until the connection is closed. It must be closed.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("still open after {TOO_LONG:?}")
        }
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// A look-up without credentials. Its answer does not matter.
fn look_up(url: &str) -> String {
    let stream = connect(url);
    write!(
        &stream,
        "POST /{SCOPE}/registrations/{TOASTER}{VERSION} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: 2\r\n\r\n{{}}"
    )
    .unwrap();
    rest(&stream)
}

/// A device that needs no webhook.
const LOCK: &str = "front-door-lock";

fn with_lock(mut config: Config) -> Config {
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: LOCK.into(),
        primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
        allocation: Allocation { policy: AllocationPolicy::Static, ..Allocation::default() },
        ..IndividualEnrollment::default()
    });
    config
}

/// Starts a webhook that handles each connection with `serve`.
fn webhook_that(misbehaves: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for call in listener.incoming() {
            let misbehaves = misbehaves.clone();
            thread::spawn(move || misbehaves(call.unwrap()));
        }
    });
    url
}

// ---- Faults at a rate ----

/// "drop_every": the request is processed but not answered. Exactly every n-th answer is lost, of all devices
/// together.
#[test]
fn every_third_answer_is_lost() {
    let emulator = changed(|config| config.behaviour.drop_every = NonZeroU32::new(3));
    let answered: Vec<bool> = (0..9).map(|_| !look_up(emulator.http_url().unwrap()).is_empty()).collect();
    assert_eq!(answered, [true, true, false].repeat(3));
    let told: Vec<bool> = emulator.requests().iter().map(|request| request.http_status.is_some()).collect();
    assert_eq!(told, answered);
    // A script takes precedence, and its request counts like any other.
    for lost in [false, false, true] {
        emulator.script(Script::respond(Operation::Lookup, 503, &[], ""));
        let answer = look_up(emulator.http_url().unwrap());
        assert!(answer.starts_with("HTTP/1.1 503") || lost && answer.is_empty(), "{answer}");
    }
}

/// A request is processed although its answer is lost. The device registers again, and the two registrations lead to
/// one assignment.
#[test]
fn a_registration_with_a_lost_answer_is_valid() {
    let emulator = changed(|config| config.behaviour.drop_every = NonZeroU32::new(1));
    let toaster = Device::of_group(&emulator, TOASTER);
    let lost = toaster
        .request(reqwest::Method::PUT, &format!("{}/register{VERSION}", toaster.path()))
        .header("Content-Type", "application/json")
        .body(toaster.registration().to_string())
        .send();
    assert!(lost.is_err());
    emulator.update(|config| config.behaviour.drop_every = None);
    toaster.assigned();
    let registered = emulator.requests().iter().filter(|request| request.method == "PUT").count();
    let record = emulator.device(TOASTER).unwrap();
    // The client may retry on its own if the connection closes before any byte. A registration that is replaced while
    // it runs assigns nothing.
    assert!((1..=registered).contains(&(record.registrations as usize)), "{record:?}");
    assert_eq!(record.assigned_hub, TOASTERS_HUB);
}

/// "throttle_every": the service retries, and every device is assigned.
#[test]
fn every_second_call_of_the_webhook_is_throttled() {
    let emulator = changed(|config| config.contoso.throttle_every = NonZeroU32::new(2));
    for number in 1..=4 {
        Device::of_group(&emulator, &format!("{number}-contoso-tstrsd-007")).assigned();
    }
    let statuses: Vec<u16> = emulator.webhook_calls().iter().filter_map(|call| call.status).collect();
    assert_eq!(statuses, [200, 429, 200, 429, 200, 429, 200]);
}

// ---- Slow clients ----

/// "client_timeout" limits a handshake, the head and body of a request and MQTT's CONNECT, even if bytes arrive
/// slowly. It also limits connections that send nothing.
#[test]
fn a_slow_client_is_disconnected_and_delays_nobody() {
    let mut config = Config::contoso();
    config.behaviour.client_timeout = 0.5;
    let emulator = builder(config)
        .http("127.0.0.1:0")
        .https("127.0.0.1:0")
        .mqtt("127.0.0.1:0")
        .mqtts("127.0.0.1:0")
        .start()
        .unwrap();
    let head = format!("PUT /{SCOPE}/registrations/{TOASTER}/register{VERSION} HTTP/1.1\r\nHost: x\r\n");
    let body = format!("{head}Content-Length: 1000\r\n\r\n");
    // The listener, what is sent at once, and what is sent slowly.
    let slow: [(&str, &[u8], &[u8]); 8] = [
        (emulator.http_url().unwrap(), b"", b""),
        (emulator.http_url().unwrap(), head.as_bytes(), b"x"),
        (emulator.http_url().unwrap(), body.as_bytes(), b" "),
        (emulator.https_url().unwrap(), b"", b""),
        (emulator.https_url().unwrap(), &[22, 3, 1, 2, 0], &[1]),
        (emulator.mqtt_url().unwrap(), b"", b""),
        (emulator.mqtt_url().unwrap(), &[0x10, 0xff, 0x7f], &[0]),
        (emulator.mqtts_url().unwrap(), &[22, 3, 1, 2, 0], &[1]),
    ];
    thread::scope(|scope| {
        for (url, at_once, dripping) in slow {
            scope.spawn(move || {
                let mut stream = connect(url);
                stream.write_all(at_once).unwrap();
                let started = Instant::now();
                // Until the connection is closed and the client sees it.
                while !dripping.is_empty() && stream.write_all(dripping).is_ok() {
                    assert!(started.elapsed() < TOO_LONG, "{url} still accepts {dripping:?} after {at_once:?}");
                    thread::sleep(Duration::from_millis(5));
                }
                rest(&stream);
            });
        }
        Device::of_group(&emulator, TOASTER).assigned();
    });
    let late = emulator.requests().into_iter().find(|request| request.http_status == Some(408)).unwrap();
    assert_eq!(late.registration_id.as_deref(), Some(TOASTER));
}

/// An answer is not kept for a client that does not read it.
#[test]
fn a_client_that_does_not_read_is_closed() {
    let mut config = Config::contoso();
    config.behaviour.client_timeout = 0.5;
    let emulator = builder(config).start().unwrap();
    // More than the buffers of the system hold on both sides.
    emulator.script(Script::respond(Operation::Lookup, 200, &[], "x".repeat(32 << 20)));
    let mut stream = connect(emulator.http_url().unwrap());
    write!(stream, "POST /{SCOPE}/registrations/{TOASTER}{VERSION} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let started = Instant::now();
    while stream.write_all(b"\r\n").is_ok() {
        assert!(started.elapsed() < TOO_LONG, "still open");
        thread::sleep(Duration::from_millis(5));
    }
}

// ---- Oversized requests ----

/// A head of more than 32 KB or of more than 100 fields is rejected before it is read completely. A body of more than
/// 96 KB is rejected when the limit is reached. Neither is kept.
#[test]
fn oversized_requests_are_refused_and_not_kept() {
    let emulator = contoso();
    let ask = |fields: &str, body: &str| {
        let mut stream = connect(emulator.http_url().unwrap());
        let path = format!("/{SCOPE}/registrations/{TOASTER}/register{VERSION}");
        let length = body.len();
        let head =
            format!("PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n");
        // The connection may be closed before all bytes are written.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        rest(&stream).chars().take(12).collect::<String>()
    };
    assert_eq!(ask("X: y\r\n", "{}"), "HTTP/1.1 401");
    assert_eq!(emulator.requests().len(), 1);
    assert_eq!(ask(&format!("X: {}\r\n", "y".repeat(100 << 10)), "{}"), "HTTP/1.1 431");
    assert_eq!(ask(&"X: y\r\n".repeat(101), "{}"), "HTTP/1.1 431");
    assert_eq!(emulator.requests().len(), 1, "a rejected head was recorded");
    assert_eq!(ask("", &"x".repeat((96 << 10) + 1)), "HTTP/1.1 413");
    // The rest is read only for a while, so the answer may be lost.
    ask("", &"x".repeat(32 * (96 << 10)));
    let [_, requests @ ..] = &emulator.requests()[..] else { panic!() };
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.http_status == Some(413) && request.body.is_empty()));
    Device::of_group(&emulator, TOASTER).assigned();
}

// ---- Crowds ----

/// Connections without requests, half of them without a TLS handshake, do not keep a device out.
#[test]
fn a_device_gets_past_1500_idle_connections() {
    // Both ends of the connections are in this process. If the system allows fewer files, there are fewer
    // connections.
    #[cfg(unix)]
    let files = rlimit::increase_nofile_limit(4096).unwrap();
    #[cfg(not(unix))]
    let files = 4096;
    let idle = 750.min(usize::try_from(files).unwrap() / 8);
    let emulator = builder(Config::contoso()).http("127.0.0.1:0").https("127.0.0.1:0").start().unwrap();
    let https = emulator.https_url().unwrap();
    let crowd: Vec<_> = (0..idle).flat_map(|_| [connect(emulator.http_url().unwrap()), connect(https)]).collect();
    Device::of_group(&emulator, TOASTER).assigned();
    let mut secured = Device::of_group(&emulator, HEAT_PUMP);
    (secured.client, secured.url) = (tls_client(&emulator, None).build().unwrap(), https.to_owned());
    secured.assigned();
    stops_at_once(emulator);
    for stream in &crowd {
        assert_eq!(rest(stream), "");
    }
}

/// Connections beyond the limit wait, the log says so once, and all are served in the end. Files for webhook calls
/// stay free.
#[test]
#[cfg(unix)]
fn connections_beyond_the_limit_wait_and_are_logged() {
    let program = env!("CARGO_BIN_EXE_dps-emulator");
    // The limit is half of the open files.
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -n 64 && exec '{program}'")])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.next().unwrap().strip_prefix("listening on ").unwrap().to_owned();
    let crowd: Vec<_> = (0..40).map(|_| connect(&url)).collect();
    let noted = lines.find(|line| line.contains("limit")).unwrap();
    assert!(noted.contains("32 connections"), "{noted}");
    let device = thread::spawn(move || {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Device {
            client: reqwest::blocking::Client::builder().no_proxy().build().unwrap(),
            url,
            registration_id: TOASTER.into(),
            key: derive(GROUP_KEY, TOASTER),
            payload: None,
        }
        .assigned()
    });
    drop(crowd);
    assert_eq!(device.join().unwrap()["assignedHub"], TOASTERS_HUB);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!lines.any(|line| line.contains("limit")));
}

/// A hundred devices at the same time, with a fifth of the webhook's calls throttled: each device gets its own
/// assignment.
#[test]
fn a_hundred_devices_at_once_are_all_assigned() {
    let emulator = changed(|config| config.contoso.throttle_every = NonZeroU32::new(5));
    let ids: Vec<String> =
        (0..100).map(|number| format!("{number}-contoso-{}", ["tstrsd-007", "hpsd-088"][number % 2])).collect();
    thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| Device::of_group(&emulator, id).assigned());
        }
    });
    for (number, id) in ids.iter().enumerate() {
        let record = emulator.device(id).unwrap();
        assert_eq!(
            (record.assigned_hub.as_str(), record.device_id),
            ([TOASTERS_HUB, HEATPUMPS_HUB][number % 2], id.clone())
        );
        assert_eq!(record.registrations, 1);
    }
}

// ---- Webhooks ----

/// A webhook that hangs fails only the devices that need it.
#[test]
fn a_webhook_that_hangs_delays_only_its_own_devices() {
    let url = webhook_that(|call| {
        // Until the other side has had enough.
        let _ = (&call).read_to_end(&mut Vec::new());
    });
    let mut config = with_lock(Config::contoso());
    config.behaviour.webhook_timeout = 0.5;
    let emulator = builder(config).webhook(url).start().unwrap();
    thread::scope(|scope| {
        for number in 0..50 {
            let emulator = &emulator;
            scope.spawn(move || {
                let failed = Device::of_group(emulator, &format!("{number}-contoso-tstrsd-007")).failed();
                assert_eq!(failed, (400_207, "Custom allocation failed: the webhook did not answer in time".into()));
            });
        }
        Device::new(&emulator, LOCK, OTHER_KEY).assigned();
    });
    assert_eq!(emulator.webhook_calls().len(), 50);
}

/// Any wrong answer of a webhook fails the registration, and only a part of the answer is kept.
#[test]
fn a_webhook_that_answers_garbage_fails_its_device_only() {
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let garbage: [(&str, &str); 7] = [
        ("", ""),
        ("\0\u{1}\u{2}garbage, and no HTTP at all\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"iotHubHostName\":", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\u{fffd}\u{fffd}", ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n", ""),
        // Heads and bodies that never end.
        (ENDLESS, "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["),
    ];
    for (first, again) in garbage {
        let url = webhook_that(move |mut call| {
            read_call(&call);
            let _ = call.write_all(first.as_bytes());
            while !again.is_empty() && call.write_all(again.repeat(64).as_bytes()).is_ok() {}
        });
        let emulator = builder(with_lock(Config::contoso())).webhook(url).start().unwrap();
        assert_eq!(Device::of_group(&emulator, TOASTER).failed().0, 400_207, "{first:?}");
        Device::new(&emulator, LOCK, OTHER_KEY).assigned();
        let calls = emulator.webhook_calls();
        assert_eq!(calls.len(), 1, "{first:?}");
        assert!(calls[0].response_body.len() <= 192 << 10);
    }
}

/// The sum of the twins that webhooks return is limited. A device whose twin does not fit gets no hub. A device with
/// a smaller twin does.
#[test]
fn twins_beyond_the_bound_fail_their_devices() {
    // Empty lists count nothing in the limits of the hub. As a tree, this twin takes about 4 MB.
    let tags = json!({ "list": vec![json!([]); 60_000] });
    let (url, _) = webhook(usize::MAX, move |request| {
        let is_large = request["deviceRuntimeContext"]["registrationId"] != TOASTER;
        let tags = if is_large { tags.clone() } else { json!({}) };
        json!({ "iotHubHostName": TOASTERS_HUB, "initialTwin": { "tags": tags } })
    });
    let emulator = builder(Config::contoso()).webhook(url).start().unwrap();
    let failed = (0..100)
        .map(|number| format!("{number}-contoso-tstrsd-007"))
        .find(|id| Device::of_group(&emulator, id).provision()["registrationState"]["errorCode"] == 429_001)
        .expect("no twin was rejected");
    assert!(emulator.device(&failed).is_none());
    assert_eq!(emulator.device("0-contoso-tstrsd-007").unwrap().twin.tags.len(), 1);
    Device::of_group(&emulator, TOASTER).assigned();
}

/// A deeply nested answer does not overflow the stack.
#[test]
fn a_webhook_that_nests_deeply_fails_its_device_only() {
    let deep = format!("{{\"iotHubHostName\":{}", "[".repeat(100_000));
    let emulator = contoso();
    emulator.contoso().unwrap().respond(200, deep);
    assert_eq!(Device::of_group(&emulator, TOASTER).failed().0, 400_207);
    let deep = format!("{{\"payload\":{}", "{\"a\":".repeat(10_000));
    let toaster = Device::of_group(&emulator, TOASTER);
    let path = format!("{}/register{VERSION}", toaster.path());
    let put = toaster.request(reqwest::Method::PUT, &path).header("Content-Type", "application/json").body(deep);
    assert_eq!(put.send().unwrap().status(), 400);
}

// ---- The end ----

fn stops_at_once(emulator: Emulator) {
    let started = Instant::now();
    drop(emulator);
    assert!(started.elapsed() < TOO_LONG / 3, "it took {:?} to stop", started.elapsed());
}

/// Everything at once: a webhook that hangs, devices that wait for it, slow clients, idle clients, and MQTT sessions.
#[test]
fn it_stops_at_once_under_load() {
    let hanging = webhook_that(|call| {
        let _ = (&call).read_to_end(&mut Vec::new());
    });
    let mut config = Config::contoso();
    // An answer that waits for the webhook.
    config.behaviour.result_at_once = true;
    config.enrollment_groups.push(EnrollmentGroup {
        enrollment_group_id: "hashed".into(),
        primary_key: SymmetricKey::from_base64(OTHER_KEY).unwrap(),
        ..EnrollmentGroup::default()
    });
    let emulator =
        builder(config).time_scale(1.0).http("127.0.0.1:0").mqtt("127.0.0.1:0").webhook(hanging).start().unwrap();
    let head = format!("PUT /{SCOPE}/registrations/{TOASTER}/register{VERSION} HTTP/1.1\r\nHost: x\r\n");
    let mut open = Vec::new();
    for (url, said) in [
        (emulator.http_url().unwrap(), ""),
        (emulator.http_url().unwrap(), &head),
        (emulator.mqtt_url().unwrap(), ""),
        (emulator.mqtt_url().unwrap(), "\u{10}"),
    ] {
        for _ in 0..50 {
            let mut stream = connect(url);
            stream.write_all(said.as_bytes()).unwrap();
            open.push(stream);
        }
    }
    for number in 0..50 {
        let id = format!("{number}-contoso-tstrsd-007");
        let body = format!("{{\"registrationId\":\"{id}\"}}");
        let mut stream = connect(emulator.http_url().unwrap());
        write!(
            stream,
            "PUT /{SCOPE}/registrations/{id}/register{VERSION} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            token(&derive(GROUP_KEY, &id), &id),
            body.len(),
        )
        .unwrap();
        open.push(stream);
    }
    // When a later connection is served, the earlier ones are known.
    assert_eq!(Device::new(&emulator, "last", &derive(OTHER_KEY, "last")).put().status(), 200);
    stops_at_once(emulator);
    for stream in &open {
        assert_eq!(rest(stream), "");
    }
}

// ---- The program ----

#[cfg(target_os = "linux")]
mod program {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    };

    use super::{
        support::{
            DPS,
            program::{Program, peak_memory},
        },
        *,
    };

    /// The program with HTTP and HTTPS, and a webhook that never answers.
    struct Service {
        program: Program,
        http: String,
        https: String,
        tls: Arc<ClientConfig>,
        calls: Arc<AtomicUsize>,
    }

    type Connection = StreamOwned<ClientConnection, TcpStream>;

    impl Service {
        fn start() -> Self {
            let calls = Arc::<AtomicUsize>::default();
            let counted = Arc::clone(&calls);
            let webhook = webhook_that(move |call| {
                read_call(&call);
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = (&call).read_to_end(&mut Vec::new());
            });
            let ca = tempfile::NamedTempFile::new().unwrap();
            let mut command = Command::new(DPS);
            command.args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--webhook", &webhook]);
            let mut program = Program::start(command.arg("--ca-out").arg(ca.path()));
            let [http, https] = [(); 2].map(|()| program.line().strip_prefix("listening on ").unwrap().to_owned());
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(ca.path()).unwrap()).unwrap();
            let tls = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
            Self { program, http, https, tls, calls }
        }

        /// Starts this many devices at the same time. All of them wait for the webhook.
        fn crowd(&self, devices: usize) -> Vec<Connection> {
            let before = self.calls.load(Ordering::Relaxed);
            let address = self.https.strip_prefix("https://").unwrap().replace("localhost", "127.0.0.1");
            let register = |number| {
                let tcp = connect(&format!("tcp://{address}"));
                tcp.set_nodelay(true).unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let session = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
                let mut stream = StreamOwned::new(session, tcp);
                let id = format!("{number}-contoso-tstrsd-007");
                let body = format!("{{\"registrationId\":\"{id}\"}}");
                let token = token(&derive(GROUP_KEY, &id), &id);
                write!(
                    stream,
                    "PUT /{SCOPE}/registrations/{id}/register{VERSION} HTTP/1.1\r\nHost: x\r\n\
                     Authorization: {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len(),
                )
                .unwrap();
                let mut status = [0; 12];
                stream.read_exact(&mut status).unwrap();
                assert_eq!(&status, b"HTTP/1.1 202");
                stream
            };
            let crowd = (0..devices).map(register).collect();
            let started = Instant::now();
            while self.calls.load(Ordering::Relaxed) < before + devices {
                assert!(started.elapsed() < TOO_LONG, "{} calls", self.calls.load(Ordering::Relaxed));
                thread::yield_now();
            }
            crowd
        }

        fn peak_memory(&self) -> usize {
            peak_memory(&self.program.child.id().to_string())
        }
    }

    /// A device over TLS takes about 60 KB, and the program itself 20 MB. The limits are twice as high.
    #[test]
    fn memory_for_each_device_that_waits_for_the_webhook_is_limited() {
        let [(few, of_few), (many, of_many)] = [50, 400].map(|devices| {
            let service = Service::start();
            let at_rest = service.peak_memory();
            let crowd = service.crowd(devices);
            let peak = service.peak_memory();
            (peak, (peak - at_rest) / crowd.len())
        });
        assert!(few < 64 << 20 && many < 128 << 20, "{few} bytes for few devices, {many} for many");
        assert!(of_many < 2 * of_few, "{of_few} bytes for each of a few devices, {of_many} for each of many");
    }

    /// "The emulator stops on Ctrl-C and SIGTERM, within five seconds", with exit code 0. "Every request that
    /// was answered is in the log".
    #[test]
    fn a_signal_stops_it_under_load_and_the_log_is_complete() {
        let service = Service::start();
        let crowd = service.crowd(100);
        let answered = AtomicUsize::new(0);
        let http = service.http.clone();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // Until the port is closed.
                    while let Ok(stream) = TcpStream::connect(http.strip_prefix("http://").unwrap()) {
                        let _ = write!(
                            &stream,
                            "POST /{SCOPE}/registrations/stranger{VERSION} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                             Content-Length: 2\r\n\r\n{{}}"
                        );
                        let mut answer = String::new();
                        let _ = (&stream).read_to_string(&mut answer);
                        if answer.ends_with("\r\n0\r\n\r\n") {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let begun = Instant::now();
            while answered.load(Ordering::Relaxed) < 200 {
                assert!(begun.elapsed() < TOO_LONG, "{answered:?} answers");
                thread::yield_now();
            }
            let started = Instant::now();
            let (status, log) = service.program.end("-TERM");
            assert!(started.elapsed() < Duration::from_secs(5), "it took {:?} to stop", started.elapsed());
            assert_eq!(status.code(), Some(0), "{log}");
            assert_eq!(log.matches(" -> 202 assigning").count(), crowd.len());
            // One line may have been on its way.
            let logged = log.lines().filter(|line| line.contains("POST stranger -> ")).count();
            assert!(logged >= answered.load(Ordering::Relaxed), "{logged} of {answered:?}");
            assert!(!log.contains("not printed"), "{log}");
        });
    }
}
