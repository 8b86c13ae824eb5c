//! Values of the command line. The example `fleet` uses them too.

use std::{env, path::Path};

use azure_dps::{DeviceKey, GroupKey, IdScope, identity::InvalidIdentifier, provisioning::Endpoint};
use zeroize::Zeroizing;

use crate::input::Input;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the text of a payload, given as JSON or as the path of a file. The text is not checked yet.
pub fn payload(payload: &str) -> Result<String, String> {
    let inline = payload.trim_start_matches(BYTE_ORDER_MARK);
    if inline.trim_start().starts_with('{') {
        return Ok(inline.to_owned());
    }
    let file = payload.strip_prefix('@').unwrap_or(payload);
    let text = Input::PAYLOAD.read(Path::new(file)).and_then(|bytes| Input::PAYLOAD.text(bytes));
    text.map(|text| text.to_string())
        .map_err(|error| format!("the payload is neither a JSON object nor a file: {error}"))
}

/// Returns the key's text from the file, or else from the environment. Returns `None` if neither has it.
// clap does not read the environment here, because a key in a file takes precedence.
pub fn read_key(file: Option<&Path>, variable: &str) -> Result<Option<Zeroizing<String>>, String> {
    match file {
        // A terminal is a device file. `read_stdin` accepts it, and no other path may be a device.
        Some(file) if is_stdin(file) => read_stdin().map(Some),
        Some(file) => Input::KEY.read(file).and_then(|bytes| Input::KEY.text(bytes)).map(Some),
        None => Ok(env::var(variable).ok().filter(|key| !key.is_empty()).map(Zeroizing::new)),
    }
}

pub fn is_stdin(file: &Path) -> bool {
    file == Path::new("-") || file == Path::new("/dev/stdin")
}

pub fn read_stdin() -> Result<Zeroizing<String>, String> {
    Input::KEY.read_stdin().and_then(|bytes| Input::KEY.text(bytes))
}

/// Reads the device key.
pub fn read_device_key(given: &str, key: &mut DeviceKey) -> Result<(), String> {
    let text = base64_of(given, Owner::Device)?;
    key.read_base64(&text).map_err(|error| error.to_string())
}

/// Reads the group key.
pub fn read_group_key(given: &str, key: &mut GroupKey) -> Result<(), String> {
    let text = base64_of(given, Owner::Group)?;
    key.read_base64(&text).map_err(|error| error.to_string())
}

#[derive(PartialEq, Eq)]
enum Owner {
    Device,
    Group,
}

/// Returns the base64 part of a pasted key. The key may have a byte order mark, quotes, line breaks or no padding, or
/// be part of a device's connection string. The error never quotes the key.
fn base64_of(given: &str, owner: Owner) -> Result<Zeroizing<String>, &'static str> {
    let text = unquoted(given.trim_start_matches(BYTE_ORDER_MARK));
    if text.starts_with("-----BEGIN") {
        return Err("a PEM key goes with its certificate: --certificate-file-path, --key-file-path");
    }
    if text.starts_with("SharedAccessSignature") {
        return Err("this is a SAS token, which was signed with the key: the key itself is needed");
    }
    if text.starts_with('{') {
        return Err("this is JSON: give only the value of primaryKey");
    }
    let part = |name: &str| {
        let parts = text.split(';').filter_map(|part| part.split_once('='));
        parts.filter(|(found, _)| found.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let is_connection_string = ["HostName", "DeviceId", "SharedAccessKey"].into_iter().any(|name| part(name).is_some());
    let key = match part("SharedAccessKey") {
        _ if part("SharedAccessKeyName").is_some() => {
            return Err("this is the connection string of a service's access policy, and no device may have that \
                        key: give the key of the enrollment");
        }
        _ if part("ModuleId").is_some() => return Err("this is the connection string of a module, not of a device"),
        Some(_) if owner == Owner::Group && part("DeviceId").is_some() => {
            return Err("this is the connection string of one device: its key is not the enrollment group's");
        }
        None if is_connection_string => return Err("this connection string has no SharedAccessKey"),
        Some(key) => unquoted(key),
        None => text,
    };
    if key.trim_end_matches('=').contains('=') {
        return Err("the symmetric key has more text after its end: give exactly one key");
    }
    let mut base64 = Zeroizing::new(String::with_capacity(key.len() + 3));
    base64.extend(key.chars().filter(|character| !character.is_whitespace()));
    while base64.len() % 4 > 1 {
        base64.push('=');
    }
    Ok(base64)
}

/// Removes white space and one pair of quotes around the text.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inside = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).map_or(text, str::trim)
}

pub fn id_scope(text: &str) -> Result<String, InvalidIdentifier> {
    IdScope::new(text).map(|_| text.to_owned())
}

pub fn endpoint(text: &str) -> Result<String, String> {
    let authority = text.split_once("://").map_or(text, |(_, authority)| authority);
    Endpoint::parse(text).map(|_| text.to_owned()).map_err(|error| match authority.matches(':').count() {
        2.. if !authority.starts_with('[') => format!("put an IPv6 address in brackets: {error}"),
        2.. if authority.contains('%') => format!("an IPv6 address cannot have a zone: {error}"),
        _ => error.to_string(),
    })
}

/// Replaces control characters, because a terminal could execute them.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
