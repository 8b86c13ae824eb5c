//! The reference workload W: the CPU work of one provisioning run, in five steps. Each step is a function that is never
//! inlined. The optimizer does not know its inputs.
//!
//! Step c writes the strings for MQTT.

use core::hint::black_box;
use core::time::Duration;

#[cfg(feature = "twin")]
use azure_dps::after::twin::{self, Message};
use azure_dps::mqtt;
use azure_dps::{
    Attestation, DeviceKey, GroupKey, IdScope, Provisioning, Registration, RegistrationId, provisioning::Step,
};

const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const DEVICE_KEY: &str = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
const ID_SCOPE: &str = "0ne00002193";
const REGISTRATION_ID: &str = "breakroom499-contoso-tstrsd-007";
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;
const UNIX_TIME: u64 = 1_700_000_000;
const ASSIGNING: &[u8] = include_bytes!("../../../tests/vectors/operation-assigning.json");
const ASSIGNED: &[u8] = include_bytes!("../../../tests/vectors/operation-assigned.json");

#[cfg(feature = "twin")]
const TWIN: &[u8] = include_bytes!("../../../tests/vectors/twin-toaster.json");

/// All memory that the caller of the library owns, except for the key.
pub const BUFFER: usize = 760;
/// A CONNECT needs user name and password at the same time. The user name gets this part of the buffer.
const USER_NAME: usize = 160;

/// Derives the device key from the group key, and writes it as base64.
#[inline(never)]
pub fn a(text: &mut [u8; 44]) -> bool {
    let Ok(id) = RegistrationId::new(black_box(REGISTRATION_ID)) else { return false };
    let (mut group_key, mut device_key) = (GroupKey::new(), DeviceKey::new());
    group_key.read_base64(black_box(GROUP_KEY)).is_ok()
        && group_key.derive_into(&id, &mut device_key).is_ok()
        && device_key.write_base64(text).is_ok()
}

/// Reads the device key from base64.
#[inline(never)]
pub fn device_key(key: &mut DeviceKey) -> bool {
    key.read_base64(black_box(DEVICE_KEY)).is_ok()
}

/// Creates the run, and checks that the payload is JSON.
#[inline(never)]
pub fn provisioning() -> Option<Provisioning<'static>> {
    let id_scope = IdScope::new(black_box(ID_SCOPE)).ok()?;
    let registration_id = RegistrationId::new(black_box(REGISTRATION_ID)).ok()?;
    let registration = Registration::new(id_scope, registration_id).with_payload(black_box(PAYLOAD)).ok()?;
    Some(Provisioning::new(registration, Attestation::symmetric_key()))
}

/// Writes the SAS token.
#[inline(never)]
pub fn b(provisioning: &mut Provisioning<'_>, key: &mut DeviceKey, buffer: &mut [u8; BUFFER]) -> bool {
    provisioning.start(Duration::ZERO, black_box(UNIX_TIME));
    matches!(provisioning.step(Duration::ZERO), Step::Sign)
        && provisioning.sign_with(key, buffer).is_ok()
        && matches!(provisioning.step(Duration::ZERO), Step::Send)
        && mqtt::write_password(provisioning, &mut buffer[USER_NAME..]).is_ok_and(used)
}

/// Writes the user name, and the topic and the body of the register request.
#[inline(never)]
pub fn c(provisioning: &mut Provisioning<'_>, buffer: &mut [u8; BUFFER]) -> bool {
    mqtt::write_user_name(provisioning, &mut buffer[..USER_NAME]).is_ok_and(used)
        && request(provisioning, Duration::ZERO, buffer)
}

/// Writes topic and body of the pending request.
pub fn request(provisioning: &mut Provisioning<'_>, now: Duration, buffer: &mut [u8; BUFFER]) -> bool {
    mqtt::write_publish(provisioning, now, buffer).is_ok_and(used)
}

/// Reads the 202 answer, and writes the poll that follows.
#[inline(never)]
pub fn d(provisioning: &mut Provisioning<'_>, buffer: &mut [u8; BUFFER]) -> bool {
    let topic = black_box("$dps/registrations/res/202/?$rid=1&retry-after=3");
    let now = Duration::from_secs(3);
    mqtt::on_message(provisioning, Duration::ZERO, topic, black_box(ASSIGNING))
        && matches!(provisioning.step(now), Step::Send)
        && request(provisioning, now, buffer)
}

/// The result of the run.
#[allow(dead_code, reason = "read by `run`")]
pub struct Result<'b> {
    pub hub: &'b str,
    pub device_id: &'b str,
    pub payload: &'b str,
}

/// Reads the 200 answer: hub, device ID and the raw payload.
#[inline(never)]
pub fn e<'b>(provisioning: &'b mut Provisioning<'_>, body: &'b [u8]) -> Option<Result<'b>> {
    let topic = black_box("$dps/registrations/res/200/?$rid=2");
    mqtt::on_message(provisioning, Duration::ZERO, topic, body);
    let assignment = provisioning.result(body).ok()?;
    Some(Result {
        hub: assignment.assigned_hub(),
        device_id: assignment.device_id(),
        payload: assignment.payload()?.raw(),
    })
}

/// Returns the final answer, hidden from the optimizer.
pub fn assigned() -> &'static [u8] {
    black_box(ASSIGNED)
}

/// Not in W: writes the topic that requests the twin, and reads one setting of the answer. Also handles other messages.
#[cfg(feature = "twin")]
#[inline(never)]
pub fn twin(buffer: &mut [u8; BUFFER]) -> bool {
    if !twin::write_get_topic(black_box(1), buffer).is_ok_and(used) {
        return false;
    }
    match twin::read(black_box("$iothub/twin/res/200/?$rid=1"), black_box(TWIN)) {
        Ok(Message::Twin(twin)) => {
            let setting = twin.desired.get(black_box("darknessSetting")).and_then(|value| value.text()?.as_str());
            used(twin.desired.version()) && setting.is_some_and(used)
        }
        Ok(Message::Change(patch)) => used(patch.order(black_box(1))),
        Ok(Message::Refused(refusal)) => used((refusal.code(), refusal.hub_outcome())),
        Ok(Message::Reported { version, .. }) => used(version),
        Ok(Message::Other) => false,
        Err(unreadable) => used(unreadable.request_id),
    }
}

/// The whole of W, as in one run of a device.
#[inline(never)]
#[cfg_attr(feature = "measure", allow(dead_code, reason = "the steps are measured one by one"))]
pub fn run(buffer: &mut [u8; BUFFER]) -> bool {
    let mut text = [0; 44];
    if !a(&mut text) {
        return false;
    }
    black_box(&text);
    let mut key = DeviceKey::new();
    if !device_key(&mut key) {
        return false;
    }
    let Some(mut provisioning) = provisioning() else { return false };
    if !(b(&mut provisioning, &mut key, buffer) && c(&mut provisioning, buffer) && d(&mut provisioning, buffer)) {
        return false;
    }
    match e(&mut provisioning, assigned()) {
        Some(result) => {
            black_box((result.hub, result.device_id, result.payload));
            true
        }
        None => false,
    }
}

fn used<T>(value: T) -> bool {
    black_box(value);
    true
}
