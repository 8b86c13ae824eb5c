use core::time::Duration;

use heapless::Vec;

use super::{
    Answer, Assignment, Attestation, Details, Document, Endpoint, Jitter, Progress, Registration, RetryPolicy, Sizes,
    Status, Step,
    assignment::Spans,
    document::refusal,
    retry::failure_wait,
    sizes::{self, API_VERSION, MAX_OPERATION_ID, csr_len, payload_len},
};
use crate::{
    error::{Error, Fault, Malformed, RequestTooLarge, TransportError},
    identity::{
        KeyChoice, SIGNATURE_LEN, Sign, SignError,
        hub_name::is_device_id,
        sas_token::{self, Signature},
        tpm::AuthenticationKey,
        wipe,
    },
    text::{
        BufferTooSmall,
        json::{JsonError, JsonProblem, Value},
        writer::{Writer, text},
    },
    total::{between, later},
};

/// The state machine that provisions one device. It has no I/O, no clock and no allocator.
///
/// The transports ([`blocking`](crate::blocking), [`asynch`](crate::asynch), [`https`](crate::https))
/// drive it for you. [`mqtt`](crate::mqtt) shows how to drive it with an MQTT client.
///
/// A `Provisioning` can be used again: [`start`](Self::start) begins a new run, however the last run
/// ended.
///
/// It is below 550 bytes on every target, whatever the length of the IDs. It holds references to the
/// caller's data, the operation ID, the token's signature (wiped on drop) and times. It holds no key and
/// no signer, so it is `Send` and `Sync`.
///
/// # The driving contract
///
/// The transports keep this contract. To drive a `Provisioning` on another network, keep it yourself:
///
/// 1. **Create** a `Provisioning` from a [`Registration`] and an [`Attestation`], and one buffer
///    ([`Sizes`]).
/// 2. **Start** a run with [`start`](Self::start). It takes the time of the monotonic clock, and the
///    wall clock for the token's expiry. `start` also begins a new run, however the last run ended.
/// 3. **Ask** [`step`](Self::step) what to do. The answer borrows nothing.
/// 4. On [`Step::Sign`], call [`sign_with`](Self::sign_with). For a signer that is not a [`Sign`], call
///    [`write_message`](Self::write_message), have the message signed, and pass the signature to
///    [`on_signature`](Self::on_signature). A run signs once. It signs again only if the key changes: to
///    the second of two keys, or to a TPM's new key. Over MQTT, close the session now: the new token is
///    the password of a new session.
/// 5. On [`Step::Activate`], call [`activate_with`](Self::activate_with). The challenge is in the buffer
///    that holds the body of the last answer. Only a [TPM](crate::identity::tpm) gets this step. Without
///    a [`Sign`], use [`challenge`](Self::challenge) and [`on_activated`](Self::on_activated).
/// 6. On [`Step::Send`], connect if there is no connection. Then write the request with
///    [`http::write_request`](crate::http::write_request) or
///    [`mqtt::write_publish`](crate::mqtt::write_publish), and send it. Give up at
///    [`request_deadline`](Self::request_deadline).
/// 7. Pass the complete answer to [`on_answer`](Self::on_answer). If there is no answer, or if the
///    signer failed, pass the error to [`on_error`](Self::on_error). Then go to 3. If the driver loses
///    the exchange (a dropped future, a modem that was reset), discard the connection and go to 3: the
///    same request is due again, and the service accepts it twice.
/// 8. On [`Step::Wait`], wait for this time, then go to 3. You may wait longer.
/// 9. On [`Step::Finished`], read the outcome with [`result`](Self::result), from the buffer that holds
///    the body of the last answer. After a failure, [`details`](Self::details) returns the service's
///    message.
///
/// You may use the buffer for anything else between two steps, with two exceptions. The last answer
/// stays in the buffer until its result is read. A challenge stays until it is activated.
///
/// Two calls are optional. [`progress`](Self::progress) returns what to report to a user. If you use it,
/// call [`on_connected`](Self::on_connected) after each new connection.
///
/// The contract is the same for every attestation:
///
/// | | connection | 4: signatures | 6: the request | 9: the result |
/// |---|---|---|---|---|
/// | symmetric key over HTTP | TLS | one, or two with two keys | has the token | |
/// | symmetric key over MQTT | TLS, then CONNECT with [`mqtt::write_password`](crate::mqtt::write_password) | one, or two with two keys | has no token: the session has it | |
/// | X.509 | mutual TLS | none | has no token | |
/// | [TPM](crate::identity::tpm) over HTTP | TLS | one after each challenge | the first has no token. The answer is a challenge, and the register request is due again | has a new encrypted key, which the caller passes to the TPM |
///
/// A complete driver over HTTP:
///
/// ```
/// use azure_dps::http::{self, ResponseReader};
/// use azure_dps::provisioning::Step;
/// use azure_dps::{Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId};
/// use core::time::Duration;
///
/// /// Your TLS connection. `read` returns 0 at the end.
/// trait Network {
///     /// Connects, if there is no connection.
///     fn connect(&mut self) -> Result<(), Error>;
///     fn send(&mut self, request: &[u8]) -> Result<(), Error>;
///     fn read(&mut self, space: &mut [u8], deadline: Duration) -> Result<usize, Error>;
///     fn close(&mut self);
/// }
///
/// fn drive(
///     provisioning: &mut Provisioning<'_>,
///     key: &mut DeviceKey,
///     buffer: &mut [u8],
///     network: &mut impl Network,
///     clock: impl Fn() -> Duration,
///     mut delay: impl FnMut(Duration),
/// ) {
///     loop {
///         let now = clock();
///         let done = match provisioning.step(now) {
///             Step::Sign => provisioning.sign_with(key, buffer),
///             Step::Activate => provisioning.activate_with(key, buffer), // only with a TPM
///             Step::Send => exchange(provisioning, now, buffer, network),
///             Step::Wait(wait) => Ok(delay(wait)),
///             Step::Finished => return,
///         };
///         if let Err(error) = done {
///             network.close();
///             provisioning.on_error(clock(), error);
///         }
///     }
/// }
///
/// fn exchange(
///     provisioning: &mut Provisioning<'_>,
///     now: Duration,
///     buffer: &mut [u8],
///     network: &mut impl Network,
/// ) -> Result<(), Error> {
///     network.connect()?;
///     let len = http::write_request(provisioning, now, buffer)?;
///     network.send(&buffer[..len])?;
///     let mut reader = ResponseReader::new();
///     let response = loop {
///         let len = network.read(reader.space(buffer)?, provisioning.request_deadline(now))?;
///         if let Some(response) = reader.received(buffer, len)? {
///             break response;
///         }
///     };
///     provisioning.on_answer(now, response.answer(buffer));
///     Ok(())
/// }
///
/// # /// What the service answers, in this order.
/// # struct Script(Vec<&'static [u8]>);
/// # impl Network for Script {
/// #     fn connect(&mut self) -> Result<(), Error> { Ok(()) }
/// #     fn send(&mut self, _request: &[u8]) -> Result<(), Error> { Ok(()) }
/// #     fn read(&mut self, space: &mut [u8], _deadline: Duration) -> Result<usize, Error> {
/// #         let answer = self.0.remove(0);
/// #         space[..answer.len()].copy_from_slice(answer);
/// #         Ok(answer.len())
/// #     }
/// #     fn close(&mut self) {}
/// # }
/// # let assigning = b"HTTP/1.1 202 \r\nRetry-After: 3\r\nContent-Length: 45\r\n\r\n{\"operationId\":\"4.d0a6\",\"status\":\"assigning\"}";
/// # let assigned = b"HTTP/1.1 200 \r\nContent-Length: 100\r\n\r\n{\"status\":\"assigned\",\"registrationState\":{\"assignedHub\":\"hub.azure-devices.net\",\"deviceId\":\"dev-1\"}}";
/// # let mut network = Script(vec![assigning, assigned]);
/// # let time = core::cell::Cell::new(Duration::ZERO);
/// # let (clock, delay) = (|| time.get(), |wait| time.set(time.get() + wait));
/// # let unix_time = 1_700_000_000;
/// let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
/// let mut buffer = [0; 1024];
/// provisioning.start(clock(), unix_time);
/// drive(&mut provisioning, &mut key, &mut buffer, &mut network, clock, delay);
/// assert_eq!(provisioning.result(&buffer)?.assigned_hub(), "hub.azure-devices.net");
/// # assert_eq!(time.get(), Duration::from_secs(3));
/// # Ok::<(), azure_dps::Error>(())
/// ```
pub struct Provisioning<'a> {
    registration: Registration<'a>,
    attestation: Attestation<'a>,
    endpoint: Endpoint<'a>,
    policy: RetryPolicy,
    token_lifetime: u32,
    /// At most 4 GiB, in less space than a `usize`.
    max_body: u32,
    api_version: &'a str,
    first_key: KeyChoice,
    has_secondary_key: bool,
    #[cfg(feature = "lookup")]
    is_lookup: bool,
    run: Run,
}

