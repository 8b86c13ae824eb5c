//! Reads CONNECT: its fields, and the service that the client wants.

use std::sync::Arc;

use mqtt_proto::v3::{Connect, ConnectReturnCode, LastWill};
use tokio::time::Duration;

use crate::{clock::wall_time, net::protocol::Peer};

/// Why a CONNECT is rejected.
pub(super) struct Refusal {
    pub(super) code: ConnectReturnCode,
    pub(super) why: String,
    /// The registration ID of the device, if it is known.
    pub(super) registration_id: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: ConnectReturnCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), registration_id: None }
    }

    /// The user name or the password cannot be read.
    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::new(ConnectReturnCode::BadUserNameOrPassword, why)
    }
}

pub(super) fn other_protocol() -> Refusal {
    Refusal::new(ConnectReturnCode::UnacceptableProtocolVersion, "the protocol is not MQTT 3.1.1")
}

/// The fields of a CONNECT, and the credentials of the connection.
pub(super) struct Greeting {
    pub(super) client_id: Arc<str>,
    /// The user name, which both services require. Empty if CONNECT has none.
    pub(super) user_name: Arc<str>,
    /// `true` if CONNECT has a password. The password may be empty.
    pub(super) has_password: bool,
    /// The password. `None` if it is empty, because clients with a certificate may send an empty one.
    pub(super) password: Option<String>,
    pub(super) clean_session: bool,
    /// The keep-alive in seconds. 0 turns it off.
    pub(super) keep_alive: u16,
    pub(super) will: Option<LastWill>,
    pub(super) peer: Peer,
    /// The time of the CONNECT, in seconds since 1970.
    pub(super) at: u64,
}

impl Greeting {
    pub(super) fn new(connect: Connect, peer: Peer) -> Self {
        let password = connect.password.as_ref().filter(|password| !password.is_empty());
        Self {
            client_id: connect.client_id,
            user_name: connect.username.unwrap_or_default(),
            has_password: connect.password.is_some(),
            password: password.map(|password| String::from_utf8_lossy(password).into_owned()),
            clean_session: connect.clean_session,
            keep_alive: connect.keep_alive,
            will: connect.last_will,
            peer,
            at: wall_time::unix_seconds(),
        }
    }

    /// Returns how long the client may be silent: "within one and a half times the Keep Alive time period" (MQTT
    /// 3.1.1, section 3.1.2.10).
    pub(super) fn silence(&self) -> Option<Duration> {
        (self.keep_alive > 0).then(|| Duration::from_secs(self.keep_alive.into()) * 3 / 2)
    }
}

/// The service that a user name is for.
#[derive(Debug, PartialEq)]
pub(super) enum Wanted<'a> {
    Dps(DpsUser<'a>),
    Hub(HubUser<'a>),
}

/// The user name for DPS: `{idScope}/registrations/{registrationId}/api-version=…`, with more parameters after a `&`.
#[derive(Debug, PartialEq)]
pub(super) struct DpsUser<'a> {
    pub(super) id_scope: &'a str,
    pub(super) registration_id: &'a str,
    pub(super) api_version: &'a str,
}

