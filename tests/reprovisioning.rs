//! A device's life after its first boot, on a virtual clock. The tests check when it connects to its hub, and when it
//! asks DPS.

mod support;

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use azure_dps::identity::tpm::TpmError;
use azure_dps::{
    Assignment, Attestation, Error, Provisioning, Registration, RetryPolicy,
    after::{HubOutcome, Next, Pauses, Record, Reprovisioning, ReprovisioningPolicy},
    error::{BufferTooSmall, ErrorCode, Fault, Malformed, RecordError, TransportError},
    http,
    identity::{Csr, KeyChoice, SignError},
    provisioning::Answer,
};
use proptest::prelude::*;
use support::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate request with version 0, no subject and an empty public key.
const CSR: &[u8] = &[0x30, 9, 0x30, 7, 0x02, 1, 0, 0x30, 0, 0x30, 0];

const REGISTER: Next = Next::Register(KeyChoice::Primary);

const NETWORK: Error = Error::Transport(TransportError::Stalled);
const NO_CONNECTION: Error = Error::Transport(TransportError::Connect);

/// `Provisioning::new` or `Provisioning::lookup`.
type NewRun<'a> = fn(Registration<'a>, Attestation<'a>) -> Provisioning<'a>;

/// Returns a run without time for a second attempt.
fn run<'a>(new: NewRun<'a>, registration: Registration<'a>) -> Provisioning<'a> {
    let policy = RetryPolicy::new().with_timeout(Duration::ZERO);
    let mut provisioning = new(registration, Attestation::x509()).with_retry_policy(policy);
    provisioning.start(Duration::ZERO, 0);
    provisioning
}

/// Returns a run that failed with this error, before or after its request was written.
fn run_failed<'a>(
    new: NewRun<'a>,
    registration: Registration<'a>,
    was_written: bool,
    error: Error,
) -> Provisioning<'a> {
    let mut provisioning = run(new, registration);
    if was_written {
        http::write_request(&mut provisioning, Duration::ZERO, &mut [0; 2048]).unwrap();
    }
    provisioning.on_error(Duration::ZERO, error);
    assert_eq!(provisioning.result(&[]), Err(error));
    provisioning
}

/// Returns a run that failed with this error, at the time when this error usually occurs.
fn failed_with(next: Next, error: Error) -> Provisioning<'static> {
    let new = if let Next::LookUp(_) = next { Provisioning::lookup } else { Provisioning::new };
    run_failed(new, registration(TOASTER), is_sent(error), error)
}

/// Returns `true` if a request was sent before this error occurs.
fn is_sent(error: Error) -> bool {
    !matches!(error, NO_CONNECTION | Error::Untrusted | Error::Signer(_) | Error::Unsupported)
}

/// Returns the answer of a look-up that matches this answer to a registration.
fn state_of(answer: &str) -> String {
    assigned(&registration(TOASTER), answer).unwrap().registration_state().raw().to_string()
}

fn answered(new: NewRun<'static>, status: u16, body: &str) -> Error {
    let mut provisioning = run(new, registration(TOASTER));
    provisioning.on_answer(Duration::ZERO, Answer::new(status, None, body.as_bytes()));
    provisioning.result(body.as_bytes()).unwrap_err()
}

/// Returns the error for an answer with this status and code.
fn refused(status: u16, code: u32) -> Error {
    answered(Provisioning::new, status, &format!(r#"{{"errorCode":{code},"trackingId":"","message":"words"}}"#))
}

fn policy(look_up: bool) -> ReprovisioningPolicy {
    let policy = ReprovisioningPolicy::new();
    if look_up { policy.with_lookup() } else { policy }
}

/// Returns the error of a registration that the service stores as failed.
fn failed(code: u32) -> Error {
    let body = format!(r#"{{"status":"failed","errorCode":{code},"errorMessage":"words"}}"#);
    answered(Provisioning::lookup, 200, &body)
}

fn unauthorized() -> Error {
    refused(401, 401000)
}

fn not_found() -> Error {
    refused(404, 404201)
}

/// Returns an answer that assigns this hub.
fn at(hub: &str) -> String {
    ASSIGNED.replace(TOASTERS_HUB, hub)
}

/// Adds an issued certificate to an answer.
fn with_chain(answer: &str) -> String {
    answer.replace(r#""assignedHub""#, r#""issuedCertificateChain":["QUJD"],"assignedHub""#)
}

fn has_chain(flash: &[u8]) -> bool {
    let record = Record::read(flash, &registration(TOASTER)).unwrap();
    record.assignment().issued_certificate_chain().is_some()
}

type Service = Box<dyn FnMut(&World, KeyChoice) -> Result<String, Error>>;
type Hubs = Box<dyn FnMut(&World, &str, KeyChoice) -> (HubOutcome, Duration)>;

/// A device with its flash, its hubs and its DPS. Each connection and each request takes a second.
struct World {
    now: Duration,
    /// How a session ends.
    end: HubOutcome,
    /// How long the device sleeps after it has ended a session.
    asleep: Duration,
    flash: Vec<u8>,
    policy: ReprovisioningPolicy,
    has_secondary_key: bool,
    /// If `true`, the device saves the pauses, and reboots after each run, except between a look-up and the
    /// registration that follows.
    reboots: bool,
    saved: [u8; Pauses::LEN],
    log: Vec<(Duration, Event)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Boot,
    Hub(String, KeyChoice, HubOutcome),
    LookUp(KeyChoice),
    Register(KeyChoice),
    Wait(Duration),
    Written,
}

/// The behavior of the hubs and of DPS.
struct Others {
    /// The outcome of a connection, and the length of an accepted session.
    hubs: Hubs,
    look_up: Service,
    register: Service,
}

impl World {
    fn new() -> Self {
        Self {
            now: 1000 * HOUR,
            end: HubOutcome::Unreachable,
            asleep: Duration::ZERO,
            flash: vec![0xff; 4096],
            policy: ReprovisioningPolicy::new().with_lookup(),
            has_secondary_key: false,
            reboots: false,
            saved: [0xff; Pauses::LEN],
            log: Vec::new(),
        }
    }

    /// Creates a device that was provisioned before.
    fn at(hub: &str) -> Self {
        let mut world = Self::new();
        world.write(&at(hub), KeyChoice::Primary);
        world.log.clear();
        world
    }

    fn write(&mut self, answer: &str, key: KeyChoice) {
        let registration = registration(TOASTER);
        let assignment = assigned(&registration, answer).unwrap();
        self.flash.fill(0xff);
        assignment.write_record(&registration, key, &mut self.flash).unwrap();
        self.say(Event::Written);
    }

    fn say(&mut self, event: Event) {
        self.log.push((self.now, event));
    }

    /// Runs the device from power-on to power-off.
    fn boot(&mut self, others: &mut Others, power_off: Duration) {
        self.say(Event::Boot);
        let end = self.now + power_off;
        // If the device saves its pauses, its clock restarts at each boot. Otherwise the clock continues.
        let epoch = if self.reboots { self.now } else { Duration::ZERO };
        let registration = registration(TOASTER);
        let flash = self.flash.clone();
        let record = Record::read(&flash, &registration);
        let mut life = Reprovisioning::new(registration.registration_id(), self.policy, record);
        if self.reboots
            && let Some(pauses) = Pauses::from_bytes(&self.saved)
        {
            life = life.with_pauses(self.now - epoch, pauses);
        }
        while self.now < end {
            let next = life.next(self.now - epoch);
            let (is_look_up, first_key) = match next {
                Next::Wait(wait) => {
                    assert!(!wait.is_zero());
                    self.say(Event::Wait(wait));
                    self.now += wait;
                    continue;
                }
                Next::Hub(key) => {
                    self.now += SECOND;
                    let hub = Record::read(&self.flash, &registration).unwrap().assignment().hub().host().to_string();
                    let (answer, lasts) = (others.hubs)(self, &hub, key);
                    self.say(Event::Hub(hub, key, answer));
                    life.on_hub(self.now - epoch, answer);
                    if answer == HubOutcome::Accepted {
                        self.now += lasts.min(end.saturating_sub(self.now));
                        if self.now < end {
                            life.on_hub(self.now - epoch, self.end);
                        }
                        if self.end == HubOutcome::Closed {
                            self.now += self.asleep;
                        }
                    }
                    continue;
                }
                Next::LookUp(key) => (true, key),
                Next::Register(key) => (false, key),
            };
            let mut buffer = [0; 2048];
            let provisioning = self.ask(others, is_look_up, first_key, &mut buffer);
            let now = self.now - epoch;
            match provisioning.result(&buffer) {
                Ok(assignment) => {
                    if life.on_assigned(now, &assignment, provisioning.key()) {
                        let record = provisioning.write_record(&mut buffer).unwrap();
                        self.flash.fill(0xff);
                        self.flash[..record.len()].copy_from_slice(record);
                        self.say(Event::Written);
                    }
                }
                Err(_) => life.on_failed(now, &provisioning),
            }
            self.saved = life.pauses(now).to_bytes();
            if self.reboots && !matches!(life.next(now), Next::Register(_)) {
                return;
            }
        }
    }

    /// Runs without time for a second attempt, with the keys of the device.
    fn ask(
        &mut self,
        others: &mut Others,
        is_look_up: bool,
        first_key: KeyChoice,
        buffer: &mut [u8],
    ) -> Provisioning<'static> {
        let new = if is_look_up { Provisioning::lookup } else { Provisioning::new };
        let mut run = new(registration(TOASTER), Attestation::symmetric_key())
            .with_first_key(first_key)
            .with_retry_policy(RetryPolicy::new().with_timeout(Duration::ZERO));
        run.start(Duration::ZERO, UNIX_TIME);
        while run.is_running() {
            match self.has_secondary_key {
                true => run.sign_with(&mut [toaster_key(), toaster_key()], buffer),
                false => run.sign_with(&mut toaster_key(), buffer),
            }
            .unwrap();
            let key = run.key();
            self.say(if is_look_up { Event::LookUp(key) } else { Event::Register(key) });
            self.now += SECOND;
            let answer = if is_look_up { (others.look_up)(self, key) } else { (others.register)(self, key) };
            if answer.as_ref().map_or_else(|error| is_sent(*error), |_| true) {
                http::write_request(&mut run, Duration::ZERO, buffer).unwrap();
            }
            match answer {
                Ok(answer) => {
                    let answer = if is_look_up { state_of(&answer) } else { answer };
                    buffer[..answer.len()].copy_from_slice(answer.as_bytes());
                    run.on_answer(Duration::ZERO, Answer::new(200, None, answer.as_bytes()));
                }
                Err(error) => run.on_error(Duration::ZERO, error),
            }
        }
        run
    }

    fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.log.iter().filter(|(_, event)| is(event)).count()
    }

    fn registers(&self) -> usize {
        self.times(|event| matches!(event, Event::Register(_))).len()
    }

    fn look_ups(&self) -> usize {
        self.times(|event| matches!(event, Event::LookUp(_))).len()
    }

    fn times(&self, is: impl Fn(&Event) -> bool) -> Vec<Duration> {
        self.log.iter().filter(|(_, event)| is(event)).map(|(time, _)| *time).collect()
    }

    fn waits(&self) -> Vec<Duration> {
        let wait = |(_, event): &(_, Event)| if let Event::Wait(wait) = event { Some(*wait) } else { None };
        self.log.iter().filter_map(wait).collect()
    }

    /// Returns the log in short: H is a hub that accepts, h a hub that does not, L a look-up, R a registration, W a
    /// written record.
    fn story(&self) -> String {
        let letter = |(_, event): &(_, Event)| match event {
            Event::Hub(_, _, HubOutcome::Accepted) => Some('H'),
            Event::Hub(..) => Some('h'),
            Event::LookUp(_) => Some('L'),
            Event::Register(_) => Some('R'),
            Event::Written => Some('W'),
            Event::Boot | Event::Wait(_) => None,
        };
        self.log.iter().filter_map(letter).collect()
    }

    fn hub_in_flash(&self) -> String {
        Record::read(&self.flash, &registration(TOASTER)).unwrap().assignment().assigned_hub().to_string()
    }
}

impl Others {
    /// One hub accepts. All other hubs answer with `answer`. DPS assigns `assigned` at each request.
    fn new(accepts: &'static str, answer: HubOutcome, assigned: &'static str) -> Self {
        Self {
            hubs: Box::new(move |_, hub, _| (if hub == accepts { HubOutcome::Accepted } else { answer }, 1000 * DAY)),
            look_up: Box::new(move |_, _| Ok(at(assigned))),
            register: Box::new(move |_, _| Ok(at(assigned))),
        }
    }

    fn look_up(mut self, look_up: impl FnMut(&World, KeyChoice) -> Result<String, Error> + 'static) -> Self {
        self.look_up = Box::new(look_up);
        self
    }

    fn register(mut self, register: impl FnMut(&World, KeyChoice) -> Result<String, Error> + 'static) -> Self {
        self.register = Box::new(register);
        self
    }
}

fn is_between(time: Duration, from: Duration, to: Duration) {
    assert!((from..=to).contains(&time), "{time:?} is not within {from:?} and {to:?}");
}

#[test]
fn a_thousand_boots_with_a_healthy_hub_cause_one_registration() {
    let mut world = World::new();
    let mut others = Others::new("a", HubOutcome::Refused(401), "a");
    for _ in 0..1000 {
        world.boot(&mut others, HOUR);
    }
    assert_eq!((world.registers(), world.look_ups()), (1, 0));
    assert_eq!(world.count(|event| *event == Event::Written), 1);
    assert_eq!(world.count(|event| matches!(event, Event::Hub(hub, _, HubOutcome::Accepted) if hub == "a")), 1000);
    assert!(world.waits().is_empty());
}

#[test]
fn a_hub_that_refuses_leads_to_one_registration_and_the_new_hub() {
    for status in [401, 403, 404] {
        let mut world = World::at("a");
        let mut others = Others::new("b", HubOutcome::Refused(status), "b").look_up(|_, _| Ok(at("a")));
        for _ in 0..10 {
            world.boot(&mut others, DAY);
        }
        assert_eq!(world.story(), "hLRWHHHHHHHHHH", "{status}");
        assert_eq!(world.hub_in_flash(), "b");
        assert!(world.waits().is_empty());
    }
}

#[test]
fn a_look_up_avoids_a_registration_if_the_device_was_already_moved() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("b", HubOutcome::Refused(404), "b"), DAY);
    assert_eq!(world.story(), "hLWH");
    assert_eq!(world.hub_in_flash(), "b");
}

