// Inline, all of it: what is compiled with the crate has a say in what the optimiser makes of the
// rest, also in programs that never call it.

use core::fmt;

use sha2::{Digest, Sha256};

use crate::{
    Assignment, BufferTooSmall, KeyChoice, Malformed, Registration,
    response::{Document, Status},
    writer::Writer,
};

/// An assignment as it is stored from one boot to the next: the registration state exactly as
/// the service sent it, so that nothing of it is lost, and what proves it whole and this
/// device's own.
///
/// ```
/// # use azure_dps::*;
/// # fn assigned<'b>(registration: Registration<'_>, body: &'b [u8]) -> Result<Assignment<'b>, Error> {
/// #     let mut provisioning = Provisioning::new(registration, Credential::x509());
/// #     provisioning.start(core::time::Duration::ZERO, 0);
/// #     provisioning.on_answer(core::time::Duration::ZERO, Answer::new(200, None, body));
/// #     provisioning.result(body)
/// # }
/// use azure_dps::{IdScope, KeyChoice, Record, RecordError, Registration, RegistrationId};
///
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// # let body = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net",
/// #     "deviceId":"dev-1","payload":{"darkness":"medium"}}}"#;
/// let assignment = assigned(registration, body)?; // a run's result
/// let mut flash = [0xff; 4096]; // a sector, erased
/// assignment.write_record(&registration, KeyChoice::Primary, &mut flash)?;
///
/// // At the next boot, and at all later ones:
/// let record = Record::read(&flash, &registration)?;
/// assert_eq!(record.assignment().hub().host(), "hub.azure-devices.net");
/// assert_eq!(record.assignment().payload().unwrap().raw(), r#"{"darkness":"medium"}"#);
///
/// // Power was lost while it was written:
/// flash[100..].fill(0xff);
/// assert!(matches!(Record::read(&flash, &registration), Err(RecordError::Torn { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How to store it
///
/// - Write the whole record, from its first byte to its last, wherever there is room: a sector
///   of flash, a file. It may have anything behind it.
/// - Power may fail at any byte. What is left then is refused: the start of the new record before
///   the end of the old one, or before erased flash. A refused record costs one status look-up, or
///   one registration if a certificate may have been in it ([`Reprovisioning`](crate::Reprovisioning)).
///   Two places avoid that cost: write them one after the other, and read the first that is not
///   refused. If it is the older one, its hub says so.
/// - The record is neither encrypted nor signed: whoever can write it can send the device to
///   a hub of theirs, which has a certificate like any other. Nothing but the storage stands
///   against that. What is secret in
///   it is what the service sent: the returned payload may be, if the operator's webhook puts
///   secrets there. The device's key and tokens are not in it.
///
/// # Layout
///
/// [`OVERHEAD`](Self::OVERHEAD) bytes and the registration state. Numbers are little-endian. Later
/// versions keep the places of length and digest, and the flags.
///
/// | bytes | |
/// |---|---|
/// | 2 | `Dp` |
/// | 1 | the version of the layout: 1 |
/// | 1 | flags; bit 0: the service accepted the secondary key; bits 1 and 2, both: no certificate was issued. All others are 0. |
/// | 4 | the length of the registration state |
/// | 8 | the owner: the first bytes of SHA-256(ID scope, a byte of 0, registration ID) |
/// | … | the registration state: JSON |
/// | 16 | the first bytes of SHA-256(all of the above) |
///
/// Source: [cache the hub, do not register each boot](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale#reconnect-vs-reprovision-a-device).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'b> {
    assignment: Assignment<'b>,
    key: KeyChoice,
}

const MAGIC: [u8; 2] = *b"Dp";
const VERSION: u8 = 1;
const SECONDARY_KEY: u8 = 1;
/// Two bits: neither erased flash, nor zeros, nor the loss of one bit makes a record with a
/// certificate into one without.
const NO_CERTIFICATE: u8 = 6;
const OWNER_LEN: usize = 8;
const DIGEST_LEN: usize = 16;
/// What stands before the registration state.
const HEADER_LEN: usize = 8 + OWNER_LEN;

impl<'b> Record<'b> {
    /// How much longer a record is than [`Assignment::registration_state`], in bytes.
    pub const OVERHEAD: usize = HEADER_LEN + DIGEST_LEN;

