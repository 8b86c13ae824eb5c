//! The outcome of a run: text, JSON and exit code.

use std::fmt::Write;

use azure_dps::{
    Assignment, DeviceKey, Error, Registration,
    after::Hub,
    error::{BufferTooSmall, ErrorCode, Fault},
    identity::{Csr, InvalidHub, KeyChoice},
    json::{Text, Value},
    provisioning::Details,
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{connect::HubConnection, issued, message::Message, values::printable};

/// The assignment of this device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assigned {
    status: &'static str,
    /// The source: the service, or the record.
    pub from: &'static str,
    /// The address of the service, if the service was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    assigned_hub: String,
    device_id: String,
    registration_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    substatus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_date_time_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated_date_time_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_certificate_chain: Option<Box<RawValue>>,
    /// The result of `--connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub_connection: Option<HubConnection>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "inner")]
    connection_string: Option<Zeroizing<String>>,
    /// The key that the service accepted. `None` if the device has a certificate.
    #[serde(skip)]
    pub key: Option<KeyChoice>,
    /// The issued certificates as PEM, or why there are none. `None` if the device asked for none.
    #[serde(skip)]
    pub issued: Option<Result<String, String>>,
    /// The record for the next start.
    #[serde(skip)]
    pub record: Option<Vec<u8>>,
}

impl Assigned {
    /// Copies the service's answer to this registration.
    pub fn new(assignment: &Assignment<'_>, registration: &Registration<'_>) -> Self {
        // Raw text, because f64 would change some numbers.
        let raw = |value: Value<'_>| RawValue::from_string(value.raw().to_owned()).ok();
        Self {
            status: "assigned",
            from: "service",
            endpoint: None,
            assigned_hub: assignment.assigned_hub().to_owned(),
            device_id: assignment.device_id().to_owned(),
            registration_id: assignment.registration_id().map_or(registration.registration_id().to_string(), decoded),
            enrollment_group_id: assignment.enrollment_group_id().map(decoded),
            substatus: assignment.field("substatus").and_then(|value| value.text()).map(decoded),
            created_date_time_utc: assignment.created().map(decoded),
            last_updated_date_time_utc: assignment.last_updated().map(decoded),
            etag: assignment.etag().map(decoded),
            operation_id: None,
            payload: assignment.payload().and_then(raw),
            issued_certificate_chain: assignment.field("issuedCertificateChain").and_then(raw),
            hub_connection: None,
            connection_string: None,
            key: None,
            issued: registration.csr().map(|csr| issued(assignment, &csr)),
            record: None,
        }
    }

    /// Returns `true` if the device was issued a certificate for its hub.
    pub fn has_certificate(&self) -> bool {
        self.issued_certificate_chain.is_some()
    }

    /// Returns the hub, and this device's ID there.
    pub fn hub(&self) -> Result<Hub<'_>, InvalidHub> {
        Hub::new(&self.assigned_hub, &self.device_id)
    }

    /// Adds the connection string for IoT hub clients. The device uses a certificate if it has no key, or if a
    /// certificate was issued.
    pub fn add_connection_string(&mut self, hub: &Hub<'_>, key: Option<&DeviceKey>) -> Result<(), BufferTooSmall> {
        // Longer than any connection string.
        let mut buffer = Zeroizing::new([0; 512]);
        let connection_string = match key.filter(|_| !self.has_certificate()) {
            Some(key) => hub.write_connection_string(key, buffer.as_mut_slice())?,
            None => hub.write_x509_connection_string(buffer.as_mut_slice())?,
        };
        self.connection_string = Some(Zeroizing::new(connection_string.to_owned()));
        Ok(())
    }

    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!("hub:        {}\ndevice ID:  {}", self.assigned_hub, self.device_id));
        let payload = self.payload.as_ref().map_or("none".to_owned(), |payload| printable(payload.get()));
        text.push_str("\npayload:    ");
        text.push_str(&payload);
        if let Some(issued) = &self.issued {
            let certificates = issued.as_ref().map_or(0, |pem| pem.matches("BEGIN").count());
            let _ = write!(text, "\nissued:     {certificates} certificates");
        }
        if self.from == "record" {
            text.push_str("\nfrom:       the record; the service was not asked");
        }
        if let Some(twin) = self.hub_connection.as_ref().and_then(HubConnection::twin) {
            text.push_str("\ntwin:       ");
            text.push_str(&printable(twin));
        }
        if let Some(connection_string) = &self.connection_string {
            text.push_str("\nconnection: ");
            text.push_str(connection_string);
        }
        text
    }
}

