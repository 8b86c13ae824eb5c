//! A device and its run: the memory of `azure_dps_client`, and the state machine.

use core::ffi::{c_char, c_void};

use azure_dps::{
    Attestation, Error, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy,
    error::TransportError,
    http::ResponseReader,
    identity::{KeyChoice, SIGNATURE_LEN},
    provisioning::{Endpoint, Progress, Step},
};

use crate::{
    border::{
        Failure, Guarded, Out, answer, azure_dps_bytes, azure_dps_str, buffer, copy, enter, get, get_mut, mark,
        outcome, place, put, put_if_wanted, release, structure,
    },
    clock::{Clock, millis},
    error::*,
    signer::{self, Signer, azure_dps_signer},
};

/// The configuration of a device. See the header.
#[repr(C)]
#[allow(missing_docs, reason = "the header documents them")]
pub struct azure_dps_config {
    pub id_scope: azure_dps_str,
    pub registration_id: azure_dps_str,
    pub payload: azure_dps_str,
    pub csr: azure_dps_bytes,
    pub endorsement_key: azure_dps_bytes,
    pub storage_root_key: azure_dps_bytes,
    pub api_version: azure_dps_str,
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

const AZURE_DPS_SYMMETRIC_KEY: u8 = 0;
const AZURE_DPS_X509: u8 = 1;
const AZURE_DPS_TPM: u8 = 2;

/// The memory of a device. See the header.
#[repr(C)]
pub struct azure_dps_client {
    opaque: [u64; if size_of::<usize>() > 4 { 75 } else { 60 }],
}

/// The value in an `azure_dps_client` after a successful `azure_dps_init`.
pub(crate) struct Client {
    pub(crate) clock: Clock,
    pub(crate) phase: Phase,
    /// The number that the last failed callback of C returned.
    pub(crate) io_error: i32,
    /// The answer over HTTP, if one is read.
    pub(crate) reader: ResponseReader,
    pub(crate) provisioning: Provisioning<'static>,
}

/// The last step that C was told to do. Functions for other steps fail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    NotStarted,
    Started,
    Signing,
    #[cfg(feature = "tpm")]
    Activating,
    /// A request was written over HTTP.
    Reading,
}

impl Guarded for Client {
    type Memory = azure_dps_client;
    const KIND: u8 = b'c';
}

/// The value in an `azure_dps_client` after a failed `azure_dps_init`.
pub(crate) struct NoClient(pub(crate) Error);

impl Guarded for NoClient {
    type Memory = azure_dps_client;
    const KIND: u8 = b'n';
}

impl Client {
    pub(crate) fn check_started(&self) -> Result<(), Failure> {
        if self.phase == Phase::NotStarted { Err(Failure::of(AZURE_DPS_ERR_NOT_STARTED)) } else { Ok(()) }
    }

    /// Checks that [`azure_dps_step`] returned this step.
    pub(crate) fn check_phase(&self, phase: Phase) -> Result<(), Failure> {
        self.check_started()?;
        if self.phase == phase { Ok(()) } else { Err(Failure::of(AZURE_DPS_ERR_NOT_DUE)) }
    }

    /// Passes an error to the run. An error that C can repair before it calls again does not end the run.
    pub(crate) fn refuse(&mut self, error: Error) -> Failure {
        if !matches!(error, Error::BufferTooSmall(_) | Error::NotDue | Error::NotStarted | Error::WrongBuffer) {
            self.on_error(error);
        }
        error.into()
    }

    pub(crate) fn on_error(&mut self, error: Error) {
        self.phase = Phase::Started;
        self.provisioning.on_error(self.clock.time(), error);
    }
}

/// Reads a configuration. Its texts live as long as the client, as the header requires.
///
/// # Safety
/// What `config` points to stays where it is, unchanged, for as long as the result is used.
unsafe fn registration(config: &azure_dps_config) -> Result<Result<Registration<'static>, Error>, Failure> {
    // SAFETY: the caller's promise.
    let (id_scope, registration_id, payload) =
        unsafe { (config.id_scope.read()?, config.registration_id.read()?, config.payload.read()?) };
    #[cfg(feature = "csr")]
    // SAFETY: the caller's promise.
    let csr = unsafe { config.csr.read()? };
    Ok((|| {
        let registration = Registration::new(IdScope::new(id_scope)?, RegistrationId::new(registration_id)?);
        #[cfg(feature = "csr")]
        let registration = match csr {
            [] => registration,
            der => registration.with_csr(azure_dps::identity::Csr::from_der(der)?),
        };
        if payload.is_empty() { Ok(registration) } else { registration.with_payload(payload) }
    })())
}

