//! Reads the bodies of the service's answers. They are the same over HTTP and MQTT.

use super::assignment::Spans;
use crate::{
    error::{ErrorCode, Malformed, ServiceError, TrackingId},
    identity::{RegistrationId, hub_name::split_hub},
    text::json::{Broken, Object, Reader, Text, Value},
};

/// The status of a registration. It decides how a run continues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// `unassigned` or `assigning`: poll.
    Pending,
    /// A status of a later version of the service: poll.
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
}

/// A member of an answer that decides how a run continues.
#[derive(Clone, Copy, PartialEq, Eq)]
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

const FIELDS: usize = Field::FailureCode as usize + 1;
/// The members at the top of an answer.
const OF_ANSWER: [Field; 5] = [Field::Status, Field::OperationId, Field::RefusalCode, Field::TrackingId, Field::State];
/// The members of `registrationState`.
const OF_STATE: [Field; 6] = [
    Field::StateStatus,
    Field::RegistrationId,
    Field::AssignedHub,
    Field::DeviceId,
    Field::Payload,
    Field::FailureCode,
];

impl Field {
    #[inline(never)]
    const fn name(self) -> &'static str {
        match self {
            Field::Status | Field::StateStatus => "status",
            Field::OperationId => "operationId",
            Field::RefusalCode | Field::FailureCode => "errorCode",
            Field::TrackingId => "trackingId",
            Field::State => "registrationState",
            Field::RegistrationId => "registrationId",
            Field::AssignedHub => "assignedHub",
            Field::DeviceId => "deviceId",
            Field::Payload => "payload",
        }
    }
}

/// An answer that was read completely. It holds the members that decide how the run continues.
/// [`Assignment`](super::Assignment) looks up the others when the caller asks for them.
///
/// A member of the wrong type is an error if the run needs the member. Otherwise it counts as absent.
pub(crate) struct Document<'b> {
    values: [Option<Value<'b>>; FIELDS],
    /// The name of a member that occurs twice. `values` has its first value.
    duplicate: Option<&'static str>,
}

impl<'b> Document<'b> {
    pub(crate) const EMPTY: Self = Self { values: [None; FIELDS], duplicate: None };

    /// Reads an answer into this document, which must be empty. To return a document would copy it.
    pub(crate) fn read(&mut self, body: &'b [u8]) -> Result<(), Malformed> {
        self.read_from(body, false)
    }

    /// Reads a document that is only a registration state.
    #[inline]
    pub(crate) fn read_state(&mut self, body: &'b [u8]) -> Result<(), Malformed> {
        self.read_from(body, true)
    }

    fn read_from(&mut self, body: &'b [u8], is_state: bool) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        self.fill(&mut reader, is_state).map_err(|Broken| Malformed::Json(reader.error()))?;
        self.duplicate.map_or(Ok(()), |name| Err(Malformed::Duplicate(name)))
    }

    fn fill(&mut self, reader: &mut Reader<'b>, is_state: bool) -> Result<(), Broken> {
        // The start of `registrationState` while the reader is inside it, else `None`.
        let mut state = is_state.then(|| reader.mark());
        reader.begin_object()?;
        loop {
            let Some(key) = reader.next_key()? else {
                let Some(start) = state.take() else { break };
                self.set(Field::State, Value::checked(reader.since(start)));
                if is_state {
                    break;
                }
                continue;
            };
            let fields: &[Field] = if state.is_none() { &OF_ANSWER } else { &OF_STATE };
            let field = fields.iter().copied().find(|field| reader.is(key, field.name()));
            if field == Some(Field::State) && reader.at_object() {
                state = Some(reader.mark());
                reader.begin_object()?;
                continue;
            }
            let value = reader.value()?;
            if let Some(field) = field
                && !value.is_null()
            {
                self.set(field, value);
            }
        }
        reader.end()
    }

    #[inline]
    fn set(&mut self, field: Field, value: Value<'b>) {
        match &mut self.values[field as usize] {
            slot @ None => *slot = Some(value),
            Some(_) => self.duplicate = Some(field.name()),
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
        self.text(field).ok_or(self.unusable(field))
    }

    /// Returns the error for a member that the run needs, but that is absent or not a string.
    fn unusable(&self, field: Field) -> Malformed {
        let name = field.name();
        if self.get(field).is_some() { Malformed::Invalid(name) } else { Malformed::Missing(name) }
    }

    pub(crate) fn operation_id(&self) -> Result<Text<'b>, Malformed> {
        match self.require(Field::OperationId)? {
            text if text.bytes().is_empty() => Err(Malformed::Missing("operationId")),
            text => Ok(text),
        }
    }

    /// Returns the status in a member, if the member is a string.
    fn status_in(&self, field: Field) -> Option<Status> {
        self.get(field).filter(|value| value.text().is_some()).map(Status::read)
    }

