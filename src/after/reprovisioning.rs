use core::time::Duration;

use super::{Record, record::may_have_certificate};
use crate::{
    error::{Error, Fault, RecordError},
    identity::{KeyChoice, RegistrationId},
    provisioning::{Assignment, Jitter, Provisioning, fnv_1a, millis},
    total::{between, later},
};

/// Decides where a device turns after its first boot: to the hub that it knows, or to DPS. It
/// turns to DPS only when the hub says so, or has been out of reach for long enough. A state
/// machine without I/O, clock or allocator, as [`Provisioning`] is.
///
/// A register call is billed, and most of them lead to the hub that the device knows already. A
/// fleet that registers at each boot is throttled. This is the guidance that Microsoft
/// publishes, with times to it.
///
/// # How to drive it
///
/// 1. **Boot.** Read the [`Record`] and hand in the result ([`new`](Self::new)).
/// 2. **Ask** [`next`](Self::next) what to do, whenever the last thing is done. `now` is a
///    monotonic clock's reading, from any start; every call takes the same clock's.
/// 3. On [`Next::Wait`], do nothing for this long, then go to 2. Waiting longer is allowed.
/// 4. On [`Next::Hub`], connect to the [`Hub`](super::Hub) of the record, with this key. Report
///    the outcome to [`on_hub`](Self::on_hub), then go to 2:
///    - [`Accepted`](HubOutcome::Accepted) when the session stands. The device reads its
///      [`twin`](super::twin) then. When the session ends, report that too:
///      [`Closed`](HubOutcome::Closed) if this device ended it, else
///      [`Unreachable`](HubOutcome::Unreachable), or [`Refused`](HubOutcome::Refused) if the hub gave
///      a reason.
///    - [`Refused`](HubOutcome::Refused) or [`Unreachable`](HubOutcome::Unreachable) if there is no
///      session.
///
///    A TPM signs with the key that the record's
///    [`tpm_authentication_key`](Assignment::tpm_authentication_key) gave it, and not with that of
///    a later challenge.
/// 5. On [`Next::LookUp`], run a `Provisioning::lookup`: the service says where the device belongs,
///    nothing is changed, and nothing is billed. On [`Next::Register`], run a [`Provisioning::new`], with
///    the [`csr`](crate::Registration::csr) if the device uses an issued certificate. Of two keys, both
///    try this one first ([`Provisioning::with_first_key`]).
/// 6. If the run has an [`Assignment`], hand it to [`on_assigned`](Self::on_assigned), with the key that
///    the service accepted ([`Provisioning::key`]). If that returns `true`, write the record before
///    anything else: [`Next::Hub`] is the new hub. If the run failed, hand the finished
///    [`Provisioning`] to [`on_failed`](Self::on_failed). Then go to 2.
///
/// ```
/// use azure_dps::after::{HubOutcome, Next, Record, Reprovisioning, ReprovisioningPolicy};
/// use azure_dps::{Attestation, DeviceKey, Provisioning, Registration};
/// # use azure_dps::{Error, after::Hub, identity::KeyChoice};
/// # use core::time::Duration;
///
/// # struct Device { hubs: u8 }
/// # impl Device {
/// #     fn now(&self) -> Duration { Duration::ZERO }
/// #     fn sleep(&self, _: Duration) {}
/// #     fn connect(&mut self, hub: Hub<'_>, _: &mut DeviceKey) -> HubOutcome { HubOutcome::Accepted }
/// #     fn work(&mut self) -> HubOutcome { self.hubs += 1; HubOutcome::Closed }
/// #     fn is_on(&self) -> bool { self.hubs == 0 }
/// #     fn provision(&self, provisioning: &mut Provisioning<'_>, keys: &mut [DeviceKey; 2], body: &mut [u8]) -> Result<(), Error> {
/// #         let answer = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net","deviceId":"dev-1"}}"#;
/// #         body[..answer.len()].copy_from_slice(answer);
/// #         provisioning.start(Duration::ZERO, 0);
/// #         provisioning.on_answer(Duration::ZERO, azure_dps::provisioning::Answer::new(200, None, answer));
/// #         provisioning.result(body).map(|_| ())
/// #     }
/// # }
/// /// `device` stands for the firmware's clock, network and transport.
/// fn live(
///     device: &mut Device,
///     registration: Registration<'_>,
///     keys: &mut [DeviceKey; 2],
///     flash: &mut [u8],
/// ) -> Result<(), Error> {
///     let mut buffer = [0; 1024];
///     let policy = ReprovisioningPolicy::new().with_lookup(); // with the feature `lookup`
///     let mut life = Reprovisioning::new(registration.registration_id(), policy, Record::read(flash, &registration)); // 1
///     while device.is_on() {
///         let attestation = Attestation::symmetric_key();
///         let provisioning = match life.next(device.now()) { // 2
///             Next::Wait(wait) => { // 3
///                 device.sleep(wait);
///                 continue;
///             }
///             Next::Hub(key) => { // 4
///                 let record = Record::read(flash, &registration)?;
///                 let answer = device.connect(record.assignment().hub(), &mut keys[key as usize]);
///                 life.on_hub(device.now(), answer);
///                 if answer == HubOutcome::Accepted {
///                     // Until the session ends: `Closed` if this device ends it, else `Unreachable`.
///                     let end = device.work();
///                     life.on_hub(device.now(), end);
///                 }
///                 continue;
///             }
/// #           #[cfg(not(feature = "lookup"))]
/// #           Next::LookUp(_) => unreachable!(),
/// #           #[cfg(feature = "lookup")]
///             Next::LookUp(key) => Provisioning::lookup(registration, attestation).with_first_key(key), // 5
///             Next::Register(key) => Provisioning::new(registration, attestation).with_first_key(key),
///         };
///         let mut provisioning = provisioning;
///         if device.provision(&mut provisioning, keys, &mut buffer).is_ok() { // 6
///             let is_news = life.on_assigned(device.now(), &provisioning.result(&buffer)?, provisioning.key());
///             if is_news {
///                 let record = provisioning.write_record(&mut buffer)?;
///                 flash[..record.len()].copy_from_slice(record);
///             }
///         } else {
///             life.on_failed(device.now(), &provisioning);
///         }
///     }
///     Ok(())
/// }
/// # let registration = Registration::new(azure_dps::IdScope::new("0ne00002193")?, azure_dps::RegistrationId::new("dev-1")?);
/// # let mut flash = [0xff; 1024];
/// # live(&mut Device { hubs: 0 }, registration, &mut [DeviceKey::new(), DeviceKey::new()], &mut flash)?;
/// # assert!(Record::read(&flash, &registration).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it decides
///
/// | what happened | what is next |
/// |---|---|
/// | there is a record | the hub |
/// | there is no record, or another device's | a registration |
/// | the record is torn, or of another layout | the look-up |
/// | the hub: 401, 403, 404 | the look-up, at once |
/// | the hub: out of reach, a session lost, anything else | the hub again, after 5 s, then 10, 20 … 320 s; after [`hub_patience`](ReprovisioningPolicy::hub_patience) the look-up |
/// | the hub: 5xx | the same, but then no registration |
/// | the hub: 429 | the hub again, as above, for as long as it takes |
/// | this device closed the session | the hub, when the device wants it again |
/// | the look-up: another hub, or device ID | that one |
/// | the look-up: the hub that is known; no registration, or one that failed or was disabled; anything else but what follows | a registration |
/// | a registration: a hub | that one, even if it is the same |
/// | either: DPS is busy or out of reach | the hub, if there is one, after 5 s, then 10, 20 … 320 s |
/// | a registration: the enrollment is disabled, or anything else | a pause; meanwhile the hub, if there is one: if it has refused the device, every hour, else as above |
///
/// **The look-up** is a feature, `lookup`, and is asked for with `ReprovisioningPolicy::with_lookup`. Without it,
/// the registration is next where the table says look-up, but after a 5xx of the hub.
///
/// **Issued certificates.** A look-up does not return them. So a device whose record has an
/// [`issued_certificate_chain`](Assignment::issued_certificate_chain) registers instead of looking
/// up. The same goes for a record that cannot be read and may have had one, and after a register
/// request with a `csr` that led to no assignment. A hub's 5xx leads to no registration here either.
///
/// **Sessions.** A session counts as a success if this device ended it
/// ([`HubOutcome::Closed`]), however short it was, or if it lasted for
/// [`SHORTEST_SESSION`](Self::SHORTEST_SESSION), 2 minutes. A success ends the patience and the
/// back-off. A session that the hub or the network ends earlier is a failure like any other: the hub
/// may accept every device and drop it at once.
///
/// **Pauses.** A hub that refuses a device that DPS has just sent there would cost a billed
/// registration each time round. So DPS is not asked again for
/// [`first_pause`](ReprovisioningPolicy::first_pause), then four times as long, and so on up to
/// [`longest_pause`](ReprovisioningPolicy::longest_pause): with the defaults 1, 4, 16, 64 minutes,
/// 4 and 17 hours, then a day, each plus jitter of up to half of it. A pause follows
/// - each registration, and each final error of one;
/// - each look-up that led to another hub.
///
/// That makes at most seven registrations in the first day, and then less than one a day. Before
/// each of them the hub is tried once more, and in a long pause every 1 to 1½ hours: an operator who
/// enables a device at its hub again does not wait for the end of the pause. When an hour has passed since the hub accepted the
/// device, without a session lost, the series ends. A reboot ends it too, because it forgets the
/// pauses. If your device may reboot in order to try again, save them: [`pauses`](Self::pauses).
///
/// A registration whose outcome did not arrive may have been billed: the pauses follow it too,
/// but grow no longer than the fourth of them. If no register request was sent
/// ([`Provisioning::register_was_sent`]), there is no pause, whatever the error: a first boot with a
/// clock that is not set yet, or without a network, goes on after the back-off.
///
/// All waits are plus jitter of up to half, from the registration ID and
/// [`jitter_seed`](ReprovisioningPolicy::jitter_seed).
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale#iot-hub-connectivity-considerations).
/// It sends a device that is refused straight to the registration; the look-up before it spares
/// those that were moved already.
#[derive(Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Reprovisioning {
    policy: ReprovisioningPolicy,
    state: State,
    /// What tells the hub that the record has from others.
    hub: Option<u32>,
    /// Whether the service may know this device.
    is_known: bool,
    /// Whether it has, or may have, an issued certificate, which a look-up would lose.
    has_certificate: bool,
    /// What the hub did last.
    trouble: Trouble,
    /// Since when the hub has accepted the device and lost no session of it.
    accepted: Option<Duration>,
    /// When the hub has failed for long enough. `None` if it has not failed.
    give_up: Option<Duration>,
    /// Of the hub and of DPS in a row, while neither decided anything.
    failures: u8,
    /// How many pauses there were, and when the last one ends.
    pauses: u8,
    pause_end: Duration,
    /// The key that the service accepted last.
    key: KeyChoice,
    jitter: Jitter,
}

