//! The database file, without syncs.

use std::{fs::File, io};

use redb::{DatabaseError, StorageBackend, backends::FileBackend};

/// A file that is never synced. When the commit returns, every write is in the page cache of the system, and the page
/// cache survives the process: a SIGKILL loses nothing. A loss of power may lose writes, in any order.
///
/// `redb::Durability::None` is not an alternative, because it keeps commits in the memory of the process.
#[derive(Debug)]
pub(super) struct Unsynced(FileBackend);

impl Unsynced {
    /// Locks the file until this is dropped.
    pub(super) fn new(file: File) -> Result<Self, DatabaseError> {
        FileBackend::new(file).map(Self)
    }
}

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.0.read(offset, length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self, _eventual: bool) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
