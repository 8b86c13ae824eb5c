//! The functions of `c/include/azure_dps.h`, as C sees them.

use std::ffi::{c_char, c_void};

pub const ERR_ARGUMENT: i32 = -1;
pub const ERR_HANDLE: i32 = -2;
pub const ERR_BUFFER_TOO_SMALL: i32 = -8;
pub const IO_AGAIN: i32 = -100;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    pub ptr: *const c_char,
    pub len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    pub ptr: *const u8,
    pub len: usize,
}

pub const NO_STR: Str = Str { ptr: std::ptr::null(), len: 0 };
pub const NO_BYTES: Bytes = Bytes { ptr: std::ptr::null(), len: 0 };

#[repr(C)]
pub struct Client(pub [u64; 75]);

#[repr(C)]
pub struct Key(pub [u64; 9]);

#[repr(C)]
pub struct Life(pub [u64; 24]);

#[repr(C)]
pub struct Config {
    pub id_scope: Str,
    pub registration_id: Str,
    pub payload: Str,
    pub csr: Bytes,
    pub endorsement_key: Bytes,
    pub storage_root_key: Bytes,
    pub api_version: Str,
    pub timeout_ms: u32,
    pub request_timeout_ms: u32,
    pub poll_interval_ms: u32,
    pub token_lifetime_s: u32,
    pub max_body: u32,
    pub jitter_seed: u32,
    pub max_retries: u8,
    pub attestation: u8,
    pub first_key: u8,
    pub lookup: u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Signer {
    pub ctx: *mut c_void,
    pub sign: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize, *mut u8) -> i32>,
    pub sign_with_secondary_key: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize, *mut u8) -> i32>,
    pub activate: Option<unsafe extern "C" fn(*mut c_void, Str) -> i32>,
}

#[repr(C)]
#[derive(Default)]
pub struct Progress {
    pub what: i32,
    pub result: i32,
    pub wait_ms: u32,
    pub failures: u32,
}

#[repr(C)]
pub struct Io {
    pub ctx: *mut c_void,
    pub connect: Option<unsafe extern "C" fn(*mut c_void, *const c_char, u16, u32) -> i32>,
    pub read: Option<unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> i32>,
    pub write: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize) -> i32>,
    pub close: Option<unsafe extern "C" fn(*mut c_void)>,
    pub clock_ms: Option<unsafe extern "C" fn(*mut c_void) -> u32>,
    pub delay_ms: Option<unsafe extern "C" fn(*mut c_void, u32)>,
    pub observe: Option<unsafe extern "C" fn(*mut c_void, *const Progress)>,
}

#[repr(C)]
pub struct Assignment {
    pub assigned_hub: Str,
    pub device_id: Str,
    pub payload: Str,
    pub registration_state: Str,
}

pub const NO_ASSIGNMENT: Assignment =
    Assignment { assigned_hub: NO_STR, device_id: NO_STR, payload: NO_STR, registration_state: NO_STR };

#[repr(C)]
pub struct Error {
    pub result: i32,
    pub code: u32,
    pub needed: u32,
    pub position: u32,
    pub io_error: i32,
    pub http_status: u16,
    pub fault: u8,
    pub retryable: u8,
    pub tracking_id: [c_char; 37],
}

pub const NO_ERROR: Error = Error {
    result: 0,
    code: 0,
    needed: 0,
    position: 0,
    io_error: 0,
    http_status: 0,
    fault: 0,
    retryable: 0,
    tracking_id: [1; 37],
};

#[repr(C)]
pub struct Hub {
    pub assigned_hub: Str,
    pub device_id: Str,
}

#[repr(C)]
pub struct Property {
    pub name: Str,
    pub value: Str,
}

#[repr(C)]
pub struct TwinMessage {
    pub what: i32,
    pub request_id: u32,
    pub desired: Str,
    pub reported: Str,
    pub desired_version: u64,
    pub reported_version: u64,
    pub code: u32,
    pub status: u16,
    pub retryable: u8,
    pub unknown_device: u8,
}

#[repr(C)]
pub struct Policy {
    pub hub_patience_ms: u32,
    pub first_pause_ms: u32,
    pub longest_pause_ms: u32,
    pub jitter_seed: u32,
    pub lookup: u8,
}