/// How long DPS is left alone, and the how manieth pause this is: what
/// [`Reprovisioning`] would forget in a reboot.
///
/// ```
/// use azure_dps::after::{Pauses, RecordError, Reprovisioning, ReprovisioningPolicy};
/// use azure_dps::RegistrationId;
/// use core::time::Duration;
///
/// let boot = Duration::ZERO;
/// let id = RegistrationId::new("dev-1")?;
/// let mut life = Reprovisioning::new(id, ReprovisioningPolicy::new(), Err(RecordError::Absent));
/// // … after each outcome, into flash:
/// let saved: [u8; Pauses::LEN] = life.pauses(boot).to_bytes();
///
/// // At the next boot. Erased flash has no pauses.
/// let mut life = Reprovisioning::new(id, ReprovisioningPolicy::new(), Err(RecordError::Absent));
/// if let Some(pauses) = Pauses::from_bytes(&saved) {
///     life = life.with_pauses(boot, pauses);
/// }
/// # let _ = life.next(boot);
/// # Ok::<(), azure_dps::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Pauses {
    count: u8,
    /// Of the last one, in seconds.
    left: u32,
}

impl Pauses {
    /// The length of [`to_bytes`](Self::to_bytes).
    pub const LEN: usize = 8;

    /// Returns the pauses as bytes, with a check against torn and erased flash.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.left.to_le_bytes();
        let [e, f, g] = Self::check([self.count, a, b, c, d]);
        [self.count, a, b, c, d, e, f, g]
    }

    /// Reads what [`to_bytes`](Self::to_bytes) returned. `None` if these are other bytes.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let [count, a, b, c, d, check @ ..] = *bytes;
        (check == Self::check([count, a, b, c, d])).then_some(Self { count, left: u32::from_le_bytes([a, b, c, d]) })
    }

    /// Returns what is left of the pauses after the device was off for this long, if it knows.
    pub const fn after(mut self, off: Duration) -> Self {
        let off = off.as_secs();
        self.left = if off > u32::MAX as u64 { 0 } else { self.left.saturating_sub(off as u32) };
        self
    }

    fn check(bytes: [u8; 5]) -> [u8; 3] {
        let [a, b, c, _] = fnv_1a(bytes.into_iter()).to_le_bytes();
        [a, b, c]
    }
}

