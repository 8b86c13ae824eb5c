//! Thirty days of a device, with the emulator as DPS and as both hubs. Each row of the table has the operator's action,
//! the resulting hub of the device, and the requests to DPS.
//!
//! Requests and connections are real. Only time is virtual: a wait moves the device's clock.
//! `cargo test --test life -- --nocapture` prints the table.

#[path = "support/hub.rs"]
mod hub;
#[path = "support/network.rs"]
mod network;
mod support;

use std::{cell::Cell, io, net::TcpStream, thread, time::Duration};

use azure_dps::{
    Attestation, DeviceKey, Provisioning,
    after::{HubOutcome, Next, Pauses, Record, RecordError, Reprovisioning, ReprovisioningPolicy},
    blocking::{self, ConnectError},
    provisioning::{Endpoint, Progress},
};
use azure_dps_emulator::{
    AllocationPolicy, Config, Emulator, IndividualEnrollment, ReprovisionPolicy, RequestRecord, SymmetricKey, Twin,
};
use embedded_io_adapters::std::FromStd;
use hub::HubSession;
use network::unix_time;
use serde_json::{Value, json};
use support::*;

const OLD: &str = TOASTERS_HUB;
const NEW: &str = HEAT_PUMPS_HUB;
const SECONDARY_KEY: &str = "6uejA9PfkQgmYylj8Zerp3kcbeVrGZ172YLa7VSnJzg=";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The lifetime of a token. The device then connects again.
const SESSION: Duration = HOUR;
/// The duration of a connection attempt.
const CONNECTING: Duration = SECOND;

struct Device {
    now: Duration,
    booted: Duration,
    life: Reprovisioning,
    policy: ReprovisioningPolicy,
    flash: Vec<u8>,
    pauses: [u8; Pauses::LEN],
    keys: [DeviceKey; 2],
    /// Reported at the hub.
    boots: u64,
    dps: Endpoint<'static>,
    hub_address: String,
    session: Option<(HubSession, Duration)>,
    /// When the hub accepted the device, and when it did not.
    accepted: Vec<Duration>,
    failed: Vec<(Duration, HubOutcome)>,
    registers: Vec<Duration>,
    look_ups: Vec<Duration>,
}

impl Device {
    fn new(emulator: &Emulator, policy: ReprovisioningPolicy) -> Self {
        let url = emulator.http_url().unwrap().to_owned().leak();
        let mut device = Self {
            now: Duration::ZERO,
            booted: Duration::ZERO,
            life: Reprovisioning::new(registration(TOASTER).registration_id(), policy, Err(RecordError::Absent)),
            policy,
            flash: vec![0xff; 4096],
            pauses: [0xff; Pauses::LEN],
            keys: [TOASTER_KEY, SECONDARY_KEY].map(|key| DeviceKey::from_base64(key).unwrap()),
            boots: 0,
            dps: Endpoint::parse(url).unwrap(),
            hub_address: address(emulator),
            session: None,
            accepted: Vec::new(),
            failed: Vec::new(),
            registers: Vec::new(),
            look_ups: Vec::new(),
        };
        device.boot();
        device
    }

    /// Starts the device with the content of flash. The clock restarts, and the device does not know how long it was
    /// off.
    fn boot(&mut self) {
        self.boots += 1;
        self.booted = self.now;
        let registration = registration(TOASTER);
        let record = Record::read(&self.flash, &registration);
        let life = Reprovisioning::new(registration.registration_id(), self.policy, record);
        self.life = match Pauses::from_bytes(&self.pauses) {
            Some(pauses) => life.with_pauses(Duration::ZERO, pauses),
            None => life,
        };
    }

    fn lose_power(&mut self, off: Duration) {
        self.session = None;
        self.now += off;
        self.boot();
    }

    fn uptime(&self) -> Duration {
        self.now - self.booted
    }

    fn on_hub(&mut self, outcome: HubOutcome) {
        if !matches!(outcome, HubOutcome::Accepted | HubOutcome::Closed) {
            self.failed.push((self.now, outcome));
        }
        self.life.on_hub(self.uptime(), outcome);
    }

