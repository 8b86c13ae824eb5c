//! Converts errors for C: one code for each variant of [`Error`], and the details.

use core::{
    ffi::c_char,
    fmt::{self, Write},
};

use azure_dps::{
    Error,
    error::{Fault, Malformed, RecordError, TransportError},
    identity::{Identifier, InvalidKey},
};

use crate::{
    border::{Failure, Out, get, outcome, put},
    client::{Client, NoClient, azure_dps_client},
};

/// `AZURE_DPS_OK`, or one of `AZURE_DPS_ERR_*`. See the header.
pub type azure_dps_result = i32;

macro_rules! results {
    ($($name:ident = $value:literal;)*) => {
        $(pub(crate) const $name: azure_dps_result = $value;)*

        const RESULTS: &[azure_dps_result] = &[$($value),*];
        $(const _: () = assert!(i8::MIN as azure_dps_result <= $value && $value <= 0);)*
        /// All names in one text. GNU ld would keep either all or none of several zero-terminated texts.
        const NAMES: &str = concat!($(stringify!($name), "\0",)* "?\0");
    };
}

// As in the header.
results! {
    AZURE_DPS_OK = 0;
    AZURE_DPS_ERR_ARGUMENT = -1;
    AZURE_DPS_ERR_HANDLE = -2;
    AZURE_DPS_ERR_ABI = -3;
    AZURE_DPS_ERR_NOT_STARTED = -4;
    AZURE_DPS_ERR_NOT_DUE = -5;
    AZURE_DPS_ERR_NOT_FINISHED = -6;
    AZURE_DPS_ERR_WRONG_BUFFER = -7;
    AZURE_DPS_ERR_BUFFER_TOO_SMALL = -8;
    AZURE_DPS_ERR_UNSUPPORTED = -9;
    AZURE_DPS_ERR_INVALID_ID_SCOPE = -10;
    AZURE_DPS_ERR_INVALID_REGISTRATION_ID = -11;
    AZURE_DPS_ERR_INVALID_KEY = -12;
    AZURE_DPS_ERR_INVALID_PAYLOAD = -13;
    AZURE_DPS_ERR_INVALID_ENDPOINT = -14;
    AZURE_DPS_ERR_INVALID_CSR = -15;
    AZURE_DPS_ERR_INVALID_HUB = -16;
    AZURE_DPS_ERR_REQUEST_TOO_LARGE = -17;
    AZURE_DPS_ERR_SIGNER = -18;
    AZURE_DPS_ERR_TPM = -19;
    AZURE_DPS_ERR_RECORD_ABSENT = -20;
    AZURE_DPS_ERR_RECORD_TORN = -21;
    AZURE_DPS_ERR_RECORD_LAYOUT = -22;
    AZURE_DPS_ERR_RECORD_FOREIGN = -23;
    AZURE_DPS_ERR_RECORD_IMPOSSIBLE = -24;
    AZURE_DPS_ERR_NOT_FOUND = -25;
    AZURE_DPS_ERR_REFUSED = -30;
    AZURE_DPS_ERR_FAILED = -31;
    AZURE_DPS_ERR_DISABLED = -32;
    AZURE_DPS_ERR_UNASSIGNED = -33;
    AZURE_DPS_ERR_STILL_ASSIGNING = -34;
    AZURE_DPS_ERR_OPERATION_LOST = -35;
    AZURE_DPS_ERR_TIMED_OUT = -36;
    AZURE_DPS_ERR_MALFORMED = -37;
    AZURE_DPS_ERR_UNTRUSTED = -40;
    AZURE_DPS_ERR_PROXY_REFUSED = -41;
    AZURE_DPS_ERR_CONNECT = -42;
    AZURE_DPS_ERR_CLOSED = -43;
    AZURE_DPS_ERR_STALLED = -44;
    AZURE_DPS_ERR_STREAM = -45;
    AZURE_DPS_ERR_OTHER = -99;
}