/// The request that is due. A [look-up](Provisioning::is_lookup) is sent in the register request's
/// place.
pub(crate) enum Request<'r> {
    Register,
    Status { operation_id: &'r [u8] },
}

/// The longest body of a request that the service accepts, in bytes: 96 KB.
///
/// Source: [DPS limits](https://learn.microsoft.com/azure/iot-dps/about-iot-dps#quotas-and-limits), maximum message size.
pub const MAX_BODY: usize = 96 * 1024;

struct Run {
    state: State,
    deadline: Duration,
    /// Of the token, in Unix time. Fixed at the start: what is signed once must stay the same.
    expiry: u64,
    /// The operation ID while the run goes on. After an assignment, the device ID without escapes.
    id: Vec<u8, MAX_OPERATION_ID, u8>,
    signature: Signature,
    is_signed: bool,
    /// The key that signed, or is to sign.
    key: KeyChoice,
    tried_other_key: bool,
    event: Event,
    jitter: Jitter,
    /// How many attempts in a row failed.
    failures: u8,
    /// How many requests in a row had no answer.
    unanswered: u8,
    /// Whether the service has lost an operation of this run.
    has_lost_operation: bool,
    request_id: u16,
    register_was_sent: bool,
    /// How often a TPM has answered a challenge. It signs from the first time on.
    activations: u8,
    /// Whether a driver has returned the outcome.
    is_over: bool,
    /// How the run ended, or how it ends if its time is used up now.
    failure: Error,
    /// The last answer's length, for [`Provisioning::body`].
    body_len: usize,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    /// A request is due, perhaps after a signature.
    Due,
    /// A request is under way.
    InFlight {
        since: Duration,
    },
    Waiting {
        until: Duration,
    },
    /// The last answer has a challenge for the TPM.
    Challenged,
    /// The last answer has been checked, and says where the device belongs.
    Assigned(Spans),
    Failed,
}

