use core::time::Duration;

use super::{Record, record::may_have_certificate};
use crate::{
    error::{Error, Fault, RecordError},
    identity::{KeyChoice, RegistrationId},
    provisioning::{Assignment, Jitter, Provisioning, fnv_1a, millis},
    total::{between, later},
};

/// Decides what a device does after its first boot: connect to its hub, or ask DPS again.
///
/// The device asks DPS only if the hub rejects it, or if the hub cannot be reached for a long time. A
/// registration is billed, and usually returns the hub that the device knows already. If a fleet registers at
/// each boot, the service throttles it. This type follows the guidance that Microsoft publishes (source below).
///
/// Like [`Provisioning`], this is a state machine without I/O, clock or allocator.
///
/// # How to drive it
///
/// 1. **Boot.** Read the [`Record`], and pass the result to [`new`](Self::new).
/// 2. **Ask** [`next`](Self::next) what to do. `now` is the time of a monotonic clock, such as the time since
///    boot. All calls use the same clock.
/// 3. On [`Next::Wait`], wait for this time, then go to 2. You may wait longer.
/// 4. On [`Next::Hub`], connect to the [`Hub`](super::Hub) of the record, with this key. Pass the outcome to
///    [`on_hub`](Self::on_hub), then go to 2:
///    - [`Accepted`](HubOutcome::Accepted) when the session begins. Read the [`twin`](super::twin) now. When
///      the session ends, pass this outcome too: [`Closed`](HubOutcome::Closed) if the device ended the
///      session, [`Refused`](HubOutcome::Refused) if the hub gave a reason, else
///      [`Unreachable`](HubOutcome::Unreachable).
///    - [`Refused`](HubOutcome::Refused) or [`Unreachable`](HubOutcome::Unreachable) if no session begins.
///
///    A TPM signs with the [`tpm_authentication_key`](Assignment::tpm_authentication_key) of the record, not
///    with the key of a later challenge.
/// 5. On [`Next::LookUp`], run a `Provisioning::lookup`. It returns the last assignment, changes nothing and is
///    not billed. On [`Next::Register`], run a [`Provisioning::new`]. If the device uses an issued certificate,
///    add the [`csr`](crate::Registration::csr). If the device has two keys, set the first key of the run
///    ([`Provisioning::with_first_key`]).
/// 6. If the run succeeds, pass the [`Assignment`] and the accepted key ([`Provisioning::key`]) to
///    [`on_assigned`](Self::on_assigned). If that returns `true`, write the record first: the next
///    [`Next::Hub`] is the new hub. If the run fails, pass the finished [`Provisioning`] to
///    [`on_failed`](Self::on_failed). Then go to 2.
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
/// /// `Device` is the firmware's clock, network and transport.
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
///             let is_new = life.on_assigned(device.now(), &provisioning.result(&buffer)?, provisioning.key());
///             if is_new {
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
/// At boot:
///
/// | record | next |
/// |---|---|
/// | valid | the hub |
/// | absent, or from another device | a registration |
/// | incomplete, or of another layout | a look-up |
///
/// After a connection to the hub:
///
/// | outcome | next |
/// |---|---|
/// | 401, 403, 404 | a look-up at once |
/// | not reachable, a lost session, or any other error | the hub again, after 5, 10, 20 … 320 s. After [`hub_patience`](ReprovisioningPolicy::hub_patience), a look-up |
/// | 5xx | as above, but the look-up is not followed by a registration |
/// | 429 | the hub again, after 5, 10, 20 … 320 s, without limit |
/// | the device closed the session | the hub, as soon as the device asks again |
///
/// After a look-up or a registration:
///
/// | outcome | next |
/// |---|---|
/// | DPS is busy or not reachable | the hub, if there is one, after 5, 10, 20 … 320 s |
/// | look-up: another hub or device ID | this hub |
/// | look-up: the known hub; no registration; a failed or disabled registration; any other error | a registration |
/// | registration: a hub | this hub, even if it is the known one |
/// | registration: the enrollment is disabled, or any other error | a pause. During the pause, the hub if there is one: every hour if the hub rejected the device, else as above |
///
/// All waits have jitter of up to 50 %. It depends on the registration ID and on
/// [`jitter_seed`](ReprovisioningPolicy::jitter_seed).
///
/// ## Look-ups
///
/// Look-ups need the feature `lookup` and `ReprovisioningPolicy::with_lookup`. Without them, a registration
/// replaces each look-up of the tables, except after a 5xx of the hub.
///
/// A look-up does not return issued certificates. So a device registers instead of looking up
///
/// - if its record has an [`issued_certificate_chain`](Assignment::issued_certificate_chain);
/// - if its record is unreadable and may have had one;
/// - after a register request with a `csr` that led to no assignment.
///
/// Also in these cases, a 5xx of the hub leads to no registration.
///
/// ## Sessions
///
/// A session is a success if the device ended it ([`HubOutcome::Closed`]), or if it lasted at least 2 minutes
/// ([`SHORTEST_SESSION`](Self::SHORTEST_SESSION)). A success resets the back-off and the time of
/// [`hub_patience`](ReprovisioningPolicy::hub_patience). A shorter session is a failure, because a hub may
/// accept a device and drop it at once.
///
/// ## Pauses
///
/// If a hub rejects a device although DPS assigned it, each new attempt would cost a registration. So the
/// device does not ask DPS again during a pause. A pause follows
///
/// - each registration, also one that ends with a final error;
/// - each look-up that returns another hub.
///
/// The first pause is [`first_pause`](ReprovisioningPolicy::first_pause). Each further pause is four times as
/// long, up to [`longest_pause`](ReprovisioningPolicy::longest_pause). With the defaults, the pauses are 1, 4,
/// 16, 64 minutes, 4 hours, 17 hours, then always one day, plus jitter. This limits a device to seven
/// registrations on the first day, and less than one a day later.
///
/// The device tries the hub once more before each registration, and every 1 to 1½ hours during a long pause. So
/// if the operator enables the device at its hub again, it does not wait for the end of the pause.
///
/// The series of pauses starts again
///
/// - one hour after the hub accepted the device, if no session was lost since;
/// - after a reboot, unless you save the pauses: see [`pauses`](Self::pauses). Save them if your device reboots
///   to try again.
///
/// If the answer to a register request is lost, the request may have been billed. Then there is a pause too, but
/// at most the fourth one. If no register request was sent ([`Provisioning::register_was_sent`]), there is no
/// pause. For example, a device without a network at its first boot only waits for the back-off.
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale#iot-hub-connectivity-considerations).
/// Microsoft's guidance has no look-up before the registration. The look-up avoids the cost of a registration
/// for a device that was moved already.
#[derive(Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Reprovisioning {
    policy: ReprovisioningPolicy,
    state: State,
    /// A hash of the hub in the record, if there is one.
    hub: Option<u32>,
    /// `true` if the service may know this device.
    is_known: bool,
    /// `true` if the device may have an issued certificate, which a look-up would lose.
    has_certificate: bool,
    /// The last failure of the hub.
    trouble: Trouble,
    /// The time when the hub accepted the device, if no session was lost since.
    accepted: Option<Duration>,
    /// The end of `hub_patience`. `None` if the hub has not failed.
    give_up: Option<Duration>,
    /// The number of failures in a row, of the hub and of DPS.
    failures: u8,
    /// The number of pauses so far.
    pauses: u8,
    /// The end of the last pause.
    pause_end: Duration,
    /// The key that the service accepted last.
    key: KeyChoice,
    jitter: Jitter,
}

