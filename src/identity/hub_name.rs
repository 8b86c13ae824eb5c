//! Checks the two names of an assignment: the hub, and the device ID at the hub.

use core::fmt;

use crate::text::json::parse_u32;

/// The longest host name, in bytes.
pub(crate) const MAX_HOST: usize = 253;
/// A colon and the longest port.
pub(crate) const MAX_PORT: usize = 6;
/// The longest device ID, in bytes.
pub(crate) const MAX_DEVICE_ID: usize = 128;

/// Splits a hub into its host name and its port, if it has one. Returns `None` if the host name has other
/// characters than letters, digits, `-` and `.`, or if the port is not 1 to 65535.
///
/// The check matters for security: these texts become part of headers and connection strings.
#[inline(never)]
pub(crate) fn split_hub(hub: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let (host, rest) = hub.split_at_checked(hub.iter().take_while(in_name).count())?;
    let port = match rest {
        [] => None,
        [b':', port @ ..] if !port.starts_with(b"0") => Some(u16::try_from(parse_u32(port)?).ok()?),
        _ => return None,
    };
    matches!(host.len(), 1..=MAX_HOST).then_some((host, port))
}

/// Returns `true` if IoT Hub allows this device ID.
///
/// Source: <https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties>
#[inline]
pub(crate) fn is_device_id(id: &[u8]) -> bool {
    let allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'%' | b'\''..=b'.' | b':' | b'=' | b'?' | b'@' | b'_')
    };
    matches!(id.len(), 1..=MAX_DEVICE_ID) && id.iter().all(allowed)
}

/// The reason why texts are not a hub and a device ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum InvalidHub {
    /// The hub is not a host name of 1 to 253 letters, digits, `-` and `.`, with an optional `:` and port
    /// (1 to 65535).
    Host,
    /// The device ID is empty, is longer than 128 characters, or has a character that
    /// [IoT Hub does not allow][device ID].
    ///
    /// [device ID]: https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties
    DeviceId,
}

impl core::error::Error for InvalidHub {}

impl fmt::Display for InvalidHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidHub::Host => {
                "the hub must be a host name (1 to 253 letters, digits, - .) with an optional : and port (1 to 65535)"
            }
            InvalidHub::DeviceId => "the device ID must have 1 to 128 characters, each of which IoT Hub allows",
        })
    }
}
