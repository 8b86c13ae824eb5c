//! MQTT requests and answers.

use core::ffi::{c_char, c_void};

use azure_dps::{Error, mqtt};

use crate::{
    border::{
        answer, azure_dps_bytes, azure_dps_str, buffer, bytes, copy, get_mut, outcome, put, put_if_wanted, write_text,
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
    unsafe {
        write_text::<Client>(dps, buffer, size, len, |client, room| {
            Ok(copy(mqtt::client_id(&client.provisioning).as_bytes(), room))
        })
    }
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
    unsafe {
        write_text::<Client>(dps, buffer, size, len, |client, room| {
            Ok(mqtt::write_user_name(&client.provisioning, room)?.len())
        })
    }
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
    unsafe {
        write_text::<Client>(dps, buffer, size, len, |client, room| {
            Ok(mqtt::write_password(&client.provisioning, room)?.len())
        })
    }
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
        // C gets a pointer into its own buffer, so that it can read the zero byte after the topic.
        let (start, buffer) = (buffer.cast::<u8>(), self::buffer(buffer, size)?);
        // Before the request counts as sent.
        put(topic, azure_dps_str::NONE)?;
        put(body, azure_dps_bytes { ptr: core::ptr::null(), len: 0 })?;
        let now = client.clock.read(now_ms);
        match mqtt::write_publish_with_nul(&mut client.provisioning, now, buffer) {
            Ok(publish) => {
                let (topic_len, body_len) = (publish.topic.len(), publish.body.len());
                put(topic, azure_dps_str { ptr: start.cast(), len: topic_len })?;
                put(body, azure_dps_bytes { ptr: start.wrapping_add(topic_len + 1), len: body_len })
            }
            Err(error) => {
                if let Error::BufferTooSmall(error) = error {
                    put_if_wanted(needed, error.needed);
                }
                Err(client.refuse(error))
            }
        }
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
