//! The compiled example `mqtt_rumqttc` with the emulator over TLS.

#[path = "../emulator/tests/support/program.rs"]
mod program;
#[path = "support/programs.rs"]
mod programs;
#[path = "../examples/mqtt_rumqttc/session.rs"]
mod session;
mod support;

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use azure_dps::{
    Error, GroupKey, RegistrationId, RetryPolicy,
    error::{BufferTooSmall, TransportError},
    provisioning::Endpoint,
};
use azure_dps_emulator::{Config, Emulator, Operation, Script};
use programs::{example, output_of};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use support::{ASSIGNING, GROUP_KEY, HEAT_PUMP, HEAT_PUMPS_HUB, TOASTER, TOASTERS_HUB, toaster, toaster_key};

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
            .args([address.as_str(), file.to_str().unwrap(), id, &address])
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
    for (id, hub, twin) in [
        (TOASTER, TOASTERS_HUB, r#"{"state":"ready","darknessSetting":"medium","$version":1}"#),
        (HEAT_PUMP, HEAT_PUMPS_HUB, r#"{"state":"on","temperatureSetting":"65","$version":1}"#),
    ] {
        let output = run(&emulator, emulator.ca_pem(), id, &derived(id));
        let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{errors}");
        assert!(text.starts_with(&format!("{hub} {id}\n")), "{text}");
        assert!(text.contains(&format!("user name {hub}/{id}/?api-version=")), "{text}");
        assert!(text.ends_with(&format!("\nThe twin: {twin}\n")), "{text}");
        assert_eq!(emulator.device(id).unwrap().assigned_hub, hub);
    }
    emulator.update(|config| config.behaviour.unavailable_hubs.push(TOASTERS_HUB.to_owned()));
    let output = run(&emulator, emulator.ca_pem(), TOASTER, &derived(TOASTER));
    refused(output, "the hub answered CONNECT with 3: Refused(503)");
}

#[test]
fn a_rejection_has_its_reason() {
    let emulator = start();
    refused(run(&emulator, emulator.ca_pem(), TOASTER, &derived(HEAT_PUMP)), "401000");
    refused(
        run(&emulator, emulator.ca_pem(), "contoso-unknown-1", &derived("contoso-unknown-1")),
        "see the webhook's log: Custom allocation failed with status code: 400",
    );
    let other = start();
    refused(run(&emulator, other.ca_pem(), TOASTER, &derived(TOASTER)), "did not prove");
    // The program ends at once if the service rejects CONNECT.
    emulator.script(Script::connack(5));
    refused(run(&emulator, emulator.ca_pem(), TOASTER, &derived(TOASTER)), "HTTP status 401");
}

#[test]
fn a_broken_session_is_opened_again() {
    let emulator = start();
    emulator.script(Script::drop_connection(Operation::Status));
    let output = run(&emulator, emulator.ca_pem(), TOASTER, &derived(TOASTER));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("the session broke: "), "{errors}");
}

/// Returns a PUBLISH with this quality of service.
fn publish(qos: u8, topic: &str, body: &[u8]) -> Vec<u8> {
    let id: &[u8] = if qos > 0 { &[0, 1] } else { &[] };
    let content = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes(), id, body].concat();
    let length = [content.len(), content.len() >> 7, content.len() >> 14].map(|bits| bits as u8 & 0x7f);
    [&[0x30 | qos << 1, length[0] | 0x80, length[1] | 0x80, length[2]][..], &content].concat()
}

/// When a server starts to send without end.
#[derive(Clone, Copy, PartialEq)]
enum Once {
    Subscribed,
    Asked,
    /// Directly after an answer.
    Answered,
}