/// What to do next: see [how to drive it](Reprovisioning#how-to-drive-it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Next {
    /// Connect to the hub of the record, or of the assignment that was handed in last.
    Hub(KeyChoice),
    /// Ask the service where the device is registered. This is for HTTP only. It is left out
    /// without `ReprovisioningPolicy::with_lookup`, and for a device with an issued certificate.
    LookUp(KeyChoice),
    /// Register the device, which is billed.
    Register(KeyChoice),
    /// Do nothing for this long.
    Wait(Duration),
}

/// How a connection to the hub went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum HubOutcome {
    /// The session stands. Report its end too.
    Accepted,
    /// This device ended the session, after [`Accepted`](Self::Accepted): its work is done, say, or
    /// its token expires.
    Closed,
    /// The hub said no, with this HTTP status, or what stands for it in AMQP.
    Refused(u16),
    /// There is no connection, or the hub or the network ended it: a broken connection, TLS, a
    /// time-out, MQTT's DISCONNECT.
    Unreachable,
}

impl HubOutcome {
    /// Returns what a hub answered to the CONNECT of MQTT 3.1.1, by the return code of its CONNACK:
    ///
    /// | code | outcome | what is known of it |
    /// |---|---|---|
    /// | 0 | [`Accepted`](Self::Accepted) | |
    /// | 5 | `Refused(401)` | the hub's answer to every CONNECT that fails: a wrong key, a token that has expired, a clock that is off by more than 5 minutes, a device that is unknown, disabled or at another hub |
    /// | 2, 4 | `Refused(401)` | not seen. Microsoft's clients take them for a 5 |
    /// | 3 | `Refused(503)` | seen, and passing: the same hub again |
    /// | 1, any other | `Refused(400)` | not seen. The hub does not speak this version of MQTT: the same hub again, for a while |
    ///
    /// A hub does not say why it refuses a device. Before you report a 5, look at the clock: the token's
    /// expiry was made from it.
    ///
    /// A hub that closes the connection before or after its CONNACK gives no reason: that is
    /// [`HubOutcome::Unreachable`]. If a hub refuses a question in a session,
    /// [`Refusal::hub_outcome`](super::twin::Refusal::hub_outcome) has the outcome.
    ///
    /// ```
    /// use azure_dps::after::HubOutcome;
    ///
    /// assert_eq!(HubOutcome::from_connack(0), HubOutcome::Accepted);
    /// assert_eq!(HubOutcome::from_connack(5), HubOutcome::Refused(401));
    /// ```
    ///
    /// Sources: [CONNACK](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html#_Toc398718035),
    /// [reliability of the C SDK](https://github.com/Azure/azure-iot-sdk-c/blob/main/doc/connection_and_messaging_reliability.md).
    pub const fn from_connack(return_code: u8) -> Self {
        match return_code {
            0 => HubOutcome::Accepted,
            3 => HubOutcome::Refused(503),
            2 | 4 | 5 => HubOutcome::Refused(401),
            _ => HubOutcome::Refused(400),
        }
    }
}

