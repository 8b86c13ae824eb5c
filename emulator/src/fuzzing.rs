//! The doors for `fuzz/`: the real service behind streams and requests of the caller's, without
//! sockets, TLS and threads. They are there in builds for fuzzing alone, and no part of the public API.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    clock::Clock,
    config::{Behaviour, Config, ConfigError},
    doors::{device_mqtt::DeviceMqtt, http::HttpApi},
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
        devices::DeviceRecord,
        registration_state::{RegistrationState, Status},
    },
    watch::journal::Journal,
};

/// The service, on whatever runtime it is called.
pub struct Service(Arc<service::Service>);

/// A request after TLS and framing.
pub struct Request<'a> {
    pub operation: Operation,
    /// Of a poll.
    pub operation_id: &'a str,
    pub id_scope: &'a str,
    pub registration_id: &'a str,
    pub authorization: Option<&'a str>,
    pub certificates: &'a [CertificateDer<'static>],
    /// Seconds since 1970.
    pub shown_at: u64,
    pub body: &'a [u8],
}

impl Service {
    /// # Errors
    ///
    /// When the configuration cannot be used, or no CA can be made.
    pub fn new(config: Config) -> Result<Self, Box<dyn std::error::Error>> {
        config.check()?;
        let issuing_ca = IssuingCa::generate()?;
        let clock = Clock::new(1.0);
        let trust = Trust { owner_key: None, is_local: true, webhook_hosts: AllowedHosts::default() };
        service::Service::new(config, clock, None, issuing_ca, trust, Journal::new(clock, None, false), None)
            .map(|service| Self(Arc::new(service)))
            .map_err(|error| error.to_string().into())
    }

    /// One connection to the HTTP listener, until it ends.
    pub async fn http(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let api = Http(Arc::new(HttpApi::new(Arc::clone(&self.0), "http")));
        let _ = api.speak(stream, Peer::default()).await;
    }

    /// One connection to the MQTT listener, until it ends.
    pub async fn mqtt(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let api = DeviceMqtt { service: Arc::clone(&self.0), listener: "mqtt" };
        let _ = api.speak(stream, Peer::default()).await;
    }

    /// One request: the status of its answer, and the body.
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
            Operation::Register => self.0.register(&device_request).await,
            Operation::Status => self.0.operation_status(&device_request, request.operation_id),
            Operation::Lookup | Operation::Connect => self.0.look_up(&device_request),
        };
        let answer = answer.unwrap_or_else(|error| Answer::refusal(&error, &self.0.settings().behaviour));
        (answer.status, answer.body)
    }

    /// Takes another configuration, as [`Emulator::update`](crate::Emulator::update) does.
    ///
    /// # Errors
    ///
    /// When it cannot be used.
    pub fn update(&self, config: Config) -> Result<(), Box<dyn std::error::Error>> {
        self.0.update(|current| *current = config).map_err(|error| error.to_string().into())
    }

    /// Begins anew, and tells which devices had a hub.
    pub fn forget(&self) -> Vec<DeviceRecord> {
        self.0.forget()
    }
}

/// What a device is told when the webhook answers this: the hub and the body of its answer. None: the
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