/// Runs a session in which the server sends these packets again and again, and counts them.
fn flood(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    once: Once,
    packets: &[u8],
    floods: &AtomicUsize,
) -> io::Result<()> {
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, socket);
    let mut received = [0; 4096];
    loop {
        let length = stream.read(&mut received)?;
        match received[0] & 0xf0 {
            _ if length == 0 => return Ok(()),
            0x10 => stream.write_all(&[0x20, 2, 0, 0])?,
            0x80 if once != Once::Subscribed => stream.write_all(&[0x90, 3, 0, 1, 1])?,
            0x30 if once == Once::Answered => {
                let text = String::from_utf8_lossy(&received[..length]);
                let id = text.split_once("$rid=").map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit));
                stream.write_all(&answer(id.unwrap().collect::<String>().parse().unwrap()))?;
                break;
            }
            0x80 | 0x30 => break,
            _ => {}
        }
    }
    loop {
        // The peer does not read the client's answers.
        stream.write_all(packets)?;
        floods.fetch_add(1, Ordering::Relaxed);
    }
}

fn answer(id: u16) -> Vec<u8> {
    publish(0, &format!("$dps/registrations/res/202/?$rid={id}"), ASSIGNING.as_bytes())
}

/// An endless stream of packets neither delays the request's time-out nor fills the memory.
#[test]
fn endless_packets_time_out() {
    const STALLED: Error = Error::Transport(TransportError::Stalled);
    const BROKEN: Error = Error::Transport(TransportError::Stream);
    const TOO_LARGE: Error = Error::BufferTooSmall(BufferTooSmall::at_least((300 << 10) + 3));
    let issued = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let certificate = CertificateDer::from(issued.cert);
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key);
    let server = Arc::new(server.unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());

    let others = || publish(0, "x", b"{}").repeat(1000);
    let floods = [
        ("other topics", Once::Subscribed, others(), STALLED),
        ("other topics", Once::Asked, others(), STALLED),
        // The run waits and polls again.
        ("other topics", Once::Answered, others(), STALLED),
        ("to be acknowledged", Once::Asked, publish(1, "x", b"{}").repeat(1000), STALLED),
        ("to be received once", Once::Asked, publish(2, "x", b"{}").repeat(1000), STALLED),
        ("answers to other requests", Once::Asked, [answer(0), answer(9999)].concat().repeat(100), STALLED),
        ("answers to pings", Once::Asked, [0xd0, 0].repeat(1000), STALLED),
        ("large", Once::Asked, publish(1, "x", &[0; 200 << 10]), STALLED),
        ("too large", Once::Asked, publish(0, "x", &[0; 300 << 10]), TOO_LARGE),
        ("acknowledgements of nothing", Once::Asked, [0x40, 2, 0, 99].repeat(1000), BROKEN),
    ];
    thread::scope(|scope| {
        for (name, once, packets, expected) in floods {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
            let (server, client) = (Arc::clone(&server), &client);
            let count = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&count);
            // The thread ends with the process.
            thread::spawn(move || {
                for socket in listener.incoming() {
                    // Ends when the client closes the connection.
                    let _ = flood(socket.unwrap(), Arc::clone(&server), once, &packets, &counter);
                }
            });
            scope.spawn(move || {
                let mut key = toaster_key();
                // An invalid packet fails at once.
                let timeout = Duration::from_secs(if expected == STALLED { 1 } else { 9 });
                let policy = RetryPolicy::new().with_request_timeout(timeout).with_max_retries(0);
                let policy = policy.with_poll_interval(Duration::from_millis(200));
                let mut provisioning =
                    toaster().with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
                let begun = Instant::now();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let answer = runtime.block_on(session::provision(
                    &mut provisioning,
                    &mut key,
                    client,
                    256 << 10,
                    &mut |_| {},
                    &mut |_| (),
                ));
                let took = begun.elapsed();
                assert_eq!(provisioning.result(&answer).unwrap_err(), expected, "{name}");
                assert!(took < Duration::from_secs(10), "{name}: {took:?}");
                // A large packet fails before it is complete.
                assert!(
                    matches!(expected, BROKEN | TOO_LARGE) || count.load(Ordering::Relaxed) > 0,
                    "{name}: no flood"
                );
            });
        }
    });
    // The ten sessions and their servers need about 20 MB together.
    #[cfg(target_os = "linux")]
    {
        let peak = program::peak_memory("self");
        assert!(peak < 128 << 20, "{peak}");
    }
}
