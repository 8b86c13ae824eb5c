//! The lock of the store. Readers cannot change the store, and every change is written to disk.

use std::{
    ops::Deref,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Changed, Store,
    disk::{DataError, Disk},
};
use crate::config::{EnrollmentGroup, IndividualEnrollment};

/// Called with every change, before any reader can see the change.
pub(crate) type Watcher = Box<dyn Fn(&Store, &Changed) + Send + Sync>;

/// The store as it is shared between threads.
pub(crate) struct SharedStore {
    kept: Mutex<Kept>,
}

/// The store in memory, and on disk if there is a data folder.
struct Kept {
    store: Store,
    disk: Option<Disk>,
    watchers: Vec<Watcher>,
    /// Why writes are no longer possible.
    fault: Option<String>,
}

/// Read access to the store. The store is locked until this is dropped.
pub(crate) struct Reading<'a>(MutexGuard<'a, Kept>);

impl Deref for Reading<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0.store
    }
}

/// A change could not be written, and was undone.
#[derive(Debug)]
pub(crate) struct NotKept(pub(crate) String);

impl SharedStore {
    /// Opens the store with these enrollments, in memory or in a data folder.
    ///
    /// An enrollment is created in the folder once. Later changes of it in the folder stay.
    pub(crate) fn open(
        disk: Option<Disk>,
        groups: Vec<EnrollmentGroup>,
        individuals: Vec<IndividualEnrollment>,
    ) -> Result<Self, DataError> {
        let mut store = Store::default();
        if let Some(disk) = &disk {
            let known = disk.load(&mut store)?;
            store.enrollments.add_unknown(groups, individuals, &known);
            disk.write(&store).map_err(DataError)?;
            store.keep_changes();
        } else {
            store.enrollments.replace(groups, individuals);
        }
        Ok(Self { kept: Mutex::new(Kept { store, disk, watchers: Vec::new(), fault: None }) })
    }

    /// Adds a watcher, which is called with every later change.
    pub(crate) fn watch(&self, watcher: Watcher) {
        let mut kept = self.lock();
        kept.store.remember_changed();
        kept.watchers.push(watcher);
    }

    /// A panic elsewhere, such as in a closure of a test, must not stop the service.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self) -> Reading<'_> {
        Reading(self.lock())
    }

    /// Changes the store. There is no other way to change it. The change is written when this returns.
    ///
    /// If `change` returns an error, its changes up to this point stay, such as a challenge of a TPM. `then` runs
    /// after the change is written, and before any reader can see the change.
    ///
    /// # Errors
    ///
    /// Returns the error of `change`, or [`NotKept`]. `then` is not called.
    pub(crate) fn change<T, U, E: From<NotKept>>(
        &self,
        change: impl FnOnce(&mut Store) -> Result<T, E>,
        then: impl FnOnce(T) -> U,
    ) -> Result<U, E> {
        let mut kept = self.lock();
        let changed = change(&mut kept.store);
        let written = kept.write();
        if !kept.watchers.is_empty() {
            let what = kept.store.take_changed();
            if written.is_ok() {
                for watcher in &kept.watchers {
                    watcher(&kept.store, &what);
                }
            }
        }
        written?;
        changed.map(then)
    }
}

impl SharedStore {
    /// Calls the watchers about a device that changed outside the store, for example because it connected.
    pub(crate) fn tell(&self, registration_id: &str) {
        let what = Changed { enrollments: Vec::new(), devices: vec![registration_id.to_ascii_lowercase()] };
        let kept = self.lock();
        for watcher in &kept.watchers {
            watcher(&kept.store, &what);
        }
    }
}

impl Kept {
    /// Writes the changes, or undoes them.
    fn write(&mut self) -> Result<(), NotKept> {
        let Some(disk) = self.disk.as_ref().filter(|_| self.store.is_changed()) else { return Ok(()) };
        if self.fault.is_none() {
            self.fault = disk.write(&self.store).err();
        }
        // After a fault, the database refuses all writes. So this function refuses changes, too, and disk and memory
        // stay the same.
        match &self.fault {
            None => {
                self.store.keep_changes();
                Ok(())
            }
            Some(fault) => {
                self.store.take_back_changes();
                Err(NotKept(format!("{fault}. The emulator accepts no changes until you start it again")))
            }
        }
    }
}
