//! The registration core: operations, devices and their assignments, whatever protocol asks.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    allocation::{self, Allocated, Failure},
    clock::wall_time,
    clock::{self, Clock, window::Window},
    config::{AllocationPolicy, Config, ConfigError, ReprovisionPolicy, Twin, webhook_url},
    config::{Behaviour, behaviour::DisabledAnswer},
    enrollment::{self, Attested, Carrier, Credentials, Enrollment, Kind, Memory, Standing},
    error::ServiceError,
    identity::tpm::Challenge,
    identity::{ids, key::SymmetricKey},
    issuance::{CertificateRequest, IssuingCa},
    script::{self, Action, Operation, Script},
    stamps::{Stamp, Stamps},
    watch::{
        journal::Journal,
        records::{RequestRecord, WebhookCall},
        text,
    },
    webhook::{self, AllocationRequest, DeviceAttestation, DeviceRuntimeContext, Judgement, Verdict, WebhookClient},
    wire::{self, AttestationResult, DeviceRegistration, OperationStatus, RegistrationState, json},
};

/// "Max message 96 KB".
pub(crate) const MAX_BODY: usize = 96 * 1024;

/// How many of a device's operations can still be asked for.
const OPERATIONS_PER_DEVICE: usize = 4;

/// The state of a device whose registration is running.
const ASSIGNING: &str = "assigning";

/// Why a registration no longer counts.
const SUPERSEDED: &str = "the device registered again";

/// How many devices are known at most. The real service knows a million.
const MAX_DEVICES: usize = 100_000;

/// A device that has a hub: what the hub would hold of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceRecord {
    /// The device's registration ID, as it last wrote it.
    pub registration_id: String,
    /// The enrollment through which it last came.
    pub enrollment_id: String,
    /// The hub to which it is assigned.
    pub assigned_hub: String,
    /// Its ID there.
    pub device_id: String,
    /// How it came there: `initialAssignment`, `deviceDataMigrated`, `deviceDataReset` or
    /// `reprovisionedToInitialAssignment`.
    pub substatus: &'static str,
    /// Its twin at the hub.
    pub twin: Twin,
    /// How many registrations were assigned so far.
    pub registrations: u32,
}

/// One request, whatever carried it.
pub(crate) struct DeviceRequest<'a> {
    pub(crate) id_scope: &'a str,
    pub(crate) registration_id: &'a str,
    pub(crate) credentials: Credentials<'a>,
    pub(crate) api_version: &'a str,
    pub(crate) body: &'a [u8],
}

/// One answer, whatever carries it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) retry_after: Option<u32>,
    /// Of a refusal, for the header.
    pub(crate) error_code: Option<u32>,
    /// For the header, if it is to be the GUID of the body.
    pub(crate) request_id: Option<String>,
    pub(crate) outcome: String,
}

impl Answer {
    pub(crate) fn refusal(error: &ServiceError, behaviour: &Behaviour) -> Self {
        let tracking_id = ids::guid();
        Self {
            status: error.status(),
            body: json(&error.body(&tracking_id, behaviour)),
            retry_after: error.retry_after,
            // A challenge has no code.
            error_code: Some(error.code).filter(|_| behaviour.error_code_header && error.authentication_key.is_none()),
            request_id: Some(tracking_id).filter(|_| behaviour.tracking_id_is_request_id),
            outcome: error.outcome(),
        }
    }

    /// Puts the answer on record, and whether the device was told.
    pub(crate) fn record(&self, record: &mut RequestRecord, told: bool) {
        record.at = SystemTime::now();
        record.http_status = told.then_some(self.status);
        record.retry_after = self.retry_after;
        record.response_body.clone_from(&self.body);
        record.outcome.clone_from(&self.outcome);
    }

    /// RFC 7396, on the body.
    fn merge(&mut self, patch: &serde_json::Value) {
        if let Ok(mut body) = serde_json::from_str(&self.body) {
            script::merge(&mut body, patch);
            self.body = body.to_string();
        }
    }

    /// What a script says in the service's place.
    fn scripted(status: u16, headers: &[(String, String)], body: String) -> Self {
        let retry_after = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
            .and_then(|(_, value)| value.parse().ok());
        let outcome = "answered by a script".to_owned();
        Self { status, body, retry_after, error_code: None, request_id: None, outcome }
    }
}

/// How many bytes the results of operations may have, all together. Only a webhook that returns long
/// payloads comes near.
const MAX_RESULTS: usize = 256 * 1024 * 1024;

/// What a result has, whatever the webhook returned: more than it takes.
const RESULT: usize = 1024;

