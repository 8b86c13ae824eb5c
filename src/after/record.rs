// Inline, as in `hub.rs`.

use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Malformed, RecordError},
    identity::{KeyChoice, hub_name::is_device_id},
    provisioning::{Assignment, Document, Provisioning, RECORD_OVERHEAD, Registration, Status},
    text::{BufferTooSmall, writer::Writer},
    total::{first, move_within},
};

/// An assignment as it is stored from one boot to the next: the registration state exactly as
/// the service sent it, so that nothing of it is lost, and what proves it whole and this
/// device's own.
///
/// ```
/// # use azure_dps::*;
/// # use azure_dps::provisioning::*;
/// use azure_dps::{IdScope, Registration, RegistrationId};
/// use azure_dps::after::{Record, RecordError};
///
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// # let mut provisioning = Provisioning::new(registration, Attestation::x509());
/// # provisioning.start(core::time::Duration::ZERO, 0);
/// # let body = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net",
/// #     "deviceId":"dev-1","payload":{"darkness":"medium"}}}"#;
/// # let mut buffer = [0; 1024];
/// # buffer[..body.len()].copy_from_slice(body);
/// # provisioning.on_answer(core::time::Duration::ZERO, Answer::new(200, None, body));
/// // … a run whose answer is in `buffer`. The record takes the answer's place:
/// let record = provisioning.write_record(&mut buffer)?;
/// let mut flash = [0xff; 4096]; // a sector, erased
/// flash[..record.len()].copy_from_slice(record);
///
/// // At the next boot, and at all later ones:
/// let record = Record::read(&flash, &registration)?;
/// assert_eq!(record.assignment().hub().host(), "hub.azure-devices.net");
/// assert_eq!(record.assignment().payload().unwrap().raw(), r#"{"darkness":"medium"}"#);
///
/// // Power was lost while it was written:
/// flash[100..].fill(0xff);
/// assert!(matches!(Record::read(&flash, &registration), Err(RecordError::Torn { .. })));
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// # How to store it
///
/// - Write the whole record, from its first byte to its last, wherever there is room: a sector
///   of flash, a file. It may have anything behind it.
/// - Power may fail at any byte. What is left then is refused: the start of the new record before
///   the end of the old one, or before erased flash. A refused record costs one status look-up, or
///   one registration if a certificate may have been in it ([`Reprovisioning`](crate::after::Reprovisioning)).
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
/// [`OVERHEAD`](Self::OVERHEAD) bytes and the registration state. If the service wrote the device ID
/// with JSON escapes, the record has it without, and spaces in their place. Numbers are little-endian. Later
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
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
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
    pub const OVERHEAD: usize = RECORD_OVERHEAD;

    /// The length of what stands before the registration state, in bytes: see [`len`](Self::len).
    pub const HEADER_LEN: usize = HEADER_LEN;

    /// Returns the length of a record in bytes, from its header. `None` if this is not the header of a
    /// record.
    ///
    /// Read [`HEADER_LEN`](Self::HEADER_LEN) bytes of flash first, and then as much as this says, if
    /// your buffer has room. The header may be torn, so the length can be any number.
    ///
    /// ```
    /// use azure_dps::after::Record;
    ///
    /// let erased = [0xff; Record::HEADER_LEN];
    /// assert_eq!(Record::len(&erased), None);
    /// ```
    #[inline]
    pub fn len(header: &[u8; HEADER_LEN]) -> Option<usize> {
        match *header {
            [a, b, _, _, l0, l1, l2, l3, ..] if [a, b] == MAGIC => {
                Some((u32::from_le_bytes([l0, l1, l2, l3]) as usize).saturating_add(Self::OVERHEAD))
            }
            _ => None,
        }
    }

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
        let (spans, device_id) = document.assignment(registration.registration_id(), state)?;
        let device_id = device_id.as_str().filter(|id| is_device_id(id.as_bytes()));
        let device_id = device_id.ok_or(Malformed::Invalid("deviceId"))?;
        let assignment = spans.assignment(state, device_id).ok_or(Malformed::Missing("registrationState"))?;
        let key = if flags & SECONDARY_KEY == 0 { KeyChoice::Primary } else { KeyChoice::Secondary };
        Ok(Self { assignment, key })
    }

    /// Returns what the service answered when it assigned the device, borrowed from the bytes.
    pub const fn assignment(&self) -> Assignment<'b> {
        self.assignment
    }

    /// Returns which of the device's two symmetric keys the service accepted then.
    pub const fn key(&self) -> KeyChoice {
        self.key
    }
}