/// The code of an error.
#[inline(never)]
pub(crate) fn failure_of(error: &Error) -> Failure {
    Failure::of(match error {
        Error::InvalidIdentifier(error) => match error.identifier {
            Identifier::IdScope => AZURE_DPS_ERR_INVALID_ID_SCOPE,
            Identifier::RegistrationId => AZURE_DPS_ERR_INVALID_REGISTRATION_ID,
            _ => AZURE_DPS_ERR_OTHER,
        },
        Error::Record(error) => match error {
            RecordError::Absent => AZURE_DPS_ERR_RECORD_ABSENT,
            RecordError::Torn { .. } => AZURE_DPS_ERR_RECORD_TORN,
            RecordError::Layout { .. } => AZURE_DPS_ERR_RECORD_LAYOUT,
            RecordError::Foreign => AZURE_DPS_ERR_RECORD_FOREIGN,
            RecordError::Impossible(_) => AZURE_DPS_ERR_RECORD_IMPOSSIBLE,
            _ => AZURE_DPS_ERR_OTHER,
        },
        Error::Transport(error) => match error {
            TransportError::Connect => AZURE_DPS_ERR_CONNECT,
            TransportError::Closed => AZURE_DPS_ERR_CLOSED,
            TransportError::Stalled => AZURE_DPS_ERR_STALLED,
            TransportError::Stream => AZURE_DPS_ERR_STREAM,
            _ => AZURE_DPS_ERR_OTHER,
        },
        error => result_of_variant(error).into(),
    })
}

/// Returns the code of an error whose variant alone decides it. Codes are bytes here, so that the compiler makes a
/// small table.
#[inline(never)]
const fn result_of_variant(error: &Error) -> i8 {
    /// Every code fits: `results!` checks it.
    const fn byte(result: azure_dps_result) -> i8 {
        result as i8
    }
    match error {
        Error::InvalidKey(_) => byte(AZURE_DPS_ERR_INVALID_KEY),
        Error::InvalidPayload(_) => byte(AZURE_DPS_ERR_INVALID_PAYLOAD),
        Error::InvalidEndpoint => byte(AZURE_DPS_ERR_INVALID_ENDPOINT),
        Error::NotStarted => byte(AZURE_DPS_ERR_NOT_STARTED),
        Error::NotFinished => byte(AZURE_DPS_ERR_NOT_FINISHED),
        Error::NotDue => byte(AZURE_DPS_ERR_NOT_DUE),
        Error::WrongBuffer => byte(AZURE_DPS_ERR_WRONG_BUFFER),
        Error::Signer(_) => byte(AZURE_DPS_ERR_SIGNER),
        Error::InvalidHub(_) => byte(AZURE_DPS_ERR_INVALID_HUB),
        Error::Tpm(_) => byte(AZURE_DPS_ERR_TPM),
        Error::InvalidCsr => byte(AZURE_DPS_ERR_INVALID_CSR),
        Error::Unsupported => byte(AZURE_DPS_ERR_UNSUPPORTED),
        Error::BufferTooSmall(_) => byte(AZURE_DPS_ERR_BUFFER_TOO_SMALL),
        Error::RequestTooLarge(_) => byte(AZURE_DPS_ERR_REQUEST_TOO_LARGE),
        Error::Refused(_) => byte(AZURE_DPS_ERR_REFUSED),
        Error::Failed(_) => byte(AZURE_DPS_ERR_FAILED),
        Error::Disabled => byte(AZURE_DPS_ERR_DISABLED),
        Error::Unassigned => byte(AZURE_DPS_ERR_UNASSIGNED),
        Error::Malformed(_) => byte(AZURE_DPS_ERR_MALFORMED),
        Error::StillAssigning => byte(AZURE_DPS_ERR_STILL_ASSIGNING),
        Error::TimedOut => byte(AZURE_DPS_ERR_TIMED_OUT),
        Error::OperationLost(_) => byte(AZURE_DPS_ERR_OPERATION_LOST),
        Error::Untrusted => byte(AZURE_DPS_ERR_UNTRUSTED),
        Error::ProxyRefused => byte(AZURE_DPS_ERR_PROXY_REFUSED),
        // `Error::Payload` occurs only with serde, which C does not use.
        _ => byte(AZURE_DPS_ERR_OTHER),
    }
}

/// The error of a run. See the header.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the header documents them")]
pub struct azure_dps_error {
    pub result: azure_dps_result,
    pub code: u32,
    pub needed: u32,
    pub position: u32,
    pub io_error: i32,
    pub http_status: u16,
    pub fault: u8,
    pub retryable: u8,
    pub tracking_id: [c_char; 37],
}

