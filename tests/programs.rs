//! Programs as users write them. Each file in `ci/programs/` is one program, and must compile unchanged. Programs for
//! Linux also run here. `bash .ci/run programs` compiles the programs for firmware for a Cortex-M3.
//! `ci/programs/refused.md` lists programs that must not compile.

mod support;
#[path = "../ci/programs"]
mod programs {
    pub mod certificate;
    pub mod const_sizes;
    pub mod device_ids;
    pub mod errors;
    pub mod executors;
    pub mod hub_session;
    pub mod names;
    pub mod one_buffer;
    pub mod outcome;
    pub mod own_mqtt;
    pub mod tpm;
    pub mod two_keys;
}

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::TcpListener,
    rc::Rc,
    thread,
    time::Duration,
};

use azure_dps::{
    Attestation, Error, Provisioning, RegistrationId,
    after::{Hub, HubOutcome},
    error::{ErrorCode, RecordError},
    identity::{KeyChoice, Sign as _, SignError},
};
use programs::*;
use support::*;

fn assigned_answer() -> Vec<u8> {
    http("200 OK", "", ASSIGNED)
}

const REFUSED: &str = r#"{"errorCode":401002,"trackingId":"","message":"Invalid certificate."}"#;
const OTHER_KEY: &str = "mLuX8iKJeTzKlqiDGmQ7zzEDeSxWiBHEsLGmL/BOEmQ=";

#[test]
fn both_arms_of_a_match_read_the_buffer() {
    let outcome = |answer: Vec<u8>| {
        let script = Script::new([vec![Act::Bytes(answer, 1000)]]);
        let clock = script.clock;
        let connect = &mut |_| script.connect();
        outcome::provision(&mut toaster(), &mut toaster_key(), connect, || clock.now(), |wait| clock.advance(wait))
    };
    assert_eq!(outcome(assigned_answer()), format!("{TOASTERS_HUB} {TOASTER}"));
    assert!(outcome(http("401 Unauthorized", "", REFUSED)).ends_with(": Invalid certificate."));
}

#[test]
fn the_crates_names_stay_usable() {
    let script = Script::new([vec![Act::Bytes(b"HTTP".to_vec(), 4)]]);
    assert_eq!(names::first_byte(&mut |_| script.connect(), Duration::from_secs(1)), Some(b'H'));
    assert!(names::is_a_get(&minreq::Method::Get));
    assert!(names::reason(&Error::NotStarted.into()).contains("start"));
}

#[test]
fn ids_are_text_even_with_escapes() {
    let body = ASSIGNED.replace(&format!(r#""deviceId":"{TOASTER}""#), r#""deviceId":"caf\u002b\u0027x""#);
    assert_ne!(body, ASSIGNED);
    let registration = registration(TOASTER);
    let assignment = assigned(&registration, &body).unwrap();
    assert_eq!(device_ids::topic(&assignment), "devices/caf+'x/messages/events/");
    assert_eq!(device_ids::client_id(&assignment.hub()), "caf+'x");
}

#[test]
fn two_keys_are_one_call() {
    let script = Script::new([vec![
        Act::Bytes(http("401 Unauthorized", "", REFUSED), 1000),
        Act::Bytes(assigned_answer(), 1000),
    ]]);
    let clock = script.clock;
    let connect = &mut |_| script.connect();
    let keys = [TOASTER_KEY, OTHER_KEY];
    let accepted = two_keys::provision(&mut toaster(), keys, connect, || clock.now(), |wait| clock.advance(wait));
    assert_eq!(accepted, Ok(KeyChoice::Secondary));
    assert_eq!(script.requests()[0].matches("PUT ").count(), 2);
}

struct Sector(RefCell<[u8; 4096]>);

impl one_buffer::Flash for Sector {
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0.borrow()[offset..][..bytes.len()]);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.0.get_mut()[offset..][..bytes.len()].copy_from_slice(bytes);
    }
}

