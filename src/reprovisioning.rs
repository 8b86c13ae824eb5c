use core::time::Duration;

use crate::{
    Assignment, Error, Fault, Record, RecordError, RegistrationId, TransportFault,
    retry::{Jitter, between, later, millis},
};

/// Where a device turns after its first boot: to the hub that it knows, and to DPS only when
/// the hub says so, or has been out of reach for long enough. A state machine without I/O,
/// clock or allocator, as [`Provisioning`](crate::Provisioning) is.
///
/// A register call is billed, and most of them lead to the hub that the device knows already; a
/// fleet that registers at each boot is throttled. This is the guidance that Microsoft
/// publishes, with times to it.
///
/// # How to drive it
///
/// 1. **Boot.** Read the [`Record`] and hand in what came of it ([`new`](Self::new)). Say so
///    if there are two symmetric keys ([`with_secondary_key`](Self::with_secondary_key)).
/// 2. **Ask** [`next`](Self::next) what to do, whenever the last thing is done. `now` is a
///    monotonic clock's reading, from any start; every call takes the same clock's.
/// 3. On [`Next::Wait`], do nothing for so long, then go to 2. Waiting longer is allowed.
/// 4. On [`Next::Hub`], connect to the [`Hub`](crate::Hub) of the record, with this key. Tell
///    [`on_hub`](Self::on_hub) [`Accepted`](HubAnswer::Accepted) once the session stands, and
///    anything else when it cannot be had or ends; then go to 2. A TPM signs with the key that
///    the record's [`tpm_authentication_key`](Assignment::tpm_authentication_key) gave it, and
///    not with that of a later challenge.
/// 5. On [`Next::LookUp`], have the service look the registration up, with this key: it is
///    asked where the device belongs, nothing is changed, and nothing is billed. On
///    [`Next::Register`], run a [`Provisioning`](crate::Provisioning) with this key.
/// 6. Of either, hand in the [`Assignment`] with [`on_assigned`](Self::on_assigned), or the
///    error with [`on_error`](Self::on_error). Where `on_assigned` says that it is news, write
///    the record, with [`key`](Self::key), before anything else: [`Next::Hub`] is the new one.
///    Then go to 2.
///
/// ```
/// use azure_dps::{HubAnswer, Next, Record, Registration, Reprovisioning, ReprovisioningPolicy};
/// # use azure_dps::{Assignment, Error, Hub, KeyChoice};
/// # use core::time::Duration;
///
/// # struct Device { hubs: u8 }
/// # impl Device {
/// #     fn now(&self) -> Duration { Duration::ZERO }
/// #     fn sleep(&self, _: Duration) {}
/// #     fn connect(&mut self, hub: Hub<'_>, _: KeyChoice) -> HubAnswer { HubAnswer::Accepted }
/// #     fn work(&mut self) { self.hubs += 1 }
/// #     fn is_on(&self) -> bool { self.hubs == 0 }
/// #     fn look_up<'b>(&self, registration: &Registration<'_>, key: KeyChoice, body: &'b mut [u8]) -> Result<Assignment<'b>, Error> {
/// #         self.register(registration, key, body)
/// #     }
/// #     fn register<'b>(&self, registration: &Registration<'_>, _: KeyChoice, body: &'b mut [u8]) -> Result<Assignment<'b>, Error> {
/// #         let answer = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net","deviceId":"dev-1"}}"#;
/// #         body[..answer.len()].copy_from_slice(answer);
/// #         let mut provisioning = azure_dps::Provisioning::new(*registration, azure_dps::Credential::x509());
/// #         provisioning.start(Duration::ZERO, 0);
/// #         provisioning.on_answer(Duration::ZERO, azure_dps::Answer::new(200, None, answer));
/// #         provisioning.result(body)
/// #     }
/// # }
/// /// `device` stands for the firmware's clock, network and transport.
/// fn live(device: &mut Device, registration: Registration<'_>, flash: &mut [u8]) -> Result<(), Box<dyn std::error::Error>> {
///     let mut buffer = [0; 1024];
///     let record = Record::read(flash, &registration); // 1
///     let policy = ReprovisioningPolicy::new();
///     let mut life = Reprovisioning::new(registration.registration_id(), policy, &record).with_secondary_key();
///     while device.is_on() {
///         let answer = match life.next(device.now()) { // 2
///             Next::Wait(wait) => { // 3
///                 device.sleep(wait);
///                 continue;
///             }
///             Next::Hub(key) => { // 4
///                 let record = Record::read(flash, &registration)?;
///                 let answer = device.connect(record.assignment().hub(), key);
///                 life.on_hub(device.now(), answer);
///                 if answer == HubAnswer::Accepted {
///                     device.work(); // until the session ends
///                     life.on_hub(device.now(), HubAnswer::Unreachable);
///                 }
///                 continue;
///             }
///             Next::LookUp(key) => device.look_up(&registration, key, &mut buffer), // 5
///             Next::Register(key) => device.register(&registration, key, &mut buffer),
///         };
///         match answer { // 6
///             Ok(assignment) => {
///                 if life.on_assigned(device.now(), &assignment) {
///                     assignment.write_record(&registration, life.key(), flash)?;
///                 }
///             }
///             Err(error) => life.on_error(device.now(), &error),
///         }
///     }
///     Ok(())
/// }
/// # let registration = Registration::new(azure_dps::IdScope::new("0ne00002193")?, azure_dps::RegistrationId::new("dev-1")?);
/// # let mut flash = [0xff; 1024];
/// # live(&mut Device { hubs: 0 }, registration, &mut flash)?;
/// # assert!(Record::read(&flash, &registration).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it decides
///
/// | what happened | what is next |
/// |---|---|
/// | there is a record | the hub |
/// | there is none | a registration |
/// | there is one that cannot be read | the look-up |
/// | the hub: 401, 403, 404 | the look-up, at once |
/// | the hub: out of reach, a broken connection, anything else | the hub again, after 5 s, then 10, 20 … 320 s; after [`hub_patience`](ReprovisioningPolicy::hub_patience) the look-up |
/// | the hub: 5xx | the same, but then no registration |
/// | the hub: 429 | the hub again, as above, for as long as it takes |
/// | the look-up: another hub, or device ID | that one |
/// | the look-up: the hub that is known; no registration, or one that failed; anything else but what follows | a registration |
/// | a registration: a hub | that one, even if it is the same |
/// | either: the key is refused (401, 403) | the same with the other key, if there is one; each is tried once |
/// | either: DPS is busy or out of reach | the hub, if there is one, after 5 s, then 10, 20 … 320 s |
/// | either: the enrollment is disabled; a registration: anything else | the hub, if it has not refused the device, or else a pause |
///
/// **Pauses.** A hub that refuses a device that DPS has just sent there would cost a billed
/// registration each time round. So after each registration, each look-up that led to another
/// hub, and each final error of either, DPS is not asked again for
/// [`first_pause`](ReprovisioningPolicy::first_pause), then four times as long, and so on up to
/// [`longest_pause`](ReprovisioningPolicy::longest_pause): with the defaults 1, 4, 16, 64 minutes,
/// 4 and 17 hours, then a day, each plus jitter of up to half of it. That makes seven
/// registrations in the first day at most, and then less than one a day. Before each of them
/// the hub is tried once more. A hub that keeps the device for an hour ends the series. So
/// does a reboot, which forgets the pauses: do not reboot in order to try again.
///
/// A registration whose outcome did not arrive may have been billed: the pauses follow it too,
/// but grow no longer than the fourth of them. Where there was no connection at all they do not.
///
/// All waits are plus jitter of up to half, from the registration ID and
/// [`jitter_seed`](ReprovisioningPolicy::jitter_seed).
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale#iot-hub-connectivity-considerations).
/// It sends a device that is refused straight to the registration; the look-up before it spares
/// those that were moved already.
#[derive(Debug)]
pub struct Reprovisioning {
    policy: ReprovisioningPolicy,
    state: State,
    /// What tells the hub that the record has from others.
    hub: Option<u32>,
    /// Whether the service may know this device.
    is_known: bool,
    /// What the hub did last.
    trouble: Trouble,
    accepted: Option<Duration>,
    /// When the hub's failures, of which there was a first one, have been enough.
    give_up: Option<Duration>,
    /// Of the hub and of DPS in a row, while neither decided anything.
    failures: u8,
    /// How many pauses there were, and when the last one ends.
    pauses: u8,
    pause_end: Duration,
    key: KeyChoice,
    has_secondary_key: bool,
    /// Whether `key` is the second one of the two that DPS was asked with, and not accepted yet.
    is_other_key: bool,
    jitter: Jitter,
}