    /// Reads the record at the start of `bytes`, which may go on behind it, and checks what it
    /// says as a fresh answer is checked.
    ///
    /// # Errors
    /// [`RecordError`] says what stands there instead.
    #[inline]
    pub fn read(bytes: &'b [u8], registration: &Registration<'_>) -> Result<Self, RecordError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(RecordError::Absent);
        }
        let Some((&[_, _, version, flags, len @ ..], _)) = bytes.split_first_chunk::<8>() else {
            return Err(RecordError::Torn { flags: 0 });
        };
        let torn = RecordError::Torn { flags };
        let len = u32::from_le_bytes(len) as usize;
        let (content, digest) = bytes.split_at_checked(HEADER_LEN.saturating_add(len)).ok_or(torn)?;
        if !digest.starts_with(first::<DIGEST_LEN>(&Sha256::digest(content))) {
            return Err(torn);
        }
        // Not before: it may be erased flash.
        if version != VERSION || flags & !(SECONDARY_KEY | NO_CERTIFICATE) != 0 {
            return Err(RecordError::Layout { version, flags });
        }
        let (header, state) = content.split_at_checked(HEADER_LEN).unwrap_or_default();
        if !header.ends_with(first::<OWNER_LEN>(&owner(registration))) {
            return Err(RecordError::Foreign);
        }
        let mut document = Document::EMPTY;
        document.read_state(state)?;
        // Where the state itself names none, its answer did.
        if !matches!(document.state_status(), Ok(Status::Assigned) | Err(_)) {
            return Err(Malformed::Contradiction("registrationState.status").into());
        }
        let spans = document.assignment(registration.registration_id(), state)?;
        let assignment = spans.assignment(state).ok_or(Malformed::Missing("registrationState"))?;
        let key = if flags & SECONDARY_KEY == 0 { KeyChoice::Primary } else { KeyChoice::Secondary };
        Ok(Self { assignment, key })
    }

    /// What the service answered when it assigned the device, borrowed from the bytes.
    pub const fn assignment(&self) -> Assignment<'b> {
        self.assignment
    }

    /// Which of the device's two symmetric keys the service accepted then.
    pub const fn key(&self) -> KeyChoice {
        self.key
    }
}

impl Assignment<'_> {
    /// Writes the [`Record`] of this assignment into `buffer`, for `registration`, with which
    /// it was had, and with the key that the service accepted; for a credential that is no
    /// symmetric key, [`KeyChoice::Primary`].
    ///
    /// The buffer must hold [`Record::OVERHEAD`] bytes and the registration state, which is shorter
    /// than the answer: [`Sizes::record`](crate::Sizes::record) is sufficient.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    #[inline]
    pub fn write_record<'r>(
        &self,
        registration: &Registration<'_>,
        key: KeyChoice,
        buffer: &'r mut [u8],
    ) -> Result<&'r [u8], BufferTooSmall> {
        let state = self.registration_state().raw();
        let mut writer = Writer::new(buffer);
        writer.bytes(&MAGIC);
        writer.byte(VERSION);
        let key = if key == KeyChoice::Secondary { SECONDARY_KEY } else { 0 };
        writer.byte(key | if self.has_certificate() { 0 } else { NO_CERTIFICATE });
        writer.bytes(&(state.len() as u32).to_le_bytes());
        writer.bytes(first::<OWNER_LEN>(&owner(registration)));
        writer.str(state);
        // Of a buffer that is too small only the size is wanted.
        let digest = Sha256::digest(writer.since(0).unwrap_or_default());
        writer.bytes(first::<DIGEST_LEN>(&digest));
        writer.finish().map(|record| &*record)
    }
}

/// Whose record it is. Neither of the two identifiers has a byte of 0.
#[inline]
fn owner(registration: &Registration<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(registration.id_scope().as_str());
    hash.update([0]);
    hash.update(registration.registration_id().as_str());
    hash.finalize().into()
}

#[inline]
fn first<const N: usize>(digest: &[u8]) -> &[u8] {
    digest.get(..N).unwrap_or_default()
}

/// Why bytes are no record of this device. None of these is a fault: the device asks the
/// service where it belongs, as [`Reprovisioning`](crate::Reprovisioning) decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// There is none: erased flash, an empty file, or something else altogether.
    Absent,
    /// It was not written to its end, has changed since, or is longer than the bytes that were
    /// given.
    Torn {
        /// The flags, if they were written; else whatever stands in their place.
        flags: u8,
    },
    /// It is whole, and of another version of the layout, or with flags that this one has not:
    /// by an older or a newer firmware.
    Layout {
        /// The version.
        version: u8,
        /// The flags.
        flags: u8,
    },
    /// It is whole, and for another registration ID or ID scope: it was copied from another
    /// device, or the device was given another identity.
    Foreign,
    /// It is whole and this device's own, and says what no answer of the service can say.
    Impossible(Malformed),
}

impl RecordError {
    /// Returns `true` unless it is certain that the record held no certificate.
    #[inline]
    pub(crate) fn may_have_certificate(&self) -> bool {
        match self {
            RecordError::Torn { flags } | RecordError::Layout { flags, .. } => flags & !SECONDARY_KEY != NO_CERTIFICATE,
            // Nothing of this device's.
            RecordError::Absent | RecordError::Foreign => false,
            RecordError::Impossible(_) => true,
        }
    }
}

impl From<Malformed> for RecordError {
    fn from(malformed: Malformed) -> Self {
        RecordError::Impossible(malformed)
    }
}

impl core::error::Error for RecordError {}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Absent => f.write_str("there is no record of an assignment"),
            RecordError::Layout { version, flags } => {
                write!(f, "the record has layout {version} and flags {flags:#04x}, which this version cannot read")
            }
            RecordError::Torn { .. } => f.write_str("the record was not written to its end, or has changed since"),
            RecordError::Foreign => f.write_str("the record is for another registration ID or ID scope"),
            RecordError::Impossible(malformed) => write!(f, "the record is whole, but {malformed}"),
        }
    }
}