/// The number of pauses, and the rest of the last one. Save it to keep the pauses across a reboot.
///
/// [`Reprovisioning`](Reprovisioning#pauses) explains what pauses are for.
///
/// ```
/// use azure_dps::after::{Pauses, RecordError, Reprovisioning, ReprovisioningPolicy};
/// use azure_dps::RegistrationId;
/// use core::time::Duration;
///
/// let boot = Duration::ZERO;
/// let id = RegistrationId::new("dev-1")?;
/// let mut life = Reprovisioning::new(id, ReprovisioningPolicy::new(), Err(RecordError::Absent));
/// // After each run, write these bytes to flash:
/// let saved: [u8; Pauses::LEN] = life.pauses(boot).to_bytes();
///
/// // At the next boot, restore them. Erased flash has no pauses.
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
    /// The rest of the last pause, in seconds.
    left: u32,
}

impl Pauses {
    /// The length of the saved pauses, in bytes.
    pub const LEN: usize = 8;

    /// Returns the pauses as bytes. A checksum detects incomplete and erased flash.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.left.to_le_bytes();
        let [e, f, g] = Self::check([self.count, a, b, c, d]);
        [self.count, a, b, c, d, e, f, g]
    }

    /// Creates the pauses from the bytes of [`to_bytes`](Self::to_bytes). Returns `None` for any other bytes.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let [count, a, b, c, d, check @ ..] = *bytes;
        (check == Self::check([count, a, b, c, d])).then_some(Self { count, left: u32::from_le_bytes([a, b, c, d]) })
    }

    /// Returns the pauses with the rest of the last one reduced by `off`, the time that the device was off.
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

