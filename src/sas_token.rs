//! The shared access signature (SAS) by which a device proves that it holds its key.
//!
//! ```
//! use azure_dps::{DeviceKey, IdScope, RegistrationId, sas_token};
//!
//! let mut key = DeviceKey::from_base64("O+H9VTcdJP0Tqkl7bh4nVG0OJNrAataMpuWB54D0VEc=")?;
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

use crate::{
    Error, IdScope, RegistrationId, Sign,
    symmetric_key::{SIGNATURE_LEN, wipe},
    writer::{Writer, text},
};

/// Signs a token and writes it into `buffer`, which is also where it is signed.
/// [`Sizes::sas_token`](crate::Sizes::sas_token) bytes are sufficient.
///
/// `expiry` is Unix time in seconds; the service refuses the token from then on. It is a
/// secret for as long as it is valid.
///
/// # Errors
/// [`Error::BufferTooSmall`] with a size that suffices; [`Error::Signer`].
pub fn write<'b>(
    signer: &mut dyn Sign,
    id_scope: IdScope<'_>,
    registration_id: RegistrationId<'_>,
    expiry: u64,
    buffer: &'b mut [u8],
) -> Result<&'b str, Error> {
    let mut signature = Signature::new(expiry);
    let mut writer = Writer::new(buffer);
    writer.str(SCHEME);
    let signed = signature.sign(signer, id_scope, registration_id, &mut writer);
    // The size first: a buffer that is too small to sign in is too small for the token.
    signature.write_rest(&mut writer);
    let token = writer.finish()?;
    signed?;
    Ok(text(token))
}

pub(crate) const SCHEME: &str = "SharedAccessSignature sr=";

/// What is kept of a token between the requests of one run: 40 bytes instead of some 200.
/// The rest of the text follows from the registration.
pub(crate) struct Signature {
    mac: [u8; SIGNATURE_LEN],
    expiry: u64,
}

impl Drop for Signature {
    fn drop(&mut self) {
        wipe(&mut self.mac);
    }
}

impl Signature {
    pub(crate) const fn new(expiry: u64) -> Self {
        Self { mac: [0; SIGNATURE_LEN], expiry }
    }

    /// Writes the resource, the part of a token that is signed, and signs it together with a
    /// line feed and the expiry. A writer that has run over signs nothing, and says so at its
    /// end.
    pub(crate) fn sign(
        &mut self,
        signer: &mut dyn Sign,
        id_scope: IdScope<'_>,
        registration_id: RegistrationId<'_>,
        writer: &mut Writer<'_>,
    ) -> Result<(), Error> {
        self.sign_resource(signer, writer, |writer| write_resource(id_scope, registration_id, writer))
    }

    /// The same for any resource.
    #[inline]
    pub(crate) fn sign_resource(
        &mut self,
        signer: &mut dyn Sign,
        writer: &mut Writer<'_>,
        write_resource: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), Error> {
        let start = writer.len();
        write_resource(writer);
        let end = writer.len();
        writer.byte(b'\n');
        writer.decimal(self.expiry);
        let signed = writer.since(start).map_or(Ok(()), |message| signer.sign(message, &mut self.mac));
        writer.rewind(end);
        signed.map_err(Error::Signer)
    }

    pub(crate) fn write(&self, id_scope: IdScope<'_>, registration_id: RegistrationId<'_>, writer: &mut Writer<'_>) {
        writer.str(SCHEME);
        write_resource(id_scope, registration_id, writer);
        self.write_rest(writer);
    }

    /// What follows the resource in a token for DPS.
    fn write_rest(&self, writer: &mut Writer<'_>) {
        self.write_signature(writer);
        writer.str("&skn=registration");
    }

    /// What follows the resource in any token.
    #[inline]
    pub(crate) fn write_signature(&self, writer: &mut Writer<'_>) {
        writer.str("&sig=");
        writer.percent_base64(&self.mac);
        writer.str("&se=");
        writer.decimal(self.expiry);
    }
}

/// The service verifies the text as it stands in the token, so the signature and the token
/// must come from this one function.
fn write_resource(id_scope: IdScope<'_>, registration_id: RegistrationId<'_>, writer: &mut Writer<'_>) {
    // Nothing in an ID scope need be encoded.
    writer.str(id_scope.as_str());
    writer.str("%2fregistrations%2f");
    writer.percent(registration_id.as_str().as_bytes());
}