impl azure_dps_error {
    const NONE: Self = Self {
        result: AZURE_DPS_OK,
        code: 0,
        needed: 0,
        position: 0,
        io_error: 0,
        http_status: 0,
        fault: 0,
        retryable: 0,
        tracking_id: [0; 37],
    };

    /// Fills in the details of an error.
    fn fill(&mut self, error: &Error, io_error: i32) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.result = failure_of(error).result();
        self.fault = match error.fault() {
            Fault::Caller => 1,
            Fault::Credential => 2,
            Fault::Refused => 3,
            Fault::Busy => 4,
            Fault::Peer => 5,
            Fault::Transport => 6,
            _ => 0,
        };
        self.retryable = error.is_retryable().into();
        match error {
            Error::Refused(refusal) | Error::Failed(refusal) | Error::OperationLost(refusal) => {
                self.http_status = refusal.http_status;
                self.code = refusal.code.map_or(0, |code| code.value());
                if let Some(tracking_id) = refusal.tracking_id {
                    for (slot, character) in self.tracking_id.iter_mut().zip(tracking_id.to_ascii()) {
                        *slot = character as c_char;
                    }
                }
            }
            Error::BufferTooSmall(error) => self.needed = number(error.needed),
            Error::RequestTooLarge(error) => self.needed = number(error.size),
            Error::InvalidIdentifier(error) => self.position = number(error.position),
            Error::InvalidKey(InvalidKey::NotBase64 { position }) => self.position = number(*position),
            Error::InvalidPayload(error) | Error::Malformed(Malformed::Json(error)) => {
                self.position = number(error.position);
            }
            Error::Signer(_) | Error::Tpm(_) | Error::Untrusted | Error::ProxyRefused | Error::Transport(_) => {
                self.io_error = io_error;
            }
            _ => {}
        }
    }
}

/// Returns the error of a run or of `azure_dps_init`, and the number that a failed callback returned.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`.
unsafe fn error_of(dps: *const azure_dps_client) -> Result<Option<(Error, i32)>, Failure> {
    // SAFETY: the caller's promise.
    let client = match unsafe { get::<Client>(dps) } {
        Ok(client) => client,
        // SAFETY: the caller's promise.
        Err(_) => return unsafe { get::<NoClient>(dps) }.map(|no_client| Some((no_client.0, 0))),
    };
    Ok(match client.provisioning.result(&[]) {
        // The device is assigned: only the buffer is wrong.
        Ok(_) | Err(Error::WrongBuffer) => None,
        Err(error) => Some((error, client.io_error)),
    })
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `error` to an `azure_dps_error`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_get_error(
    dps: *const azure_dps_client,
    error: *mut azure_dps_error,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let mut described = azure_dps_error::NONE;
        match error_of(dps) {
            Ok(Some((error, io_error))) => described.fill(&error, io_error),
            Ok(None) => {}
            Err(failure) => {
                described.result = failure.result();
                described.fault = 1;
            }
        }
        put(error, described)?;
        match described.result {
            AZURE_DPS_OK => Ok(()),
            result => Err(Failure::of(result)),
        }
    })
}

/// Writes text into a buffer, and counts the bytes that do not fit.
struct Text<'b> {
    room: &'b mut [u8],
    len: usize,
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.room.get_mut(self.len..).unwrap_or_default();
        if let Some(place) = room.get_mut(..text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
        self.len = self.len.saturating_add(text.len());
        Ok(())
    }
}

/// See the header.
///
/// # Safety
/// `dps` is NULL or points to an `azure_dps_client`, `buffer` to `size` bytes; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_write_error(
    dps: *const azure_dps_client,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let error = error_of(dps)?;
        let mut out = Out::text(buffer, size, len)?;
        let mut text = Text { room: out.room(), len: 0 };
        if let Some((error, _)) = error {
            // Formatting cannot fail: neither the texts of the library nor this buffer return an error.
            let _ = write!(text, "{error}");
        }
        let written = text.len;
        out.finish(Ok(written))
    })
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn azure_dps_result_name(result: azure_dps_result) -> *const c_char {
    let mut names = NAMES.as_bytes();
    for known in RESULTS {
        if *known == result {
            break;
        }
        let end = names.iter().position(|&byte| byte == 0).unwrap_or_default();
        names = names.get(end + 1..).unwrap_or_default();
    }
    names.as_ptr().cast()
}