/// What the service remembers of a device that was ever let in, or whose TPM was challenged.
#[derive(Debug, Default)]
struct Device {
    /// Its TPM's last one.
    challenge: Option<Challenge>,
    record: Option<DeviceRecord>,
    /// The enrollment's key with which it last registered over HTTP, and when.
    last_key: Option<(SymmetricKey, Duration)>,
    /// The state that a look-up tells.
    last: Option<Arc<RegistrationState>>,
    operations: VecDeque<StoredOperation>,
    running: Option<Running>,
    polls: Window,
}

#[derive(Debug)]
struct StoredOperation {
    id: String,
    polls: u32,
    /// Shared with the look-up's state: the webhook's payload may be long. A registration that was
    /// stopped has none.
    result: Option<Arc<RegistrationState>>,
}

/// The one registration of a device that may still change its record.
#[derive(Debug)]
struct Running {
    operation_id: String,
    registration_id: String,
    enrollment: (Kind, String),
    created: String,
    /// Tells its task to end, and why.
    stop: watch::Sender<Option<&'static str>>,
}

impl Device {
    /// Ends the registration that is running, if there is one: it leaves no result.
    fn stop(&mut self, why: &'static str) {
        if let Some(running) = self.running.take() {
            running.stop.send_replace(Some(why));
        }
    }
}

struct State {
    config: Config,
    stamps: Stamps,
    devices: HashMap<String, Device>,
    registrations: Window,
    operations: Window,
    scripts: Vec<Script>,
    /// How many requests devices have made, for `drop_every`.
    asked: u64,
    /// The finished operations, oldest first: device, operation and size; and the sum of their sizes.
    results: VecDeque<(String, String, usize)>,
    results_bytes: usize,
}

/// The service.
pub(crate) struct Core {
    state: Mutex<State>,
    clock: Clock,
    webhook: WebhookClient,
    /// Where custom allocation goes when neither enrollment nor configuration names a URL.
    webhook_url: Option<String>,
    issuing_ca: IssuingCa,
    journal: Journal,
}

/// How a registration began.
enum Begun {
    /// It is over already.
    Answered(Answer),
    /// It has an operation, which this task allocates.
    Operation(String, JoinHandle<()>),
}

/// What a background allocation works on: the state of things when the device registered.
struct Job {
    operation_id: String,
    registration_id: String,
    enrollment: Enrollment,
    stamp: Stamp,
    current: Option<(String, String)>,
    offered: Vec<String>,
    payload: Option<Box<RawValue>>,
    certificate_request: Option<CertificateRequest>,
    webhook_url: Option<String>,
    behaviour: Behaviour,
    /// Whether the device's api-version has `reprovisionedToInitialAssignment`.
    has_reprovisioned: bool,
    created: String,
    stopped: watch::Receiver<Option<&'static str>>,
}

impl Job {
    /// Waits until the registration no longer counts, and tells why.
    async fn stopped(&self) -> &'static str {
        let mut stopped = self.stopped.clone();
        stopped.wait_for(Option::is_some).await.ok().and_then(|why| *why).unwrap_or("the device is forgotten")
    }
}

impl Core {
    pub(crate) fn new(
        config: Config,
        clock: Clock,
        webhook_url: Option<String>,
        issuing_ca: IssuingCa,
        journal: Journal,
    ) -> Self {
        let mut stamps = Stamps::default();
        stamps.update(&config);
        Self {
            state: Mutex::new(State {
                config,
                stamps,
                devices: HashMap::new(),
                registrations: Window::default(),
                operations: Window::default(),
                scripts: Vec::new(),
                asked: 0,
                results: VecDeque::new(),
                results_bytes: 0,
            }),
            clock,
            webhook: WebhookClient::default(),
            webhook_url,
            issuing_ca,
            journal,
        }
    }

    /// A panicking test must not take the service down with it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// How long a client may take for what it has to do.
    pub(crate) fn patience(&self) -> Duration {
        clock::wait(self.lock().config.behaviour.client_timeout)
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        self.lock().config.behaviour.clone()
    }

