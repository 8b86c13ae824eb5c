//! Files that are either as they were or whole, whenever the power fails.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Whether the file can be written: asked before the service is, which is billed.
pub fn check(path: &Path) -> Result<(), String> {
    let path = &target(path);
    let checked = match path.metadata() {
        // A directory, or a device, whose place a file would take.
        Ok(old) if !old.is_file() => Err(io::Error::other("it is no regular file")),
        _ => tempfile::tempfile_in(directory(path)).map(drop),
    };
    checked.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Writes a new file and gives it the old one's name. `mode` is as that of `open`.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), String> {
    let path = &target(path);
    // Flash wears off.
    let has_mode = |file: fs::Metadata| file.permissions().mode() & 0o777 == mode;
    let is_same = |old: &fs::Metadata| old.is_file() && old.len() == contents.len() as u64;
    if path.metadata().is_ok_and(|old| is_same(&old) && has_mode(old))
        && fs::read(path).is_ok_and(|old| old == contents)
    {
        return Ok(());
    }
    let replace = || {
        let directory = directory(path);
        let permissions = Permissions::from_mode(mode);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(directory)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The name is the directory's.
        File::open(directory)?.sync_all()
    };
    replace().map_err(|error: io::Error| format!("cannot write {}: {error}", path.display()))
}

/// The file itself, where a link leads to it: a new file would take the link's place.
fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
