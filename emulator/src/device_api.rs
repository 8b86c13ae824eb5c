//! The device API over HTTP: routes, headers and framing around the registration core.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use percent_encoding::percent_decode_str;

use crate::{
    config::Behaviour,
    error::ServiceError,
    log::RequestRecord,
    registration::{Answer, Core, DeviceRequest, MAX_BODY},
    script::{self, Action, Operation},
    server::{self, Body, BodyFault, Fault, Handler, NoAnswer},
    wall_time,
};

/// The api-versions that a specification names.
const API_VERSIONS: [&str; 13] = [
    "2017-08-31-preview",
    "2017-11-15",
    "2018-04-01",
    "2018-09-01-preview",
    "2018-11-01",
    "2019-03-31",
    "2021-06-01",
    "2021-10-01",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2026-04-01",
    "2026-11-01",
    "2026-11-02-preview",
];

/// One listener's view of the service.
pub(crate) struct DeviceApi {
    pub(crate) core: Arc<Core>,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
}

/// What a path asks for.
struct Route<'a> {
    operation: Operation,
    id_scope: Cow<'a, str>,
    registration_id: Cow<'a, str>,
    operation_id: Cow<'a, str>,
}

impl<'a> Route<'a> {
    /// Clients escape path segments in more than one way, so each is decoded for itself.
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
            Operation::Lookup => Method::POST,
        }
    }
}

/// An answer on its way to the device.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    outcome: String,
    retry_after: Option<u32>,
}

impl Handler for DeviceApi {
    async fn handle(&self, request: Request<Incoming>, fault: &Fault) -> Result<Response<Body>, NoAnswer> {
        let (head, body) = request.into_parts();
        let path_and_query = head.uri.path_and_query().map_or_else(|| head.uri.path(), |both| both.as_str()).to_owned();
        let route = Route::parse(head.uri.path());
        let behaviour = self.core.behaviour();
        let mut record = RequestRecord {
            at: SystemTime::now(),
            listener: self.scheme,
            method: head.method.to_string(),
            path: mask_signatures(&path_and_query),
            authorization: head.headers.contains_key(header::AUTHORIZATION),
            body: String::new(),
            registration_id: route.as_ref().map(|route| mask_signatures(&route.registration_id)),
            http_status: None,
            retry_after: None,
            response_body: String::new(),
            outcome: String::new(),
        };

        let body = match server::read_body(body, MAX_BODY).await {
            Ok(body) => Ok(body),
            Err(BodyFault::TooLong) => Err(ServiceError::too_large(MAX_BODY)),
            Err(BodyFault::Late) => Err(ServiceError::request_timeout()),
            Err(BodyFault::Broken) => {
                record.outcome = "the connection broke within the body".to_owned();
                self.core.record_request(record);
                return Err(NoAnswer);
            }
        };
        if let Ok(body) = &body {
            record.body = String::from_utf8_lossy(body).into_owned();
        }

        let script = route
            .as_ref()
            .filter(|route| route.method() == head.method)
            .and_then(|route| self.core.take_script(route.operation, &route.registration_id));
        if let Some(script) = &script {
            self.core.clock().sleep(script.delay).await;
        }
        let action = script.map_or(Action::Nothing, |script| script.action);
        let mut reply = match &action {
            Action::Respond { status, headers, body } => scripted(*status, headers, body),
            Action::Raw(bytes) => {
                fault.replace_by(bytes.clone());
                scripted(200, &[], &String::from_utf8_lossy(bytes))
            }
            Action::Nothing | Action::Merge(_) | Action::Cut(_) => {
                let answer = async {
                    let body = body?;
                    let route = route
                        .as_ref()
                        .ok_or_else(|| ServiceError::route_not_found("no such path in the device API"))?;
                    check_head(&head, route, !body.is_empty(), &behaviour)?;
                    self.ask(&head.headers, route, &body).await
                }
                .await;
                match answer {
                    Ok(answer) => self.reply(&head, answer),
                    Err(error) => refusal(&error, route.as_ref()),
                }
            }
        };
        if let Action::Merge(patch) = &action
            && let Ok(mut body) = serde_json::from_str(&reply.body)
        {
            script::merge(&mut body, patch);
            reply.body = body.to_string();
        }
        if let Action::Cut(bytes) = action {
            fault.cut_after(bytes);
            reply.outcome = format!("{}, cut after {bytes} bytes by a script", reply.outcome);
        }

        record.at = SystemTime::now();
        // What a script keeps back wholly is no answer.
        record.http_status = (!matches!(action, Action::Cut(0) | Action::Raw(_))).then_some(reply.status.as_u16());
        record.retry_after = reply.retry_after;
        record.response_body.clone_from(&reply.body);
        record.outcome.clone_from(&reply.outcome);
        self.core.record_request(record);

        let mut response =
            Response::new(if behaviour.chunked { server::chunked(reply.body) } else { server::whole(reply.body) });
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

impl DeviceApi {
    async fn ask(&self, headers: &HeaderMap, route: &Route<'_>, body: &[u8]) -> Result<Answer, ServiceError> {
        let request = DeviceRequest {
            id_scope: &route.id_scope,
            registration_id: &route.registration_id,
            authorization: headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()),
            body,
        };
        match route.operation {
            Operation::Register => self.core.register(&request).await,
            Operation::Status => self.core.operation_status(&request, &route.operation_id),
            Operation::Lookup => self.core.lookup(&request),
        }
    }

    fn reply(&self, head: &hyper::http::request::Parts, answer: Answer) -> Reply {
        let mut headers = common_headers();
        if answer.status == 202
            && let Some(location) = self.location(head)
        {
            headers.insert(header::LOCATION, location);
        }
        if let Some(seconds) = answer.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.scheme == "https" {
            headers.insert(
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=31536000; includeSubDomains"),
            );
        }
        Reply {
            status: StatusCode::from_u16(answer.status).unwrap_or_default(),
            headers,
            body: answer.body,
            outcome: answer.outcome,
            retry_after: answer.retry_after,
        }
    }

    /// The real service repeats the request's own path, without an operation ID and query.
    fn location(&self, head: &hyper::http::request::Parts) -> Option<HeaderValue> {
        let host = head.headers.get(header::HOST)?.to_str().ok()?;
        let path = head.uri.path();
        HeaderValue::try_from(format!("{}://{host}{path}", self.scheme)).ok()
    }
}

/// What can be refused before anybody asks who the device is.
fn check_head(
    head: &hyper::http::request::Parts,
    route: &Route<'_>,
    has_body: bool,
    behaviour: &Behaviour,
) -> Result<(), ServiceError> {
    if head.method != route.method() {
        return Err(ServiceError::method_not_allowed(format!("{} is for {}", head.uri.path(), route.method())));
    }
    let query = head.uri.query().unwrap_or_default();
    let version =
        form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "api-version").map(|(_, value)| value);
    match version {
        None => return Err(ServiceError::bad_request("the api-version is missing")),
        Some(version) if behaviour.strict_api_version && !API_VERSIONS.contains(&version.as_ref()) => {
            return Err(ServiceError::bad_request("the api-version is unknown"));
        }
        Some(_) => {}
    }
    // `Content-Encoding: utf-8`, which Microsoft's own curl examples send, is no coding: it is
    // passed over like the rest of the head.
    if let Some(media_type) = head.headers.get(header::CONTENT_TYPE).filter(|_| has_body) {
        let media_type = media_type.to_str().unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ServiceError::unsupported_media_type(format!("the body is {essence:?}, not application/json")));
        }
    }
    Ok(())
}