/// A rejection does not count for the same hub with another device ID.
#[test]
fn another_device_id_is_another_assignment() {
    let place =
        |hub, id: &str| at(hub).replace(&format!(r#""deviceId":"{TOASTER}""#), &format!(r#""deviceId":"{id}""#));
    for (look_up, is_another) in [(place("a", "bc"), false), (place("a", "bd"), true), (place("ab", "c"), true)] {
        let mut world = World::new();
        world.write(&place("a", "bc"), KeyChoice::Primary);
        world.log.clear();
        let mut others = Others::new("", HubOutcome::Refused(404), "a").look_up(move |_, _| Ok(look_up.clone()));
        world.boot(&mut others, 2 * SECOND);
        world.boot(&mut others, 2 * SECOND);
        assert_eq!(world.story().starts_with("hLW"), is_another, "{}", world.story());
    }
}

#[test]
fn without_look_ups_the_device_registers() {
    let mut world = World::at("a");
    world.policy = ReprovisioningPolicy::new();
    world.boot(&mut Others::new("b", HubOutcome::Refused(401), "b"), DAY);
    assert_eq!(world.story(), "hRWH");
}

#[test]
fn a_registration_follows_if_the_look_up_cannot_answer() {
    for error in [
        not_found(),
        refused(404, 404202),
        refused(400, 400004),
        refused(405, 405000),
        // The service has the look-up, and it reports that the last registration failed.
        refused(400, 400207),
    ] {
        let mut world = World::at("a");
        let mut others = Others::new("b", HubOutcome::Refused(401), "b").look_up(move |_, _| Err(error));
        world.boot(&mut others, DAY);
        assert_eq!(world.story(), "hLRWH", "{error}");
    }
}

#[test]
fn a_record_that_cannot_be_read_costs_a_look_up() {
    let mut world = World::at("a");
    world.flash[200..].fill(0xff);
    world.boot(&mut Others::new("a", HubOutcome::Unreachable, "a"), DAY);
    assert_eq!(world.story(), "LWH");
    world.boot(&mut Others::new("a", HubOutcome::Unreachable, "a"), DAY);
    assert_eq!(world.story(), "LWHH");
    // Without a record there is nothing to look up.
    let mut world = World::new();
    world.boot(&mut Others::new("a", HubOutcome::Unreachable, "a"), DAY);
    assert_eq!(world.story(), "RWH");
}

/// Power is lost at each byte of the record of the first registration.
#[test]
fn power_lost_while_the_record_is_written_costs_one_look_up() {
    let mut whole = World::new();
    whole.write(&at("a"), KeyChoice::Primary);
    let len = whole.flash.iter().rposition(|&byte| byte != 0xff).unwrap() + 1;
    for written in 0..=len {
        let mut world = World::new();
        world.flash[..written].copy_from_slice(&whole.flash[..written]);
        world.boot(&mut Others::new("a", HubOutcome::Unreachable, "a"), DAY);
        let expected = match written {
            // Nothing of the record is readable, or it is unknown whether the record had a certificate.
            0..4 => "RWH",
            _ if written < len => "LWH",
            _ => "H",
        };
        assert_eq!(world.story(), expected, "{written}");
    }
}

/// A look-up does not return the certificate.
#[test]
fn a_device_with_an_issued_certificate_registers_instead_of_looking_up() {
    let answers: [fn(&'static str) -> String; 2] = [
        |hub| with_chain(&at(hub)),
        |hub| at(hub).replace(r#""assignedHub""#, r#""issuedClientCertificate":"PEM","assignedHub""#),
    ];
    for answer in answers {
        // The certificate is in the record of an earlier boot, or from the first registration of this boot.
        let mut rebooted = World::new();
        rebooted.write(&answer("a"), KeyChoice::Primary);
        let mut first = World::new();
        for (world, story) in [(&mut rebooted, "WhRWH"), (&mut first, "RWhhRWH")] {
            let mut hub = "";
            let mut others = Others::new("b", HubOutcome::Refused(401), "b").register(move |_, _| {
                hub = if hub.is_empty() && story.starts_with('R') { "a" } else { "b" };
                Ok(answer(hub))
            });
            world.boot(&mut others, DAY);
            assert_eq!((world.story().as_str(), world.hub_in_flash().as_str()), (story, "b"));
        }
    }
    // A hub's server errors do not cause a registration.
    let mut world = World::new();
    world.write(&with_chain(&at("a")), KeyChoice::Primary);
    world.boot(&mut Others::new("", HubOutcome::Refused(503), "b"), 7 * DAY);
    assert_eq!((world.registers(), world.look_ups(), has_chain(&world.flash)), (0, 0, true));
}

/// Power is lost at each byte of the record of an issued certificate, over erased flash, zeros, and another record.
/// Also each bit of the record flips.
#[test]
fn a_record_that_may_have_had_a_certificate_costs_a_registration() {
    let [mut whole, mut older] = [World::new(), World::new()];
    whole.write(&with_chain(&at("a")), KeyChoice::Primary);
    older.write(&at("b"), KeyChoice::Primary);
    let len = whole.flash.iter().rposition(|&byte| byte != 0xff).unwrap() + 1;
    let stories = |flash: Vec<u8>| {
        let mut world = World { flash, ..World::new() };
        world.boot(&mut Others::new("a", HubOutcome::Refused(401), "a"), DAY);
        world.story()
    };
    for below in [vec![0xff; 4096], vec![0; 4096], older.flash] {
        for written in 0..len {
            let flash = [&whole.flash[..written], &below[written..]].concat();
            // Both records start with the same bytes.
            let is_older = flash == below && !below.starts_with(&[0xff]) && !below.starts_with(&[0]);
            assert_eq!(stories(flash), if is_older { "hLWH" } else { "RWH" }, "{written}");
        }
    }
    for bit in 0..len * 8 {
        let mut flash = whole.flash.clone();
        flash[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(stories(flash), "RWH", "bit {bit}");
    }
}

/// After the first registration too, a look-up replaces a registration, and a server error of the hub causes no
/// registration.
#[test]
fn the_first_registration_makes_a_device_known() {
    let mut world = World::new();
    world.boot(&mut Others::new("b", HubOutcome::Refused(401), "b").register(|_, _| Ok(at("a"))), DAY);
    // The look-up comes after the pause of the first registration.
    assert_eq!(world.story(), "RWhhLWH");
    let mut world = World::new();
    world.boot(&mut Others::new("", HubOutcome::Refused(503), "a"), 7 * DAY);
    assert_eq!(world.registers(), 1);
    assert!(world.look_ups() > 100);
}

#[test]
fn an_unreachable_hub_is_tried_for_20_to_30_minutes() {
    let mut world = World::at("a");
    let start = world.now;
    world.boot(&mut Others::new("b", HubOutcome::Unreachable, "b").look_up(|_, _| Ok(at("a"))), HOUR);
    for (wait, base) in world.waits().iter().zip([5, 10, 20, 40, 80, 160, 320, 320]) {
        is_between(*wait, base * SECOND, base * SECOND * 3 / 2);
    }
    // The last wait may end after the patience.
    is_between(world.times(|event| matches!(event, Event::LookUp(_)))[0] - start, 20 * MINUTE, 38 * MINUTE);
    assert_eq!(world.story().trim_start_matches('h'), "LRWH");
    assert!(world.story().starts_with("hhhhhhh"));
}

#[test]
fn a_connection_restarts_the_patience() {
    let mut world = World::at("a");
    let start = world.now;
    let mut others = Others::new("", HubOutcome::Unreachable, "b");
    // Ten minutes without a connection, then one connection, then none.
    others.hubs = Box::new(move |world, _, _| {
        let is_up = (10 * MINUTE..20 * MINUTE).contains(&(world.now - start));
        (if is_up { HubOutcome::Accepted } else { HubOutcome::Unreachable }, 10 * MINUTE)
    });
    world.boot(&mut others, HOUR);
    let accepted = world.times(|event| matches!(event, Event::Hub(_, _, HubOutcome::Accepted)));
    let broken = accepted.last().unwrap().saturating_add(10 * MINUTE);
    let after = world.log.iter().filter(|(time, _)| *time >= broken);
    let wait = after.clone().find_map(|(_, event)| if let Event::Wait(wait) = event { Some(*wait) } else { None });
    is_between(wait.unwrap(), 5 * SECOND, 8 * SECOND);
    let asked = world.times(|event| matches!(event, Event::LookUp(_)))[0];
    is_between(asked - broken, 20 * MINUTE, 38 * MINUTE);
}

/// A battery-powered device: 30 days of 5 s every 15 minutes.
#[test]
fn short_sessions_that_the_device_ends_cost_nothing() {
    for lasts in [Duration::ZERO, 5 * SECOND, 3 * MINUTE] {
        let mut world = World { end: HubOutcome::Closed, asleep: 15 * MINUTE, ..World::at("a") };
        let mut others = Others::new("a", HubOutcome::Unreachable, "a");
        others.hubs = Box::new(move |_, _, _| (HubOutcome::Accepted, lasts));
        world.boot(&mut others, 30 * DAY);
        assert_eq!((world.registers(), world.look_ups(), world.waits()), (0, 0, vec![]));
        let each = SECOND + lasts + 15 * MINUTE;
        is_between(each * world.count(|event| matches!(event, Event::Hub(..))) as u32, 30 * DAY, 30 * DAY + each);
    }
}

#[test]
fn a_hub_that_accepts_and_drops_counts_as_unreachable() {
    let longest = Reprovisioning::SHORTEST_SESSION;
    for (lasts, is_failure) in [
        (Duration::ZERO, true),
        (SECOND, true),
        (longest - Duration::from_millis(1), true),
        (longest, false),
        (5 * MINUTE, false),
    ] {
        let mut world = World::at("a");
        let start = world.now;
        let mut others = Others::new("a", HubOutcome::Unreachable, "a");
        others.hubs = Box::new(move |_, _, _| (HubOutcome::Accepted, lasts));
        world.boot(&mut others, DAY);
        let connects = world.count(|event| matches!(event, Event::Hub(..)));
        let asked = world.times(|event| matches!(event, Event::LookUp(_)));
        if is_failure {
            // The last session may begin just before the patience ends.
            is_between(asked[0] - start, 20 * MINUTE, 30 * MINUTE + lasts + 10 * SECOND);
            for (wait, base) in world.waits().iter().zip([5, 10, 20, 40, 80, 160, 320]) {
                // The last back-off ends with the patience.
                let shortest = if base == 320 { 5 } else { base };
                is_between(*wait, shortest * SECOND, base * SECOND * 3 / 2);
            }
            // DPS assigns the same hub again. Each registration resets the back-off.
            assert!((150..350).contains(&connects), "{lasts:?}: {connects}");
            assert!((2..=7).contains(&world.registers()), "{}", world.registers());
        } else {
            assert_eq!((asked.len(), world.registers()), (0, 0));
            assert!(world.waits().iter().all(|wait| *wait < 8 * SECOND));
        }
    }
    // DPS assigns a better hub.
    let mut world = World::at("a");
    let mut others = Others::new("", HubOutcome::Unreachable, "b");
    others.hubs = Box::new(|_, hub, _| (HubOutcome::Accepted, if hub == "a" { SECOND } else { 100 * DAY }));
    world.boot(&mut others, DAY);
    assert_eq!(world.story().trim_start_matches('H'), "LWH");
}

/// A failure before a short session still counts, unless the device ended the session.
#[test]
fn a_short_session_counts_depending_on_its_end() {
    for (end, is_over) in
        [(HubOutcome::Closed, true), (HubOutcome::Unreachable, false), (HubOutcome::Refused(500), false)]
    {
        let registration = registration(TOASTER);
        let flash = World::at("a").flash;
        let record = Record::read(&flash, &registration);
        let mut life =
            Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new().with_lookup(), record);
        life.on_hub(SECOND, HubOutcome::Unreachable);
        assert!(matches!(life.next(8 * SECOND), Next::Hub(_)));
        // Much later than the patience.
        life.on_hub(HOUR, HubOutcome::Accepted);
        life.on_hub(HOUR + SECOND, end);
        if is_over {
            // The device may connect again at any time.
            assert!(matches!(life.next(HOUR + SECOND), Next::Hub(_)));
            life.on_hub(HOUR + 10 * SECOND, HubOutcome::Unreachable);
            let Next::Wait(wait) = life.next(HOUR + 10 * SECOND) else { panic!() };
            is_between(wait, 5 * SECOND, 8 * SECOND);
        } else {
            assert!(matches!(life.next(HOUR + SECOND), Next::LookUp(_)), "{end:?}");
        }
    }
}

/// The device only has short sessions. Each day it is moved, and finds its new hub within minutes.
#[test]
fn an_hour_of_short_sessions_ends_the_series() {
    let mut world = World { end: HubOutcome::Closed, asleep: 15 * MINUTE, ..World::at("0") };
    let start = world.now;
    let day = move |world: &World| ((world.now - start).as_secs() / DAY.as_secs()).to_string();
    let mut others = Others::new("", HubOutcome::Unreachable, "").look_up(move |world, _| Ok(at(&day(world))));
    others.hubs = Box::new(move |world, hub, _| {
        (if hub == day(world) { HubOutcome::Accepted } else { HubOutcome::Refused(404) }, 5 * SECOND)
    });
    world.boot(&mut others, 30 * DAY);
    assert_eq!((world.look_ups(), world.registers(), world.waits()), (29, 0, vec![]));
}

/// A throttling hub is reachable, so the patience restarts. A new hub has its own patience.
#[test]
fn throttling_and_a_new_hub_restart_the_patience() {
    let mut world = World::at("a");
    let start = world.now;
    let mut others = Others::new("", HubOutcome::Unreachable, "b");
    others.hubs = Box::new(move |world, _, _| {
        let is_throttled = (10 * MINUTE..30 * MINUTE).contains(&(world.now - start));
        (if is_throttled { HubOutcome::Refused(429) } else { HubOutcome::Unreachable }, MINUTE)
    });
    world.boot(&mut others, HOUR + 20 * MINUTE);
    let throttled = world.times(|event| matches!(event, Event::Hub(_, _, HubOutcome::Refused(429))));
    let asked = world.times(|event| matches!(event, Event::LookUp(_)))[0];
    is_between(asked - *throttled.last().unwrap(), 20 * MINUTE, 46 * MINUTE);

    let new_hub = world.log.iter().position(|(_, event)| *event == Event::Written).unwrap();
    let wait = world.log[new_hub..]
        .iter()
        .find_map(|(_, event)| if let Event::Wait(wait) = event { Some(*wait) } else { None });
    is_between(wait.unwrap(), 5 * SECOND, 8 * SECOND);
    assert_eq!(world.look_ups(), 1);
}

#[test]
fn the_policy_sets_the_patience() {
    for (patience, longest) in [(0, 1), (60, 200), (15 * 60, 31 * 60)] {
        let mut world = World::at("a");
        world.policy = world.policy.with_hub_patience(patience * SECOND);
        let start = world.now;
        world.boot(&mut Others::new("b", HubOutcome::Unreachable, "b"), HOUR);
        let asked = world.times(|event| matches!(event, Event::LookUp(_)))[0] - start;
        is_between(asked, patience * SECOND, longest * SECOND);
    }
}

#[test]
fn a_throttled_device_stays_with_its_hub() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("", HubOutcome::Refused(429), "b"), 7 * DAY);
    assert_eq!(world.story().trim_start_matches('h'), "");
    let waits = world.waits();
    is_between(waits[0], 5 * SECOND, 8 * SECOND);
    assert!(waits[6..].iter().all(|wait| (320 * SECOND..=480 * SECOND).contains(wait)));
}

#[test]
fn a_hub_with_server_errors_is_looked_up_and_never_registered_away_from() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("", HubOutcome::Refused(503), "a"), 7 * DAY);
    assert_eq!(world.registers(), 0);
    is_between(world.look_ups() as u32 * MINUTE, 7 * DAY / 40, 7 * DAY / 20);
    assert!(world.waits().iter().all(|wait| *wait >= 5 * SECOND));

    // The device uses the hub from the look-up.
    let mut world = World::at("a");
    world.boot(&mut Others::new("b", HubOutcome::Refused(500), "b"), DAY);
    assert_eq!(world.story().trim_start_matches('h'), "LWH");

    // Without the look-up, the device stays with the hub in its record.
    let mut world = World::at("a");
    world.policy = ReprovisioningPolicy::new();
    world.boot(&mut Others::new("", HubOutcome::Refused(503), "b"), DAY);
    assert_eq!(world.story().trim_start_matches('h'), "");
}

