//! The file of the database, without its syncs.

use std::{fs::File, io};

use redb::{DatabaseError, StorageBackend, backends::FileBackend};

/// A file that is never synced. Every write is in the system's page cache when the commit returns, and the page cache
/// outlives the process: a SIGKILL loses nothing. A loss of power may lose writes, in any order.
///
/// `redb::Durability::None` is no substitute: it keeps commits in the process's own memory.
#[derive(Debug)]
pub(super) struct Unsynced(FileBackend);

impl Unsynced {
    /// Locks the file, for as long as this lives.
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