/// Returns the issued chain, or why there is none.
fn issued(assignment: &Assignment<'_>, csr: &Csr<'_>) -> Result<String, String> {
    let chain = assignment.issued_certificate_chain().ok_or("the answer has no issuedCertificateChain")?;
    // No certificate is longer than the base64 of the whole chain.
    let longest = assignment.registration_state().raw().len();
    issued::to_pem(chain, csr, longest).map_err(|error| error.to_string())
}

/// Who must act. Each variant is an exit code; the help lists the codes.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Other = 1,
    Refused = 3,
    Disabled = 4,
    Unauthorized = 5,
    Busy = 6,
    Unreachable = 7,
    NotDps = 8,
    Unassigned = 9,
}

/// The exit code if the device is assigned, but no certificate was issued.
pub const NO_CERTIFICATE: u8 = 10;

/// The request to the service.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The address of the service.
    pub endpoint: &'a str,
    pub is_lookup: bool,
    /// The number of keys. 0 means a certificate.
    pub keys: usize,
}

impl Kind {
    fn of(error: &Error, asked: Asked<'_>) -> Self {
        match error {
            Error::Disabled => Self::Disabled,
            Error::Unassigned => Self::Unassigned,
            Error::Refused(_) if asked.is_lookup && error.code() == Some(ErrorCode::ENROLLMENT_NOT_FOUND) => {
                Self::Unassigned
            }
            Error::Untrusted | Error::ProxyRefused => Self::Unreachable,
            // The service rejects the content of the request.
            Error::Refused(_) if error.fault() == Fault::Caller => Self::Refused,
            _ => match error.fault() {
                Fault::Refused => Self::Refused,
                Fault::Credential => Self::Unauthorized,
                Fault::Busy => Self::Busy,
                Fault::Transport => Self::Unreachable,
                Fault::Peer => Self::NotDps,
                _ => Self::Other,
            },
        }
    }

