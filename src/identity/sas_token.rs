//! Shared access signature (SAS) tokens for DPS. A token proves that a device has its key.
//!
//! [`Provisioning`](crate::Provisioning) creates its own tokens. Use this module to write another client:
//!
//! ```
//! use azure_dps::{DeviceKey, IdScope, RegistrationId, identity::sas_token};
//!
//! let mut key = DeviceKey::new();
//! key.read_base64("O+H9VTcdJP0Tqkl7bh4nVG0OJNrAataMpuWB54D0VEc=")?;
//! let mut buffer = [0; 256];
//! let token = sas_token::write(
//!     &mut key,
//!     IdScope::new("0ne000EEBBD")?,
//!     RegistrationId::new("FirstDevice")?,
//!     1591921306,
//!     &mut buffer,
//! )?;
//! assert_eq!(
//!     token,
//!     "SharedAccessSignature sr=0ne000EEBBD%2fregistrations%2fFirstDevice\
//!      &sig=hwgBlMB6G2Zg5ZcYtwmtLVKRbifiSCPfUMyscbVWa8o%3D&se=1591921306&skn=registration",
//! );
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! Source: [SAS token structure](https://learn.microsoft.com/azure/iot-dps/how-to-control-access#sas-token-structure).

use core::fmt;

use super::{IdScope, RegistrationId, SIGNATURE_LEN, Sign, SignError, wipe};
use crate::text::{
    BufferTooSmall,
    writer::{Writer, text},
};

/// Writes a signed token into `buffer`.
///
/// The token expires at `expiry`, which is Unix time in seconds. It is a secret until then.
/// [`Sizes::sas_token`](crate::provisioning::Sizes::sas_token) returns the size of the buffer. See the
/// [module](self) for an example.
///
/// # Errors
/// - [`TokenError::BufferTooSmall`] with a size that is sufficient;
/// - [`TokenError::Signer`] if the signer fails.
pub fn write<'b>(
    signer: &mut (impl Sign + ?Sized),
    id_scope: IdScope<'_>,
    registration_id: RegistrationId<'_>,
    expiry: u64,
    buffer: &'b mut [u8],
) -> Result<&'b str, TokenError> {
    sign(signer, buffer, expiry, "&skn=registration", |writer| write_resource(id_scope, registration_id, writer))
}

/// Writes a signed token for any resource. The message is written into `buffer` first and signed there.
#[inline]
pub(crate) fn sign<'b>(
    signer: &mut (impl Sign + ?Sized),
    buffer: &'b mut [u8],
    expiry: u64,
    end: &str,
    write_resource: impl Fn(&mut Writer<'_>),
) -> Result<&'b str, TokenError> {
    let mut signature = Signature::EMPTY;
    let mut writer = Writer::new(buffer);
    writer.str(SCHEME);
    let start = writer.len();
    write_resource(&mut writer);
    let resource_end = writer.len();
    write_end(expiry, &mut writer);
    let signed = writer.since(start).map_or(Ok(()), |message| signer.sign(message, &mut signature.0));
    writer.rewind(resource_end);
    write_signature(&signature.0, expiry, &mut writer);
    writer.str(end);
    // The size is checked first: if the message did not fit, the token does not fit either.
    let token = writer.finish().map_err(TokenError::BufferTooSmall)?;
    signed.map_err(TokenError::Signer)?;
    Ok(text(token))
}

/// The reason why no token was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum TokenError {
    /// The signer failed.
    Signer(SignError),
    /// The buffer is too small for the token.
    BufferTooSmall(BufferTooSmall),
}

impl core::error::Error for TokenError {}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Signer(error) => error.fmt(f),
            TokenError::BufferTooSmall(error) => error.fmt(f),
        }
    }
}

/// A signature that is wiped on drop.
pub(crate) struct Signature(pub(crate) [u8; SIGNATURE_LEN]);

impl Signature {
    pub(crate) const EMPTY: Self = Self([0; SIGNATURE_LEN]);
}

impl Drop for Signature {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

pub(crate) const SCHEME: &str = "SharedAccessSignature sr=";

/// Writes the message that is signed for a DPS token: the resource, a line feed and the expiry.
pub(crate) fn write_message(
    id_scope: IdScope<'_>,
    registration_id: RegistrationId<'_>,
    expiry: u64,
    writer: &mut Writer<'_>,
) {
    write_resource(id_scope, registration_id, writer);
    write_end(expiry, writer);
}

/// Writes the part of the message after the resource.
pub(crate) fn write_end(expiry: u64, writer: &mut Writer<'_>) {
    writer.byte(b'\n');
    writer.decimal(expiry);
}

/// Writes a token for DPS.
pub(crate) fn write_token(
    id_scope: IdScope<'_>,
    registration_id: RegistrationId<'_>,
    mac: &[u8; SIGNATURE_LEN],
    expiry: u64,
    writer: &mut Writer<'_>,
) {
    writer.str(SCHEME);
    write_resource(id_scope, registration_id, writer);
    write_signature(mac, expiry, writer);
    writer.str("&skn=registration");
}

/// Writes the part of a token after the resource, except for `skn`.
pub(crate) fn write_signature(mac: &[u8; SIGNATURE_LEN], expiry: u64, writer: &mut Writer<'_>) {
    writer.str("&sig=");
    writer.percent_base64(mac);
    writer.str("&se=");
    writer.decimal(expiry);
}

/// Writes the resource. The service verifies the resource exactly as the token spells it, so the message
/// and the token both use this function.
fn write_resource(id_scope: IdScope<'_>, registration_id: RegistrationId<'_>, writer: &mut Writer<'_>) {
    // No character of an ID scope needs an escape.
    writer.str(id_scope.as_str());
    writer.str("%2fregistrations%2f");
    writer.percent(registration_id.as_str().as_bytes());
}
