//! The key of `provisioningserviceowner`, from a file, standard input or the environment. It is never shown.

use std::{
    env::{self, VarError},
    fs::File,
    io::{self, Read},
    path::Path,
};

use azure_dps_emulator::SymmetricKey;

use crate::{arguments::ServiceApi, failure::Failure};

const VARIABLE: &str = "DPS_EMULATOR_SERVICE_KEY";

/// A key is far shorter.
const LONGEST_FILE: u64 = 4096;

/// Reads the key, if there is one. The flag goes before the environment.
pub(crate) fn read(flags: &ServiceApi) -> Result<Option<SymmetricKey>, Failure> {
    let (source, text) = match &flags.service_key_file {
        Some(path) => {
            let text = read_file(path).map_err(|error| Failure::start(format!("{}: {error}", path.display())))?;
            (path.display().to_string(), text)
        }
        None => match env::var(VARIABLE) {
            Ok(text) => (VARIABLE.to_owned(), text),
            Err(VarError::NotPresent) => return Ok(None),
            Err(VarError::NotUnicode(_)) => return Err(Failure::config(format!("{VARIABLE} is not text"))),
        },
    };
    let key = text.trim().parse().map_err(|error| Failure::config(format!("{source}: {error}")))?;
    Ok(Some(key))
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    file.by_ref().take(LONGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}
