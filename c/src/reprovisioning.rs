//! Reprovisioning: decides when to connect to the hub and when to ask DPS.

use core::{ffi::c_void, time::Duration};

use azure_dps::after::{HubOutcome, Next, Pauses, Reprovisioning, ReprovisioningPolicy};

use crate::{
    border::{Failure, Guarded, answer, bytes, get, get_mut, mark, outcome, place, put, put_if_wanted, structure},
    client::{Client, azure_dps_client, azure_dps_config},
    clock::{Clock, millis},
    error::azure_dps_result,
    record::{self, number_of, owner},
};

/// The memory of a [`Life`]. See the header.
#[repr(C)]
pub struct azure_dps_reprovisioning {
    opaque: [u64; 24],
}

/// The value in an `azure_dps_reprovisioning`.
struct Life {
    /// `None` before the first reading.
    clock: Option<Clock>,
    reprovisioning: Reprovisioning,
}

impl Life {
    fn now(&mut self, now_ms: u32) -> Duration {
        self.clock.get_or_insert(Clock::starting_at(now_ms)).read(now_ms)
    }
}

impl Guarded for Life {
    type Memory = azure_dps_reprovisioning;
    const KIND: u8 = b'r';
}

/// See the header.
#[repr(C)]
#[allow(missing_docs, reason = "the header documents them")]
pub struct azure_dps_reprovisioning_policy {
    pub hub_patience_ms: u32,
    pub first_pause_ms: u32,
    pub longest_pause_ms: u32,
    pub jitter_seed: u32,
    pub lookup: u8,
}

impl azure_dps_reprovisioning_policy {
    fn read(&self) -> Result<ReprovisioningPolicy, Failure> {
        let mut policy = ReprovisioningPolicy::new().with_jitter_seed(self.jitter_seed);
        let set = |time: &mut Duration, ms: u32| {
            if ms != 0 {
                *time = Duration::from_millis(ms.into());
            }
        };
        set(&mut policy.hub_patience, self.hub_patience_ms);
        set(&mut policy.first_pause, self.first_pause_ms);
        set(&mut policy.longest_pause, self.longest_pause_ms);
        if self.lookup == 0 {
            return Ok(policy);
        }
        #[cfg(feature = "lookup")]
        return Ok(policy.with_lookup());
        #[cfg(not(feature = "lookup"))]
        Err(azure_dps::Error::Unsupported.into())
    }
}

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`, `config` to an `azure_dps_config`, `policy` to an
/// `azure_dps_reprovisioning_policy`, `record` to `record_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_init(
    life: *mut azure_dps_reprovisioning,
    config: *const azure_dps_config,
    policy: *const azure_dps_reprovisioning_policy,
    record: *const c_void,
    record_len: usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise. `place` has checked the memory.
    outcome(|| unsafe {
        let place = place::<Life>(life)?;
        let owner = owner(config)?;
        let policy = if policy.is_null() { ReprovisioningPolicy::new() } else { structure(policy)?.read()? };
        let record = record::read(record, record_len, &owner)?;
        let reprovisioning = Reprovisioning::new(owner.registration_id(), policy, record);
        place.write(Life { clock: None, reprovisioning });
        mark::<Life>(life);
        Ok(())
    })
}

