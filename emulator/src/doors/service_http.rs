//! The service API over HTTP: routes, headers and records.

use std::{borrow::Cow, sync::Arc};

use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;

use super::{exchange, masked::masked};
use crate::{
    clock::wall_time,
    config::policies::Right,
    net::http::{Body, NoAnswer},
    service::{
        Answer, MAX_BODY, Service, ServiceError,
        policies::Caller,
        request::{Page, QueryPage},
    },
    store::enrollments::Kind,
};

/// The longest body: enough for a bulk operation with certificates and long twins. A client without a valid token may
/// send no more than a device.
const MAX_SERVICE_BODY: usize = 1024 * 1024;

const ENROLLMENTS: &str = "enrollments";
const ENROLLMENT_GROUPS: &str = "enrollmentGroups";
const REGISTRATIONS: &str = "registrations";

const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");

/// The service API on one HTTP listener.
pub(super) struct ServiceHttp {
    pub(super) service: Arc<Service>,
    /// The listener: `http` or `https`.
    pub(super) scheme: &'static str,
}

/// A call of the service API.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Put(Kind),
    Read(Kind),
    Delete(Kind),
    AttestationMechanism(Kind),
    /// A bulk operation.
    Change(Kind),
    Query(Kind),
    ReadRegistration,
    DeleteRegistration,
    QueryRegistrations,
}

/// What a path names, and the calls that it allows.
#[derive(Debug, PartialEq)]
struct Route<'a> {
    /// The ID of an enrollment or a registration. It is empty if the path has no ID.
    id: Cow<'a, str>,
    calls: Vec<(Method, Call)>,
}

/// Returns `true` for a path of the service API. Paths of devices begin with the ID scope, even if the ID scope looks
/// like a path of the service API.
pub(super) fn is_for(path: &str, id_scope: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    let root = segments.next().unwrap_or_default();
    let is_root = [ENROLLMENTS, ENROLLMENT_GROUPS, REGISTRATIONS].iter().any(|name| name.eq_ignore_ascii_case(root));
    let is_device = root == id_scope && segments.next() == Some(REGISTRATIONS) && segments.next().is_some();
    is_root && !is_device
}

impl Call {
    /// Returns the right that the call needs.
    fn right(self) -> Right {
        match self {
            Self::Read(_) | Self::Query(_) => Right::EnrollmentRead,
            // Reading keys needs the right to write, because Azure's role for readers cannot read keys either.
            Self::Put(_) | Self::Delete(_) | Self::Change(_) | Self::AttestationMechanism(_) => Right::EnrollmentWrite,
            Self::ReadRegistration | Self::QueryRegistrations => Right::RegistrationStatusRead,
            Self::DeleteRegistration => Right::RegistrationStatusWrite,
        }
    }
}

impl<'a> Route<'a> {
    /// Reads a path. Each segment is decoded on its own. Microsoft's client for Node writes `enrollmentgroups`, and
    /// ends the path of a bulk operation with a slash.
    fn parse(path: &'a str, method: &Method) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let segments: Vec<_> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
        let (root, rest) = segments.split_first()?;
        if rest.first().is_some_and(|id| id.is_empty()) {
            return None;
        }
        let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
        let kind = match root {
            root if is(root, ENROLLMENTS) => Some(Kind::Individual),
            root if is(root, ENROLLMENT_GROUPS) => Some(Kind::Group),
            root if is(root, REGISTRATIONS) => None,
            _ => return None,
        };
        let (id, calls) = match (kind, rest) {
            (Some(kind), []) => ("", vec![(Method::POST, Call::Change(kind))]),
            // An enrollment may have the ID `query`.
            (Some(kind), [query]) if method == Method::POST && is(query, "query") => {
                ("", vec![(Method::POST, Call::Query(kind))])
            }
            (Some(kind), [id]) => {
                let calls = [
                    (Method::GET, Call::Read(kind)),
                    (Method::PUT, Call::Put(kind)),
                    (Method::DELETE, Call::Delete(kind)),
                ];
                (*id, calls.to_vec())
            }
            (Some(kind), [id, name]) if is(name, "attestationmechanism") => {
                (*id, vec![(Method::POST, Call::AttestationMechanism(kind))])
            }
            // "405: a rest operation is missing the enrollment or registration ID parameters."
            (None, []) => ("", vec![]),
            (None, [id]) => {
                (*id, vec![(Method::GET, Call::ReadRegistration), (Method::DELETE, Call::DeleteRegistration)])
            }
            (None, [id, query]) if is(query, "query") => (*id, vec![(Method::POST, Call::QueryRegistrations)]),
            _ => return None,
        };
        Some(Self { id: percent_decode_str(id).decode_utf8().ok()?, calls })
    }

