//! The common parts of both HTTP APIs: bodies, heads and records.

use std::borrow::Cow;

use hyper::{
    Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    http::request::Parts,
};

use crate::{
    config::Behaviour,
    identity::ids,
    net::http::{Body, BodyFault, NoAnswer, chunked, media_type, read_body, whole},
    service::{Answer, Service, ServiceError, api_version},
    watch::records::RequestRecord,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// Starts the record of a request whose body has not been read yet.
pub(super) fn record(scheme: &'static str, head: &Parts) -> RequestRecord {
    let mut record = RequestRecord::new(scheme, head.method.as_str());
    record.path = head.uri.path_and_query().map_or_else(|| head.uri.path(), |both| both.as_str()).to_owned();
    record.authorization = head.headers.contains_key(header::AUTHORIZATION);
    record
}

/// Reads the body of a request. If the connection breaks, the request is recorded without an answer.
pub(super) async fn body(
    body: Incoming,
    limit: usize,
    service: &Service,
    record: &mut RequestRecord,
) -> Result<Result<Vec<u8>, ServiceError>, NoAnswer> {
    match read_body(body, limit, service.patience()).await {
        Ok(body) => Ok(Ok(body)),
        Err(BodyFault::TooLong) => Ok(Err(ServiceError::too_large(limit))),
        Err(BodyFault::Late) => Ok(Err(ServiceError::request_timeout())),
        Err(BodyFault::Broken) => {
            record.outcome = "the connection broke before the end of the body".to_owned();
            service.journal().record_request(record.clone());
            Err(NoAnswer)
        }
    }
}

/// Returns the api-version, which every request must have.
pub(super) fn api_version<'a>(head: &'a Parts, behaviour: &Behaviour) -> Result<Cow<'a, str>, ServiceError> {
    let query = head.uri.query().unwrap_or_default();
    let version = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "api-version")
        .map(|(_, value)| value)
        .ok_or_else(|| ServiceError::bad_request("the api-version is missing"))?;
    if behaviour.strict_api_version && !api_version::API_VERSIONS.contains(&version.as_ref()) {
        return Err(ServiceError::bad_request("the api-version is unknown"));
    }
    Ok(version)
}

/// Checks that the body is JSON.
///
/// Microsoft's curl examples send `Content-Encoding: utf-8`, which is not a content coding. This header is ignored.
pub(super) fn check_media_type(head: &Parts) -> Result<(), ServiceError> {
    match media_type(&head.headers) {
        Some(media_type) if !media_type.eq_ignore_ascii_case("application/json") => {
            Err(ServiceError::unsupported_media_type(format!("the body is {media_type:?}, not application/json")))
        }
        _ => Ok(()),
    }
}

/// Returns the headers of every answer.
pub(super) fn common_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(id) = HeaderValue::try_from(ids::guid()) {
        headers.insert(REQUEST_ID, id);
    }
    headers
}

/// Returns the headers of this answer. For a 405, `allowed` lists the methods that are allowed.
pub(super) fn headers(scheme: &str, answer: &Answer, allowed: Option<&str>) -> HeaderMap {
    let mut headers = common_headers();
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(code) = answer.error_code {
        headers.insert(ERROR_CODE, code.into());
    }
    if let Some(id) = answer.request_id.as_deref().and_then(|id| id.parse().ok()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(allowed) = allowed.filter(|_| answer.status == 405).and_then(|methods| methods.parse().ok()) {
        headers.insert(header::ALLOW, allowed);
    }
    if scheme == "https" {
        headers
            .insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    }
    headers
}

/// Builds the answer. A 204 has no body and no content type.
pub(super) fn respond(answer: Answer, mut headers: HeaderMap, is_chunked: bool) -> Response<Body> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_TYPE);
    }
    let body = if is_chunked && status != StatusCode::NO_CONTENT { chunked(answer.body) } else { whole(answer.body) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
