use core::time::Duration;

use heapless::Vec;

use crate::{
    Assignment, Endpoint, Error, Fault, Malformed, Registration, RequestTooLarge, RetryPolicy, Sign, Sizes,
    TransportFault,
    assignment::Spans,
    json::{JsonError, JsonProblem, Value},
    response::{self, Details, Document, Status},
    retry::{Jitter, between, failure_wait, later},
    sas_token::{self, Signature},
    sizes,
    tpm::{AuthenticationKey, Tpm},
    writer::{Writer, text},
};

/// One device's way to its hub: a state machine without I/O, clock or allocator.
///
/// The transports ([`http`](crate::http), [`embedded_io`](crate::embedded_io),
/// [`minreq`](crate::minreq)) drive it for you. To drive it yourself, see
/// [the driving contract](crate#the-driving-contract).
///
/// A `Provisioning` can be used again: [`start`](Self::start) begins a new run, whatever
/// became of the last one.
///
/// It holds what must survive between requests and no more: references to what the caller
/// gave, the operation ID, the token's signature (wiped on drop) and the times. Its size is
/// below 550 bytes on every target, and does not depend on the length of the IDs.
///
/// ```
/// use azure_dps::{Answer, Credential, IdScope, Provisioning, Registration, RegistrationId, Step};
/// use core::time::Duration;
///
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Credential::x509());
/// let now = Duration::ZERO;
///
/// provisioning.start(now, 0);
/// assert_eq!(provisioning.step(now), Step::Send);
/// let body = br#"{"operationId":"4.d0a6","status":"assigning"}"#;
/// provisioning.on_answer(now, Answer::new(202, Some(3), body));
///
/// assert_eq!(provisioning.step(now), Step::Wait(Duration::from_secs(3)));
/// let now = Duration::from_secs(3);
/// assert_eq!(provisioning.step(now), Step::Send);
/// let body = br#"{"status":"assigned","registrationState":
///     {"assignedHub":"hub.azure-devices.net","deviceId":"dev-1"}}"#;
/// provisioning.on_answer(now, Answer::new(200, None, body));
///
/// assert_eq!(provisioning.step(now), Step::Finished);
/// assert_eq!(provisioning.result(body)?.assigned_hub(), "hub.azure-devices.net");
/// # Ok::<(), azure_dps::Error>(())
/// ```
pub struct Provisioning<'a> {
    registration: Registration<'a>,
    credential: Credential<'a>,
    endpoint: Endpoint<'a>,
    policy: RetryPolicy,
    token_lifetime: u32,
    /// At most 4 GiB, in less space than a `usize`.
    max_body: u32,
    api_version: &'a str,
    observer: Option<&'a mut (dyn FnMut(Progress) + Send)>,
    #[cfg(feature = "lookup")]
    is_lookup: bool,
    run: Run,
}