/// What [`Provisioning::progress`] reports next.
#[derive(Clone, Copy)]
enum Event {
    None,
    Connected,
    Requesting,
    Assigning,
    Assigned,
    /// After so many milliseconds.
    Retrying(u32),
    Failed,
}

/// How many challenges of a TPM are answered in a run. The service makes a second one if it has
/// lost the first.
const MAX_ACTIVATIONS: u8 = 2;

impl<'a> Provisioning<'a> {
    /// Creates a device that is ready to [`start`](Self::start).
    #[inline]
    pub const fn new(registration: Registration<'a>, attestation: Attestation<'a>) -> Self {
        Self {
            registration,
            attestation,
            endpoint: Endpoint::GLOBAL,
            policy: RetryPolicy::new(),
            token_lifetime: 3600,
            max_body: MAX_BODY as u32,
            api_version: if registration.csr().is_some() { "2026-11-01" } else { API_VERSION },
            first_key: KeyChoice::Primary,
            has_secondary_key: false,
            #[cfg(feature = "lookup")]
            is_lookup: false,
            run: Run {
                state: State::Idle,
                deadline: Duration::ZERO,
                expiry: 0,
                id: Vec::new(),
                signature: Signature::EMPTY,
                is_signed: false,
                key: KeyChoice::Primary,
                tried_other_key: false,
                event: Event::None,
                jitter: Jitter::new(),
                failures: 0,
                unanswered: 0,
                has_lost_operation: false,
                request_id: 0,
                register_was_sent: false,
                activations: 0,
                is_over: false,
                failure: Error::TimedOut,
                body_len: 0,
            },
        }
    }

    /// Creates a device that asks where it was assigned, and registers nothing. Its runs send the
    /// service's status look-up, which is not billed and runs no allocation policy. For HTTP only. A
    /// payload and a `csr` are not sent.
    ///
    /// The result of a run is the last assignment, without the certificates that were issued
    /// with it. [`Error::Unassigned`] says that a registration is still under way or has no
    /// hub, and [`ErrorCode::ENROLLMENT_NOT_FOUND`](crate::error::ErrorCode::ENROLLMENT_NOT_FOUND)
    /// that there is none.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use azure_dps::provisioning::*;
    /// # use core::time::Duration;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::lookup(registration, Attestation::x509());
    /// // … and then the call of a transport, as to register:
    /// # provisioning.start(Duration::ZERO, 0);
    /// # let mut buffer = [0; 512];
    /// # let request = http::write_request(&mut provisioning, Duration::ZERO, &mut buffer)?;
    /// # assert!(buffer.starts_with(b"POST /0ne00002193/registrations/dev-1?api-version="));
    /// let body = br#"{"registrationId":"dev-1","status":"assigned","assignedHub":"hub.example","deviceId":"dev-1"}"#;
    /// # provisioning.on_answer(Duration::ZERO, Answer::new(200, None, body));
    /// assert_eq!(provisioning.result(body)?.assigned_hub(), "hub.example");
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// Source: [Device Registration Status Lookup](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/device-registration-status-lookup).
    #[cfg(feature = "lookup")]
    pub const fn lookup(registration: Registration<'a>, attestation: Attestation<'a>) -> Self {
        let mut provisioning = Self::new(registration, attestation);
        // Whatever a `csr` would need: none is sent.
        provisioning.api_version = API_VERSION;
        provisioning.is_lookup = true;
        provisioning
    }

    /// Sets the service's address; [`Endpoint::GLOBAL`] by default.
    pub const fn with_endpoint(mut self, endpoint: Endpoint<'a>) -> Self {
        self.set_endpoint(endpoint);
        self
    }

