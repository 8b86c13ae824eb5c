//! Codes of errors, one for each variant of [`Error`], and what else C learns of an error.

use azure_dps::{
    Error,
    error::{RecordError, TransportError},
    identity::Identifier,
};

/// `AZURE_DPS_OK`, or one of `AZURE_DPS_ERR_*`. See the header.
pub type azure_dps_result = i32;

macro_rules! results {
    ($($name:ident = $value:literal;)*) => {
        $(pub(crate) const $name: azure_dps_result = $value;)*
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
pub(crate) fn result_of(error: &Error) -> azure_dps_result {
    match error {
        Error::InvalidIdentifier(error) => match error.identifier {
            Identifier::IdScope => AZURE_DPS_ERR_INVALID_ID_SCOPE,
            Identifier::RegistrationId => AZURE_DPS_ERR_INVALID_REGISTRATION_ID,
            _ => AZURE_DPS_ERR_OTHER,
        },
        Error::InvalidKey(_) => AZURE_DPS_ERR_INVALID_KEY,
        Error::InvalidPayload(_) => AZURE_DPS_ERR_INVALID_PAYLOAD,
        Error::InvalidEndpoint => AZURE_DPS_ERR_INVALID_ENDPOINT,
        Error::NotStarted => AZURE_DPS_ERR_NOT_STARTED,
        Error::NotFinished => AZURE_DPS_ERR_NOT_FINISHED,
        Error::NotDue => AZURE_DPS_ERR_NOT_DUE,
        Error::WrongBuffer => AZURE_DPS_ERR_WRONG_BUFFER,
        Error::Signer(_) => AZURE_DPS_ERR_SIGNER,
        Error::InvalidHub(_) => AZURE_DPS_ERR_INVALID_HUB,
        Error::Record(error) => match error {
            RecordError::Absent => AZURE_DPS_ERR_RECORD_ABSENT,
            RecordError::Torn { .. } => AZURE_DPS_ERR_RECORD_TORN,
            RecordError::Layout { .. } => AZURE_DPS_ERR_RECORD_LAYOUT,
            RecordError::Foreign => AZURE_DPS_ERR_RECORD_FOREIGN,
            RecordError::Impossible(_) => AZURE_DPS_ERR_RECORD_IMPOSSIBLE,
            _ => AZURE_DPS_ERR_OTHER,
        },
        Error::Tpm(_) => AZURE_DPS_ERR_TPM,
        Error::InvalidCsr => AZURE_DPS_ERR_INVALID_CSR,
        Error::Unsupported => AZURE_DPS_ERR_UNSUPPORTED,
        Error::BufferTooSmall(_) => AZURE_DPS_ERR_BUFFER_TOO_SMALL,
        Error::RequestTooLarge(_) => AZURE_DPS_ERR_REQUEST_TOO_LARGE,
        Error::Refused(_) => AZURE_DPS_ERR_REFUSED,
        Error::Failed(_) => AZURE_DPS_ERR_FAILED,
        Error::Disabled => AZURE_DPS_ERR_DISABLED,
        Error::Unassigned => AZURE_DPS_ERR_UNASSIGNED,
        Error::Malformed(_) => AZURE_DPS_ERR_MALFORMED,
        Error::StillAssigning => AZURE_DPS_ERR_STILL_ASSIGNING,
        Error::TimedOut => AZURE_DPS_ERR_TIMED_OUT,
        Error::OperationLost(_) => AZURE_DPS_ERR_OPERATION_LOST,
        Error::Untrusted => AZURE_DPS_ERR_UNTRUSTED,
        Error::ProxyRefused => AZURE_DPS_ERR_PROXY_REFUSED,
        Error::Transport(error) => match error {
            TransportError::Connect => AZURE_DPS_ERR_CONNECT,
            TransportError::Closed => AZURE_DPS_ERR_CLOSED,
            TransportError::Stalled => AZURE_DPS_ERR_STALLED,
            TransportError::Stream => AZURE_DPS_ERR_STREAM,
            _ => AZURE_DPS_ERR_OTHER,
        },
        // `Error::Payload` needs types of serde, which C has not.
        _ => AZURE_DPS_ERR_OTHER,
    }
}