    /// Answers a request with what `ask` comes to, unless a script has other ideas. What the
    /// script does to the connection is the caller's affair.
    pub(crate) async fn perform(
        &self,
        script: Option<Script>,
        ask: impl Future<Output = Result<Answer, ServiceError>>,
    ) -> (Answer, Action) {
        if let Some(script) = &script {
            self.clock.sleep(script.delay).await;
        }
        let action = script.map_or(Action::Nothing, |script| script.action);
        let mut answer = match &action {
            Action::Respond { status, headers, body } => Answer::scripted(*status, headers, body.clone()),
            Action::Raw(bytes) => Answer::scripted(200, &[], String::from_utf8_lossy(bytes).into_owned()),
            _ => ask.await.unwrap_or_else(|error| Answer::refusal(&error, &self.behaviour())),
        };
        match &action {
            Action::Merge(patch) => answer.merge(patch),
            Action::Cut(bytes) => {
                answer.outcome = format!("{}, cut after {bytes} bytes by a script", answer.outcome);
            }
            Action::OmitRetryAfter => answer.retry_after = None,
            Action::Nothing | Action::Respond { .. } | Action::Raw(_) | Action::PermuteTopic => {}
        }
        (answer, action)
    }

    /// Whether a request's credentials are good, whatever else it says.
    pub(crate) fn authenticate(&self, request: &DeviceRequest<'_>) -> Result<(), ServiceError> {
        self.lock().authenticate(request, self.clock.elapsed()).map(drop)
    }