fn refusal(error: &ServiceError, route: Option<&Route<'_>>) -> Reply {
    let mut headers = common_headers();
    headers.insert(HeaderName::from_static("x-ms-error-code"), error.code.into());
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(route) = route.filter(|_| error.status() == 405)
        && let Ok(method) = HeaderValue::from_str(route.method().as_str())
    {
        headers.insert(header::ALLOW, method);
    }
    Reply {
        status: StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        headers,
        body: serde_json::to_string(&error.body()).unwrap_or_default(),
        outcome: format!("{} {} ({})", error.code, error.message, error.detail),
        retry_after: error.retry_after,
    }
}

fn scripted(status: u16, scripted: &[(String, String)], body: &str) -> Reply {
    let mut headers = common_headers();
    for (name, value) in scripted {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let retry_after =
        headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
    Reply {
        status: StatusCode::from_u16(status).unwrap_or_default(),
        headers,
        body: body.to_owned(),
        outcome: "answered by a script".to_owned(),
        retry_after,
    }
}

/// A token has no business in a path, and a record has none to repeat it.
fn mask_signatures(text: &str) -> String {
    let mut parts = text.split("sig=");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.find(['&', '/']).map_or("", |end| &part[end..]);
        masked.push_str("sig=****");
        masked.push_str(rest);
    }
    masked
}

fn common_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(id) = HeaderValue::try_from(wall_time::guid()) {
        headers.insert(HeaderName::from_static("x-ms-request-id"), id);
    }
    headers
}
