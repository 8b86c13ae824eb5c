//! The store on disk: a database with one row for each enrollment and each device.
//!
//! The store in memory is complete. The database is read at the start, and written after every change.

mod backend;
mod folder;
mod forms;
#[cfg(test)]
mod tests;

use std::{error::Error, path::Path};

use redb::{Builder, Database, DatabaseError, ReadableTable, StorageBackend, TableDefinition, WriteTransaction};

pub(crate) use self::folder::DataError;
use self::{backend::Unsynced, folder::Folder, forms::Form};
use super::{
    Store,
    enrollments::Known,
    tracked::{Numbered, Row, Tracked},
};

/// A row has the entry's place in the order and the entry as JSON. A row without JSON is a deleted entry, which the
/// configuration must not create again.
type Table = TableDefinition<'static, &'static str, (u64, &'static [u8])>;

const GROUPS: Table = Table::new("groups");
const INDIVIDUALS: Table = Table::new("individuals");
const DEVICES: Table = Table::new("devices");
/// The CAs by their names: certificate and key in PEM.
const AUTHORITIES: TableDefinition<'static, &'static str, &'static str> = TableDefinition::new("authorities");

/// The database needs little cache, because all data is in memory.
const CACHE: usize = 16 * 1024 * 1024;

/// The database has many error types, which are treated the same.
type Fault = Box<dyn Error>;

/// The data folder. Other processes cannot use it at the same time.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: Folder,
    database: Database,
}

impl Disk {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let folder = Folder::open(path)?;
        let file = folder.database()?;
        let database = Unsynced::new(file).and_then(open).map_err(|fault| explain(path, &fault))?;
        Ok(Self { folder, database })
    }

    /// Returns the certificate and key of a CA in PEM.
    pub(crate) fn authority(&self, name: &str) -> Result<Option<String>, DataError> {
        let read = || -> Result<_, Fault> {
            match self.database.begin_read()?.open_table(AUTHORITIES) {
                Ok(table) => Ok(table.get(name)?.map(|pem| pem.value().to_owned())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(fault) => Err(fault.into()),
            }
        };
        read().map_err(|fault| self.error(&fault))
    }

    /// Stores CAs: their names, and their certificates and keys in PEM.
    pub(crate) fn keep_authorities(&self, authorities: &[(&str, &str)]) -> Result<(), DataError> {
        let write = || -> Result<(), Fault> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(AUTHORITIES)?;
                for (name, pem) in authorities {
                    table.insert(name, pem)?;
                }
            }
            Ok(transaction.commit()?)
        };
        write().map_err(|fault| self.error(&fault))
    }

    /// Writes a file for users into the folder.
    pub(crate) fn publish(&self, name: &str, text: &str) -> Result<(), DataError> {
        self.folder.write(name, text)
    }

    /// Reads everything. Returns the known IDs of enrollments.
    pub(super) fn load(&self, store: &mut Store) -> Result<Known, DataError> {
        store.devices.load(self.rows(DEVICES)?);
        Ok(store.enrollments.load(self.rows(GROUPS)?, self.rows(INDIVIDUALS)?))
    }

    /// Writes all changes of the store, or none.
    pub(super) fn write(&self, store: &Store) -> Result<(), String> {
        let write = || -> Result<(), Fault> {
            let transaction = self.database.begin_write()?;
            write_changes(&transaction, GROUPS, store.enrollments.tracked_groups())?;
            write_changes(&transaction, INDIVIDUALS, store.enrollments.tracked_individuals())?;
            write_changes(&transaction, DEVICES, store.devices.tracked())?;
            Ok(transaction.commit()?)
        };
        write().map_err(|fault| format!("{} cannot be written: {fault}", self.folder.path().display()))
    }

    fn rows<V: Form>(&self, table: Table) -> Result<Vec<Row<V>>, DataError> {
        let read = || -> Result<_, Fault> {
            let mut rows = Vec::new();
            let table = match self.database.begin_read()?.open_table(table) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(rows),
                Err(fault) => return Err(fault.into()),
            };
            for row in table.iter()? {
                let (key, row) = row?;
                let (number, json) = row.value();
                let entry = (!json.is_empty()).then(|| V::from_json(json)).transpose();
                let entry = entry.map_err(|fault| format!("the entry {} cannot be read: {fault}", key.value()))?;
                rows.push((key.value().to_owned(), entry.map(|value| Numbered { number, value })));
            }
            Ok(rows)
        };
        read().map_err(|fault| self.error(&fault))
    }

    fn error(&self, fault: &Fault) -> DataError {
        DataError(format!("{}: {fault}", self.folder.path().display()))
    }
}

fn open(backend: impl StorageBackend) -> Result<Database, DatabaseError> {
    // Later versions of redb read this format.
    Builder::new().create_with_file_format_v3(true).set_cache_size(CACHE).create_with_backend(backend)
}

fn write_changes<V: Clone + Form>(
    transaction: &WriteTransaction,
    table: Table,
    entries: &Tracked<V>,
) -> Result<(), Fault> {
    if !entries.is_changed() {
        return Ok(());
    }
    if entries.was_reset() {
        transaction.delete_table(table)?;
    }
    let mut rows = transaction.open_table(table)?;
    for (key, entry) in entries.changes() {
        match entry {
            Some(Numbered { number, value }) => {
                rows.insert(key, (*number, value.to_json()?.as_slice()))?;
            }
            None if V::LEAVES_A_TRACE && !entries.was_reset() => drop(rows.insert(key, (0, [].as_slice()))?),
            None => drop(rows.remove(key)?),
        }
    }
    Ok(())
}

/// Returns why the database cannot be opened, and how to correct it.
fn explain(path: &Path, fault: &DatabaseError) -> DataError {
    let path = path.display();
    DataError(match fault {
        DatabaseError::DatabaseAlreadyOpen => {
            format!("{path}: another process uses this folder. Stop that process, or use another folder")
        }
        fault => format!(
            "{path}: the database cannot be opened: {fault}. If the machine lost power, the data may be lost: \
             delete the folder to start without data"
        ),
    })
}
