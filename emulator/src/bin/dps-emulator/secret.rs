//! Secrets come from a file, standard input or the environment. Other users can read the command line.

use std::{
    env::{self, VarError},
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::failure::Failure;

/// More than the length of any secret.
const LONGEST_FILE: u64 = 4096;

/// Reads a secret, if there is one, and returns its source. The file takes precedence over the environment.
pub(crate) fn read(file: Option<&Path>, variable: &str) -> Result<Option<(String, String)>, Failure> {
    let (source, text) = match file {
        Some(path) => {
            let text = read_file(path).map_err(|error| Failure::start(format!("{}: {error}", path.display())))?;
            (path.display().to_string(), text)
        }
        None => match env::var(variable) {
            Ok(text) => (variable.to_owned(), text),
            Err(VarError::NotPresent) => return Ok(None),
            Err(VarError::NotUnicode(_)) => return Err(Failure::config(format!("{variable} is not text"))),
        },
    };
    Ok(Some((source, text.trim().to_owned())))
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    file.by_ref().take(LONGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}
