//! The CAs. They are created at the start, or at the first start with a data folder.

use super::issuance::IssuingCa;
use crate::{
    identity::ca::Ca,
    store::disk::{DataError, Disk},
};

const SERVER: &str = "server";
const ISSUING_ROOT: &str = "issuing root";
const ISSUING: &str = "issuing";

/// All CAs of an emulator.
pub(crate) struct Authorities {
    /// The CA that signs the certificate of the TLS listeners.
    pub(crate) server: Ca,
    /// The CA that issues certificates to devices.
    pub(crate) issuing: IssuingCa,
    /// A warning for the user if CAs of the folder have expired.
    pub(crate) renewed: Option<&'static str>,
}

impl Authorities {
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        Ok(Self { server: Ca::of_server()?, issuing: IssuingCa::generate()?, renewed: None })
    }

    /// Reads the CAs of a data folder. Creates CAs that are missing or have expired.
    pub(crate) fn of(disk: &Disk) -> Result<Self, DataError> {
        let made = |error: rcgen::Error| DataError(format!("the CA cannot be created: {error}"));
        let (server, root, intermediate) = (read(disk, SERVER)?, read(disk, ISSUING_ROOT)?, read(disk, ISSUING)?);
        let expired = [&server, &root, &intermediate].into_iter().flatten().any(Ca::has_expired);
        let valid = |ca: Option<Ca>| ca.filter(|ca| !ca.has_expired());
        let server = match valid(server) {
            Some(server) => server,
            None => Ca::of_server().map_err(made)?,
        };
        let issuing = match (valid(root), valid(intermediate)) {
            (Some(root), Some(intermediate)) => IssuingCa { root, intermediate },
            _ => IssuingCa::generate().map_err(made)?,
        };
        disk.keep_authorities(&[
            (SERVER, &server.to_kept()),
            (ISSUING_ROOT, &issuing.root.to_kept()),
            (ISSUING, &issuing.intermediate.to_kept()),
        ])?;
        disk.publish("ca.pem", server.pem())?;
        disk.publish("issuing-ca.pem", &issuing.pem())?;
        let renewed = expired.then_some(
            "a CA in the data folder expired, and the emulator made a new one: clients must trust the new ca.pem, and \
             enrollments need the new issuing-ca.pem",
        );
        Ok(Self { server, issuing, renewed })
    }
}

fn read(disk: &Disk, name: &str) -> Result<Option<Ca>, DataError> {
    let Some(kept) = disk.authority(name)? else { return Ok(None) };
    Ca::from_kept(&kept).map(Some).map_err(|why| DataError(format!("the {name} CA cannot be read: {why}")))
}