const AZURE_DPS_NEXT_HUB: i32 = 1;
const AZURE_DPS_NEXT_LOOK_UP: i32 = 2;
const AZURE_DPS_NEXT_REGISTER: i32 = 3;
const AZURE_DPS_NEXT_WAIT: i32 = 4;

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`; `wait_ms` and `key` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_next(
    life: *mut azure_dps_reprovisioning,
    now_ms: u32,
    wait_ms: *mut u32,
    key: *mut i32,
) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        let life = get_mut::<Life>(life)?;
        let mut wait = 0;
        let now = life.now(now_ms);
        let next = match life.reprovisioning.next(now) {
            Next::Hub(_) => AZURE_DPS_NEXT_HUB,
            Next::LookUp(_) => AZURE_DPS_NEXT_LOOK_UP,
            Next::Register(_) => AZURE_DPS_NEXT_REGISTER,
            Next::Wait(duration) => {
                wait = millis(duration);
                AZURE_DPS_NEXT_WAIT
            }
        };
        put_if_wanted(wait_ms, wait);
        put_if_wanted(key, number_of(life.reprovisioning.key()));
        Ok(next)
    })
}

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`, `dps` to an `azure_dps_client`, `body` to `body_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_on_assigned(
    life: *mut azure_dps_reprovisioning,
    now_ms: u32,
    dps: *const azure_dps_client,
    body: *const c_void,
    body_len: usize,
) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        let life = get_mut::<Life>(life)?;
        let provisioning = &get::<Client>(dps)?.provisioning;
        let assignment = provisioning.result(bytes(body, body_len)?)?;
        let now = life.now(now_ms);
        let is_new = life.reprovisioning.on_assigned(now, &assignment, provisioning.key());
        Ok(is_new.into())
    })
}

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`, `dps` to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_on_failed(
    life: *mut azure_dps_reprovisioning,
    now_ms: u32,
    dps: *const azure_dps_client,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let life = get_mut::<Life>(life)?;
        let client = get::<Client>(dps)?;
        client.check_started()?;
        let now = life.now(now_ms);
        life.reprovisioning.on_failed(now, &client.provisioning);
        Ok(())
    })
}

const AZURE_DPS_HUB_ACCEPTED: i32 = 1;
const AZURE_DPS_HUB_CLOSED: i32 = 2;
const AZURE_DPS_HUB_UNREACHABLE: i32 = 3;

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn azure_dps_hub_outcome_from_connack(return_code: u8) -> i32 {
    match HubOutcome::from_connack(return_code) {
        HubOutcome::Accepted => AZURE_DPS_HUB_ACCEPTED,
        HubOutcome::Closed => AZURE_DPS_HUB_CLOSED,
        HubOutcome::Refused(status) => status.into(),
        _ => AZURE_DPS_HUB_UNREACHABLE,
    }
}

fn hub_outcome(outcome: i32) -> Result<HubOutcome, Failure> {
    match outcome {
        AZURE_DPS_HUB_ACCEPTED => Ok(HubOutcome::Accepted),
        AZURE_DPS_HUB_CLOSED => Ok(HubOutcome::Closed),
        AZURE_DPS_HUB_UNREACHABLE => Ok(HubOutcome::Unreachable),
        400..600 => Ok(HubOutcome::Refused(outcome as u16)),
        _ => Err(Failure::ARGUMENT),
    }
}

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_on_hub(
    life: *mut azure_dps_reprovisioning,
    now_ms: u32,
    outcome: i32,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    self::outcome(|| unsafe {
        let life = get_mut::<Life>(life)?;
        let outcome = hub_outcome(outcome)?;
        let now = life.now(now_ms);
        life.reprovisioning.on_hub(now, outcome);
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_provision_again(
    life: *mut azure_dps_reprovisioning,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        get_mut::<Life>(life)?.reprovisioning.provision_again();
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`, `pauses` to 8 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_get_pauses(
    life: *mut azure_dps_reprovisioning,
    now_ms: u32,
    pauses: *mut u8,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let life = get_mut::<Life>(life)?;
        let now = life.now(now_ms);
        put(pauses.cast::<[u8; Pauses::LEN]>(), life.reprovisioning.pauses(now).to_bytes())
    })
}

/// See the header.
///
/// # Safety
/// `life` is NULL or points to an `azure_dps_reprovisioning`, `pauses` to 8 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_reprovisioning_set_pauses(
    life: *mut azure_dps_reprovisioning,
    now_ms: u32,
    pauses: *const u8,
    off_ms: u32,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let life = get_mut::<Life>(life)?;
        let pauses = structure(pauses.cast::<[u8; Pauses::LEN]>())?;
        let pauses = Pauses::from_bytes(pauses).ok_or(Failure::ARGUMENT)?;
        let pauses = pauses.after(Duration::from_millis(off_ms.into()));
        let now = life.now(now_ms);
        life.reprovisioning.restore_pauses(now, pauses);
        Ok(())
    })
}
