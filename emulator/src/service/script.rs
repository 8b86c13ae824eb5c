//! Scripts: faults that a test orders.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request of a device to DPS or to its hub. A [`Script`] applies to one operation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// `PUT …/register`.
    Register,
    /// `GET …/operations/{operationId}`.
    Status,
    /// `POST …/registrations/{registrationId}`, over HTTP only.
    Lookup,
    /// CONNECT of MQTT at DPS. A script can delay it, cut its CONNACK, or answer it with [`Script::connack`] or raw
    /// bytes. Other scripts do not change it.
    Connect,
    /// CONNECT of MQTT at a hub. As [`Connect`](Self::Connect), with [`Script::hub_connack`].
    HubConnect,
    /// Reads the twin at a hub: `$iothub/twin/GET/…`.
    TwinGet,
    /// Reports properties to a hub: `$iothub/twin/PATCH/properties/reported/…`.
    TwinReport,
    /// Sends telemetry to a hub. A script can delay it, or close the connection instead of sending the PUBACK. Other
    /// scripts do not change it.
    Telemetry,
}

/// A fault that the next matching request meets.
///
/// Scripts wait in a queue. A request uses the first script in the queue that matches.
///
/// ```
/// use std::{
///     io::{Read, Write},
///     net::TcpStream,
/// };
///
/// use azure_dps_emulator::{Config, Emulator, Operation, Script};
///
/// let emulator = Emulator::builder(Config::contoso()).start()?;
/// // Throttle the first register, and lose the answer to the second one.
/// emulator.script(Script::respond(Operation::Register, 429, &[("Retry-After", "7")], ""));
/// emulator.script(Script::drop_connection(Operation::Register));
///
/// let register = || -> std::io::Result<String> {
///     let address = emulator.http_url().unwrap().strip_prefix("http://").unwrap();
///     let mut device = TcpStream::connect(address)?;
///     let path = "/0ne00002193/registrations/my-device/register?api-version=2021-06-01";
///     write!(device, "PUT {path} HTTP/1.1\r\nHost: dps\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
///     let mut answer = String::new();
///     device.read_to_string(&mut answer)?;
///     Ok(answer)
/// };
/// assert!(register()?.starts_with("HTTP/1.1 429 "));
/// assert_eq!(register()?, "");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) operation: Operation,
    pub(crate) registration_id: Option<String>,
    pub(crate) times: u32,
    pub(crate) delay: Duration,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Answers as usual.
    Nothing,
    Respond {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    Merge(Value),
    Cut(usize),
    Raw(Vec<u8>),
    OmitRetryAfter,
    PermuteTopic,
}

impl Script {
    fn new(operation: Operation, action: Action) -> Self {
        Self { operation, registration_id: None, times: 1, delay: Duration::ZERO, action }
    }

    /// Answers with this status and body instead of processing the request, as a gateway in front of the service can.
    /// The headers are added to `Content-Type`, `Content-Length` and `Date`. Over MQTT, only `Retry-After` is used.
    pub fn respond(operation: Operation, status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::new(operation, Action::Respond { status, headers, body: body.into() })
    }

    /// Processes the request, then closes the connection without an answer.
    #[must_use]
    pub fn drop_connection(operation: Operation) -> Self {
        Self::cut(operation, 0)
    }

    /// Processes the request, then closes the connection after `bytes` bytes of the answer: of head and body over
    /// HTTP, of the PUBLISH over MQTT. Over MQTT, the request is acknowledged before.
    #[must_use]
    pub fn cut(operation: Operation, bytes: usize) -> Self {
        Self::new(operation, Action::Cut(bytes))
    }

    /// Writes these bytes instead of an answer and closes the connection. The bytes need not be HTTP or MQTT.
    pub fn raw(operation: Operation, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(operation, Action::Raw(bytes.into()))
    }

    /// Answers as usual, with this JSON merged into the body (RFC 7396: `null` removes a member). Use it for unknown
    /// members, unknown states or a missing hub.
    #[must_use]
    pub fn merge(operation: Operation, patch: Value) -> Self {
        Self::new(operation, Action::Merge(patch))
    }

    /// Answers as usual, without `Retry-After`.
    #[must_use]
    pub fn omit_retry_after(operation: Operation) -> Self {
        Self::new(operation, Action::OmitRetryAfter)
    }