#[repr(C)]
pub struct EncryptedKey(pub [Bytes; 6]);

/// What `azure_dps_init()` passes.
pub const SIZES: u32 = (size_of::<Client>() << 16 | size_of::<Config>() << 8 | size_of::<Error>()) as u32;

#[rustfmt::skip]
unsafe extern "C" {
    pub fn azure_dps_result_name(result: i32) -> *const c_char;
    pub fn azure_dps_str_copy(str: Str, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_key_from_base64(key: *mut Key, base64: Str) -> i32;
    pub fn azure_dps_key_derive(key: *mut Key, group_key: Str, registration_id: Str) -> i32;
    pub fn azure_dps_key_write_base64(key: *const Key, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_key_wipe(key: *mut Key);
    pub fn azure_dps_key_sign(ctx: *mut c_void, message: *const u8, len: usize, signature: *mut u8) -> i32;
    pub fn azure_dps_key_sign_second(ctx: *mut c_void, message: *const u8, len: usize, signature: *mut u8) -> i32;
    pub fn azure_dps_init_abi(dps: *mut Client, config: *const Config, abi: u32, sizes: u32) -> i32;
    pub fn azure_dps_set_endpoint(dps: *mut Client, endpoint: Str) -> i32;
    pub fn azure_dps_write_host(dps: *const Client, buffer: *mut c_char, size: usize, len: *mut usize, port: *mut u16) -> i32;
    pub fn azure_dps_deinit(dps: *mut Client);
    pub fn azure_dps_start(dps: *mut Client, now_ms: u32, unix_time: u64) -> i32;
    pub fn azure_dps_step(dps: *mut Client, now_ms: u32, wait_ms: *mut u32) -> i32;
    pub fn azure_dps_sign(dps: *mut Client, signer: *const Signer, buffer: *mut c_void, size: usize) -> i32;
    pub fn azure_dps_write_message(dps: *const Client, buffer: *mut c_void, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_on_signature(dps: *mut Client, signature: *const u8) -> i32;
    pub fn azure_dps_get_key(dps: *const Client) -> i32;
    pub fn azure_dps_request_time_left(dps: *mut Client, now_ms: u32) -> u32;
    pub fn azure_dps_on_connected(dps: *mut Client);
    pub fn azure_dps_on_error(dps: *mut Client, now_ms: u32, error: i32) -> i32;
    pub fn azure_dps_get_progress(dps: *mut Client, progress: *mut Progress) -> i32;
    pub fn azure_dps_mqtt_write_client_id(dps: *const Client, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_mqtt_write_user_name(dps: *const Client, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_mqtt_write_password(dps: *const Client, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_mqtt_on_connack(dps: *mut Client, now_ms: u32, return_code: u8) -> i32;
    pub fn azure_dps_mqtt_write_publish(dps: *mut Client, now_ms: u32, buffer: *mut c_void, size: usize, topic: *mut Str, body: *mut Bytes, needed: *mut usize) -> i32;
    pub fn azure_dps_mqtt_on_message(dps: *mut Client, now_ms: u32, topic: Str, body: *const c_void, body_len: usize) -> i32;
    pub fn azure_dps_http_write_request(dps: *mut Client, now_ms: u32, buffer: *mut c_void, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_http_space(dps: *mut Client, now_ms: u32, buffer: *mut c_void, size: usize, space: *mut *mut u8, space_len: *mut usize) -> i32;
    pub fn azure_dps_http_received(dps: *mut Client, now_ms: u32, buffer: *mut c_void, size: usize, len: usize, keep_alive: *mut bool) -> i32;
    pub fn azure_dps_run(dps: *mut Client, unix_time: u64, signer: *const Signer, buffer: *mut c_void, size: usize, io: *const Io) -> i32;
    pub fn azure_dps_get_assignment(dps: *const Client, body: *const c_void, body_len: usize, assignment: *mut Assignment) -> i32;
    pub fn azure_dps_get_substatus(assignment: *const Assignment) -> i32;
    pub fn azure_dps_get_error(dps: *const Client, error: *mut Error) -> i32;
    pub fn azure_dps_write_error(dps: *const Client, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_write_service_message(dps: *const Client, body: *const c_void, body_len: usize, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_json_get(object: Str, name: Str, value: *mut Str) -> i32;
    pub fn azure_dps_json_at(array: Str, index: usize, value: *mut Str) -> i32;
    pub fn azure_dps_json_write_text(value: Str, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_json_u32(value: Str, number: *mut u32) -> i32;
    pub fn azure_dps_json_bool(value: Str, truth: *mut bool) -> i32;
    pub fn azure_dps_json_is_null(value: Str) -> bool;
    pub fn azure_dps_hub_write_host(hub: *const Hub, buffer: *mut c_char, size: usize, len: *mut usize, port: *mut u16) -> i32;
    pub fn azure_dps_hub_write_user_name(hub: *const Hub, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_hub_write_password(hub: *const Hub, signer: *const Signer, which_key: i32, expiry: u64, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_hub_write_message(hub: *const Hub, expiry: u64, buffer: *mut c_void, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_hub_write_signed_password(hub: *const Hub, signature: *const u8, expiry: u64, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_hub_write_connection_string(hub: *const Hub, key: *const Key, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_hub_write_x509_connection_string(hub: *const Hub, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_hub_write_telemetry_topic(hub: *const Hub, properties: *const Property, count: usize, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_twin_write_get_topic(request_id: u32, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_twin_write_report_topic(request_id: u32, buffer: *mut c_char, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_twin_read(topic: Str, body: *const c_void, body_len: usize, message: *mut TwinMessage) -> i32;
    pub fn azure_dps_twin_read_skipped(topic: Str, body_len: usize, message: *mut TwinMessage) -> i32;
    pub fn azure_dps_write_record(dps: *const Client, body: *const c_void, body_len: usize, buffer: *mut c_void, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_record_len(header: *const u8) -> usize;
    pub fn azure_dps_record_read(config: *const Config, record: *const c_void, record_len: usize, assignment: *mut Assignment, key: *mut i32) -> i32;
    pub fn azure_dps_reprovisioning_init(life: *mut Life, config: *const Config, policy: *const Policy, record: *const c_void, record_len: usize) -> i32;
    pub fn azure_dps_reprovisioning_next(life: *mut Life, now_ms: u32, wait_ms: *mut u32, key: *mut i32) -> i32;
    pub fn azure_dps_reprovisioning_on_assigned(life: *mut Life, now_ms: u32, dps: *const Client, body: *const c_void, body_len: usize) -> i32;
    pub fn azure_dps_reprovisioning_on_failed(life: *mut Life, now_ms: u32, dps: *const Client) -> i32;
    pub fn azure_dps_hub_outcome_from_connack(return_code: u8) -> i32;
    pub fn azure_dps_reprovisioning_on_hub(life: *mut Life, now_ms: u32, outcome: i32) -> i32;
    pub fn azure_dps_reprovisioning_provision_again(life: *mut Life) -> i32;
    pub fn azure_dps_reprovisioning_get_pauses(life: *mut Life, now_ms: u32, pauses: *mut u8) -> i32;
    pub fn azure_dps_reprovisioning_set_pauses(life: *mut Life, now_ms: u32, pauses: *const u8, off_ms: u32) -> i32;
    pub fn azure_dps_tpm_get_challenge(dps: *const Client, body: *const c_void, body_len: usize, challenge: *mut Str) -> i32;
    pub fn azure_dps_tpm_on_activated(dps: *mut Client) -> i32;
    pub fn azure_dps_tpm_activate(dps: *mut Client, signer: *const Signer, body: *const c_void, body_len: usize) -> i32;
    pub fn azure_dps_tpm_decode(base64: Str, buffer: *mut c_void, size: usize, needed: *mut usize, key: *mut EncryptedKey) -> i32;
    pub fn azure_dps_tpm_get_authentication_key(assignment: *const Assignment, key: *mut Str) -> i32;
    pub fn azure_dps_certificate_write(assignment: *const Assignment, index: usize, buffer: *mut c_void, size: usize, len: *mut usize) -> i32;
    pub fn azure_dps_certificate_write_leaf(assignment: *const Assignment, csr: Bytes, buffer: *mut c_void, size: usize, len: *mut usize) -> i32;
}
