//! The device API over HTTP: routes, headers and framing.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;

use super::{device_mqtt::DeviceMqtt, fault, websocket};
use crate::{
    clock::wall_time,
    config::Behaviour,
    identity::ids,
    net::{
        http::{Body, BodyFault, Connection, Handler, NoAnswer, chunked, read_body, whole},
        protocol::Peer,
    },
    service::{
        Answer, MAX_BODY, Service, ServiceError, api_version,
        request::{Carrier, Credentials, DeviceRequest},
        script::{Action, Operation},
    },
    watch::records::RequestRecord,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");

/// One listener's view of the service.
pub(crate) struct DeviceHttp {
    pub(crate) service: Arc<Service>,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
}

/// The request that a path names.
struct Route<'a> {
    operation: Operation,
    id_scope: Cow<'a, str>,
    registration_id: Cow<'a, str>,
    operation_id: Cow<'a, str>,
}

impl<'a> Route<'a> {
    /// Decodes each path segment by itself, because clients escape segments in more than one way.
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
            // No path is a CONNECT.
            Operation::Lookup | Operation::Connect => Method::POST,
        }
    }
}

impl Handler for DeviceHttp {
    fn patience(&self) -> Duration {
        self.service.patience()
    }

    fn note(&self, what: String) {
        self.service.journal().note(self.scheme, what);
    }

    fn connection_failed(&self, peer: IpAddr, why: String) {
        self.service.journal().connection_failed(self.scheme, peer, why);
    }

    async fn handle(
        &self,
        mut request: Request<Incoming>,
        connection: &Connection,
    ) -> Result<Response<Body>, NoAnswer> {
        if websocket::is_wanted(&request) {
            return Ok(self.upgrade(&mut request, connection));
        }
        let (head, body) = request.into_parts();
        let path_and_query = head.uri.path_and_query().map_or_else(|| head.uri.path(), |both| both.as_str()).to_owned();
        let route = Route::parse(head.uri.path());
        let settings = self.service.settings();
        let behaviour = &settings.behaviour;
        let mut record = RequestRecord::new(self.scheme, head.method.as_str());
        record.path = path_and_query;
        record.authorization = head.headers.contains_key(header::AUTHORIZATION);
        record.registration_id = route.as_ref().map(|route| route.registration_id.to_string());

        let body = match read_body(body, MAX_BODY, self.patience()).await {
            Ok(body) => Ok(body),
            Err(BodyFault::TooLong) => Err(ServiceError::too_large(MAX_BODY)),
            Err(BodyFault::Late) => Err(ServiceError::request_timeout()),
            Err(BodyFault::Broken) => {
                record.outcome = "the connection broke within the body".to_owned();
                self.service.journal().record_request(record);
                return Err(NoAnswer);
            }
        };
        if let Ok(body) = &body {
            record.body = String::from_utf8_lossy(body).into_owned();
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
            Action::Raw(_) => common_headers(),
            _ => self.headers(&head, route.as_ref(), &answer),
        };
        answer.record(&mut record, !fault::breaks(&action, &connection.fault));
        self.service.journal().record_request(record);
        Ok(respond(answer, headers, behaviour.chunked))
    }
}

impl DeviceHttp {
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
                certificates: peer,
                shown_at: wall_time::unix_seconds(),
                carrier: Carrier::Http,
            },
            body,
        };
        match route.operation {
            Operation::Register => self.service.register(&request).await,
            Operation::Status => self.service.operation_status(&request, &route.operation_id),
            Operation::Lookup | Operation::Connect => self.service.look_up(&request),
        }
    }

    /// Switches to MQTT over WebSocket.
    fn upgrade(&self, request: &mut Request<Incoming>, connection: &Connection) -> Response<Body> {
        let listener = if self.scheme == "https" { "wss" } else { "ws" };
        let mqtt = DeviceMqtt { service: Arc::clone(&self.service), listener };
        websocket::upgrade(request, connection, mqtt).unwrap_or_else(|error| {
            let answer = Answer::refusal(&error, &self.service.settings().behaviour);
            let mut record = RequestRecord::new(listener, request.method().as_str());
            record.path = request.uri().path().to_owned();
            answer.record(&mut record, true);
            self.service.journal().record_request(record);
            respond(answer, common_headers(), false)
        })
    }

    fn headers(&self, head: &Parts, route: Option<&Route<'_>>, answer: &Answer) -> HeaderMap {
        let mut headers = common_headers();
        if let Some(seconds) = answer.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(code) = answer.error_code {
            headers.insert(HeaderName::from_static("x-ms-error-code"), code.into());
        }
        if let Some(id) = answer.request_id.as_deref().and_then(|id| id.parse().ok()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(route) = route.filter(|_| answer.status == 405)
            && let Ok(method) = HeaderValue::from_str(route.method().as_str())
        {
            headers.insert(header::ALLOW, method);
        }
        if answer.status == 202
            && let Some(location) = self.location(head)
        {
            headers.insert(header::LOCATION, location);
        }
        if self.scheme == "https" {
            headers.insert(
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=31536000; includeSubDomains"),
            );
        }
        headers
    }

    /// The `Location` of a 202. The real service repeats the path of the request, without operation ID and query.
    fn location(&self, head: &Parts) -> Option<HeaderValue> {
        let host = head.headers.get(header::HOST)?.to_str().ok()?;
        let path = head.uri.path();
        HeaderValue::try_from(format!("{}://{host}{path}", self.scheme)).ok()
    }
}

/// Checks what can be checked before the device is authenticated. Returns the api-version.
fn check_head<'a>(
    head: &'a Parts,
    route: &Route<'_>,
    has_body: bool,
    behaviour: &Behaviour,
) -> Result<Cow<'a, str>, ServiceError> {
    if head.method != route.method() {
        return Err(ServiceError::method_not_allowed(format!("{} is for {}", head.uri.path(), route.method())));
    }
    let query = head.uri.query().unwrap_or_default();
    let version = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "api-version")
        .map(|(_, value)| value)
        .ok_or_else(|| ServiceError::bad_request("the api-version is missing"))?;
    if behaviour.strict_api_version && !api_version::API_VERSIONS.contains(&version.as_ref()) {
        return Err(ServiceError::bad_request("the api-version is unknown"));
    }
    // Microsoft's curl examples send `Content-Encoding: utf-8`, which is no coding. It is ignored, as the rest of the
    // head is.
    if let Some(media_type) = head.headers.get(header::CONTENT_TYPE).filter(|_| has_body) {
        let media_type = media_type.to_str().unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ServiceError::unsupported_media_type(format!("the body is {essence:?}, not application/json")));
        }
    }
    Ok(version)
}

fn respond(answer: Answer, headers: HeaderMap, is_chunked: bool) -> Response<Body> {
    let body = if is_chunked { chunked(answer.body) } else { whole(answer.body) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

fn scripted_headers(scripted: &[(String, String)]) -> HeaderMap {
    let mut headers = common_headers();
    for (name, value) in scripted {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers
}

fn common_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(id) = HeaderValue::try_from(ids::guid()) {
        headers.insert(REQUEST_ID, id);
    }
    headers
}