/// The hub is down, and DPS assigns the same hub.
#[test]
fn a_hub_that_stays_down_costs_few_registrations() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("", HubOutcome::Unreachable, "a"), 30 * DAY);
    is_between(world.registers() as u32 * DAY, 20 * DAY, 36 * DAY);
    // The device tries the hub during the whole time.
    assert!(world.count(|event| matches!(event, Event::Hub(..))) > 30 * 24 * 60 / 9);
}

/// Limits billed calls, with the intervals in the documentation.
#[test]
fn a_hub_that_rejects_every_assigned_device_causes_no_loop() {
    let mut world = World::at("a");
    let start = world.now;
    world.boot(&mut Others::new("", HubOutcome::Refused(401), "a"), 60 * DAY);
    let registers = world.times(|event| matches!(event, Event::Register(_)));
    let minutes = [1, 4, 16, 64, 256, 1024].map(|minutes| minutes * MINUTE).into_iter().chain(std::iter::repeat(DAY));
    for (pair, pause) in registers.windows(2).zip(minutes) {
        is_between(pair[1] - pair[0], pause, pause * 3 / 2 + 10 * MINUTE);
    }
    assert!(registers.iter().filter(|time| **time < start + DAY).count() <= 7);
    is_between(registers.len() as u32 * DAY, 40 * DAY, 67 * DAY);
    // Before each later registration, the device tries the hub again.
    assert!(world.story().starts_with("hLRWhhLRWhhLRWh"), "{}", world.story());
}