/// How a device proves who it is.
///
/// ```
/// use azure_dps::{Credential, DeviceKey};
///
/// let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let credential = Credential::sas(&mut key);
/// let in_the_tls_stream = Credential::x509();
/// # Ok::<(), azure_dps::InvalidKey>(())
/// ```
///
/// Source: [attestation mechanisms](https://learn.microsoft.com/azure/iot-dps/concepts-service#attestation-mechanism).
#[non_exhaustive]
pub enum Credential<'a> {
    /// A symmetric key, held by a [`DeviceKey`](crate::DeviceKey) or by anything else that
    /// can sign with it.
    Sas(&'a mut (dyn Sign + Send)),
    /// A client certificate, which the caller's TLS stream presents. There is no token.
    X509,
    /// A TPM, which the service challenges. Over HTTP alone.
    #[cfg(feature = "tpm")]
    Tpm(&'a mut (dyn Tpm + Send)),
}

impl<'a> Credential<'a> {
    /// A symmetric key.
    pub fn sas(signer: &'a mut (dyn Sign + Send)) -> Self {
        Self::Sas(signer)
    }

    /// A client certificate in the caller's TLS stream.
    pub const fn x509() -> Self {
        Self::X509
    }

    /// A TPM: see [`tpm`](crate::tpm).
    #[cfg(feature = "tpm")]
    pub fn tpm(tpm: &'a mut (dyn Tpm + Send)) -> Self {
        Self::Tpm(tpm)
    }

    // Without the feature there is none, and the compiler drops what would be done with it.
    fn as_tpm(&self) -> Option<&(dyn Tpm + Send + 'a)> {
        match self {
            #[cfg(feature = "tpm")]
            Self::Tpm(tpm) => Some(*tpm),
            _ => None,
        }
    }

    fn as_tpm_mut(&mut self) -> Option<&mut (dyn Tpm + Send + 'a)> {
        match self {
            #[cfg(feature = "tpm")]
            Self::Tpm(tpm) => Some(*tpm),
            _ => None,
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Send the request that a codec writes, and give its answer to
    /// [`Provisioning::on_answer`], or say that there is none with
    /// [`Provisioning::on_error`].
    Send,
    /// Do nothing for this long. A connection may be kept meanwhile or not.
    Wait(Duration),
    /// Fetch the result with [`Provisioning::result`].
    Finished,
}

/// How far a run has come, in the C SDK's order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A connection to the service stands. Drivers that hold none say nothing.
    Connected,
    /// A register request is about to be sent.
    Registering,
    /// A look-up of the registration's status is about to be sent.
    LookingUp,
    /// The service answered that it is still assigning.
    Assigning,
    /// The service answered that the device is assigned.
    Assigned,
    /// An attempt failed, and another one follows.
    Retrying {
        /// Why the attempt failed.
        error: Error,
        /// How long the run waits before the next attempt.
        wait: Duration,
        /// How many attempts in a row have failed.
        failures: u8,
    },
    /// The run is over without an assignment.
    Failed(Error),
}

/// An answer of the service, however it came.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Answer<'b> {
    /// The HTTP status; over MQTT the status in the topic.
    pub status: u16,
    /// Seconds, if the service named a number of them.
    pub retry_after: Option<u32>,
    /// The JSON document.
    pub body: &'b [u8],
}

impl<'b> Answer<'b> {
    /// An answer of these parts.
    pub const fn new(status: u16, retry_after: Option<u32>, body: &'b [u8]) -> Self {
        Self { status, retry_after, body }
    }
}

/// The one that the C SDK sends.
pub(crate) const API_VERSION: &str = "2021-06-01";

/// The request that is due. A [look-up](Provisioning::is_lookup) is sent in the register request's
/// place.
pub(crate) enum Request<'r> {
    Register,
    Status { operation_id: &'r [u8] },
}

/// The longest operation ID that is kept, in bytes. Those seen have about 55.
pub const MAX_OPERATION_ID: usize = 128;

/// The longest body of a request that the service accepts, in bytes: 96 KB.
///
/// Source: [DPS limits](https://learn.microsoft.com/azure/iot-dps/about-iot-dps#quotas-and-limits), maximum message size.
pub const MAX_BODY: usize = 96 * 1024;

/// Thirty days: the longest that the service's documents show.
const MAX_TOKEN_LIFETIME: u64 = 30 * 24 * 3600;

struct Run {
    state: State,
    started: Duration,
    deadline: Duration,
    /// Unix time at `started`, in seconds.
    unix_time: u64,
    operation_id: Vec<u8, MAX_OPERATION_ID, u8>,
    signature: Option<Signature>,
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
    /// How the run ended, or how it ends if its time is used up now.
    failure: Error,
    /// The last answer's length, for [`Provisioning::answer`].
    body_len: usize,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    /// A request is due, or under way.
    Sending {
        since: Option<Duration>,
    },
    Waiting {
        until: Duration,
    },
    /// The last answer has been checked, and says where the device belongs.
    Assigned(Spans),
    Failed,
}

/// How many challenges of a TPM are answered in a run. The service makes a second one where it
/// has lost the first.
const MAX_ACTIVATIONS: u8 = 2;

impl<'a> Provisioning<'a> {
    /// A device that is ready to [`start`](Self::start).
    #[inline]
    pub const fn new(registration: Registration<'a>, credential: Credential<'a>) -> Self {
        Self {
            registration,
            credential,
            endpoint: Endpoint::GLOBAL,
            policy: RetryPolicy::new(),
            token_lifetime: 3600,
            max_body: MAX_BODY as u32,
            api_version: if registration.csr().is_some() { "2026-11-01" } else { API_VERSION },
            observer: None,
            #[cfg(feature = "lookup")]
            is_lookup: false,
            run: Run {
                state: State::Idle,
                started: Duration::ZERO,
                deadline: Duration::ZERO,
                unix_time: 0,
                operation_id: Vec::new(),
                signature: None,
                jitter: Jitter::new(),
                failures: 0,
                unanswered: 0,
                has_lost_operation: false,
                request_id: 0,
                register_was_sent: false,
                activations: 0,
                failure: Error::TimedOut,
                body_len: 0,
            },
        }
    }

    /// A device that asks where it was assigned, and registers nothing: its runs send the
    /// service's status look-up, which is not billed and runs no allocation policy. Over HTTP
    /// alone. A payload and a `csr` are not sent.
    ///
    /// The result of a run is the last assignment, without the certificates that were issued
    /// with it; [`Error::Unassigned`] says that a registration is still under way or has no
    /// hub, and [`ErrorCode::ENROLLMENT_NOT_FOUND`](crate::ErrorCode::ENROLLMENT_NOT_FOUND)
    /// that there is none.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # use core::time::Duration;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut provisioning = Provisioning::lookup(registration, Credential::x509());
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
    pub const fn lookup(registration: Registration<'a>, credential: Credential<'a>) -> Self {
        let mut provisioning = Self::new(registration, credential);
        // Whatever a `csr` would need: none is sent.
        provisioning.api_version = API_VERSION;
        provisioning.is_lookup = true;
        provisioning
    }

    /// Another service than [`Endpoint::GLOBAL`].
    pub const fn with_endpoint(mut self, endpoint: Endpoint<'a>) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// Other times and bounds than [`RetryPolicy::new`].
    pub const fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How long a token is valid, in seconds; 3600 by default. A token never expires before
    /// its run's [`timeout`](RetryPolicy::timeout), of thirty days at the most.
    pub const fn with_token_lifetime(mut self, seconds: u32) -> Self {
        self.token_lifetime = seconds;
        self
    }

    /// Sets the longest body of a request in bytes; [`MAX_BODY`] by default. The body is JSON with
    /// the payload, a `csr` and a TPM's keys; [`Sizes::body`] is its length.
    ///
    /// A run whose body is longer ends at its start with [`Error::RequestTooLarge`]: nothing is
    /// connected or sent.
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = if bytes > u32::MAX as usize { u32::MAX } else { bytes as u32 };
        self
    }

    /// Another `api-version` than the one that the request needs: `2026-11-01` for a
    /// registration with a `csr`, for any other `2021-06-01`, which the C SDK sends.
    pub const fn with_api_version(mut self, api_version: &'a str) -> Self {
        self.api_version = api_version;
        self
    }

    /// Is told how the run comes along.
    ///
    /// ```
    /// use azure_dps::{Credential, IdScope, Progress, Provisioning, Registration, RegistrationId};
    ///
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// let mut show = |progress| match progress {
    ///     Progress::Retrying { error, wait, .. } => println!("again in {wait:?}: {error}"),
    ///     other => println!("{other:?}"),
    /// };
    /// let provisioning = Provisioning::new(registration, Credential::x509()).with_observer(&mut show);
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub fn with_observer(mut self, observer: &'a mut (dyn FnMut(Progress) + Send)) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Begins a run, or a new one. A run whose request is larger than the service accepts is over
    /// at once ([`with_max_body`](Self::with_max_body)).
    ///
    /// `now` is a monotonic clock's reading, from any start; every later call takes the
    /// same clock's. `unix_time` is the wall clock in seconds, for the token's expiry; a
    /// credential without tokens needs none, and 0 will do.
    pub fn start(&mut self, now: Duration, unix_time: u64) {
        // Field by field: a whole `Run` would be made on the stack first.
        self.run.state = State::Sending { since: None };
        self.run.started = now;
        self.run.deadline = now.saturating_add(self.policy.timeout);
        self.run.unix_time = unix_time;
        self.run.operation_id.clear();
        self.run.signature = None;
        self.run.jitter.mix(self.registration.registration_id(), unix_time, self.policy.jitter_seed);
        self.run.failures = 0;
        self.run.register_was_sent = false;
        self.run.unanswered = 0;
        self.run.has_lost_operation = false;
        // Not the request's number: an MQTT session may still have an answer to the last run's.
        self.run.activations = 0;
        self.run.failure = Error::TimedOut;
        self.run.body_len = 0;
        let (size, limit) = (self.request_body_len(), self.max_body as usize);
        if size > limit {
            self.fail(Error::RequestTooLarge(RequestTooLarge { size, limit }));
        }
    }

    /// Whether a run was started and is not finished.
    pub fn is_running(&self) -> bool {
        matches!(self.run.state, State::Sending { .. } | State::Waiting { .. })
    }

    /// What to do next.
    pub fn step(&mut self, now: Duration) -> Step {
        match self.run.state {
            State::Waiting { until } if now < until => return Step::Wait(between(now, until)),
            // An exchange that was lost track of begins again, with time of its own.
            State::Waiting { .. } | State::Sending { .. } => {}
            _ => return Step::Finished,
        }
        if now >= self.run.deadline {
            self.fail(self.run.failure);
            return Step::Finished;
        }
        self.run.state = State::Sending { since: None };
        // The request takes the last answer's place in the buffer.
        self.run.body_len = 0;
        Step::Send
    }

    /// When the request that is under way is to be given up, on the caller's clock.
    pub fn request_deadline(&self, now: Duration) -> Duration {
        let since = match self.run.state {
            State::Sending { since: Some(since) } => since,
            _ => now,
        };
        since.saturating_add(self.policy.request_timeout).min(self.run.deadline)
    }

    /// The driver has a connection: reported as [`Progress::Connected`].
    pub fn on_connected(&mut self) {
        if self.is_running() {
            self.report(Progress::Connected);
        }
    }

    /// The answer to the request that was due.
    ///
    /// If the answer ends the run, its body must stay where it is until
    /// [`result`](Self::result) has been read.
    pub fn on_answer(&mut self, now: Duration, answer: Answer<'_>) {
        if !matches!(self.run.state, State::Sending { .. }) {
            return;
        }
        self.run.body_len = answer.body.len();
        if !matches!(answer.status, 200..=299) {
            if let Some(activated) = self.take_challenge(answer) {
                return match activated {
                    Ok(()) => self.run.state = State::Sending { since: None },
                    Err(error) => self.fail(error),
                };
            }
            let refusal = response::refusal(answer.status, answer.body);
            let is_lost = answer.status == 404 && !self.run.operation_id.is_empty();
            let error = if is_lost { Error::OperationLost(refusal) } else { Error::Refused(refusal) };
            return self.retry_or_fail(now, error, answer.retry_after);
        }
        match self.read_success(answer) {
            Ok(None) => {
                self.run.failures = 0;
                self.run.unanswered = 0;
                self.run.failure = Error::StillAssigning;
                self.report(Progress::Assigning);
                let wait = self.policy.poll_wait(answer.retry_after, &mut self.run.jitter);
                self.wait(now, wait);
            }
            Ok(Some(spans)) => {
                self.finish(State::Assigned(spans));
                self.report(Progress::Assigned);
            }
            // A document that ends too early was cut short on its way.
            Err(Error::Malformed(Malformed::Json(JsonError { problem: JsonProblem::End, .. }))) => {
                self.retry_or_fail(now, Error::Transport(TransportFault::Closed), None);
            }
            Err(error) => self.fail(error),
        }
    }

    /// There is no answer. Network faults are retried; any other error ends the run.
    pub fn on_error(&mut self, now: Duration, error: Error) {
        if let State::Sending { .. } = self.run.state {
            self.retry_or_fail(now, error, None);
        }
    }

    /// The outcome of the run, read from the buffer that holds the last answer's body at
    /// its start.
    ///
    /// # Errors
    /// Whatever ended the run; [`Error::NotFinished`] before its end.
    pub fn result<'b>(&self, buffer: &'b [u8]) -> Result<Assignment<'b>, Error> {
        match self.run.state {
            State::Idle => Err(Error::NotStarted),
            State::Sending { .. } | State::Waiting { .. } => Err(Error::NotFinished),
            State::Failed => Err(self.run.failure),
            State::Assigned(spans) => spans.assignment(self.answer(buffer)).ok_or(Error::WrongBuffer),
        }
    }

    /// What the service said in words of a run that failed, read from the buffer that holds
    /// the last answer's body at its start. `None` if the last answer is no JSON object.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let mut provisioning = Provisioning::new(registration, Credential::x509());
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
        Details::read(self.answer(buffer))
    }

    /// The value of the member that made the last answer [`Error::Malformed`], read from the buffer
    /// that holds the answer's body at its start. `None` if no single value is to blame.
    ///
    /// Use this to show what came instead of a hub, for example. The value is JSON of unknown origin:
    /// do not print control characters from it.
    ///
    /// ```
    /// # use azure_dps::*;
    /// # let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
    /// # let mut provisioning = Provisioning::new(registration, Credential::x509());
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

    /// How large the buffers for this registration must be. Add what is known of the answer, such as
    /// [`with_returned_payload`](Sizes::with_returned_payload).
    pub fn sizes(&self) -> Sizes {
        let sizes = Sizes::of(&self.registration).with_endpoint(&self.endpoint).with_api_version(self.api_version);
        match self.credential.as_tpm() {
            Some(tpm) => sizes.with_tpm(tpm.endorsement_key().len(), tpm.storage_root_key().len()),
            None => sizes,
        }
    }

    /// The last answer's body, whatever it is. Empty if there was none since the last request.
    pub fn answer<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(..self.run.body_len).unwrap_or_default()
    }

    /// What is registered.
    pub const fn registration(&self) -> &Registration<'a> {
        &self.registration
    }

    /// Where it is registered.
    pub const fn endpoint(&self) -> &Endpoint<'a> {
        &self.endpoint
    }

    /// The operation that the service made of the registration, once it has answered.
    pub fn operation_id(&self) -> Option<&str> {
        (!self.run.operation_id.is_empty()).then(|| text(&self.run.operation_id))
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
    /// let mut provisioning = Provisioning::new(registration, Credential::x509());
    /// provisioning.start(Duration::ZERO, 0);
    /// assert!(!provisioning.register_was_sent());
    /// http::write_request(&mut provisioning, Duration::ZERO, &mut [0; 512])?;
    /// assert!(provisioning.register_was_sent());
    /// # Ok::<(), azure_dps::Error>(())
    /// ```
    pub const fn register_was_sent(&self) -> bool {
        self.run.register_was_sent
    }

    /// Called by a codec when it has written the request, signed as it must be.
    pub(crate) const fn on_request_written(&mut self) {
        // There is no poll without a register request before it.
        self.run.register_was_sent |= !self.is_lookup();
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

    /// The request that is due, for a codec to write.
    pub(crate) fn request(&self) -> Request<'_> {
        match self.run.operation_id.as_slice() {
            [] => Request::Register,
            operation_id => Request::Status { operation_id },
        }
    }

    /// Called by a codec before it writes the request: the number of the request in this run.
    pub(crate) fn begin_request(&mut self, now: Duration) -> Result<u16, Error> {
        match self.run.state {
            State::Sending { .. } => self.run.state = State::Sending { since: Some(now) },
            State::Idle => return Err(Error::NotStarted),
            _ => return Err(Error::NotDue),
        }
        self.run.request_id = self.run.request_id.wrapping_add(1);
        if self.run.operation_id.is_empty() {
            self.report(if self.is_lookup() { Progress::LookingUp } else { Progress::Registering });
        }
        Ok(self.run.request_id)
    }

    /// The number of the request that is under way.
    pub(crate) fn request_id(&self) -> Option<u16> {
        matches!(self.run.state, State::Sending { since: Some(_) }).then_some(self.run.request_id)
    }

    /// For codecs whose every request carries the token: signs a new one for each register
    /// request, in `scratch`, and keeps it for the polls.
    pub(crate) fn sign_request(&mut self, now: Duration, scratch: &mut [u8]) -> Result<(), Error> {
        if !self.run.operation_id.is_empty() {
            return Ok(());
        }
        let expiry = self.expiry(now);
        let signer: &mut dyn Sign = match &mut self.credential {
            Credential::Sas(signer) => *signer,
            #[cfg(feature = "tpm")]
            Credential::Tpm(tpm) if self.run.activations > 0 => *tpm,
            _ => return Ok(()),
        };
        let signature = self.run.signature.insert(Signature::new(expiry));
        let registration = &self.registration;
        let mut writer = Writer::new(scratch);
        signature.sign(signer, registration.id_scope(), registration.registration_id(), &mut writer)
    }

    /// For codecs whose sessions begin with the token.
    pub(crate) fn write_session_token<'b>(&mut self, now: Duration, buffer: &'b mut [u8]) -> Result<&'b str, Error> {
        if !self.is_running() {
            return Err(if let State::Idle = self.run.state { Error::NotStarted } else { Error::NotDue });
        }
        if self.is_lookup() {
            return Err(Error::Unsupported);
        }
        let expiry = self.expiry(now);
        let signer = match &mut self.credential {
            Credential::Sas(signer) => signer,
            Credential::X509 => return Ok(""),
            #[cfg(feature = "tpm")]
            Credential::Tpm(_) => return Err(Error::Unsupported),
        };
        let registration = &self.registration;
        sas_token::write(*signer, registration.id_scope(), registration.registration_id(), expiry, buffer)
    }

    fn expiry(&self, now: Duration) -> u64 {
        let now = self.run.unix_time.saturating_add(between(self.run.started, now).as_secs());
        let run = self.policy.timeout.as_secs().min(MAX_TOKEN_LIFETIME);
        now.saturating_add(run.max(u64::from(self.token_lifetime)))
    }

    /// Whether the connection is to present a certificate.
    #[cfg(feature = "minreq")]
    pub(crate) const fn needs_client_certificate(&self) -> bool {
        matches!(self.credential, Credential::X509)
    }

    /// Whether requests carry a token.
    pub(crate) const fn has_token(&self) -> bool {
        self.run.signature.is_some()
    }

    pub(crate) fn write_token(&self, writer: &mut Writer<'_>) {
        if let Some(signature) = &self.run.signature {
            signature.write(self.registration.id_scope(), self.registration.registration_id(), writer);
        }
    }

    /// The length of what [`write_body`](Self::write_body) writes.
    pub(crate) fn request_body_len(&self) -> usize {
        let registration = &self.registration;
        let key_len = |tpm: &(dyn Tpm + Send)| (tpm.endorsement_key().len(), tpm.storage_root_key().len());
        let tpm = self.credential.as_tpm().map(key_len);
        let (csr, payload) = match self.is_lookup() {
            true => (None, None),
            false => (sizes::csr_len(registration), sizes::payload_len(registration)),
        };
        sizes::body(registration.registration_id().as_str().len(), tpm, csr, payload)
    }

    /// The JSON of a register request.
    pub(crate) fn write_body(&self, writer: &mut Writer<'_>) {
        writer.str(r#"{"registrationId":""#);
        writer.str(self.registration.registration_id().as_str());
        writer.byte(b'"');
        if let Some(tpm) = self.credential.as_tpm() {
            writer.str(r#","tpm":{"endorsementKey":""#);
            writer.base64(tpm.endorsement_key());
            writer.str(r#"","storageRootKey":""#);
            writer.base64(tpm.storage_root_key());
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

    /// Hands a challenge over to the TPM, whose next register request is signed. `None` if the
    /// answer is none.
    fn take_challenge(&mut self, answer: Answer<'_>) -> Option<Result<(), Error>> {
        let tpm = self.credential.as_tpm_mut()?;
        // A poll goes with the token of its register request.
        if answer.status != 401 || self.run.activations >= MAX_ACTIVATIONS || !self.run.operation_id.is_empty() {
            return None;
        }
        let key = AuthenticationKey::of_challenge(answer.body)?;
        self.run.activations += 1;
        Some(tpm.activate(key).map_err(Error::Tpm))
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
        // Later answers name the same operation, and the last one needs none.
        if status.is_pending() || self.run.operation_id.is_empty() {
            let wrong = match document.operation_id() {
                Ok(id) if id.decode_into(&mut self.run.operation_id) => None,
                Ok(_) => {
                    self.run.operation_id.clear();
                    Some(Malformed::Invalid("operationId"))
                }
                Err(wrong) => Some(wrong),
            };
            if let Some(wrong) = wrong
                && status.is_pending()
                && self.run.operation_id.is_empty()
                && !self.is_lookup()
            {
                return Err(wrong.into());
            }
        }
        match status {
            _ if status.is_pending() && self.is_lookup() => Err(Error::Unassigned),
            Status::Pending | Status::Unknown => Ok(None),
            Status::Assigned => Ok(Some(document.assignment(self.registration.registration_id(), answer.body)?)),
            Status::Failed => Err(Error::Failed(document.failure(answer.status))),
            Status::Disabled => Err(Error::Disabled),
        }
    }

    fn retry_or_fail(&mut self, now: Duration, error: Error, retry_after: Option<u32>) {
        self.run.failure = error;
        self.run.failures = self.run.failures.saturating_add(1);
        let is_final = match error.fault() {
            _ if matches!(error, Error::OperationLost(_)) => {
                self.run.operation_id.clear();
                core::mem::replace(&mut self.run.has_lost_operation, true)
            }
            Fault::Busy => {
                self.run.unanswered = 0;
                false
            }
            Fault::Transport => {
                self.run.unanswered = self.run.unanswered.saturating_add(1);
                self.run.unanswered > self.policy.max_retries
            }
            _ => true,
        };
        if is_final {
            return self.fail(error);
        }
        let failures = self.run.failures;
        let wait = failure_wait(failures, &error, retry_after, &mut self.run.jitter);
        self.wait(now, wait);
        if self.is_running() {
            let wait = Duration::from_millis(u64::from(wait));
            self.report(Progress::Retrying { error, wait, failures });
        }
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
        self.report(Progress::Failed(error));
    }

    /// No request follows, so the token has served.
    fn finish(&mut self, state: State) {
        self.run.state = state;
        self.run.signature = None;
    }

    #[inline(never)]
    fn report(&mut self, progress: Progress) {
        if let Some(observer) = &mut self.observer {
            observer(progress);
        }
    }
}
