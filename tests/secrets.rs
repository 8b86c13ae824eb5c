//! Keys cannot be copied, compared or printed, and no output contains a key.

#[path = "support/network.rs"]
mod network;
#[path = "../emulator/tests/support/program.rs"]
mod program;
#[path = "support/programs.rs"]
mod programs;
mod support;

use std::fmt::{Debug, Display};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use azure_dps::{
    Attestation, DeviceKey, GroupKey, Provisioning,
    after::{Reprovisioning, ReprovisioningPolicy},
    identity::{InvalidKey, Sign, SignError},
    provisioning::Endpoint,
};
use azure_dps_emulator::{Config, Emulator, IndividualEnrollment, SymmetricKey};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use network::{TRANSPORTS, Transport, run};
use program::Program;
use proptest::prelude::*;
use support::{GROUP_KEY, PAYLOAD, TOASTER, TOASTER_KEY, TOASTERS_HUB, registration};

/// Tells whether a type implements a trait. An inherent constant takes precedence over a constant of a trait.
macro_rules! implements {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "where it is implemented")]
        trait Otherwise {
            const IT_DOES: bool = false;
        }
        impl<T> Otherwise for T {}
        struct Asked<T>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "where it is not implemented")]
        impl<T: $($bound)+> Asked<T> {
            const IT_DOES: bool = true;
        }
        Asked::<$type>::IT_DOES
    }};
}

#[test]
fn a_key_cannot_be_printed_compared_copied_or_serialized() {
    macro_rules! neither_key {
        ($($bound:tt)+) => {
            assert!(!implements!(GroupKey: $($bound)+), "a group key");
            assert!(!implements!(DeviceKey: $($bound)+), "a device key");
        };
    }
    neither_key!(Display);
    neither_key!(std::fmt::LowerHex);
    // A copy would be in memory that is not wiped.
    neither_key!(Copy);
    neither_key!(AsRef<[u8]>);
    neither_key!(std::ops::Deref);
    neither_key!(Into<Vec<u8>>);
    // A comparison would take a time that depends on the first difference.
    neither_key!(PartialEq);
    neither_key!(PartialOrd);
    neither_key!(std::hash::Hash);
    neither_key!(serde::Serialize);
    neither_key!(serde::de::DeserializeOwned);
    // Shows that the check can fail.
    assert!(implements!(DeviceKey: Debug) && implements!(GroupKey: Clone) && implements!(InvalidKey: Display + Copy));
}

#[test]
fn a_group_key_cannot_sign() {
    assert!(!implements!(GroupKey: Sign));
    assert!(implements!(DeviceKey: Sign));
}

