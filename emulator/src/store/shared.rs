//! The one lock before the store. A reader cannot change it, and no change is forgotten.

use std::{
    ops::Deref,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Changed, Store,
    disk::{DataError, Disk},
};
use crate::config::{EnrollmentGroup, IndividualEnrollment};

/// Is told of every change, before anybody sees it.
pub(crate) type Watcher = Box<dyn Fn(&Store, &Changed) + Send + Sync>;

/// The store, as everybody shares it.
pub(crate) struct SharedStore {
    kept: Mutex<Kept>,
}

/// The store in memory, and on the disk if there is a data folder.
struct Kept {
    store: Store,
    disk: Option<Disk>,
    watchers: Vec<Watcher>,
    /// Why nothing can be written any more.
    fault: Option<String>,
}

/// The store, to be read. It is locked for as long.
pub(crate) struct Reading<'a>(MutexGuard<'a, Kept>);

impl Deref for Reading<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0.store
    }
}

/// A change could not be written, and was taken back.
#[derive(Debug)]
pub(crate) struct NotKept(pub(crate) String);

impl SharedStore {
    /// The store of a service with these enrollments: in memory, or in a data folder.
    ///
    /// The enrollments are created in the folder once. What became of them since then stays.
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

    /// Tells this watcher, too, of every change from now on.
    pub(crate) fn watch(&self, watcher: Watcher) {
        let mut kept = self.lock();
        kept.store.remember_changed();
        kept.watchers.push(watcher);
    }

    /// A panic elsewhere, such as in a test's closure, must not take the store down with it.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self) -> Reading<'_> {
        Reading(self.lock())
    }

    /// Changes the store. This is the only way to do so: when it returns, the change is written.
    ///
    /// What was changed before `change` returns an error stays changed, such as a TPM's challenge. After the change is
    /// written and before anybody else sees it, `then` makes its consequences happen.
    ///
    /// # Errors
    ///
    /// The error of `change`, or [`NotKept`]. `then` is not called.
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
    /// Tells the watchers of a device that changed outside the store: it connected, for instance.
    pub(crate) fn tell(&self, registration_id: &str) {
        let what = Changed { enrollments: Vec::new(), devices: vec![registration_id.to_ascii_lowercase()] };
        let kept = self.lock();
        for watcher in &kept.watchers {
            watcher(&kept.store, &what);
        }
    }
}

impl Kept {
    /// Writes what was changed, or takes it back.
    fn write(&mut self) -> Result<(), NotKept> {
        let Some(disk) = self.disk.as_ref().filter(|_| self.store.is_changed()) else { return Ok(()) };
        if self.fault.is_none() {
            self.fault = disk.write(&self.store).err();
        }
        // The database refuses everything after a fault, and so does this: what is on the disk is what is in memory.
        match &self.fault {
            None => {
                self.store.keep_changes();
                Ok(())
            }
            Some(fault) => {
                self.store.take_back_changes();
                Err(NotKept(format!("{fault}. Nothing is changed any more until the emulator is started again")))
            }
        }
    }
}
