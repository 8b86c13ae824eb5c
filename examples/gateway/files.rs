//! Replaces files. If power fails, a file is either unchanged or complete.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Checks that the file can be written. Call this before a register request, because the request is billed.
pub fn check(path: &Path) -> Result<(), String> {
    let path = &target(path);
    let checked = match path.metadata() {
        // Replacing would remove a directory or a device.
        Ok(old) if !old.is_file() => Err(io::Error::other("it is not a regular file")),
        _ => tempfile::tempfile_in(directory(path)).map(drop),
    };
    checked.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Writes a new file, and renames it to `path`. `mode` has the same meaning as in `open`.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), String> {
    let path = &target(path);
    // An unchanged file is not written again, because writing wears flash.
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
        // Syncs the directory, because the directory stores the new name.
        File::open(directory)?.sync_all()
    };
    replace().map_err(|error: io::Error| format!("cannot write {}: {error}", path.display()))
}

/// Follows links, because the new file would replace the link.
fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