#[test]
fn types_with_a_signature_have_no_debug() {
    assert!(!implements!(Provisioning<'static>: Debug));
}

/// Returns all forms in which bytes may be printed.
fn shapes(bytes: &[u8]) -> [String; 7] {
    let text = STANDARD.encode(bytes);
    let escaped = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    [
        escaped.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
        escaped,
        text.trim_end_matches('=').to_owned(),
        URL_SAFE.encode(bytes),
        hex.to_uppercase(),
        hex,
        list[1..list.len() - 1].to_owned(),
    ]
}

/// Returns the secrets that a text contains.
fn found(shown: &str, secrets: &[Vec<u8>]) -> Option<String> {
    secrets.iter().flat_map(|secret| shapes(secret)).find(|shape| shown.contains(shape))
}

#[track_caller]
fn hidden(shown: &str, secrets: &[Vec<u8>]) {
    assert_eq!(found(shown, secrets), None);
}

fn service(group_key: &str, device_key: &str) -> Config {
    let mut config = Config::contoso();
    config.enrollment_groups[0].primary_key = SymmetricKey::from_base64(group_key).unwrap();
    config.individual_enrollments.push(IndividualEnrollment {
        primary_key: SymmetricKey::from_base64(device_key).unwrap(),
        ..IndividualEnrollment::default()
    });
    config
}

proptest! {
    #[test]
    fn debug_hides_any_key(key in prop::collection::vec(any::<u8>(), 16..=64), at: prop::sample::Index) {
        let text = STANDARD.encode(&key);
        let group_key = GroupKey::from_base64(&text);
        let device_key = group_key.clone().unwrap().derive(&registration(TOASTER).registration_id());
        let derived = STANDARD.decode(device_key.write_base64(&mut [0; 44]).unwrap()).unwrap();
        // One character is not base64.
        let mut broken = text.clone().into_bytes();
        broken[at.index(text.len())] = b'!';
        let broken = String::from_utf8(broken).unwrap();
        let refused = SymmetricKey::from_base64(&broken).unwrap_err();
        let life = Reprovisioning::new(
            registration(TOASTER).registration_id(),
            ReprovisioningPolicy::new(),
            Err(azure_dps::error::RecordError::Absent),
        );
        let errors = [GroupKey::from_base64(&broken).unwrap_err(), DeviceKey::from_base64(&text[1..]).unwrap_err()];
        let config = service(&text, &text);
        let emulated = SymmetricKey::from_base64(&text);
        let shown = format!("{group_key:?} {device_key:?} {errors:?} {} {}", errors[0], errors[1])
            + &format!("{life:?} {refused:?} {refused} {config:#?} {config:?} {emulated:?}");
        hidden(&shown, &[key, derived]);
        let half = &text[..text.len() / 2];
        prop_assert!(!shown.contains(half), "{half}");
    }
}

/// Signs with the key, and records the signatures.
struct Witness(DeviceKey, Arc<Mutex<Vec<Vec<u8>>>>);

impl Sign for Witness {
    fn sign(&mut self, message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        self.0.sign(message, signature)?;
        self.1.lock().unwrap().push(signature.to_vec());
        Ok(())
    }
}

#[test]
fn no_record_shows_a_key_or_a_signature() {
    let shown = Arc::new(Mutex::new(String::new()));
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    let events = Arc::clone(&shown);
    let emulator = Emulator::builder(config)
        .http("127.0.0.1:0")
        .https("127.0.0.1:0")
        .mqtts("127.0.0.1:0")
        .time_scale(1000.0)
        .observer(move |event| {
            let line = format!("{event:?}\n{}\n", serde_json::to_string(event).unwrap());
            events.lock().unwrap().push_str(&line);
        })
        .start()
        .unwrap();
    let right = DeviceKey::from_base64(TOASTER_KEY).unwrap();
    let wrong_text = STANDARD.encode([0xa7; 48]);
    let wrong = DeviceKey::from_base64(&wrong_text).unwrap();
    let signatures = Arc::default();
    for transport in TRANSPORTS {
        for key in [&right, &wrong] {
            let url = match transport {
                Transport::EmbeddedIoTls | Transport::EmbeddedIoAsyncTls => emulator.https_url().unwrap().into(),
                Transport::MqttTls => emulator.mqtts_url().unwrap().replace("mqtts://", "https://"),
                _ => emulator.http_url().unwrap().to_owned(),
            };
            let mut signer = Witness(key.clone(), Arc::clone(&signatures));
            let registration = registration(TOASTER).with_payload(PAYLOAD).unwrap();
            let mut log = Vec::new();
            let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key())
                .with_endpoint(Endpoint::parse(&url).unwrap());
            let mut buffer = [0; 1024];
            let observe = |progress| log.push(progress);
            let run = run(&mut provisioning, &mut signer, transport, emulator.ca_pem().into(), &mut buffer, observe);
            assert!(!log.is_empty(), "{transport:?}");
            let result = run.and_then(|()| provisioning.result(&buffer));
            assert_eq!(result.is_ok(), std::ptr::eq(key, &raw const right), "{transport:?}: {result:?}");
            let line = match &result {
                Ok(assignment) => format!("{assignment:?} {:?}", assignment.hub()),
                Err(error) => format!("{error:?} {error}"),
            };
            shown.lock().unwrap().push_str(&format!("{line} {log:?}\n"));
        }
    }
    let requests = emulator.requests();
    let lines: String = requests.iter().map(|request| format!("{request} {request:?}\n")).collect();
    let shown = format!("{}{lines}{emulator:?} {:?}", shown.lock().unwrap(), emulator.webhook_calls());

    let mut secrets = signatures.lock().unwrap().clone();
    assert!(secrets.len() >= 2 * TRANSPORTS.len() && requests.len() > secrets.len());
    for key in [GROUP_KEY, TOASTER_KEY, &wrong_text] {
        secrets.push(STANDARD.decode(key).unwrap());
    }
    hidden(&shown, &secrets);
    for word in ["SharedAccessSignature", "sig="] {
        assert!(!shown.contains(word), "{word}");
    }
}

#[test]
fn an_error_in_a_configuration_does_not_quote_a_key() {
    let text = |key: &str| {
        format!(
            "id_scope = \"0ne00002193\"\n[[enrollment_groups]]\nenrollment_group_id = \"g\"\nprimary_key = \"{key}\"\n"
        )
    };
    let key = &TOASTER_KEY[..40];
    // Invalid base64, a string without an end, an unknown name, and a duplicate key.
    for toml in [
        text(&format!("{key}!!!")),
        text(key).replace(&format!("{key}\""), key),
        text(TOASTER_KEY).replace("primary_key", "primry_key"),
        format!("{}primary_key = \"{TOASTER_KEY}\"\n", text(TOASTER_KEY)),
    ] {
        let error = Config::from_toml(&toml).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&key[..20]), "{error}");
    }
}