#[test]
fn a_record_needs_no_second_buffer() {
    let mut sector = Sector(RefCell::new([0xff; 4096]));
    let mut buffer = [0; 1024];
    let registration = registration(TOASTER);
    let nothing = one_buffer::load(&registration, &mut buffer, &sector).map(|_| ());
    assert_eq!(nothing, Err(Error::Record(RecordError::Absent)));

    let script = Script::new([vec![Act::Bytes(assigned_answer(), 1000)]]);
    let mut provisioning = toaster();
    script.provision(&mut provisioning, &mut buffer).unwrap();
    one_buffer::store(&provisioning, &mut buffer, &mut sector).unwrap();

    let mut buffer = [0; 1024];
    let record = one_buffer::load(&registration, &mut buffer, &sector).unwrap();
    assert_eq!(record.assignment().hub().host(), TOASTERS_HUB);
}

#[test]
fn every_error_becomes_the_librarys() {
    let good = errors::Everything {
        key: GROUP_KEY,
        registration_id: TOASTER,
        hub: TOASTERS_HUB,
        flash: &[0xff; 64],
        csr: &[],
    };
    assert_eq!(errors::everything(&good), Err(Error::InvalidCsr));
    let is = |input: errors::Everything<'_>| errors::everything(&input).unwrap_err();
    assert!(matches!(is(errors::Everything { key: "?", ..good }), Error::InvalidKey(_)));
    assert!(matches!(is(errors::Everything { registration_id: "?", ..good }), Error::InvalidIdentifier(_)));

    assert!(errors::all_of_them().iter().all(|error| !error.to_string().is_empty()));
    let registration = registration(TOASTER);
    // The webhook's payload is an object, not a number.
    assert!(matches!(errors::payload(&assigned(&registration, ASSIGNED).unwrap()), Err(Error::Payload(_))));

    let mut provisioning = toaster();
    provisioning.start(Duration::ZERO, UNIX_TIME);
    assert!(matches!(errors::of_a_driver(&provisioning, &mut [0; 10]), Err(Error::BufferTooSmall(_))));
    assert!(errors::of_a_driver(&provisioning, &mut [0; 100]).is_ok());
}

#[test]
fn buffers_are_sized_at_compile_time() {
    let mut buffers = const_sizes::Buffers::new();
    let longest = "x".repeat(RegistrationId::MAX_LEN);
    let registration = const_sizes::registration(&longest).unwrap();
    assert!(const_sizes::is_enough(&Provisioning::new(registration, Attestation::symmetric_key())));
    let hub = Hub::new(TOASTERS_HUB, &longest).unwrap();
    assert!(const_sizes::password(&hub, &mut toaster_key(), &mut buffers).is_ok());
    assert!(buffers.exchange.len() > buffers.record.len() - 32);
}

/// A broker with scripted answers.
struct Broker {
    answers: VecDeque<(&'static str, String)>,
    passwords: Vec<String>,
    clock: Clock,
    requests: u16,
}

impl own_mqtt::Client for Broker {
    fn connect(&mut self, client_id: &str, user_name: &str, password: &str) -> u8 {
        assert!(user_name.contains(client_id));
        self.passwords.push(password.into());
        0
    }

    fn subscribe(&mut self, filter: &str) {
        assert_eq!(filter, "$dps/registrations/res/#");
    }

    fn publish(&mut self, topic: &str, _: &[u8]) {
        self.requests += 1;
        assert!(topic.contains(&format!("$rid={}", self.requests)));
    }