    /// Returns the allowed methods for the `Allow` header.
    fn methods(&self) -> String {
        self.calls.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The result of a call.
struct Reply {
    status: u16,
    body: String,
    outcome: &'static str,
    headers: HeaderMap,
}

impl Reply {
    fn ok(body: String, outcome: &'static str) -> Self {
        Self { status: 200, body, outcome, headers: HeaderMap::new() }
    }

    fn deleted(outcome: &'static str) -> Self {
        Self { status: 204, body: String::new(), outcome, headers: HeaderMap::new() }
    }

    fn page(page: QueryPage, item_type: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ITEM_TYPE, HeaderValue::from_static(item_type));
        if let Some(continuation) = page.continuation.and_then(|text| text.parse().ok()) {
            headers.insert(CONTINUATION, continuation);
        }
        Self { status: 200, body: page.body, outcome: "queried", headers }
    }
}

impl ServiceHttp {
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, NoAnswer> {
        let (head, body) = request.into_parts();
        let mut record = exchange::record(self.scheme, &head);
        let route = Route::parse(head.uri.path(), &head.method);
        let admitted = self.admit(&head, route.as_ref());
        let limit = if admitted.is_ok() { MAX_SERVICE_BODY } else { MAX_BODY };
        let body = exchange::body(body, limit, &self.service, &mut record).await?;
        if let Ok(body) = &body {
            record.body = masked(body);
        }
        let reply = admitted.and_then(|(id, call)| {
            let body = body?;
            if !body.is_empty() {
                exchange::check_media_type(&head)?;
            }
            self.call(&head, id, call, &body)
        });

        let settings = self.service.settings();
        let (answer, more) = match reply {
            Ok(reply) => (Answer::of_service(reply.status, reply.body, reply.outcome), reply.headers),
            Err(error) => (Answer::refusal(&error, &settings.behaviour), HeaderMap::new()),
        };
        let allowed = route.as_ref().map(Route::methods);
        let mut headers = exchange::headers(self.scheme, &answer, allowed.as_deref());
        headers.extend(more);
        answer.record(&mut record, true);
        record.response_body = masked(answer.body.as_bytes());
        self.service.journal().record_request(record);
        Ok(exchange::respond(answer, headers, settings.behaviour.chunked))
    }

    /// Checks everything but the body, which is read only if the client is authorized. Returns the ID and the call.
    fn admit<'r>(&self, head: &Parts, route: Option<&'r Route<'_>>) -> Result<(&'r str, Call), ServiceError> {
        let route = route.ok_or_else(|| ServiceError::route_not_found("no such path in the service API"))?;
        let call = route.calls.iter().find(|(method, _)| *method == head.method).map(|(_, call)| *call);
        let call = call.ok_or_else(|| {
            ServiceError::method_not_allowed(format!("{} is for {:?}", head.uri.path(), route.methods()))
        })?;
        let caller = Caller {
            authorization: text(head, &header::AUTHORIZATION)?,
            scheme: self.scheme,
            host: text(head, &header::HOST)?,
            path: head.uri.path(),
            shown_at: wall_time::unix_seconds(),
        };
        self.service.authorize(&caller, call.right())?;
        exchange::api_version(head, &self.service.settings().behaviour)?;
        Ok((&route.id, call))
    }