    fn save_pauses(&mut self) {
        self.pauses = self.life.pauses(self.uptime()).to_bytes();
    }

    /// Runs the device until this time. A live session stays open.
    fn run(&mut self, end: Duration) {
        while self.now < end {
            if let Some((session, expiry)) = self.session.take() {
                self.now = expiry.min(end);
                if self.now < expiry {
                    self.session = Some((session, expiry));
                    return;
                }
                session.close();
                self.on_hub(HubOutcome::Closed);
                self.save_pauses();
                continue;
            }
            match self.life.next(self.uptime()) {
                Next::Wait(wait) => self.now = end.min(self.now + wait),
                Next::Hub(key) => {
                    self.now += CONNECTING;
                    let registration = registration(TOASTER);
                    let record = Record::read(&self.flash, &registration).unwrap();
                    let hub = record.assignment().hub();
                    let expiry = unix_time() + SESSION.as_secs();
                    let outcome = match HubSession::open(&self.hub_address, hub, &mut self.keys[key as usize], expiry) {
                        Ok(session) => {
                            self.accepted.push(self.now);
                            self.session = Some((session, self.now + SESSION));
                            HubOutcome::Accepted
                        }
                        Err(outcome) => outcome,
                    };
                    self.on_hub(outcome);
                    self.report();
                }
                Next::LookUp(key) => {
                    self.look_ups.push(self.now);
                    let new = Provisioning::lookup(registration(TOASTER), Attestation::symmetric_key());
                    self.ask_dps(new.with_first_key(key));
                }
                Next::Register(key) => {
                    let new = Provisioning::new(registration(TOASTER), Attestation::symmetric_key());
                    self.ask_dps(new.with_first_key(key));
                }
            }
        }
    }

    /// Reports the number of starts, if the hub does not know it.
    fn report(&mut self) {
        let Some((session, _)) = &mut self.session else { return };
        if session.reported.0["boots"] != self.boots {
            session.report(&json!({ "boots": self.boots }));
        }
    }

    fn ask_dps(&mut self, provisioning: Provisioning<'static>) {
        let mut provisioning = provisioning.with_endpoint(self.dps);
        let (now, registers) = (Cell::new(self.now), &mut self.registers);
        let delay = |wait: Duration| {
            // What the emulator does takes real time.
            thread::sleep(wait.min(Duration::from_millis(50)));
            now.set(now.get() + wait);
        };
        let observe = |progress| {
            if matches!(progress, Progress::Registering) {
                registers.push(now.get());
            }
        };
        let endpoint = self.dps;
        let mut connect = |_| -> Result<_, ConnectError<io::Error>> {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port()))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            Ok(FromStd::new(stream))
        };
        let mut buffer = [0; 4096];
        provisioning.start(now.get(), unix_time());
        let (keys, clock) = (&mut self.keys, || now.get());
        // `provisioning` has the outcome.
        let _ = blocking::run(&mut provisioning, keys, &mut buffer, &mut connect, clock, delay, observe);
        self.now = now.get();
        let uptime = self.uptime();
        match provisioning.result(&buffer) {
            Ok(assignment) => {
                if self.life.on_assigned(uptime, &assignment, provisioning.key()) {
                    let record = provisioning.write_record(&mut buffer).unwrap();
                    self.flash.fill(0xff);
                    self.flash[..record.len()].copy_from_slice(record);
                }
            }
            Err(_) => self.life.on_failed(uptime, &provisioning),
        }
        self.save_pauses();
    }

    /// Returns the times of all requests to DPS: register requests and look-ups.
    fn asked(&self) -> Vec<Duration> {
        let mut asked = [&*self.registers, &self.look_ups].concat();
        asked.sort_unstable();
        asked
    }

    /// Returns the hub in flash.
    fn hub(&self) -> String {
        Record::read(&self.flash, &registration(TOASTER)).unwrap().assignment().assigned_hub().to_owned()
    }

    /// Executes the operator's command to provision again.
    fn provision_again(&mut self) {
        let (session, _) = self.session.take().unwrap();
        session.close();
        self.on_hub(HubOutcome::Closed);
        self.life.provision_again();
    }
}

