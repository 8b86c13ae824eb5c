//! The device API over HTTP: routes, headers and framing.

use std::{borrow::Cow, sync::Arc};

use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;

use super::{exchange, fault, masked::masked, mqtt::Mqtt, websocket};
use crate::{
    clock::wall_time,
    config::Behaviour,
    hub::Hub,
    net::{
        http::{Body, Connection, NoAnswer},
        protocol::Peer,
    },
    service::{
        Answer, MAX_BODY, Service, ServiceError,
        request::{Carrier, Credentials, DeviceRequest},
        script::{Action, Operation},
    },
    watch::records::RequestRecord,
};

/// The device API on one HTTP listener.
pub(super) struct DeviceHttp {
    pub(super) service: Arc<Service>,
    pub(super) hub: Arc<Hub>,
    /// The listener: `http` or `https`.
    pub(super) scheme: &'static str,
}

/// The request that a path names.
struct Route<'a> {
    operation: Operation,
    id_scope: Cow<'a, str>,
    registration_id: Cow<'a, str>,
    operation_id: Cow<'a, str>,
}

impl<'a> Route<'a> {
    /// Reads a path. Each segment is decoded on its own, because clients escape segments in different ways.
    fn parse(path: &'a str) -> Option<Self> {
        let segments: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        let decode = |segment: &'a str| percent_decode_str(segment).decode_utf8().ok();
        let (operation, id_scope, registration_id, operation_id) = match segments[..] {
            [scope, "registrations", id, "register"] => (Operation::Register, scope, id, ""),
            [scope, "registrations", id, "operations", operation] => (Operation::Status, scope, id, operation),
            [scope, "registrations", id] => (Operation::Lookup, scope, id, ""),
            _ => return None,
        };
        Some(Self {
            operation,
            id_scope: decode(id_scope)?,
            registration_id: decode(registration_id)?,
            operation_id: decode(operation_id)?,
        })
    }

    fn method(&self) -> Method {
        match self.operation {
            Operation::Register => Method::PUT,
            Operation::Status => Method::GET,
            // The only remaining operation of a path is `Lookup`.
            _ => Method::POST,
        }
    }
}

impl DeviceHttp {
    pub(super) async fn handle(
        &self,
        mut request: Request<Incoming>,
        connection: &Connection,
    ) -> Result<Response<Body>, NoAnswer> {
        if websocket::is_wanted(&request) {
            return Ok(self.upgrade(&mut request, connection));
        }
        let (head, body) = request.into_parts();
        let route = Route::parse(head.uri.path());
        let settings = self.service.settings();
        let behaviour = &settings.behaviour;
        let mut record = exchange::record(self.scheme, &head);
        record.registration_id = route.as_ref().map(|route| route.registration_id.to_string());
        let body = exchange::body(body, MAX_BODY, &self.service, &mut record).await?;
        if let Ok(body) = &body {
            record.body = match route {
                Some(_) => String::from_utf8_lossy(body).into_owned(),
                // It may be a call of the service API with a misspelt path, and its body may have keys.
                None => masked(body),
            };
        }

        let script = route
            .as_ref()
            .filter(|route| route.method() == head.method)
            .and_then(|route| self.service.take_script(route.operation, &route.registration_id));
        let ask = async {
            let body = body?;
            let route =
                route.as_ref().ok_or_else(|| ServiceError::route_not_found("no such path in the device API"))?;
            self.ask(&head, &connection.peer, route, &body, behaviour).await
        };
        let (answer, action) = self.service.perform(script, ask).await;
        let headers = match &action {
            Action::Respond { headers, .. } => scripted_headers(headers),
            Action::Raw(_) => exchange::common_headers(),
            _ => self.headers(&head, route.as_ref(), &answer),
        };
        answer.record(&mut record, !fault::breaks(&action, &connection.fault));
        self.service.journal().record_request(record);
        Ok(exchange::respond(answer, headers, behaviour.chunked))
    }

    async fn ask(
        &self,
        head: &Parts,
        peer: &Peer,
        route: &Route<'_>,
        body: &[u8],
        behaviour: &Behaviour,
    ) -> Result<Answer, ServiceError> {
        let request = DeviceRequest {
            id_scope: &route.id_scope,
            registration_id: &route.registration_id,
            api_version: &check_head(head, route, !body.is_empty(), behaviour)?,
            credentials: Credentials {
                authorization: head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()),
                certificates: &peer.certificates,
                shown_at: wall_time::unix_seconds(),
                carrier: Carrier::Http,
            },
            body,
        };
        match route.operation {
            Operation::Register => self.service.register(&request).await,
            Operation::Status => self.service.operation_status(&request, &route.operation_id),
            _ => self.service.look_up(&request),
        }
    }

    /// Switches the connection to MQTT over WebSocket.
    fn upgrade(&self, request: &mut Request<Incoming>, connection: &Connection) -> Response<Body> {
        let listener = if self.scheme == "https" { "wss" } else { "ws" };
        let mqtt = Mqtt { service: Arc::clone(&self.service), hub: Arc::clone(&self.hub), listener };
        websocket::upgrade(request, connection, mqtt).unwrap_or_else(|error| {
            let answer = Answer::refusal(&error, &self.service.settings().behaviour);
            let mut record = RequestRecord::new(listener, request.method().as_str());
            record.path = request.uri().path().to_owned();
            answer.record(&mut record, true);
            self.service.journal().record_request(record);
            exchange::respond(answer, exchange::common_headers(), false)
        })
    }

    fn headers(&self, head: &Parts, route: Option<&Route<'_>>, answer: &Answer) -> HeaderMap {
        let method = route.map(Route::method);
        let mut headers = exchange::headers(self.scheme, answer, method.as_ref().map(Method::as_str));
        if answer.status == 202
            && let Some(location) = self.location(head)
        {
            headers.insert(header::LOCATION, location);
        }
        headers
    }

    /// Returns the `Location` of a 202. As in the real service, it is the path of the request without operation ID
    /// and query.
    fn location(&self, head: &Parts) -> Option<HeaderValue> {
        let host = head.headers.get(header::HOST)?.to_str().ok()?;
        let path = head.uri.path();
        HeaderValue::try_from(format!("{}://{host}{path}", self.scheme)).ok()
    }
}

/// Checks everything that needs no authentication. Returns the api-version.
fn check_head<'a>(
    head: &'a Parts,
    route: &Route<'_>,
    has_body: bool,
    behaviour: &Behaviour,
) -> Result<Cow<'a, str>, ServiceError> {
    if head.method != route.method() {
        return Err(ServiceError::method_not_allowed(format!("{} is for {}", head.uri.path(), route.method())));
    }
    let version = exchange::api_version(head, behaviour)?;
    if has_body {
        exchange::check_media_type(head)?;
    }
    Ok(version)
}

fn scripted_headers(scripted: &[(String, String)]) -> HeaderMap {
    let mut headers = exchange::common_headers();
    for (name, value) in scripted {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers
}