    fn receive(&mut self, _: Duration) -> Option<(String, Vec<u8>)> {
        let (status, body) = self.answers.pop_front()?;
        Some((format!("$dps/registrations/res/{status}/?$rid={}", self.requests), body.into_bytes()))
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn sleep(&mut self, wait: Duration) {
        self.clock.advance(wait);
    }
}

#[test]
fn the_programs_own_mqtt_client() {
    let answers = [("202", ASSIGNING.to_string()), ("200", ASSIGNED.to_string())].into();
    let mut broker = Broker { answers, passwords: Vec::new(), clock: Clock::default(), requests: 0 };
    let hub = own_mqtt::provision(&mut broker, &mut toaster(), &mut toaster_key());
    assert_eq!(hub.as_deref(), Ok(TOASTERS_HUB));
    assert_eq!(broker.passwords.len(), 1);
    assert!(broker.passwords[0].starts_with("SharedAccessSignature sr="));
}

/// A hub that answers CONNECT with a code, and then sends its messages. `{rid}` in a message stands for the number of
/// the last request.
struct ScriptedHub {
    code: u8,
    messages: VecDeque<(&'static str, &'static str)>,
    sent: Vec<String>,
    clock: Clock,
}

impl own_mqtt::Client for ScriptedHub {
    fn connect(&mut self, client_id: &str, user_name: &str, password: &str) -> u8 {
        assert_eq!(client_id, TOASTER);
        assert_eq!(user_name, format!("{TOASTERS_HUB}/{TOASTER}/?api-version=2021-04-12"));
        assert!(password.starts_with(&format!("SharedAccessSignature sr={TOASTERS_HUB}%2Fdevices%2F{TOASTER}&sig=")));
        self.code
    }

    fn subscribe(&mut self, filter: &str) {
        self.sent.push(filter.into());
    }

    fn publish(&mut self, topic: &str, body: &[u8]) {
        self.sent.push(format!("{topic} {}", String::from_utf8_lossy(body)));
    }