/// Returns the address of the emulator's hubs.
fn address(emulator: &Emulator) -> String {
    emulator.mqtt_url().unwrap().strip_prefix("mqtt://").unwrap().to_owned()
}

struct World {
    emulator: Emulator,
    device: Device,
    /// The number of the last request that was counted.
    counted: u64,
}

impl World {
    fn new(policy: ReprovisioningPolicy) -> Self {
        let key = |text| SymmetricKey::from_base64(text).unwrap();
        let mut enrollment = IndividualEnrollment {
            registration_id: TOASTER.into(),
            primary_key: key(TOASTER_KEY),
            secondary_key: Some(key(SECONDARY_KEY)),
            reprovision_policy: ReprovisionPolicy::Migrate,
            initial_twin: Twin { desired: object(json!({ "darkness": "medium" })), ..Twin::default() },
            ..IndividualEnrollment::default()
        };
        enrollment.allocation.policy = AllocationPolicy::Static;
        enrollment.allocation.iot_hubs = vec![OLD.into()];
        let mut config =
            Config { id_scope: SCOPE.into(), linked_hubs: vec![OLD.into(), NEW.into()], ..Config::default() };
        config.individual_enrollments.push(enrollment);
        let emulator = Emulator::builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").start().unwrap();
        let device = Device::new(&emulator, policy);
        Self { emulator, device, counted: 0 }
    }

    fn enrollment(&self, change: impl FnOnce(&mut IndividualEnrollment)) {
        self.emulator.update(|config| change(&mut config.individual_enrollments[0]));
    }

    fn move_to(&self, hub: &str, policy: ReprovisionPolicy) {
        self.enrollment(|enrollment| {
            enrollment.allocation.iot_hubs = vec![hub.into()];
            enrollment.reprovision_policy = policy;
        });
    }

    /// Returns the requests since the last count.
    fn requests(&mut self) -> Vec<RequestRecord> {
        let mut requests = self.emulator.requests();
        requests.retain(|request| request.number > self.counted);
        self.counted = requests.last().map_or(self.counted, |request| request.number);
        requests
    }
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value} is not an object") };
    object
}

/// Returns an hour of a day, counted from the first boot.
const fn day(day: u64, hour: u64) -> Duration {
    Duration::from_secs((day * 24 + hour) * 3600)
}

/// An event, and the expected state before the next row.
struct Row {
    at: Duration,
    what: &'static str,
    act: fn(&mut World),
    /// What happens to a live session.
    session: Session,
    /// The hub at the end. `None` if the device has no hub.
    hub: Option<&'static str>,
    /// The numbers of register requests and look-ups, for a device with the look-up and for one without.
    calls: [Calls; 2],
    /// The shortest and the longest time until the first request to DPS.
    asks_within: Option<(Duration, Duration)>,
}

/// A hub that rejects the device: "perform a full re-registration".
const AT_ONCE: Option<(Duration, Duration)> = Some((Duration::ZERO, Duration::from_secs(15)));
/// A hub that is gone: "try to reconnect directly to the same IoT hub for 15-30 minutes".
const PATIENTLY: Option<(Duration, Duration)> = Some((Duration::from_secs(15 * 60), Duration::from_secs(30 * 60 + 10)));