#[test]
fn two_hubs_that_refuse_in_turn_cause_no_loop() {
    let mut world = World::at("a");
    let mut turns = 0;
    let mut others = Others::new("", HubOutcome::Refused(403), "a").look_up(move |_, _| {
        turns += 1;
        Ok(at(["b", "a"][turns % 2]))
    });
    world.boot(&mut others, DAY);
    assert!(world.look_ups() <= 14, "{}", world.look_ups());
}

#[test]
fn an_hour_with_a_hub_ends_the_series() {
    for (lasts, is_over) in [(59 * MINUTE, false), (61 * MINUTE, true)] {
        let mut world = World::at("a");
        world.policy = world.policy.with_first_pause(12 * HOUR);
        let mut asked = 0;
        let mut others = Others::new("", HubOutcome::Refused(401), "a");
        // The hub rejects the device, accepts it after the registration, ends the session, and rejects it again.
        others.hubs = Box::new(move |_, _, _| {
            asked += 1;
            (if asked == 2 { HubOutcome::Accepted } else { HubOutcome::Refused(401) }, lasts)
        });
        world.boot(&mut others, 2 * HOUR);
        assert_eq!(world.story(), if is_over { "hLRWHhLRWh" } else { "hLRWHh" });
        // Then the pauses start again with the shortest.
        assert!(*world.waits().last().unwrap() <= 18 * HOUR);
    }
}

#[test]
fn the_other_key_is_tried_once() {
    // The key that DPS accepts, and the expected requests with their keys.
    type Keys = (Option<KeyChoice>, &'static [(char, KeyChoice)]);
    use KeyChoice::{Primary, Secondary};
    let cases: [Keys; 3] = [
        (Some(Primary), &[('L', Primary), ('R', Primary)]),
        (Some(Secondary), &[('L', Primary), ('L', Secondary), ('R', Secondary)]),
        // A rejected look-up does not prevent a registration.
        (None, &[('L', Primary), ('L', Secondary), ('R', Primary), ('R', Secondary)]),
    ];
    // The service rejects a key with 401000 over MQTT, and with 401002 over HTTP. A proxy sends no code.
    let refusals = [refused(401, 401000), refused(401, 401002), answered(Provisioning::new, 401, "")];
    assert_eq!(refusals.map(|error| error.code().map(ErrorCode::value)), [Some(401000), Some(401002), None]);
    assert!(refusals.iter().all(|error| error.fault() == Fault::Credential));
    for ((accepts, expected), refusal) in cases.into_iter().flat_map(|case| refusals.map(|refusal| (case, refusal))) {
        let mut world = World::at("a");
        world.has_secondary_key = true;
        let answer = move |hub: &'static str| {
            move |_: &World, key| if Some(key) == accepts { Ok(at(hub)) } else { Err(refusal) }
        };
        let mut others = Others::new("b", HubOutcome::Refused(401), "b").look_up(answer("a")).register(answer("b"));
        world.boot(&mut others, 30 * SECOND);
        let asked: Vec<_> = world
            .log
            .iter()
            .filter_map(|(_, event)| match event {
                Event::LookUp(key) => Some(('L', *key)),
                Event::Register(key) => Some(('R', *key)),
                _ => None,
            })
            .collect();
        assert_eq!(asked, expected);
        if let Some(key) = accepts {
            assert_eq!(Record::read(&world.flash, &registration(TOASTER)).unwrap().key(), key);
            // The hub gets the accepted key in this boot and in the next boot.
            world.boot(&mut others, HOUR);
            let hubs = world.count(|event| *event == Event::Hub("b".into(), key, HubOutcome::Accepted));
            assert_eq!((hubs, world.registers()), (2, 1));
        }
    }
}

/// Over HTTP, DPS blocks the other key for 30 minutes after a registration. After three minutes the operator replaces
/// the primary key, and the hub accepts only the secondary key.
#[test]
fn the_secondary_key_is_accepted_when_the_primary_is_forgotten() {
    let mut world = World::new();
    world.has_secondary_key = true;
    let replaced = world.now + 3 * MINUTE;
    let is_blocked = move |world: &World| world.now < replaced + 27 * MINUTE;
    let mut others = Others::new("", HubOutcome::Unreachable, "a")
        .look_up(move |world, key| {
            if key == KeyChoice::Secondary && !is_blocked(world) { Ok(at("a")) } else { Err(refused(401, 401002)) }
        })
        .register(move |world, key| match key {
            KeyChoice::Primary if world.now < replaced => Ok(at("a")),
            KeyChoice::Secondary if !is_blocked(world) => Ok(at("a")),
            _ => Err(refused(401, 401002)),
        });
    others.hubs = Box::new(move |world, _, key| {
        let is_right = (key == KeyChoice::Primary) == (world.now < replaced);
        (if is_right { HubOutcome::Accepted } else { HubOutcome::Refused(401) }, 3 * MINUTE - 2 * SECOND)
    });
    world.boot(&mut others, DAY);
    let accepted = world.times(|event| matches!(event, Event::Hub(_, KeyChoice::Secondary, HubOutcome::Accepted)));
    is_between(accepted[0] - replaced, 27 * MINUTE, 3 * HOUR);
    assert_eq!(Record::read(&world.flash, &registration(TOASTER)).unwrap().key(), KeyChoice::Secondary);
    assert!(world.registers() <= 10, "{}", world.story());
}

#[test]
fn a_device_with_one_key_has_no_other() {
    let mut world = World::at("a");
    let mut others = Others::new("", HubOutcome::Refused(401), "a").look_up(|_, _| Err(unauthorized()));
    world.boot(&mut others, 30 * DAY);
    assert!(world.count(|event| matches!(event, Event::LookUp(KeyChoice::Secondary))) == 0);
    // The error is final until the operator acts, so look-ups pause like registrations.
    assert!(world.look_ups() < 37, "{}", world.look_ups());
}

#[test]
fn a_key_that_was_not_accepted_is_not_given_to_the_hub() {
    let mut world = World::at("a");
    world.has_secondary_key = true;
    let mut others = Others::new("", HubOutcome::Refused(401), "a")
        .look_up(|_, key| Err(if key == KeyChoice::Primary { unauthorized() } else { NETWORK }));
    world.boot(&mut others, DAY);
    assert!(world.look_ups() > 10);
    assert_eq!(world.count(|event| matches!(event, Event::Hub(_, KeyChoice::Secondary, _))), 0);
}

#[test]
fn a_key_that_was_accepted_is_kept() {
    let mut world = World::at("a");
    world.has_secondary_key = true;
    let mut others = Others::new("", HubOutcome::Refused(401), "a")
        .look_up(|_, key| if key == KeyChoice::Primary { Err(unauthorized()) } else { Ok(at("a")) })
        .register(|_, _| Err(NETWORK));
    world.boot(&mut others, DAY);
    let primary = world.count(|event| matches!(event, Event::Hub(_, KeyChoice::Primary, _)));
    assert_eq!((primary, world.count(|event| *event == Event::LookUp(KeyChoice::Primary))), (1, 1));
}

#[test]
fn the_first_registration_falls_back_too() {
    let mut world = World::new();
    world.has_secondary_key = true;
    let mut others = Others::new("a", HubOutcome::Unreachable, "a")
        .register(|_, key| if key == KeyChoice::Secondary { Ok(at("a")) } else { Err(unauthorized()) });
    world.boot(&mut others, HOUR);
    assert_eq!(world.story(), "RRWH");
    assert_eq!(Record::read(&world.flash, &registration(TOASTER)).unwrap().key(), KeyChoice::Secondary);
}

/// Each boot begins with the key in the record. A device with only one key uses this key.
#[test]
fn the_key_of_the_record_is_tried_first_at_the_next_boot() {
    for (has_secondary_key, asked) in [(true, KeyChoice::Secondary), (false, KeyChoice::Primary)] {
        for (looks_up, mut world) in [(true, World::new()), (false, World::new())] {
            world.policy = policy(looks_up);
            world.has_secondary_key = true;
            let is_secondary = |_: &World, key| match key {
                KeyChoice::Secondary => Ok(at("a")),
                KeyChoice::Primary => Err(unauthorized()),
            };
            world.boot(&mut Others::new("a", HubOutcome::Unreachable, "a").register(is_secondary), HOUR);
            assert_eq!(Record::read(&world.flash, &registration(TOASTER)).unwrap().key(), KeyChoice::Secondary);

            world.log.clear();
            world.has_secondary_key = has_secondary_key;
            let right = move |_: &World, key| if key == asked { Ok(at("b")) } else { Err(unauthorized()) };
            let mut others = Others::new("b", HubOutcome::Refused(401), "b").look_up(right).register(right);
            world.boot(&mut others, HOUR);
            let events: Vec<_> = world.log.iter().map(|(_, event)| event.clone()).skip(1).collect();
            let refused = Event::Hub("a".into(), KeyChoice::Secondary, HubOutcome::Refused(401));
            let request = if looks_up { Event::LookUp(asked) } else { Event::Register(asked) };
            let accepted = Event::Hub("b".into(), asked, HubOutcome::Accepted);
            assert_eq!(events, [refused, request, Event::Written, accepted]);
            assert_eq!(Record::read(&world.flash, &registration(TOASTER)).unwrap().key(), asked);
        }
    }
}

