//! `?` converts every error of the library to `azure_dps::Error`.

use azure_dps::{
    Assignment, DeviceKey, Error, GroupKey, IdScope, Provisioning, Registration, RegistrationId,
    after::{Hub, Record},
    error::{BufferTooSmall, Malformed, PayloadError, RequestTooLarge, TransportError},
    identity::{Csr, Sign, SignError, sas_token, tpm::TpmError},
    provisioning::Endpoint,
};

pub struct Everything<'a> {
    pub key: &'a str,
    pub registration_id: &'a str,
    pub hub: &'a str,
    pub flash: &'a [u8],
    pub csr: &'a [u8],
}

pub fn everything(input: &Everything<'_>) -> Result<(), Error> {
    let id_scope = IdScope::new("0ne00002193")?; // InvalidIdentifier
    let id = RegistrationId::new(input.registration_id)?;
    let mut group = GroupKey::new();
    group.read_base64(input.key)?; // InvalidKey
    let mut key = DeviceKey::new();
    group.derive_into(&id, &mut key)?;
    let mut signature = [0; 32];
    key.sign(b"message", &mut signature)?; // SignError
    let mut buffer = [0; 512];
    sas_token::write(&mut key, id_scope, id, 1_700_000_000, &mut buffer)?; // TokenError
    key.write_base64(&mut buffer)?; // BufferTooSmall
    Endpoint::parse("global.azure-devices-provisioning.net")?;
    let registration = Registration::new(id_scope, id).with_payload("{}")?.with_csr(Csr::from_der(input.csr)?);
    Hub::new(input.hub, input.registration_id)?; // InvalidHub
    Record::read(input.flash, &registration)?; // RecordError
    Ok(())
}

pub fn payload(assignment: &Assignment<'_>) -> Result<Option<u32>, Error> {
    Ok(assignment.payload_as(&mut [])?) // PayloadError
}

pub fn of_a_driver(provisioning: &Provisioning<'_>, buffer: &mut [u8]) -> Result<usize, Error> {
    Ok(provisioning.write_message(buffer)?.len())
}

/// Returns the errors that the program's own driver or signer may report.
pub fn all_of_them() -> Vec<Error> {
    vec![
        SignError::new("no answer").into(),
        TpmError::new("no answer").into(),
        BufferTooSmall::at_least(10).into(),
        Malformed::HttpHead.into(),
        PayloadError::Unfit.into(),
        TransportError::Closed.into(),
    ]
}

#[expect(dead_code, reason = "it must compile")]
fn of_a_large_request(error: RequestTooLarge) -> Error {
    error.into()
}