/// The user name for a hub: `{hub}/{deviceId}/?api-version=…`, or `{hub}/{deviceId}/{moduleId}/?api-version=…` for a
/// module.
///
/// Hubs accept other forms, too: some clients send no query, and firmware of 2016 to 2018 omits the `?`
/// (azure-docs#16306, azure-iot-sdk-node PR#319).
#[derive(Debug, PartialEq)]
pub(super) struct HubUser<'a> {
    pub(super) hub: &'a str,
    pub(super) device_id: &'a str,
    pub(super) module_id: Option<&'a str>,
    pub(super) api_version: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    pub(super) fn read(user_name: &'a str) -> Result<Self, Refusal> {
        if user_name.is_empty() {
            return Err(Refusal::malformed("there is no user name"));
        }
        // A key may contain a slash, and a slash would count as a separator.
        if user_name.contains("SharedAccessKey") {
            return Err(Refusal::malformed(
                "the user name is a connection string. At a hub, the user name is {hubName}/{deviceId}/?api-version=…, \
                 and the password is a token that the key signed",
            ));
        }
        let mut parts = user_name.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(id_scope), Some("registrations"), rest) if rest.is_none_or(|rest| !rest.starts_with('?')) => {
                DpsUser::read(id_scope, rest.unwrap_or_default()).map(Self::Dps)
            }
            (Some(hub), Some(device_id), rest) if !hub.is_empty() && !device_id.is_empty() => {
                Ok(Self::Hub(HubUser::read(hub, device_id, rest.unwrap_or_default())))
            }
            _ => Err(Refusal::malformed(
                "the user name has an unknown form. For DPS it is {idScope}/registrations/{registrationId}/api-version=…. \
                 For a hub it is {hubName}/{deviceId}/?api-version=…",
            )),
        }
    }
}

impl<'a> DpsUser<'a> {
    fn read(id_scope: &'a str, rest: &'a str) -> Result<Self, Refusal> {
        let read = || {
            let (registration_id, query) = rest.split_once('/')?;
            Some(Self { id_scope, registration_id, api_version: parameter(query, "api-version")? })
        };
        let form = "the user name is not {idScope}/registrations/{registrationId}/api-version=…";
        read().ok_or_else(|| Refusal::malformed(form))
    }
}

impl<'a> HubUser<'a> {
    fn read(hub: &'a str, device_id: &'a str, rest: &'a str) -> Self {
        let is_query = |rest: &str| rest.is_empty() || rest.starts_with('?') || rest.starts_with("api-version=");
        let (module_id, query) = match rest.split_once('/') {
            _ if is_query(rest) => (None, rest),
            Some((module_id, query)) => (Some(module_id), query),
            None => (Some(rest), ""),
        };
        let query = query.strip_prefix('?').unwrap_or(query);
        Self { hub, device_id, module_id, api_version: parameter(query, "api-version") }
    }
}

/// Returns a parameter of a query as it was written.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_name_selects_the_service() {
        let dps = |id_scope, registration_id, api_version| {
            Some(Wanted::Dps(DpsUser { id_scope, registration_id, api_version }))
        };
        let hub = |hub, device_id, module_id, api_version| {
            Some(Wanted::Hub(HubUser { hub, device_id, module_id, api_version }))
        };
        for (user_name, wanted) in [
            ("0ne1/registrations/d/api-version=1&ClientVersion=a/b", dps("0ne1", "d", "1")),
            ("/registrations//ClientVersion=a/b&api-version=", dps("", "", "")),
            ("0ne1/registrations/d/?api-version=1", None),
            ("0ne1/registrations/d", None),
            ("0ne1/registrations/", None),
            ("0ne1/registrations", None),
            ("h/d/?api-version=2021-04-12", hub("h", "d", None, Some("2021-04-12"))),
            ("h.x:9/d/?DeviceClientType=a/b&api-version=1&c/1.3.0", hub("h.x:9", "d", None, Some("1"))),
            ("h/d/api-version=2016-11-14", hub("h", "d", None, Some("2016-11-14"))),
            ("h/d/?a=b", hub("h", "d", None, None)),
            ("h/d/", hub("h", "d", None, None)),
            ("h/d", hub("h", "d", None, None)),
            ("h/registrations/?api-version=1", hub("h", "registrations", None, Some("1"))),
            ("h/d/m/?api-version=1", hub("h", "d", Some("m"), Some("1"))),
            ("h/d/m", hub("h", "d", Some("m"), None)),
            ("HostName=h;DeviceId=d;SharedAccessKey=a/b/c==", None),
            ("h/", None),
            ("/d/?api-version=1", None),
            ("h", None),
            ("", None),
        ] {
            assert_eq!(Wanted::read(user_name).ok(), wanted, "{user_name}");
        }
    }
}