#[test]
fn without_a_network_the_hub_is_tried_and_nothing_is_billed() {
    let mut world = World::at("a");
    let mut others =
        Others::new("", HubOutcome::Unreachable, "a").look_up(|_, _| Err(NETWORK)).register(|_, _| Err(NETWORK));
    world.boot(&mut others, 7 * DAY);
    assert_eq!(world.registers(), 0);
    assert!(world.waits().iter().all(|wait| *wait <= 480 * SECOND));
}

/// The pause depends on whether a billed request may have been sent, not on the last error.
#[test]
fn pauses_depend_on_what_was_sent() {
    let errors = [
        NO_CONNECTION,
        NETWORK,
        Error::Untrusted,
        Error::TimedOut,
        Error::Signer(SignError::new("no answer")),
        Error::Tpm(TpmError::new("another TPM's key")),
        Error::Unsupported,
        unauthorized(),
        not_found(),
        refused(429, 429001),
        refused(503, 503001),
        refused(400, 400207),
        Error::Disabled,
        Error::Malformed(Malformed::HttpHead),
    ];
    for error in errors {
        for was_sent in [false, true] {
            let registration = registration(TOASTER);
            let policy = ReprovisioningPolicy::new().with_lookup();
            let mut life = Reprovisioning::new(registration.registration_id(), policy, Err(RecordError::Absent));
            let run = run_failed(Provisioning::new, registration, was_sent, error);
            assert_eq!(run.register_was_sent(), was_sent);
            assert_eq!(life.next(HOUR), REGISTER);
            life.on_failed(HOUR, &run);
            let Next::Wait(wait) = life.next(HOUR) else { panic!() };
            let [from, to] = if was_sent { [60, 90] } else { [5, 8] };
            is_between(wait, from * SECOND, to * SECOND);
            // After the wait comes another attempt, for any error.
            assert!(matches!(life.next(HOUR + wait), Next::Register(_) | Next::LookUp(_)));
        }
        // A look-up is not billed and causes no pause.
        let registration = registration(TOASTER);
        let flash = World::at("a").flash;
        let record = Record::read(&flash, &registration);
        let mut life =
            Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new().with_lookup(), record);
        life.on_hub(HOUR, HubOutcome::Refused(401));
        let run = run_failed(Provisioning::lookup, registration, true, error);
        assert!(!run.register_was_sent());
        life.on_failed(HOUR, &run);
        match life.next(HOUR) {
            Next::Register(_) => {}
            Next::Wait(wait) => is_between(wait, 5 * SECOND, 8 * SECOND),
            next => panic!("{error}: {next:?}"),
        }
    }
}

/// The clock is set a quarter of an hour after the first boot. Before, no certificate is valid.
#[test]
fn a_first_boot_without_a_clock_costs_nothing() {
    let mut world = World::new();
    let set = world.now + 15 * MINUTE;
    let mut others = Others::new("a", HubOutcome::Unreachable, "a")
        .register(move |world, _| if world.now < set { Err(Error::Untrusted) } else { Ok(at("a")) });
    world.boot(&mut others, DAY);
    for (wait, base) in world.waits().iter().zip([5, 10, 20, 40, 80, 160, 320]) {
        is_between(*wait, base * SECOND, base * SECOND * 3 / 2);
    }
    is_between(world.times(|event| *event == Event::Written)[0] - set, Duration::ZERO, 9 * MINUTE);
}

/// A register request was sent with the first key. With the second key, there was no connection.
#[test]
fn a_register_request_with_the_other_key_counts() {
    let registration = registration(TOASTER);
    let policy = ReprovisioningPolicy::new().with_lookup();
    let mut life = Reprovisioning::new(registration.registration_id(), policy, Err(RecordError::Absent));
    let mut keys = [toaster_key(), toaster_key()];
    let mut buffer = [0; 2048];
    let mut run = Provisioning::new(registration, Attestation::symmetric_key())
        .with_retry_policy(RetryPolicy::new().with_timeout(Duration::ZERO));
    run.start(Duration::ZERO, UNIX_TIME);
    run.sign_with(&mut keys, &mut buffer).unwrap();
    http::write_request(&mut run, Duration::ZERO, &mut buffer).unwrap();
    run.on_error(Duration::ZERO, unauthorized());
    assert_eq!((run.is_running(), run.key()), (true, KeyChoice::Secondary));
    run.sign_with(&mut keys, &mut buffer).unwrap();
    run.on_error(Duration::ZERO, NO_CONNECTION);
    assert_eq!(run.result(&[]), Err(NO_CONNECTION));
    life.on_failed(HOUR, &run);
    let Next::Wait(wait) = life.next(HOUR) else { panic!() };
    is_between(wait, 60 * SECOND, 90 * SECOND);
}

/// A dropped future, a result read from the wrong buffer, and a run that was not started.
#[test]
fn an_unfinished_run_is_a_failure_too() {
    let registration = registration(TOASTER);
    let sent = || {
        let mut run = Provisioning::new(registration, Attestation::x509());
        run.start(Duration::ZERO, 0);
        http::write_request(&mut run, Duration::ZERO, &mut [0; 2048]).unwrap();
        run
    };
    let mut assigned = sent();
    assigned.on_answer(Duration::ZERO, Answer::new(200, None, ASSIGNED.as_bytes()));
    let mut started = Provisioning::new(registration, Attestation::x509());
    started.start(Duration::ZERO, 0);
    let not_started = Provisioning::new(registration, Attestation::x509());
    for (run, was_sent) in [(sent(), true), (assigned, true), (started, false), (not_started, false)] {
        let record = Err(RecordError::Absent);
        let mut life =
            Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new().with_lookup(), record);
        life.on_failed(HOUR, &run);
        let Next::Wait(wait) = life.next(HOUR) else { panic!() };
        let [from, to] = if was_sent { [60, 90] } else { [5, 8] };
        is_between(wait, from * SECOND, to * SECOND);
        assert_eq!(matches!(life.next(DAY), Next::LookUp(_)), was_sent);
    }
}

/// A first boot without a network. The device keeps trying, and is assigned soon after the network is back.
#[test]
fn a_first_boot_without_a_network_keeps_trying() {
    let mut world = World::new();
    let up = world.now + DAY;
    let mut others = Others::new("a", HubOutcome::Unreachable, "a")
        .register(move |world, _| if world.now < up { Err(NO_CONNECTION) } else { Ok(at("a")) });
    world.boot(&mut others, 2 * DAY);
    is_between(world.times(|event| *event == Event::Written)[0] - up, Duration::ZERO, 9 * MINUTE);
    assert!(world.story().ends_with("RWH"));
}

#[test]
fn a_registration_whose_answer_is_lost_is_looked_up() {
    for error in [NETWORK, Error::TimedOut, refused(500, 500001), refused(429, 429001)] {
        let mut world = World::new();
        let mut others = Others::new("a", HubOutcome::Unreachable, "a").register(move |_, _| Err(error));
        world.boot(&mut others, HOUR);
        assert_eq!(world.story(), "RLWH", "{error}");

        // If the look-up does not help, registrations pause for at most about an hour, plus jitter.
        for look_up in [true, false] {
            let mut world = World::new();
            world.policy = policy(look_up);
            let mut others = Others::new("", HubOutcome::Unreachable, "a")
                .look_up(|_, _| Err(not_found()))
                .register(move |_, _| Err(error));
            world.boot(&mut others, 10 * DAY);
            let registers = world.times(|event| matches!(event, Event::Register(_)));
            for (pair, minutes) in registers.windows(2).zip([1, 4, 16].into_iter().chain(std::iter::repeat(64))) {
                is_between(pair[1] - pair[0], minutes * MINUTE, minutes * MINUTE * 3 / 2 + MINUTE);
            }
        }
    }
}

#[test]
fn final_errors_are_paused() {
    for error in [
        not_found(),
        refused(400, 400207),
        Error::Disabled,
        Error::Tpm(TpmError::new("another TPM's key")),
        unauthorized(),
        refused(403, 403000),
    ] {
        for mut world in [World::new(), World::at("a")] {
            let mut others = Others::new("", HubOutcome::Refused(401), "a")
                .look_up(move |_, _| Err(error))
                .register(move |_, _| Err(error));
            world.boot(&mut others, 30 * DAY);
            let asked = world.registers().max(world.look_ups());
            assert!((10..37).contains(&asked), "{error}: {asked}");
        }
    }
}

/// The look-up only returns the result of the last registration. So a look-up alone would never show that the
/// enrollment is enabled again.
#[test]
fn an_enrollment_that_was_enabled_again_is_noticed() {
    let mut world = World::at("a");
    let (start, enabled) = (world.now, world.now + 12 * HOUR);
    let mut others = Others::new("", HubOutcome::Refused(401), "a")
        .look_up(|_, _| Err(Error::Disabled))
        .register(move |world, _| if world.now < enabled { Err(Error::Disabled) } else { Ok(at("a")) });
    others.hubs = Box::new(move |world, _, _| {
        let was_assigned = world.log.iter().any(|(_, event)| *event == Event::Written);
        (if was_assigned { HubOutcome::Accepted } else { HubOutcome::Refused(401) }, 100 * DAY)
    });
    world.boot(&mut others, 4 * DAY);
    let accepted = world.times(|event| matches!(event, Event::Hub(_, _, HubOutcome::Accepted)));
    is_between(accepted[0] - enabled, Duration::ZERO, 26 * HOUR);
    // Each look-up leads to a registration, and each registration causes a pause.
    assert_eq!(world.registers(), world.look_ups());
    let registers = world.times(|event| matches!(event, Event::Register(_)));
    assert!(registers.iter().filter(|time| **time < start + DAY).count() <= 7);
}