    /// Starts a registration: it is answered at once, and the allocation goes on behind it.
    pub(crate) async fn register(self: &Arc<Self>, request: &DeviceRequest<'_>) -> Result<Answer, ServiceError> {
        let (operation_id, allocation) = match self.begin(request)? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Operation(operation_id, allocation) => (operation_id, allocation),
        };
        if self.behaviour().result_at_once {
            // A registration that was stopped leaves no result, and the device polls on.
            let _ = allocation.await;
        }
        self.operation_answer(request.registration_id, &operation_id, true)
    }

    /// Lets the device in, or tells at once why not.
    fn begin(self: &Arc<Self>, request: &DeviceRequest<'_>) -> Result<Begun, ServiceError> {
        let mut state = self.lock();
        let state = &mut *state;
        let behaviour = &state.config.behaviour;
        let minute = Duration::from_secs(60);
        if !state.registrations.admit(self.clock.elapsed(), minute, behaviour.registrations_per_minute) {
            return Err(throttled(behaviour, "too many registrations in a minute"));
        }
        let (enrollment, registration) = match state.read_and_authenticate(request, self.clock.elapsed()) {
            Err(error) if error.code == 404_201 && state.config.behaviour.not_found_as_failed => {
                return Ok(Begun::Answered(not_found_as_failed(request, &error)));
            }
            other => other?,
        };
        let behaviour = &state.config.behaviour;
        let device = device(&mut state.devices, behaviour, request.registration_id)?;
        if let Attested::SymmetricKey(key) = &enrollment.attested
            && request.credentials.carrier == Carrier::Http
        {
            device.last_key = Some((key.clone(), self.clock.elapsed()));
        }
        let id = request.registration_id.to_ascii_lowercase();
        let operation_id = ids::operation_id(
            behaviour.constant_operation_id_middle.then(|| format!("{}/{id}", request.id_scope)).as_deref(),
        );
        if !enrollment.enabled {
            let disabled = disabled(request.registration_id, &wall_time::now(), behaviour);
            let operation_id = match behaviour.disabled_answer {
                DisabledAnswer::Stored => "",
                DisabledAnswer::Operation => &*operation_id,
            };
            let answer = answer(200, operation_id, &disabled, true, None);
            device.last = Some(Arc::new(disabled));
            device.stop(SUPERSEDED);
            let outcome = format!("disabled by enrollment {}", enrollment.id);
            return Ok(Begun::Answered(Answer { outcome, ..answer }));
        }
        if behaviour.refuse_concurrent_registration && device.running.is_some() {
            return Err(ServiceError::concurrent_registration());
        }

        let csr = registration.csr.filter(|_| wire::has_csr(request.api_version));
        let certificate_request = match csr {
            Some(csr) if enrollment.certificate_policy.is_some() => {
                Some(CertificateRequest::read(&csr, request.registration_id)?)
            }
            Some(_) if !behaviour.ignore_csr_without_policy => {
                return Err(ServiceError::bad_request("the enrollment has no policy for issuing certificates"));
            }
            _ => None,
        };

        let current = device.record.as_ref().map(|record| (record.assigned_hub.clone(), record.device_id.clone()));
        let current_hub = current.as_ref().map(|(hub, _)| hub.as_str());
        let webhook_url = [&enrollment.allocation.webhook_url, &state.config.webhook_url, &self.webhook_url]
            .into_iter()
            .find_map(Clone::clone);
        let (stop, stopped) = watch::channel(None);
        let job = Job {
            operation_id: operation_id.clone(),
            registration_id: request.registration_id.to_owned(),
            offered: allocation::offered_hubs(&state.config, &enrollment, current_hub),
            // "It must be a JSON object; other types are not delivered."
            payload: registration.payload.filter(|payload| payload.get().starts_with('{')),
            certificate_request,
            webhook_url,
            stamp: state.stamps.of(&enrollment),
            behaviour: behaviour.clone(),
            has_reprovisioned: wire::has_reprovisioned(request.api_version),
            created: wall_time::now(),
            current,
            stopped,
            enrollment,
        };
        device.last = Some(Arc::new(RegistrationState::new(request.registration_id, ASSIGNING).stored(&job.created)));
        let core = Arc::clone(self);
        device.stop(SUPERSEDED);
        device.running = Some(Running {
            operation_id: operation_id.clone(),
            registration_id: job.registration_id.clone(),
            enrollment: (job.enrollment.kind, job.enrollment.id.clone()),
            created: job.created.clone(),
            stop,
        });
        let allocation = tokio::spawn(async move {
            // Without a result it was stopped, and has nothing to say any more.
            if let Some(result) = core.allocate(&job).await {
                let result = result.and_then(|allocated| {
                    allocation::check_access(&allocated.hub, &job.behaviour)?;
                    Ok((allocated, core.issue(&job)?))
                });
                core.finish(&job, result);
            }
        });
        device.operations.push_back(StoredOperation { id: operation_id.clone(), polls: 0, result: None });
        if device.operations.len() > OPERATIONS_PER_DEVICE {
            device.operations.pop_front();
        }
        Ok(Begun::Operation(operation_id, allocation))
    }

    /// Tells how far an operation is.
    pub(crate) fn operation_status(
        &self,
        request: &DeviceRequest<'_>,
        operation_id: &str,
    ) -> Result<Answer, ServiceError> {
        {
            let mut state = self.lock();
            let state = &mut *state;
            self.admit_operation(state)?;
            state.authenticate(request, self.clock.elapsed())?;
            let behaviour = &state.config.behaviour;
            if let Some(device) = state.devices.get_mut(&request.registration_id.to_ascii_lowercase())
                && !device.polls.admit(self.clock.elapsed(), Duration::from_secs(10), behaviour.device_polls_per_10s)
            {
                return Err(throttled(behaviour, "too many polls of one device in 10 s"));
            }
        }
        self.operation_answer(request.registration_id, operation_id, false)
    }

    /// Tells a device's last state, without registering it.
    pub(crate) fn lookup(&self, request: &DeviceRequest<'_>) -> Result<Answer, ServiceError> {
        let mut state = self.lock();
        self.admit_operation(&mut state)?;
        let (_, registration) = state.read_and_authenticate(request, self.clock.elapsed())?;
        if registration.csr.is_some() || registration.client_certificate_csr.is_some() {
            return Err(ServiceError::bad_request("a look-up takes no csr"));
        }
        let last = state
            .devices
            .get(&request.registration_id.to_ascii_lowercase())
            .and_then(|device| device.last.as_deref())
            .ok_or_else(|| registration_not_found(request.registration_id))?;
        Ok(Answer {
            status: 200,
            body: json(last),
            retry_after: None,
            error_code: None,
            request_id: None,
            outcome: format!("look-up: {}", last.outcome()),
        })
    }

    fn admit_operation(&self, state: &mut State) -> Result<(), ServiceError> {
        let behaviour = &state.config.behaviour;
        let minute = Duration::from_secs(60);
        if state.operations.admit(self.clock.elapsed(), minute, behaviour.operations_per_minute) {
            Ok(())
        } else {
            Err(throttled(behaviour, "too many operations in a minute"))
        }
    }

    fn operation_answer(
        &self,
        registration_id: &str,
        operation_id: &str,
        is_register: bool,
    ) -> Result<Answer, ServiceError> {
        let mut state = self.lock();
        let state = &mut *state;
        let behaviour = &state.config.behaviour;
        let device = state.devices.get_mut(&registration_id.to_ascii_lowercase());
        let (operation, last) = device
            .and_then(|device| {
                let operation = device.operations.iter_mut().find(|operation| operation.id == operation_id)?;
                Some((operation, device.last.as_ref()))
            })
            .ok_or_else(|| registration_not_found(registration_id))?;
        let ready =
            if is_register { behaviour.result_at_once } else { operation.polls >= behaviour.polls_before_result };
        // One that was stopped tells what a look-up does: how far the registration is that counts.
        match operation.result.as_ref().or(last.filter(|last| last.status != ASSIGNING)) {
            Some(result) if ready => Ok(answer(200, operation_id, result, true, None)),
            _ => {
                if !is_register {
                    operation.polls = operation.polls.saturating_add(1);
                }
                let assigning = RegistrationState::new(registration_id, ASSIGNING);
                // The register answer carries no state yet, a poll's does.
                let mut answer = answer(202, operation_id, &assigning, !is_register, behaviour.retry_after);
                if !behaviour.status_in_202 {
                    answer.merge(&serde_json::json!({ "status": null }));
                }
                Ok(answer)
            }
        }
    }

    /// Finds a hub, asking the webhook as often as it takes. `None`: the registration was stopped.
    async fn allocate(&self, job: &Job) -> Option<Result<Allocated, Failure>> {
        if job.enrollment.allocation.policy != AllocationPolicy::Custom {
            return Some(allocation::choose(job.enrollment.allocation.policy, &job.registration_id, &job.offered));
        }
        let Some(url) = &job.webhook_url else {
            return Some(Err(Failure::unreachable("the enrollment names no webhook")));
        };
        let request = AllocationRequest::new(
            &job.enrollment,
            &job.stamp,
            url,
            DeviceRuntimeContext {
                registration_id: &job.registration_id,
                current_iot_hub_host_name: job.current.as_ref().map(|(hub, _)| hub.as_str()),
                current_device_id: job.current.as_ref().map(|(_, id)| id.as_str()),
                attestation: DeviceAttestation::of(&job.enrollment.attested),
                payload: job.payload.as_deref(),
            },
            &job.offered,
            job.behaviour.omit_unset_members,
        );
        let body = json(&request);
        let behaviour = &job.behaviour;
        let attempts = behaviour.webhook_retries.saturating_add(1);
        for attempt in 1..=attempts {
            let wait = behaviour.webhook_retry_initial + behaviour.webhook_retry_increment * f64::from(attempt - 1);
            let wait = clock::wait(wait);
            let call = WebhookCall {
                at: SystemTime::now(),
                registration_id: job.registration_id.clone(),
                url: webhook_url::masked(url),
                request: serde_json::from_str(&body).unwrap_or_default(),
                request_body: body.clone(),
                attempt,
                attempts,
                duration: Duration::ZERO,
                next_in: (attempt < attempts).then_some(wait),
                status: None,
                response_body: String::new(),
                assigned_hub: None,
                outcome: String::new(),
                warnings: Vec::new(),
            };
            match self.call_webhook(job, url, call).await? {
                Verdict::Allocated(allocated) => return Some(Ok(allocated)),
                Verdict::Failed(failure) => return Some(Err(failure)),
                Verdict::TryAgain(_) => tokio::select! {
                    () = self.clock.sleep(wait) => {}
                    _ = job.stopped() => return None,
                },
            }
        }
        None
    }

    /// One call, and what it is put on record as. `None`: the registration was stopped.
    async fn call_webhook(&self, job: &Job, url: &str, mut call: WebhookCall) -> Option<Verdict> {
        let started = tokio::time::Instant::now();
        let time_out = self.webhook_timeout(&job.behaviour);
        // With a fast clock not sooner than any webhook may be expected to answer.
        let mut notice = self.clock.real(Duration::from_secs(1)).max(Duration::from_millis(100));
        let mut post = pin!(self.webhook.post(url, call.request_body.clone(), time_out));
        let answered = loop {
            tokio::select! {
                answered = &mut post => break Ok(answered),
                why = job.stopped() => break Err(why),
                () = tokio::time::sleep_until(started + notice) => {
                    let outcome = format!("no answer yet, the time-out is {time_out:?}");
                    let (at, duration) = (SystemTime::now(), started.elapsed());
                    self.journal.webhook_under_way(WebhookCall { at, duration, next_in: None, outcome, ..call.clone() });
                    notice = notice.saturating_mul(10);
                }
            }
        };
        (call.at, call.duration) = (SystemTime::now(), started.elapsed());
        let secrets = webhook_url::secrets(url);
        let judgement = answered.map(|answered| match answered {
            Ok(answer) => {
                call.status = Some(answer.status);
                call.response_body = text::mask(String::from_utf8_lossy(&answer.body).into_owned(), &secrets);
                match webhook::judge(&answer, &job.offered, &job.behaviour, &secrets) {
                    Judgement { verdict: Verdict::TryAgain(status), .. } if call.next_in.is_none() => {
                        Judgement::failed(Failure::status(status))
                    }
                    judgement => judgement,
                }
            }
            Err(why) => Judgement::failed(Failure::unreachable(&why)),
        });
        let verdict = match judgement {
            Ok(Judgement { verdict, outcome, warnings }) => {
                (call.outcome, call.warnings) = (outcome, warnings);
                Some(verdict)
            }
            Err(why) => {
                call.outcome = format!("given up: {why}");
                None
            }
        };
        call.next_in = call.next_in.filter(|_| matches!(verdict, Some(Verdict::TryAgain(_))));
        if let Some(Verdict::Allocated(allocated)) = &verdict {
            call.assigned_hub = Some(allocated.hub.clone());
        }
        self.journal.record_webhook_call(call);
        verdict
    }

    /// A fast clock shortens the time-out too, but never so far that a webhook fails for being on
    /// a busy machine, or in a crowd.
    fn webhook_timeout(&self, behaviour: &Behaviour) -> Duration {
        let timeout = clock::wait(behaviour.webhook_timeout);
        let floor = Duration::from_secs(10).min(timeout);
        self.clock.real(timeout).max(floor)
    }

    /// Issues the certificate that the device asked for.
    fn issue(&self, job: &Job) -> Result<Option<Vec<String>>, Failure> {
        let Some(request) = &job.certificate_request else {
            return Ok(None);
        };
        let mut chain = self.issuing_ca.issue(request).map_err(|error| Failure::not_issued(&error.to_string()))?;
        if job.behaviour.issued_chain_root_first {
            chain.reverse();
        }
        Ok(Some(chain))
    }

    /// Puts the device at its hub, as its enrollment's re-provisioning policy says.
    fn finish(&self, job: &Job, result: Result<(Allocated, Option<Vec<String>>), Failure>) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(device) = state.devices.get_mut(&job.registration_id.to_ascii_lowercase()) else {
            return;
        };
        if device.running.take_if(|running| running.operation_id == job.operation_id).is_none() {
            return;
        }
        let finished = match result {
            Ok((allocated, issued_certificate_chain)) => {
                let payload = allocated.payload.clone();
                let record = assign(device.record.take(), job, allocated);
                let state = RegistrationState {
                    attestation: AttestationResult::of(
                        &job.enrollment,
                        job.behaviour.certificate_info_in_result,
                        &format!("{}/devices/{}", ids::hub_host(&record.assigned_hub), record.device_id),
                    ),
                    assigned_hub: Some(record.assigned_hub.clone()),
                    device_id: Some(record.device_id.clone()),
                    substatus: Some(match record.substatus {
                        REPROVISIONED if job.behaviour.substatus_by_api_version && !job.has_reprovisioned => {
                            "initialAssignment"
                        }
                        substatus => substatus,
                    }),
                    payload,
                    issued_certificate_chain,
                    ..RegistrationState::new(&job.registration_id, "assigned")
                };
                device.record = Some(record);
                state
            }
            Err(failure) => RegistrationState {
                error_code: Some(failure.code),
                error_message: Some(failure.message),
                ..RegistrationState::new(&job.registration_id, "failed")
            },
        }
        .stored(&job.created);
        let finished = Arc::new(finished);
        // "A look-up never returns an issued certificate."
        device.last = Some(match finished.issued_certificate_chain {
            Some(_) => Arc::new(RegistrationState { issued_certificate_chain: None, ..(*finished).clone() }),
            None => Arc::clone(&finished),
        });
        if let Some(operation) = device.operations.iter_mut().find(|operation| operation.id == job.operation_id) {
            let text = finished.payload.as_ref().map_or(0, |payload| payload.get().len());
            let issued = finished.issued_certificate_chain.iter().flatten().map(String::len).sum::<usize>();
            operation.result = Some(finished);
            state.remember(&job.registration_id, &job.operation_id, RESULT + text + issued);
        }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut config = state.config.clone();
        change(&mut config);
        config.check()?;
        state.config = config;
        state.stamps.update(&state.config);
        for device in state.devices.values_mut() {
            let Some(running) = &device.running else { continue };
            let (kind, enrollment_id) = &running.enrollment;
            let (ended, why) = match enrollment::standing(&state.config, *kind, enrollment_id, &running.registration_id)
            {
                Standing::Enabled => continue,
                Standing::Disabled => (
                    disabled(&running.registration_id, &running.created, &state.config.behaviour),
                    "its enrollment was disabled",
                ),
                Standing::Gone => {
                    let gone = Failure::enrollment_gone();
                    let state = RegistrationState {
                        error_code: Some(gone.code),
                        error_message: Some(gone.message),
                        ..RegistrationState::new(&running.registration_id, "failed")
                    };
                    (state.stored(&running.created), "its enrollment is gone")
                }
            };
            device.last = Some(Arc::new(ended));
            device.stop(why);
        }
        Ok(())
    }

    pub(crate) fn device(&self, registration_id: &str) -> Option<DeviceRecord> {
        self.lock().devices.get(&registration_id.to_ascii_lowercase()).and_then(|device| device.record.clone())
    }

    /// Forgets everything but the configuration, and tells which devices had a hub.
    #[cfg(fuzzing)]
    pub(crate) fn forget(&self) -> Vec<DeviceRecord> {
        let mut state = self.lock();
        let state = &mut *state;
        state.registrations = Window::default();
        state.operations = Window::default();
        state.scripts.clear();
        state.asked = 0;
        state.results.clear();
        state.results_bytes = 0;
        self.journal.forget();
        std::mem::take(&mut state.devices).into_values().filter_map(|mut device| device.record.take()).collect()
    }

    pub(crate) fn push_script(&self, script: Script) {
        self.lock().scripts.push(script);
    }

    pub(crate) fn take_script(&self, operation: Operation, registration_id: &str) -> Option<Script> {
        let mut state = self.lock();
        let state = &mut *state;
        state.asked += 1;
        let dropped =
            state.config.behaviour.drop_every.is_some_and(|every| state.asked.is_multiple_of(u64::from(every.get())));
        script::take(&mut state.scripts, operation, registration_id)
            .or_else(|| dropped.then(|| Script::drop_connection(operation)))
    }
}

