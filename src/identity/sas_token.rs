//! The shared access signature (SAS) by which a device proves that it holds its key.
//!
//! A run makes its token itself. Use this module for a client of your own.
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

/// Signs a token and writes it into `buffer`, which is also where it is signed.
/// [`Sizes::sas_token`](crate::provisioning::Sizes::sas_token) bytes are sufficient.
///
/// `expiry` is Unix time in seconds; the service refuses the token from then on. The token is a
/// secret for as long as it is valid.
///
/// # Errors
/// [`TokenError::BufferTooSmall`] with a size that is sufficient; [`TokenError::Signer`].
pub fn write<'b>(
    signer: &mut (impl Sign + ?Sized),
    id_scope: IdScope<'_>,
    registration_id: RegistrationId<'_>,
    expiry: u64,
    buffer: &'b mut [u8],
) -> Result<&'b str, TokenError> {
    sign(signer, buffer, expiry, "&skn=registration", |writer| write_resource(id_scope, registration_id, writer))
}

/// Signs a token for any resource, and writes it.
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
    // The size first: a buffer that is too small to sign in is too small for the token.
    let token = writer.finish().map_err(TokenError::BufferTooSmall)?;
    signed.map_err(TokenError::Signer)?;
    Ok(text(token))
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum TokenError {
    /// The signer could not sign.
    Signer(SignError),
    /// The buffer cannot hold the token.
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

/// Writes what is signed for a token for DPS: the resource, a line feed and the expiry.
pub(crate) fn write_message(
    id_scope: IdScope<'_>,
    registration_id: RegistrationId<'_>,
    expiry: u64,
    writer: &mut Writer<'_>,
) {
    write_resource(id_scope, registration_id, writer);
    write_end(expiry, writer);
}

/// Writes what follows the resource in what is signed.
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

/// Writes what follows the resource in any token.
pub(crate) fn write_signature(mac: &[u8; SIGNATURE_LEN], expiry: u64, writer: &mut Writer<'_>) {
    writer.str("&sig=");
    writer.percent_base64(mac);
    writer.str("&se=");
    writer.decimal(expiry);
}

/// The service verifies the text as it stands in the token, so what is signed and the token must come
/// from this one function.
fn write_resource(id_scope: IdScope<'_>, registration_id: RegistrationId<'_>, writer: &mut Writer<'_>) {
    // No character of an ID scope needs to be encoded.
    writer.str(id_scope.as_str());
    writer.str("%2fregistrations%2f");
    writer.percent(registration_id.as_str().as_bytes());
}
