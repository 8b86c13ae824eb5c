//! The device side of a hub over MQTT: topics, answers and notifications.

use std::sync::Arc;

use hyper::body::Bytes;
use mqtt_proto::{
    QoS,
    v3::{ConnectReturnCode, LastWill, Publish},
};
use tokio::time::Duration;

use super::{
    connect::{Greeting, HubUser, Refusal},
    hub_topics::{self, Properties, Topic},
    session::{self, Exchange, Granted, Reply, Side, UnknownFilter},
};
use crate::{
    hub::{
        Hub,
        activity::TelemetryMessage,
        admission::{HubConnect, RefusalAnswer},
        error::HubError,
        live::Order,
        sessions::{Opened, Session},
    },
    service::{
        Answer, MAX_BODY, Service,
        script::{Action, Operation},
    },
    store::hub_device::{Filter, Filters},
    watch::{journal::Journal, records::RequestRecord},
};

/// "The max keep alive that the service accepts is 29.45 minutes (1767 seconds)". A client that is silent for longer
/// is disconnected.
const MAX_SILENCE: Duration = Duration::from_secs(1767);

/// The limit of hubs is 256 KB, properties included.
const MAX_MESSAGE: usize = 256 * 1024;

/// A session of a device with its hub.
pub(super) struct HubSide<'a> {
    service: &'a Arc<Service>,
    hub: &'a Hub,
    listener: &'static str,
    session: Session,
    authorization: bool,
    silence: Duration,
    has_api_version: bool,
    /// The will: telemetry that is sent if the connection ends without DISCONNECT.
    will: Option<(Properties, Bytes)>,
}

/// A device whose CONNECT was accepted.
pub(super) struct Entered<'a> {
    pub(super) side: HubSide<'a>,
    /// The subscriptions of the device.
    pub(super) granted: Granted<Filter>,
    /// `true` if the hub kept a session of this device.
    pub(super) was_kept: bool,
}

