//! Registrations: they are answered at once, and go on in the background until the device has its hub.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use super::{
    Answer, Service, ServiceError,
    admission::{known_device, read_and_authenticate},
    allocation::{self, Allocated},
    api_version,
    assignment::{assign, told_substatus},
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
        devices::{Device, Devices, Running},
        registration_state::{RegistrationState, Status},
    },
};

/// Why a registration no longer counts.
const SUPERSEDED: &str = "the device registered again";

/// How a registration began.
enum Begun {
    /// It is over already.
    Answered(Answer),
    /// It has an operation, for which this task finds a hub.
    Operation(String, JoinHandle<()>),
}

/// What a registration in the background works on: the state of things when the device registered.
struct Job {
    operation_id: String,
    registration_id: String,
    enrollment: Enrollment,
    settings: Arc<Settings>,
    /// The hub and the device ID that the device has.
    current: Option<(String, String)>,
    offered: Vec<String>,
    payload: Option<Box<RawValue>>,
    certificate_request: Option<CertificateRequest>,
    /// Whether the device's api-version has `reprovisionedToInitialAssignment`.
    has_reprovisioned: bool,
    created: String,
    stopped: Stopped,
}

/// What a device gets: a hub, and a certificate if it asked for one.
type Granted = (Allocated, Option<Vec<String>>);