/// The emulator, its output, and the files that it writes.
struct Service {
    program: Program,
    said: String,
    files: tempfile::TempDir,
}

impl Service {
    fn start(arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut command = Command::new(programs::dps_emulator());
        command.args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--mqtts", "127.0.0.1:0"]);
        command.args(["--function-log", "--retry-after", "1", "--ca-out"]).arg(files.path().join("ca.pem"));
        command.arg("--issuing-ca-out").arg(files.path().join("issuing-ca.pem")).args(arguments);
        Self { program: Program::start(command.env("RUST_LOG", "trace")), said: String::new(), files }
    }

    /// Returns host and port of the next listener.
    fn address(&mut self) -> String {
        let line = self.program.line();
        self.said.push_str(&line);
        let (_, address) = line.split_once("://").unwrap();
        address.split(['"', '/']).next().unwrap().to_owned()
    }

    /// Stops the program and returns its output.
    fn end(self) -> String {
        let (status, rest) = self.program.end("-TERM");
        assert!(status.success());
        self.said + &rest + &contents(&self.files)
    }
}

fn contents(directory: &tempfile::TempDir) -> String {
    let files = fs::read_dir(directory).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
    files.map(|file| String::from_utf8_lossy(&file).into_owned()).collect()
}

/// Starts a listener that records everything that clients send to this address.
fn eavesdropper(address: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let (ear, service) = (Arc::clone(&heard), address.to_owned());
    // The thread ends with the process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut service = TcpStream::connect(&service).unwrap();
            let (mut answers, mut back) = (service.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut answers, &mut back);
                back.shutdown(Shutdown::Both)
            });
            let ear = Arc::clone(&ear);
            thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut piece) {
                    ear.lock().unwrap().extend(&piece[..length]);
                    if service.write_all(&piece[..length]).is_err() {
                        break;
                    }
                }
                service.shutdown(Shutdown::Both)
            });
        }
    });
    (url, heard)
}