const REPROVISIONED: &str = "reprovisionedToInitialAssignment";

/// Where a device is after an allocation, and with which twin.
///
/// "DPS only uses initialTwin property in the response if the current IoT hub is changed and the
/// reprovisioning policy set on the enrollment entry is *Reprovision and reset to initial
/// config*."
fn assign(current: Option<DeviceRecord>, job: &Job, allocated: Allocated) -> DeviceRecord {
    let enrollment = &job.enrollment;
    let initial_twin = allocated.initial_twin.unwrap_or_else(|| enrollment.initial_twin.clone());
    // A hub's device IDs have case, registration IDs have none: the device keeps the ID that it has.
    let kept_id = current.as_ref().map(|current| &current.device_id);
    let device_id = match (&enrollment.device_id, kept_id) {
        (Some(device_id), _) => device_id,
        (None, Some(kept_id)) if kept_id.eq_ignore_ascii_case(&job.registration_id) => kept_id,
        _ => &job.registration_id,
    }
    .clone();
    let (substatus, twin, registrations) = match current {
        None => ("initialAssignment", initial_twin, 0),
        // "Device has been re-provisioned to a previously assigned IoT hub."
        Some(current) if current.assigned_hub == allocated.hub => (REPROVISIONED, current.twin, current.registrations),
        Some(current) if enrollment.reprovision_policy == ReprovisionPolicy::Reset => {
            ("deviceDataReset", initial_twin, current.registrations)
        }
        Some(current) => ("deviceDataMigrated", current.twin, current.registrations),
    };
    DeviceRecord {
        registration_id: job.registration_id.clone(),
        enrollment_id: enrollment.id.clone(),
        assigned_hub: allocated.hub,
        device_id,
        substatus,
        twin,
        registrations: registrations + 1,
    }
}