/// The next action of a device, from [`Reprovisioning::next`].
///
/// [How to drive it](Reprovisioning#how-to-drive-it) describes each action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Next {
    /// Connect to the hub of the record, with this key.
    Hub(KeyChoice),
    /// Look up the last assignment, over HTTP only, with this key first. Only with
    /// `ReprovisioningPolicy::with_lookup`, and not for a device with an issued certificate.
    LookUp(KeyChoice),
    /// Register the device, with this key first. A registration is billed.
    Register(KeyChoice),
    /// Wait for this time.
    Wait(Duration),
}

/// The outcome of a connection to the hub, for [`Reprovisioning::on_hub`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum HubOutcome {
    /// The session has begun. Report its end too.
    Accepted,
    /// The device ended the session, after [`Accepted`](Self::Accepted). For example, its work is done or its
    /// token expires.
    Closed,
    /// The hub rejected the device with this HTTP status, or with the equivalent of AMQP.
    Refused(u16),
    /// The connection failed, or the hub or the network ended it: TLS, a time-out, a broken connection, MQTT's
    /// DISCONNECT.
    Unreachable,
}

impl HubOutcome {
    /// Returns the outcome for the return code of an MQTT 3.1.1 CONNACK from a hub.
    ///
    /// | code | outcome | meaning |
    /// |---|---|---|
    /// | 0 | [`Accepted`](Self::Accepted) | the session has begun |
    /// | 5 | `Refused(401)` | any failed login: a wrong key; an expired token; a clock that is off by more than 5 minutes; a device that is unknown, disabled or at another hub |
    /// | 2, 4 | `Refused(401)` | not known from a hub. Microsoft's clients treat these codes as 5 |
    /// | 3 | `Refused(503)` | temporary. The device tries the same hub again |
    /// | 1, any other | `Refused(400)` | not known from a hub. It does not support this version of MQTT. The device tries the same hub again |
    ///
    /// A hub does not give the reason of a code 5. Check the device's clock first, because the expiry of the
    /// token comes from it.
    ///
    /// If the hub closes the connection without a CONNACK, or soon after it, use [`HubOutcome::Unreachable`]. If
    /// it rejects a request for the twin, use [`Refusal::hub_outcome`](super::twin::Refusal::hub_outcome).
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

/// The settings of a [`Reprovisioning`]: how long it tries the hub, and how often it asks DPS.
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
    /// The time to try an unreachable hub before the device asks DPS. The default is 20 minutes, the maximum 12
    /// days.
    ///
    /// With jitter of up to 50 %, the default is 20 to 30 minutes. Microsoft recommends 15 to 30 minutes.
    pub hub_patience: Duration,
    /// See `with_lookup`.
    looks_up: bool,
    /// The first pause between two requests to DPS. The default is 1 minute.
    pub first_pause: Duration,
    /// The longest pause between two requests to DPS. The default is one day, the maximum 12 days.
    pub longest_pause: Duration,
    /// A number that differs between boots, such as a boot counter. The default is 0.
    pub jitter_seed: u32,
}

