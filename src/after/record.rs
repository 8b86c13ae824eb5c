// All functions here are inline: see `hub.rs`.

use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Malformed, RecordError},
    identity::{KeyChoice, hub_name::is_device_id},
    provisioning::{Assignment, Document, Provisioning, RECORD_OVERHEAD, Registration, Status},
    text::{BufferTooSmall, writer::Writer},
    total::{first, move_within},
};

/// An assignment in storage, such as flash or a file.
///
/// A record contains the registration state exactly as the service sent it, and a header and a digest.
/// [`read`](Self::read) detects a record that is incomplete, changed or from another device.
///
/// ```
/// use azure_dps::after::{Record, RecordError};
/// use azure_dps::provisioning::Answer;
/// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
/// use core::time::Duration;
///
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::x509());
/// // A transport does this. The body of the answer is in `buffer`:
/// let body = br#"{"status":"assigned","registrationState":{"assignedHub":"hub.azure-devices.net",
///     "deviceId":"dev-1","payload":{"darkness":"medium"}}}"#;
/// let mut buffer = [0; 1024];
/// buffer[..body.len()].copy_from_slice(body);
/// provisioning.start(Duration::ZERO, 0);
/// provisioning.on_answer(Duration::ZERO, Answer::new(200, None, body));
///
/// // After the run, the record replaces the answer in `buffer`:
/// let record = provisioning.write_record(&mut buffer)?;
/// let mut flash = [0xff; 4096]; // an erased sector
/// flash[..record.len()].copy_from_slice(record);
///
/// // At each later boot:
/// let record = Record::read(&flash, &registration)?;
/// assert_eq!(record.assignment().hub().host(), "hub.azure-devices.net");
/// assert_eq!(record.assignment().payload().unwrap().raw(), r#"{"darkness":"medium"}"#);
///
/// // If power was lost during the write:
/// flash[100..].fill(0xff);
/// assert!(matches!(Record::read(&flash, &registration), Err(RecordError::Torn { .. })));
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// # How to store a record
///
/// - Write all bytes of the record in order, to a sector of flash or to a file. Any bytes may follow it.
/// - Power may fail at any byte. [`read`](Self::read) detects this: the new record may end in the old one, or
///   in erased flash. Then the device needs one status look-up, or one registration if the record may have had
///   a certificate (see [`Reprovisioning`](crate::after::Reprovisioning)).
/// - Two copies avoid this request. Write one after the other, and read the first valid copy. If it is the
///   older one, its hub rejects the device, and the device asks DPS.
/// - A record is not encrypted and not signed. Protect the storage: an attacker who writes a record can send the
///   device to another hub.
/// - A record does not contain the device key or tokens. The returned payload may be secret, if the webhook
///   puts secrets there.
///
/// # Layout
///
/// A record has [`OVERHEAD`](Self::OVERHEAD) bytes and the registration state. Numbers are little-endian.
///
/// | bytes | content |
/// |---|---|
/// | 2 | `Dp` |
/// | 1 | the version of the layout: 1 |
/// | 1 | flags. Bit 0: the service accepted the secondary key. Bits 1 and 2, both: no certificate was issued. All other bits are 0 |
/// | 4 | the length of the registration state |
/// | 8 | the owner: the first bytes of SHA-256(ID scope, a byte of 0, registration ID) |
/// | … | the registration state: JSON. A device ID with JSON escapes is stored without them, padded with spaces |
/// | 16 | the first bytes of SHA-256(all bytes above) |
///
/// Later versions keep the positions of the length, the flags and the digest.
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
/// No certificate was issued. This is two bits, so that zeros, erased flash or one lost bit never mean "no
/// certificate": the device would look up its assignment, and lose the certificate.
const NO_CERTIFICATE: u8 = 6;
const OWNER_LEN: usize = 8;
const DIGEST_LEN: usize = 16;
/// The length of the part before the registration state.
const HEADER_LEN: usize = 8 + OWNER_LEN;

impl<'b> Record<'b> {
    /// The length of a record without its registration state, in bytes.
    pub const OVERHEAD: usize = RECORD_OVERHEAD;

    /// The length of the header of a record, in bytes: see [`len`](Self::len).
    pub const HEADER_LEN: usize = HEADER_LEN;

    /// Returns the length of a record in bytes, from its header. Returns `None` if the bytes are not the header
    /// of a record.
    ///
    /// Read [`HEADER_LEN`](Self::HEADER_LEN) bytes of flash first. Then read the whole record, if the buffer has
    /// room. An incomplete header may contain any length.
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

    /// Reads the record at the start of `bytes`. Any bytes may follow the record.
    ///
    /// Checks the content of the record in the same way as an answer of the service.
    ///
    /// # Errors
    /// [`RecordError`] says what the bytes are instead.
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
        // Checked after the digest, because `version` and `flags` may be erased flash.
        if version != VERSION || flags & !(SECONDARY_KEY | NO_CERTIFICATE) != 0 {
            return Err(RecordError::Layout { version, flags });
        }
        let (header, state) = content.split_at_checked(HEADER_LEN).unwrap_or_default();
        if !header.ends_with(first::<OWNER_LEN>(&owner(registration))) {
            return Err(RecordError::Foreign);
        }
        let mut document = Document::EMPTY;
        document.read_state(state)?;
        // A state without a status is an assignment: its answer had the status.
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

    /// Returns the assignment. It borrows from the bytes of the record.
    pub const fn assignment(&self) -> Assignment<'b> {
        self.assignment
    }

    /// Returns the symmetric key that the service accepted: the primary or the secondary one.
    pub const fn key(&self) -> KeyChoice {
        self.key
    }
}

impl Assignment<'_> {
    /// Writes a [`Record`] of this assignment into `buffer`.
    /// [`Sizes::record`](crate::provisioning::Sizes::record) bytes are sufficient.
    ///
    /// Pass the registration of the run, and the key that the service accepted
    /// ([`Provisioning::key`](crate::Provisioning::key)). To save the second buffer, use
    /// [`Provisioning::write_record`](crate::Provisioning::write_record).
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
    /// Writes the [`Record`] of the assignment into the buffer that begins with the body of the last answer.
    ///
    /// The record replaces the answer. To read the assignment again, use [`Record::read`].
    ///
    /// # Errors
    /// - [`Error::BufferTooSmall`] with the exact size;
    /// - the error of [`result`](Self::result) if there is no assignment.
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

/// The data of a record besides the registration state.
struct Header {
    flags: u8,
    /// The start and length of the device ID in the state, with its quotes, if it has escapes.
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

    /// Writes the parts around the state. The state is in its place already.
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

/// Returns `false` if the record certainly had no certificate.
#[inline]
pub(super) fn may_have_certificate(error: &RecordError) -> bool {
    match error {
        RecordError::Torn { flags } | RecordError::Layout { flags, .. } => flags & !SECONDARY_KEY != NO_CERTIFICATE,
        // No record of this device.
        RecordError::Absent | RecordError::Foreign => false,
        RecordError::Impossible(_) => true,
    }
}

/// Returns a hash of the device's identifiers. They cannot contain a byte of 0, so 0 separates them.
#[inline]
fn owner(registration: &Registration<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(registration.id_scope().as_str());
    hash.update([0]);
    hash.update(registration.registration_id().as_str());
    hash.finalize().into()
}
