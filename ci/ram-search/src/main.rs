//! Provisions once, and halts after each step. Another program searches the memory from outside. The keys come from
//! flash, and the caller wipes its own buffers.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(feature = "recipe", target_os = "none"))]
#[path = "../../../ci/cost/recipe/memory.rs"]
mod memory;

use core::hint::black_box;
use core::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Error, GroupKey, IdScope, Provisioning, Registration, RegistrationId, provisioning::Step,
};
use zeroize::Zeroize;

// search.py contains the same keys.
const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const ID_SCOPE: &str = "0ne00002193";
const REGISTRATION_ID: &str = "breakroom499-contoso-tstrsd-007";
const UNIX_TIME: u64 = 1_700_000_000;

const ASSIGNING: &[u8] = include_bytes!("../../../tests/vectors/operation-assigning.json");
const ASSIGNED: &[u8] = include_bytes!("../../../tests/vectors/operation-assigned.json");

#[cfg(target_os = "none")]
#[cortex_m_rt::entry]
fn main() -> ! {
    steps();
    loop {}
}

#[cfg(not(target_os = "none"))]
fn main() {
    steps();
}

fn steps() {
    let mut device_key = [0; 44];
    let outcome = derive(&mut device_key).and_then(|()| {
        halt(3);
        provision(&mut device_key)
    });
    #[cfg(feature = "control")]
    leave_in_register();
    halt(if outcome.is_ok() { 7 } else { FAILED });
}

const FAILED: u32 = 0;

/// The breakpoint of the debugger.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn halt(place: u32) {
    black_box(place);
}