    fn receive(&mut self, _: Duration) -> Option<(String, Vec<u8>)> {
        let (topic, body) = self.messages.pop_front()?;
        let last = self.sent.iter().rev().find_map(|sent| sent.split("$rid=").nth(1)?.split(' ').next());
        Some((topic.replace("{rid}", last.unwrap()), body.into()))
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn sleep(&mut self, wait: Duration) {
        self.clock.advance(wait);
    }
}

#[test]
fn a_session_at_the_hub_follows_the_settings() {
    const TWIN: &str = "$iothub/twin/res/200/?$rid={rid}";
    const ACCEPTED: &str = "$iothub/twin/res/204/?$rid={rid}&$version=2";
    let session = |code, messages: &[(&'static str, &'static str)]| {
        let messages = messages.iter().copied().collect();
        let mut hub = ScriptedHub { code, messages, sent: Vec::new(), clock: Clock::default() };
        let mut settings = hub_session::Settings::default();
        let at = Hub::new(TOASTERS_HUB, TOASTER).unwrap();
        let outcome = hub_session::follow(&mut hub, &at, &mut toaster_key(), UNIX_TIME, &mut settings);
        (outcome, settings.darkness, hub.sent, hub.clock.now())
    };
    let twin = r#"{"desired":{"darknessSetting":"medium","state":"x","$version":2},"reported":{"$version":1}}"#;
    let change = ("$iothub/twin/PATCH/properties/desired/?$version=3", r#"{"darknessSetting":"dark","$version":3}"#);
    let deleted = ("$iothub/twin/PATCH/properties/desired/?$version=4", r#"{"darknessSetting":null,"$version":4}"#);
    let late = ("$iothub/twin/PATCH/properties/desired/?$version=9", r#"{"state":"y","$version":9}"#);
    let newer = r#"{"desired":{"darknessSetting":"light","$version":9},"reported":{"$version":2}}"#;
    let asked = [
        "$iothub/twin/res/#",
        "$iothub/twin/PATCH/properties/desired/#",
        "$iothub/twin/GET/?$rid=1 ",
        r#"$iothub/twin/PATCH/properties/reported/?$rid=2 {"darknessSetting":"medium"}"#,
    ];

    let (outcome, darkness, sent, _) = session(0, &[(TWIN, twin), (ACCEPTED, ""), change, change]);
    assert_eq!(
        (outcome, darkness.as_deref(), &sent[..]),
        (Ok(HubOutcome::Unreachable), Some("dark"), &asked.map(String::from)[..])
    );
    assert_eq!(session(0, &[(TWIN, twin), change, deleted]).1, None);
    // A change is missing, so the program reads the whole twin again.
    let (_, darkness, sent, now) = session(0, &[(TWIN, twin), (ACCEPTED, ""), late, (TWIN, newer)]);
    assert_eq!((darkness.as_deref(), now), (Some("light"), Duration::ZERO));
    assert_eq!(sent[4], "$iothub/twin/GET/?$rid=3 ");
    // If the hub throttles, the program asks again after a minute. If it rejects, the session ends.
    let throttled = ("$iothub/twin/res/429/?$rid={rid}", r#"{"errorCode":429002}"#);
    let (_, darkness, _, now) = session(0, &[throttled, (TWIN, twin)]);
    assert_eq!((darkness.as_deref(), now), (Some("medium"), Duration::from_secs(60)));
    let (outcome, darkness, ..) = session(0, &[("$iothub/twin/res/404/?$rid={rid}", ""), (TWIN, twin)]);
    assert_eq!((outcome, darkness), (Ok(HubOutcome::Refused(404)), None));
    let (outcome, _, sent, _) = session(5, &[]);
    assert_eq!((outcome, sent.len()), (Ok(HubOutcome::Refused(401)), 0));
}

#[test]
fn a_certificate_program_names_the_missing_file() {
    let error = certificate::provision("127.0.0.1:1", "no-such-ca.pem", "", "").unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn a_tpm_is_one_trait() {
    let mut chip = tpm::Chip { endorsement_key: vec![1], storage_root_key: vec![2], has_key: false };
    assert_eq!(chip.sign(b"", &mut [0; 32]), Err(SignError::new("no key was activated")));
    let mut buffer = [0; 512];
    let mut provisioning = tpm::provisioning(&chip, registration(TOASTER));
    provisioning.start(Duration::ZERO, UNIX_TIME);
    let len = azure_dps::http::write_request(&mut provisioning, Duration::ZERO, &mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..len]).contains(r#""endorsementKey":"AQ==""#));
}

/// Starts a service on this machine that answers each connection with an assignment.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(&assigned_answer());
        }
    });
    address
}

#[test]
fn a_run_is_spawned_on_tokios_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let tcp = executors::Tcp { address: service() };
    let hub = runtime.block_on(async { executors::spawn(toaster(), toaster_key(), tcp).await }).unwrap();
    assert_eq!(hub.as_deref(), Ok(TOASTERS_HUB));
}

#[test]
fn a_run_that_is_not_send_runs_on_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bus = Rc::new(RefCell::new(Vec::new()));
    let mut element = executors::Element { bus: bus.clone() };
    let tcp = executors::Tcp { address: service() };
    let mut provisioning = toaster();
    let reports = runtime.block_on(executors::on_this_thread(&mut provisioning, &mut element, tcp)).unwrap();
    assert_eq!(reports, 3, "connected, registering, assigned");
    assert!(bus.borrow().starts_with(b"0ne00002193%2fregistrations%2f"));
}

#[test]
fn an_observer_may_count_in_a_cell() {
    let script = Script::new([
        vec![Act::Bytes(http("429 Too Many", "", r#"{"errorCode":429001}"#), 1000), Act::Close],
        vec![Act::Bytes(assigned_answer(), 1000)],
    ]);
    let clock = script.clock;
    let retries = Cell::new(0);
    let mut provisioning = toaster();
    provisioning.start(clock.now(), UNIX_TIME);
    azure_dps::blocking::run(
        &mut provisioning,
        &mut toaster_key(),
        &mut [0; 1024],
        &mut |_| script.connect(),
        || clock.now(),
        |wait| clock.advance(wait),
        |progress| {
            if let azure_dps::provisioning::Progress::Retrying { error, .. } = progress {
                assert_eq!(error.code(), Some(ErrorCode::THROTTLED));
                retries.set(retries.get() + 1);
            }
        },
    )
    .unwrap();
    assert_eq!(retries.get(), 1);
}
