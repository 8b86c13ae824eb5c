//! The control API, which reads and changes the running emulator, and its page.
//!
//! `docs/control-api.json` describes the calls, and `routes.rs` lists them. Every request first passes the checks of
//! `guard.rs`, in the order of [`Control::answer`].

mod behaviour;
mod call;
mod devices;
mod enrollments;
mod events;
pub(crate) mod guard;
mod histories;
mod overview;
mod page;
mod records;
mod reply;
mod routes;
mod scripts;

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use hyper::{HeaderMap, Method, Request, Response, body::Incoming, header};
use serde::Deserialize;
use tokio::sync::Semaphore;

use self::{
    call::{Call, Desk},
    guard::Guard,
    reply::{Refusal, Reply},
    routes::Answered,
};
use crate::{
    hub::Hub,
    net::http::{Body, BodyFault, Connection, Handler, NoAnswer, media_type, read_body},
    service::Service,
};

/// The longest body of a call.
const MAX_BODY: usize = 256 * 1024;
const LISTENER: &str = "control";

/// The listener of the control API and the page.
pub(crate) struct Control {
    desk: Desk,
    guard: Guard,
}

impl Control {
    /// Creates the control API. `listeners` are the names and URLs that `health` returns.
    pub(crate) fn new(
        service: Arc<Service>,
        hub: Arc<Hub>,
        listeners: Vec<(&'static str, String)>,
        guard: Guard,
    ) -> Self {
        let readers = Arc::new(Semaphore::new(events::READERS));
        Self { desk: Desk { service, hub, started: SystemTime::now(), listeners, readers }, guard }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let (head, body) = request.into_parts();
        let (path, headers) = (head.uri.path(), &head.headers);
        self.guard.check_host(&head.uri, headers)?;
        self.guard.check_origin(headers)?;
        // hyper removes the body of an answer to HEAD.
        if (head.method == Method::GET || head.method == Method::HEAD)
            && let Some(file) = page::file(path)
        {
            return Ok(file);
        }
        self.guard.check_fetch_site(headers)?;
        let found = routes::find(&head.method, path);
        if !matches!(&found, Ok((route, _)) if matches!(route.answered, Answered::Session)) {
            self.guard.check_token(headers)?;
        }
        let (route, parameter) = found?;
        let body = if route.method == Method::GET {
            Vec::new()
        } else {
            check_content_type(headers)?;
            read_body(body, MAX_BODY, self.patience()).await.map_err(|fault| match fault {
                BodyFault::TooLong => Refusal::too_large(MAX_BODY),
                BodyFault::Late => Refusal::late(),
                BodyFault::Broken => Refusal::bad_request("the connection broke before the end of the body"),
            })?
        };
        let query = head.uri.query().unwrap_or_default();
        let call = Call::new(parameter, query, route.query, headers, &body)?;
        match route.answered {
            Answered::By(answer) => answer(&self.desk, &call),
            Answered::Disconnects(act) => devices::end_connection(&self.desk, &call, act).await,
            Answered::Events => events::read(&self.desk, &call),
            Answered::Replay => histories::replay(&self.desk, &call).await,
            Answered::Session => self.start_session(&call),
        }
    }

    fn start_session(&self, call: &Call<'_>) -> Result<Reply, Refusal> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Session {
            token: String,
        }
        // The error of serde could quote the token.
        let Session { token } = call.body().map_err(|_| Refusal::bad_request("the body is not {\"token\":\"…\"}"))?;
        let mut reply = Reply::nothing();
        reply.headers.extend(self.guard.start_session(&token)?.map(|cookie| (header::SET_COOKIE, cookie)));
        Ok(reply)
    }
}

/// Checks that a change is JSON, which forms of other web pages cannot send.
fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    match media_type(headers) {
        Some(media_type) if media_type.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Refusal::unsupported_media_type()),
    }
}

impl Handler for Control {
    /// A browser that has left a stream of events must not count as a reader.
    const HALF_CLOSE: bool = false;

    fn note(&self, what: String) {
        self.desk.service.journal().note(LISTENER, what);
    }

    fn connection_failed(&self, peer: IpAddr, why: String) {
        self.desk.service.journal().connection_failed(LISTENER, peer, why);
    }

    async fn handle(&self, request: Request<Incoming>, _: &Connection) -> Result<Response<Body>, NoAnswer> {
        Ok(self.answer(request).await.unwrap_or_else(Reply::from).into_response())
    }
}