    /// Answers as usual, with the parameters of the MQTT topic in another order: `retry-after` before `$rid`. Over
    /// HTTP it does nothing.
    #[must_use]
    pub fn permute_topic(operation: Operation) -> Self {
        Self::new(operation, Action::PermuteTopic)
    }

    /// Rejects the next MQTT CONNECT at DPS with this return code, and closes the connection.
    #[must_use]
    pub fn connack(return_code: u8) -> Self {
        Self::refuse_connect(Operation::Connect, return_code)
    }

    /// Rejects the next MQTT CONNECT at a hub with this return code, and closes the connection.
    #[must_use]
    pub fn hub_connack(return_code: u8) -> Self {
        Self::refuse_connect(Operation::HubConnect, return_code)
    }

    /// Creates a script for CONNECT at DPS or at a hub.
    pub(crate) fn refuse_connect(operation: Operation, return_code: u8) -> Self {
        // Raw bytes, because the codec writes only the return codes that it knows.
        Self::raw(operation, [0x20, 0x02, 0x00, return_code])
    }

    /// Answers as usual after this delay. [`Builder::time_scale`](crate::Builder::time_scale) divides the delay.
    #[must_use]
    pub fn delay(operation: Operation, delay: Duration) -> Self {
        Self::new(operation, Action::Nothing).after(delay)
    }

    /// Sets a delay before the script does anything else. [`Builder::time_scale`](crate::Builder::time_scale) divides
    /// the delay.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Limits the script to requests of this device.
    #[must_use]
    pub fn for_device(mut self, registration_id: &str) -> Self {
        self.registration_id = Some(registration_id.to_owned());
        self
    }

    /// Sets how many requests the script applies to. The default is 1.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Returns about how many bytes of memory the script takes.
    fn size(&self) -> usize {
        let action = match &self.action {
            Action::Respond { headers, body, .. } => {
                body.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            }
            // A tree takes several times the memory of its text.
            Action::Merge(patch) => 8 * patch.to_string().len(),
            Action::Raw(bytes) => bytes.len(),
            Action::Nothing | Action::Cut(_) | Action::OmitRetryAfter | Action::PermuteTopic => 0,
        };
        size_of::<Self>() + action + self.registration_id.as_ref().map_or(0, String::len)
    }

    fn matches(&self, operation: Operation, registration_id: &str) -> bool {
        self.operation == operation
            && self.registration_id.as_deref().is_none_or(|id| id.eq_ignore_ascii_case(registration_id))
    }
}

/// The most scripts that may wait after they came through the control API.
pub(crate) const SCRIPTS: usize = 1000;
/// The most bytes of memory that they may take.
pub(crate) const SCRIPTS_SIZE: usize = 16 * 1024 * 1024;

/// The queue has no room for another script.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// The queue of scripts.
#[derive(Default)]
pub(super) struct Scripts {
    queue: Vec<Script>,
    /// The number of requests that devices have made.
    requests: u64,
}

impl Scripts {
    pub(super) fn push(&mut self, script: Script) {
        self.queue.push(script);
    }

    /// Adds a script unless the queue is full.
    pub(super) fn try_push(&mut self, script: Script) -> Result<(), Full> {
        let waiting = self.waiting().map(Script::size).sum::<usize>();
        if self.waiting().count() >= SCRIPTS || waiting + script.size() > SCRIPTS_SIZE {
            return Err(Full);
        }
        self.push(script);
        Ok(())
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Script> {
        self.queue.iter().filter(|script| script.times > 0)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Removes the first script that matches from the queue. If no script matches, every `drop_every`-th request
    /// loses its answer.
    pub(super) fn take(
        &mut self,
        operation: Operation,
        registration_id: &str,
        drop_every: Option<NonZeroU32>,
    ) -> Option<Script> {
        self.requests += 1;
        let dropped = drop_every.is_some_and(|every| self.requests.is_multiple_of(u64::from(every.get())));
        self.queue.retain(|script| script.times > 0);
        let waiting = self.queue.iter_mut().find(|script| script.matches(operation, registration_id));
        waiting.map_or_else(
            || dropped.then(|| Script::drop_connection(operation)),
            |script| {
                script.times -= 1;
                Some(script.clone())
            },
        )
    }
}
