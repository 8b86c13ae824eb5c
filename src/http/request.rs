use core::time::Duration;

use crate::{
    error::Error,
    provisioning::{Provisioning, Request},
    text::writer::Writer,
};

/// Writes the request that is due into `buffer`, and returns its length in bytes.
///
/// [`Sizes::http_register`](crate::provisioning::Sizes::http_register) and
/// [`Sizes::http_poll`](crate::provisioning::Sizes::http_poll) return the sizes of the buffer. See the
/// [module](crate::http) for an example.
///
/// # Errors
/// Pass the error to [`Provisioning::on_error`].
/// - [`Error::BufferTooSmall`] with a size that is sufficient;
/// - [`Error::NotDue`] if no request is due, or if a signature is due first;
/// - [`Error::NotStarted`] before [`Provisioning::start`].
///
/// Sources: [Register Device](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/register-device),
/// [Operation Status Lookup](https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration/operation-status-lookup).
pub fn write_request(provisioning: &mut Provisioning<'_>, now: Duration, buffer: &mut [u8]) -> Result<usize, Error> {
    provisioning.begin_request(now)?;
    let mut writer = Writer::new(buffer);
    write(provisioning, &mut writer);
    let len = writer.finish()?.len();
    provisioning.on_request_written();
    Ok(len)
}

/// Returns the error with the size of the request, for a buffer that is too small for the signature.
#[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7"))]
#[cold]
pub(crate) fn needed(provisioning: &mut Provisioning<'_>) -> Error {
    let mut writer = Writer::new(&mut []);
    provisioning.as_if_signed(|provisioning| write(provisioning, &mut writer));
    writer.finish().map_or_else(Error::from, |_| Error::NotDue)
}

fn write(provisioning: &Provisioning<'_>, writer: &mut Writer<'_>) {
    match provisioning.request() {
        Request::Register => {
            writer.str(if provisioning.is_lookup() { "POST " } else { "PUT " });
            write_head(provisioning, writer);
            writer.str("Content-Type: application/json\r\nContent-Length: ");
            writer.decimal(provisioning.request_body_len() as u64);
            writer.str("\r\n\r\n");
            provisioning.write_body(writer);
        }
        Request::Status { .. } => {
            writer.str("GET ");
            write_head(provisioning, writer);
            writer.str("\r\n");
        }
    }
}

fn write_head(provisioning: &Provisioning<'_>, writer: &mut Writer<'_>) {
    write_target(provisioning, writer);
    writer.str(" HTTP/1.1\r\nHost: ");
    provisioning.endpoint().write_authority(writer);
    writer.str("\r\nUser-Agent: ");
    writer.str(crate::USER_AGENT);
    writer.str("\r\nAccept: application/json\r\n");
    if provisioning.has_token() {
        writer.str("Authorization: ");
        provisioning.write_token(writer);
        writer.str("\r\n");
    }
}

/// Writes the path and the query.
pub(crate) fn write_target(provisioning: &Provisioning<'_>, writer: &mut Writer<'_>) {
    writer.byte(b'/');
    writer.str(provisioning.registration().id_scope().as_str());
    writer.str("/registrations/");
    writer.percent(provisioning.registration().registration_id().as_str().as_bytes());
    match provisioning.request() {
        Request::Register if provisioning.is_lookup() => {}
        Request::Register => writer.str("/register"),
        Request::Status { operation_id } => {
            writer.str("/operations/");
            writer.percent(operation_id);
        }
    }
    writer.str("?api-version=");
    writer.percent(provisioning.api_version().as_bytes());
}
