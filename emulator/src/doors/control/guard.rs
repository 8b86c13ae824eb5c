//! Decides which requests may use the control API: their host must be known, they must come from this listener's own
//! page or from no page, and they must have the token, if one is set.

use std::net::SocketAddr;

use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderName, HeaderValue},
};

use super::reply::Refusal;
use crate::watch::text::excerpt;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Shorter tokens are too easy to guess.
const SHORTEST_TOKEN: usize = 16;

/// The secrets and names that admit a request. It has no `Debug`, because it holds secrets.
pub(crate) struct Guard {
    port: u16,
    /// Other hosts in lower case: `name` for any port, or `name:port`.
    hosts: Vec<String>,
    token: Option<String>,
    /// The value of a browser's cookie, instead of the token. It is created at each start.
    session: String,
}

impl Guard {
    /// Creates a guard. The error says why the listener must not start.
    pub(crate) fn new(address: SocketAddr, hosts: &[String], token: Option<&str>) -> Result<Self, String> {
        match token {
            Some(token) if token.len() < SHORTEST_TOKEN => {
                return Err(format!("the control token has fewer than {SHORTEST_TOKEN} characters"));
            }
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err("the control token has characters other than letters, digits and punctuation".to_owned());
            }
            None if !address.ip().is_loopback() => {
                return Err(format!(
                    "{address} is not a loopback address, so other machines could use the control API: set a token in \
                     DPS_EMULATOR_CONTROL_TOKEN or with --control-token-file, or listen on 127.0.0.1"
                ));
            }
            _ => {}
        }
        let mut session = [0; 32];
        rand::fill(&mut session).map_err(|_| "the system has no random bytes".to_owned())?;
        Ok(Self {
            port: address.port(),
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            token: token.map(str::to_owned),
            session: URL_SAFE_NO_PAD.encode(session),
        })
    }

    /// Checks that the request names this listener. A web page could resolve another name to 127.0.0.1 (DNS
    /// rebinding).
    pub(super) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter().map(HeaderValue::to_str);
        let host = match (hosts.next(), hosts.next()) {
            (Some(Ok(host)), None) => host,
            _ => return Err(Refusal::foreign_host("the request needs one Host header")),
        };
        for host in [Some(host), uri.authority().map(|authority| authority.as_str())].into_iter().flatten() {
            if !self.is_own_host(host) {
                return Err(Refusal::foreign_host(format!(
                    "the Host {:?} is not valid for this listener: use localhost, 127.0.0.1 or [::1] with port {}, or \
                     allow it with --control-host",
                    excerpt(host),
                    self.port
                )));
            }
        }
        Ok(())
    }

    fn is_own_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (&*host, None),
        };
        let has_own_port = match port {
            Some(port) => port.parse() == Ok(self.port),
            None => self.port == 80,
        };
        ["localhost", "127.0.0.1", "[::1]"].contains(&name) && has_own_port
            || self.hosts.iter().any(|own| *own == host || own == name)
    }

    /// Checks that no other web page sent the request.
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !host.is_some_and(|host| self.is_own_host(host)) {
                return Err(Refusal::foreign_origin(format!(
                    "pages of {:?} may not call the control API",
                    excerpt(origin)
                )));
            }
        }
        Ok(())
    }

    /// Checks requests without `Origin`, such as those of images and scripts, for the same. A link to the page itself
    /// is allowed from everywhere.
    pub(super) fn check_fetch_site(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => Err(Refusal::foreign_origin("other pages may not call the control API")),
        }
    }

    /// Checks the token of the `Authorization` header, or the session of the cookie.
    pub(super) fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        if let Some(authorization) = headers.get(header::AUTHORIZATION) {
            let shown = authorization.as_bytes().split_at_checked("Bearer ".len());
            let is_token = shown.is_some_and(|(scheme, shown)| {
                scheme.eq_ignore_ascii_case(b"Bearer ") && verify_slices_are_equal(shown, token.as_bytes()).is_ok()
            });
            return if is_token { Ok(()) } else { Err(Refusal::unauthorized("this is not the control token")) };
        }
        let name = self.cookie_name();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut sessions = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(&*name)?.strip_prefix('='));
        if sessions.any(|session| verify_slices_are_equal(session.as_bytes(), self.session.as_bytes()).is_ok()) {
            Ok(())
        } else {
            Err(Refusal::unauthorized("send the control token in Authorization: Bearer …"))
        }
    }

    /// Exchanges the token for a cookie. Returns `None` without a token, because then no cookie is needed.
    pub(super) fn start_session(&self, shown: &str) -> Result<Option<HeaderValue>, Refusal> {
        let Some(token) = &self.token else { return Ok(None) };
        if verify_slices_are_equal(shown.as_bytes(), token.as_bytes()).is_err() {
            return Err(Refusal::unauthorized("this is not the control token"));
        }
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name(), self.session);
        Ok(HeaderValue::try_from(cookie).ok())
    }

    /// Returns the name of the cookie. It has the port, because browsers send a cookie to all ports of a host.
    fn cookie_name(&self) -> String {
        format!("dps-emulator-{}", self.port)
    }
}