/// Returns the signatures of the tokens that were sent.
fn signatures(heard: &str) -> Vec<Vec<u8>> {
    let texts = heard.split("&sig=").skip(1).map(|rest| rest.split('&').next().unwrap());
    let unescaped = texts.map(|text| text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="));
    unescaped.map(|text| STANDARD.decode(&text).unwrap_or_else(|_| panic!("{text} is not a signature"))).collect()
}

/// Runs the compiled gateway and emulator. No output and no file that they write contains a key or a signature.
/// Signatures sent over TLS are found by the text before them.
#[test]
fn no_program_shows_a_key_or_a_signature() {
    thread::scope(|scope| {
        scope.spawn(|| programs_that_hide_secrets(&["--json"]));
        scope.spawn(|| programs_that_hide_secrets(&["--throttle-webhook-every", "2", "--time-scale", "100"]));
    });
}

fn programs_that_hide_secrets(arguments: &[&str]) {
    const WRONG_KEY: &str = "p6enp6enp6enp6enp6enp6enp6enp6enp6enp6enp6c=";
    let keys = [GROUP_KEY, TOASTER_KEY, WRONG_KEY].map(|key| STANDARD.decode(key).unwrap());
    let mut service = Service::start(arguments);
    let [http, https, mqtts] = [(); 3].map(|()| service.address());
    let (url, heard) = eavesdropper(&http);
    let ca = service.files.path().join("ca.pem").to_str().unwrap().to_owned();
    let files = tempfile::tempdir().unwrap();
    let gateway = |key: &str, how: &[&str]| {
        let mut command = Command::new(programs::example("gateway"));
        command.args(["--id-scope", support::SCOPE, "--registration-id", TOASTER, "--payload", PAYLOAD]).args(how);
        command.env("AZURE_DPS_SYMMETRIC_KEY", key).env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        let output = programs::output_of(&mut command);
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
    };
    let https = format!("https://{https}");
    let [plain, secured, mqtt] = [&url, &https, &mqtts].map(|host| ["--host", host.as_str()]);
    let record = files.path().join("record");
    let over_tls = [&secured[..], &["--ca", &ca, "--json"]].concat();
    let over_mqtt = [&mqtt[..], &["--ca", &ca, "--transport", "mqtt"]].concat();
    let mut said = Vec::new();
    thread::scope(|scope| {
        let runs = [
            (GROUP_KEY, [&plain[..], &["--compute-key", "--record", record.to_str().unwrap()]].concat()),
            (TOASTER_KEY, over_tls),
            (TOASTER_KEY, over_mqtt.clone()),
            (WRONG_KEY, plain.to_vec()),
            (WRONG_KEY, over_mqtt),
            // A port without a listener.
            (TOASTER_KEY, vec!["--host", "http://127.0.0.1:1", "--timeout", "9"]),
            (TOASTER_KEY, [&plain[..], &["--connection-string"]].concat()),
        ];
        let runs = runs.map(|(key, how)| scope.spawn(move || gateway(key, &how)));
        said.extend(runs.map(|run| run.join().unwrap()));
    });
    let wanted = said.pop().unwrap();
    for (said, word) in said.iter().zip([TOASTERS_HUB, TOASTERS_HUB, TOASTERS_HUB, "401002", "401000", "Retrying "]) {
        assert!(said.contains(word), "{said}");
    }
    let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
    let secrets = [&keys[..], &signatures(&heard)].concat();
    assert!(secrets.len() > keys.len() + 3);
    // Shows that the search works: it finds the key in its file, and the tokens on the wire.
    assert_eq!(found(&wanted, &keys).as_deref(), Some(TOASTER_KEY.trim_end_matches('=')));
    assert!(found(&heard, &secrets[keys.len()..]).is_some());

    // The emulator prints this public key at start.
    let well_known = format!(
        "SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={}",
        azure_dps_emulator::WELL_KNOWN_SERVICE_KEY
    );
    let said_by_service = service.end();
    assert_eq!(said_by_service.matches(&well_known).count(), 1);
    let shown = said_by_service.replace(&well_known, "") + &said.concat() + &contents(&files);
    assert!(shown.contains("202") && shown.contains("BEGIN CERTIFICATE") && shown.contains("Request.Body"));
    hidden(&shown, &secrets);
    for word in ["SharedAccess", "sig=", "sig%3D"] {
        assert!(!shown.contains(word), "{word}");
    }
}
