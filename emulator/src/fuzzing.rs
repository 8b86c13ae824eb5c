//! Entry points for `fuzz/`: the service behind streams and requests of the fuzzer, without sockets, TLS and threads.
//! They exist only in builds for fuzzing and are not part of the public API.

pub mod hub;

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    clock::Clock,
    config::{Behaviour, Config},
    doors::{
        control::{Control, guard::Guard},
        http::HttpApi,
        mqtt::Mqtt,
    },
    hub::{Hub, activity::TelemetryMessage, shared::Shared},
    net::{
        http::Http,
        protocol::{Peer, Protocol},
    },
    service::{
        self, Answer,
        issuance::IssuingCa,
        request::{Carrier, Credentials, DeviceRequest},
        script::Operation,
        trust::Trust,
        webhook::{
            allowed::AllowedHosts,
            response::{HttpAnswer, Verdict, judge},
        },
    },
    store::{
        device::DeviceRecord,
        registration_state::{RegistrationState, Status},
    },
    watch::{journal::Journal, records::Event},
};

/// The service, on the runtime of the caller.
pub struct Service {
    service: Arc<service::Service>,
    hub: Arc<Hub>,
    control: Arc<Control>,
    /// The control API with [`CONTROL_TOKEN`].
    guarded_control: Arc<Control>,
}

/// The token of [`Service::guarded_control`].
pub const CONTROL_TOKEN: &str = "control-token-of-the-seeds";
/// The port of the control API.
pub const CONTROL_PORT: u16 = 8090;
/// The other host of the control API, with any port.
pub const CONTROL_HOST: &str = "emulator.test";

/// A request after TLS and framing.
pub struct Request<'a> {
    pub operation: Operation,
    /// The operation ID of a poll.
    pub operation_id: &'a str,
    pub id_scope: &'a str,
    pub registration_id: &'a str,
    pub authorization: Option<&'a str>,
    pub certificates: &'a [CertificateDer<'static>],
    /// The time in seconds since 1970.
    pub shown_at: u64,
    pub body: &'a [u8],
}

impl Service {
    /// Creates the service.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is not valid, or if no CA can be created.
    pub fn new(config: Config) -> Result<Self, Box<dyn std::error::Error>> {
        config.check()?;
        let issuing_ca = IssuingCa::generate()?;
        let clock = Clock::new(1.0);
        let trust = Trust { owner_key: None, is_local: true, webhook_hosts: AllowedHosts::default() };
        let journal = Arc::new(Journal::new(clock, None, true));
        let activity = Arc::default();
        let watchers = service::views::teller(&journal, &activity);
        let shared = Shared::open(config.clone(), clock, journal, None, activity, watchers)
            .map_err(|error| error.to_string())?;
        let shared = Arc::new(shared);
        let hub = Arc::new(Hub::new(Arc::clone(&shared), issuing_ca.certificate()?));
        let service = Arc::new(service::Service::new(shared, config, None, issuing_ca, trust));
        let control = |token| -> Result<_, String> {
            let guard = Guard::new(([127, 0, 0, 1], CONTROL_PORT).into(), &[CONTROL_HOST.to_owned()], token)?;
            Ok(Arc::new(Control::new(Arc::clone(&service), Arc::clone(&hub), Vec::new(), guard)))
        };
        Ok(Self { control: control(None)?, guarded_control: control(Some(CONTROL_TOKEN))?, service, hub })
    }

    /// Serves one connection to the HTTP listener until it ends.
    pub async fn http(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let api = Http(Arc::new(HttpApi::new(Arc::clone(&self.service), Arc::clone(&self.hub), "http")));
        let _ = api.speak(stream, Peer::default()).await;
    }

    /// Serves one connection to the MQTT listener until it ends.
    pub async fn mqtt(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let api = Mqtt { service: Arc::clone(&self.service), hub: Arc::clone(&self.hub), listener: "mqtt" };
        let _ = api.speak(stream, Peer::default()).await;
    }

