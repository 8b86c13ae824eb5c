//! Values of the command line, as the example `fleet` takes them too.

use std::{
    env, fs,
    io::{self, Read},
    path::Path,
};

use azure_dps::{Endpoint, IdScope, InvalidIdentifier};
use zeroize::Zeroizing;

/// The text of a payload that is given as such or as the path of a file; nobody has checked it yet.
pub fn payload(payload: &str) -> Result<String, String> {
    if payload.trim_start().starts_with('{') {
        return Ok(payload.to_owned());
    }
    let file = payload.strip_prefix('@').unwrap_or(payload);
    fs::read_to_string(file)
        .map_err(|error| format!("the payload is neither a JSON object nor a file: {file}: {error}"))
}

/// A key from a file, or else from the environment; `None` if it is in neither.
// The environment is read here and not by clap, so that a key in a file can win over it.
pub fn read_key(file: Option<&Path>, variable: &str) -> Result<Option<Zeroizing<String>>, String> {
    match file {
        Some(file) if file == Path::new("-") => read_stdin().map(Some),
        Some(file) => match fs::File::open(file).and_then(read) {
            Ok(key) => Ok(Some(key)),
            Err(error) => Err(format!("cannot read the key: {}: {error}", file.display())),
        },
        None => Ok(env::var(variable).ok().filter(|key| !key.is_empty()).map(Zeroizing::new)),
    }
}

pub fn read_stdin() -> Result<Zeroizing<String>, String> {
    read(io::stdin()).map_err(|error| format!("cannot read the key from standard input: {error}"))
}

fn read(source: impl Read) -> io::Result<Zeroizing<String>> {
    // A key of this size never makes the string grow, which would leave a copy of the key.
    let mut key = Zeroizing::new(String::with_capacity(4096));
    source.take(4096).read_to_string(&mut key)?;
    Ok(key)
}

pub fn id_scope(text: &str) -> Result<String, InvalidIdentifier> {
    IdScope::new(text).map(|_| text.to_owned())
}

pub fn endpoint(text: &str) -> Result<String, azure_dps::Error> {
    Endpoint::parse(text).map(|_| text.to_owned())
}

/// The same without control characters, which could tell a terminal to do something.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
