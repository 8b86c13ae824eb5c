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
    total::Time,
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
    max_body: u32,
    api_version: &'a str,
    first_key: KeyChoice,
    has_secondary_key: bool,
    #[cfg(feature = "lookup")]
    is_lookup: bool,
    run: Run,
}

/// The request that is due. In a [look-up](Provisioning::is_lookup), `Register` is the look-up.
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
    deadline: Time,
    /// The expiry of the token, in Unix time. Fixed at the start, because the token is written again after it
    /// was signed.
    expiry: u64,
    /// During the run: the operation ID. After an assignment: the device ID without escapes.
    id: Vec<u8, MAX_OPERATION_ID, u8>,
    signature: Signature,
    is_signed: bool,
    /// The key of the last or the next signature.
    key: KeyChoice,
    tried_other_key: bool,
    event: Event,
    jitter: Jitter,
    /// The number of failed attempts in a row.
    failures: u8,
    /// The number of requests in a row without an answer.
    unanswered: u8,
    /// `true` if the service has lost an operation of this run.
    has_lost_operation: bool,
    request_id: u16,
    register_was_sent: bool,
    /// The number of challenges that the TPM has activated. After the first one, requests are signed.
    activations: u8,
    /// `true` if a driver has returned the outcome.
    is_over: bool,
    /// The reason of the failure. While the run is active: the reason if its time ends now.
    failure: Error,
    /// The length of the last answer, for [`Provisioning::body`].
    body_len: usize,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    /// A request is due. It may need a signature first.
    Due,
    /// A request was written.
    InFlight {
        since: Time,
    },
    Waiting {
        until: Time,
    },
    /// The last answer is a challenge for the TPM.
    Challenged,
    /// The last answer is an assignment. It was checked.
    Assigned(Spans),
    Failed,
}

/// The event that [`Provisioning::progress`] reports next.
#[derive(Clone, Copy)]
enum Event {
    None,
    Connected,
    Requesting,
    Assigning,
    Assigned,
    /// The wait in milliseconds.
    Retrying(u32),
    Failed,
}

/// The maximum number of challenges in a run. The service sends a second one if it has lost the first one.
const MAX_ACTIVATIONS: u8 = 2;

impl<'a> Provisioning<'a> {
    /// Creates the state machine for one device. Call [`start`](Self::start) next.
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
                deadline: Time::ZERO,
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

    /// Creates a state machine that looks up the last assignment instead of registering.
    ///
    /// Its runs send the service's status look-up, for HTTP only. A look-up is not billed and does not run the
    /// allocation policy. A payload and a `csr` are not sent.
    ///
    /// The result is the last assignment, without the certificates that were issued with it. The errors are:
    ///
    /// - [`Error::Unassigned`] if the registration is not finished, or has no hub;
    /// - [`Error::Refused`] with the code
    ///   [`ENROLLMENT_NOT_FOUND`](crate::error::ErrorCode::ENROLLMENT_NOT_FOUND) if there is no registration.
    ///
    /// ```
    /// use azure_dps::provisioning::Answer;
    /// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId, http};
    /// use core::time::Duration;
    ///
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::lookup(registration, Attestation::x509());
    ///
    /// // A transport does this, as for a registration:
    /// let (mut buffer, now) = ([0; 512], Duration::ZERO);
    /// provisioning.start(now, 0);
    /// http::write_request(&mut provisioning, now, &mut buffer)?;
    /// assert!(buffer.starts_with(b"POST /0ne00002193/registrations/dev-1?api-version="));
    /// let body = br#"{"registrationId":"dev-1","status":"assigned","assignedHub":"hub.example","deviceId":"dev-1"}"#;
    /// provisioning.on_answer(now, Answer::new(200, None, body));
    ///
    /// assert_eq!(provisioning.result(body)?.assigned_hub(), "hub.example");
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    ///
    /// Source: [Device Registration Status Lookup](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/device-registration-status-lookup).
    #[cfg(feature = "lookup")]
    pub const fn lookup(registration: Registration<'a>, attestation: Attestation<'a>) -> Self {
        let mut provisioning = Self::new(registration, attestation);
        // A `csr` is not sent, so its `api-version` is not needed.
        provisioning.api_version = API_VERSION;
        provisioning.is_lookup = true;
        provisioning
    }

    /// Sets the address of the service. The default is [`Endpoint::GLOBAL`].
    pub const fn with_endpoint(mut self, endpoint: Endpoint<'a>) -> Self {
        self.set_endpoint(endpoint);
        self
    }