    fn summary(self, asked: Asked<'_>) -> &'static str {
        match self {
            Self::Other => "this program failed",
            Self::Refused => "the service or its operator rejects this device",
            Self::Disabled => "the operator has disabled this device's enrollment",
            Self::Unauthorized => match asked.keys {
                0 => "the service does not accept this device's certificate",
                1 => "the service does not accept this device's key",
                _ => "the service accepts neither of this device's keys",
            },
            Self::Busy => "the service is throttling, failing or still busy",
            Self::Unreachable => "the service cannot be reached",
            Self::NotDps => "the server is not the Device Provisioning Service",
            Self::Unassigned => "this device is not assigned to a hub",
        }
    }

    fn advice(self, asked: Asked<'_>) -> &'static str {
        match self {
            Self::Other => "report this",
            Self::Refused => {
                "check --id-scope and --registration-id; if both are right, the logs of the service and the webhook have the reason"
            }
            Self::Disabled => "ask the operator to enable the enrollment",
            Self::Unauthorized if asked.keys == 0 => {
                "check --id-scope, this machine's clock, and the certificate: its dates, its common name \
                 (--registration-id), and that an enrollment has it or its CA (for a CA, the file also needs the \
                 intermediate certificates)"
            }
            Self::Unauthorized => {
                "check the key (a group's key needs --compute-key), --id-scope, --registration-id and this machine's clock"
            }
            Self::Busy => "try again later, or with a longer --timeout",
            Self::Unreachable => "check --provisioning-host, HTTPS_PROXY, the network and its firewall, then try again",
            Self::Unassigned => "if the device is being registered, try again; otherwise register it, without --status",
            Self::NotDps => "check --provisioning-host, and look for a proxy or a captive portal",
        }
    }
}

/// What failed, the details, and what to do.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    kind: Kind,
    exit_code: u8,
    /// The address of the service.
    endpoint: String,
    /// Who is at fault.
    summary: &'static str,
    /// The details of the failure.
    seen: String,
    http_status: Option<u16>,
    code: Option<u32>,
    tracking_id: Option<String>,
    /// The message of the service, or a message of the hub that the service forwards.
    message: Option<String>,
    /// The hub's tracking ID, if the service forwards it.
    hub_tracking_id: Option<String>,
    /// The time on the service's clock.
    service_time: Option<String>,
    advice: &'static str,
}

impl Failure {
    /// `seen` is the error of the network or of TLS, or the invalid value in the answer. `details` has the details in
    /// the service's answer.
    pub fn new(error: Error, asked: Asked<'_>, seen: Option<String>, details: Option<Details<'_>>) -> Box<Self> {
        let kind = Kind::of(&error, asked);
        let refusal = match error {
            Error::Refused(refusal) | Error::Failed(refusal) | Error::OperationLost(refusal) => Some(refusal),
            _ => None,
        };
        // If the network failed after the last answer, the answer does not describe the failure.
        let details = details.filter(|_| refusal.is_some());
        let tracking_id = refusal.and_then(|refusal| refusal.tracking_id).map(|id| id.to_string());
        let tracking_id = tracking_id.or_else(|| details?.tracking_id().map(decoded));
        let message = details.and_then(|details| details.message()).map(decoded);
        let message = message.map(|message| Message::read(&message)).unwrap_or_default();
        Box::new(Self {
            kind,
            exit_code: kind as u8,
            endpoint: asked.endpoint.to_owned(),
            summary: match error {
                Error::BufferTooSmall(_) => "this program's buffer is too small",
                Error::Refused(_) if error.fault() == Fault::Caller => "the service rejects the content of the request",
                _ => kind.summary(asked),
            },
            seen: seen.map_or(error.to_string(), |seen| format!("{error}: {seen}")),
            http_status: refusal.map(|refusal| refusal.http_status),
            code: error.code().map(azure_dps::error::ErrorCode::value),
            // Some refusals have an empty tracking ID.
            tracking_id: tracking_id.filter(|id| !id.is_empty()),
            message: message.text,
            hub_tracking_id: message.tracking_id,
            service_time: details.and_then(|details| details.timestamp()).map(decoded),
            advice: match error {
                Error::Untrusted => {
                    "check --ca or SSL_CERT_FILE, --provisioning-host and this machine's clock; \
                     if a proxy decrypts TLS, give the proxy's CA"
                }
                Error::ProxyRefused => {
                    "give the proxy's user and password in HTTPS_PROXY (http://user:password@proxy:3128), or let the \
                     proxy allow connections to --provisioning-host"
                }
                Error::Refused(_) if error.fault() == Fault::Caller => {
                    "check --payload and --csr: this program writes the rest of the request itself"
                }
                Error::BufferTooSmall(_) => {
                    "make the allocation webhook return less, or build this program with a larger buffer"
                }
                _ => kind.advice(asked),
            },
        })
    }

    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    pub fn text(&self) -> String {
        let mut text = format!("error: {}\n  seen:   {}", self.summary, printable(&self.seen));
        if let Some(message) = &self.message {
            let _ = write!(text, "\n  reason: {}", printable(message));
        }
        if let Some(id) = &self.hub_tracking_id {
            let _ = write!(text, "\n  hub:    tracking ID {}", printable(id));
        }
        // A wrong clock is a frequent reason for a rejected token.
        if let (Kind::Unauthorized, Some(time)) = (self.kind, &self.service_time) {
            let _ = write!(text, "\n  clock:  {} at the service", printable(time));
        }
        let _ = write!(text, "\n  to do:  {}", self.advice);
        text
    }
}

fn decoded(text: Text<'_>) -> String {
    text.chars().collect()
}

fn inner<S: Serializer>(secret: &Option<Zeroizing<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_deref().serialize(serializer)
}
