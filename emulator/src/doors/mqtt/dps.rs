//! The device API of DPS over MQTT: topics and answers.

use std::{borrow::Cow, sync::Arc};

use mqtt_proto::{
    QoS,
    v3::{ConnectReturnCode, Publish},
};
use percent_encoding::percent_decode_str;
use tokio::time::Duration;

use super::{
    connect::{DpsUser, Greeting, Refusal, parameter},
    session::{Exchange, Reply, Side, UnknownFilter},
};
use crate::{
    net::protocol::Peer,
    service::{
        Answer, MAX_BODY, Service, ServiceError, api_version,
        request::{Carrier, Credentials, DeviceRequest},
        script::{Action, Operation},
    },
    watch::{journal::Journal, records::RequestRecord},
};

/// The only filter: DPS "only supports the documented topic names and topic filters".
const FILTER: &str = "$dps/registrations/res/#";

/// The type of the only filter.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Answers;

const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?";
const STATUS: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?";

/// A session of a device with DPS. Each request is authenticated with the credentials of CONNECT.
pub(super) struct Dps<'a> {
    service: &'a Arc<Service>,
    listener: &'static str,
    id_scope: String,
    registration_id: String,
    api_version: String,
    password: Option<String>,
    peer: Peer,
    connected_at: u64,
    silence: Option<Duration>,
}

impl<'a> Dps<'a> {
    /// Accepts a client. Invalid credentials are rejected at the first request, or here with `refuse_at_connect`.
    pub(super) fn let_in(
        service: &'a Arc<Service>,
        listener: &'static str,
        user: &DpsUser<'_>,
        greeting: &Greeting,
    ) -> Result<Self, Refusal> {
        let behaviour = &service.settings().behaviour;
        if behaviour.strict_api_version && !api_version::API_VERSIONS.contains(&user.api_version) {
            return Err(Refusal::malformed("the api-version is unknown"));
        }
        if !greeting.client_id.eq_ignore_ascii_case(user.registration_id) {
            let why = "the client ID is not the registration ID in the user name";
            return Err(Refusal::new(ConnectReturnCode::IdentifierRejected, why));
        }
        let dps = Self {
            service,
            listener,
            id_scope: user.id_scope.to_owned(),
            registration_id: user.registration_id.to_owned(),
            api_version: user.api_version.to_owned(),
            password: greeting.password.clone(),
            peer: greeting.peer.clone(),
            connected_at: greeting.at,
            silence: greeting.silence(),
        };
        if behaviour.refuse_at_connect {
            service
                .authenticate(&dps.request(&[]))
                .map_err(|error| Refusal::new(ConnectReturnCode::NotAuthorized, error.outcome()))?;
        }
        Ok(dps)
    }

    fn request<'b>(&'b self, body: &'b [u8]) -> DeviceRequest<'b> {
        DeviceRequest {
            id_scope: &self.id_scope,
            registration_id: &self.registration_id,
            credentials: Credentials {
                authorization: self.password.as_deref(),
                certificates: &self.peer.certificates,
                // Credentials are checked for the time of CONNECT. A token that expires later does not end the session.
                shown_at: self.connected_at,
                carrier: Carrier::Mqtt,
            },
            api_version: &self.api_version,
            body,
        }
    }

    async fn ask(&self, route: &Route, body: &[u8]) -> Result<Answer, ServiceError> {
        if body.len() > MAX_BODY {
            return Err(ServiceError::too_large(MAX_BODY));
        }
        match &route.operation_id {
            None => self.service.register(&self.request(body)).await,
            // The body of a poll is ignored, because some clients send a space.
            Some(operation_id) => self.service.operation_status(&self.request(&[]), operation_id),
        }
    }
}

impl Side for Dps<'_> {
    type Route = Route;
    type Filter = Answers;

    const MAX_QOS: QoS = QoS::Level1;

    fn journal(&self) -> &Journal {
        self.service.journal()
    }

    fn record(&self, method: &str) -> RequestRecord {
        RequestRecord {
            authorization: self.password.is_some(),
            registration_id: Some(self.registration_id.clone()),
            ..RequestRecord::new(self.listener, method)
        }
    }

    fn silence(&self) -> Option<Duration> {
        self.silence
    }

    fn filter(&self, filter: &str) -> Result<Answers, UnknownFilter> {
        if filter == FILTER { Ok(Answers) } else { Err(UnknownFilter::Refused(format!("the only filter is {FILTER}"))) }
    }

    fn route(&self, publish: &Publish) -> Result<Route, String> {
        let why = || format!("a message to {:?}: DPS has no such topic", &*publish.topic_name);
        Route::parse(&publish.topic_name).ok_or_else(why)
    }

    fn acknowledges_first(_: &Route) -> bool {
        true
    }

    async fn carry_out(&self, route: Route, publish: Publish) -> Exchange<Answers> {
        let mut record = self.record(route.method());
        record.path = publish.topic_name.to_string();
        let body = &publish.payload;
        if body.len() <= MAX_BODY {
            record.body = String::from_utf8_lossy(body).into_owned();
        }
        let script = self.service.take_script(route.operation, &self.registration_id);
        let (answer, action) = self.service.perform(script, self.ask(&route, body)).await;
        let permuted = matches!(action, Action::PermuteTopic);
        let topic = response_topic(&answer, &route.request_id, permuted);
        Exchange { record, action, reply: Reply::Message { filter: Answers, topic, answer } }
    }
}

/// The request that a topic names.
pub(super) struct Route {
    operation: Operation,
    request_id: String,
    /// The operation ID of a poll. `None` for a register.
    operation_id: Option<String>,
}

impl Route {
    /// Reads a topic. The parameters may come in any order, and the request ID may be any text.
    fn parse(topic: &str) -> Option<Self> {
        let (operation, query) = if let Some(query) = topic.strip_prefix(REGISTER) {
            (Operation::Register, query)
        } else {
            (Operation::Status, topic.strip_prefix(STATUS)?)
        };
        let decode = |value| percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned);
        Some(Self {
            operation,
            request_id: parameter(query, "$rid")?.to_owned(),
            operation_id: match operation {
                Operation::Register => None,
                _ => Some(parameter(query, "operationId").and_then(decode)?),
            },
        })
    }

    fn method(&self) -> &'static str {
        if self.operation_id.is_none() { "PUT" } else { "GET" }
    }
}

/// Returns `$dps/registrations/res/{status}/?$rid={rid}&retry-after={seconds}`.
fn response_topic(answer: &Answer, request_id: &str, permuted: bool) -> String {
    let mut query = vec![format!("$rid={request_id}")];
    query.extend(answer.retry_after.map(|seconds| format!("retry-after={seconds}")));
    if permuted {
        query.reverse();
    }
    format!("$dps/registrations/res/{}/?{}", answer.status, query.join("&"))
}
