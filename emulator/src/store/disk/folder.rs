//! The data folder: its permissions, its format, and the files besides the database.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// The format of the folder: the tables and the JSON of their rows. Since version 2, devices include the data of
/// their hubs.
const FORMAT: u32 = 2;
const FORMAT_FILE: &str = "format";
const DATABASE_FILE: &str = "emulator.redb";
/// The suffix of a file that is not complete yet.
const UNFINISHED: &str = "new";

/// The reason why a data folder cannot be used.
#[derive(Debug)]
pub(crate) struct DataError(pub(crate) String);

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder of this version, which other users cannot read.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Creates the folder, or checks the existing folder.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let error = |why: String| DataError(format!("{}: {why}", path.display()));
        let failed = |what: &str, fault: io::Error| error(format!("{what}: {fault}"));
        make(path).map_err(|fault| failed("the folder cannot be created", fault))?;
        check_permissions(path).map_err(error)?;
        let folder = Self(path.to_owned());
        match fs::read_to_string(path.join(FORMAT_FILE)) {
            Ok(text) => match text.trim().parse::<u32>() {
                // Older rows are read, and written in the new form when they change.
                Ok(1..=FORMAT) => {
                    folder.write(FORMAT_FILE, &format!("{FORMAT}\n"))?;
                    Ok(folder)
                }
                Ok(newer) if newer > FORMAT => Err(error(format!(
                    "a newer version of the emulator wrote this folder: it has format {newer}, and this version reads \
                     format {FORMAT}. Use the newer version, or another folder"
                ))),
                _ => Err(error(format!("the file `{FORMAT_FILE}` does not say which format the folder has"))),
            },
            Err(fault) if fault.kind() == ErrorKind::NotFound => {
                // A folder with other files, such as a home folder, is a mistake.
                if let Some(name) = folder.stranger().map_err(|fault| failed("the folder cannot be read", fault))? {
                    return Err(error(format!(
                        "the folder has other files, such as {name}, and no data of the emulator: use another folder, \
                         or an empty one"
                    )));
                }
                folder.write(FORMAT_FILE, &format!("{FORMAT}\n"))?;
                Ok(folder)
            }
            Err(fault) => Err(failed("the folder cannot be read", fault)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the file of the database, which is created if it does not exist.
    pub(super) fn database(&self) -> Result<File, DataError> {
        let path = self.0.join(DATABASE_FILE);
        private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(&path)
            .map_err(|fault| DataError(format!("{}: {fault}", path.display())))
    }

    /// Writes a file, unless it has this text already. A crash never leaves a part of the file.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), DataError> {
        let path = self.0.join(name);
        if fs::read_to_string(&path).is_ok_and(|before| before == text) {
            return Ok(());
        }
        let unfinished = path.with_extension(UNFINISHED);
        private(OpenOptions::new().write(true).create(true).truncate(true))
            .open(&unfinished)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(|fault| DataError(format!("{}: {fault}", path.display())))
    }

    /// Returns the name of a file that the emulator did not write.
    fn stranger(&self) -> io::Result<Option<String>> {
        let is_unfinished = |name: &str| Path::new(name) == Path::new(FORMAT_FILE).with_extension(UNFINISHED);
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !is_unfinished(&name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

#[cfg(unix)]
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

/// Sets options for a file that only its owner can read.
#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Rejects a folder that other users can read, because it has the keys of enrollments and CAs.
#[cfg(unix)]
fn check_permissions(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(path).map_err(|fault| format!("the folder cannot be read: {fault}"))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!(
        "other users can read this folder (mode {mode:03o}), and it has keys: run chmod 700 '{}', or give a folder \
         that does not exist yet",
        path.display()
    ))
}

#[cfg(not(unix))]
fn check_permissions(_: &Path) -> Result<(), String> {
    Ok(())
}
