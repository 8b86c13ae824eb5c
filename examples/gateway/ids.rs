//! Lists of registration IDs, for `gateway derive-key` and for the example `fleet`.

use std::{collections::HashMap, path::Path};

use azure_dps::RegistrationId;

use crate::{input::Input, values::is_stdin};

/// How many IDs a list may have.
pub const MAX_IDS: usize = 100_000;

/// Reads a list from a file; `-` is standard input.
///
/// Each line is one ID. White space around an ID, blank lines, and lines that begin with `#` are ignored. No ID
/// contains a `#`. The service ignores the case of IDs, so the check for duplicates ignores it too.
///
/// The error never quotes a line, because the file may contain a key by mistake.
pub fn read(file: &Path) -> Result<Vec<String>, String> {
    let (name, bytes) = match is_stdin(file) {
        true => ("standard input".into(), Input::IDS.read_stdin()?),
        false => (file.display().to_string(), Input::IDS.read(file)?),
    };
    parse(&bytes).map_err(|error| format!("{name}: {error}"))
}

fn parse(bytes: &[u8]) -> Result<Vec<String>, String> {
    // Invalid UTF-8 becomes a character that no ID contains.
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().zip(1..);
    let (mut ids, mut seen) = (Vec::new(), HashMap::new());
    for (line, number) in lines.map(|(line, number)| (line.trim(), number)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        RegistrationId::new(line).map_err(|error| format!("line {number}: {error}"))?;
        if let Some(first) = seen.insert(line.to_ascii_lowercase(), number) {
            return Err(format!("line {number}: this registration ID is already in line {first}"));
        }
        if ids.len() == MAX_IDS {
            return Err(format!("line {number}: more than {MAX_IDS} registration IDs"));
        }
        ids.push(line.to_owned());
    }
    match ids.is_empty() {
        true => Err("no registration ID".to_owned()),
        false => Ok(ids),
    }
}
