//! The grammar of the IDs that users choose, and the IDs and entity tags that the service creates.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Checks a registration ID.
pub(crate) fn check_registration_id(id: &str) -> Result<(), String> {
    check_name(id).map_err(|fault| format!("the registration ID {fault}"))
}

/// Checks the ID of an enrollment group.
pub(crate) fn check_group_id(id: &str) -> Result<(), String> {
    check_name(id).map_err(|fault| format!("the enrollment group ID {fault}"))
}

/// "A case-insensitive string (up to 128 characters long) of alphanumeric characters plus the special characters:
/// `-`, `.`, `_`, `:`. The last character must be alphanumeric or dash." Registration IDs and enrollment group IDs
/// have the same grammar.
fn check_name(id: &str) -> Result<(), &'static str> {
    let special = |c: char| matches!(c, '-' | '.' | '_' | ':');
    if id.is_empty() {
        Err("is empty")
    } else if id.len() > 128 {
        Err("is longer than 128 characters")
    } else if !id.chars().all(|c| c.is_ascii_alphanumeric() || special(c)) {
        Err("has a character that is not allowed")
    } else if id.ends_with(['.', '_', ':']) {
        Err("ends in a special character")
    } else {
        Ok(())
    }
}

/// Checks the name of a hub: a host name with an optional port. Microsoft's own mock service uses ports.
pub(crate) fn check_hub_name(hub: &str) -> Result<(), &'static str> {
    let (host, port) = hub.split_once(':').map_or((hub, None), |(host, port)| (host, Some(port)));
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if hub.contains("://") {
        Err("is a URL: give only the host")
    } else if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
        Err("is not a host name, with or without a port")
    } else if !port.is_none_or(is_port) {
        Err("has a port that is not a number from 1 to 65535")
    } else {
        Ok(())
    }
}

/// Returns the host of a hub, without its port.
pub(crate) fn hub_host(hub: &str) -> &str {
    hub.split_once(':').map_or(hub, |(host, _)| host)
}

/// Returns `true` if both names are of the same hub. Ports are compared only if both names have one.
pub(crate) fn is_same_hub(one: &str, other: &str) -> bool {
    let ports = [one, other].map(|hub| hub.split_once(':').map(|(_, port)| port));
    hub_host(one).eq_ignore_ascii_case(hub_host(other))
        && match ports {
            [Some(one), Some(other)] => one == other,
            _ => true,
        }
}

/// Returns a new GUID.
pub(crate) fn guid() -> String {
    Uuid::new_v4().to_string()
}

/// Returns a new operation ID: `5.`, sixteen hexadecimal digits, a GUID. The digits are those of `device`, if there
/// is one.
pub(crate) fn operation_id(device: Option<&str>) -> String {
    let middle = match device {
        Some(device) => hex(&Sha256::digest(device)[..8]),
        None => Uuid::new_v4().simple().to_string()[..16].to_owned(),
    };
    format!("5.{middle}.{}", guid())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a new entity tag of an enrollment, with its quotes: `"0000f176-0000-0700-0000-62eaad1e0000"`.
pub(crate) fn enrollment_etag() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("\"{}-0000-0700-0000-{}0000\"", &random[..8], &random[24..32])
}

/// Returns a new entity tag of a registration: the base64 of a tag such as an enrollment has.
pub(crate) fn registration_etag() -> String {
    BASE64_STANDARD.encode(enrollment_etag())
}