/// # Safety
/// As for [`registration`].
#[inline]
unsafe fn attestation(config: &azure_dps_config) -> Result<Result<Attestation<'static>, Error>, Failure> {
    Ok(match config.attestation {
        AZURE_DPS_SYMMETRIC_KEY => Ok(Attestation::symmetric_key()),
        AZURE_DPS_X509 => Ok(Attestation::x509()),
        #[cfg(feature = "tpm")]
        // SAFETY: the caller's promise.
        AZURE_DPS_TPM => Ok(Attestation::tpm(unsafe {
            azure_dps::identity::tpm::TpmKeys {
                endorsement_key: config.endorsement_key.read()?,
                storage_root_key: config.storage_root_key.read()?,
            }
        })),
        #[cfg(not(feature = "tpm"))]
        AZURE_DPS_TPM => Err(Error::Unsupported),
        _ => return Err(Failure::ARGUMENT),
    })
}

impl azure_dps_config {
    fn retry_policy(&self) -> RetryPolicy {
        let mut policy = RetryPolicy::new().with_jitter_seed(self.jitter_seed);
        if self.timeout_ms != 0 {
            policy = policy.with_timeout_ms(self.timeout_ms);
        }
        if self.request_timeout_ms != 0 {
            policy = policy.with_request_timeout_ms(self.request_timeout_ms);
        }
        if self.poll_interval_ms != 0 {
            policy = policy.with_poll_interval_ms(self.poll_interval_ms);
        }
        if self.max_retries != 0 {
            policy = policy.with_max_retries(self.max_retries);
        }
        policy
    }

    /// Checks for features that this build of the library does not have.
    const fn is_unsupported(&self) -> bool {
        !cfg!(feature = "csr") && self.csr.len != 0 || !cfg!(feature = "lookup") && self.lookup != 0
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `config` to an `azure_dps_config`. What the configuration
/// points to stays where it is, unchanged, until `azure_dps_deinit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_init_abi(
    dps: *mut azure_dps_client,
    config: *const azure_dps_config,
    abi: u32,
    sizes: u32,
) -> azure_dps_result {
    const SIZES: u32 = (size_of::<azure_dps_client>() << 16
        | size_of::<azure_dps_config>() << 8
        | size_of::<azure_dps_error>()) as u32;
    const { assert!(size_of::<azure_dps_config>() < 256 && size_of::<azure_dps_error>() < 256) };
    if abi != AZURE_DPS_ABI || sizes != SIZES {
        return AZURE_DPS_ERR_ABI;
    }
    // SAFETY: the caller's promise.
    outcome(|| unsafe { init(dps, config) })
}

const AZURE_DPS_ABI: u32 = 1;

/// # Safety
/// As for [`azure_dps_init_abi`].
unsafe fn init(dps: *mut azure_dps_client, config: *const azure_dps_config) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (client, config) = unsafe { (place::<Client>(dps)?, structure(config)?) };
    // SAFETY: the caller's promise.
    let (registration, attestation, api_version) =
        unsafe { (registration(config)?, attestation(config)?, config.api_version.read()?) };
    let first_key = key_choice(config.first_key.into())?;
    let error = match (registration, attestation) {
        (Ok(registration), Ok(attestation)) if !config.is_unsupported() => {
            // SAFETY: `place` has checked the memory. Each member is written on its own, because a whole `Client` would
            // first be built on the stack.
            unsafe {
                (&raw mut (*client).clock).write(Clock::starting_at(0));
                (&raw mut (*client).phase).write(Phase::NotStarted);
                (&raw mut (*client).io_error).write(0);
                (&raw mut (*client).reader).write(ResponseReader::new());
                #[cfg(feature = "lookup")]
                if config.lookup != 0 {
                    (&raw mut (*client).provisioning).write(Provisioning::lookup(registration, attestation));
                } else {
                    (&raw mut (*client).provisioning).write(Provisioning::new(registration, attestation));
                }
                #[cfg(not(feature = "lookup"))]
                (&raw mut (*client).provisioning).write(Provisioning::new(registration, attestation));

                let provisioning = &mut (*client).provisioning;
                provisioning.set_retry_policy(config.retry_policy());
                provisioning.set_first_key(first_key);
                if config.token_lifetime_s != 0 {
                    provisioning.set_token_lifetime(config.token_lifetime_s);
                }
                if config.max_body != 0 {
                    provisioning.set_max_body(config.max_body as usize);
                }
                if !api_version.is_empty() {
                    provisioning.set_api_version(api_version);
                }
                // The compiler refuses a member that was forgotten.
                let Client { clock: _, phase: _, io_error: _, reader: _, provisioning: _ } = &*client;
                mark::<Client>(dps);
            }
            return Ok(());
        }
        (Err(error), _) | (_, Err(error)) => error,
        _ => Error::Unsupported,
    };
    // SAFETY: the caller's promise.
    unsafe {
        place::<NoClient>(dps)?.write(NoClient(error));
        mark::<NoClient>(dps);
    }
    Err(error.into())
}

