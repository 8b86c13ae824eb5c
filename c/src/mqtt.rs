//! DPS over MQTT.

use core::ffi::{c_char, c_void};

use azure_dps::{Error, mqtt};

use crate::{
    border::{
        Out, answer, azure_dps_bytes, azure_dps_str, buffer, bytes, copy, get, get_mut, make_gap, outcome, put,
        put_if_wanted,
    },
    client::{Client, azure_dps_client},
    error::azure_dps_result,
};

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_mqtt_write_client_id(
    dps: *const azure_dps_client,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get::<Client>(dps)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = copy(mqtt::client_id(&client.provisioning).as_bytes(), out.room());
        out.finish(Ok(written))
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_mqtt_write_user_name(
    dps: *const azure_dps_client,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get::<Client>(dps)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = mqtt::write_user_name(&client.provisioning, out.room()).map(str::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_mqtt_write_password(
    dps: *const azure_dps_client,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get::<Client>(dps)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = mqtt::write_password(&client.provisioning, out.room()).map(str::len);
        out.finish(written)
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_mqtt_on_connack(
    dps: *mut azure_dps_client,
    now_ms: u32,
    return_code: u8,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.check_started()?;
        let now = client.clock.read(now_ms);
        mqtt::on_connack(&mut client.provisioning, now, return_code);
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes, `topic` and `body` to structures;
/// `needed` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_mqtt_write_publish(
    dps: *mut azure_dps_client,
    now_ms: u32,
    buffer: *mut c_void,
    size: usize,
    topic: *mut azure_dps_str,
    body: *mut azure_dps_bytes,
    needed: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        let buffer = self::buffer(buffer, size)?;
        let now = client.clock.read(now_ms);
        // A byte is kept back for the zero that goes between topic and body.
        let room = buffer.get_mut(..size.saturating_sub(1)).unwrap_or_default();
        let (topic_len, body_len) = match mqtt::write_publish(&mut client.provisioning, now, room) {
            Ok(publish) => (publish.topic.len(), publish.body.len()),
            Err(error) => {
                if let Error::BufferTooSmall(error) = error {
                    put_if_wanted(needed, error.needed.saturating_add(1));
                }
                return Err(client.refuse(error));
            }
        };
        make_gap(buffer, topic_len, body_len);
        let (text, rest) = buffer.split_at_checked(topic_len).unwrap_or_default();
        let written = rest.get(1..).and_then(|rest| rest.get(..body_len)).unwrap_or_default();
        put_if_wanted(needed, topic_len + 1 + body_len);
        put(topic, azure_dps_str { ptr: text.as_ptr().cast(), len: topic_len })?;
        put(body, written.into())
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `topic` and `body` to as many bytes as they say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_mqtt_on_message(
    dps: *mut azure_dps_client,
    now_ms: u32,
    topic: azure_dps_str,
    body: *const c_void,
    body_len: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        let (topic, body) = (topic.read()?, bytes(body, body_len)?);
        client.check_started()?;
        let now = client.clock.read(now_ms);
        Ok(mqtt::on_message(&mut client.provisioning, now, topic, body).into())
    })
}