    fn call(&self, head: &Parts, id: &str, call: Call, body: &[u8]) -> Result<Reply, ServiceError> {
        let service = &self.service;
        let if_match = text(head, &header::IF_MATCH)?;
        match call {
            Call::Put(kind) => {
                service.put_enrollment(kind, id, body, if_match).map(|body| Reply::ok(body, "enrollment stored"))
            }
            Call::Read(kind) => service.read_enrollment(kind, id).map(|body| Reply::ok(body, "enrollment read")),
            Call::Delete(kind) => {
                service.delete_enrollment(kind, id, if_match).map(|()| Reply::deleted("enrollment deleted"))
            }
            Call::AttestationMechanism(kind) => {
                service.attestation_mechanism(kind, id).map(|body| Reply::ok(body, "attestation mechanism read"))
            }
            Call::Change(kind) => {
                service.change_enrollments(kind, body).map(|body| Reply::ok(body, "enrollments changed"))
            }
            Call::Query(kind) => {
                let item_type = match kind {
                    Kind::Individual => "enrollment",
                    Kind::Group => "enrollmentGroup",
                };
                service.query_enrollments(kind, body, &page(head)?).map(|page| Reply::page(page, item_type))
            }
            Call::ReadRegistration => service.read_registration(id).map(|body| Reply::ok(body, "registration read")),
            Call::DeleteRegistration => {
                service.delete_registration(id, if_match).map(|()| Reply::deleted("registration deleted"))
            }
            Call::QueryRegistrations => {
                service.query_registrations(id, body, &page(head)?).map(|page| Reply::page(page, "deviceRegistration"))
            }
        }
    }
}

/// Returns the text of a header, if the request has this header.
fn text<'a>(head: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, ServiceError> {
    let value = head.headers.get(name).map(HeaderValue::to_str).transpose();
    value.map_err(|_| ServiceError::bad_request(format!("the header {name} is not ASCII")))
}

/// Returns which part of a query's result the client wants.
fn page(head: &Parts) -> Result<Page, ServiceError> {
    let max_items = text(head, &MAX_ITEM_COUNT)?.map(|count| {
        count
            .trim()
            .parse()
            .map_err(|_| ServiceError::bad_request(format!("{MAX_ITEM_COUNT} is {count:?}, not a number")))
    });
    let continuation = text(head, &CONTINUATION)?.filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Page { max_items: max_items.transpose()?, continuation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_service_apis_unless_it_begins_with_the_id_scope() {
        for (path, is_services) in [
            ("/enrollments/a", true),
            ("/enrollments/", true),
            ("/EnrollmentGroups", true),
            ("/enrollmentgroups/registrations/attestationmechanism", true),
            ("/registrations/a/query", true),
            ("/0ne00002193/registrations/a/register", false),
            ("/enrollments/registrations/a/register", true),
            ("/enrollment/a", false),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(is_for(path, "0ne00002193"), is_services, "{path}");
        }
        // An ID scope may have one of these names.
        for (path, is_services) in [
            ("/enrollments/registrations/a/register", false),
            ("/enrollments/registrations/a", false),
            ("/enrollments/registrations", true),
            ("/enrollments/a", true),
            ("/enrollmentGroups/registrations/attestationmechanism", true),
        ] {
            assert_eq!(is_for(path, "enrollments"), is_services, "{path}");
        }
    }
    #[test]
    fn a_path_is_read_in_any_case_and_with_a_slash_at_its_end() {
        use Kind::{Group, Individual};
        for (method, path, id, call) in [
            (Method::PUT, "/enrollmentGroups/a", "a", Call::Put(Group)),
            (Method::GET, "/enrollmentgroups/a%2Fb/", "a/b", Call::Read(Group)),
            (Method::DELETE, "/ENROLLMENTS/a%3Ab", "a:b", Call::Delete(Individual)),
            (Method::POST, "/enrollmentgroups/a/attestationmechanism", "a", Call::AttestationMechanism(Group)),
            (Method::POST, "/enrollments/a/AttestationMechanism/", "a", Call::AttestationMechanism(Individual)),
            (Method::POST, "/enrollments/", "", Call::Change(Individual)),
            (Method::POST, "/enrollmentGroups", "", Call::Change(Group)),
            (Method::POST, "/enrollments/query", "", Call::Query(Individual)),
            (Method::POST, "/enrollmentGroups/Query/", "", Call::Query(Group)),
            (Method::GET, "/enrollments/query", "query", Call::Read(Individual)),
            (Method::GET, "/registrations/query", "query", Call::ReadRegistration),
            (Method::DELETE, "/registrations/a", "a", Call::DeleteRegistration),
            (Method::POST, "/registrations/query/query", "query", Call::QueryRegistrations),
        ] {
            let route = Route::parse(path, &method).unwrap();
            assert_eq!((&*route.id, route.calls.contains(&(method, call))), (id, true), "{path}");
        }
        for path in
            ["/enrollments//", "/enrollments/a/b", "/registrations/a/b", "/registrations/a/query/b", "/%FF", "/", ""]
        {
            assert_eq!(Route::parse(path, &Method::POST), None, "{path}");
        }
    }
}
