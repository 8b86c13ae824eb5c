//! Registrations. A register request is answered at once, and a task in the background finds the hub of the device.

use std::{sync::Arc, time::SystemTime};

use tokio::task::JoinHandle;

use super::{
    Answer, Service, ServiceError,
    admission::{known_device, read_and_authenticate},
    allocation::{self, Allocated},
    api_version,
    assignment::{assign, put_at_hub, told_substatus},
    attestation::Attested,
    enrollment::Enrollment,
    failure::Failure,
    issuance::CertificateRequest,
    jobs::Stopped,
    operations::disabled,
    request::{Carrier, DeviceRequest},
    webhook::{
        calls::Question,
        request::{AllocationRequest, DeviceRuntimeContext},
    },
};
use crate::{
    clock::wall_time,
    config::{AllocationPolicy, behaviour::DisabledAnswer, settings::Settings},
    identity::ids,
    store::{
        Store,
        device::{Device, LastKey},
        devices::Devices,
        hub_device::Authentication,
        registration_state::{RegistrationState, Status},
        running::Running,
        shared::NotKept,
    },
};

/// The reason if a new registration of the device stopped this one.
const SUPERSEDED: &str = "the device registered again";

/// The start of a registration.
enum Begun {
    /// The registration has already ended.
    Answered(Answer),
    /// A task finds the hub.
    Operation(Box<Job>),
}

/// The input of a registration in the background: a copy of the state at its start.
pub(super) struct Job {
    running: Arc<Running>,
    enrollment: Enrollment,
    settings: Arc<Settings>,
    /// The hub and the device ID that the device has.
    current: Option<(String, String)>,
    offered: Vec<String>,
    certificate_request: Option<CertificateRequest>,
}

impl Job {
    pub(super) fn new(
        settings: &Arc<Settings>,
        device: &Device,
        enrollment: Enrollment,
        certificate_request: Option<CertificateRequest>,
        running: Arc<Running>,
    ) -> Self {
        let current = device.registered().map(|record| (record.assigned_hub.clone(), record.device_id.clone()));
        let current_hub = current.as_ref().map(|(hub, _)| hub.as_str());
        let offered = allocation::offered_hubs(settings, &enrollment, current_hub);
        Self { running, settings: Arc::clone(settings), current, offered, certificate_request, enrollment }
    }
}

/// What a device gets: a hub, and a certificate if the device requested one.
type Granted = (Allocated, Option<Vec<String>>);

impl Service {
    /// Starts a registration.
    pub(crate) async fn register(self: &Arc<Self>, request: &DeviceRequest<'_>) -> Result<Answer, ServiceError> {
        let begun = self.shared.store.change(
            |store| self.begin(store, request),
            |(begun, superseded)| {
                self.jobs.stop(superseded, SUPERSEDED);
                match begun {
                    Begun::Answered(answer) => Err(answer),
                    Begun::Operation(job) => Ok((job.running.operation_id.clone(), self.run(job))),
                }
            },
        )?;
        let (operation_id, task) = match begun {
            Ok(operation) => operation,
            Err(answer) => return Ok(answer),
        };
        if self.settings().behaviour.result_at_once {
            // A registration that was stopped has no result, and the device continues to poll.
            let _ = task.await;
        }
        self.operation_answer(request.registration_id, &operation_id, false)
    }

    /// Lets the device in and starts its registration, or returns the final answer. Also returns the operation ID of
    /// the registration that this one replaces.
    fn begin(&self, store: &mut Store, request: &DeviceRequest<'_>) -> Result<(Begun, Option<String>), ServiceError> {
        let settings = self.settings();
        let behaviour = &settings.behaviour;
        self.admit_registration(behaviour)?;
        let (enrollment, registration) = match read_and_authenticate(&settings, store, request, self.shared.clock) {
            Err(error) if error.code == 404_201 && behaviour.not_found_as_failed => {
                let state = RegistrationState::failed(request.registration_id, error.code, error.message);
                return Ok((Begun::Answered(Answer::operation("", &state)), None));
            }
            other => other?,
        };
        let device = known_device(&settings, store, request.registration_id)?;
        if let Some(key) = enrollment.attested.enrollment_key()
            && request.credentials.carrier == Carrier::Http
        {
            device.last_key = Some(LastKey { key: key.clone(), at: SystemTime::now() });
        }
        device.enrollment = Some((enrollment.kind, enrollment.id.clone()));
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
            let outcome = format!("disabled by enrollment {}", enrollment.id);
            let answer = Answer { outcome, ..Answer::operation(operation_id, &disabled) };
            return Ok((Begun::Answered(answer), device.end(disabled)));
        }
        if behaviour.refuse_concurrent_registration && device.running().is_some() {
            return Err(ServiceError::concurrent_registration());
        }
        let has_policy = enrollment.certificate_policy.is_some();
        let csr = registration.csr.filter(|_| api_version::has_csr(request.api_version));
        let certificate_request =
            CertificateRequest::wanted(csr.as_deref(), request.registration_id, has_policy, behaviour)?;