    pub(crate) fn status(&self) -> Result<Status, Malformed> {
        let status = match self.status_in(Field::Status) {
            Some(status) => status,
            // An operation ID without a status: poll.
            None if self.get(Field::Status).is_none() && self.text(Field::OperationId).is_some() => Status::Pending,
            None => return Err(self.unusable(Field::Status)),
        };
        // The status of the answer and the status in `registrationState` may differ, because one of them
        // may be late. They must agree on a success.
        match self.status_in(Field::StateStatus) {
            Some(inner) if (inner == Status::Assigned) == (status == Status::Assigned) => Ok(status),
            Some(inner) if inner == Status::Pending || status == Status::Pending => Ok(Status::Pending),
            Some(_) => Err(Malformed::Contradiction("registrationState.status")),
            None => Ok(status),
        }
    }

    /// Returns the status of a document that is only a registration state.
    pub(crate) fn state_status(&self) -> Result<Status, Malformed> {
        self.status_in(Field::StateStatus).ok_or(self.unusable(Field::StateStatus))
    }

    /// Returns the error of a registration with the status `failed`. A code that is not a number counts as
    /// absent.
    pub(crate) fn failure(&self, http_status: u16) -> ServiceError {
        ServiceError { http_status, code: self.code(Field::FailureCode), tracking_id: None }
    }

    fn code(&self, field: Field) -> Option<ErrorCode> {
        self.get(field)?.u32().map(ErrorCode::from)
    }

    /// Checks the assignment. Returns the positions of its parts in `body`, and the device ID. The caller
    /// decodes and checks the device ID.
    #[inline]
    pub(crate) fn assignment(
        &self,
        registration_id: RegistrationId<'_>,
        body: &[u8],
    ) -> Result<(Spans, Text<'b>), Malformed> {
        let registration_id = registration_id.as_str().as_bytes();
        let state = self.get(Field::State).filter(|state| state.object().is_some());
        let state = state.ok_or(self.unusable(Field::State))?;
        if let Some(answered) = self.text(Field::RegistrationId)
            && answered.bytes() != registration_id
            && !answered.bytes().eq_ignore_ascii_case(registration_id)
        {
            return Err(Malformed::Contradiction("registrationId"));
        }
        let hub = self.require(Field::AssignedHub)?;
        if split_hub(hub.bytes()).is_none() {
            return Err(Malformed::Invalid("assignedHub"));
        }
        let device_id = self.require(Field::DeviceId)?;
        Ok((Spans::new(state, hub, self.get(Field::Payload), body), device_id))
    }
}

/// The service's message about a failed run, from
/// [`Provisioning::details`](crate::Provisioning::details).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Details<'b> {
    document: Object<'b>,
    state: Option<Object<'b>>,
}

impl<'b> Details<'b> {
    /// Reads the body of an error answer, or of a failed registration.
    #[inline]
    pub(crate) fn read(body: &'b [u8]) -> Option<Self> {
        let document = Object::parse_within(body, 0).ok()?;
        let state = document.get("registrationState").and_then(|state| state.object());
        Some(Self { document, state })
    }

    /// Returns the message: `message` of a rejected request, or `errorMessage` of a failed registration.
    pub fn message(&self) -> Option<Text<'b>> {
        self.text("message").or_else(|| self.text("errorMessage"))
    }

    /// Returns the tracking ID in any form. Give it to Microsoft's support.
    pub fn tracking_id(&self) -> Option<Text<'b>> {
        self.text("trackingId")
    }

    /// Returns the time of the failure on the service's clock (RFC 3339, UTC). If the service rejects a token
    /// as expired, the device can compare its clock with this time.
    pub fn timestamp(&self) -> Option<Text<'b>> {
        self.text("timestampUtc").or_else(|| self.text("lastUpdatedDateTimeUtc"))
    }

    /// Returns the member `info`, if it is an object.
    pub fn info(&self) -> Option<Object<'b>> {
        self.document.get("info")?.object()
    }

    /// Returns the value that makes an answer invalid.
    pub(crate) fn refused_value(&self, malformed: Malformed) -> Option<Value<'b>> {
        let (Malformed::Invalid(name) | Malformed::Duplicate(name) | Malformed::Contradiction(name)) = malformed else {
            return None;
        };
        let state = self.state.unwrap_or(self.document);
        match name {
            "status" | "operationId" | "registrationState" => self.document.get(name),
            _ => state.get(name.strip_prefix("registrationState.").unwrap_or(name)),
        }
    }

    /// Returns the whole document.
    pub const fn object(&self) -> Object<'b> {
        self.document
    }

    fn text(&self, name: &str) -> Option<Text<'b>> {
        let text = |object: Object<'b>| object.get(name)?.text();
        text(self.document).or_else(|| text(self.state?))
    }
}

/// Reads the body of an error answer. If the body is not an error document of DPS (an HTML page of a proxy,
/// or empty), the error has only the HTTP status.
pub(crate) fn refusal(http_status: u16, body: &[u8]) -> ServiceError {
    let mut document = Document::EMPTY;
    if let Err(Malformed::Json(_)) = document.read(body) {
        document = Document::EMPTY;
    }
    ServiceError {
        http_status,
        code: document.code(Field::RefusalCode),
        tracking_id: document.text(Field::TrackingId).and_then(|text| TrackingId::read(text.bytes())),
    }
}