/// The pauses limit registrations, because they are billed. Connections to the hub are more frequent, so the device
/// soon notices that the hub accepts it again.
#[test]
fn a_hub_that_has_refused_a_device_is_tried_every_hour() {
    for look_up in [false, true] {
        let mut world = World::at("a");
        world.policy = policy(look_up);
        let (start, back) = (world.now, world.now + 5 * DAY);
        let mut others = Others::new("", HubOutcome::Refused(401), "a");
        others.hubs = Box::new(move |world, _, _| {
            (if world.now >= back { HubOutcome::Accepted } else { HubOutcome::Refused(401) }, 100 * DAY)
        });
        world.boot(&mut others, 6 * DAY);
        let hubs = world.times(|event| matches!(event, Event::Hub(..)));
        for pair in hubs.windows(2) {
            is_between(pair[1] - pair[0], Duration::ZERO, 90 * MINUTE + 10 * SECOND);
        }
        is_between(*hubs.last().unwrap() - back, Duration::ZERO, 91 * MINUTE);
        let in_last_day = hubs.iter().filter(|time| **time >= start + 4 * DAY).count();
        assert!(in_last_day <= 26, "{in_last_day}");
        assert!(world.registers() <= 11, "{}", world.registers());
    }
}

/// The device keeps trying an unreachable hub, although DPS returns a final error.
#[test]
fn a_final_error_does_not_keep_a_device_from_its_hub() {
    let mut world = World::at("a");
    let back = world.now + 3 * DAY;
    let mut others = Others::new("", HubOutcome::Unreachable, "a")
        .look_up(|_, _| Err(not_found()))
        .register(|_, _| Err(not_found()));
    others.hubs = Box::new(move |world, _, _| {
        (if world.now >= back { HubOutcome::Accepted } else { HubOutcome::Unreachable }, 100 * DAY)
    });
    world.boot(&mut others, 4 * DAY);
    let accepted = world.times(|event| matches!(event, Event::Hub(_, _, HubOutcome::Accepted)));
    is_between(accepted[0] - back, Duration::ZERO, 9 * MINUTE);
}

/// Another server, such as a captive portal, answers instead of DPS.
#[test]
fn another_server_counts_as_no_network() {
    for error in [Error::Untrusted, NETWORK, NO_CONNECTION, Error::TimedOut, refused(503, 503000), refused(429, 429001)]
    {
        let mut world = World::at("a");
        let mut others =
            Others::new("", HubOutcome::Refused(401), "a").look_up(move |_, _| Err(error)).register(|_, _| panic!());
        world.boot(&mut others, DAY);
        assert!(world.look_ups() > 24 * 60 / 9);
    }
}

/// A look-up does not change the failed registration that the service has stored. An unreadable or rejected look-up
/// says nothing about a registration.
#[test]
fn an_inconclusive_look_up_leads_to_a_registration() {
    for error in [
        failed(409203),
        failed(429001),
        failed(500000),
        Error::Malformed(Malformed::Missing("assignedHub")),
        Error::Unassigned,
        Error::Unsupported,
        Error::Tpm(TpmError::new("another TPM's key")),
        unauthorized(),
        not_found(),
    ] {
        // After the operator has moved the device, and after a first registration that failed.
        let mut moved = World::at("a");
        let mut first = World::new();
        for world in [&mut moved, &mut first] {
            let mut attempts = 0;
            let mut others = Others::new("b", HubOutcome::Refused(401), "b").look_up(move |_, _| Err(error)).register(
                move |_, _| {
                    attempts += 1;
                    if attempts == 1 { Err(failed(500000)) } else { Ok(at("b")) }
                },
            );
            world.boot(&mut others, DAY);
            assert_eq!(world.hub_in_flash(), "b", "{error}");
            assert_eq!(world.registers(), 2, "{error}");
            assert!(world.look_ups() <= 2, "{error}");
        }
    }
    // If the service rejects the keys only for the look-up, the registration still tries both keys, the first key
    // first.
    let mut world = World { has_secondary_key: true, ..World::at("a") };
    let mut others = Others::new("b", HubOutcome::Refused(401), "b").look_up(|_, _| Err(unauthorized())).register(
        |_, key| match key {
            KeyChoice::Primary => Ok(at("b")),
            KeyChoice::Secondary => Err(unauthorized()),
        },
    );
    world.boot(&mut others, DAY);
    assert_eq!((world.registers(), world.look_ups(), world.hub_in_flash().as_str()), (1, 2, "b"));
}

#[test]
fn the_operator_can_request_reprovisioning() {
    let registration = registration(TOASTER);
    let record = World::at("a").flash;
    let record = Record::read(&record, &registration);
    let mut life =
        Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new().with_lookup(), record);
    let now = HOUR;
    assert_eq!(life.next(now), Next::Hub(KeyChoice::Primary));
    life.on_hub(now, HubOutcome::Accepted);
    life.provision_again();
    assert_eq!(life.next(now), Next::Register(KeyChoice::Primary));
    // The same hub is written again, because the payload may be new.
    let answer = at("a");
    assert!(life.on_assigned(now, &assigned(&registration, &answer).unwrap(), KeyChoice::Primary));
    assert_eq!(life.next(now), Next::Hub(KeyChoice::Primary));

    // Time with the previous hub does not count for the new hub.
    let later = now + 2 * HOUR;
    life.on_hub(now, HubOutcome::Accepted);
    life.provision_again();
    assert!(life.on_assigned(later, &assigned(&registration, &answer).unwrap(), KeyChoice::Primary));
    life.on_hub(later, HubOutcome::Refused(401));
    let Next::Wait(wait) = life.next(later) else { panic!() };
    is_between(wait, 4 * MINUTE, 6 * MINUTE);

    // If DPS fails, the device soon connects to its hub again.
    life.provision_again();
    assert_eq!(life.next(later), Next::Register(KeyChoice::Primary));
    life.on_failed(later, &failed_with(REGISTER, NO_CONNECTION));
    let Next::Wait(wait) = life.next(later) else { panic!() };
    assert!(wait < MINUTE);
    assert_eq!(life.next(later + wait), Next::Hub(KeyChoice::Primary));
}

#[test]
fn calls_at_the_wrong_time_change_nothing() {
    let registration = registration(TOASTER);
    let answer = at("b");
    let assignment = assigned(&registration, &answer).unwrap();
    let record = World::at("a").flash;
    let record = Record::read(&record, &registration);
    let mut life =
        Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new().with_lookup(), record);
    assert!(!life.on_assigned(SECOND, &assignment, KeyChoice::Secondary));
    life.on_failed(SECOND, &failed_with(REGISTER, NETWORK));
    assert_eq!(life.next(SECOND), Next::Hub(KeyChoice::Primary));

    life.on_hub(SECOND, HubOutcome::Unreachable);
    let Next::Wait(wait) = life.next(SECOND) else { panic!() };
    assert!(!life.on_assigned(SECOND, &assignment, KeyChoice::Secondary));
    life.on_failed(SECOND, &failed_with(REGISTER, NETWORK));
    life.on_hub(SECOND, HubOutcome::Refused(401));
    assert_eq!(life.next(SECOND), Next::Wait(wait));
    // The device may wait longer than required.
    assert_eq!(life.next(100 * DAY), Next::Hub(KeyChoice::Primary));
    // The end of a session that did not exist.
    life.on_hub(100 * DAY, HubOutcome::Closed);
    assert_eq!(life.next(100 * DAY), Next::Hub(KeyChoice::Primary));

    life.on_hub(100 * DAY, HubOutcome::Refused(401));
    life.on_hub(100 * DAY, HubOutcome::Accepted);
    assert_eq!(life.next(100 * DAY), Next::LookUp(KeyChoice::Primary));
}

/// A device that reboots after each registration, for three months.
#[test]
fn reboots_do_not_cause_more_requests() {
    type Failing = Option<fn() -> Error>;
    let others: [(bool, Failing, Failing); 6] = [
        // DPS assigns a hub that rejects the device.
        (true, None, None),
        (false, None, None),
        (true, Some(|| Error::Disabled), None),
        (false, None, Some(not_found)),
        (false, None, Some(|| NETWORK)),
        (true, Some(not_found), Some(|| refused(429, 429001))),
    ];
    for (looks_up, look_up, register) in others {
        for mut world in [World::new(), World::at("a")] {
            for reboots in [false, true] {
                world.policy = policy(looks_up).with_jitter_seed(7);
                world.reboots = reboots;
                world.log.clear();
                world.saved = [0xff; Pauses::LEN];
                let answer = |error: Failing| move |_: &World, _| error.map_or(Ok(at("a")), |error| Err(error()));
                let mut others =
                    Others::new("", HubOutcome::Refused(401), "a").look_up(answer(look_up)).register(answer(register));
                let start = world.now;
                while world.now < start + 90 * DAY {
                    world.boot(&mut others, 90 * DAY);
                    // Guards against an endless loop. One request an hour gives fewer.
                    assert!(world.registers() + world.look_ups() < 5000, "too many requests to DPS");
                }
                let asked = world.times(|event| matches!(event, Event::Register(_)));
                let longest = if register.is_some_and(|error| error() != not_found()) { 64 } else { 24 * 60 };
                // The minimum of each pause.
                let pauses = [1, 4, 16, 64, 256, 1024].map(|minutes: u32| minutes.min(longest));
                for (pair, pause) in asked.windows(2).zip(pauses.into_iter().chain(std::iter::repeat(longest))) {
                    is_between(pair[1] - pair[0], pause * MINUTE, pause * MINUTE * 3 / 2 + 10 * MINUTE);
                }
                assert!(asked.len() > 50, "{}", asked.len());
            }
        }
    }
}