    /// Sets the times and bounds of a run; [`RetryPolicy::new`] by default.
    pub const fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.set_retry_policy(policy);
        self
    }

    /// Sets how long a token is valid, in seconds; 3600 by default. The expiry counts from
    /// [`start`](Self::start). A token is never valid for less time than
    /// [`RetryPolicy::with_timeout`].
    pub const fn with_token_lifetime(mut self, seconds: u32) -> Self {
        self.set_token_lifetime(seconds);
        self
    }

    /// Sets the key that a run tries first, of two; the primary key by default.
    ///
    /// The service refuses the other key for 30 minutes after a registration: see [`KeyChoice`].
    pub const fn with_first_key(mut self, key: KeyChoice) -> Self {
        self.set_first_key(key);
        self
    }

    /// Says that there are two keys. A run then tries the other key, once, if the service refuses the
    /// first one.
    ///
    /// Only a driver that calls [`on_signature`](Self::on_signature) itself needs this:
    /// [`sign_with`](Self::sign_with) asks the signer.
    pub const fn with_secondary_key(mut self) -> Self {
        self.has_secondary_key = true;
        self
    }

    /// Sets the longest body of a request in bytes; [`MAX_BODY`] by default. The body is JSON with
    /// the payload, a `csr` and a TPM's keys; [`Sizes::body`] is its length.
    ///
    /// A run whose body is longer ends at its start with [`Error::RequestTooLarge`]: nothing is
    /// connected or sent.
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.set_max_body(bytes);
        self
    }

    /// Sets the `api-version`. The default is what the request needs: `2026-11-01` for a
    /// registration with a `csr`, for any other `2021-06-01`, which the C SDK sends.
    pub const fn with_api_version(mut self, api_version: &'a str) -> Self {
        self.set_api_version(api_version);
        self
    }

    /// Does what [`with_endpoint`](Self::with_endpoint) does, for the runs that follow. This setter and those below
    /// change a `Provisioning` where it is, for a caller that has no stack for another one.
    pub const fn set_endpoint(&mut self, endpoint: Endpoint<'a>) {
        self.endpoint = endpoint;
    }

    /// Does what [`with_retry_policy`](Self::with_retry_policy) does.
    pub const fn set_retry_policy(&mut self, policy: RetryPolicy) {
        self.policy = policy;
    }

    /// Does what [`with_token_lifetime`](Self::with_token_lifetime) does.
    pub const fn set_token_lifetime(&mut self, seconds: u32) {
        self.token_lifetime = seconds;
    }

    /// Does what [`with_first_key`](Self::with_first_key) does.
    pub const fn set_first_key(&mut self, key: KeyChoice) {
        self.first_key = key;
    }

    /// Does what [`with_max_body`](Self::with_max_body) does.
    pub const fn set_max_body(&mut self, bytes: usize) {
        self.max_body = if bytes > u32::MAX as usize { u32::MAX } else { bytes as u32 };
    }

    /// Does what [`with_api_version`](Self::with_api_version) does.
    pub const fn set_api_version(&mut self, api_version: &'a str) {
        self.api_version = api_version;
    }

    /// Begins a new run. A run whose request is larger than the service accepts is over
    /// at once ([`with_max_body`](Self::with_max_body)).
    ///
    /// `now` is a monotonic clock's reading, from any start; every later call takes the
    /// same clock's. `unix_time` is the wall clock in seconds, for the token's expiry. An
    /// attestation without tokens needs none: 0 is enough.
    pub fn start(&mut self, now: Duration, unix_time: u64) {
        let timeout = self.policy.timeout_ms();
        // A part of a second counts: the token must not expire before the deadline.
        let lifetime = timeout.div_ceil(1000).max(self.token_lifetime);
        // Field by field: a whole `Run` would be made on the stack first.
        self.run.state = State::Due;
        self.run.deadline = later(now, timeout);
        self.run.expiry = unix_time.saturating_add(lifetime.into());
        self.run.id.clear();
        self.forget_signature();
        self.run.key = self.first_key;
        self.run.tried_other_key = false;
        self.run.event = Event::None;
        self.run.jitter.mix(self.registration.registration_id(), unix_time, self.policy.jitter_seed());
        self.run.failures = 0;
        self.run.register_was_sent = false;
        self.run.unanswered = 0;
        self.run.has_lost_operation = false;
        // Not the request's number: an MQTT session may still have an answer to the last run's.
        self.run.activations = 0;
        self.run.is_over = false;
        self.run.failure = Error::TimedOut;
        self.run.body_len = 0;
        let (size, limit) = (self.request_body_len(), self.max_body as usize);
        if size > limit {
            self.fail(Error::RequestTooLarge(RequestTooLarge { size, limit }));
        }
    }

    /// Returns `true` if a run was started and is not finished.
    pub const fn is_running(&self) -> bool {
        !matches!(self.run.state, State::Idle | State::Assigned(_) | State::Failed)
    }

    /// Returns what to do next.
    pub fn step(&mut self, now: Duration) -> Step {
        match self.run.state {
            State::Waiting { until } if now < until => return Step::Wait(between(now, until)),
            State::Idle | State::Assigned(_) | State::Failed => return Step::Finished,
            // An exchange that was lost track of begins again, with time of its own.
            State::Due | State::InFlight { .. } | State::Waiting { .. } | State::Challenged => {}
        }
        if now >= self.run.deadline {
            self.fail(self.run.failure);
            return Step::Finished;
        }
        if let State::Challenged = self.run.state {
            return Step::Activate;
        }
        self.run.state = State::Due;
        // Message and request take the last answer's place in the buffer.
        self.run.body_len = 0;
        if self.needs_signature() { Step::Sign } else { Step::Send }
    }

    /// Returns the key that is to sign, or that signed last. After an assignment this is the key that
    /// the service accepted: keep it, and try it first the next time
    /// ([`with_first_key`](Self::with_first_key)).
    pub const fn key(&self) -> KeyChoice {
        self.run.key
    }

    /// Writes what [`Step::Sign`] asks to sign into `buffer`: the bytes for HMAC-SHA256 with
    /// [`key`](Self::key). [`Sizes::sas_token`] bytes are sufficient.
    ///
    /// Use this for a signer that is neither a [`Sign`] nor a
    /// [`SignAsync`](crate::identity::SignAsync). [`on_signature`](Self::on_signature) comes next.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use azure_dps::provisioning::*;
    /// # use core::time::Duration;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let hmac = |message: &[u8]| [message.len() as u8; 32];
    /// let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
    /// provisioning.start(Duration::ZERO, 1_700_000_000);
    /// assert_eq!(provisioning.step(Duration::ZERO), Step::Sign);
    ///
    /// let mut buffer = [0; 128];
    /// let message = provisioning.write_message(&mut buffer)?;
    /// assert_eq!(message, b"0ne00002193%2fregistrations%2fdev-1\n1700003600");
    /// let signature = hmac(message);
    /// provisioning.on_signature(&signature);
    /// assert_eq!(provisioning.step(Duration::ZERO), Step::Send);
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub fn write_message<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
        let mut writer = Writer::new(buffer);
        let (id_scope, registration_id) = (self.registration.id_scope(), self.registration.registration_id());
        sas_token::write_message(id_scope, registration_id, self.run.expiry, &mut writer);
        writer.finish().map(|message| &*message)
    }

    /// Takes the signature that [`Step::Sign`] asks for. Nothing happens if none is due.
    pub fn on_signature(&mut self, signature: &[u8; SIGNATURE_LEN]) {
        if let State::Due = self.run.state
            && self.needs_signature()
        {
            self.run.signature.0 = *signature;
            self.run.is_signed = true;
        }
    }

    /// Has `signer` sign what [`Step::Sign`] asks for, in `buffer`, with [`key`](Self::key).
    /// [`Sizes::sas_token`] bytes are sufficient.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] with the exact size, [`Error::Signer`]; [`Error::NotStarted`] and
    /// [`Error::NotDue`] if no signature is. Give the error to [`on_error`](Self::on_error).
    pub fn sign_with(&mut self, signer: &mut (impl Sign + ?Sized), buffer: &mut [u8]) -> Result<(), Error> {
        self.begin_signature(signer.has_secondary_key())?;
        let key = self.run.key;
        let message = self.write_message(buffer)?;
        let signature = &mut self.run.signature.0;
        let signed = match key {
            KeyChoice::Primary => signer.sign(message, signature),
            KeyChoice::Secondary => signer.sign_with_secondary_key(message, signature),
        };
        self.end_signature(signed)
    }

    /// Checks that a signature is due, and notes whether the signer has two keys.
    pub(crate) fn begin_signature(&mut self, has_secondary_key: bool) -> Result<(), Error> {
        match self.run.state {
            State::Due if self.needs_signature() => {}
            State::Idle => return Err(Error::NotStarted),
            _ => return Err(Error::NotDue),
        }
        self.has_secondary_key = has_secondary_key;
        if !has_secondary_key {
            // The one key there is, whatever a record of former days says.
            self.run.key = KeyChoice::Primary;
        }
        Ok(())
    }

    fn end_signature(&mut self, signed: Result<(), SignError>) -> Result<(), Error> {
        self.run.is_signed = signed.is_ok();
        signed.map_err(Error::Signer)
    }

    /// Returns the challenge that [`Step::Activate`] asks to give to the TPM, read from the buffer that
    /// holds the last answer's body at its start. [`on_activated`](Self::on_activated) comes next.
    pub fn challenge<'b>(&self, buffer: &'b [u8]) -> Option<AuthenticationKey<'b>> {
        match self.run.state {
            State::Challenged => AuthenticationKey::of_challenge(self.body(buffer)),
            _ => None,
        }
    }

    /// Takes note that the TPM has activated the key of the challenge, with which it signs from now on.
    pub fn on_activated(&mut self) {
        if let State::Challenged = self.run.state {
            self.run.activations += 1;
            self.forget_signature();
            self.run.state = State::Due;
        }
    }

    /// Gives the challenge that [`Step::Activate`] asks for to the TPM. `buffer` holds the last
    /// answer's body at its start.
    ///
    /// # Errors
    /// [`Error::Tpm`], [`Error::WrongBuffer`]. Give the error to [`on_error`](Self::on_error).
    pub fn activate_with(&mut self, signer: &mut (impl Sign + ?Sized), buffer: &[u8]) -> Result<(), Error> {
        let challenge = self.challenge(buffer).ok_or(Error::WrongBuffer)?;
        signer.activate(challenge)?;
        self.on_activated();
        Ok(())
    }

    /// Returns when to give up the request that is under way, on the caller's clock.
    pub fn request_deadline(&self, now: Duration) -> Duration {
        let since = match self.run.state {
            State::InFlight { since } => since,
            _ => now,
        };
        later(since, self.policy.request_timeout_ms()).min(self.run.deadline)
    }

    /// Returns how long to wait for the answer to the request that is under way: the time from `now` to
    /// [`request_deadline`](Self::request_deadline). Zero if it has passed.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use core::time::Duration;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// provisioning.start(Duration::ZERO, 0);
    /// http::write_request(&mut provisioning, Duration::ZERO, &mut [0; 512])?;
    /// assert_eq!(provisioning.request_time_left(Duration::from_secs(20)), Duration::from_secs(40));
    /// assert_eq!(provisioning.request_time_left(Duration::from_secs(70)), Duration::ZERO);
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub fn request_time_left(&self, now: Duration) -> Duration {
        let deadline = self.request_deadline(now);
        if now < deadline { between(now, deadline) } else { Duration::ZERO }
    }

    /// Takes note of a new connection, for [`Progress::Connected`].
    pub fn on_connected(&mut self) {
        if self.is_running() {
            self.run.event = Event::Connected;
        }
    }

    /// Takes the answer to the request that was due.
    ///
    /// If the answer ends the run, or has a challenge for a TPM, its body must stay where it is until
    /// the [`result`](Self::result) or the [`challenge`](Self::challenge) has been read.
    pub fn on_answer(&mut self, now: Duration, answer: Answer<'_>) {
        if !matches!(self.run.state, State::Due | State::InFlight { .. }) {
            return;
        }
        self.run.body_len = answer.body.len();
        if !matches!(answer.status, 200..=299) {
            if self.is_challenge(answer) {
                self.run.state = State::Challenged;
                return;
            }
            let refusal = refusal(answer.status, answer.body);
            let is_lost = answer.status == 404 && !self.run.id.is_empty();
            let error = if is_lost { Error::OperationLost(refusal) } else { Error::Refused(refusal) };
            return self.retry_or_fail(now, error, answer.retry_after);
        }
        match self.read_success(answer) {
            Ok(None) => {
                self.run.failures = 0;
                self.run.unanswered = 0;
                self.run.failure = Error::StillAssigning;
                self.run.event = Event::Assigning;
                let wait = self.policy.poll_wait(answer.retry_after, &mut self.run.jitter);
                self.wait(now, wait);
            }
            Ok(Some(spans)) => {
                self.finish(State::Assigned(spans));
                self.run.event = Event::Assigned;
            }
            // A document that ends too early was cut short on its way.
            Err(Error::Malformed(Malformed::Json(JsonError { problem: JsonProblem::End, .. }))) => {
                self.retry_or_fail(now, Error::Transport(TransportError::Closed), None);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Takes note that there is no answer, no signature or no activated key. Network faults are
    /// retried; any other error ends the run.
    pub fn on_error(&mut self, now: Duration, error: Error) {
        if let State::Due | State::InFlight { .. } | State::Challenged = self.run.state {
            self.retry_or_fail(now, error, None);
        }
    }

    /// Returns what is to be reported, once: what has happened since the last call. Call it after
    /// every other call, if you want all of it. A driver that does not care need not call it.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use azure_dps::provisioning::*;
    /// # use core::time::Duration;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// # provisioning.start(Duration::ZERO, 0);
    /// let body = br#"{"operationId":"4.d0a6","status":"assigning"}"#;
    /// provisioning.on_answer(Duration::ZERO, Answer::new(202, Some(3), body));
    /// assert_eq!(provisioning.progress(), Some(Progress::Assigning));
    /// assert_eq!(provisioning.progress(), None);
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub fn progress(&mut self) -> Option<Progress> {
        Some(match core::mem::replace(&mut self.run.event, Event::None) {
            Event::None => return None,
            Event::Connected => Progress::Connected,
            Event::Requesting if self.is_lookup() => Progress::LookingUp,
            Event::Requesting => Progress::Registering,
            Event::Assigning => Progress::Assigning,
            Event::Assigned => Progress::Assigned,
            Event::Retrying(wait) => Progress::Retrying {
                error: self.run.failure,
                wait: Duration::from_millis(u64::from(wait)),
                failures: self.run.failures,
            },
            Event::Failed => Progress::Failed(self.run.failure),
        })
    }

    /// Returns the outcome of the run, read from the buffer that holds the last answer's body at
    /// its start.
    ///
    /// # Errors
    /// Whatever ended the run; [`Error::NotFinished`] before its end.
    pub fn result<'b>(&'b self, buffer: &'b [u8]) -> Result<Assignment<'b>, Error> {
        match self.run.state {
            State::Idle => Err(Error::NotStarted),
            State::Failed => Err(self.run.failure),
            State::Assigned(spans) => spans.assignment(self.body(buffer), text(&self.run.id)).ok_or(Error::WrongBuffer),
            _ => Err(Error::NotFinished),
        }
    }

    /// Returns what the service said in words of a run that failed, read from the buffer that holds
    /// the last answer's body at its start. `None` if the last answer is no JSON object.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use azure_dps::{error::*, provisioning::*};
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// # provisioning.start(core::time::Duration::ZERO, 0);
    /// let body = br#"{"errorCode":401002,"trackingId":"","message":"Invalid certificate."}"#;
    /// provisioning.on_answer(core::time::Duration::ZERO, Answer::new(401, None, body));
    ///
    /// let error = provisioning.result(body).unwrap_err();
    /// assert_eq!(error.code(), Some(ErrorCode::CREDENTIAL_REFUSED));
    /// let details = provisioning.details(body).unwrap();
    /// assert!(details.message().unwrap() == "Invalid certificate.");
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub fn details<'b>(&self, buffer: &'b [u8]) -> Option<Details<'b>> {
        Details::read(self.body(buffer))
    }

    /// Returns the value of the member that made the last answer [`Error::Malformed`], read from the
    /// buffer that holds the answer's body at its start. `None` if no single value is to blame.
    ///
    /// Use this to show what came instead of a hub, for example. The value is JSON of unknown origin:
    /// do not print control characters from it.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use azure_dps::{error::*, provisioning::*};
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// # provisioning.start(core::time::Duration::ZERO, 0);
    /// let body = br#"{"status":"assigned","registrationState":{"assignedHub":"https://hub","deviceId":"dev-1"}}"#;
    /// provisioning.on_answer(core::time::Duration::ZERO, Answer::new(200, None, body));
    ///
    /// assert_eq!(provisioning.result(body), Err(Malformed::Invalid("assignedHub").into()));
    /// assert_eq!(provisioning.refused_value(body).unwrap().raw(), "\"https://hub\"");
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub fn refused_value<'b>(&self, buffer: &'b [u8]) -> Option<Value<'b>> {
        match (&self.run.state, self.run.failure) {
            (State::Failed, Error::Malformed(malformed)) => self.details(buffer)?.refused_value(malformed),
            _ => None,
        }
    }

    /// Returns how large the buffers for this registration must be. Add what is known of the answer,
    /// such as [`with_returned_payload`](Sizes::with_returned_payload).
    pub fn sizes(&self) -> Sizes {
        let sizes = Sizes::of(&self.registration).with_endpoint(&self.endpoint).with_api_version(self.api_version);
        match self.attestation.tpm_keys() {
            Some(tpm) => sizes.with_tpm(tpm.endorsement_key.len(), tpm.storage_root_key.len()),
            None => sizes,
        }
    }

    /// Returns the last answer's body, whatever it is. Empty if there was none since the last request.
    pub fn body<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(..self.run.body_len).unwrap_or_default()
    }

    /// Returns what is registered.
    pub const fn registration(&self) -> &Registration<'a> {
        &self.registration
    }

    /// Returns where it is registered.
    pub const fn endpoint(&self) -> &Endpoint<'a> {
        &self.endpoint
    }

    /// Returns the operation that the service made of the registration, from its first answer to the
    /// end of the run. `None` after an assignment.
    pub fn operation_id(&self) -> Option<&str> {
        let is_there = !self.run.id.is_empty() && !matches!(self.run.state, State::Assigned(_));
        is_there.then(|| text(&self.run.id))
    }

    /// Returns `true` if this run wrote a register request, which the service may have billed.
    ///
    /// A request counts from the moment that a codec has written it. A driver therefore connects
    /// first, and writes the request then: a connection that fails costs nothing. After
    /// [`start`](Self::start), and in a look-up, this is `false`.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use core::time::Duration;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// provisioning.start(Duration::ZERO, 0);
    /// assert!(!provisioning.register_was_sent());
    /// http::write_request(&mut provisioning, Duration::ZERO, &mut [0; 512])?;
    /// assert!(provisioning.register_was_sent());
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub const fn register_was_sent(&self) -> bool {
        self.run.register_was_sent
    }

    /// Called by a codec when it has written the request.
    pub(crate) const fn on_request_written(&mut self) {
        // There is no poll without a register request before it.
        self.run.register_was_sent |= !self.is_lookup();
    }

    /// Called by a codec whose request did not fit: it is due again, with the same number.
    pub(crate) const fn on_request_unwritten(&mut self) {
        self.run.state = State::Due;
        self.run.request_id = self.run.request_id.wrapping_sub(1);
    }

    /// The device ID of an assignment.
    pub(crate) fn assigned_device_id(&self) -> &str {
        text(&self.run.id)
    }

    /// How the run failed, or fails if its time is used up now.
    pub(crate) const fn failure(&self) -> Error {
        self.run.failure
    }

    pub(crate) const fn api_version(&self) -> &'a str {
        self.api_version
    }

    /// Whether runs look up what was registered.
    // Without the feature none does, and the compiler drops what would be done.
    pub(crate) const fn is_lookup(&self) -> bool {
        #[cfg(feature = "lookup")]
        return self.is_lookup;
        #[cfg(not(feature = "lookup"))]
        false
    }

    /// Called by a driver at its start: there must be a run whose outcome nobody has returned.
    #[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7", feature = "minreq"))]
    pub(crate) const fn check_started(&self) -> Result<(), Error> {
        match self.run.state {
            State::Idle => Err(Error::NotStarted),
            _ if self.run.is_over => Err(Error::NotStarted),
            _ => Ok(()),
        }
    }

    /// Called by a driver at its end. A finished run must be started again.
    #[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7", feature = "minreq"))]
    pub(crate) const fn outcome(&mut self) -> Result<(), Error> {
        self.run.is_over = true;
        match self.run.state {
            State::Assigned(_) => Ok(()),
            _ => Err(self.run.failure),
        }
    }

    /// The request that is due, for a codec to write.
    pub(crate) fn request(&self) -> Request<'_> {
        match self.run.id.as_slice() {
            [] => Request::Register,
            operation_id => Request::Status { operation_id },
        }
    }

    /// Called by a codec before it writes the request: the number of the request in this run.
    pub(crate) fn begin_request(&mut self, now: Duration) -> Result<u16, Error> {
        match self.run.state {
            State::Due | State::InFlight { .. } if !self.needs_signature() => {}
            State::Idle => return Err(Error::NotStarted),
            _ => return Err(Error::NotDue),
        }
        self.run.state = State::InFlight { since: now };
        self.run.request_id = self.run.request_id.wrapping_add(1);
        if self.run.id.is_empty() {
            self.run.event = Event::Requesting;
        }
        Ok(self.run.request_id)
    }

    /// The number of the request that is under way.
    pub(crate) fn request_id(&self) -> Option<u16> {
        matches!(self.run.state, State::InFlight { .. }).then_some(self.run.request_id)
    }

    /// Whether something must be signed before the request is written.
    fn needs_signature(&self) -> bool {
        !self.run.is_signed && (self.attestation.is_symmetric_key() || self.run.activations > 0)
    }

    /// The size of what a codec writes depends on a token that is not signed yet.
    #[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7"))]
    pub(crate) fn as_if_signed<T>(&mut self, measure: impl FnOnce(&mut Self) -> T) -> T {
        self.run.is_signed = true;
        let measured = measure(self);
        self.run.is_signed = false;
        measured
    }

    fn forget_signature(&mut self) {
        self.run.is_signed = false;
        wipe(&mut self.run.signature.0);
    }

    /// For codecs whose sessions begin with the token.
    pub(crate) fn write_session_token<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b str, Error> {
        if let State::Idle = self.run.state {
            return Err(Error::NotStarted);
        }
        if self.is_lookup() || self.attestation.tpm_keys().is_some() {
            return Err(Error::Unsupported);
        }
        if !self.is_running() || self.needs_signature() {
            return Err(Error::NotDue);
        }
        let mut writer = Writer::new(buffer);
        self.write_token(&mut writer);
        Ok(text(writer.finish()?))
    }

    /// Whether the connection is to present a certificate.
    #[cfg(feature = "minreq")]
    pub(crate) const fn needs_client_certificate(&self) -> bool {
        self.attestation.is_x509()
    }

    /// Whether requests carry a token.
    pub(crate) const fn has_token(&self) -> bool {
        self.run.is_signed
    }

    pub(crate) fn write_token(&self, writer: &mut Writer<'_>) {
        let Run { signature, expiry, is_signed, .. } = &self.run;
        if *is_signed {
            let (id_scope, registration_id) = (self.registration.id_scope(), self.registration.registration_id());
            sas_token::write_token(id_scope, registration_id, &signature.0, *expiry, writer);
        }
    }

    /// The length of what [`write_body`](Self::write_body) writes.
    pub(crate) fn request_body_len(&self) -> usize {
        let registration = &self.registration;
        let tpm = self.attestation.tpm_keys().map(|tpm| (tpm.endorsement_key.len(), tpm.storage_root_key.len()));
        let (csr, payload) = match self.is_lookup() {
            true => (None, None),
            false => (csr_len(registration), payload_len(registration)),
        };
        sizes::body(registration.registration_id().as_str().len(), tpm, csr, payload)
    }

    /// The JSON of a register request.
    pub(crate) fn write_body(&self, writer: &mut Writer<'_>) {
        writer.str(r#"{"registrationId":""#);
        writer.str(self.registration.registration_id().as_str());
        writer.byte(b'"');
        if let Some(tpm) = self.attestation.tpm_keys() {
            writer.str(r#","tpm":{"endorsementKey":""#);
            writer.base64(tpm.endorsement_key);
            writer.str(r#"","storageRootKey":""#);
            writer.base64(tpm.storage_root_key);
            writer.str(r#""}"#);
        }
        if !self.is_lookup() {
            if let Some(csr) = self.registration.csr() {
                writer.str(r#","csr":""#);
                writer.base64(csr.der());
                writer.byte(b'"');
            }
            if let Some(payload) = self.registration.payload() {
                writer.str(r#","payload":"#);
                writer.str(payload);
            }
        }
        writer.byte(b'}');
    }

    /// Returns `true` if the answer is a challenge for the TPM, whose next register request is signed.
    fn is_challenge(&self, answer: Answer<'_>) -> bool {
        self.attestation.tpm_keys().is_some()
            && answer.status == 401
            && self.run.activations < MAX_ACTIVATIONS
            // A poll goes with the token of its register request.
            && self.run.id.is_empty()
            && AuthenticationKey::of_challenge(answer.body).is_some()
    }

    /// Takes over the operation ID, and says where the device belongs once
    /// it is settled.
    fn read_success(&mut self, answer: Answer<'_>) -> Result<Option<Spans>, Error> {
        let mut document = Document::EMPTY;
        let status = if self.is_lookup() {
            document.read_state(answer.body)?;
            document.state_status()?
        } else {
            document.read(answer.body)?;
            document.status()?
        };
        let id = &mut self.run.id;
        match status {
            Status::Pending | Status::Unknown => {
                #[cfg(feature = "lookup")]
                if self.is_lookup {
                    return Err(Error::Unassigned);
                }
                match document.operation_id() {
                    Ok(operation_id) if operation_id.decode_into(id) => Ok(None),
                    Ok(_) => Err(Malformed::Invalid("operationId").into()),
                    // Later answers name the same operation.
                    Err(missing) if id.is_empty() => Err(missing.into()),
                    Err(_) => Ok(None),
                }
            }
            Status::Assigned => {
                let (spans, device_id) = document.assignment(self.registration.registration_id(), answer.body)?;
                if !device_id.decode_into(id) || !is_device_id(id) {
                    return Err(Malformed::Invalid("deviceId").into());
                }
                Ok(Some(spans))
            }
            Status::Failed => Err(Error::Failed(document.failure(answer.status))),
            Status::Disabled => Err(Error::Disabled),
        }
    }

    fn retry_or_fail(&mut self, now: Duration, error: Error, retry_after: Option<u32>) {
        self.run.failure = error;
        self.run.failures = self.run.failures.saturating_add(1);
        let is_final = match error.fault() {
            _ if matches!(error, Error::OperationLost(_)) => {
                self.run.id.clear();
                core::mem::replace(&mut self.run.has_lost_operation, true)
            }
            Fault::Busy => {
                self.run.unanswered = 0;
                false
            }
            Fault::Transport => {
                self.run.unanswered = self.run.unanswered.saturating_add(1);
                self.run.unanswered > self.policy.max_retries()
            }
            // A poll goes with the token of its register request, which the service accepted.
            Fault::Credential if self.run.id.is_empty() && self.can_try_other_key() => {
                self.run.tried_other_key = true;
                self.run.key = self.run.key.other();
                self.forget_signature();
                self.run.state = State::Due;
                self.run.event = Event::Retrying(0);
                return;
            }
            _ => true,
        };
        if is_final {
            return self.fail(error);
        }
        let failures = self.run.failures;
        let wait = failure_wait(failures, &error, retry_after, &mut self.run.jitter);
        self.run.event = Event::Retrying(wait);
        self.wait(now, wait);
    }

    fn can_try_other_key(&self) -> bool {
        self.attestation.is_symmetric_key() && self.has_secondary_key && !self.run.tried_other_key
    }

    /// Waits, or ends the run at once if the wait would outlast it.
    fn wait(&mut self, now: Duration, millis: u32) {
        let until = later(now, millis);
        if until >= self.run.deadline {
            return self.fail(self.run.failure);
        }
        self.run.state = State::Waiting { until };
    }

    fn fail(&mut self, error: Error) {
        self.run.failure = error;
        self.finish(State::Failed);
        self.run.event = Event::Failed;
    }

    /// No request follows, so the token has served.
    fn finish(&mut self, state: State) {
        self.run.state = state;
        self.forget_signature();
    }
}