/// Which of the two symmetric keys of an individual enrollment, or of a device of a group. For
/// any other credential, and where there is one key alone, [`KeyChoice::Primary`].
///
/// Source: [symmetric key attestation](https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyChoice {
    /// The primary key, or the only credential.
    #[default]
    Primary,
    /// The secondary key.
    Secondary,
}

impl KeyChoice {
    const fn other(self) -> Self {
        match self {
            KeyChoice::Primary => KeyChoice::Secondary,
            KeyChoice::Secondary => KeyChoice::Primary,
        }
    }
}

/// What to do next: see [how to drive it](Reprovisioning#how-to-drive-it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Connect to the hub of the record, or of the assignment that was handed in last.
    Hub(KeyChoice),
    /// Ask the service where the device is registered. This is for HTTP only, and is left out
    /// without [`ReprovisioningPolicy::look_up`].
    LookUp(KeyChoice),
    /// Register the device, which is billed.
    Register(KeyChoice),
    /// Do nothing for this long.
    Wait(Duration),
}

/// What became of a connection to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubAnswer {
    /// The session stands.
    Accepted,
    /// The hub said no, with this HTTP status, or what stands for it in AMQP.
    Refused(u16),
    /// There is no connection, or it is broken: the network, TLS, a time-out.
    Unreachable,
}