impl State {
    /// Counts a result of this size, and forgets the oldest where they become too many: a poll finds no
    /// such operation then, a look-up no payload.
    fn remember(&mut self, registration_id: &str, operation_id: &str, size: usize) {
        self.results.push_back((registration_id.to_ascii_lowercase(), operation_id.to_owned(), size));
        self.results_bytes += size;
        while self.results_bytes > MAX_RESULTS
            && let Some((device, operation_id, size)) = self.results.pop_front()
        {
            self.results_bytes -= size;
            let Some(device) = self.devices.get_mut(&device) else { continue };
            device.operations.retain(|operation| operation.id != operation_id);
            if let Some(last) = device.last.as_mut().filter(|_| device.operations.is_empty()) {
                Arc::make_mut(last).payload = None;
            }
        }
    }

    /// Lets a device in by the credentials that every request has.
    fn authenticate(&self, request: &DeviceRequest<'_>, now: Duration) -> Result<Enrollment, ServiceError> {
        self.check_address(request)?;
        let memory = Memory { challenge: self.challenge(request), last_key: self.last_key(request, now) };
        enrollment::authenticate(&self.config, request.registration_id, &request.credentials, &memory)
    }

    /// Lets a device in that may show its TPM's keys, which are in the body. If that is all it
    /// shows, the TPM is challenged.
    fn read_and_authenticate(
        &mut self,
        request: &DeviceRequest<'_>,
        now: Duration,
    ) -> Result<(Enrollment, DeviceRegistration), ServiceError> {
        self.check_address(request)?;
        let registration = DeviceRegistration::read(request.body, request.registration_id, &self.config.behaviour)?;
        if let Some(keys) = registration.tpm_keys()? {
            if request.credentials.carrier != Carrier::Http {
                return Err(ServiceError::unauthorized("TPMs are not challenged over this protocol"));
            }
            enrollment::check_tpm(&self.config, request.registration_id, &keys)?;
            if request.credentials.authorization.is_none() {
                let device = device(&mut self.devices, &self.config.behaviour, request.registration_id)?;
                let resource = format!("{}/registrations/{}", self.config.id_scope, request.registration_id);
                let (key, authentication_key) = keys
                    .new_key(&resource)
                    .map_err(|_| ServiceError::bad_request("nothing can be encrypted with the TPM's keys"))?;
                device.challenge = Some(Challenge { keys, key });
                return Err(ServiceError::tpm_challenge(authentication_key));
            }
            if self.challenge(request).is_none_or(|challenge| challenge.keys != keys) {
                return Err(ServiceError::unauthorized("the TPM was not challenged with these keys"));
            }
        }
        Ok((self.authenticate(request, now)?, registration))
    }