    /// Serves one connection to the control listener until it ends.
    pub async fn control(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let _ = Http(Arc::clone(&self.control)).speak(stream, Peer::default()).await;
    }

    /// Serves one connection to a control listener with a token until it ends.
    pub async fn guarded_control(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let _ = Http(Arc::clone(&self.guarded_control)).speak(stream, Peer::default()).await;
    }

    /// Records a message of a connected device to its hub. The message also has the body as a property.
    pub fn telemetry(&self, registration_id: &str, body: &[u8]) {
        let properties = vec![("a".to_owned(), String::from_utf8_lossy(body).into_owned())];
        let activity = self.hub.activity();
        activity.connected(registration_id, 1);
        activity.received(registration_id, TelemetryMessage::new(properties, body.to_vec()));
    }

    /// Checks the enrollments and settings against the rules of a configuration.
    ///
    /// # Errors
    ///
    /// Returns an error if they violate a rule.
    pub fn check(&self) -> Result<(), Box<dyn std::error::Error>> {
        self.service.update(|_| ()).map_err(|error| error.to_string().into())
    }

    /// Returns the records of requests and webhook calls, in every form that programs and people see.
    pub fn records(&self) -> Vec<String> {
        let journal = self.service.journal();
        let requests = journal.requests().into_iter().map(Event::Request);
        let events = requests.chain(journal.webhook_calls().into_iter().map(Event::Webhook));
        events.map(|event| format!("{event} {event:?} {}", serde_json::to_string(&event).unwrap_or_default())).collect()
    }

    /// Restores the initial state.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be written. It is in memory, so this does not happen.
    pub fn reset(&self) -> Result<(), Box<dyn std::error::Error>> {
        self.service.reset().map_err(|_| "the store cannot be written".into())
    }

    /// Processes one request. Returns the status and the body of its answer.
    pub async fn answer(&self, request: &Request<'_>) -> (u16, String) {
        let device_request = DeviceRequest {
            id_scope: request.id_scope,
            registration_id: request.registration_id,
            credentials: Credentials {
                authorization: request.authorization,
                certificates: request.certificates,
                shown_at: request.shown_at,
                carrier: Carrier::Http,
            },
            api_version: "2026-11-01",
            body: request.body,
        };
        let answer = match request.operation {
            Operation::Register => self.service.register(&device_request).await,
            Operation::Status => self.service.operation_status(&device_request, request.operation_id),
            _ => self.service.look_up(&device_request),
        };
        let answer = answer.unwrap_or_else(|error| Answer::refusal(&error, &self.service.settings().behaviour));
        (answer.status, answer.body)
    }

    /// Sets another configuration, as [`Emulator::update`](crate::Emulator::update) does.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is not valid.
    pub fn update(&self, config: Config) -> Result<(), Box<dyn std::error::Error>> {
        self.service.update(|current| *current = config).map_err(|error| error.to_string().into())
    }

    /// Forgets everything. Returns the devices that had a hub.
    pub fn forget(&self) -> Vec<DeviceRecord> {
        self.service.forget()
    }
}

/// Returns the result of a webhook's answer: the hub and the body of the answer to the device. Returns `None` if the
/// webhook would be called again.
pub fn webhook_answer(status: u16, body: &[u8], offered: &[String]) -> Option<(Option<String>, String)> {
    let answer = HttpAnswer { status, body: body.to_vec() };
    let allocated = match judge(&answer, offered, &Behaviour::default(), &[]).verdict {
        Verdict::Allocated(allocated) => Ok(allocated),
        Verdict::Failed(failure) => Err(failure),
        Verdict::TryAgain(_) => return None,
    };
    let state = match allocated {
        Ok(allocated) => RegistrationState {
            assigned_hub: Some(allocated.hub),
            device_id: Some("d".to_owned()),
            payload: allocated.payload,
            ..RegistrationState::new("d", Status::Assigned)
        },
        Err(failure) => RegistrationState::failed("d", failure.code, failure.message),
    };
    let answer = Answer::operation("5", &state);
    Some((state.assigned_hub, answer.body))
}