impl HubAnswer {
    /// What a hub answered to MQTT's CONNECT, by its return code: 401 for codes 4 and 5, 503 for
    /// 3, else 400. The hub closes an MQTT session without a reason: that is
    /// [`HubAnswer::Unreachable`].
    ///
    /// ```
    /// use azure_dps::HubAnswer;
    ///
    /// assert_eq!(HubAnswer::from_connack(0), HubAnswer::Accepted);
    /// assert_eq!(HubAnswer::from_connack(5), HubAnswer::Refused(401));
    /// ```
    ///
    /// Source: [CONNACK](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html#_Toc398718035).
    pub const fn from_connack(return_code: u8) -> Self {
        match return_code {
            0 => HubAnswer::Accepted,
            3 => HubAnswer::Refused(503),
            4 | 5 => HubAnswer::Refused(401),
            _ => HubAnswer::Refused(400),
        }
    }
}

/// How patient a device is with its hub, and how sparing with DPS.
///
/// ```
/// use azure_dps::ReprovisioningPolicy;
/// use core::time::Duration;
///
/// let policy = ReprovisioningPolicy::new().with_look_up(false).with_hub_patience(Duration::from_secs(900));
/// assert_eq!(policy.hub_patience, Duration::from_secs(900));
/// ```
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReprovisioningPolicy {
    /// How long a hub that is out of reach is tried before DPS is asked: 20 minutes by default,
    /// which with jitter of up to half of it is within the 15 to 30 that Microsoft asks for.
    pub hub_patience: Duration,
    /// Whether the status look-up comes before a registration, `true` by default. It is for HTTP
    /// only: a device that speaks MQTT alone registers instead. So does one that wants the
    /// certificate chain of an answer again, which no look-up returns.
    pub look_up: bool,
    /// The shortest time between two questions to DPS that settled nothing, 1 minute by default.
    pub first_pause: Duration,
    /// The longest time between two of them, a day by default; 12 days are the most.
    pub longest_pause: Duration,
    /// Something that differs from boot to boot, where the spread over devices is not enough.
    pub jitter_seed: u32,
}

impl ReprovisioningPolicy {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            hub_patience: Duration::from_secs(20 * 60),
            look_up: true,
            first_pause: Duration::from_secs(60),
            longest_pause: Duration::from_secs(24 * 3600),
            jitter_seed: 0,
        }
    }

    /// Sets [`hub_patience`](Self::hub_patience).
    pub const fn with_hub_patience(mut self, patience: Duration) -> Self {
        self.hub_patience = patience;
        self
    }

    /// Sets [`look_up`](Self::look_up).
    pub const fn with_look_up(mut self, look_up: bool) -> Self {
        self.look_up = look_up;
        self
    }

    /// Sets [`first_pause`](Self::first_pause).
    pub const fn with_first_pause(mut self, pause: Duration) -> Self {
        self.first_pause = pause;
        self
    }

    /// Sets [`longest_pause`](Self::longest_pause).
    pub const fn with_longest_pause(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    /// Sets [`jitter_seed`](Self::jitter_seed).
    pub const fn with_jitter_seed(mut self, seed: u32) -> Self {
        self.jitter_seed = seed;
        self
    }
}

