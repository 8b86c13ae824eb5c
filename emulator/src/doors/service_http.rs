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
};

/// The most bytes in a body: enough for a bulk operation whose enrollments have certificates and long twins. A client
/// whose token is not good may send no more than a device.
const MAX_SERVICE_BODY: usize = 1024 * 1024;

const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");

/// One listener's view of the service.
pub(super) struct ServiceHttp {
    pub(super) service: Arc<Service>,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

/// What a path names.
#[derive(Debug, PartialEq)]
enum Resource<'a> {
    /// A collection without an ID: "405: a rest operation is missing the enrollment or registration ID parameters".
    Registrations,
    Registration(Cow<'a, str>),
    RegistrationsOf(Cow<'a, str>),
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Read,
    Delete,
    Query,
}

/// Returns `true` if the path is the service API's. The paths of devices begin with the ID scope, whatever its name is.
pub(super) fn is_for(path: &str, id_scope: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    let root = segments.next().unwrap_or_default();
    let is_root =
        ["enrollments", "enrollmentGroups", "registrations"].iter().any(|name| name.eq_ignore_ascii_case(root));
    let is_device = root == id_scope && segments.next() == Some("registrations") && segments.next().is_some();
    is_root && !is_device
}

impl<'a> Resource<'a> {
    /// Decodes each path segment by itself. Node ends the path of a bulk operation with a slash, and writes
    /// `enrollmentgroups`.
    fn parse(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let segments: Vec<_> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
        let (root, rest) = segments.split_first()?;
        let decode = |segment: &'a str| percent_decode_str(segment).decode_utf8().ok();
        if root.eq_ignore_ascii_case("registrations") {
            match rest {
                [] => return Some(Self::Registrations),
                [id] => return Some(Self::Registration(decode(id)?)),
                [id, query] if query.eq_ignore_ascii_case("query") => return Some(Self::RegistrationsOf(decode(id)?)),
                _ => return None,
            }
        }
        None
    }

    /// The methods that it has, and what each does.
    fn verbs(&self) -> &'static [(Method, Verb)] {
        match self {
            Self::Registrations => &[],
            Self::Registration(_) => &[(Method::GET, Verb::Read), (Method::DELETE, Verb::Delete)],
            Self::RegistrationsOf(_) => &[(Method::POST, Verb::Query)],
        }
    }

    /// The right that a call needs.
    fn right(&self, verb: Verb) -> Right {
        match (self, verb) {
            (Self::Registrations | Self::Registration(_) | Self::RegistrationsOf(_), Verb::Delete) => {
                Right::RegistrationStatusWrite
            }
            (Self::Registrations | Self::Registration(_) | Self::RegistrationsOf(_), _) => {
                Right::RegistrationStatusRead
            }
        }
    }
}

/// What a call comes to.
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
        let resource = Resource::parse(head.uri.path());
        let admitted = self.admit(&head, resource.as_ref());
        let limit = if admitted.is_ok() { MAX_SERVICE_BODY } else { MAX_BODY };
        let body = exchange::body(body, limit, &self.service, &mut record).await?;
        if let Ok(body) = &body {
            record.body = masked(body);
        }
        let reply = admitted.and_then(|(resource, verb)| {
            let body = body?;
            if !body.is_empty() {
                exchange::check_media_type(&head)?;
            }
            self.call(&head, resource, verb, &body)
        });

        let settings = self.service.settings();
        let (answer, more) = match reply {
            Ok(reply) => (Answer::of_service(reply.status, reply.body, reply.outcome), reply.headers),
            Err(error) => (Answer::refusal(&error, &settings.behaviour), HeaderMap::new()),
        };
        let allowed: Option<Vec<_>> =
            resource.as_ref().map(|resource| resource.verbs().iter().map(|(method, _)| method.as_str()).collect());
        let mut headers = exchange::headers(self.scheme, &answer, allowed.map(|methods| methods.join(", ")).as_deref());
        headers.extend(more);
        answer.record(&mut record, true);
        record.response_body = masked(answer.body.as_bytes());
        self.service.journal().record_request(record);
        Ok(exchange::respond(answer, headers, settings.behaviour.chunked))
    }

    /// Checks all but the body: the body of a client who is not let in is not looked at.
    fn admit<'r, 'p>(
        &self,
        head: &Parts,
        resource: Option<&'r Resource<'p>>,
    ) -> Result<(&'r Resource<'p>, Verb), ServiceError> {
        let resource = resource.ok_or_else(|| ServiceError::route_not_found("no such path in the service API"))?;
        let verb = resource.verbs().iter().find(|(method, _)| *method == head.method).map(|(_, verb)| *verb);
        let verb = verb.ok_or_else(|| {
            ServiceError::method_not_allowed(format!("{} has no {}", head.uri.path(), head.method.as_str()))
        })?;
        let caller = Caller {
            authorization: text(head, &header::AUTHORIZATION)?,
            host: text(head, &header::HOST)?,
            path: head.uri.path(),
            shown_at: wall_time::unix_seconds(),
        };
        self.service.authorize(&caller, resource.right(verb))?;
        exchange::api_version(head, &self.service.settings().behaviour)?;
        Ok((resource, verb))
    }

    fn call(&self, head: &Parts, resource: &Resource<'_>, verb: Verb, body: &[u8]) -> Result<Reply, ServiceError> {
        let service = &self.service;
        let if_match = text(head, &header::IF_MATCH)?;
        match (resource, verb) {
            (Resource::Registrations, _) => Err(ServiceError::method_not_allowed("the path has no registration ID")),
            (Resource::Registration(id), Verb::Delete) => {
                service.delete_registration(id, if_match).map(|()| Reply::deleted("registration deleted"))
            }
            (Resource::Registration(id), _) => {
                service.read_registration(id).map(|body| Reply::ok(body, "registration read"))
            }
            (Resource::RegistrationsOf(id), _) => {
                service.query_registrations(id, body, &page(head)?).map(|page| Reply::page(page, "deviceRegistration"))
            }
        }
    }
}

/// A header's text, if there is one.
fn text<'a>(head: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, ServiceError> {
    let value = head.headers.get(name).map(HeaderValue::to_str).transpose();
    value.map_err(|_| ServiceError::bad_request(format!("the header {name} is not ASCII")))
}

/// Which part of a query's result is wanted.
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
        // An ID scope may be called like this.
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
}