    fn check_address(&self, request: &DeviceRequest<'_>) -> Result<(), ServiceError> {
        ids::check_registration_id(request.registration_id).map_err(ServiceError::invalid_registration_id)?;
        if request.id_scope != self.config.id_scope {
            return Err(ServiceError::unauthorized("the request names another ID scope")
                .with_code(self.config.behaviour.unknown_id_scope_code));
        }
        Ok(())
    }

    fn challenge(&self, request: &DeviceRequest<'_>) -> Option<&Challenge> {
        let device = self.devices.get(&request.registration_id.to_ascii_lowercase())?;
        // TPMs are challenged over HTTP and AMQP.
        device.challenge.as_ref().filter(|_| request.credentials.carrier == Carrier::Http)
    }

    /// The key that blocks the other one: "the key used to register is cached for 30 minutes". It was
    /// seen over HTTP only.
    fn last_key(&self, request: &DeviceRequest<'_>, now: Duration) -> Option<&SymmetricKey> {
        let device = self.devices.get(&request.registration_id.to_ascii_lowercase())?;
        let (key, at) = device.last_key.as_ref().filter(|_| request.credentials.carrier == Carrier::Http)?;
        let blocked_for = self.config.behaviour.other_key_blocked_for;
        (now.saturating_sub(*at).as_secs_f64() < blocked_for).then_some(key)
    }
}