pub(crate) fn key_choice(key: i32) -> Result<KeyChoice, Failure> {
    match key {
        0 => Ok(KeyChoice::Primary),
        1 => Ok(KeyChoice::Secondary),
        _ => Err(Failure::ARGUMENT),
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`. The text stays where it is until `azure_dps_deinit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_set_endpoint(
    dps: *mut azure_dps_client,
    endpoint: azure_dps_str,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.provisioning.set_endpoint(Endpoint::parse(endpoint.read()?)?);
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `len` and `port` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_write_host(
    dps: *const azure_dps_client,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
    port: *mut u16,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let endpoint = get::<Client>(dps)?.provisioning.endpoint();
        let mut out = Out::text(buffer, size, len)?;
        let written = copy(endpoint.host().as_bytes(), out.room());
        out.finish(Ok(written))?;
        if endpoint.port() != 443 {
            put_if_wanted(port, endpoint.port());
        }
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_deinit(dps: *mut azure_dps_client) {
    // SAFETY: the caller's promise. The state machine wipes its signature when it is dropped.
    unsafe {
        release::<Client>(dps);
        release::<NoClient>(dps);
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_start(dps: *mut azure_dps_client, now_ms: u32, unix_time: u64) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        get_mut::<Client>(dps)?.start(now_ms, unix_time);
        Ok(())
    })
}

impl Client {
    pub(crate) fn start(&mut self, now_ms: u32, unix_time: u64) {
        // A run does not use times of the last run, so its clock may start with this reading.
        self.clock = Clock::starting_at(now_ms);
        self.phase = Phase::Started;
        self.io_error = 0;
        self.provisioning.start(self.clock.time(), unix_time);
    }
}

const AZURE_DPS_SIGN: i32 = 1;
const AZURE_DPS_ACTIVATE: i32 = 2;
const AZURE_DPS_SEND: i32 = 3;
const AZURE_DPS_WAIT: i32 = 4;
const AZURE_DPS_FINISHED: i32 = 5;

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`; `wait_ms` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_step(dps: *mut azure_dps_client, now_ms: u32, wait_ms: *mut u32) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.check_started()?;
        let now = client.clock.read(now_ms);
        client.phase = Phase::Started;
        let mut wait = 0;
        let step = match client.provisioning.step(now) {
            Step::Sign => {
                client.phase = Phase::Signing;
                AZURE_DPS_SIGN
            }
            Step::Activate => {
                #[cfg(feature = "tpm")]
                {
                    client.phase = Phase::Activating;
                }
                AZURE_DPS_ACTIVATE
            }
            Step::Send => AZURE_DPS_SEND,
            Step::Wait(duration) => {
                wait = millis(duration);
                AZURE_DPS_WAIT
            }
            Step::Finished => AZURE_DPS_FINISHED,
        };
        put_if_wanted(wait_ms, wait);
        Ok(step)
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `signer` to an `azure_dps_signer`, `buffer` to `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_sign(
    dps: *mut azure_dps_client,
    signer: *const azure_dps_signer,
    buffer: *mut c_void,
    size: usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise. While the callback runs, the client is refused to everybody else.
    outcome(|| unsafe {
        let client = &mut *enter::<Client>(dps)?;
        if signer.is_null() {
            return Err(Failure::ARGUMENT);
        }
        let mut signer = Signer::new(signer)?;
        client.provisioning.sign_with(&mut signer, self::buffer(buffer, size)?).map_err(|error| {
            client.io_error = signer.io_error;
            client.refuse(error)
        })
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_write_message(
    dps: *const azure_dps_client,
    buffer: *mut c_void,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get::<Client>(dps)?;
        client.check_phase(Phase::Signing)?;
        let mut out = Out::bytes(buffer, size, len)?;
        let written = client.provisioning.write_message(out.room()).map(<[u8]>::len);
        out.finish(written.map_err(Error::from))
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `signature` to 32 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_on_signature(dps: *mut azure_dps_client, signature: *const u8) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.check_phase(Phase::Signing)?;
        client.provisioning.on_signature(structure(signature.cast::<[u8; SIGNATURE_LEN]>())?);
        client.phase = Phase::Started;
        Ok(())
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_get_key(dps: *const azure_dps_client) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        Ok(match get::<Client>(dps)?.provisioning.key() {
            KeyChoice::Primary => 0,
            KeyChoice::Secondary => 1,
        })
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_request_time_left(dps: *mut azure_dps_client, now_ms: u32) -> u32 {
    // SAFETY: the caller's promise.
    match unsafe { get_mut::<Client>(dps) } {
        Ok(client) => {
            let now = client.clock.read(now_ms);
            // Limited, because a negative `int` means "no time-out" in many network stacks.
            millis(client.provisioning.request_time_left(now)).min(i32::MAX as u32)
        }
        Err(_) => 0,
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_on_connected(dps: *mut azure_dps_client) {
    // SAFETY: the caller's promise.
    if let Ok(client) = unsafe { get_mut::<Client>(dps) } {
        client.provisioning.on_connected();
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_on_error(
    dps: *mut azure_dps_client,
    now_ms: u32,
    error: azure_dps_result,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        client.check_started()?;
        let error = match error {
            AZURE_DPS_ERR_CONNECT => TransportError::Connect.into(),
            AZURE_DPS_ERR_CLOSED => TransportError::Closed.into(),
            AZURE_DPS_ERR_STALLED => TransportError::Stalled.into(),
            AZURE_DPS_ERR_STREAM => TransportError::Stream.into(),
            AZURE_DPS_ERR_UNTRUSTED => Error::Untrusted,
            AZURE_DPS_ERR_PROXY_REFUSED => Error::ProxyRefused,
            AZURE_DPS_ERR_SIGNER => signer::FAILED.into(),
            AZURE_DPS_ERR_TPM => signer::NOT_ACTIVATED.into(),
            _ => return Err(Failure::ARGUMENT),
        };
        client.clock.read(now_ms);
        client.on_error(error);
        Ok(())
    })
}

/// An event of a run. See the header.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "the header documents them")]
pub struct azure_dps_progress {
    pub what: i32,
    pub result: azure_dps_result,
    pub wait_ms: u32,
    pub failures: u32,
}

impl From<Progress> for azure_dps_progress {
    fn from(progress: Progress) -> Self {
        let only = |what| Self { what, ..Self::default() };
        match progress {
            Progress::Connected => only(1),
            Progress::Registering => only(2),
            Progress::LookingUp => only(3),
            Progress::Assigning => only(4),
            Progress::Assigned => only(5),
            Progress::Retrying { error, wait, failures } => {
                Self { what: 6, result: failure_of(&error).result(), wait_ms: millis(wait), failures: failures.into() }
            }
            Progress::Failed(error) => Self { result: failure_of(&error).result(), ..only(7) },
            _ => only(0),
        }
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `progress` to an `azure_dps_progress`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_get_progress(dps: *mut azure_dps_client, progress: *mut azure_dps_progress) -> i32 {
    // SAFETY: the caller's promise.
    answer(|| unsafe {
        let client = get_mut::<Client>(dps)?;
        if progress.is_null() {
            return Err(Failure::ARGUMENT);
        }
        match client.provisioning.progress() {
            Some(news) => put(progress, news.into()).map(|()| 1),
            None => Ok(0),
        }
    })
}
