//! Calls of the C API in any order, with any arguments that C can pass. A line is a call: its first character selects
//! the function, the second the object, the third the size of the buffer; the rest is text. [`Script::line`] lists all
//! calls.
//!
//! No byte outside the arguments is read or written. A handle that is not initialized, was moved, or is used by a
//! callback is rejected. The size that an error names is sufficient. Texts end with a zero byte. A result points into
//! the bytes that it was read from. A run ends.

#![no_main]

mod c;

use std::{
    ffi::{c_char, c_void},
    ptr::{null, null_mut},
};

use azure_dps_c as _;
use c::*;
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = b"JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
const ASSIGNING: &[u8] = br#"{"operationId":"4.d0a6","status":"assigning"}"#;
const ASSIGNED: &[u8] = br#"{"operationId":"4.d0a6","status":"assigned","registrationState":{"registrationId":"d","assignedHub":"hub.example","deviceId":"d","status":"assigned","substatus":"initialAssignment","payload":{"a":1}}}"#;
const CHALLENGE: &[u8] =
    br#"{"message":"Authorization required.","authenticationKey":"AAAAAAAAAAAAAAAA","keyName":"registration"}"#;
const REFUSED: &[u8] =
    br#"{"errorCode":401002,"trackingId":"6d75a1fe-0129-4f41-844b-c253a6653d4f","message":"Unauthorized"}"#;

fuzz_target!(|input: &[u8]| {
    let mut script = Script::new();
    for line in input.split(|&byte| byte == b'\n').take(64) {
        script.line(line);
    }
    for handles in &mut script.devices {
        handles.release();
    }
});

/// The number of guard bytes after a buffer, which are checked after the call. With AddressSanitizer a buffer ends
/// where its
/// memory ends.
const GUARD: usize = if option_env!("FUZZ_ASAN").is_some() { 0 } else { 16 };
const GUARD_BYTE: u8 = 0xc5;

/// A buffer of exactly this size.
struct Buffer {
    memory: Box<[u8]>,
    size: usize,
}

impl Buffer {
    fn new(size: usize) -> Self {
        Self { memory: vec![GUARD_BYTE; size + GUARD].into(), size }
    }

    fn of(bytes: &[u8]) -> Self {
        let mut buffer = Self::new(bytes.len());
        buffer.memory[..bytes.len()].copy_from_slice(bytes);
        buffer
    }

    fn ptr(&mut self) -> *mut c_void {
        self.memory.as_mut_ptr().cast()
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[..self.size]
    }

    fn contains(&self, text: Str) -> bool {
        let (start, at) = (self.memory.as_ptr() as usize, text.ptr as usize);
        text.ptr.is_null() && text.len == 0 || at >= start && at + text.len <= start + self.size
    }

    fn check(&self) {
        assert!(self.memory[self.size..].iter().all(|&byte| byte == GUARD_BYTE), "written behind the buffer");
    }
}

fn text(buffer: &Buffer) -> Str {
    Str { ptr: buffer.memory.as_ptr().cast(), len: buffer.size }
}

/// One device: a client, two keys, the life after the first boot, and what its client reads from.
struct Device {
    client: Box<Client>,
    keys: Box<[Key; 2]>,
    life: Box<Life>,
    /// The texts of configurations must outlive the client.
    texts: Vec<Buffer>,
    /// The buffer for requests and answers.
    buffer: Buffer,
    /// The last record.
    record: Buffer,
    /// `$rid` of the last request.
    request_id: u32,
}

impl Device {
    fn new() -> Self {
        Self {
            client: Box::new(Client([0; 75])),
            keys: Box::new([Key([0; 9]), Key([0; 9])]),
            life: Box::new(Life([0; 24])),
            texts: Vec::new(),
            buffer: Buffer::new(1024),
            record: Buffer::new(0),
            request_id: 0,
        }
    }

    /// A text with the lifetime of the device.
    fn keep(&mut self, bytes: &[u8]) -> Str {
        self.texts.push(Buffer::of(bytes));
        self.texts.last().map_or(NO_STR, text)
    }

    fn release(&mut self) {
        unsafe {
            azure_dps_deinit(&mut *self.client);
            for key in &mut *self.keys {
                azure_dps_key_wipe(key);
            }
        }
        assert_eq!(unsafe { azure_dps_get_key(&*self.client) }, ERR_HANDLE);
    }
}

/// The header must name the result.
fn known(result: i32) -> i32 {
    let name = unsafe { std::ffi::CStr::from_ptr(azure_dps_result_name(result)) };
    assert!(result <= 0 && name.to_bytes().starts_with(b"AZURE_DPS_"), "{result}");
    result
}

/// A result, or a positive number up to this.
fn known_up_to(most: i32, result: i32) -> i32 {
    assert!(result <= most);
    if result <= 0 { known(result) } else { result }
}

/// Whether what a function writes is text or bytes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Bytes,
}