impl<'a> HubSide<'a> {
    /// Accepts a device.
    pub(super) fn let_in(
        service: &'a Arc<Service>,
        hub: &'a Hub,
        listener: &'static str,
        user: &HubUser<'_>,
        greeting: &Greeting,
    ) -> Result<Entered<'a>, Refusal> {
        let will = greeting.will.as_ref().map(|will| read_will(will, user.device_id)).transpose();
        let will = will.map_err(|why| {
            Refusal::new(ConnectReturnCode::NotAuthorized, format!("the will is not telemetry of the device: {why}"))
        })?;
        let connect = HubConnect {
            hub: user.hub,
            device_id: user.device_id,
            module_id: user.module_id,
            client_id: &greeting.client_id,
            password: greeting.password.as_deref(),
            certificates: &greeting.peer.certificates,
            server_name: greeting.peer.server_name.as_deref(),
            shown_at: greeting.at,
        };
        let opened = hub.admit(&connect).and_then(|admitted| hub.open(admitted, greeting.clean_session));
        let Opened { session, was_kept, filters } = opened.map_err(|refused| {
            let code = match refused.answer {
                RefusalAnswer::NotAuthorized => ConnectReturnCode::NotAuthorized,
                RefusalAnswer::Unavailable => ConnectReturnCode::ServerUnavailable,
            };
            Refusal { code, why: refused.why, registration_id: refused.registration_id }
        })?;
        let side = Self {
            service,
            hub,
            listener,
            session,
            authorization: greeting.has_password,
            silence: greeting.silence().map_or(MAX_SILENCE, |silence| silence.min(MAX_SILENCE)),
            has_api_version: user.api_version.is_some(),
            will: will.zip(greeting.will.as_ref().map(|will| will.message.clone())),
        };
        let qos = |qos| if qos == 0 { QoS::Level0 } else { QoS::Level1 };
        let granted = filters.into_iter().map(|(filter, granted)| (filter, qos(granted))).collect();
        Ok(Entered { side, granted, was_kept })
    }

    pub(super) fn registration_id(&self) -> &str {
        &self.session.admitted.registration_id
    }

    /// Sends the will as telemetry, if there is a will. Called if the connection ended without DISCONNECT.
    pub(super) fn send_will(&mut self) {
        let Some((properties, body)) = self.will.take() else { return };
        let mut record = self.record("PUBLISH");
        record.body = text(&body);
        let message = TelemetryMessage::new(properties, body.to_vec());
        record.outcome = match self.hub.accept(&self.session, message) {
            Ok(()) => "the will was accepted as telemetry: the device left without DISCONNECT".to_owned(),
            Err(why) => format!("the will was not accepted: {why}"),
        };
        self.journal().record_telemetry(record);
    }

    /// Answers a request about the twin. If the reported properties changed, also returns their new `$version`.
    fn ask(&self, operation: Operation, body: &[u8]) -> Result<(Answer, Option<u64>), HubError> {
        if !self.has_api_version {
            // Seen in andriyadi/AzureIoTHubMQTTClient PR#5.
            let why = "the user name of CONNECT has no api-version, but twin requests need one";
            return Err(HubError::Limit(why.to_owned()));
        }
        if operation == Operation::TwinReport {
            let version = self.hub.report(&self.session.admitted, body)?;
            let outcome = format!("reported, $version {version}");
            return Ok((Answer::of_service(204, String::new(), &outcome), Some(version)));
        }
        // The body is ignored, because some clients send a space.
        let document = self.hub.twin_document(&self.session.admitted)?;
        Ok((Answer::of_service(200, document, "the twin"), None))
    }

    async fn twin(
        &self,
        operation: Operation,
        request_id: &str,
        body: &[u8],
        record: RequestRecord,
    ) -> Exchange<Filter> {
        let script = self.service.take_script(operation, self.registration_id());
        let mut version = None;
        let ask = async {
            Ok(match self.ask(operation, body) {
                Ok((answer, new_version)) => {
                    version = new_version;
                    answer
                }
                Err(error) => Answer::of_service(error.status(), error.body(), &error.to_string()),
            })
        };
        let (answer, action) = self.service.perform(script, ask).await;
        let is_permuted = matches!(action, Action::PermuteTopic);
        let topic = hub_topics::twin_answer(answer.status, request_id, version, is_permuted);
        Exchange { record, action, reply: Reply::Message { filter: Filter::TwinAnswers, topic, answer } }
    }

    async fn telemetry(
        &self,
        mut properties: Properties,
        publish: Publish,
        mut record: RequestRecord,
    ) -> Exchange<Filter> {
        let script = self.service.take_script(Operation::Telemetry, &self.session.admitted.registration_id);
        if let Some(script) = &script {
            self.service.clock().sleep(script.delay).await;
        }
        if publish.retain {
            retain(&mut properties);
        }
        let outcome = format!("telemetry: {} bytes, {} properties", publish.payload.len(), properties.len());
        let message = TelemetryMessage::new(properties, publish.payload.to_vec());
        let accepted = self.hub.accept(&self.session, message);
        let pid = publish.qos_pid.pid().filter(|_| accepted.is_ok());
        record.outcome = accepted.map_or_else(|why| format!("not accepted: {why}"), |()| outcome);
        let action = script.map_or(Action::Nothing, |script| script.action);
        Exchange { record, action, reply: Reply::Acknowledgement(pid) }
    }
}