impl ReprovisioningPolicy {
    /// Creates a policy with the defaults: 20 minutes for the hub, no look-up, pauses from 1 minute to one day.
    pub const fn new() -> Self {
        Self {
            hub_patience: Duration::from_secs(20 * 60),
            looks_up: false,
            first_pause: Duration::from_secs(60),
            longest_pause: Duration::from_secs(24 * 3600),
            jitter_seed: 0,
        }
    }

    /// Sets the time to try an unreachable hub: see [`hub_patience`](Self::hub_patience).
    pub const fn with_hub_patience(mut self, patience: Duration) -> Self {
        self.hub_patience = patience;
        self
    }

    /// Enables the status look-up before a registration. The default is no look-up.
    ///
    /// A look-up is not billed, and often makes the registration unnecessary. It works over HTTP only: do not
    /// enable it on a device that uses MQTT only. A device with an issued certificate registers without a
    /// look-up, because a look-up does not return the certificate.
    #[cfg(feature = "lookup")]
    pub const fn with_lookup(mut self) -> Self {
        self.looks_up = true;
        self
    }

    /// Sets the first pause: see [`first_pause`](Self::first_pause).
    pub const fn with_first_pause(mut self, pause: Duration) -> Self {
        self.first_pause = pause;
        self
    }

    /// Sets the longest pause: see [`longest_pause`](Self::longest_pause).
    pub const fn with_longest_pause(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    /// Sets the number that differs between boots: see [`jitter_seed`](Self::jitter_seed).
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
    /// The device connects to the hub, or is connected.
    Hub,
    LookUp,
    Register,
    /// The device waits until this time. Then it connects to the hub, or asks DPS if there is no hub.
    Waiting(Duration),
}

/// Returns `true` if another look-up would give the same error.
///
/// A look-up returns the outcome of the last registration. If that was `disabled`, only a new registration can
/// find out that the enrollment is enabled again.
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

/// The first back-off in milliseconds.
const BACK_OFF: u32 = 5000;
const BACK_OFF_DOUBLINGS: u8 = 6;
/// During a pause, the time between two attempts at a hub that rejected the device, in milliseconds. These
/// attempts are not billed.
const REFUSED_BACK_OFF: u32 = 3_600_000;
/// After a session of this time, the series of pauses starts again.
const SETTLED: Duration = Duration::from_secs(3600);
/// The number of the longest pause after a run without an answer, counted from 0.
const UNDECIDED: u8 = 3;

impl Reprovisioning {
    /// The shortest session that counts as a success if the hub or the network ended it.
    pub const SHORTEST_SESSION: Duration = Duration::from_secs(120);

    /// Creates the state machine at boot. `record` is the result of [`Record::read`].
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

    /// Sets the pauses that were saved before the reboot. `now` is the current time.
    ///
    /// The rest of a pause is limited to 1.5 times [`longest_pause`](ReprovisioningPolicy::longest_pause).
    pub fn with_pauses(mut self, now: Duration, pauses: Pauses) -> Self {
        self.restore_pauses(now, pauses);
        self
    }

    /// Sets the pauses in place: see [`with_pauses`](Self::with_pauses).
    pub fn restore_pauses(&mut self, now: Duration, pauses: Pauses) {
        let longest = millis(self.policy.longest_pause);
        let longest = longest.saturating_add(longest / 2);
        self.pauses = pauses.count;
        self.pause_end = later(now, pauses.left.saturating_mul(1000).min(longest));
        if self.hub.is_none() && now < self.pause_end {
            self.state = State::Waiting(self.pause_end);
        }
    }