#[derive(Clone, Copy, PartialEq)]
enum Session {
    /// The session stays open.
    Stays,
    /// The hub ends the session.
    Ends,
    /// The device ended the session, or has none.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Calls(usize, usize);

const STORY: &[Row] = &[
    Row {
        at: day(0, 0),
        what: "first boot",
        act: |_| {},
        session: Session::None,
        hub: Some(OLD),
        calls: [Calls(1, 0), Calls(1, 0)],
        asks_within: AT_ONCE,
    },
    Row {
        at: day(1, 0),
        what: "power is lost for ten minutes",
        act: |world| world.device.lose_power(10 * MINUTE),
        session: Session::None,
        hub: Some(OLD),
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(3, 0),
        what: "moved: the enrollment has another hub, and the device is removed at its hub",
        act: |world| {
            world.move_to(NEW, ReprovisionPolicy::Migrate);
            world.emulator.remove_from_hub(TOASTER).unwrap();
        },
        session: Session::Ends,
        hub: Some(NEW),
        calls: [Calls(1, 1), Calls(1, 0)],
        asks_within: AT_ONCE,
    },
    Row {
        at: day(5, 0),
        what: "a desired property is changed",
        act: |world| world.emulator.patch_twin(TOASTER, json!({ "desired": { "darkness": "dark" } })).unwrap(),
        session: Session::Stays,
        hub: Some(NEW),
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(8, 0),
        what: "the hub is down: it answers CONNECT with 3",
        act: |world| world.emulator.update(|config| config.behaviour.unavailable_hubs = vec![NEW.into()]),
        session: Session::Ends,
        hub: None,
        calls: [Calls(0, 2), Calls(0, 0)],
        asks_within: PATIENTLY,
    },
    Row {
        at: day(8, 1),
        what: "an hour later, the hub is up again",
        act: |world| world.emulator.update(|config| config.behaviour.unavailable_hubs.clear()),
        session: Session::None,
        hub: Some(NEW),
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(10, 0),
        what: "the hub does not answer at all",
        act: |world| {
            // A port without a listener.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            world.device.hub_address = listener.local_addr().unwrap().to_string();
            world.device.session = None;
            world.device.on_hub(HubOutcome::Unreachable);
        },
        session: Session::None,
        hub: None,
        calls: [Calls(2, 2), Calls(2, 0)],
        asks_within: PATIENTLY,
    },
    Row {
        at: day(10, 1),
        what: "an hour later, the hub answers",
        act: |world| world.device.hub_address = address(&world.emulator),
        session: Session::None,
        hub: Some(NEW),
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(12, 0),
        what: "the primary key is replaced in the enrollment, and the device removed at its hub",
        act: |world| {
            world.enrollment(|enrollment| enrollment.primary_key = SymmetricKey::from_base64(GROUP_KEY).unwrap());
            // DPS creates the device at the hub with the keys of the enrollment.
            world.emulator.remove_from_hub(TOASTER).unwrap();
        },
        session: Session::Ends,
        hub: Some(NEW),
        calls: [Calls(1, 2), Calls(2, 0)],
        asks_within: AT_ONCE,
    },
    Row {
        at: day(14, 0),
        what: "power is lost for a day",
        act: |world| world.device.lose_power(DAY),
        session: Session::None,
        hub: Some(NEW),
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(16, 0),
        what: "disabled at the hub",
        act: |world| world.emulator.set_hub_enabled(TOASTER, false).unwrap(),
        session: Session::Ends,
        hub: None,
        calls: [Calls(5, 5), Calls(5, 0)],
        asks_within: AT_ONCE,
    },
    Row {
        at: day(16, 3),
        what: "power is lost for a minute",
        act: |world| world.device.lose_power(MINUTE),
        session: Session::None,
        hub: None,
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(16, 7),
        what: "enabled at the hub",
        act: |world| world.emulator.set_hub_enabled(TOASTER, true).unwrap(),
        session: Session::None,
        hub: Some(NEW),
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(20, 0),
        what: "the enrollment is disabled",
        act: |world| world.enrollment(|enrollment| enrollment.enabled = false),
        session: Session::Stays,
        hub: Some(NEW),
        calls: [Calls(0, 0), Calls(0, 0)],
        asks_within: None,
    },
    Row {
        at: day(20, 6),
        what: "and the device is removed at the hub",
        act: |world| world.emulator.remove_from_hub(TOASTER).unwrap(),
        session: Session::Ends,
        hub: None,
        calls: [Calls(6, 6), Calls(6, 0)],
        asks_within: AT_ONCE,
    },
    Row {
        at: day(21, 0),
        what: "the enrollment is enabled",
        act: |world| world.enrollment(|enrollment| enrollment.enabled = true),
        session: Session::None,
        hub: Some(NEW),
        calls: [Calls(1, 1), Calls(1, 0)],
        asks_within: None,
    },
    Row {
        at: day(24, 0),
        what: "moved with the policy `reset`; the operator tells the device to register",
        act: |world| {
            world.move_to(OLD, ReprovisionPolicy::Reset);
            world.device.provision_again();
        },
        session: Session::None,
        hub: Some(OLD),
        calls: [Calls(1, 0), Calls(1, 0)],
        asks_within: AT_ONCE,
    },
    Row {
        at: day(26, 0),
        what: "a property is changed; then moved with `migrate`, and told to register",
        act: |world| {
            world.emulator.patch_twin(TOASTER, json!({ "desired": { "darkness": "light" } })).unwrap();
            assert!(world.device.session.as_mut().unwrap().0.is_open());
            world.move_to(NEW, ReprovisionPolicy::Migrate);
            world.device.provision_again();
        },
        session: Session::None,
        hub: Some(NEW),
        calls: [Calls(1, 0), Calls(1, 0)],
        asks_within: AT_ONCE,
    },
    Row {
        at: day(28, 0),
        what: "the record in flash is torn, and power is lost",
        act: |world| {
            world.device.flash[200..].fill(0xff);
            world.device.lose_power(MINUTE);
        },
        session: Session::None,
        hub: Some(NEW),
        calls: [Calls(0, 2), Calls(2, 0)],
        asks_within: None,
    },
];

const END: Duration = day(30, 0);

/// The result of a row.
struct Measured {
    registers: usize,
    look_ups: usize,
    polls: usize,
    accepted: usize,
    refused: usize,
    /// The time without a session.
    back_after: Option<Duration>,
    state: String,
}

fn live(policy: ReprovisioningPolicy, calls: impl Fn(&Row) -> Calls) -> (World, Vec<Measured>) {
    let mut world = World::new(policy);
    let ends = STORY.iter().skip(1).map(|row| row.at).chain([END]);
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (row, end) in STORY.iter().zip(ends) {
        world.device.run(row.at);
        world.requests();
        let (had, asked) = (world.device.accepted.len(), world.device.asked().len());
        (row.act)(&mut world);
        match (row.session, &mut world.device.session) {
            (Session::Stays, Some((session, _))) => assert!(session.is_open(), "{}", row.what),
            (Session::Ends, session @ Some(_)) => {
                session.take().unwrap().0.wait_for_end();
                world.device.on_hub(HubOutcome::Unreachable);
            }
            (Session::None, None) => {}
            _ => panic!("{}: the device has a session, or has none", row.what),
        }
        world.device.run(end);

        let requests = world.requests();
        let count = |method: &str, at_hub: bool| {
            requests.iter().filter(|request| request.method == method && request.hub.is_some() == at_hub).count()
        };
        let (registers, look_ups, polls) = (count("PUT", false), count("POST", false), count("GET", false));
        let (device, accepted) = (&world.device, world.device.accepted.len() - had);
        let hub = device.session.as_ref().map(|_| device.hub());
        if hub.as_deref() != row.hub || Calls(registers, look_ups) != calls(row) {
            wrong.push(format!("{}: {hub:?}, {:?}", row.what, Calls(registers, look_ups)));
        }
        if let (Some((from, to)), Some(first)) = (row.asks_within, device.asked().get(asked)) {
            let after = *first - row.at;
            assert!((from..=to).contains(&after), "{}: DPS is asked after {after:?}", row.what);
        }
        let twin = world.emulator.device(TOASTER).unwrap().twin;
        let state = match &device.session {
            // Device and hub have the same properties.
            Some((session, _)) => {
                assert_eq!((session.desired.1, session.reported.1), (twin.desired_version, twin.reported_version));
                assert_eq!(session.desired.0["darkness"], twin.desired["darkness"]);
                assert_eq!(twin.reported["boots"], device.boots);
                let hub = if hub.as_deref() == Some(OLD) { "first" } else { "second" };
                let darkness = twin.desired["darkness"].as_str().unwrap();
                format!("{hub}, {darkness} ({}), {} ({})", twin.desired_version, device.boots, twin.reported_version)
            }
            None => "none".to_owned(),
        };
        let has_break = row.session != Session::Stays;
        let back_after = device.accepted.get(had).filter(|_| has_break).map(|at| *at - row.at);
        let refused = count("CONNECT", true) - accepted;
        rows.push(Measured { registers, look_ups, polls, accepted, refused, back_after, state });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    (world, rows)
}

/// Returns the table of `docs/evidence/life.md`.
fn table([with, without]: [&[Measured]; 2]) -> String {
    let mut table =
        "| day | what happens | registrations, look-ups, polls | without the look-up | hub accepted, refused \
                     | connected again after | hub, desired `darkness` (`$version`), reported `boots` (`$version`) |\n\
                     |---|---|---|---|---|---|---|\n"
            .to_owned();
    for (row, (with, without)) in STORY.iter().zip(with.iter().zip(without)) {
        let (days, hours) = (row.at.as_secs() / 86_400, row.at.as_secs() / 3600 % 24);
        let hours = if hours > 0 { format!(", {hours} h") } else { String::new() };
        table += &format!(
            "| {days}{hours} | {} | {}, {}, {} | {}, 0, {} | {}, {} | {} | {} |\n",
            row.what,
            with.registers,
            with.look_ups,
            with.polls,
            without.registers,
            without.polls,
            with.accepted,
            with.refused,
            with.back_after.map_or("-".to_owned(), in_words),
            with.state,
        );
    }
    let sum = |rows: &[Measured], of: fn(&Measured) -> usize| rows.iter().map(of).sum::<usize>();
    table += &format!(
        "| 30 | in all | {}, {}, {} | {}, 0, {} | {}, {} | | |\n",
        sum(with, |row| row.registers),
        sum(with, |row| row.look_ups),
        sum(with, |row| row.polls),
        sum(without, |row| row.registers),
        sum(without, |row| row.polls),
        sum(with, |row| row.accepted),
        sum(with, |row| row.refused),
    );
    table
}

fn in_words(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 100.0 => format!("{seconds:.0} s"),
        seconds if seconds < 6000.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Checks Microsoft's recommendations, and the guarantees of `Reprovisioning`.
fn keeps_to_the_guidance(device: &Device) {
    let Device { registers, failed, .. } = device;
    // "At most seven registrations in the first day, and then less than one a day", whatever happens.
    let in_a_day =
        |(at, first): (usize, &Duration)| registers[at..].iter().take_while(|time| **time < *first + DAY).count();
    // As `docs/evidence/life.md` says.
    assert_eq!(registers.iter().enumerate().map(in_a_day).max(), Some(7));
    // "An exponential backoff with at least 5 seconds of wait-time".
    let down: Vec<_> = failed.iter().filter(|(_, outcome)| *outcome == HubOutcome::Refused(503)).collect();
    assert!(down.len() > 5, "the hub was never down");
    let pauses: Vec<_> = down.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(pauses.iter().all(|pause| *pause >= 5 * SECOND) && *pauses.last().unwrap() > MINUTE, "{pauses:?}");
}

#[test]
fn thirty_days_of_a_device() {
    let (with, with_look_up) = live(ReprovisioningPolicy::new().with_lookup(), |row| row.calls[0]);
    let (without, without_look_up) = live(ReprovisioningPolicy::new(), |row| row.calls[1]);
    let table = table([&with_look_up, &without_look_up]);
    println!("{table}");
    for world in [&with, &without] {
        keeps_to_the_guidance(&world.device);
        // Some hundred connections, all to the hub in flash.
        assert!(world.device.accepted.len() > 600);
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/evidence/life.md");
    assert!(std::fs::read_to_string(path).unwrap().contains(&table), "docs/evidence/life.md has another table");
}