    /// Sets the time-outs and retries of a run. The default is [`RetryPolicy::new`].
    pub const fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.set_retry_policy(policy);
        self
    }

    /// Sets the lifetime of a token in seconds, from [`start`](Self::start). The default is 3600.
    ///
    /// A token lives at least as long as the run: see [`RetryPolicy::with_timeout`].
    pub const fn with_token_lifetime(mut self, seconds: u32) -> Self {
        self.set_token_lifetime(seconds);
        self
    }

    /// Sets the key that a run tries first, if the device has two. The default is the primary key.
    ///
    /// After a registration, the service rejects the other key for 30 minutes: see [`KeyChoice`].
    pub const fn with_first_key(mut self, key: KeyChoice) -> Self {
        self.set_first_key(key);
        self
    }

    /// Sets that the device has two keys. If the service rejects the first key, a run tries the other key once.
    ///
    /// Only a driver that calls [`on_signature`](Self::on_signature) needs this setter.
    /// [`sign_with`](Self::sign_with) asks the signer.
    pub const fn with_secondary_key(mut self) -> Self {
        self.has_secondary_key = true;
        self
    }

    /// Sets the maximum length of a request's body in bytes. The default is [`MAX_BODY`].
    ///
    /// The body contains the payload, the `csr` and the TPM keys; [`Sizes::body`] returns its length. If it is
    /// longer than the maximum, [`start`](Self::start) ends the run with [`Error::RequestTooLarge`], and nothing
    /// is sent.
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.set_max_body(bytes);
        self
    }

    /// Sets the `api-version`. The default is `2026-11-01` for a registration with a `csr`, else `2021-06-01`
    /// (as in the C SDK).
    pub const fn with_api_version(mut self, api_version: &'a str) -> Self {
        self.set_api_version(api_version);
        self
    }

    /// Sets the endpoint in place: see [`with_endpoint`](Self::with_endpoint).
    ///
    /// This setter and the following ones do not move the `Provisioning`. This saves stack.
    pub const fn set_endpoint(&mut self, endpoint: Endpoint<'a>) {
        self.endpoint = endpoint;
    }

    /// Sets the time-outs and retries in place: see [`with_retry_policy`](Self::with_retry_policy).
    pub const fn set_retry_policy(&mut self, policy: RetryPolicy) {
        self.policy = policy;
    }

    /// Sets the lifetime of a token in place: see [`with_token_lifetime`](Self::with_token_lifetime).
    pub const fn set_token_lifetime(&mut self, seconds: u32) {
        self.token_lifetime = seconds;
    }

    /// Sets the key to try first in place: see [`with_first_key`](Self::with_first_key).
    pub const fn set_first_key(&mut self, key: KeyChoice) {
        self.first_key = key;
    }

    /// Sets the maximum length of a body in place: see [`with_max_body`](Self::with_max_body).
    pub const fn set_max_body(&mut self, bytes: usize) {
        self.max_body = if bytes > u32::MAX as usize { u32::MAX } else { bytes as u32 };
    }

    /// Sets the `api-version` in place: see [`with_api_version`](Self::with_api_version).
    pub const fn set_api_version(&mut self, api_version: &'a str) {
        self.api_version = api_version;
    }

    /// Starts a new run.
    ///
    /// - `now` is the time of a monotonic clock, such as the time since boot. Later calls use the same clock. The state
    ///   machine counts a reading of more than 136 years as 136 years.
    /// - `unix_time` is the wall clock in seconds, for the expiry of the token. For X.509 attestation, pass 0.
    ///
    /// If the request is longer than [`with_max_body`](Self::with_max_body) allows, the run ends at once.
    pub fn start(&mut self, now: Duration, unix_time: u64) {
        let timeout = self.policy.timeout_ms();
        // Rounded up, because the token must not expire before the deadline.
        let lifetime = timeout.div_ceil(1000).max(self.token_lifetime);
        // Each field is set on its own, because a new `Run` would first be built on the stack.
        self.run.state = State::Due;
        self.run.deadline = Time::from(now).later(timeout);
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
        // `request_id` is not reset: an answer to a request of the last run may still arrive over MQTT.
        self.run.activations = 0;
        self.run.is_over = false;
        self.run.failure = Error::TimedOut;
        self.run.body_len = 0;
        let (size, limit) = (self.request_body_len(), self.max_body as usize);
        if size > limit {
            self.fail(Error::RequestTooLarge(RequestTooLarge { size, limit }));
        }
    }

    /// Returns `true` if a run was started and has not finished.
    pub const fn is_running(&self) -> bool {
        !matches!(self.run.state, State::Idle | State::Assigned(_) | State::Failed)
    }

    /// Returns the next step. See [the driving contract](Self#the-driving-contract).
    pub fn step(&mut self, now: Duration) -> Step {
        let now = Time::from(now);
        match self.run.state {
            State::Waiting { until } if now < until => return Step::Wait(until.since(now)),
            State::Idle | State::Assigned(_) | State::Failed => return Step::Finished,
            // If the driver lost an exchange, the request is due again and gets its full time.
            State::Due | State::InFlight { .. } | State::Waiting { .. } | State::Challenged => {}
        }
        if now >= self.run.deadline {
            self.end_as_failed();
            return Step::Finished;
        }
        if let State::Challenged = self.run.state {
            return Step::Activate;
        }
        self.run.state = State::Due;
        // The next message or request overwrites the last answer in the buffer.
        self.run.body_len = 0;
        if self.needs_signature() { Step::Sign } else { Step::Send }
    }

    /// Returns the key of the last or the next signature. After an assignment, this is the key that the
    /// service accepted: store it, and try it first the next time ([`with_first_key`](Self::with_first_key)).
    pub const fn key(&self) -> KeyChoice {
        self.run.key
    }

    /// Writes the message for [`Step::Sign`] into `buffer`. [`Sizes::sas_token`] bytes are sufficient.
    ///
    /// Sign the message with HMAC-SHA256 and the key that [`key`](Self::key) names. Then call
    /// [`on_signature`](Self::on_signature). This is for a signer that is neither a [`Sign`] nor a
    /// [`SignAsync`](crate::identity::SignAsync).
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    ///
    /// ```
    /// use azure_dps::provisioning::Step;
    /// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
    /// use core::time::Duration;
    ///
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
    /// provisioning.start(Duration::ZERO, 1_700_000_000);
    /// assert_eq!(provisioning.step(Duration::ZERO), Step::Sign);
    ///
    /// let mut buffer = [0; 128];
    /// let message = provisioning.write_message(&mut buffer)?;
    /// assert_eq!(message, b"0ne00002193%2fregistrations%2fdev-1\n1700003600");
    /// let signature = [0; 32]; // from the chip: HMAC-SHA256 of `message`
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

    /// Takes the signature for [`Step::Sign`]. Does nothing if no signature is due.
    pub fn on_signature(&mut self, signature: &[u8; SIGNATURE_LEN]) {
        if let State::Due = self.run.state
            && self.needs_signature()
        {
            self.run.signature.0 = *signature;
            self.run.is_signed = true;
        }
    }

    /// Signs for [`Step::Sign`] with `signer`. The message is written into `buffer`:
    /// [`Sizes::sas_token`] bytes are sufficient.
    ///
    /// # Errors
    /// Pass the error to [`on_error`](Self::on_error).
    /// - [`Error::BufferTooSmall`] with the exact size;
    /// - [`Error::Signer`] if the signer fails;
    /// - [`Error::NotStarted`] or [`Error::NotDue`] if no signature is due.
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

    /// Checks that a signature is due, and stores whether the signer has two keys.
    pub(crate) fn begin_signature(&mut self, has_secondary_key: bool) -> Result<(), Error> {
        match self.run.state {
            State::Due if self.needs_signature() => {}
            State::Idle => return Err(Error::NotStarted),
            _ => return Err(Error::NotDue),
        }
        self.has_secondary_key = has_secondary_key;
        if !has_secondary_key {
            // A record may name a secondary key that the device no longer has.
            self.run.key = KeyChoice::Primary;
        }
        Ok(())
    }

    fn end_signature(&mut self, signed: Result<(), SignError>) -> Result<(), Error> {
        self.run.is_signed = signed.is_ok();
        signed.map_err(Error::Signer)
    }

    /// Returns the challenge for [`Step::Activate`]. `buffer` must begin with the body of the last answer.
    ///
    /// Pass the challenge to the TPM, then call [`on_activated`](Self::on_activated).
    pub fn challenge<'b>(&self, buffer: &'b [u8]) -> Option<AuthenticationKey<'b>> {
        match self.run.state {
            State::Challenged => AuthenticationKey::of_challenge(self.body(buffer)),
            _ => None,
        }
    }

    /// Tells the run that the TPM has loaded the key of the challenge. Later signatures use this key.
    pub fn on_activated(&mut self) {
        if let State::Challenged = self.run.state {
            self.run.activations += 1;
            self.forget_signature();
            self.run.state = State::Due;
        }
    }

    /// Passes the challenge for [`Step::Activate`] to the TPM. `buffer` must begin with the body of the last
    /// answer.
    ///
    /// # Errors
    /// Pass the error to [`on_error`](Self::on_error).
    /// - [`Error::Tpm`] if the TPM fails;
    /// - [`Error::WrongBuffer`] if the buffer has no challenge.
    pub fn activate_with(&mut self, signer: &mut (impl Sign + ?Sized), buffer: &[u8]) -> Result<(), Error> {
        let challenge = self.challenge(buffer).ok_or(Error::WrongBuffer)?;
        signer.activate(challenge)?;
        self.on_activated();
        Ok(())
    }

    /// Returns the deadline of the current request, on the caller's clock. If no answer has arrived by then,
    /// call [`on_error`](Self::on_error).
    pub fn request_deadline(&self, now: Duration) -> Duration {
        self.request_deadline_from(now.into()).into()
    }

    /// Returns the time from `now` to [`request_deadline`](Self::request_deadline). Returns zero if the
    /// deadline has passed.
    ///
    /// ```
    /// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId, http};
    /// use core::time::Duration;
    ///
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// provisioning.start(Duration::ZERO, 0);
    /// http::write_request(&mut provisioning, Duration::ZERO, &mut [0; 512])?;
    /// assert_eq!(provisioning.request_time_left(Duration::from_secs(20)), Duration::from_secs(40));
    /// assert_eq!(provisioning.request_time_left(Duration::from_secs(70)), Duration::ZERO);
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub fn request_time_left(&self, now: Duration) -> Duration {
        let now = Time::from(now);
        let deadline = self.request_deadline_from(now);
        if now < deadline { deadline.since(now) } else { Duration::ZERO }
    }

    fn request_deadline_from(&self, now: Time) -> Time {
        let since = match self.run.state {
            State::InFlight { since } => since,
            _ => now,
        };
        since.later(self.policy.request_timeout_ms()).min(self.run.deadline)
    }

    /// Reports a new connection, for [`Progress::Connected`]. This call is optional.
    pub fn on_connected(&mut self) {
        if self.is_running() {
            self.run.event = Event::Connected;
        }
    }

    /// Takes the answer to the current request.
    ///
    /// If the answer ends the run, keep its body in the buffer until you have read the
    /// [`result`](Self::result). If it is a challenge for a TPM, keep it until the challenge is activated.
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
            return self.retry_or_fail(now.into(), error, answer.retry_after);
        }
        match self.read_success(answer) {
            Ok(None) => {
                self.run.failures = 0;
                self.run.unanswered = 0;
                self.run.failure = Error::StillAssigning;
                self.run.event = Event::Assigning;
                let wait = self.policy.poll_wait(answer.retry_after, &mut self.run.jitter);
                self.wait(now.into(), wait);
            }
            Ok(Some(spans)) => {
                self.finish(State::Assigned(spans));
                self.run.event = Event::Assigned;
            }
            // JSON that ends too early means that the connection ended too early.
            Err(Error::Malformed(Malformed::Json(JsonError { problem: JsonProblem::End, .. }))) => {
                self.retry_or_fail(now.into(), Error::Transport(TransportError::Closed), None);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Takes the error of a request, a signature or an activation. The run retries after a network fault. Any
    /// other error ends the run.
    pub fn on_error(&mut self, now: Duration, error: Error) {
        if let State::Due | State::InFlight { .. } | State::Challenged = self.run.state {
            self.retry_or_fail(now.into(), error, None);
        }
    }

    /// Returns the last event that was not reported yet. Use it for a log or a user.
    ///
    /// Only the last event is stored. To see all events, call this function after every other call.
    ///
    /// ```
    /// use azure_dps::provisioning::{Answer, Progress};
    /// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
    /// use core::time::Duration;
    ///
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// provisioning.start(Duration::ZERO, 0);
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

    /// Returns the result of the run. `buffer` must begin with the body of the last answer.
    ///
    /// # Errors
    /// - the error that ended the run;
    /// - [`Error::NotStarted`] or [`Error::NotFinished`] before its end;
    /// - [`Error::WrongBuffer`] if the buffer does not hold the last answer.
    pub fn result<'b>(&'b self, buffer: &'b [u8]) -> Result<Assignment<'b>, Error> {
        match self.run.state {
            State::Idle => Err(Error::NotStarted),
            State::Failed => Err(self.run.failure),
            State::Assigned(spans) => spans.assignment(self.body(buffer), text(&self.run.id)).ok_or(Error::WrongBuffer),
            _ => Err(Error::NotFinished),
        }
    }

    /// Returns the service's message about a failed run. `buffer` must begin with the body of the last answer.
    /// Returns `None` if that body is not a JSON object.
    ///
    /// ```
    /// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
    /// use azure_dps::{error::ErrorCode, provisioning::Answer};
    /// use core::time::Duration;
    ///
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// provisioning.start(Duration::ZERO, 0);
    /// let body = br#"{"errorCode":401002,"trackingId":"","message":"Invalid certificate."}"#;
    /// provisioning.on_answer(Duration::ZERO, Answer::new(401, None, body));
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

    /// Returns the value that caused [`Error::Malformed`]. `buffer` must begin with the body of the last
    /// answer. Returns `None` if no single value caused the error.
    ///
    /// For example, use this function to log the text that arrived instead of a hub. Filter control characters
    /// before you print the value, because its origin is unknown.
    ///
    /// ```
    /// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
    /// use azure_dps::{error::Malformed, provisioning::Answer};
    /// use core::time::Duration;
    ///
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::new(registration, Attestation::x509());
    /// provisioning.start(Duration::ZERO, 0);
    /// let body = br#"{"status":"assigned","registrationState":{"assignedHub":"https://hub","deviceId":"dev-1"}}"#;
    /// provisioning.on_answer(Duration::ZERO, Answer::new(200, None, body));
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

    /// Returns the buffer sizes for this registration. Use
    /// [`with_returned_payload`](Sizes::with_returned_payload) to add the optional parts of the answer.
    pub fn sizes(&self) -> Sizes {
        let sizes = Sizes::of(&self.registration).with_endpoint(&self.endpoint).with_api_version(self.api_version);
        match self.attestation.tpm_keys() {
            Some(tpm) => sizes.with_tpm(tpm.endorsement_key.len(), tpm.storage_root_key.len()),
            None => sizes,
        }
    }

    /// Returns the body of the last answer. Empty if no answer arrived since the last request.
    pub fn body<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(..self.run.body_len).unwrap_or_default()
    }

    /// Returns the registration.
    pub const fn registration(&self) -> &Registration<'a> {
        &self.registration
    }

    /// Returns the address of the service.
    pub const fn endpoint(&self) -> &Endpoint<'a> {
        &self.endpoint
    }

    /// Returns the operation ID of the registration. Returns `None` before the first answer and after an
    /// assignment.
    pub fn operation_id(&self) -> Option<&str> {
        let is_there = !self.run.id.is_empty() && !matches!(self.run.state, State::Assigned(_));
        is_there.then(|| text(&self.run.id))
    }

    /// Returns `true` if this run wrote a register request, which the service may have billed. Returns `false`
    /// in a look-up.
    ///
    /// A request counts as soon as it is written into the buffer. So connect first, and write the request then:
    /// a failed connection does not count.
    ///
    /// ```
    /// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId, http};
    /// use core::time::Duration;
    ///
    /// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
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

    /// Called by `http` and `mqtt` after they have written a request.
    pub(crate) const fn on_request_written(&mut self) {
        // A poll always follows a register request.
        self.run.register_was_sent |= !self.is_lookup();
    }

    /// Called by `mqtt` if the request did not fit the buffer. The request is due again, with the same number.
    pub(crate) const fn on_request_unwritten(&mut self) {
        self.run.state = State::Due;
        self.run.request_id = self.run.request_id.wrapping_sub(1);
    }

    /// Returns the device ID of the assignment.
    pub(crate) fn assigned_device_id(&self) -> &str {
        text(&self.run.id)
    }

    /// Returns the reason of the failure. While the run is active: the reason if its time ends now.
    pub(crate) const fn failure(&self) -> Error {
        self.run.failure
    }

    pub(crate) const fn api_version(&self) -> &'a str {
        self.api_version
    }

    /// Returns `true` if runs are status look-ups.
    // Without the feature `lookup` this is always `false`, so the compiler removes the code for look-ups.
    pub(crate) const fn is_lookup(&self) -> bool {
        #[cfg(feature = "lookup")]
        return self.is_lookup;
        #[cfg(not(feature = "lookup"))]
        false
    }

    /// Called by a transport at its start: checks that a run was started after the last outcome was returned.
    #[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7", feature = "minreq"))]
    pub(crate) const fn check_started(&self) -> Result<(), Error> {
        match self.run.state {
            State::Idle => Err(Error::NotStarted),
            _ if self.run.is_over => Err(Error::NotStarted),
            _ => Ok(()),
        }
    }

    /// Called by a transport at its end. Returns the outcome. The next run needs a new start.
    #[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7", feature = "minreq"))]
    pub(crate) const fn outcome(&mut self) -> Result<(), Error> {
        self.run.is_over = true;
        match self.run.state {
            State::Assigned(_) => Ok(()),
            _ => Err(self.run.failure),
        }
    }

    /// Returns the request that is due.
    pub(crate) fn request(&self) -> Request<'_> {
        match self.run.id.as_slice() {
            [] => Request::Register,
            operation_id => Request::Status { operation_id },
        }
    }

    /// Called by `http` and `mqtt` before they write a request. Returns the number of the request.
    pub(crate) fn begin_request(&mut self, now: Duration) -> Result<u16, Error> {
        match self.run.state {
            State::Due | State::InFlight { .. } if !self.needs_signature() => {}
            State::Idle => return Err(Error::NotStarted),
            _ => return Err(Error::NotDue),
        }
        self.run.state = State::InFlight { since: now.into() };
        self.run.request_id = self.run.request_id.wrapping_add(1);
        if self.run.id.is_empty() {
            self.run.event = Event::Requesting;
        }
        Ok(self.run.request_id)
    }

    /// Returns the number of the current request.
    pub(crate) fn request_id(&self) -> Option<u16> {
        matches!(self.run.state, State::InFlight { .. }).then_some(self.run.request_id)
    }

    /// Returns `true` if a signature is due before the request.
    fn needs_signature(&self) -> bool {
        !self.run.is_signed && (self.attestation.is_symmetric_key() || self.run.activations > 0)
    }

    /// Measures a request before its token is signed.
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

    /// Writes the token for a protocol whose sessions begin with it: MQTT.
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

    /// Returns `true` if the TLS connection must present a client certificate.
    #[cfg(feature = "minreq")]
    pub(crate) const fn needs_client_certificate(&self) -> bool {
        self.attestation.is_x509()
    }

    /// Returns `true` if requests have a token.
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

    /// Returns the length of what [`write_body`](Self::write_body) writes.
    pub(crate) fn request_body_len(&self) -> usize {
        let registration = &self.registration;
        let tpm = self.attestation.tpm_keys().map(|tpm| (tpm.endorsement_key.len(), tpm.storage_root_key.len()));
        let (csr, payload) = match self.is_lookup() {
            true => (None, None),
            false => (csr_len(registration), payload_len(registration)),
        };
        sizes::body(registration.registration_id().as_str().len(), tpm, csr, payload)
    }

    /// Writes the JSON of a register request.
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

    /// Returns `true` if the answer is a challenge for the TPM.
    fn is_challenge(&self, answer: Answer<'_>) -> bool {
        self.attestation.tpm_keys().is_some()
            && answer.status == 401
            && self.run.activations < MAX_ACTIVATIONS
            // A poll has the token of its register request, so its 401 is not a challenge.
            && self.run.id.is_empty()
            && AuthenticationKey::of_challenge(answer.body).is_some()
    }

    /// Reads an answer with a status 2xx. Stores the operation ID, and returns the assignment if there is one.
    #[inline(never)]
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
                    // An answer to a poll may omit the operation ID.
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

    fn retry_or_fail(&mut self, now: Time, error: Error, retry_after: Option<u32>) {
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
            // The service has accepted the token of a poll before, so another key does not help there.
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

    /// Waits. Ends the run at once if the wait would end after the deadline.
    fn wait(&mut self, now: Time, millis: u32) {
        let until = now.later(millis);
        if until >= self.run.deadline {
            return self.end_as_failed();
        }
        self.run.state = State::Waiting { until };
    }

    fn fail(&mut self, error: Error) {
        self.run.failure = error;
        self.end_as_failed();
    }

    #[inline(never)]
    fn end_as_failed(&mut self) {
        self.finish(State::Failed);
        self.run.event = Event::Failed;
    }

    /// Ends the run and wipes the signature.
    fn finish(&mut self, state: State) {
        self.run.state = state;
        self.forget_signature();
    }
}