    /// Returns the pauses, to save them across a reboot.
    ///
    /// Save them after each [`on_assigned`](Self::on_assigned) and [`on_failed`](Self::on_failed). Save them once
    /// more when the session with the hub has lasted for one hour: the series then starts again.
    ///
    /// Do not reboot between a look-up and its registration. There is no pause between them, so the device would
    /// look up again after the reboot.
    pub fn pauses(&self, now: Duration) -> Pauses {
        if self.accepted.is_some_and(|accepted| between(accepted, now) >= SETTLED) {
            return Pauses::default();
        }
        let left = between(now, self.pause_end.max(now));
        // Rounded up, because a reboot must not shorten a pause.
        let seconds = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
        Pauses { count: self.pauses, left: u32::try_from(seconds).unwrap_or(u32::MAX) }
    }

    /// Returns the next action. See [how to drive it](Self#how-to-drive-it).
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

    /// Returns the key that the service accepted last. Use it for the hub, and try it first with DPS.
    pub const fn key(&self) -> KeyChoice {
        self.key
    }

    /// Takes the outcome of a connection to the hub, after [`Next::Hub`], and later the end of the session.
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
            // The hub is reachable and knows the device.
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

    /// Takes the assignment of a look-up or a registration, and the key that the service accepted
    /// ([`Provisioning::key`]).
    ///
    /// Returns `true` if you must write the record now. Returns `false` if the look-up returned the known hub.
    #[must_use = "write the record if this is `true`"]
    pub fn on_assigned(&mut self, now: Duration, assignment: &Assignment<'_>, key: KeyChoice) -> bool {
        if !matches!(self.state, State::LookUp | State::Register) {
            return false;
        }
        self.key = key;
        let hub = Some(assignment.hub().fingerprint());
        if self.state == State::LookUp && self.hub == hub {
            match self.trouble {
                // A registration does not help against a server error of the hub.
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

    /// Takes a look-up or a registration that failed.
    ///
    /// Pass the [`Provisioning`] as the run left it. Call this function also if you stopped the run, or if you
    /// could not read its result.
    pub fn on_failed(&mut self, now: Duration, provisioning: &Provisioning<'_>) {
        let is_look_up = match self.state {
            State::LookUp => true,
            State::Register => false,
            State::Hub | State::Waiting(_) => return,
        };
        let was_sent = provisioning.register_was_sent();
        // The service may have processed the request although the run failed: the answer was lost or too long.
        self.has_certificate |= was_sent && provisioning.registration().csr().is_some();
        let error = provisioning.failure();
        match error.fault() {
            // Another look-up would give the same error: there is no registration or no successful one, or the
            // service rejects the look-up.
            fault if is_look_up && is_answer(&error, fault) => {
                self.state = State::Register;
                return;
            }
            Fault::Busy | Fault::Transport | Fault::Peer => {
                // The service may have processed the request.
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

    /// Makes a registration the next action. Call this function if the operator orders a reprovisioning.
    ///
    /// End the session with the hub first. If DPS is not reachable, the device connects to its hub again.
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

    /// Waits for the back-off. Without a hub, waits at least until the end of the pause. If the hub rejected the
    /// device, waits for one hour, but not longer than the pause.
    fn wait(&mut self, now: Duration) {
        let back_off = self.jitter.add_half(BACK_OFF << self.failures.min(BACK_OFF_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        let mut until = later(now, back_off);
        if self.hub.is_none() {
            until = until.max(self.pause_end);
        } else if self.trouble == Trouble::Refused {
            until = until.max(self.pause_end.min(later(now, self.jitter.add_half(REFUSED_BACK_OFF))));
        } else if let Some(give_up) = self.give_up.filter(|give_up| now < *give_up) {
            // The last attempt before the device asks DPS: the back-off must not exceed the patience.
            until = until.min(give_up.max(later(now, BACK_OFF)));
        }
        self.state = State::Waiting(until);
    }

    /// Starts a pause. Each pause is longer than the one before, up to the pause with the number `last`.
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
