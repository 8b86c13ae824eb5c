//! The bodies of the service's answers. They are the same over HTTP and MQTT.

use crate::{
    ErrorCode, Malformed, Refusal, RegistrationId, TrackingId,
    assignment::Spans,
    json::{Broken, Object, Reader, Text, Value},
};

/// What decides how a run goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// `unassigned` or `assigning`: poll.
    Pending,
    /// A status that later versions may add: poll.
    Unknown,
    Assigned,
    Failed,
    Disabled,
}

impl Status {
    fn read(value: Value<'_>) -> Self {
        const NAMES: [(&[u8], Status); 6] = [
            (b"\"assigning\"", Status::Pending),
            (b"\"unassigned\"", Status::Pending),
            (b"\"assigned\"", Status::Assigned),
            (b"\"failed\"", Status::Failed),
            (b"\"disabled\"", Status::Disabled),
            (b"\"blacklisted\"", Status::Disabled),
        ];
        let known = NAMES.iter().find(|(name, _)| value.bytes().eq_ignore_ascii_case(name));
        known.map_or(Status::Unknown, |(_, status)| *status)
    }

    pub(crate) fn is_pending(self) -> bool {
        matches!(self, Status::Pending | Status::Unknown)
    }
}

/// A member that decides something: at the top of an answer up to and with
/// `registrationState`, and within that from there on.
#[derive(Clone, Copy)]
enum Field {
    Status,
    OperationId,
    RefusalCode,
    TrackingId,
    State,
    StateStatus,
    RegistrationId,
    AssignedHub,
    DeviceId,
    Payload,
    FailureCode,
}

const NAMES: [&str; 11] = [
    "status",
    "operationId",
    "errorCode",
    "trackingId",
    "registrationState",
    "status",
    "registrationId",
    "assignedHub",
    "deviceId",
    "payload",
    "errorCode",
];
const STATE: usize = Field::State as usize;

/// What must be a string. What a failure says beside its status is not worth another failure.
const STRINGS: u32 = 1 << Field::Status as u32
    | 1 << Field::OperationId as u32
    | 1 << Field::StateStatus as u32
    | 1 << Field::RegistrationId as u32
    | 1 << Field::AssignedHub as u32
    | 1 << Field::DeviceId as u32;

/// An answer, read in full: everything that decides how the run goes on. Members that the
/// assignment has beside these are looked up when they are asked for.
pub(crate) struct Document<'b> {
    values: [Option<Value<'b>>; NAMES.len()],
}

impl<'b> Document<'b> {
    pub(crate) const EMPTY: Self = Self { values: [None; NAMES.len()] };

    /// Reads an answer into this document, which was empty. (One that was returned would be
    /// copied.)
    pub(crate) fn read(&mut self, body: &'b [u8]) -> Result<(), Malformed> {
        self.read_from(body, false)
    }

    /// The same for a document that is nothing but a registration state.
    #[inline]
    pub(crate) fn read_state(&mut self, body: &'b [u8]) -> Result<(), Malformed> {
        self.read_from(body, true)
    }

    fn read_from(&mut self, body: &'b [u8], is_state: bool) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        self.fill(&mut reader, is_state).map_err(|wrong| match wrong {
            Wrong::Json => Malformed::Json(reader.error()),
            Wrong::Field(malformed) => malformed,
        })
    }

    fn fill(&mut self, reader: &mut Reader<'b>, is_state: bool) -> Result<(), Wrong> {
        // Where `registrationState` begins, while the reader is inside.
        let mut state = is_state.then(|| reader.mark());
        reader.begin_object()?;
        loop {
            let Some(key) = reader.next_key()? else {
                let Some(start) = state.take() else { break };
                self.set(STATE, Value::checked(reader.since(start)))?;
                if is_state {
                    break;
                }
                continue;
            };
            let names = if state.is_none() { 0..STATE + 1 } else { STATE + 1..NAMES.len() };
            let first = names.start;
            let field = reader.find(key, NAMES.get(names).unwrap_or_default()).map(|at| first + at);
            if field == Some(STATE) && reader.at_object() {
                state = Some(reader.mark());
                reader.begin_object()?;
                continue;
            }
            let value = reader.value()?;
            if let Some(field) = field
                && !value.is_null()
            {
                self.set(field, value)?;
            }
        }
        Ok(reader.end()?)
    }

    #[inline]
    fn set(&mut self, field: usize, value: Value<'b>) -> Result<(), Malformed> {
        let name = NAMES.get(field).copied().unwrap_or_default();
        let is_wrong = match field {
            STATE => value.object().is_none(),
            _ => STRINGS >> field & 1 == 1 && value.text().is_none(),
        };
        if is_wrong {
            return Err(Malformed::Invalid(name));
        }
        match self.values.get_mut(field) {
            Some(slot @ None) => {
                *slot = Some(value);
                Ok(())
            }
            _ => Err(Malformed::Duplicate(name)),
        }
    }

    fn get(&self, field: Field) -> Option<Value<'b>> {
        self.values[field as usize]
    }

    #[inline(never)]
    fn text(&self, field: Field) -> Option<Text<'b>> {
        self.get(field)?.text()
    }

    fn require(&self, field: Field) -> Result<Text<'b>, Malformed> {
        self.text(field).ok_or(Malformed::Missing(NAMES[field as usize]))
    }

    pub(crate) fn operation_id(&self) -> Option<Text<'b>> {
        self.text(Field::OperationId).filter(|text| !text.bytes().is_empty())
    }

    pub(crate) fn status(&self) -> Result<Status, Malformed> {
        let status = match self.get(Field::Status) {
            Some(status) => Status::read(status),
            // An operation without a status is one to ask again about.
            None if self.get(Field::OperationId).is_some() => Status::Pending,
            None => return Err(Malformed::Missing("status")),
        };
        // The two statuses may differ on the way to the end, but not about a success. One of them
        // may be late.
        match self.get(Field::StateStatus).map(Status::read) {
            Some(inner) if (inner == Status::Assigned) == (status == Status::Assigned) => Ok(status),
            Some(inner) if inner == Status::Pending || status == Status::Pending => Ok(Status::Pending),
            Some(_) => Err(Malformed::Contradiction("registrationState.status")),
            None => Ok(status),
        }
    }

    /// The status of a registration state by itself.
    pub(crate) fn state_status(&self) -> Result<Status, Malformed> {
        self.get(Field::StateStatus).map(Status::read).ok_or(Malformed::Missing("status"))
    }

    /// Why the registration ended as `failed`. A code that is no number leaves the failure a
    /// failure, without a code.
    pub(crate) fn failure(&self, http_status: u16) -> Refusal {
        Refusal { http_status, code: self.code(Field::FailureCode), tracking_id: None }
    }

    fn code(&self, field: Field) -> Option<ErrorCode> {
        self.get(field)?.u32().map(ErrorCode::from)
    }

    /// Where the device belongs: checked here, handed out from the `body` later.
    #[inline]
    pub(crate) fn assignment(&self, registration_id: RegistrationId<'_>, body: &[u8]) -> Result<Spans, Malformed> {
        let registration_id = registration_id.as_str().as_bytes();
        let state = self.get(Field::State).ok_or(Malformed::Missing("registrationState"))?;
        if let Some(answered) = self.text(Field::RegistrationId)
            && answered.bytes() != registration_id
            && !answered.bytes().eq_ignore_ascii_case(registration_id)
        {
            return Err(Malformed::Contradiction("registrationId"));
        }
        let hub = self.require(Field::AssignedHub)?;
        if !is_host_name(hub.bytes()) {
            return Err(Malformed::Invalid("assignedHub"));
        }
        let device_id = self.require(Field::DeviceId)?;
        // A registration ID is a device ID, and nearly every device ID is one.
        if device_id.bytes() != registration_id && !is_device_id(device_id) {
            return Err(Malformed::Invalid("deviceId"));
        }
        Ok(Spans::new(state, hub, device_id, self.get(Field::Payload), body))
    }
}