impl Default for ReprovisioningPolicy {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The hub is to be connected to, or is connected.
    Hub,
    LookUp,
    Register,
    /// Until a time, and then the hub, or DPS where there is none.
    Waiting(Duration),
}

/// Whether a look-up has said all that it will ever say. A disabled enrollment is as disabled in a
/// registration.
fn is_answer(error: &Error, fault: Fault) -> bool {
    match error {
        Error::Disabled | Error::Transport(_) | Error::Untrusted | Error::TimedOut => false,
        Error::Refused(_) => fault != Fault::Busy,
        _ => true,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// 401, 403, 404.
    Refused,
    /// 429.
    Throttled,
    /// 5xx.
    ServerError,
    Unreachable,
}

const BACK_OFF: u32 = 5000;
const BACK_OFF_DOUBLINGS: u8 = 6;
/// An hour with the hub, and whatever was wrong is over.
const SETTLED: Duration = Duration::from_secs(3600);
/// The longest pause after what DPS has not decided is the one of this number, from 0.
const UNDECIDED: u8 = 3;

impl Reprovisioning {
    /// A device at its boot. `record` is what was found of an earlier one.
    pub fn new(
        registration_id: RegistrationId<'_>,
        policy: ReprovisioningPolicy,
        record: &Result<Record<'_>, RecordError>,
    ) -> Self {
        let found = record.as_ref().ok();
        let mut device = Self {
            policy,
            state: State::Hub,
            hub: found.map(|record| record.assignment().hub().fingerprint()),
            is_known: !matches!(record, Err(RecordError::Absent)),
            trouble: Trouble::Unreachable,
            accepted: None,
            give_up: None,
            failures: 0,
            pauses: 0,
            pause_end: Duration::ZERO,
            key: found.map_or(KeyChoice::Primary, Record::key),
            has_secondary_key: false,
            is_other_key: false,
            jitter: Jitter::of(registration_id, policy.jitter_seed),
        };
        if device.hub.is_none() {
            device.ask_service();
        }
        device
    }

    /// There is a secondary key to fall back on. It is tried where DPS refuses the primary one,
    /// and the other way round; the one that was accepted last is tried first.
    pub const fn with_secondary_key(mut self) -> Self {
        self.has_secondary_key = true;
        self
    }

    /// What to do next.
    pub fn next(&mut self, now: Duration) -> Next {
        if let State::Waiting(until) = self.state {
            if now < until {
                return Next::Wait(between(now, until));
            }
            match self.hub {
                Some(_) => self.state = State::Hub,
                None => self.ask_service(),
            }
        }
        match self.state {
            State::LookUp => Next::LookUp(self.key),
            State::Register => Next::Register(self.key),
            _ => Next::Hub(self.key),
        }
    }

    /// The key that DPS accepted last: for the record, and for the hub.
    pub const fn key(&self) -> KeyChoice {
        self.key
    }

    /// What became of the connection to the hub that [`next`](Self::next) asked for.
    pub fn on_hub(&mut self, now: Duration, answer: HubAnswer) {
        if self.state != State::Hub {
            return;
        }
        self.trouble = match answer {
            HubAnswer::Accepted => {
                self.accepted.get_or_insert(now);
                self.give_up = None;
                self.failures = 0;
                return;
            }
            HubAnswer::Refused(401 | 403 | 404) => Trouble::Refused,
            HubAnswer::Refused(429) => Trouble::Throttled,
            HubAnswer::Refused(500..=599) => Trouble::ServerError,
            HubAnswer::Refused(_) | HubAnswer::Unreachable => Trouble::Unreachable,
        };
        if let Some(accepted) = self.accepted.take()
            && between(accepted, now) >= SETTLED
        {
            self.pauses = 0;
            self.pause_end = now;
        }
        let is_enough = match self.trouble {
            Trouble::Refused => true,
            // The hub is there, and knows the device.
            Trouble::Throttled => {
                self.give_up = None;
                false
            }
            Trouble::ServerError | Trouble::Unreachable => {
                let give_up = match self.give_up {
                    Some(give_up) => give_up,
                    None => later(now, self.jitter.add_half(millis(self.policy.hub_patience))),
                };
                self.give_up = Some(give_up);
                now >= give_up && (self.policy.look_up || self.trouble == Trouble::Unreachable)
            }
        };
        if is_enough && now >= self.pause_end {
            self.ask_service();
        } else {
            self.wait(now);
        }
    }

    /// What the look-up, or the registration, that [`next`](Self::next) asked for came to.
    /// `true` if it is news: write the record, with [`key`](Self::key). `false` if the look-up
    /// named the hub that the record has.
    #[must_use = "news must be written to the record"]
    pub fn on_assigned(&mut self, now: Duration, assignment: &Assignment<'_>) -> bool {
        if !matches!(self.state, State::LookUp | State::Register) {
            return false;
        }
        self.is_other_key = false;
        let hub = Some(assignment.hub().fingerprint());
        if self.state == State::LookUp && self.hub == hub {
            match self.trouble {
                // Nothing that a registration could change.
                Trouble::ServerError => self.wait(now),
                _ => self.state = State::Register,
            }
            return false;
        }
        self.pause(now, u8::MAX);
        self.hub = hub;
        self.failures = 0;
        self.state = State::Hub;
        true
    }

    /// The look-up, or the registration, that [`next`](Self::next) asked for ended with this
    /// error.
    pub fn on_error(&mut self, now: Duration, error: &Error) {
        let is_look_up = match self.state {
            State::LookUp => true,
            State::Register => false,
            State::Hub | State::Waiting(_) => return,
        };
        match error.fault() {
            Fault::Credential if self.has_secondary_key && !self.is_other_key => {
                self.key = self.key.other();
                self.is_other_key = true;
                return;
            }
            // There is no registration, or none that succeeded; or the look-up is not for this
            // device. What it says does not change by being asked again.
            fault if is_look_up && is_answer(error, fault) => {
                if core::mem::take(&mut self.is_other_key) {
                    self.key = self.key.other();
                }
                self.state = State::Register;
                return;
            }
            Fault::Busy | Fault::Transport | Fault::Peer => {
                // What was sent may have arrived.
                if !is_look_up && !matches!(error, Error::Transport(TransportFault::Connect)) {
                    self.is_known = true;
                    self.pause(now, UNDECIDED);
                }
            }
            _ => self.pause(now, u8::MAX),
        }
        self.wait(now);
    }

    /// The operator wants the device to be provisioned anew: a registration is next, whatever
    /// was. End the hub's session first. If DPS cannot be reached, the device goes back to its
    /// hub.
    ///
    /// Source: [devices should respond to a reprovisioning command](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale#iot-hub-connectivity-considerations).
    pub fn provision_again(&mut self) {
        self.trouble = Trouble::Unreachable;
        self.accepted = None;
        self.ask_service();
        self.state = State::Register;
    }

    fn ask_service(&mut self) {
        self.give_up = None;
        self.state = if self.policy.look_up && self.is_known { State::LookUp } else { State::Register };
    }

    /// Backs off, and until the end of the pause where there is nobody but DPS to turn to.
    fn wait(&mut self, now: Duration) {
        if core::mem::take(&mut self.is_other_key) {
            // It was not accepted either.
            self.key = self.key.other();
        }
        let back_off = self.jitter.add_half(BACK_OFF << self.failures.min(BACK_OFF_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        let mut until = later(now, back_off);
        if self.hub.is_none() || self.trouble == Trouble::Refused {
            until = until.max(self.pause_end);
        }
        self.state = State::Waiting(until);
    }

    /// Leaves DPS alone for a time that grows from one time to the next, up to the one of the
    /// number `last`.
    fn pause(&mut self, now: Duration, last: u8) {
        let quadruplings = self.pauses.min(last).min(15);
        let pause = millis(self.policy.first_pause).saturating_mul(1 << (2 * quadruplings));
        let pause = pause.min(millis(self.policy.longest_pause));
        self.pause_end = later(now, self.jitter.add_half(pause));
        if self.pauses < last {
            self.pauses += 1;
        }
    }
}
