//! The bodies of the service's answers. They are the same over HTTP and MQTT.

use crate::{
    Assignment, ErrorCode, Malformed, Refusal, RegistrationId, TrackingId,
    json::{JsonProblem, Object, Reader, Text, Value},
};

/// What decides how a run goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// `unassigned`, `assigning`, or a status that later versions may add: poll.
    Pending,
    Assigned,
    Failed,
    Disabled,
}

impl Status {
    fn read(value: Value<'_>) -> Result<Self, Malformed> {
        let text = value.text().ok_or(Malformed::Invalid("status"))?;
        let is = |name| text.eq_ignore_ascii_case(name);
        Ok(if is("assigned") {
            Status::Assigned
        } else if is("failed") {
            Status::Failed
        } else if is("disabled") || is("blacklisted") {
            Status::Disabled
        } else {
            Status::Pending
        })
    }
}

/// A successful answer, read in full.
pub(crate) struct Document<'b> {
    status: Option<Status>,
    pub(crate) operation_id: Option<Text<'b>>,
    state: Option<State<'b>>,
}

impl<'b> Document<'b> {
    pub(crate) fn read(body: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(utf8(body)?);
        Self::read_all(&mut reader).map_err(|wrong| match wrong {
            Wrong::Json(problem) => Malformed::Json(reader.error(problem)),
            Wrong::Field(malformed) => malformed,
        })
    }

    fn read_all(reader: &mut Reader<'b>) -> Result<Self, Wrong> {
        let mut document = Document { status: None, operation_id: None, state: None };
        reader.begin_object()?;
        while let Some(key) = reader.next_key()? {
            if key == "registrationState" && reader.at_object() {
                once("registrationState", &mut document.state, State::read(reader)?)?;
                continue;
            }
            let value = reader.value()?;
            if value.is_null() {
                continue;
            }
            if key == "status" {
                once("status", &mut document.status, Status::read(value)?)?;
            } else if key == "operationId" {
                let text = value.text().ok_or(Malformed::Invalid("operationId"))?;
                once("operationId", &mut document.operation_id, text)?;
            } else if key == "registrationState" {
                return Err(Malformed::Invalid("registrationState").into());
            }
        }
        reader.end()?;
        Ok(document)
    }

    pub(crate) fn status(&self) -> Result<Status, Malformed> {
        let status = match self.status {
            Some(status) => status,
            // An operation without a status is one to ask again about.
            None if self.operation_id.is_some() => Status::Pending,
            None => return Err(Malformed::Missing("status")),
        };
        // The two statuses may differ on the way to the end, but not about a success.
        match self.state.as_ref().and_then(|state| state.status) {
            Some(inner) if (inner == Status::Assigned) != (status == Status::Assigned) => {
                Err(Malformed::Contradiction("registrationState.status"))
            }
            _ => Ok(status),
        }
    }

    pub(crate) fn error_code(&self) -> Option<ErrorCode> {
        self.state.as_ref()?.error_code
    }

    pub(crate) fn assignment(self, registration_id: RegistrationId<'_>) -> Result<Assignment<'b>, Malformed> {
        self.state.ok_or(Malformed::Missing("registrationState"))?.assignment(registration_id)
    }
}

/// The members of `registrationState` that are checked before anything is handed out. The
/// others are looked up when they are asked for.
struct State<'b> {
    object: Object<'b>,
    status: Option<Status>,
    registration_id: Option<Text<'b>>,
    assigned_hub: Option<Text<'b>>,
    device_id: Option<Text<'b>>,
    payload: Option<Value<'b>>,
    error_code: Option<ErrorCode>,
}

impl<'b> State<'b> {
    fn read(reader: &mut Reader<'b>) -> Result<Self, Wrong> {
        let mut state = State {
            object: Object::EMPTY,
            status: None,
            registration_id: None,
            assigned_hub: None,
            device_id: None,
            payload: None,
            error_code: None,
        };
        let start = reader.mark();
        reader.begin_object()?;
        while let Some(key) = reader.next_key()? {
            let value = reader.value()?;
            if value.is_null() {
                continue;
            }
            let text = |name| value.text().ok_or(Malformed::Invalid(name));
            if key == "assignedHub" {
                once("assignedHub", &mut state.assigned_hub, text("assignedHub")?)?;
            } else if key == "deviceId" {
                once("deviceId", &mut state.device_id, text("deviceId")?)?;
            } else if key == "payload" {
                once("payload", &mut state.payload, value)?;
            } else if key == "status" {
                once("registrationState.status", &mut state.status, Status::read(value)?)?;
            } else if key == "registrationId" {
                once("registrationId", &mut state.registration_id, text("registrationId")?)?;
            } else if key == "errorCode" {
                // A code that is no number leaves the failure a failure, without a code.
                state.error_code = value.u32().map(ErrorCode::from);
            }
        }
        state.object = reader.object_since(start);
        Ok(state)
    }

    fn assignment(self, registration_id: RegistrationId<'_>) -> Result<Assignment<'b>, Malformed> {
        if let Some(answered) = self.registration_id
            && !answered.eq_ignore_ascii_case(registration_id.as_str())
        {
            return Err(Malformed::Contradiction("registrationId"));
        }
        let hub = self.assigned_hub.ok_or(Malformed::Missing("assignedHub"))?;
        let hub = hub.as_str().filter(|hub| is_host_name(hub)).ok_or(Malformed::Invalid("assignedHub"))?;
        let device_id = self.device_id.ok_or(Malformed::Missing("deviceId"))?;
        if !is_device_id(device_id) {
            return Err(Malformed::Invalid("deviceId"));
        }
        Ok(Assignment::new(self.object, hub, device_id, self.payload))
    }
}

/// Letters, digits, `-` and `.`: what goes into headers and connection strings must not
/// be able to end them.
fn is_host_name(text: &str) -> bool {
    matches!(text.len(), 1..=253)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// What IoT Hub allows in a device ID.
///
/// Source: <https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties>
fn is_device_id(text: Text<'_>) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.+%_#*?!(),:=@$'".contains(&byte);
    match text.as_str() {
        Some(text) => matches!(text.len(), 1..=128) && text.bytes().all(allowed),
        None => {
            let is_allowed = |character| u8::try_from(character).is_ok_and(allowed);
            matches!(text.chars().count(), 1..=128) && text.chars().all(is_allowed)
        }
    }
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
        let document = Object::parse(core::str::from_utf8(body).ok()?).ok()?;
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
    let details = Details::read(body);
    Refusal {
        http_status,
        code: details.and_then(|details| details.object().get("errorCode")?.u32()).map(ErrorCode::from),
        tracking_id: details.and_then(|details| details.tracking_id()?.as_str()).and_then(TrackingId::parse),
    }
}

fn utf8(body: &[u8]) -> Result<&str, Malformed> {
    core::str::from_utf8(body).map_err(|error| Malformed::Json(error.into()))
}

fn once<T>(name: &'static str, slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::Duplicate(name)),
    }
}

/// What is wrong with a document, before the place of a problem with its JSON is known.
enum Wrong {
    Json(JsonProblem),
    Field(Malformed),
}

impl From<JsonProblem> for Wrong {
    fn from(problem: JsonProblem) -> Self {
        Wrong::Json(problem)
    }
}

impl From<Malformed> for Wrong {
    fn from(malformed: Malformed) -> Self {
        Wrong::Field(malformed)
    }
}
