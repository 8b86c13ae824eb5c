//! The reference workload W: the CPU work of one provisioning run, in five steps. Each is a
//! function of its own that is never inlined, and sees inputs that the optimiser does not.
//!
//! The strings of step c are those of HTTP: the request target, the headers and the body.

use core::hint::black_box;
use core::time::Duration;

use azure_dps::http::write_request;
use azure_dps::{Answer, Credential, DeviceKey, GroupKey, IdScope, Provisioning, Registration, RegistrationId, Step};

const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const DEVICE_KEY: &str = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
const ID_SCOPE: &str = "0ne00002193";
const REGISTRATION_ID: &str = "breakroom499-contoso-tstrsd-007";
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;
const UNIX_TIME: u64 = 1_700_000_000;
const ASSIGNING: &[u8] = include_bytes!("../../../tests/vectors/operation-assigning.json");
const ASSIGNED: &[u8] = include_bytes!("../../../tests/vectors/operation-assigned.json");

/// All memory that the caller of the library owns, but for the key.
pub const BUFFER: usize = 760;

/// Group key → device key → base64.
#[inline(never)]
pub fn a(text: &mut [u8; 44]) -> bool {
    let Ok(id) = RegistrationId::new(black_box(REGISTRATION_ID)) else { return false };
    let Ok(group_key) = GroupKey::from_base64(black_box(GROUP_KEY)) else { return false };
    group_key.derive(&id).write_base64(text).is_ok()
}

/// The device key from base64.
#[inline(never)]
pub fn device_key() -> Option<DeviceKey> {
    DeviceKey::from_base64(black_box(DEVICE_KEY)).ok()
}

/// The registration, its payload checked to be JSON, ready to be driven.
#[inline(never)]
pub fn c(key: &mut DeviceKey) -> Option<Provisioning<'_>> {
    let id_scope = IdScope::new(black_box(ID_SCOPE)).ok()?;
    let registration_id = RegistrationId::new(black_box(REGISTRATION_ID)).ok()?;
    let registration = Registration::new(id_scope, registration_id).with_payload(black_box(PAYLOAD)).ok()?;
    Some(Provisioning::new(registration, Credential::sas(key)))
}

/// The register request: the token signed, and written with target, headers and body.
#[inline(never)]
pub fn b(provisioning: &mut Provisioning<'_>, buffer: &mut [u8]) -> usize {
    provisioning.start(Duration::ZERO, black_box(UNIX_TIME));
    match provisioning.step(Duration::ZERO) {
        Step::Send => write_request(provisioning, Duration::ZERO, buffer).unwrap_or(0),
        _ => 0,
    }
}

/// The 202 answer, and the poll that follows.
#[inline(never)]
pub fn d(provisioning: &mut Provisioning<'_>, buffer: &mut [u8]) -> usize {
    let answer = Answer::new(black_box(202), black_box(Some(3)), black_box(ASSIGNING));
    provisioning.on_answer(Duration::ZERO, answer);
    let now = Duration::from_secs(3);
    match provisioning.step(now) {
        Step::Send => write_request(provisioning, now, buffer).unwrap_or(0),
        _ => 0,
    }
}

/// What the run ends with.
#[allow(dead_code, reason = "read by `run`")]
pub struct Result<'b> {
    pub hub: &'b str,
    pub device_id: &'b str,
    pub payload: &'b str,
}

/// The 200 answer: hub, device ID and the raw payload.
#[inline(never)]
pub fn e<'b>(provisioning: &mut Provisioning<'_>, body: &'b [u8]) -> Option<Result<'b>> {
    provisioning.on_answer(Duration::ZERO, Answer::new(black_box(200), None, body));
    let assignment = provisioning.result(body).ok()?;
    Some(Result {
        hub: assignment.assigned_hub(),
        device_id: assignment.device_id().as_str()?,
        payload: assignment.payload()?.raw(),
    })
}

/// The final answer, opaque to the optimiser.
pub fn assigned() -> &'static [u8] {
    black_box(ASSIGNED)
}

/// W from end to end, as one run of a device does it.
#[inline(never)]
#[cfg_attr(feature = "measure", allow(dead_code, reason = "the steps are measured one by one"))]
pub fn run(buffer: &mut [u8; BUFFER]) -> bool {
    let mut text = [0; 44];
    if !a(&mut text) {
        return false;
    }
    black_box(&text);
    let Some(mut key) = device_key() else { return false };
    let Some(mut provisioning) = c(&mut key) else { return false };
    let register = b(&mut provisioning, buffer);
    black_box(&buffer[..register.min(BUFFER)]);
    let poll = d(&mut provisioning, buffer);
    black_box(&buffer[..poll.min(BUFFER)]);
    match e(&mut provisioning, assigned()) {
        Some(result) => {
            black_box((result.hub, result.device_id, result.payload));
            register > 0 && poll > 0
        }
        None => false,
    }
}
