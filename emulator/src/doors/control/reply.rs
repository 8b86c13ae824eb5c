//! The answers of the control API: JSON, errors, and the headers of all answers.

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;
use serde_json::json;

use crate::net::http::{Body, whole};

/// A page of this listener may load only its own files, and other pages may not frame it.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'";

/// An answer without the common headers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// Why a request is rejected.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// The kind of error, for programs.
    error: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Reply {
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::text("application/json; charset=utf-8", serde_json::to_string(value).unwrap_or_default())
    }

    pub(super) fn text(media_type: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, media_type, whole(text.into()))
    }

    pub(super) fn new(status: StatusCode, media_type: &'static str, body: Body) -> Self {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        Self { status, headers, body }
    }

    /// Returns an answer without a body: the call succeeded.
    pub(super) fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: whole(String::new()) }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), header: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "badRequest", message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        let header = Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        Self { header, ..Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message) }
    }

    pub(super) fn foreign_host(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "foreignHost", message)
    }

    pub(super) fn foreign_origin(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "foreignOrigin", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "notFound", message)
    }

    pub(super) fn method_not_allowed(allowed: &str) -> Self {
        let header = HeaderValue::from_str(allowed).ok().map(|value| (header::ALLOW, value));
        let message = format!("this path allows {allowed}");
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", message) }
    }

    pub(super) fn late() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "late", "the body did not arrive in time")
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", message)
    }

    pub(super) fn unsupported_media_type() -> Self {
        let message = "changes need Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupportedMediaType", message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut reply = Self::json(&json!({ "error": refusal.error, "message": refusal.message }));
        reply.status = refusal.status;
        reply.headers.extend(refusal.header);
        reply
    }
}