/// Calls a function that writes, with a buffer of this size, and again with the size that it asks for.
fn write(kind: Kind, size: usize, call: impl Fn(*mut c_void, usize, *mut usize) -> i32) -> Option<Buffer> {
    assert_ne!(known(call(null_mut(), 5, null_mut())), 0, "nowhere to write to");
    let mut size = size;
    for attempt in 0..16 {
        let mut buffer = Buffer::new(size);
        let mut len = usize::MAX;
        let ptr = if size == 0 { null_mut() } else { buffer.ptr() };
        let result = known(call(ptr, size, &mut len));
        buffer.check();
        match result {
            0 => {
                let end = usize::from(kind == Kind::Text);
                assert!(len + end <= size);
                assert!(end == 0 || buffer.memory[len] == 0, "no zero byte at the end");
                buffer.memory.fill(GUARD_BYTE);
                assert_eq!(call(buffer.ptr(), size, null_mut()), 0, "without a length");
                buffer.check();
                let mut written = Buffer::of(&buffer.memory[..len]);
                written.size = len;
                return Some(written);
            }
            ERR_BUFFER_TOO_SMALL => {
                assert!(len > size && attempt < 15, "{len} after {size}");
                size = len;
                // Some functions return the next step.
                if len > 1 << 20 {
                    return None;
                }
            }
            _ => return None,
        }
    }
    None
}

/// A signer that fails, signs with given bytes, or calls functions on the client that it signs for.
struct Chip {
    client: *mut Client,
    result: i32,
}

unsafe extern "C" fn sign(ctx: *mut c_void, message: *const u8, len: usize, signature: *mut u8) -> i32 {
    let chip = unsafe { &*ctx.cast::<Chip>() };
    let message = unsafe { std::slice::from_raw_parts(message, len) };
    unsafe { signature.write_bytes(message[0], 32) };
    intrude(chip.client);
    chip.result
}

unsafe extern "C" fn activate(ctx: *mut c_void, challenge: Str) -> i32 {
    let chip = unsafe { &*ctx.cast::<Chip>() };
    let mut key = EncryptedKey([NO_BYTES; 6]);
    let mut buffer = Buffer::new(64);
    known(unsafe { azure_dps_tpm_decode(challenge, buffer.ptr(), 64, null_mut(), &mut key) });
    buffer.check();
    intrude(chip.client);
    chip.result
}

/// What a callback must not do is refused.
fn intrude(client: *mut Client) {
    if client.is_null() {
        // It signs for a hub.
        return;
    }
    unsafe {
        assert_eq!(azure_dps_step(client, 0, null_mut()), ERR_HANDLE);
        assert_eq!(azure_dps_start(client, 0, 0), ERR_HANDLE);
        assert_eq!(azure_dps_get_key(client), ERR_HANDLE);
        assert_eq!(azure_dps_get_error(client, &mut { NO_ERROR }), ERR_HANDLE);
        assert_eq!(azure_dps_request_time_left(client, 0), 0);
        azure_dps_deinit(client);
    }
}

/// What the callbacks of a run do next, byte by byte; at their end, time passes quickly.
struct Peer<'s> {
    client: *mut Client,
    script: &'s [u8],
    answer: Vec<u8>,
    now: u32,
    open: bool,
    calls: u32,
}

impl Peer<'_> {
    unsafe fn of<'p>(ctx: *mut c_void) -> &'p mut Peer<'p> {
        let peer = unsafe { &mut *ctx.cast::<Peer<'p>>() };
        peer.calls += 1;
        assert!(peer.calls < 1_000_000, "a run without an end");
        peer
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.script.split_first()?;
        self.script = rest;
        Some(byte)
    }
}

unsafe extern "C" fn connect(ctx: *mut c_void, host: *const c_char, port: u16, _timeout_ms: u32) -> i32 {
    let peer = unsafe { Peer::of(ctx) };
    assert!(!peer.open && port != 0);
    assert!(!unsafe { std::ffi::CStr::from_ptr(host) }.is_empty());
    intrude(peer.client);
    let result = match peer.byte() {
        Some(b'U') => -40,
        Some(b'P') => -41,
        Some(b'-') => i32::MIN,
        Some(b'+') => i32::MAX,
        _ => 0,
    };
    peer.open = result == 0;
    result
}