fn device<'a>(
    devices: &'a mut HashMap<String, Device>,
    behaviour: &Behaviour,
    registration_id: &str,
) -> Result<&'a mut Device, ServiceError> {
    let key = registration_id.to_ascii_lowercase();
    if !devices.contains_key(&key) && devices.len() >= MAX_DEVICES {
        return Err(throttled(behaviour, "the emulator knows too many devices"));
    }
    Ok(devices.entry(key).or_default())
}

fn answer(
    status: u16,
    operation_id: &str,
    state: &RegistrationState,
    with_state: bool,
    retry_after: Option<u32>,
) -> Answer {
    Answer {
        status,
        body: json(&OperationStatus {
            operation_id,
            status: state.status,
            registration_state: with_state.then_some(state),
        }),
        retry_after,
        error_code: None,
        request_id: None,
        outcome: state.outcome(),
    }
}

/// The state of a device that is disabled.
fn disabled(registration_id: &str, created: &str, behaviour: &Behaviour) -> RegistrationState {
    let state = RegistrationState::new(registration_id, "disabled");
    match behaviour.disabled_answer {
        DisabledAnswer::Stored => state.stored(created),
        DisabledAnswer::Operation => state,
    }
}

fn not_found_as_failed(request: &DeviceRequest<'_>, error: &ServiceError) -> Answer {
    let state = RegistrationState {
        error_code: Some(error.code),
        error_message: Some(error.message.clone()),
        ..RegistrationState::new(request.registration_id, "failed")
    };
    answer(200, "", &state, true, None)
}

fn registration_not_found(registration_id: &str) -> ServiceError {
    ServiceError::not_found("Registration not found", format!("{registration_id} has no such registration"))
}

fn throttled(behaviour: &Behaviour, why: &str) -> ServiceError {
    ServiceError::throttled(behaviour.retry_after, why)
}