/// Letters, digits, `-` and `.`: what goes into headers and connection strings must not
/// be able to end them.
#[inline]
pub(crate) fn is_host_name(text: &[u8]) -> bool {
    matches!(text.len(), 1..=253) && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// What IoT Hub allows in a device ID.
///
/// Source: <https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties>
#[inline]
pub(crate) fn is_device_id(text: Text<'_>) -> bool {
    let mut len = 0;
    let allowed = text.chars().all(|character| {
        len += 1;
        character.is_ascii_alphanumeric()
            || matches!(character, '!' | '#'..='%' | '\''..='.' | ':' | '=' | '?' | '@' | '_')
    });
    allowed && matches!(len, 1..=128)
}

/// What the service says of a failure in words, read from the caller's buffer with
/// [`Provisioning::details`](crate::Provisioning::details).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details<'b> {
    document: Object<'b>,
    state: Option<Object<'b>>,
}

impl<'b> Details<'b> {
    /// Reads an error body, or a failed registration.
    pub(crate) fn read(body: &'b [u8]) -> Option<Self> {
        let document = Object::parse_within(body, 0).ok()?;
        let state = document.get("registrationState").and_then(|state| state.object());
        Some(Self { document, state })
    }

    /// The message: `message` of a refused request, `errorMessage` of a failed registration.
    pub fn message(&self) -> Option<Text<'b>> {
        self.text("message").or_else(|| self.text("errorMessage"))
    }

    /// The tracking ID as it came, of whatever form.
    pub fn tracking_id(&self) -> Option<Text<'b>> {
        self.text("trackingId")
    }

    /// When the service refused, in its own clock: RFC 3339, UTC. A device whose token is
    /// refused as expired can compare its clock with this.
    pub fn timestamp(&self) -> Option<Text<'b>> {
        self.text("timestampUtc").or_else(|| self.text("lastUpdatedDateTimeUtc"))
    }

    /// Further facts, as the service likes.
    pub fn info(&self) -> Option<Object<'b>> {
        self.document.get("info")?.object()
    }

    /// The whole document.
    pub const fn object(&self) -> Object<'b> {
        self.document
    }

    fn text(&self, name: &str) -> Option<Text<'b>> {
        let text = |object: Object<'b>| object.get(name)?.text();
        text(self.document).or_else(|| text(self.state?))
    }
}

/// Reads the body of a refused request. Anything that is not DPS's error document (an HTML
/// page of a proxy, nothing at all) still is a refusal, with the HTTP status alone.
pub(crate) fn refusal(http_status: u16, body: &[u8]) -> Refusal {
    let mut document = Document::EMPTY;
    if document.read(body).is_err() {
        document = Document::EMPTY;
    }
    Refusal {
        http_status,
        code: document.code(Field::RefusalCode),
        tracking_id: document.text(Field::TrackingId).and_then(|text| TrackingId::read(text.bytes())),
    }
}

/// What is wrong with a document, before the place of a problem with its JSON is known.
enum Wrong {
    Json,
    Field(Malformed),
}

impl From<Broken> for Wrong {
    fn from(_: Broken) -> Self {
        Wrong::Json
    }
}

impl From<Malformed> for Wrong {
    fn from(malformed: Malformed) -> Self {
        Wrong::Field(malformed)
    }
}
