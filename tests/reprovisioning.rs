//! A device's life after its first boot, on a virtual clock: when it turns to its hub, and when
//! to DPS.

mod support;

use std::time::Duration;

use azure_dps::{
    Error, ErrorCode, HubAnswer, KeyChoice, Malformed, Next, Record, Reprovisioning, ReprovisioningPolicy,
    TransportFault,
};
use proptest::prelude::*;
use support::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const NETWORK: Error = Error::Transport(TransportFault::Stalled);
const NO_CONNECTION: Error = Error::Transport(TransportFault::Connect);

/// What the service answers with this status and code.
fn refused(status: u16, code: u32) -> Error {
    let mut provisioning = azure_dps::Provisioning::new(registration(TOASTER), azure_dps::Credential::x509())
        .with_retry_policy(azure_dps::RetryPolicy::new().with_max_retries(0));
    provisioning.start(Duration::ZERO, 0);
    let body = format!(r#"{{"errorCode":{code},"trackingId":"","message":"words"}}"#);
    provisioning.on_answer(Duration::ZERO, azure_dps::Answer::new(status, None, body.as_bytes()));
    provisioning.result(body.as_bytes()).unwrap_err()
}

/// A registration that the service remembers as failed.
fn failed(code: u32) -> Error {
    let mut provisioning = azure_dps::Provisioning::lookup(registration(TOASTER), azure_dps::Credential::x509())
        .with_retry_policy(azure_dps::RetryPolicy::new().with_max_retries(0));
    provisioning.start(Duration::ZERO, 0);
    let body = format!(r#"{{"status":"failed","errorCode":{code},"errorMessage":"words"}}"#);
    provisioning.on_answer(Duration::ZERO, azure_dps::Answer::new(200, None, body.as_bytes()));
    provisioning.result(body.as_bytes()).unwrap_err()
}

fn unauthorized() -> Error {
    let error = refused(401, 401000);
    assert_eq!(error.code(), Some(ErrorCode::UNAUTHORIZED));
    error
}

fn not_found() -> Error {
    refused(404, 404201)
}

/// An answer that assigns a hub.
fn at(hub: &str) -> String {
    ASSIGNED.replace(TOASTERS_HUB, hub)
}

type Service = Box<dyn FnMut(&World, KeyChoice) -> Result<String, Error>>;
type Hubs = Box<dyn FnMut(&World, &str, KeyChoice) -> (HubAnswer, Duration)>;

/// A device with its flash, its hubs and its DPS. Each connection and each request takes a second.
struct World {
    now: Duration,
    flash: Vec<u8>,
    policy: ReprovisioningPolicy,
    has_secondary_key: bool,
    log: Vec<(Duration, Event)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Boot,
    Hub(String, KeyChoice, HubAnswer),
    LookUp(KeyChoice),
    Register(KeyChoice),
    Wait(Duration),
    Written,
}

/// How the other sides behave.
struct Others {
    /// What a connection comes to, and how long an accepted one lasts.
    hubs: Hubs,
    look_up: Service,
    register: Service,
}

impl World {
    fn new() -> Self {
        Self {
            now: 1000 * HOUR,
            flash: vec![0xff; 4096],
            policy: ReprovisioningPolicy::new(),
            has_secondary_key: false,
            log: Vec::new(),
        }
    }

    /// A device that was provisioned before.
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

    /// From power-on to power-off.
    fn boot(&mut self, others: &mut Others, power_off: Duration) {
        self.say(Event::Boot);
        let end = self.now + power_off;
        let registration = registration(TOASTER);
        let flash = self.flash.clone();
        let record = Record::read(&flash, &registration);
        let mut life = Reprovisioning::new(registration.registration_id(), self.policy, &record);
        if self.has_secondary_key {
            life = life.with_secondary_key();
        }
        while self.now < end {
            let next = life.next(self.now);
            let answer = match next {
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
                    life.on_hub(self.now, answer);
                    if answer == HubAnswer::Accepted {
                        self.now += lasts.min(end.saturating_sub(self.now));
                        if self.now < end {
                            life.on_hub(self.now, HubAnswer::Unreachable);
                        }
                    }
                    continue;
                }
                Next::LookUp(key) => {
                    self.say(Event::LookUp(key));
                    self.now += SECOND;
                    (others.look_up)(self, key)
                }
                Next::Register(key) => {
                    self.say(Event::Register(key));
                    self.now += SECOND;
                    (others.register)(self, key)
                }
            };
            match answer {
                Ok(answer) => {
                    let assignment = assigned(&registration, &answer).unwrap();
                    if life.on_assigned(self.now, &assignment) {
                        self.write(&answer, life.key());
                    }
                }
                Err(error) => life.on_error(self.now, &error),
            }
        }
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

    /// The log in short: H a hub that accepts, h one that does not, L, R, W a written record.
    fn story(&self) -> String {
        let letter = |(_, event): &(_, Event)| match event {
            Event::Hub(_, _, HubAnswer::Accepted) => Some('H'),
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
    /// One hub accepts, all others say `answer`; DPS assigns `assigned` at each request.
    fn new(accepts: &'static str, answer: HubAnswer, assigned: &'static str) -> Self {
        Self {
            hubs: Box::new(move |_, hub, _| (if hub == accepts { HubAnswer::Accepted } else { answer }, 1000 * DAY)),
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
fn a_thousand_boots_with_a_healthy_hub_are_one_registration() {
    let mut world = World::new();
    let mut others = Others::new("a", HubAnswer::Refused(401), "a");
    for _ in 0..1000 {
        world.boot(&mut others, HOUR);
    }
    assert_eq!((world.registers(), world.look_ups()), (1, 0));
    assert_eq!(world.count(|event| *event == Event::Written), 1);
    assert_eq!(world.count(|event| matches!(event, Event::Hub(hub, _, HubAnswer::Accepted) if hub == "a")), 1000);
    assert_eq!(world.waits(), []);
}

#[test]
fn a_hub_that_refuses_leads_to_one_registration_and_the_new_hub() {
    for status in [401, 403, 404] {
        let mut world = World::at("a");
        let mut others = Others::new("b", HubAnswer::Refused(status), "b").look_up(|_, _| Ok(at("a")));
        for _ in 0..10 {
            world.boot(&mut others, DAY);
        }
        assert_eq!(world.story(), "hLRWHHHHHHHHHH", "{status}");
        assert_eq!(world.hub_in_flash(), "b");
        assert_eq!(world.waits(), []);
    }
}

#[test]
fn the_look_up_spares_a_registration_where_the_device_was_moved_already() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("b", HubAnswer::Refused(404), "b"), DAY);
    assert_eq!(world.story(), "hLWH");
    assert_eq!(world.hub_in_flash(), "b");
}

/// The same hub under another device ID is not the one that refused.
#[test]
fn another_device_id_is_another_place() {
    let place =
        |hub, id: &str| at(hub).replace(&format!(r#""deviceId":"{TOASTER}""#), &format!(r#""deviceId":"{id}""#));
    for (look_up, is_another) in [(place("a", "bc"), false), (place("a", "bd"), true), (place("ab", "c"), true)] {
        let mut world = World::new();
        world.write(&place("a", "bc"), KeyChoice::Primary);
        world.log.clear();
        let mut others = Others::new("", HubAnswer::Refused(404), "a").look_up(move |_, _| Ok(look_up.clone()));
        world.boot(&mut others, 2 * SECOND);
        world.boot(&mut others, 2 * SECOND);
        assert_eq!(world.story().starts_with("hLW"), is_another, "{}", world.story());
    }
}

#[test]
fn the_look_up_can_be_switched_off() {
    let mut world = World::at("a");
    world.policy = world.policy.with_look_up(false);
    world.boot(&mut Others::new("b", HubAnswer::Refused(401), "b"), DAY);
    assert_eq!(world.story(), "hRWH");
}

#[test]
fn what_the_look_up_cannot_tell_the_registration_does() {
    for error in [
        not_found(),
        refused(404, 404202),
        refused(400, 400004),
        refused(405, 405000),
        // The look-up is there, and the last registration failed.
        refused(400, 400207),
    ] {
        let mut world = World::at("a");
        let mut others = Others::new("b", HubAnswer::Refused(401), "b").look_up(move |_, _| Err(error));
        world.boot(&mut others, DAY);
        assert_eq!(world.story(), "hLRWH", "{error}");
    }
}

#[test]
fn a_record_that_cannot_be_read_costs_a_look_up() {
    let mut world = World::at("a");
    world.flash[200..].fill(0xff);
    world.boot(&mut Others::new("a", HubAnswer::Unreachable, "a"), DAY);
    assert_eq!(world.story(), "LWH");
    world.boot(&mut Others::new("a", HubAnswer::Unreachable, "a"), DAY);
    assert_eq!(world.story(), "LWHH");
    // Where nothing ever was, there is nothing to look up.
    let mut world = World::new();
    world.boot(&mut Others::new("a", HubAnswer::Unreachable, "a"), DAY);
    assert_eq!(world.story(), "RWH");
}

/// Power is lost at each byte of the record of the first registration.
#[test]
fn power_lost_while_the_record_is_written_costs_one_look_up_at_most() {
    let mut whole = World::new();
    whole.write(&at("a"), KeyChoice::Primary);
    let len = whole.flash.iter().rposition(|&byte| byte != 0xff).unwrap() + 1;
    for written in 0..=len {
        let mut world = World::new();
        world.flash[..written].copy_from_slice(&whole.flash[..written]);
        world.boot(&mut Others::new("a", HubAnswer::Unreachable, "a"), DAY);
        let expected = match written {
            // Of which nothing is to be seen.
            0..2 => "RWH",
            _ if written < len => "LWH",
            _ => "H",
        };
        assert_eq!(world.story(), expected, "{written}");
    }
}

#[test]
fn a_hub_out_of_reach_is_tried_for_20_to_30_minutes() {
    let mut world = World::at("a");
    let start = world.now;
    world.boot(&mut Others::new("b", HubAnswer::Unreachable, "b").look_up(|_, _| Ok(at("a"))), HOUR);
    for (wait, base) in world.waits().iter().zip([5, 10, 20, 40, 80, 160, 320, 320]) {
        is_between(*wait, base * SECOND, base * SECOND * 3 / 2);
    }
    // The last wait before may go beyond.
    is_between(world.times(|event| matches!(event, Event::LookUp(_)))[0] - start, 20 * MINUTE, 38 * MINUTE);
    assert_eq!(world.story().trim_start_matches('h'), "LRWH");
    assert!(world.story().starts_with("hhhhhhh"));
}

#[test]
fn a_connection_in_between_starts_the_patience_again() {
    let mut world = World::at("a");
    let start = world.now;
    let mut others = Others::new("", HubAnswer::Unreachable, "b");
    // Ten minutes of silence, one of connection, and silence.
    others.hubs = Box::new(move |world, _, _| {
        let is_up = (10 * MINUTE..20 * MINUTE).contains(&(world.now - start));
        (if is_up { HubAnswer::Accepted } else { HubAnswer::Unreachable }, 10 * MINUTE)
    });
    world.boot(&mut others, HOUR);
    let accepted = world.times(|event| matches!(event, Event::Hub(_, _, HubAnswer::Accepted)));
    let broken = accepted.last().unwrap().saturating_add(10 * MINUTE);
    let after = world.log.iter().filter(|(time, _)| *time >= broken);
    let wait = after.clone().find_map(|(_, event)| if let Event::Wait(wait) = event { Some(*wait) } else { None });
    is_between(wait.unwrap(), 5 * SECOND, 8 * SECOND);
    let asked = world.times(|event| matches!(event, Event::LookUp(_)))[0];
    is_between(asked - broken, 20 * MINUTE, 38 * MINUTE);
}

/// Throttling is a sign of life, and a new hub has patience of its own.
#[test]
fn the_patience_is_for_one_silence_of_one_hub() {
    let mut world = World::at("a");
    let start = world.now;
    let mut others = Others::new("", HubAnswer::Unreachable, "b");
    others.hubs = Box::new(move |world, _, _| {
        let is_throttled = (10 * MINUTE..30 * MINUTE).contains(&(world.now - start));
        (if is_throttled { HubAnswer::Refused(429) } else { HubAnswer::Unreachable }, MINUTE)
    });
    world.boot(&mut others, HOUR + 20 * MINUTE);
    let throttled = world.times(|event| matches!(event, Event::Hub(_, _, HubAnswer::Refused(429))));
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
fn the_patience_is_the_policys() {
    for (patience, longest) in [(0, 1), (60, 200), (15 * 60, 31 * 60)] {
        let mut world = World::at("a");
        world.policy = world.policy.with_hub_patience(patience * SECOND);
        let start = world.now;
        world.boot(&mut Others::new("b", HubAnswer::Unreachable, "b"), HOUR);
        let asked = world.times(|event| matches!(event, Event::LookUp(_)))[0] - start;
        is_between(asked, patience * SECOND, longest * SECOND);
    }
}

#[test]
fn a_throttled_device_stays_with_its_hub() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("", HubAnswer::Refused(429), "b"), 7 * DAY);
    assert_eq!(world.story().trim_start_matches('h'), "");
    let waits = world.waits();
    is_between(waits[0], 5 * SECOND, 8 * SECOND);
    assert!(waits[6..].iter().all(|wait| (320 * SECOND..=480 * SECOND).contains(wait)));
}

#[test]
fn a_hub_with_server_errors_is_looked_up_and_never_registered_away_from() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("", HubAnswer::Refused(503), "a"), 7 * DAY);
    assert_eq!(world.registers(), 0);
    is_between(world.look_ups() as u32 * MINUTE, 7 * DAY / 40, 7 * DAY / 20);
    assert!(world.waits().iter().all(|wait| *wait >= 5 * SECOND));

    // If the look-up knows better, it is followed.
    let mut world = World::at("a");
    world.boot(&mut Others::new("b", HubAnswer::Refused(500), "b"), DAY);
    assert_eq!(world.story().trim_start_matches('h'), "LWH");

    // If there is none, the cached hub is all there is.
    let mut world = World::at("a");
    world.policy = world.policy.with_look_up(false);
    world.boot(&mut Others::new("", HubAnswer::Refused(503), "b"), DAY);
    assert_eq!(world.story().trim_start_matches('h'), "");
}

/// A hub that is down and stays enrolled: DPS leads back to it.
#[test]
fn a_hub_that_stays_down_costs_few_registrations() {
    let mut world = World::at("a");
    world.boot(&mut Others::new("", HubAnswer::Unreachable, "a"), 30 * DAY);
    is_between(world.registers() as u32 * DAY, 20 * DAY, 36 * DAY);
    // The hub is tried all the time.
    assert!(world.count(|event| matches!(event, Event::Hub(..))) > 30 * 24 * 60 / 9);
}

/// The guard of billed calls: with the times that the documentation names.
#[test]
fn a_hub_that_refuses_whomever_dps_sends_does_not_loop() {
    let mut world = World::at("a");
    let start = world.now;
    world.boot(&mut Others::new("", HubAnswer::Refused(401), "a"), 60 * DAY);
    let registers = world.times(|event| matches!(event, Event::Register(_)));
    let minutes = [1, 4, 16, 64, 256, 1024].map(|minutes| minutes * MINUTE).into_iter().chain(std::iter::repeat(DAY));
    for (pair, pause) in registers.windows(2).zip(minutes) {
        is_between(pair[1] - pair[0], pause, pause * 3 / 2 + 10 * MINUTE);
    }
    assert!(registers.iter().filter(|time| **time < start + DAY).count() <= 7);
    is_between(registers.len() as u32 * DAY, 40 * DAY, 67 * DAY);
    // Before each but the first the hub has had another chance.
    assert!(world.story().starts_with("hLRWhhLRWhhLRWh"), "{}", world.story());
}

#[test]
fn looked_up_hubs_that_refuse_by_turns_do_not_loop() {
    let mut world = World::at("a");
    let mut turns = 0;
    let mut others = Others::new("", HubAnswer::Refused(403), "a").look_up(move |_, _| {
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
        let mut others = Others::new("", HubAnswer::Refused(401), "a");
        // Refused, accepted after the registration, ended, and refused again.
        others.hubs = Box::new(move |_, _, _| {
            asked += 1;
            (if asked == 2 { HubAnswer::Accepted } else { HubAnswer::Refused(401) }, lasts)
        });
        world.boot(&mut others, 2 * HOUR);
        assert_eq!(world.story(), if is_over { "hLRWHhLRWh" } else { "hLRWHh" });
        // From then on the pauses are the first ones again.
        assert!(*world.waits().last().unwrap() <= 18 * HOUR);
    }
}

#[test]
fn the_other_key_is_tried_once() {
    // Which key DPS accepts, and what is asked with which.
    type Keys = (Option<KeyChoice>, &'static [(char, KeyChoice)]);
    use KeyChoice::{Primary, Secondary};
    let cases: [Keys; 3] = [
        (Some(Primary), &[('L', Primary), ('R', Primary)]),
        (Some(Secondary), &[('L', Primary), ('L', Secondary), ('R', Secondary)]),
        // A look-up that is refused is no reason not to register.
        (None, &[('L', Primary), ('L', Secondary), ('R', Primary), ('R', Secondary)]),
    ];
    // The service refuses a key with 401000 over MQTT, with 401002 over HTTP: both are the same here.
    let codes = [401000, 401002].iter().flat_map(|code| cases.map(|case| (*code, case)));
    for (code, (accepts, expected)) in codes {
        let mut world = World::at("a");
        world.has_secondary_key = true;
        let answer = move |hub: &'static str| {
            move |_: &World, key| if Some(key) == accepts { Ok(at(hub)) } else { Err(refused(401, code)) }
        };
        let mut others = Others::new("b", HubAnswer::Refused(401), "b").look_up(answer("a")).register(answer("b"));
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
            // The hub is given the key that was accepted, in this boot and in the next.
            world.boot(&mut others, HOUR);
            let hubs = world.count(|event| *event == Event::Hub("b".into(), key, HubAnswer::Accepted));
            assert_eq!((hubs, world.registers()), (2, 1));
        }
    }
}

#[test]
fn a_device_with_one_key_has_no_other() {
    let mut world = World::at("a");
    let mut others = Others::new("", HubAnswer::Refused(401), "a").look_up(|_, _| Err(unauthorized()));
    world.boot(&mut others, 30 * DAY);
    assert!(world.count(|event| matches!(event, Event::LookUp(KeyChoice::Secondary))) == 0);
    // Final until somebody changes it: paused as registrations are.
    assert!(world.look_ups() < 37, "{}", world.look_ups());
}

#[test]
fn a_key_that_was_not_accepted_is_not_given_to_the_hub() {
    let mut world = World::at("a");
    world.has_secondary_key = true;
    let mut others = Others::new("", HubAnswer::Refused(401), "a")
        .look_up(|_, key| Err(if key == KeyChoice::Primary { unauthorized() } else { NETWORK }));
    world.boot(&mut others, DAY);
    assert!(world.look_ups() > 10);
    assert_eq!(world.count(|event| matches!(event, Event::Hub(_, KeyChoice::Secondary, _))), 0);
}

#[test]
fn a_key_that_was_accepted_is_kept() {
    let mut world = World::at("a");
    world.has_secondary_key = true;
    let mut others = Others::new("", HubAnswer::Refused(401), "a")
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
    let mut others = Others::new("a", HubAnswer::Unreachable, "a")
        .register(|_, key| if key == KeyChoice::Secondary { Ok(at("a")) } else { Err(unauthorized()) });
    world.boot(&mut others, HOUR);
    assert_eq!(world.story(), "RRWH");
    assert_eq!(Record::read(&world.flash, &registration(TOASTER)).unwrap().key(), KeyChoice::Secondary);
}

#[test]
fn without_a_network_the_hub_is_tried_and_nothing_is_billed() {
    let mut world = World::at("a");
    let mut others =
        Others::new("", HubAnswer::Unreachable, "a").look_up(|_, _| Err(NETWORK)).register(|_, _| Err(NETWORK));
    world.boot(&mut others, 7 * DAY);
    assert_eq!(world.registers(), 0);
    assert!(world.waits().iter().all(|wait| *wait <= 480 * SECOND));
}

/// A first boot where the uplink is down: patient, and there as soon as it is back.
#[test]
fn a_first_boot_without_a_network_goes_on_trying() {
    let mut world = World::new();
    let up = world.now + DAY;
    let mut others = Others::new("a", HubAnswer::Unreachable, "a")
        .register(move |world, _| if world.now < up { Err(NO_CONNECTION) } else { Ok(at("a")) });
    world.boot(&mut others, 2 * DAY);
    is_between(world.times(|event| *event == Event::Written)[0] - up, Duration::ZERO, 9 * MINUTE);
    assert!(world.story().ends_with("RWH"));
}

#[test]
fn a_registration_whose_answer_is_lost_is_looked_up() {
    for error in [NETWORK, Error::TimedOut, refused(500, 500001), refused(429, 429001)] {
        let mut world = World::new();
        let mut others = Others::new("a", HubAnswer::Unreachable, "a").register(move |_, _| Err(error));
        world.boot(&mut others, HOUR);
        assert_eq!(world.story(), "RLWH", "{error}");

        // Where no look-up helps, the registrations are paused, an hour at the most and jitter.
        for look_up in [true, false] {
            let mut world = World::new();
            world.policy = world.policy.with_look_up(look_up);
            let mut others = Others::new("", HubAnswer::Unreachable, "a")
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
    for error in
        [not_found(), refused(400, 400207), Error::Disabled, Error::Signer, unauthorized(), refused(403, 403000)]
    {
        for mut world in [World::new(), World::at("a")] {
            let mut others = Others::new("", HubAnswer::Refused(401), "a")
                .look_up(move |_, _| Err(error))
                .register(move |_, _| Err(error));
            world.boot(&mut others, 30 * DAY);
            let asked = world.registers().max(world.look_ups());
            assert!((10..37).contains(&asked), "{error}: {asked}");
        }
    }
    // A disabled enrollment is as disabled in the registration.
    let mut world = World::at("a");
    let mut others = Others::new("", HubAnswer::Refused(401), "a").look_up(|_, _| Err(Error::Disabled));
    world.boot(&mut others, DAY);
    assert_eq!(world.registers(), 0);
}

/// A hub that is merely out of reach is not given up because DPS has nothing to say.
#[test]
fn a_final_error_does_not_keep_a_device_from_its_hub() {
    let mut world = World::at("a");
    let back = world.now + 3 * DAY;
    let mut others =
        Others::new("", HubAnswer::Unreachable, "a").look_up(|_, _| Err(not_found())).register(|_, _| Err(not_found()));
    others.hubs = Box::new(move |world, _, _| {
        (if world.now >= back { HubAnswer::Accepted } else { HubAnswer::Unreachable }, 100 * DAY)
    });
    world.boot(&mut others, 4 * DAY);
    let accepted = world.times(|event| matches!(event, Event::Hub(_, _, HubAnswer::Accepted)));
    is_between(accepted[0] - back, Duration::ZERO, 9 * MINUTE);
}

/// Somebody else answers in place of DPS, such as a captive portal.
#[test]
fn an_impostor_is_like_no_network() {
    for error in [Error::Untrusted, NETWORK, NO_CONNECTION, Error::TimedOut, refused(503, 503000), refused(429, 429001)]
    {
        let mut world = World::at("a");
        let mut others =
            Others::new("", HubAnswer::Refused(401), "a").look_up(move |_, _| Err(error)).register(|_, _| panic!());
        world.boot(&mut others, DAY);
        assert!(world.look_ups() > 24 * 60 / 9);
    }
}

/// What the service remembers of a registration that failed does not pass by being looked up, and a
/// look-up that cannot be read, or is refused, says nothing about a registration.
#[test]
fn a_look_up_that_settles_nothing_does_not_stand_in_the_way() {
    for error in [
        failed(409203),
        failed(429001),
        failed(500000),
        Error::Malformed(Malformed::Missing("assignedHub")),
        Error::Unassigned,
        Error::Unsupported,
        Error::Tpm,
        unauthorized(),
        not_found(),
    ] {
        // After a move that nobody told the device about, and after a first registration that failed.
        let mut moved = World::at("a");
        let mut first = World::new();
        for world in [&mut moved, &mut first] {
            let mut attempts = 0;
            let mut others =
                Others::new("b", HubAnswer::Refused(401), "b").look_up(move |_, _| Err(error)).register(move |_, _| {
                    attempts += 1;
                    if attempts == 1 { Err(failed(500000)) } else { Ok(at("b")) }
                });
            world.boot(&mut others, DAY);
            assert_eq!(world.hub_in_flash(), "b", "{error}");
            assert_eq!(world.registers(), 2, "{error}");
            assert!(world.look_ups() <= 2, "{error}");
        }
    }
    // Where only the look-up refuses the keys, the registration has them both, the first one first.
    let mut world = World { has_secondary_key: true, ..World::at("a") };
    let mut others = Others::new("b", HubAnswer::Refused(401), "b").look_up(|_, _| Err(unauthorized())).register(
        |_, key| match key {
            KeyChoice::Primary => Ok(at("b")),
            KeyChoice::Secondary => Err(unauthorized()),
        },
    );
    world.boot(&mut others, DAY);
    assert_eq!((world.registers(), world.look_ups(), world.hub_in_flash().as_str()), (1, 2, "b"));
}

#[test]
fn the_operator_can_have_a_device_provisioned_anew() {
    let registration = registration(TOASTER);
    let record = World::at("a").flash;
    let record = Record::read(&record, &registration);
    let mut life = Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new(), &record);
    let now = HOUR;
    assert_eq!(life.next(now), Next::Hub(KeyChoice::Primary));
    life.on_hub(now, HubAnswer::Accepted);
    life.provision_again();
    assert_eq!(life.next(now), Next::Register(KeyChoice::Primary));
    // The same hub again is what the service wants, and is written: the payload may be new.
    let answer = at("a");
    assert!(life.on_assigned(now, &assigned(&registration, &answer).unwrap()));
    assert_eq!(life.next(now), Next::Hub(KeyChoice::Primary));

    // No hour with the last hub counts for this one.
    let later = now + 2 * HOUR;
    life.on_hub(now, HubAnswer::Accepted);
    life.provision_again();
    assert!(life.on_assigned(later, &assigned(&registration, &answer).unwrap()));
    life.on_hub(later, HubAnswer::Refused(401));
    let Next::Wait(wait) = life.next(later) else { panic!() };
    is_between(wait, 4 * MINUTE, 6 * MINUTE);

    // Without DPS the device goes back to its hub, and soon.
    life.provision_again();
    assert_eq!(life.next(later), Next::Register(KeyChoice::Primary));
    life.on_error(later, &NO_CONNECTION);
    let Next::Wait(wait) = life.next(later) else { panic!() };
    assert!(wait < MINUTE);
    assert_eq!(life.next(later + wait), Next::Hub(KeyChoice::Primary));
}

#[test]
fn what_comes_at_the_wrong_time_changes_nothing() {
    let registration = registration(TOASTER);
    let answer = at("b");
    let assignment = assigned(&registration, &answer).unwrap();
    let record = World::at("a").flash;
    let record = Record::read(&record, &registration);
    let mut life = Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new(), &record);
    assert!(!life.on_assigned(SECOND, &assignment));
    life.on_error(SECOND, &NETWORK);
    assert_eq!(life.next(SECOND), Next::Hub(KeyChoice::Primary));

    life.on_hub(SECOND, HubAnswer::Unreachable);
    let Next::Wait(wait) = life.next(SECOND) else { panic!() };
    assert!(!life.on_assigned(SECOND, &assignment));
    life.on_error(SECOND, &NETWORK);
    life.on_hub(SECOND, HubAnswer::Refused(401));
    assert_eq!(life.next(SECOND), Next::Wait(wait));
    // Waiting longer is allowed.
    assert_eq!(life.next(100 * DAY), Next::Hub(KeyChoice::Primary));

    life.on_hub(100 * DAY, HubAnswer::Refused(401));
    life.on_hub(100 * DAY, HubAnswer::Accepted);
    assert_eq!(life.next(100 * DAY), Next::LookUp(KeyChoice::Primary));
}

#[test]
fn devices_do_not_come_back_all_at_once() {
    let waits = |ids: [&'static str; 6], seed| {
        let mut waits = ids.map(|id| {
            let policy = ReprovisioningPolicy::new().with_jitter_seed(seed);
            let record = Err(azure_dps::RecordError::Absent);
            let mut life = Reprovisioning::new(registration(id).registration_id(), policy, &record);
            life.on_error(HOUR, &NO_CONNECTION);
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
        (0, HubAnswer::Accepted),
        (1, HubAnswer::Refused(400)),
        (2, HubAnswer::Refused(400)),
        (3, HubAnswer::Refused(503)),
        (4, HubAnswer::Refused(401)),
        (5, HubAnswer::Refused(401)),
        (6, HubAnswer::Refused(400)),
        (255, HubAnswer::Refused(400)),
    ] {
        assert_eq!(HubAnswer::from_connack(return_code), expected);
    }
}

#[test]
fn the_state_is_as_small_as_documented() {
    assert!(size_of::<Reprovisioning>() < 160, "{}", size_of::<Reprovisioning>());
}

#[derive(Clone, Debug)]
enum Any {
    Accepted,
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
        status.prop_map(Any::Refused),
        Just(Any::Unreachable),
        any::<bool>().prop_map(Any::Hub),
        (0..9_u8).prop_map(Any::Error),
        Just(Any::Again),
    ];
    (event, prop_oneof![0..10_u64, 0..10_000_u64, any::<u64>()])
}

proptest! {
    /// Whatever happens, at whatever times, there is something to do, and no wait is out of bounds.
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
        let policy = ReprovisioningPolicy::new()
            .with_look_up(look_up)
            .with_hub_patience(Duration::from_secs(patience))
            .with_first_pause(Duration::from_secs(pauses.0))
            .with_longest_pause(Duration::from_secs(pauses.1));
        let mut life = Reprovisioning::new(registration.registration_id(), policy, &record).with_secondary_key();
        let errors = [
            NETWORK, NO_CONNECTION, unauthorized(), not_found(), refused(503, 503001), Error::Disabled, Error::Signer,
            Error::TimedOut, Error::Untrusted,
        ];
        let mut now = Duration::ZERO;
        for (event, later) in events {
            match life.next(now) {
                Next::Wait(wait) => {
                    prop_assert!(!wait.is_zero() && wait <= 19 * DAY);
                    now = now.saturating_add(wait.min(Duration::from_secs(later)));
                }
                Next::LookUp(_) => prop_assert!(look_up),
                Next::Hub(_) | Next::Register(_) => {}
            }
            match event {
                Any::Accepted => life.on_hub(now, HubAnswer::Accepted),
                Any::Refused(status) => life.on_hub(now, HubAnswer::Refused(status)),
                Any::Unreachable => life.on_hub(now, HubAnswer::Unreachable),
                Any::Hub(other) => {
                    let _ = life.on_assigned(now, &assigned(&registration, &answers[usize::from(other)]).unwrap());
                }
                Any::Error(which) => life.on_error(now, &errors[usize::from(which)]),
                Any::Again => life.provision_again(),
            }
        }
    }
}