impl Service {
    /// Starts a registration.
    pub(crate) async fn register(self: &Arc<Self>, request: &DeviceRequest<'_>) -> Result<Answer, ServiceError> {
        let (operation_id, task) = match self.begin(request)? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Operation(operation_id, task) => (operation_id, task),
        };
        if self.settings().behaviour.result_at_once {
            // A registration that was stopped leaves no result, and the device polls on.
            let _ = task.await;
        }
        self.operation_answer(request.registration_id, &operation_id, false)
    }

    /// Lets the device in and starts its registration, or answers at once why not.
    fn begin(self: &Arc<Self>, request: &DeviceRequest<'_>) -> Result<Begun, ServiceError> {
        let mut store = self.store();
        let settings = self.settings();
        let behaviour = &settings.behaviour;
        self.admit_registration(behaviour)?;
        let (enrollment, registration) =
            match read_and_authenticate(&settings, &mut store, request, self.clock.elapsed()) {
                Err(error) if error.code == 404_201 && behaviour.not_found_as_failed => {
                    let state = RegistrationState::failed(request.registration_id, error.code, error.message);
                    return Ok(Begun::Answered(Answer::operation("", &state)));
                }
                other => other?,
            };
        let device = known_device(&settings, &mut store, request.registration_id)?;
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
            let outcome = format!("disabled by enrollment {}", enrollment.id);
            let answer = Answer { outcome, ..Answer::operation(operation_id, &disabled) };
            self.jobs.stop(device.end(disabled), SUPERSEDED);
            return Ok(Begun::Answered(answer));
        }
        if behaviour.refuse_concurrent_registration && device.running().is_some() {
            return Err(ServiceError::concurrent_registration());
        }
        let has_policy = enrollment.certificate_policy.is_some();
        let csr = registration.csr.as_deref().filter(|_| api_version::has_csr(request.api_version));
        let certificate_request = CertificateRequest::wanted(csr, request.registration_id, has_policy, behaviour)?;

        let running = Running {
            operation_id: operation_id.clone(),
            registration_id: request.registration_id.to_owned(),
            enrollment: (enrollment.kind, enrollment.id.clone()),
            created: wall_time::now(),
        };
        let current = device.record().map(|record| (record.assigned_hub.clone(), record.device_id.clone()));
        let current_hub = current.as_ref().map(|(hub, _)| hub.as_str());
        let job = Job {
            operation_id: operation_id.clone(),
            registration_id: request.registration_id.to_owned(),
            offered: allocation::offered_hubs(&settings, &enrollment, current_hub),
            // "It must be a JSON object; other types are not delivered."
            payload: registration.payload.filter(|payload| payload.get().starts_with('{')),
            certificate_request,
            has_reprovisioned: api_version::has_reprovisioned(request.api_version),
            created: running.created.clone(),
            stopped: self.jobs.start(&operation_id),
            current,
            settings: Arc::clone(&settings),
            enrollment,
        };
        self.jobs.stop(device.begin(running), SUPERSEDED);
        let service = Arc::clone(self);
        let task = tokio::spawn(async move {
            // A registration that was stopped has no result.
            if let Some(result) = service.allocate(&job).await {
                let granted = result.and_then(|allocated| {
                    allocation::check_access(&allocated.hub, &job.settings.behaviour)?;
                    Ok((allocated, service.issue(&job)?))
                });
                service.finish(&job, granted);
            }
            service.jobs.end(&job.operation_id);
        });
        Ok(Begun::Operation(operation_id, task))
    }

    /// Finds a hub, asking the webhook as often as it takes. `None`: the registration was stopped.
    async fn allocate(&self, job: &Job) -> Option<Result<Allocated, Failure>> {
        let enrollment = &job.enrollment;
        if enrollment.allocation.policy != AllocationPolicy::Custom {
            return Some(allocation::choose(enrollment.allocation.policy, &job.registration_id, &job.offered));
        }
        let urls = [&enrollment.allocation.webhook_url, &job.settings.webhook_url, &self.contoso_url];
        let Some(url) = urls.into_iter().find_map(Option::as_deref) else {
            return Some(Err(Failure::unreachable("the enrollment names no webhook")));
        };
        let behaviour = &job.settings.behaviour;
        let context = DeviceRuntimeContext::new(
            &job.registration_id,
            &enrollment.attested,
            job.current.as_ref(),
            job.payload.as_deref(),
        );
        let request = AllocationRequest::new(enrollment, url, context, &job.offered, behaviour.omit_unset_members);
        let question = Question {
            url,
            registration_id: &job.registration_id,
            body: request.to_json(),
            offered: &job.offered,
            behaviour,
            stopped: &job.stopped,
        };
        self.webhooks.ask(&question).await
    }

    /// Issues the certificate that the device asked for.
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

    /// Puts the device at its hub, unless the registration no longer counts.
    fn finish(&self, job: &Job, granted: Result<Granted, Failure>) {
        let mut store = self.store();
        let devices = &mut store.devices;
        let counts = devices.get_mut(&job.registration_id).is_some_and(|device| device.take_running(&job.operation_id));
        if counts {
            let state = assigned(job, devices, granted).unwrap_or_else(|Failure { code, message }| {
                RegistrationState::failed(&job.registration_id, code, message)
            });
            devices.finish(&job.registration_id, &job.operation_id, state.stored(&job.created));
        }
    }
}

/// Puts the device at its hub. Returns the state that it is told.
fn assigned(job: &Job, devices: &mut Devices, granted: Result<Granted, Failure>) -> Result<RegistrationState, Failure> {
    let (allocated, issued_certificate_chain) = granted?;
    let (enrollment, behaviour) = (&job.enrollment, &job.settings.behaviour);
    let payload = allocated.payload.clone();
    let current = devices.get(&job.registration_id).and_then(Device::record);
    let record = assign(current, &job.registration_id, enrollment, allocated);
    let resource = format!("{}/devices/{}", ids::hub_host(&record.assigned_hub), record.device_id);
    let has_reprovisioned = job.has_reprovisioned || !behaviour.substatus_by_api_version;
    let state = RegistrationState {
        attestation: enrollment.attested.result(enrollment.group(), behaviour.certificate_info_in_result, &resource),
        assigned_hub: Some(record.assigned_hub.clone()),
        device_id: Some(record.device_id.clone()),
        substatus: Some(told_substatus(record.substatus, has_reprovisioned)),
        payload,
        issued_certificate_chain,
        ..RegistrationState::new(&job.registration_id, Status::Assigned)
    };
    devices.assign(record).map_err(|_| Failure::too_many_twins())?;
    Ok(state)
}