/// Reports the step, and waits for a byte. Calls write(2) and read(2) directly, because the standard library would
/// overwrite the memory to search.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[inline(never)]
fn halt(place: u32) {
    use core::arch::asm;

    static mut TEXT: [u8; 2] = *b"0\n";
    // SAFETY: there is one thread, and both calls have the two bytes of `TEXT`.
    unsafe {
        let text = (&raw mut TEXT).cast::<u8>();
        *text = b'0' + place as u8;
        for (call, file, length) in [(1_usize, 1_usize, 2_usize), (0, 0, 1)] {
            asm!(
                "syscall",
                inlateout("rax") call => _,
                in("rdi") file,
                in("rsi") text,
                in("rdx") length,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
    }
}

/// Derives the device key as text from the group key, as in the factory.
#[inline(never)]
fn derive(text: &mut [u8; 44]) -> Result<(), Error> {
    let id = RegistrationId::new(black_box(REGISTRATION_ID))?;
    let (mut group_key, mut device_key) = (GroupKey::new(), DeviceKey::new());
    group_key.read_base64(black_box(GROUP_KEY))?;
    halt(1);
    group_key.derive_into(&id, &mut device_key)?;
    halt(2);
    device_key.write_base64(text)?;
    #[cfg(feature = "control")]
    {
        core::mem::forget(black_box(group_key.clone()));
        leave_states();
    }
    Ok(())
}

/// Computes an HMAC without wiping anything.
#[cfg(feature = "control")]
#[inline(never)]
fn leave_states() {
    use base64::prelude::*;
    use hmac::{Hmac, KeyInit, Mac};

    let mut key = [0; 64];
    let decoded = BASE64_STANDARD.decode_slice(black_box(GROUP_KEY), &mut key);
    if let (Ok(64), Ok(mac)) = (decoded, Hmac::<sha2::Sha256>::new_from_slice(&key)) {
        black_box(mac.chain_update(REGISTRATION_ID).finalize());
    }
    key.zeroize();
}

/// Loads the first bytes of the group key into a register that `halt` does not use.
#[cfg(feature = "control")]
#[inline(always)]
fn leave_in_register() {
    const KEY: [u8; 8] = *b"\xa2\x22\xbb\xec\xec\xbb\xac\x1c";
    // SAFETY: no other register changes.
    #[cfg(target_arch = "arm")]
    unsafe {
        let [a, b, c, d, ..] = KEY;
        core::arch::asm!("mov r10, {}", in(reg) u32::from_le_bytes([a, b, c, d]), out("r10") _);
    }
    // SAFETY: as above.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("movq xmm15, {}", in(reg) u64::from_le_bytes(KEY), out("xmm15") _);
    }
}

/// Does everything that a device does with its key.
#[inline(never)]
fn provision(text: &mut [u8; 44]) -> Result<(), Error> {
    let mut key = DeviceKey::new();
    key.read_base64(core::str::from_utf8(text).unwrap_or_default())?;
    text.zeroize();
    halt(4);

    let mut buffer = [0; 760];
    let id_scope = IdScope::new(black_box(ID_SCOPE))?;
    let registration = Registration::new(id_scope, RegistrationId::new(black_box(REGISTRATION_ID))?)
        .with_payload(black_box(r#"{"MyDeviceFirmwareVersion":"12.0.2.5"}"#))?;
    let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
    provisioning.start(Duration::ZERO, black_box(UNIX_TIME));
    run(&mut provisioning, &mut key, &mut buffer)?;
    let hub = provisioning.result(&buffer)?.hub();
    let (mut token, mut connection_string) = ([0; 320], [0; 256]);
    black_box(hub.write_token(&mut key, UNIX_TIME + 3600, &mut token)?);
    black_box(hub.write_connection_string(&key, &mut connection_string)?);
    token.zeroize();
    connection_string.zeroize();
    halt(6);
    Ok(())
}

fn sign(provisioning: &mut Provisioning<'_>, key: &mut DeviceKey, buffer: &mut [u8; 760]) -> Result<(), Error> {
    match provisioning.step(Duration::ZERO) {
        Step::Sign => provisioning.sign_with(key, buffer),
        _ => Err(Error::NotDue),
    }
}

#[cfg(not(feature = "http"))]
#[inline(never)]
fn run(provisioning: &mut Provisioning<'_>, key: &mut DeviceKey, buffer: &mut [u8; 760]) -> Result<(), Error> {
    use azure_dps::mqtt;

    black_box(mqtt::write_user_name(provisioning, buffer)?);
    sign(provisioning, key, buffer)?;
    black_box(mqtt::write_password(provisioning, buffer)?);
    halt(5);
    buffer.zeroize();
    let mut now = Duration::ZERO;
    let answers = [
        ("$dps/registrations/res/202/?$rid=1&retry-after=3", ASSIGNING),
        ("$dps/registrations/res/200/?$rid=2", ASSIGNED),
    ];
    for (topic, body) in answers {
        if provisioning.step(now) == Step::Send {
            black_box(mqtt::write_publish(provisioning, now, buffer)?);
        }
        buffer[..body.len()].copy_from_slice(black_box(body));
        mqtt::on_message(provisioning, now, black_box(topic), &buffer[..body.len()]);
        now += Duration::from_secs(3);
    }
    Ok(())
}

#[cfg(feature = "http")]
#[inline(never)]
fn run(provisioning: &mut Provisioning<'_>, key: &mut DeviceKey, buffer: &mut [u8; 760]) -> Result<(), Error> {
    use azure_dps::http::{self, ResponseReader};

    const { assert!(ASSIGNING.len() == 94 && ASSIGNED.len() == 572) }
    sign(provisioning, key, buffer)?;
    let mut now = Duration::ZERO;
    let answers: [[&[u8]; 2]; 2] = [
        [b"HTTP/1.1 202 Accepted\r\nRetry-After: 3\r\nContent-Length: 94\r\n\r\n", ASSIGNING],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 572\r\n\r\n", ASSIGNED],
    ];
    for answer in answers {
        if provisioning.step(now) == Step::Send {
            black_box(http::write_request(provisioning, now, buffer)?);
        }
        if now.is_zero() {
            halt(5);
        }
        let mut reader = ResponseReader::new();
        for part in answer {
            let space = reader.space(buffer)?;
            space[..part.len()].copy_from_slice(black_box(part));
            if let Some(response) = reader.received(buffer, part.len())? {
                provisioning.on_answer(now, response.answer(buffer));
            }
        }
        now += Duration::from_secs(3);
    }
    Ok(())
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    halt(FAILED);
    loop {}
}
