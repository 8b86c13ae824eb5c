//! Faults on demand: what a test wants the service to do next.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The requests of a device, to DPS and to its hub.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// `PUT …/register`.
    Register,
    /// `GET …/operations/{operationId}`.
    Status,
    /// `POST …/registrations/{registrationId}`. MQTT has none.
    Lookup,
    /// MQTT's CONNECT, which is answered by CONNACK. A script can delay it, cut it off, or answer it with
    /// [`Script::connack`] or raw bytes. Other scripts have no effect on it.
    Connect,
    /// The same at a hub, with [`Script::hub_connack`].
    HubConnect,
    /// Reading the twin at a hub: `$iothub/twin/GET/…`.
    TwinGet,
    /// Reporting properties to a hub: `$iothub/twin/PATCH/properties/reported/…`.
    TwinReport,
    /// Telemetry, which is answered by PUBACK at QoS 1. A script can delay it, or drop or cut the connection instead of
    /// the PUBACK. Other scripts have no effect on it.
    Telemetry,
}

/// One fault, which the next matching request uses up.
///
/// Scripts wait in a queue, in the order in which they were given. A request takes the first one that matches.
///
/// ```
/// # use azure_dps_emulator::{Config, Emulator, Operation, Script};
/// # let emulator = Emulator::builder(Config::contoso()).start()?;
/// // The first register is throttled, the second one's answer is lost on the way.
/// emulator.script(Script::respond(Operation::Register, 429, &[("Retry-After", "7")], ""));
/// emulator.script(Script::drop_connection(Operation::Register));
/// # Ok::<(), azure_dps_emulator::StartError>(())
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

    /// Answers with this instead, without looking at the request, as a gateway in front of the service would. The
    /// headers are added to `Content-Type`, `Content-Length` and `Date`. MQTT has only `Retry-After`.
    pub fn respond(operation: Operation, status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::new(operation, Action::Respond { status, headers, body: body.into() })
    }

    /// Carries out the request, then closes the connection without a byte of the answer.
    #[must_use]
    pub fn drop_connection(operation: Operation) -> Self {
        Self::cut(operation, 0)
    }

    /// Carries out the request, then closes the connection after `bytes` bytes of the answer: of its head and body, or
    /// of MQTT's message. Over MQTT the request has been acknowledged by then.
    #[must_use]
    pub fn cut(operation: Operation, bytes: usize) -> Self {
        Self::new(operation, Action::Cut(bytes))
    }

    /// Writes these bytes instead of an answer, HTTP or not, and closes the connection.
    pub fn raw(operation: Operation, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(operation, Action::Raw(bytes.into()))
    }

    /// Answers as usual, with this JSON merged into the body (RFC 7396: `null` removes a field). This makes unknown
    /// fields, unknown states and missing hubs.
    #[must_use]
    pub fn merge(operation: Operation, patch: Value) -> Self {
        Self::new(operation, Action::Merge(patch))
    }

    /// Answers as usual, without `Retry-After`.
    #[must_use]
    pub fn omit_retry_after(operation: Operation) -> Self {
        Self::new(operation, Action::OmitRetryAfter)
    }

    /// Answers as usual, with the parameters of MQTT's topic in another order: `retry-after` before `$rid`. It has no
    /// effect over HTTP.
    #[must_use]
    pub fn permute_topic(operation: Operation) -> Self {
        Self::new(operation, Action::PermuteTopic)
    }

    /// Refuses the next MQTT CONNECT at DPS with this return code, and closes the connection.
    #[must_use]
    pub fn connack(return_code: u8) -> Self {
        Self::refuse_connect(Operation::Connect, return_code)
    }

    /// Refuses the next MQTT CONNECT at a hub with this return code, and closes the connection.
    #[must_use]
    pub fn hub_connack(return_code: u8) -> Self {
        Self::refuse_connect(Operation::HubConnect, return_code)
    }

    /// The same for either service.
    pub(crate) fn refuse_connect(operation: Operation, return_code: u8) -> Self {
        // Written by hand, because the codec only writes the codes that it knows.
        Self::raw(operation, [0x20, 0x02, 0x00, return_code])
    }

    /// Answers as usual, after this much of the service's time.
    #[must_use]
    pub fn delay(operation: Operation, delay: Duration) -> Self {
        Self::new(operation, Action::Nothing).after(delay)
    }

    /// Waits for this much of the service's time before doing anything else.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Applies the script only to requests of this device.
    #[must_use]
    pub fn for_device(mut self, registration_id: &str) -> Self {
        self.registration_id = Some(registration_id.to_owned());
        self
    }

    /// Applies the script to this many requests. Default 1.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// About how much memory it takes.
    fn size(&self) -> usize {
        let action = match &self.action {
            Action::Respond { headers, body, .. } => {
                body.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            }
            // A tree takes several times its text.
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

/// How many scripts may wait that came through the control API.
pub(crate) const SCRIPTS: usize = 1000;
/// How much memory they may take.
pub(crate) const SCRIPTS_SIZE: usize = 16 * 1024 * 1024;

/// There is no room for one more script.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// The scripts that wait, in the order in which they were given.
#[derive(Default)]
pub(super) struct Scripts {
    queue: Vec<Script>,
    /// How many requests devices have made.
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

    /// Takes the first script that matches out of the queue. Without one, every `drop_every`-th request loses its
    /// answer.
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
