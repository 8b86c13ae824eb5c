//! What the targets share: inputs in parts, and the emulator for the targets of its parsers.

#![cfg(feature = "emulator")]

pub mod http;
pub mod mqtt;
pub mod secrets;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use azure_dps::json::Object;
use azure_dps::{DeviceKey, IdScope, RegistrationId, identity::sas_token};
use azure_dps_emulator::fuzzing::{Request, Service};
use azure_dps_emulator::{
    Behaviour, Certificate, Config, DeviceRecord, DisabledAnswer, EnrollmentGroup, IndividualEnrollment, Operation,
    TpmChallenge, X509Attestation,
};
use memchr::memmem;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tokio::time::Instant;

pub const ID_SCOPE: &str = "0ne1";

/// The time of all requests. The certificates are valid then.
pub const NOW: u64 = 2_000_000_000;

/// The token's expiry, as in the seeds.
const EXPIRY: u64 = 4_102_444_800;

/// In an input it stands for the ID of an operation of device `d`, and is as long.
const OPERATION_ID: &str = "5.0123456789abcdef.01234567-89ab-cdef-0123-456789abcdef";

/// An input is written in parts with a line of two hyphens between them, so that seeds can be read, and
/// a part can be had by any other target.
pub fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BETWEEN: &[u8] = b"\n--\n";
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let all = rest.take()?;
        match position(all, BETWEEN) {
            Some(at) => {
                rest = Some(&all[at + BETWEEN.len()..]);
                Some(&all[..at])
            }
            None => Some(all),
        }
    })
}

/// The first line of a part, and what follows it.
pub fn first_line(part: &[u8]) -> (&str, &[u8]) {
    let (line, rest) = match position(part, b"\n") {
        Some(at) => (&part[..at], &part[at + 1..]),
        None => (part, &[][..]),
    };
    (str::from_utf8(line).unwrap_or_default(), rest)
}

pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    position(bytes, part).is_some()
}

/// Does not compare every window: the fuzzer uses each comparison as a hint.
fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    memmem::find(bytes, part)
}

/// A token of the owner of the service API, for the host `localhost`.
pub const SERVICE_TOKEN: &str = "SharedAccessSignature sr=localhost&sig=mgUV8300wLa3DvxFCLYUhQjUL80sezqog7I%2FrFw6XvQ%3D&\
    se=4102444800&skn=provisioningserviceowner";

/// A token for one of the devices of `emulator.toml` with a key. The case of their IDs does not count.
pub fn token(registration_id: &str) -> Option<String> {
    let registration_id = registration_id.to_ascii_lowercase();
    if !["d", "disabled", "custom"].contains(&&*registration_id) {
        return None;
    }
    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    let (id_scope, id) = (IdScope::new(ID_SCOPE).unwrap(), RegistrationId::new(&registration_id).unwrap());
    Some(sas_token::write(&mut key, id_scope, id, EXPIRY, &mut [0; 256]).unwrap().to_owned())
}

/// What a device alone can make of a token, without escapes and padding.
pub fn signature(token: &str) -> Vec<u8> {
    let token = percent_decoded(token.as_bytes());
    let start = position(&token, b"sig=").unwrap() + 4;
    token[start..].iter().copied().take_while(|byte| *byte != b'=').collect()
}

/// The emulator twice, with the defaults and with all that differs from them, on one runtime whose time
/// passes by itself when nobody has anything to do.
pub struct Emulator {
    runtime: Runtime,
    services: [Service; 2],
    signature: Vec<u8>,
}

/// The result of a connection.
pub struct Conversation {
    /// What was said, and what was answered.
    pub said: Vec<u8>,
    pub answered: Vec<u8>,
    pub took: Duration,
    /// Who has got a hub.
    devices: Vec<DeviceRecord>,
    /// Whether `d` was registered before, to have an operation that can be asked for.
    asks: bool,
    /// Whether the token of `d` was among what was said.
    pub has_signature: bool,
}

/// How long a conversation may take that does not end: longer than the longest keep-alive.
const FOR_EVER: Duration = Duration::from_secs(48 * 3600);