/// How patient a device is with its hub, and how sparing with DPS.
///
/// ```
/// use azure_dps::after::ReprovisioningPolicy;
/// use core::time::Duration;
///
/// let policy = ReprovisioningPolicy::new().with_hub_patience(Duration::from_secs(900));
/// assert_eq!(policy.hub_patience, Duration::from_secs(900));
/// ```
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct ReprovisioningPolicy {
    /// How long a hub that is out of reach is tried before DPS is asked: 20 minutes by default,
    /// which with jitter of up to half of it is within the 15 to 30 that Microsoft asks for. At most
    /// 12 days.
    pub hub_patience: Duration,
    /// See `with_lookup`.
    looks_up: bool,
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
            looks_up: false,
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

    /// Asks for the status look-up before a registration, which it often spares. The look-up is not
    /// billed. It is for HTTP only: a device that speaks MQTT alone registers instead.
    ///
    /// A device with an issued certificate registers in any case, since no look-up returns the
    /// certificate.
    #[cfg(feature = "lookup")]
    pub const fn with_lookup(mut self) -> Self {
        self.looks_up = true;
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
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
enum State {
    /// The hub is to be connected to, or is connected.
    Hub,
    LookUp,
    Register,
    /// Until a time, and then the hub, or DPS where there is none.
    Waiting(Duration),
}

/// Whether a look-up has said all that it will ever say. It tells how the last registration ended: if that was
/// `disabled`, only another registration can tell that the enrollment was enabled since.
fn is_answer(error: &Error, fault: Fault) -> bool {
    match error {
        Error::Transport(_) | Error::Untrusted | Error::ProxyRefused | Error::TimedOut => false,
        Error::Refused(_) => fault != Fault::Busy,
        _ => true,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
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
/// In a pause, a hub that has refused the device is tried so often. It is not billed.
const REFUSED_BACK_OFF: u32 = 3_600_000;
/// Whatever was wrong is over after an hour with the hub.
const SETTLED: Duration = Duration::from_secs(3600);
/// The longest pause after what DPS has not decided is the one of this number, from 0.
const UNDECIDED: u8 = 3;

impl Reprovisioning {
    /// The shortest session that counts as a success although the hub or the network ended it.
    pub const SHORTEST_SESSION: Duration = Duration::from_secs(120);

    /// Creates the state of a device at its boot. `record` is what was found of an earlier one.
    pub fn new(
        registration_id: RegistrationId<'_>,
        policy: ReprovisioningPolicy,
        record: Result<Record<'_>, RecordError>,
    ) -> Self {
        let found = record.as_ref().ok();
        let mut device = Self {
            policy,
            state: State::Hub,
            hub: found.map(|record| record.assignment().hub().fingerprint()),
            is_known: !matches!(record, Err(RecordError::Absent | RecordError::Foreign)),
            has_certificate: match &record {
                Ok(record) => record.assignment().has_certificate(),
                Err(error) => may_have_certificate(error),
            },
            trouble: Trouble::Unreachable,
            accepted: None,
            give_up: None,
            failures: 0,
            pauses: 0,
            pause_end: Duration::ZERO,
            key: found.map_or(KeyChoice::Primary, Record::key),
            jitter: Jitter::of(registration_id, policy.jitter_seed),
        };
        if device.hub.is_none() {
            device.ask_service();
        }
        device
    }

    /// Sets the pauses that were saved before the reboot, at the time `now` of the new clock.
    ///
    /// What is left of a pause is at most one and a half times
    /// [`longest_pause`](ReprovisioningPolicy::longest_pause), whatever was saved.
    pub fn with_pauses(mut self, now: Duration, pauses: Pauses) -> Self {
        self.restore_pauses(now, pauses);
        self
    }

    /// Does what [`with_pauses`](Self::with_pauses) does, in place.
    pub fn restore_pauses(&mut self, now: Duration, pauses: Pauses) {
        let longest = millis(self.policy.longest_pause);
        let longest = longest.saturating_add(longest / 2);
        self.pauses = pauses.count;
        self.pause_end = later(now, pauses.left.saturating_mul(1000).min(longest));
        if self.hub.is_none() && now < self.pause_end {
            self.state = State::Waiting(self.pause_end);
        }
    }

    /// Returns the pauses, for a reboot. Save them after each [`on_assigned`](Self::on_assigned) and
    /// [`on_failed`](Self::on_failed), and once more when the hub's session has lasted for an hour: then
    /// the series is over, and there are none.
    ///
    /// Do not reboot between a look-up and the registration that follows it: no pause is between them, and
    /// the next boot would look up again.
    pub fn pauses(&self, now: Duration) -> Pauses {
        if self.accepted.is_some_and(|accepted| between(accepted, now) >= SETTLED) {
            return Pauses::default();
        }
        let left = between(now, self.pause_end.max(now));
        // Rounded up: a reboot must not shorten a pause.
        let seconds = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
        Pauses { count: self.pauses, left: u32::try_from(seconds).unwrap_or(u32::MAX) }
    }

    /// Returns what to do next.
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

    /// Returns the key that the service accepted last: the key for the hub, and the one to try first.
    pub const fn key(&self) -> KeyChoice {
        self.key
    }

    /// Takes the outcome of the connection to the hub that [`next`](Self::next) asked for, and later
    /// the end of the session.
    pub fn on_hub(&mut self, now: Duration, answer: HubOutcome) {
        if self.state != State::Hub {
            return;
        }
        let trouble = match answer {
            HubOutcome::Accepted => {
                self.accepted.get_or_insert(now);
                return;
            }
            HubOutcome::Closed => None,
            HubOutcome::Refused(401 | 403 | 404) => Some(Trouble::Refused),
            HubOutcome::Refused(429) => Some(Trouble::Throttled),
            HubOutcome::Refused(500..=599) => Some(Trouble::ServerError),
            HubOutcome::Refused(_) | HubOutcome::Unreachable => Some(Trouble::Unreachable),
        };
        if let Some(accepted) = self.accepted {
            let seconds = between(accepted, now).as_secs();
            if trouble.is_none() || seconds >= Self::SHORTEST_SESSION.as_secs() {
                self.give_up = None;
                self.failures = 0;
            }
            if seconds >= SETTLED.as_secs() {
                self.pauses = 0;
                self.pause_end = now;
            }
        }
        let Some(trouble) = trouble else { return };
        self.trouble = trouble;
        self.accepted = None;
        let is_enough = match trouble {
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
                now >= give_up && (self.can_look_up() || trouble == Trouble::Unreachable)
            }
        };
        if is_enough && now >= self.pause_end {
            self.ask_service();
        } else {
            self.wait(now);
        }
    }

    /// Takes the assignment that the look-up or the registration of [`next`](Self::next) led to, and the
    /// key that the service accepted ([`Provisioning::key`]). Returns `true` if it is news: write the
    /// record. Returns `false` if the look-up named the hub that the record has.
    #[must_use = "news must be written to the record"]
    pub fn on_assigned(&mut self, now: Duration, assignment: &Assignment<'_>, key: KeyChoice) -> bool {
        if !matches!(self.state, State::LookUp | State::Register) {
            return false;
        }
        self.key = key;
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
        self.is_known = true;
        self.has_certificate = assignment.has_certificate();
        self.failures = 0;
        self.state = State::Hub;
        true
    }

    /// Takes the look-up, or the registration, that [`next`](Self::next) asked for, if it ended
    /// without an assignment. Hand in the [`Provisioning`] as the run left it. Do so also if the run
    /// was given up half-way, or if its result could not be read.
    pub fn on_failed(&mut self, now: Duration, provisioning: &Provisioning<'_>) {
        let is_look_up = match self.state {
            State::LookUp => true,
            State::Register => false,
            State::Hub | State::Waiting(_) => return,
        };
        let was_sent = provisioning.register_was_sent();
        // A request may have arrived, whatever the run ended with: its answer lost, or too long to read.
        self.has_certificate |= was_sent && provisioning.registration().csr().is_some();
        let error = provisioning.failure();
        match error.fault() {
            // There is no registration, or none that succeeded; or the look-up is not for this
            // device. What it says does not change by being asked again.
            fault if is_look_up && is_answer(&error, fault) => {
                self.state = State::Register;
                return;
            }
            Fault::Busy | Fault::Transport | Fault::Peer => {
                // What was sent may have arrived.
                if was_sent {
                    self.is_known = true;
                    self.pause(now, UNDECIDED);
                }
            }
            _ => {
                if was_sent || is_look_up {
                    self.pause(now, u8::MAX);
                }
            }
        }
        self.wait(now);
    }

    /// Asks for a registration next, whatever was: the operator wants the device to be provisioned
    /// again. End the hub's session first. If DPS cannot be reached, the device goes back to its hub.
    ///
    /// Source: [devices should respond to a reprovisioning command](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale#iot-hub-connectivity-considerations).
    pub fn provision_again(&mut self) {
        self.trouble = Trouble::Unreachable;
        self.accepted = None;
        self.ask_service();
        self.state = State::Register;
    }

    fn can_look_up(&self) -> bool {
        self.policy.looks_up && self.is_known && !self.has_certificate
    }

    fn ask_service(&mut self) {
        self.give_up = None;
        self.state = if self.can_look_up() { State::LookUp } else { State::Register };
    }

    /// Backs off: until the end of the pause if there is nobody but DPS to turn to, and for an hour or until that end if
    /// the hub has refused the device.
    fn wait(&mut self, now: Duration) {
        let back_off = self.jitter.add_half(BACK_OFF << self.failures.min(BACK_OFF_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        let mut until = later(now, back_off);
        if self.hub.is_none() {
            until = until.max(self.pause_end);
        } else if self.trouble == Trouble::Refused {
            until = until.max(self.pause_end.min(later(now, self.jitter.add_half(REFUSED_BACK_OFF))));
        } else if let Some(give_up) = self.give_up.filter(|give_up| now < *give_up) {
            // The last try before DPS is asked. A back-off must not make the patience longer.
            until = until.min(give_up.max(later(now, BACK_OFF)));
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