/// A saved pause continues after a reboot, and the next pause is four times as long.
#[test]
fn pauses_continue_after_a_reboot() {
    let id = registration(TOASTER).registration_id();
    let policy = ReprovisioningPolicy::new();
    let mut now = HOUR;
    let mut saved = Pauses::default();
    for minutes in [1, 4, 16, 64, 256, 1024, 1440, 1440] {
        let mut life = Reprovisioning::new(id, policy, Err(RecordError::Absent)).with_pauses(now, saved);
        assert_eq!(life.pauses(now), saved);
        if let Next::Wait(wait) = life.next(now) {
            now += wait;
        }
        assert_eq!(life.next(now), REGISTER);
        life.on_failed(now, &run_failed(Provisioning::new, registration(TOASTER), true, not_found()));
        let Next::Wait(wait) = life.next(now) else { panic!() };
        is_between(wait, minutes * MINUTE, minutes * MINUTE * 3 / 2);
        // The device reboots in the middle of the pause, and its clock restarts.
        let half = now + wait / 2 + Duration::from_millis(1);
        saved = Pauses::from_bytes(&life.pauses(half).to_bytes()).unwrap();
        now = Duration::ZERO;
        let mut life = Reprovisioning::new(id, policy, Err(RecordError::Absent)).with_pauses(now, saved);
        let Next::Wait(left) = life.next(now) else { panic!() };
        // The rest of the pause is never shorter than before.
        is_between(left, wait / 2 - Duration::from_millis(1), wait / 2 + SECOND);

        // The device was off for some time, and knows for how long.
        for (off, expected) in [(Duration::ZERO, left), (left / 2, left / 2), (left, Duration::ZERO)] {
            let mut life = Reprovisioning::new(id, policy, Err(RecordError::Absent));
            life = life.with_pauses(now, saved.after(off));
            match life.next(now) {
                Next::Wait(wait) => is_between(wait, expected, expected + SECOND),
                next => assert_eq!((next, expected), (REGISTER, Duration::ZERO)),
            }
        }
        assert_eq!(saved.after(Duration::MAX), saved.after(2 * left));
    }
}

/// The hub in the record is tried first, also during a pause.
#[test]
fn a_pause_does_not_keep_a_device_from_its_hub_after_a_reboot() {
    let registration = registration(TOASTER);
    let flash = World::at("a").flash;
    let policy = ReprovisioningPolicy::new();
    let mut before = Reprovisioning::new(registration.registration_id(), policy, Err(RecordError::Absent));
    before.on_failed(HOUR, &run_failed(Provisioning::new, registration, true, not_found()));
    let saved = before.pauses(HOUR);
    let mut life = Reprovisioning::new(registration.registration_id(), policy, Record::read(&flash, &registration))
        .with_pauses(SECOND, saved);
    assert_eq!(life.next(SECOND), Next::Hub(KeyChoice::Primary));
    life.on_hub(SECOND, HubOutcome::Refused(401));
    let Next::Wait(wait) = life.next(SECOND) else { panic!() };
    is_between(wait, 60 * SECOND, 91 * SECOND);

    // After an hour with the hub, there is no pause to save.
    let mut life = Reprovisioning::new(registration.registration_id(), policy, Record::read(&flash, &registration))
        .with_pauses(SECOND, saved);
    life.on_hub(SECOND, HubOutcome::Accepted);
    assert_ne!(life.pauses(HOUR), Pauses::default());
    assert_eq!(life.pauses(SECOND + HOUR), Pauses::default());
}

/// Erased flash, a write that stops at each byte, over erased flash and over older pauses, and each bit flipped.
#[test]
fn unreadable_pauses_are_ignored() {
    let id = registration(TOASTER).registration_id();
    let mut life = Reprovisioning::new(id, ReprovisioningPolicy::new(), Err(RecordError::Absent));
    let older = life.pauses(HOUR).to_bytes();
    life.on_failed(HOUR, &run_failed(Provisioning::new, registration(TOASTER), true, not_found()));
    let saved = life.pauses(HOUR).to_bytes();
    assert_eq!(Pauses::from_bytes(&saved), Some(life.pauses(HOUR)));
    assert_eq!(Pauses::from_bytes(&older), Some(Pauses::default()));
    for erased in [[0xff; Pauses::LEN], [0; Pauses::LEN]] {
        assert_eq!(Pauses::from_bytes(&erased), None);
    }
    for below in [[0xff; Pauses::LEN], [0; Pauses::LEN], older] {
        for written in 1..Pauses::LEN {
            let mut flash = below;
            flash[..written].copy_from_slice(&saved[..written]);
            if flash != below && flash != saved {
                assert_eq!(Pauses::from_bytes(&flash), None, "{written}");
            }
        }
    }
    for bit in 0..Pauses::LEN * 8 {
        let mut flipped = saved;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Pauses::from_bytes(&flipped), None, "bit {bit}");
    }
}

#[test]
fn devices_do_not_retry_at_the_same_time() {
    let waits = |ids: [&'static str; 6], seed| {
        let mut waits = ids.map(|id| {
            let policy = ReprovisioningPolicy::new().with_lookup().with_jitter_seed(seed);
            let record = Err(azure_dps::error::RecordError::Absent);
            let mut life = Reprovisioning::new(registration(id).registration_id(), policy, record);
            life.on_failed(HOUR, &failed_with(REGISTER, NO_CONNECTION));
            let Next::Wait(wait) = life.next(HOUR) else { panic!() };
            wait
        });
        waits.sort();
        assert!(waits.windows(2).all(|pair| pair[0] != pair[1]), "{waits:?}");
        waits
    };
    let ids = ["dev-1", "dev-2", "dev-3", "dev-4", TOASTER, HEAT_PUMP];
    assert_ne!(waits(ids, 0), waits(ids, 7919));
}

#[test]
fn connack_return_codes() {
    for (return_code, expected) in [
        (0, HubOutcome::Accepted),
        (1, HubOutcome::Refused(400)),
        (2, HubOutcome::Refused(401)),
        (3, HubOutcome::Refused(503)),
        (4, HubOutcome::Refused(401)),
        (5, HubOutcome::Refused(401)),
        (6, HubOutcome::Refused(400)),
        (255, HubOutcome::Refused(400)),
    ] {
        assert_eq!(HubOutcome::from_connack(return_code), expected);
    }
}

#[test]
fn the_state_is_as_small_as_documented() {
    assert!(size_of::<Reprovisioning>() < 160, "{}", size_of::<Reprovisioning>());
}

// ---- A search over all states ----

#[derive(Clone, Copy, Debug)]
enum Input {
    Hub(HubOutcome),
    /// A session of this length. The hub ends it.
    Session(Duration),
    /// The answer of a look-up, which never has a certificate, or of a registration.
    Assigned(&'static str, bool),
    /// An index into [`Search::failures`].
    Failed(usize),
    ProvisionAgain,
}

const HUB_INPUTS: [Input; 8] = [
    Input::Hub(HubOutcome::Accepted),
    Input::Hub(HubOutcome::Closed),
    Input::Hub(HubOutcome::Refused(401)),
    Input::Hub(HubOutcome::Refused(429)),
    Input::Hub(HubOutcome::Refused(503)),
    Input::Hub(HubOutcome::Unreachable),
    Input::Session(SECOND),
    Input::Session(DAY),
];
const ANSWERS: [Input; 4] =
    [Input::Assigned("a", false), Input::Assigned("b", false), Input::Assigned("a", true), Input::Assigned("b", true)];

/// The state of a device as seen from outside.
#[derive(Clone, Debug)]
struct Seen {
    hub: Option<&'static str>,
    /// `true` if the record or an answer on its way may have a certificate.
    has_certificate: bool,
    /// The key that the service accepted last.
    key: KeyChoice,
}

struct Search<'a> {
    policy: ReprovisioningPolicy,
    /// The key that the service accepts.
    key: KeyChoice,
    record: Result<Record<'a>, RecordError>,
    seen: Seen,
    answers: [Assignment<'a>; 4],
    /// Failed runs, and whether each may have caused an issued certificate.
    failures: &'a [(Provisioning<'a>, bool)],
    is_look_up_reached: bool,
    is_look_up_followed: bool,
}

impl Search<'_> {
    /// Visits every reachable state, with each input, after a second and after a day. Returns the number of states.
    fn run(&mut self) -> usize {
        let mut visited = HashSet::new();
        // Breadth-first, so the path to each state is the shortest.
        let mut open = VecDeque::from([Vec::new()]);
        while let Some(path) = open.pop_front() {
            let (next, state) = self.replay(&path);
            if !visited.insert(state) {
                continue;
            }
            let inputs: Vec<_> = match next {
                Next::Hub(_) => HUB_INPUTS.into(),
                Next::LookUp(_) => {
                    ANSWERS[..2].iter().copied().chain((0..self.failures.len()).map(Input::Failed)).collect()
                }
                Next::Register(_) => ANSWERS.into_iter().chain((0..self.failures.len()).map(Input::Failed)).collect(),
                Next::Wait(_) => Vec::new(),
            };
            for input in inputs.into_iter().chain([Input::ProvisionAgain]) {
                for later in [SECOND, DAY] {
                    open.push_back([&path[..], &[(input, later)]].concat());
                }
            }
        }
        visited.len()
    }

    /// Replays these inputs, including the waits.
    fn replay(&mut self, path: &[(Input, Duration)]) -> (Next, String) {
        let registration = registration(TOASTER);
        let mut life = Reprovisioning::new(registration.registration_id(), self.policy, self.record);
        let mut seen = self.seen.clone();
        let mut now = DAY;
        for (input, later) in path {
            let next = due(&mut life, &mut now);
            match *input {
                Input::Hub(answer) => life.on_hub(now, answer),
                Input::Session(lasts) => {
                    life.on_hub(now, HubOutcome::Accepted);
                    now += lasts;
                    life.on_hub(now, HubOutcome::Unreachable);
                }
                Input::Assigned(hub, has_certificate) => {
                    let which = usize::from(hub == "b") + 2 * usize::from(has_certificate);
                    let was_known = seen.hub;
                    if life.on_assigned(now, &self.answers[which], self.key) {
                        if let Next::LookUp(_) = next {
                            assert!(!seen.has_certificate, "a look-up takes the certificate away: {path:?}");
                            self.is_look_up_followed = true;
                        }
                        seen = Seen { hub: Some(hub), has_certificate, key: self.key };
                    } else {
                        assert_eq!(
                            (was_known, has_certificate),
                            (Some(hub), false),
                            "a new assignment is lost: {path:?}"
                        );
                        seen.key = self.key;
                    }
                }
                Input::Failed(which) => {
                    let (run, may_be_issued) = &self.failures[which];
                    life.on_failed(now, run);
                    seen.has_certificate |= may_be_issued & matches!(next, Next::Register(_));
                }
                Input::ProvisionAgain => life.provision_again(),
            }
            now += *later;
        }
        let next = due(&mut life, &mut now);
        if let Next::LookUp(_) = next {
            assert!(!seen.has_certificate, "a useless look-up: {path:?}");
            self.is_look_up_reached = true;
        }
        if let Next::Hub(_) = next {
            assert!(seen.hub.is_some());
        }
        if let Next::Hub(key) | Next::LookUp(key) | Next::Register(key) = next {
            assert_eq!((key, life.key()), (seen.key, seen.key), "{path:?}");
        }
        (next, format!("{seen:?} {}", abstracted(&life, now)))
    }
}