impl Assignment<'_> {
    /// Writes the [`Record`] of this assignment into `buffer`, for `registration`, with which
    /// it was had, and with the key that the service accepted
    /// ([`Provisioning::key`](crate::Provisioning::key)).
    ///
    /// The buffer must hold [`Record::OVERHEAD`] bytes and the registration state, which is shorter
    /// than the answer: [`Sizes::record`](crate::provisioning::Sizes::record) is sufficient.
    /// [`Provisioning::write_record`](crate::Provisioning::write_record) needs no second buffer.
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
        let needed = Record::OVERHEAD.saturating_add(state.len());
        let header = Header::of(self, key);
        let mut writer = Writer::new(buffer);
        writer.bytes(&[0; HEADER_LEN]);
        writer.str(state);
        writer.bytes(&[0; DIGEST_LEN]);
        let record = writer.finish().map_err(|_| BufferTooSmall { needed, exact: true })?;
        header.seal(self.device_id(), registration, record);
        Ok(record)
    }
}

impl Provisioning<'_> {
    /// Makes the [`Record`] of the assignment, in the buffer that holds the last answer's body at its
    /// start. The record takes the answer's place: read it with [`Record::read`], which has the
    /// assignment.
    ///
    /// # Errors
    /// What [`result`](Self::result) returns if there is no assignment; [`Error::BufferTooSmall`] with
    /// the exact size.
    #[inline]
    pub fn write_record<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Error> {
        let assignment = self.result(buffer)?;
        let header = Header::of(&assignment, self.key());
        let state = assignment.registration_state().raw();
        let start = (state.as_ptr() as usize).wrapping_sub(buffer.as_ptr() as usize);
        let end = start.wrapping_add(state.len());
        let needed = Record::OVERHEAD.saturating_add(state.len());
        if needed > buffer.len() {
            return Err(BufferTooSmall { needed, exact: true }.into());
        }
        move_within(buffer, start..end, HEADER_LEN);
        let record = buffer.get_mut(..needed).unwrap_or_default();
        header.seal(self.assigned_device_id(), self.registration(), record);
        Ok(record)
    }
}

/// What a record says beside the registration state.
struct Header {
    flags: u8,
    /// Where in the state the device ID stands, with its quotes, if it has escapes.
    escaped_id: Option<(usize, usize)>,
}

impl Header {
    #[inline]
    fn of(assignment: &Assignment<'_>, key: KeyChoice) -> Self {
        let key = if key == KeyChoice::Secondary { SECONDARY_KEY } else { 0 };
        let state = assignment.registration_state().raw();
        let id = assignment.field("deviceId").map(|value| value.bytes()).unwrap_or_default();
        let start = (id.as_ptr() as usize).wrapping_sub(state.as_ptr() as usize);
        let is_escaped = id.len() != assignment.device_id().len() + 2;
        Self {
            flags: key | if assignment.has_certificate() { 0 } else { NO_CERTIFICATE },
            escaped_id: is_escaped.then_some((start, id.len())),
        }
    }

    /// Writes what is around the state, which is in its place.
    #[inline]
    fn seal(self, device_id: &str, registration: &Registration<'_>, record: &mut [u8]) {
        let state_len = record.len().saturating_sub(Record::OVERHEAD);
        if let Some((start, len)) = self.escaped_id {
            let start = HEADER_LEN.saturating_add(start);
            let place = record.get_mut(start..start.saturating_add(len)).unwrap_or_default();
            place.fill(b' ');
            let mut writer = Writer::new(place);
            writer.byte(b'"');
            writer.str(device_id);
            writer.byte(b'"');
        }
        let mut writer = Writer::new(record);
        writer.bytes(&MAGIC);
        writer.bytes(&[VERSION, self.flags]);
        writer.bytes(&(state_len as u32).to_le_bytes());
        writer.bytes(first::<OWNER_LEN>(&owner(registration)));
        let content = HEADER_LEN.saturating_add(state_len);
        let digest = Sha256::digest(record.get(..content).unwrap_or_default());
        let mut writer = Writer::new(record.get_mut(content..).unwrap_or_default());
        writer.bytes(first::<DIGEST_LEN>(&digest));
    }
}

/// Returns `true` unless it is certain that the record held no certificate.
#[inline]
pub(super) fn may_have_certificate(error: &RecordError) -> bool {
    match error {
        RecordError::Torn { flags } | RecordError::Layout { flags, .. } => flags & !SECONDARY_KEY != NO_CERTIFICATE,
        // Nothing of this device's.
        RecordError::Absent | RecordError::Foreign => false,
        RecordError::Impossible(_) => true,
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