unsafe extern "C" fn read(ctx: *mut c_void, buffer: *mut u8, size: usize) -> i32 {
    let peer = unsafe { Peer::of(ctx) };
    assert!(peer.open && size > 0);
    if peer.answer.is_empty() {
        let (status, body) = match peer.byte() {
            Some(b'A') => ("200 OK\r\n", ASSIGNED),
            Some(b'W') => ("202 Accepted\r\nRetry-After: 3\r\n", ASSIGNING),
            Some(b'C') => ("401 Unauthorized\r\n", CHALLENGE),
            Some(b'R') => ("401 Unauthorized\r\n", REFUSED),
            Some(b'B') => ("429 Too Many\r\nRetry-After: 9\r\n", &b""[..]),
            Some(b'L') => ("404 Not Found\r\nConnection: close\r\n", &b""[..]),
            Some(b'.') => return 0,
            Some(b'-') => return -7,
            // More than there is room for.
            Some(b'+') => return i32::MAX,
            _ => return IO_AGAIN,
        };
        peer.answer = format!("HTTP/1.1 {status}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        peer.answer.extend(body);
    }
    let piece = if peer.calls.is_multiple_of(3) { 1 } else { 700 };
    let len = size.min(piece).min(peer.answer.len());
    let bytes: Vec<u8> = peer.answer.drain(..len).collect();
    unsafe { buffer.copy_from_nonoverlapping(bytes.as_ptr(), len) };
    len as i32
}

unsafe extern "C" fn write_some(ctx: *mut c_void, bytes: *const u8, len: usize) -> i32 {
    let peer = unsafe { Peer::of(ctx) };
    assert!(peer.open && len > 0);
    assert!(unsafe { std::slice::from_raw_parts(bytes, len) }.is_ascii());
    match len % 5 {
        0 if peer.calls.is_multiple_of(7) => IO_AGAIN,
        1 if peer.calls.is_multiple_of(11) => 1,
        _ => len as i32,
    }
}

unsafe extern "C" fn close(ctx: *mut c_void) {
    let peer = unsafe { Peer::of(ctx) };
    assert!(peer.open);
    peer.open = false;
    peer.answer.clear();
}

unsafe extern "C" fn clock(ctx: *mut c_void) -> u32 {
    let peer = unsafe { Peer::of(ctx) };
    // At the end of the script, each callback takes hours.
    peer.now = peer.now.wrapping_add(if peer.script.is_empty() && peer.calls > 2000 { 40_000_000 } else { 7 });
    peer.now
}

unsafe extern "C" fn delay(ctx: *mut c_void, ms: u32) {
    let peer = unsafe { Peer::of(ctx) };
    peer.now = peer.now.wrapping_add(ms);
}

unsafe extern "C" fn observe(ctx: *mut c_void, progress: *const Progress) {
    let peer = unsafe { Peer::of(ctx) };
    assert!((1..=7).contains(&unsafe { &*progress }.what));
    intrude(peer.client);
}

struct Script {
    devices: [Device; 2],
    now: u32,
    unix_time: u64,
}

impl Script {
    fn new() -> Self {
        Self { devices: [Device::new(), Device::new()], now: 0xffff_0000, unix_time: 1_700_000_000 }
    }

    fn line(&mut self, line: &[u8]) {
        let [call, which, how, rest @ ..] = line else { return };
        // 40 kinds of sizes, 0 to 2 KB.
        let size = usize::from(how % 64) * usize::from(how % 64) / 2;
        let Self { devices, now, unix_time } = self;
        let device = &mut devices[usize::from(which & 1)];
        *now = now.wrapping_add(u32::from(how / 8) * 100);
        let now = *now;
        let client: *mut Client = &mut *device.client;
        let parts: Vec<&[u8]> = rest.split(|&byte| byte == b'\t').collect();
        let part = |number: usize| parts.get(number).copied().unwrap_or_default();
        unsafe {
            match call {
                b'i' => init(device, *which, *how, &parts),
                b'E' => {
                    let endpoint = device.keep(rest);
                    known(azure_dps_set_endpoint(client, endpoint));
                }
                b'd' => {
                    azure_dps_deinit(client);
                    assert_eq!(azure_dps_get_key(client), ERR_HANDLE);
                    // The memory may be used for anything then.
                    for (word, byte) in device.client.0.iter_mut().zip(rest.iter().cycle()) {
                        *word = u64::from(*byte) * 0x0101_0101_0101_0101;
                    }
                    assert_eq!(azure_dps_step(client, now, null_mut()), ERR_HANDLE);
                }
                b'M' => moved(device),
                b's' => {
                    known(azure_dps_start(client, now, *unix_time));
                    *unix_time = unix_time.wrapping_mul(u64::from(*how) + 1);
                }
                b'p' => {
                    let mut wait = 0;
                    let step = known_up_to(5, azure_dps_step(client, now, &mut wait));
                    assert!(step == 4 || wait == 0);
                    if step == 4 && how % 2 == 0 {
                        self.now = now.wrapping_add(wait);
                    }
                }
                b'g' => {
                    let mut chip = Chip { client, result: i32::from(*how as i8 / 64) };
                    let signer = signer_of(device, *how, &mut chip);
                    let mut buffer = Buffer::new(size);
                    known(azure_dps_sign(client, if how % 7 == 0 { null() } else { &signer }, buffer.ptr(), size));
                    buffer.check();
                }
                b'm' => {
                    if write(Kind::Bytes, size, |buffer, size, len| azure_dps_write_message(client, buffer, size, len))
                        .is_some()
                    {
                        known(azure_dps_on_signature(client, [*how; 32].as_ptr()));
                    }
                    known(azure_dps_on_signature(client, null()));
                }
                b'c' => {
                    known(azure_dps_mqtt_on_connack(client, now, how % 8));
                    azure_dps_on_connected(client);
                }
                b'u' => publish(device, now, size),
                b'o' => on_message(device, now, *how, rest),
                b'h' => {
                    device.buffer = Buffer::new(size + 200);
                    let buffer = &mut device.buffer;
                    let mut len = 0;
                    let result = known(azure_dps_http_write_request(client, now, buffer.ptr(), buffer.size, &mut len));
                    buffer.check();
                    assert!(result != 0 || len <= buffer.size);
                    if result == ERR_BUFFER_TOO_SMALL {
                        assert!(len > buffer.size);
                        let mut enough = Buffer::new(len);
                        assert_eq!(azure_dps_http_write_request(client, now, enough.ptr(), len, null_mut()), 0);
                        enough.check();
                        device.buffer = enough;
                    }
                }
                b'r' => receive(device, now, *how, rest),
                b'e' => {
                    known(azure_dps_on_error(client, now, -i32::from(*how)));
                    let _ = azure_dps_request_time_left(client, now);
                }
                b'v' => run(device, now, *how, rest),
                b'a' => outcome(device, size),
                b'k' => keys(device, *how, size, part(0), part(1)),
                b'j' => json(size, part(0), part(1)),
                b'b' => hub(device, *how, size, &parts),
                b't' => twin(size, part(0), part(1)),
                b'R' => {
                    device.record = Buffer::of(rest);
                    record(device);
                }
                b'l' => {
                    let policy = Policy {
                        hub_patience_ms: u32::from(*how) * 10_000,
                        first_pause_ms: 0,
                        longest_pause_ms: 0,
                        jitter_seed: 7,
                        lookup: how % 2,
                    };
                    let policy: *const Policy = if how % 3 == 0 { null() } else { &policy };
                    let config = config(device, 0, 1, &[]);
                    let (ptr, len) = (device.record.ptr(), device.record.size);
                    known(azure_dps_reprovisioning_init(&mut *device.life, &config, policy, ptr, len));
                }
                b'n' => life(device, now, *how),
                b'T' => tpm(device, *how, size, rest),
                b'C' => certificates(size, usize::from(*how), part(0), part(1)),
                b'y' => {
                    let copied = Buffer::of(rest);
                    let copy =
                        |buffer: *mut c_void, size, len| azure_dps_str_copy(text(&copied), buffer.cast(), size, len);
                    assert!(write(Kind::Text, size, copy).is_none_or(|copy| copy.bytes() == rest));
                }
                _ => {}
            }
        }
    }
}

fn config(device: &mut Device, attestation: u8, flags: u8, parts: &[&[u8]]) -> Config {
    let mut text = |number: usize, default: &[u8]| match parts.get(number).copied() {
        None | Some([]) => device.keep(default),
        Some(b"NULL") => Str { ptr: null(), len: 1 },
        Some(text) => device.keep(text),
    };
    let bytes = |text: Str| Bytes { ptr: text.ptr.cast(), len: text.len };
    Config {
        id_scope: text(0, b"0ne1"),
        registration_id: text(1, b"d"),
        payload: text(2, b""),
        csr: bytes(text(3, b"")),
        endorsement_key: bytes(text(4, b"")),
        storage_root_key: bytes(text(5, b"")),
        api_version: text(6, b""),
        timeout_ms: u32::from(flags / 64) * 100_000_000,
        request_timeout_ms: u32::from(flags / 16 % 4) * 10_000,
        poll_interval_ms: 0,
        token_lifetime_s: 0,
        max_body: 0,
        jitter_seed: 0,
        max_retries: flags / 4 % 4,
        attestation,
        first_key: flags / 2 % 2,
        lookup: flags % 2,
    }
}

fn init(device: &mut Device, which: u8, how: u8, parts: &[&[u8]]) {
    // A run that was under way ends: its memory is used again, and may hold a handle.
    let config = config(device, which / 2 % 4, how, parts);
    let client: *mut Client = &mut *device.client;
    unsafe {
        azure_dps_deinit(client);
        assert_eq!(azure_dps_init_abi(client, &config, 2, SIZES), -3);
        let result = known(azure_dps_init_abi(client, &config, 1, SIZES));
        let mut error = NO_ERROR;
        let told = known(azure_dps_get_error(client, &mut error));
        match result {
            // Not started.
            0 => assert_eq!(told, -4),
            ERR_ARGUMENT => assert_eq!(told, ERR_HANDLE),
            failed => assert_eq!((told, error.result), (failed, failed)),
        }
    }
    device.request_id = 0;
}

/// A copy of a handle is not a handle.
fn moved(device: &mut Device) {
    let mut client = Box::new(Client(device.client.0));
    let mut key = Box::new(Key(device.keys[0].0));
    let mut life = Box::new(Life(device.life.0));
    let client: *mut Client = &mut *client;
    let mut text = [0; 64];
    unsafe {
        assert_eq!(azure_dps_start(client, 0, 0), ERR_HANDLE);
        assert_eq!(azure_dps_step(client, 0, null_mut()), ERR_HANDLE);
        assert_eq!(azure_dps_get_error(client, &mut { NO_ERROR }), ERR_HANDLE);
        assert_eq!(azure_dps_write_error(client, text.as_mut_ptr(), 64, null_mut()), ERR_HANDLE);
        assert_eq!(azure_dps_get_progress(client, &mut Progress::default()), ERR_HANDLE);
        azure_dps_deinit(client);
        assert_eq!(azure_dps_key_write_base64(&*key, text.as_mut_ptr(), 64, null_mut()), ERR_HANDLE);
        azure_dps_key_wipe(&mut *key);
        assert_eq!(azure_dps_reprovisioning_next(&mut *life, 0, null_mut(), null_mut()), ERR_HANDLE);
    }
}

fn signer_of(device: &mut Device, how: u8, chip: &mut Chip) -> Signer {
    let keys: *mut [Key; 2] = &mut *device.keys;
    let chip: *mut Chip = chip;
    let second = how % 2 == 1;
    match how / 2 % 3 {
        0 => Signer {
            ctx: keys.cast(),
            sign: Some(azure_dps_key_sign),
            sign_with_secondary_key: second.then_some(azure_dps_key_sign_second),
            activate: None,
        },
        1 => Signer {
            ctx: chip.cast(),
            sign: Some(sign),
            sign_with_secondary_key: second.then_some(sign),
            activate: Some(activate),
        },
        _ => Signer { ctx: null_mut(), sign: None, sign_with_secondary_key: None, activate: None },
    }
}

unsafe fn publish(device: &mut Device, now: u32, size: usize) {
    let client: *mut Client = &mut *device.client;
    let (mut topic, mut body, mut needed) = (NO_STR, NO_BYTES, 0);
    let mut buffer = Buffer::new(size);
    unsafe {
        let mut result =
            known(azure_dps_mqtt_write_publish(client, now, buffer.ptr(), size, &mut topic, &mut body, &mut needed));
        buffer.check();
        if result == ERR_BUFFER_TOO_SMALL {
            assert!(needed > size);
            // The number of the request may have one digit more now.
            buffer = Buffer::new(needed + 1);
            let size = buffer.size;
            result = azure_dps_mqtt_write_publish(client, now, buffer.ptr(), size, &mut topic, &mut body, null_mut());
            assert_eq!(result, 0);
            buffer.check();
        }
        if result == 0 {
            assert!(buffer.contains(topic) && buffer.contains(Str { ptr: body.ptr.cast(), len: body.len }));
            assert_eq!(buffer.memory[topic.len], 0);
            let topic = str::from_utf8(&buffer.memory[..topic.len]).unwrap();
            let number = topic.split_once("$rid=").unwrap().1.split('&').next().unwrap();
            device.request_id = number.parse().unwrap();
        }
    }
}

unsafe fn on_message(device: &mut Device, now: u32, how: u8, rest: &[u8]) {
    let (topic, body) = match rest.iter().position(|&byte| byte == b'\t') {
        Some(tab) => (rest[..tab].to_vec(), &rest[tab + 1..]),
        None => {
            let (status, body) = match how % 5 {
                0 => (200, ASSIGNED),
                1 => (202, ASSIGNING),
                2 => (401, REFUSED),
                3 => (429, &b""[..]),
                _ => (200, rest),
            };
            let topic = format!("$dps/registrations/res/{status}/?$rid={}&retry-after={}", device.request_id, how / 5);
            (topic.into_bytes(), body)
        }
    };
    let topic = Buffer::of(&topic);
    device.buffer = Buffer::of(body);
    let (ptr, len) = (device.buffer.ptr(), device.buffer.size);
    unsafe { known_up_to(1, azure_dps_mqtt_on_message(&mut *device.client, now, text(&topic), ptr, len)) };
}

/// Reads an answer in pieces, into the device's buffer or another one.
unsafe fn receive(device: &mut Device, now: u32, how: u8, rest: &[u8]) {
    let client: *mut Client = &mut *device.client;
    let chunked;
    let head = |status: &str, body: &[u8]| {
        [format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    };
    let mut answer: &[u8] = &match rest {
        b"A" => head("200 OK", ASSIGNED),
        b"W" => head("202 A\r\nRetry-After: 2", ASSIGNING),
        b"C" => head("401 U", CHALLENGE),
        b"R" => head("401 U", REFUSED),
        b"L" => head("404 N", b""),
        [b'K', body @ ..] => {
            chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
            [chunked.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
        }
        [b'2', body @ ..] => head("200 OK", body),
        [b'4', body @ ..] => head("400 B", body),
        raw => raw.iter().flat_map(|&byte| if byte == b'|' { vec![b'\r', b'\n'] } else { vec![byte] }).collect(),
    };
    if how % 16 == 15 {
        device.buffer = Buffer::new(usize::from(how) * 8);
    }
    let piece = match how % 3 {
        0 => usize::MAX,
        1 => 1,
        _ => 50,
    };
    loop {
        let buffer = &mut device.buffer;
        let (mut space, mut space_len) = (null_mut(), 0);
        let size = buffer.size;
        unsafe {
            if known(azure_dps_http_space(client, now, buffer.ptr(), size, &mut space, &mut space_len)) != 0 {
                break;
            }
            assert!(space_len > 0 && buffer.contains(Str { ptr: space.cast(), len: space_len }));
            let len = answer.len().min(piece).min(space_len);
            space.copy_from_nonoverlapping(answer.as_ptr(), len);
            answer = &answer[len..];
            // More bytes than were read, which is impossible.
            let said = if how == 200 { usize::MAX } else { len };
            let mut keep_alive = false;
            let result =
                known_up_to(1, azure_dps_http_received(client, now, buffer.ptr(), size, said, &mut keep_alive));
            buffer.check();
            if result != 0 || len == 0 {
                break;
            }
        }
    }
}

unsafe fn run(device: &mut Device, now: u32, how: u8, script: &[u8]) {
    let client: *mut Client = &mut *device.client;
    let mut chip = Chip { client, result: i32::from(how == 255) };
    let signer = signer_of(device, how, &mut chip);
    let mut peer = Peer { client, script, answer: Vec::new(), now, open: false, calls: 0 };
    let io = Io {
        ctx: (&raw mut peer).cast(),
        connect: Some(connect),
        read: Some(read),
        write: Some(write_some),
        close: Some(close),
        clock_ms: Some(clock),
        delay_ms: Some(delay),
        observe: (!how.is_multiple_of(3)).then_some(observe),
    };
    device.buffer = Buffer::new(usize::from(how) * 8);
    let (ptr, size) = (device.buffer.ptr(), device.buffer.size);
    unsafe {
        let result = known(azure_dps_run(client, 1_700_000_000, &signer, ptr, size, &io));
        device.buffer.check();
        assert!(!peer.open);
        let mut error = NO_ERROR;
        let told = azure_dps_get_error(client, &mut error);
        if peer.calls > 0 {
            assert_eq!((told, error.result), (result, result));
        }
        if result == ERR_BUFFER_TOO_SMALL && peer.calls > 0 {
            assert!(error.needed as usize > size);
        }
    }
}

unsafe fn outcome(device: &mut Device, size: usize) {
    let client: *const Client = &*device.client;
    let body = &mut device.buffer;
    let (ptr, len) = (body.ptr().cast_const(), body.size);
    unsafe {
        let mut error = NO_ERROR;
        let told = known(azure_dps_get_error(client, &mut error));
        // `HANDLE` leaves it alone.
        assert!(error.tracking_id.contains(&0) || told == ERR_HANDLE);
        assert!(told == ERR_HANDLE || error.result == told);
        let mut assignment = NO_ASSIGNMENT;
        let result = known(azure_dps_get_assignment(client, ptr, len, &mut assignment));
        if result == 0 {
            assert_eq!(told, 0);
            for text in [assignment.assigned_hub, assignment.payload, assignment.registration_state] {
                assert!(body.contains(text));
            }
            assert!(matches!(azure_dps_get_substatus(&assignment), 0..=4 | 255));
            let mut key = NO_STR;
            if known(azure_dps_tpm_get_authentication_key(&assignment, &mut key)) == 0 {
                assert!(body.contains(key));
            }
        }
        write(Kind::Text, size, |buffer, size, len| azure_dps_write_error(client, buffer.cast(), size, len));
        write(Kind::Text, size, |buffer, size, said| {
            azure_dps_write_service_message(client, ptr, len, buffer.cast(), size, said)
        });
        write(Kind::Text, size, |buffer, size, len| azure_dps_mqtt_write_client_id(client, buffer.cast(), size, len));
        write(Kind::Text, size, |buffer, size, len| azure_dps_mqtt_write_user_name(client, buffer.cast(), size, len));
        write(Kind::Text, size, |buffer, size, len| azure_dps_mqtt_write_password(client, buffer.cast(), size, len));
        let mut port = 0;
        let port: *mut u16 = &mut port;
        write(Kind::Text, size, |buffer, size, len| azure_dps_write_host(client, buffer.cast(), size, len, port));
        let mut progress = Progress::default();
        known_up_to(1, azure_dps_get_progress(&mut *device.client, &mut progress));
        known_up_to(1, azure_dps_get_key(client));
        let written =
            write(Kind::Bytes, size, |buffer, size, said| azure_dps_write_record(client, ptr, len, buffer, size, said));
        if let Some(written) = written {
            assert_eq!(result, 0);
            device.record = written;
            // In the same buffer, it is the same record.
            let (mut in_place, mut in_place_len) = (Buffer::of(device.buffer.bytes()), 0);
            let (ptr, size) = (in_place.ptr(), in_place.size);
            let result = known(azure_dps_write_record(client, ptr, size, ptr, size, &mut in_place_len));
            in_place.check();
            assert!(result == ERR_BUFFER_TOO_SMALL || in_place.bytes()[..in_place_len] == *device.record.bytes());
            record(device);
        }
    }
}

unsafe fn record(device: &mut Device) {
    let config = config(device, 0, 0, &[]);
    let record = &mut device.record;
    let (ptr, len) = (record.ptr(), record.size);
    let (mut assignment, mut key) = (NO_ASSIGNMENT, -1);
    unsafe {
        let result = known(azure_dps_record_read(&config, ptr, len, &mut assignment, &mut key));
        if let Some(header) = record.bytes().first_chunk::<16>() {
            let told = azure_dps_record_len(header.as_ptr());
            assert!(result != 0 || told <= len);
        }
        if result == 0 {
            assert!(key == 0 || key == 1);
            for text in [assignment.assigned_hub, assignment.device_id, assignment.registration_state] {
                assert!(record.contains(text));
            }
        }
    }
}

unsafe fn life(device: &mut Device, now: u32, how: u8) {
    let life: *mut Life = &mut *device.life;
    let client: *const Client = &*device.client;
    let mut pauses = Buffer::new(8);
    let (mut wait, mut key) = (0, 0);
    unsafe {
        let next = known_up_to(4, azure_dps_reprovisioning_next(life, now, &mut wait, &mut key));
        assert!((next == 4) == (wait != 0) && (0..2).contains(&key));
        match how % 6 {
            0 => {
                known(azure_dps_reprovisioning_on_failed(life, now, client));
            }
            1 => {
                let (ptr, len) = (device.buffer.ptr(), device.buffer.size);
                known_up_to(1, azure_dps_reprovisioning_on_assigned(life, now, client, ptr, len));
            }
            2 => {
                known(azure_dps_reprovisioning_provision_again(life));
            }
            3 => {
                let got = known(azure_dps_reprovisioning_get_pauses(life, now, pauses.ptr().cast()));
                pauses.check();
                assert!(got == next.min(0));
                if got == 0 {
                    assert_eq!(azure_dps_reprovisioning_set_pauses(life, now, pauses.ptr().cast(), u32::from(how)), 0);
                }
            }
            4 => {
                known(azure_dps_reprovisioning_set_pauses(life, now, pauses.ptr().cast(), 0));
            }
            _ => {
                let outcome = azure_dps_hub_outcome_from_connack(how / 6);
                assert_ne!(azure_dps_reprovisioning_on_hub(life, now, outcome), ERR_ARGUMENT);
                known(azure_dps_reprovisioning_on_hub(life, now, i32::from(how) * 3));
            }
        }
    }
}

unsafe fn keys(device: &mut Device, how: u8, size: usize, base64: &[u8], registration_id: &[u8]) {
    let base64 = Buffer::of(if base64.is_empty() { KEY } else { base64 });
    let registration_id = Buffer::of(registration_id);
    let key: *mut Key = &mut device.keys[usize::from(how % 2)];
    let mut signature = Buffer::new(32);
    unsafe {
        let result = match registration_id.size {
            0 => known(azure_dps_key_from_base64(key, text(&base64))),
            _ => known(azure_dps_key_derive(key, text(&base64), text(&registration_id))),
        };
        let written =
            write(Kind::Text, size, |buffer, size, len| azure_dps_key_write_base64(key, buffer.cast(), size, len));
        assert_eq!(written.is_some(), result == 0);
        let signed = azure_dps_key_sign(key.cast(), base64.memory.as_ptr(), base64.size, signature.ptr().cast());
        signature.check();
        assert_eq!(signed, if result == 0 { 0 } else { ERR_HANDLE });
    }
}

unsafe fn json(size: usize, object: &[u8], name: &[u8]) {
    let (object, name) = (Buffer::of(object), Buffer::of(name));
    let mut value = NO_STR;
    unsafe {
        let mut found = known(azure_dps_json_get(text(&object), text(&name), &mut value));
        if found != 0 {
            found = known(azure_dps_json_at(text(&object), name.size, &mut value));
        }
        let value = if found == 0 { value } else { text(&object) };
        assert!(object.contains(value));
        write(Kind::Text, size, |buffer, size, len| azure_dps_json_write_text(value, buffer.cast(), size, len));
        let number = known(azure_dps_json_u32(value, &mut 0));
        let truth = known(azure_dps_json_bool(value, &mut false));
        // Never two of them.
        assert!(usize::from(number == 0) + usize::from(truth == 0) + usize::from(azure_dps_json_is_null(value)) <= 1);
    }
}

unsafe fn hub(device: &mut Device, how: u8, size: usize, parts: &[&[u8]]) {
    let part = |number: usize, default: &'static [u8]| match parts.get(number).copied() {
        None | Some([]) => Buffer::of(default),
        Some(text) => Buffer::of(text),
    };
    let (assigned_hub, device_id) = (part(0, b"hub.example:8883"), part(1, b"d"));
    let (name, value) = (part(2, b"$.ct"), part(3, b"a/b"));
    let hub = Hub { assigned_hub: text(&assigned_hub), device_id: text(&device_id) };
    let properties = [Property { name: text(&name), value: text(&value) }];
    let client: *mut Client = null_mut();
    let mut chip = Chip { client, result: 0 };
    let signer = signer_of(device, how, &mut chip);
    let key: *const Key = &device.keys[0];
    let expiry = u64::from(how).wrapping_mul(0x0101_0101_0101);
    let mut port = 0;
    let port: *mut u16 = &mut port;
    unsafe {
        let text = |call: &dyn Fn(*mut c_char, usize, *mut usize) -> i32| {
            write(Kind::Text, size, |buffer, size, len| call(buffer.cast(), size, len)).is_some()
        };
        let host = text(&|buffer, size, len| azure_dps_hub_write_host(&hub, buffer, size, len, port));
        let user_name = text(&|buffer, size, len| azure_dps_hub_write_user_name(&hub, buffer, size, len));
        let x509 = text(&|buffer, size, len| azure_dps_hub_write_x509_connection_string(&hub, buffer, size, len));
        let topic = text(&|buffer, size, len| {
            azure_dps_hub_write_telemetry_topic(&hub, properties.as_ptr(), 1, buffer, size, len)
        });
        assert!(host == user_name && host == x509 && (host || !topic));
        text(&|buffer, size, len| azure_dps_hub_write_connection_string(&hub, key, buffer, size, len));
        text(&|buffer, size, len| {
            azure_dps_hub_write_password(&hub, &signer, i32::from(how % 2), expiry, buffer, size, len)
        });
        text(&|buffer, size, len| {
            azure_dps_hub_write_signed_password(&hub, [how; 32].as_ptr(), expiry, buffer, size, len)
        });
        let message =
            write(Kind::Bytes, size, |buffer, size, len| azure_dps_hub_write_message(&hub, expiry, buffer, size, len));
        assert_eq!(message.is_some(), host);
    }
}

unsafe fn twin(size: usize, topic: &[u8], body: &[u8]) {
    let (topic, mut body) = (Buffer::of(topic), Buffer::of(body));
    let nothing = || TwinMessage {
        what: 9,
        request_id: 9,
        desired: NO_STR,
        reported: NO_STR,
        desired_version: 9,
        reported_version: 9,
        code: 9,
        status: 9,
        retryable: 9,
        unknown_device: 9,
    };
    let mut message = nothing();
    unsafe {
        let (ptr, len) = (body.ptr(), body.size);
        if known(azure_dps_twin_read(text(&topic), ptr, len, &mut message)) == 0 {
            assert!((0..=4).contains(&message.what) && message.retryable <= 1 && message.unknown_device <= 1);
            assert!(body.contains(message.desired) && body.contains(message.reported));
        }
        let mut skipped = nothing();
        if known(azure_dps_twin_read_skipped(text(&topic), len, &mut skipped)) == 0 {
            assert!(message.what == skipped.what || message.what == 9);
        }
        let number = u32::try_from(size).unwrap_or(0).wrapping_mul(0x0102_0304);
        write(Kind::Text, size, |buffer, size, len| azure_dps_twin_write_get_topic(number, buffer.cast(), size, len));
        write(Kind::Text, size, |buffer, size, len| {
            azure_dps_twin_write_report_topic(number, buffer.cast(), size, len)
        });
    }
}

unsafe fn tpm(device: &mut Device, how: u8, size: usize, base64: &[u8]) {
    let client: *mut Client = &mut *device.client;
    let (ptr, len) = (device.buffer.ptr().cast_const(), device.buffer.size);
    let mut chip = Chip { client, result: i32::from(how == 255) };
    unsafe {
        let mut challenge = NO_STR;
        if known(azure_dps_tpm_get_challenge(client, ptr, len, &mut challenge)) == 0 {
            assert!(device.buffer.contains(challenge));
        }
        if how.is_multiple_of(5) {
            known(azure_dps_tpm_on_activated(client));
        } else {
            let signer = signer_of(device, how, &mut chip);
            known(azure_dps_tpm_activate(client, &signer, ptr, len));
        }
        let base64 = Buffer::of(base64);
        let mut buffer = Buffer::new(size);
        let mut key = EncryptedKey([NO_BYTES; 6]);
        let mut needed = 0;
        let mut result = known(azure_dps_tpm_decode(text(&base64), buffer.ptr(), size, &mut needed, &mut key));
        buffer.check();
        if result == ERR_BUFFER_TOO_SMALL {
            assert!(needed > size);
            buffer = Buffer::new(needed);
            result = known(azure_dps_tpm_decode(text(&base64), buffer.ptr(), needed, null_mut(), &mut key));
            assert_ne!(result, ERR_BUFFER_TOO_SMALL);
            buffer.check();
        }
        if result == 0 {
            for part in key.0 {
                assert!(buffer.contains(Str { ptr: part.ptr.cast(), len: part.len }));
            }
        }
    }
}

unsafe fn certificates(size: usize, index: usize, state: &[u8], csr: &[u8]) {
    let (state, csr) = (Buffer::of(state), Buffer::of(csr));
    let assignment = Assignment { registration_state: text(&state), ..NO_ASSIGNMENT };
    let csr = Bytes { ptr: csr.memory.as_ptr(), len: csr.size };
    unsafe {
        write(Kind::Bytes, size, |buffer, size, len| {
            azure_dps_certificate_write(&assignment, index % 4, buffer, size, len)
        });
        write(Kind::Bytes, size, |buffer, size, len| {
            azure_dps_certificate_write_leaf(&assignment, csr, buffer, size, len)
        });
        known(azure_dps_tpm_get_authentication_key(&assignment, &mut { NO_STR }));
        known_up_to(255, azure_dps_get_substatus(&assignment));
    }
}