fn due(life: &mut Reprovisioning, now: &mut Duration) -> Next {
    loop {
        match life.next(*now) {
            Next::Wait(wait) => *now += wait,
            next => return next,
        }
    }
}

/// Returns a state without its numbers. A time is reduced to past or future.
fn abstracted(life: &Reprovisioning, now: Duration) -> String {
    let text = format!("{life:?}");
    let mut words = String::new();
    for word in text.split_inclusive([' ', ',', '(', ')', '{', '}']) {
        let number = word.trim_end_matches([' ', ',', '(', ')', '{', '}']);
        let seconds = number.strip_suffix('s').filter(|text| !text.ends_with(['m', 'n', 'µ']));
        match seconds.and_then(|seconds| seconds.parse::<f64>().ok()).map(|seconds| now.as_secs_f64() - seconds) {
            Some(ago) if ago < 0.0 => words += "future ",
            // A session is short, long, or long enough to end a series of failures.
            Some(ago) if words.ends_with("accepted: Some(") => {
                words += ["short ", "long ", "settled "][usize::from(ago >= 120.0) + usize::from(ago >= 3600.0)]
            }
            Some(_) => words += "past ",
            None if number.starts_with(|first: char| first.is_ascii_digit()) => words += "number ",
            None => words += word,
        }
    }
    words
}

/// Starts from every record, with every policy, and with all answers of hub and DPS in any order. A record with a
/// certificate is never replaced by a record without one, unless a registration returned none.
#[test]
fn a_certificate_survives_every_path() {
    let registration = registration(TOASTER);
    let bodies = [at("a"), at("b"), with_chain(&at("a")), with_chain(&at("b"))];
    let answers = std::array::from_fn(|which| assigned(&registration, &bodies[which]).unwrap());
    let with_csr = registration.with_csr(Csr::from_der(CSR).unwrap());
    let mut failures = Vec::new();
    for error in [NETWORK, unauthorized(), not_found(), Error::Disabled, BufferTooSmall::at_least(9000).into()] {
        for (registration, was_sent) in [(registration, false), (registration, true), (with_csr, true)] {
            let run = run_failed(Provisioning::new, registration, was_sent, error);
            // The run may have sent its request twice, and lost the first answer.
            failures.push((run, registration.csr().is_some()));
        }
    }
    let whole = bodies.each_ref().map(|body| {
        let mut world = World::new();
        world.write(body, KeyChoice::Primary);
        world.flash
    });
    let torn = |flash: &[u8], at: usize| [&flash[..at], &vec![0xff; flash.len() - at]].concat();
    // A complete record, a record with another layout version, and a record with an impossible hub.
    let changed = |flash: &[u8], change: fn(&mut Vec<u8>)| {
        let len = 16 + u32::from_le_bytes(flash[4..8].try_into().unwrap()) as usize;
        let mut record = flash[..len].to_vec();
        change(&mut record);
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&record);
        record.extend(&digest[..16]);
        record
    };
    let layout: fn(&mut Vec<u8>) = |record| record[2] = 9;
    let impossible: fn(&mut Vec<u8>) = |record| {
        let at = record.windows(11).position(|window| window == b"assignedHub").unwrap();
        record[at] = b'A';
    };
    let foreign: fn(&mut Vec<u8>) = |record| record[8] ^= 1;
    let [plain, _, chain, _] = &whole;
    let records = [
        (vec![0xff; 64], false, Some(RecordError::Absent)),
        (plain.clone(), false, None),
        (chain.clone(), true, None),
        (torn(plain, 200), false, Some(RecordError::Torn { flags: 6 })),
        (torn(chain, 3), true, Some(RecordError::Torn { flags: 0xff })),
        (torn(chain, 200), true, Some(RecordError::Torn { flags: 0 })),
        (changed(plain, layout), false, Some(RecordError::Layout { version: 9, flags: 6 })),
        (changed(chain, layout), true, Some(RecordError::Layout { version: 9, flags: 0 })),
        (changed(plain, impossible), false, Some(RecordError::Impossible(Malformed::Missing("assignedHub")))),
        (changed(chain, impossible), true, Some(RecordError::Impossible(Malformed::Missing("assignedHub")))),
        // Another device's certificate is useless.
        (changed(chain, foreign), false, Some(RecordError::Foreign)),
    ];
    let day = ReprovisioningPolicy::new();
    let zero =
        day.with_first_pause(Duration::ZERO).with_longest_pause(Duration::ZERO).with_hub_patience(Duration::ZERO);
    let (mut states, mut look_ups, mut followed) = (0, 0, 0);
    for (flash, has_certificate, error) in &records {
        let record = Record::read(flash, &registration);
        assert_eq!(record.err(), *error);
        for (policy, looks_up) in [(day, false), (zero, false), (day.with_lookup(), true), (zero.with_lookup(), true)] {
            for key in [KeyChoice::Primary, KeyChoice::Secondary] {
                let mut search = Search {
                    policy,
                    key,
                    record,
                    seen: Seen {
                        hub: record.ok().map(|_| "a"),
                        has_certificate: *has_certificate,
                        key: KeyChoice::Primary,
                    },
                    answers,
                    failures: &failures,
                    is_look_up_reached: false,
                    is_look_up_followed: false,
                };
                states += search.run();
                assert_eq!(search.is_look_up_reached, looks_up);
                look_ups += usize::from(search.is_look_up_reached);
                followed += usize::from(search.is_look_up_followed);
            }
        }
    }
    println!("{states} states of {} beginnings, {look_ups} with look-ups", records.len() * 8);
    // The search reaches enough states.
    assert!(states > 10_000, "{states}");
    assert_eq!((look_ups, followed), (44, 44));
}

#[derive(Clone, Debug)]
enum Any {
    Accepted,
    Closed,
    Refused(u16),
    Unreachable,
    Hub(bool),
    Error(u8),
    Again,
}

fn any_event() -> impl Strategy<Value = (Any, u64)> {
    let status = prop_oneof![Just(400), Just(401), Just(404), Just(429), Just(503), any::<u16>()];
    let event = prop_oneof![
        Just(Any::Accepted),
        Just(Any::Closed),
        status.prop_map(Any::Refused),
        Just(Any::Unreachable),
        any::<bool>().prop_map(Any::Hub),
        (0..9_u8).prop_map(Any::Error),
        Just(Any::Again),
    ];
    (event, prop_oneof![0..10_u64, 0..10_000_u64, any::<u64>()])
}

proptest! {
    /// With any saved pauses, a wait is at most the policy's longest pause plus its jitter.
    #[test]
    fn any_pauses(bytes in any::<[u8; 5]>(), now in any::<u64>(), longest in any::<u32>(), off in any::<u64>()) {
        let id = registration(TOASTER).registration_id();
        let policy = ReprovisioningPolicy::new().with_longest_pause(Duration::from_secs(longest.into()));
        let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let check = hash.to_le_bytes();
        let [a, b, c, d, e] = bytes;
        let pauses = Pauses::from_bytes(&[a, b, c, d, e, check[0], check[1], check[2]]).unwrap();
        let now = Duration::from_secs(now);
        let mut life = Reprovisioning::new(id, policy, Err(RecordError::Absent));
        life = life.with_pauses(now, pauses.after(Duration::from_secs(off)));
        match life.next(now) {
            Next::Wait(wait) => prop_assert!(wait <= 18 * DAY + SECOND && wait.as_secs() <= u64::from(longest) * 3 / 2),
            next => prop_assert_eq!(next, REGISTER),
        }
        let end = now.saturating_add(100 * DAY);
        prop_assert_eq!(life.next(end), REGISTER);
        life.on_failed(end, &failed_with(REGISTER, not_found()));
        prop_assert!(life.pauses(end).after(Duration::MAX).to_bytes()[0] > 0);
    }

    /// For any events at any times, there is a next step, and no wait exceeds its bounds.
    #[test]
    fn any_life(
        events in prop::collection::vec(any_event(), 0..200),
        patience in prop_oneof![Just(0), Just(1200), any::<u64>()],
        pauses in (any::<u64>(), any::<u64>()),
        look_up in any::<bool>(),
        has_record in any::<bool>(),
    ) {
        let registration = registration(TOASTER);
        let answers = [at("a"), at("b")];
        let world = if has_record { World::at("a") } else { World::new() };
        let record = Record::read(&world.flash, &registration);
        let policy = policy(look_up)
            .with_hub_patience(Duration::from_secs(patience))
            .with_first_pause(Duration::from_secs(pauses.0))
            .with_longest_pause(Duration::from_secs(pauses.1));
        let mut life = Reprovisioning::new(registration.registration_id(), policy, record);
        let errors = [
            NETWORK, NO_CONNECTION, unauthorized(), not_found(), refused(503, 503001), Error::Disabled, Error::Signer(SignError::new("no answer")),
            Error::TimedOut, Error::Untrusted,
        ];
        let mut now = Duration::ZERO;
        for (event, later) in events {
            let next = life.next(now);
            match next {
                Next::Wait(wait) => {
                    prop_assert!(!wait.is_zero() && wait <= 19 * DAY);
                    now = now.saturating_add(wait.min(Duration::from_secs(later)));
                }
                Next::LookUp(_) => prop_assert!(look_up),
                Next::Hub(_) | Next::Register(_) => {}
            }
            match event {
                Any::Accepted => life.on_hub(now, HubOutcome::Accepted),
                Any::Closed => life.on_hub(now, HubOutcome::Closed),
                Any::Refused(status) => life.on_hub(now, HubOutcome::Refused(status)),
                Any::Unreachable => life.on_hub(now, HubOutcome::Unreachable),
                Any::Hub(other) => {
                    let key = if other { KeyChoice::Secondary } else { KeyChoice::Primary };
                    let assignment = assigned(&registration, &answers[usize::from(other)]).unwrap();
                    let _ = life.on_assigned(now, &assignment, key);
                }
                Any::Error(which) => life.on_failed(now, &failed_with(next, errors[usize::from(which)])),
                Any::Again => life.provision_again(),
            }
        }
    }
}