impl Side for HubSide<'_> {
    type Route = Topic;
    type Filter = Filter;

    /// All clients accept QoS 0, for any QoS in their subscription.
    const MAX_QOS: QoS = QoS::Level0;

    fn journal(&self) -> &Journal {
        self.service.journal()
    }

    fn record(&self, method: &str) -> RequestRecord {
        let admitted = &self.session.admitted;
        RequestRecord {
            authorization: self.authorization,
            registration_id: Some(admitted.registration_id.clone()),
            hub: Some(admitted.hub.clone()),
            ..RequestRecord::new(self.listener, method)
        }
    }

    fn silence(&self) -> Option<Duration> {
        Some(self.silence)
    }

    fn filter(&self, filter: &str) -> Result<Filter, UnknownFilter> {
        hub_topics::filter(filter, &self.session.admitted.device_id).map_err(UnknownFilter::Dropped)
    }

    fn subscribed(&self, granted: &Granted<Filter>) -> Result<(), String> {
        let filters: Filters = granted.iter().map(|(filter, qos)| (*filter, *qos as u8)).collect();
        self.hub.keep(&self.session, &filters).map_err(|not_kept| not_kept.0)
    }

    fn route(&self, publish: &Publish) -> Result<Topic, String> {
        let topic = Topic::read(&publish.topic_name, &self.session.admitted.device_id)?;
        if let Topic::Telemetry(properties) = &topic {
            check_size(properties, &publish.payload)?;
        }
        Ok(topic)
    }

    fn acknowledges_first(topic: &Topic) -> bool {
        !matches!(topic, Topic::Telemetry(_))
    }

    async fn carry_out(&self, topic: Topic, publish: Publish) -> Exchange<Filter> {
        let mut record = self.record(match topic {
            Topic::TwinGet { .. } => "GET",
            Topic::Report { .. } => "PATCH",
            Topic::Telemetry(_) | Topic::MethodAnswer => "PUBLISH",
        });
        record.path = publish.topic_name.to_string();
        record.body = text(&publish.payload);
        match topic {
            Topic::TwinGet { request_id } => self.twin(Operation::TwinGet, &request_id, &publish.payload, record).await,
            Topic::Report { request_id } => {
                self.twin(Operation::TwinReport, &request_id, &publish.payload, record).await
            }
            Topic::Telemetry(properties) => self.telemetry(properties, publish, record).await,
            Topic::MethodAnswer => {
                record.outcome = "an answer to a direct method; the emulator calls no methods".to_owned();
                Exchange { record, action: Action::Nothing, reply: Reply::Acknowledgement(None) }
            }
        }
    }

    async fn order(&self) -> session::Order<Filter> {
        match self.session.order().await {
            Order::Close(why) => session::Order::Close(why),
            Order::Desired { patch, version } => {
                let topic = hub_topics::desired_change(version);
                let outcome = format!("desired properties changed, $version {version}");
                session::Order::Send { filter: Filter::DesiredChanges, topic, body: patch, outcome }
            }
        }
    }
}

/// "If a device app sends a message with the RETAIN flag, IoT Hub adds the property mqtt-retain."
fn retain(properties: &mut Properties) {
    properties.push(("mqtt-retain".to_owned(), "true".to_owned()));
}

/// Reads the properties of a will that is telemetry.
fn read_will(will: &LastWill, device_id: &str) -> Result<Properties, String> {
    let Topic::Telemetry(mut properties) = Topic::read(&will.topic_name, device_id)? else {
        return Err("its topic is not devices/{deviceId}/messages/events/…".to_owned());
    };
    if will.qos == QoS::Level2 {
        return Err("it has QoS 2".to_owned());
    }
    check_size(&properties, &will.message)?;
    properties.push(("iothub-MessageType".to_owned(), "Will".to_owned()));
    if will.retain {
        retain(&mut properties);
    }
    Ok(properties)
}

fn check_size(properties: &Properties, body: &[u8]) -> Result<(), String> {
    let size = body.len() + properties.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if size <= MAX_MESSAGE {
        Ok(())
    } else {
        Err(format!("a message of {size} bytes; a hub accepts at most {MAX_MESSAGE}"))
    }
}

/// Returns the body for the record. Only the length of a very long body is returned.
fn text(body: &[u8]) -> String {
    if body.len() <= MAX_BODY { String::from_utf8_lossy(body).into_owned() } else { String::new() }
}