        let running = Arc::new(Running {
            operation_id,
            registration_id: request.registration_id.to_owned(),
            enrollment: (enrollment.kind, enrollment.id.clone()),
            attested: enrollment.attested.clone(),
            // "It must be a JSON object; other types are not delivered."
            payload: registration.payload.filter(|payload| payload.get().starts_with('{')),
            csr: csr.filter(|_| certificate_request.is_some()),
            has_reprovisioned: api_version::has_reprovisioned(request.api_version),
            created: wall_time::now(),
        });
        let job = Job::new(&settings, device, enrollment, certificate_request, Arc::clone(&running));
        Ok((Begun::Operation(Box::new(job)), device.begin(running)))
    }

    /// Runs a registration in the background until the device has its hub.
    pub(super) fn run(self: &Arc<Self>, job: Box<Job>) -> JoinHandle<()> {
        let stopped = self.jobs.start(&job.running.operation_id);
        let service = Arc::clone(self);
        tokio::spawn(async move {
            // A registration that was stopped has no result.
            if let Some(result) = service.allocate(&job, &stopped).await {
                let granted = result.and_then(|allocated| {
                    allocation::check_access(&allocated.hub, &job.settings.behaviour)?;
                    Ok((allocated, service.issue(&job)?))
                });
                service.finish(&job, granted);
            }
            service.jobs.end(&job.running.operation_id);
        })
    }

    /// Finds a hub, with as many webhook calls as needed. Returns `None` if the registration was stopped.
    async fn allocate(&self, job: &Job, stopped: &Stopped) -> Option<Result<Allocated, Failure>> {
        let (enrollment, running) = (&job.enrollment, &*job.running);
        if enrollment.allocation.policy != AllocationPolicy::Custom {
            return Some(allocation::choose(enrollment.allocation.policy, &running.registration_id, &job.offered));
        }
        let urls = [&enrollment.allocation.webhook_url, &job.settings.webhook_url, &self.contoso_url];
        let Some(url) = urls.into_iter().find_map(Option::as_deref) else {
            return Some(Err(Failure::unreachable("the enrollment has no webhook")));
        };
        let behaviour = &job.settings.behaviour;
        let context = DeviceRuntimeContext::new(
            &running.registration_id,
            &running.attested,
            job.current.as_ref(),
            running.payload.as_deref(),
        );
        let request = AllocationRequest::new(enrollment, url, context, &job.offered, behaviour.omit_unset_members);
        let question = Question {
            url,
            registration_id: &running.registration_id,
            body: request.to_json(),
            offered: &job.offered,
            behaviour,
            stopped,
        };
        self.webhooks.ask(&question).await
    }

    /// Issues the certificate that the device requested.
    fn issue(&self, job: &Job) -> Result<Option<Vec<String>>, Failure> {
        let Some(request) = &job.certificate_request else {
            return Ok(None);
        };
        let mut chain = self.issuing_ca.issue(request).map_err(|error| Failure::not_issued(&error.to_string()))?;
        if job.settings.behaviour.issued_chain_root_first {
            chain.reverse();
        }
        Ok(Some(chain))
    }

    /// Puts the device at its hub, unless the registration was stopped.
    fn finish(&self, job: &Job, granted: Result<Granted, Failure>) {
        let running = &job.running;
        let finished = self.change(|store| {
            let devices = &mut store.devices;
            let take = |device: &mut Device| device.take_running(&running.operation_id);
            if devices.get_mut(&running.registration_id).is_some_and(take) {
                let state = assigned(job, devices, granted).unwrap_or_else(|Failure { code, message }| {
                    RegistrationState::failed(&running.registration_id, code, message)
                });
                devices.finish(&running.registration_id, &running.operation_id, state.stored(&running.created));
            }
            Ok::<_, NotKept>(())
        });
        // The registration stays in the store and continues after the next start.
        if let Err(NotKept(why)) = finished {
            self.shared.journal.note("data", format!("{}: the result was not written: {why}", running.registration_id));
        }
    }
}

/// Puts the device at its hub. Returns the state for the device.
fn assigned(job: &Job, devices: &mut Devices, granted: Result<Granted, Failure>) -> Result<RegistrationState, Failure> {
    let (allocated, issued_certificate_chain) = granted?;
    let running = &job.running;
    let (enrollment, behaviour) = (&job.enrollment, &job.settings.behaviour);
    let payload = allocated.payload.clone();
    let current = devices.get(&running.registration_id).and_then(Device::registered);
    let record = assign(current, &running.registration_id, enrollment, allocated)?;
    let resource = format!("{}/devices/{}", ids::hub_host(&record.assigned_hub), record.device_id);
    let has_reprovisioned = running.has_reprovisioned || !behaviour.substatus_by_api_version;
    // This cannot fail: the challenge was encrypted for the same TPM.
    let (tpm_key, authentication_key) = match &running.attested {
        Attested::Tpm(keys) => keys.new_key(&resource).ok().unzip(),
        _ => (None, None),
    };
    let authentication = match tpm_key {
        Some(key) => Authentication::Keys { primary: key.into(), secondary: None },
        None => enrollment.authentication.clone(),
    };
    let with_info = behaviour.certificate_info_in_result;
    let state = RegistrationState {
        attestation: running.attested.result(enrollment.group(), with_info, authentication_key),
        assigned_hub: Some(record.assigned_hub.clone()),
        device_id: Some(record.device_id.clone()),
        substatus: Some(told_substatus(record.substatus, has_reprovisioned)),
        payload,
        issued_certificate_chain,
        ..RegistrationState::new(&running.registration_id, Status::Assigned)
    };
    put_at_hub(devices, record, authentication).map_err(|_| Failure::too_many_twins())?;
    Ok(state)
}