impl Emulator {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let usual = config();
        let behaviour = Behaviour {
            retry_after: None,
            chunked: false,
            polls_before_result: 1,
            strict_api_version: true,
            any_key_name: true,
            not_found_as_failed: true,
            refuse_concurrent_registration: true,
            certificate_info_in_result: true,
            ignore_csr_without_policy: true,
            issued_chain_root_first: true,
            refuse_at_connect: true,
            result_at_once: true,
            registrations_per_minute: Some(16),
            operations_per_minute: Some(16),
            device_polls_per_10s: Some(5),
            refuse_unknown_members: true,
            tracking_id_is_request_id: true,
            constant_operation_id_middle: false,
            omit_unset_members: true,
            tpm_challenge: TpmChallenge::Long,
            disabled_answer: DisabledAnswer::Operation,
            ..Behaviour::default()
        };
        let services = [Config { behaviour, ..usual.clone() }, usual].map(|config| Service::new(config).unwrap());
        Self { runtime, services, signature: signature(&token("d").unwrap()) }
    }

    /// One of the two.
    pub fn run<T>(&self, unusual: bool, run: impl AsyncFnOnce(&Service) -> T) -> T {
        self.runtime.block_on(run(&self.services[usize::from(!unusual)]))
    }

    /// Says this to a listener. How it arrives, and to which emulator, is told by its length, so that
    /// seeds are plain: at once or in pieces; with an end, or with a peer who stays and is silent.
    pub fn converse(&self, mut said: Vec<u8>, listener: impl AsyncFnOnce(&Service, Wire)) -> Conversation {
        let (in_pieces, stays, unusual) = (said.len() & 1 != 0, said.len() & 2 != 0, said.len() & 4 != 0);
        let has_signature = contains(&percent_decoded(&said), &self.signature);
        self.run(unusual, async move |service| {
            let asks = contains(&said, OPERATION_ID.as_bytes());
            if asks {
                let operation_id = operation_id(service).await;
                while let Some(at) = position(&said, OPERATION_ID.as_bytes()) {
                    said[at..at + operation_id.len()].copy_from_slice(operation_id.as_bytes());
                }
            }
            let answered = Arc::default();
            let piece = if in_pieces { 7 } else { usize::MAX };
            let wire =
                Wire { said: said.clone(), heard: 0, piece, stays, pauses: false, answered: Arc::clone(&answered) };
            let started = Instant::now();
            let _ = tokio::time::timeout(FOR_EVER, listener(service, wire)).await;
            let took = started.elapsed();
            // Registrations go on behind their answers.
            tokio::task::yield_now().await;
            let answered = std::mem::take(&mut *answered.lock().unwrap_or_else(PoisonError::into_inner));
            Conversation { said, answered, took, devices: service.forget(), asks, has_signature }
        })
    }
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    pub fn ended(&self) -> bool {
        self.took < FOR_EVER
    }

    /// Nobody has got a hub but `d`, and only with its token.
    pub fn check_devices(&self) {
        for device in &self.devices {
            assert!(device.registration_id.eq_ignore_ascii_case("d"), "{device:?}");
            assert!(self.has_signature || (self.asks && device.registrations == 1), "{device:?}");
        }
    }
}

fn config() -> Config {
    let x509 = |pem| Some(X509Attestation { primary: Certificate::from_pem(pem).unwrap(), secondary: None });
    let mut config = Config::from_toml(include_str!("../emulator.toml")).unwrap();
    config.enrollment_groups.push(EnrollmentGroup {
        enrollment_group_id: "certificates".to_owned(),
        x509: x509(include_str!("../certificates/root.pem")),
        certificate_policy: Some("any".to_owned()),
        ..EnrollmentGroup::default()
    });
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: "lone".to_owned(),
        x509: x509(include_str!("../certificates/lone.pem")),
        ..IndividualEnrollment::default()
    });
    config
}

/// Registers `d`, to have an operation that can be asked for.
async fn operation_id(service: &Service) -> String {
    let body = register(service).await;
    serde_json::from_str::<Value>(&body).unwrap()["operationId"].as_str().unwrap().to_owned()
}

/// Registers `d`, and returns what it is told.
pub async fn register(service: &Service) -> String {
    let authorization = token("d");
    let request = Request {
        operation: Operation::Register,
        operation_id: "",
        id_scope: ID_SCOPE,
        registration_id: "d",
        authorization: authorization.as_deref(),
        certificates: &[],
        shown_at: NOW,
        body: b"",
    };
    let (_, body) = service.answer(&request).await;
    tokio::task::yield_now().await;
    body
}

/// An answer of the device API: its status is one of the documented, and says what the body says. The
/// body is returned as serde_json reads it; the library's reader takes it too.
pub fn check_answer(status: u16, body: &[u8]) -> Value {
    let text = str::from_utf8(body).unwrap();
    let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(Object::parse(text).is_ok(), "{text}");
    match status {
        200 => assert!(matches!(said(&json), Some("assigned" | "assigning" | "failed" | "disabled")), "{text}"),
        202 => {
            assert_eq!(said(&json), Some("assigning"), "{text}");
            assert_eq!(json["operationId"].as_str().map(str::len), Some(OPERATION_ID.len()), "{text}");
        }
        401 if json["authenticationKey"].is_string() => assert_eq!(json["keyName"], "registration"),
        400 | 401 | 404 | 405 | 408 | 409 | 413 | 415 | 429 => {
            assert_eq!(json["errorCode"].as_u64().map(|code| code / 1000), Some(status.into()), "{text}");
            assert!(json["trackingId"].is_string() && json["message"].is_string() && json["timestampUtc"].is_string());
        }
        other => panic!("{other}: {text}"),
    }
    json
}

pub fn said(answer: &Value) -> Option<&str> {
    answer["status"].as_str()
}

pub fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, others @ ..] = rest {
        let escaped = match (byte, others) {
            (b'%', [high, low, ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        decoded.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &others[2..] } else { others };
    }
    decoded
}

/// The one end of a connection that a server sees.
pub struct Wire {
    said: Vec<u8>,
    heard: usize,
    piece: usize,
    stays: bool,
    pauses: bool,
    answered: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What was said before is dealt with before more is.
        self.pauses = !self.pauses;
        if self.pauses {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let rest = &self.said[self.heard..];
        if rest.is_empty() && self.stays {
            return Poll::Pending;
        }
        let len = rest.len().min(self.piece).min(buffer.remaining());
        buffer.put_slice(&rest[..len]);
        self.heard += len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
