//! The one lock before the store: whoever reads cannot change, and no change is forgotten.

use std::{
    ops::Deref,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Changed, Store};

/// Is told of every change, before anybody sees it.
pub(crate) type Watcher = Box<dyn Fn(&Store, Changed) + Send + Sync>;

/// The store, as everybody shares it.
#[derive(Default)]
pub(crate) struct SharedStore {
    store: Mutex<Store>,
    watcher: Option<Watcher>,
}

/// The store, to be read. It is locked for as long.
pub(crate) struct Reading<'a>(MutexGuard<'a, Store>);

impl Deref for Reading<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0
    }
}

/// A change could not be written, and was taken back.
#[derive(Debug)]
pub(crate) struct NotKept(pub(crate) String);

impl SharedStore {
    pub(crate) fn new(store: Store) -> Self {
        Self { store: Mutex::new(store), watcher: None }
    }

    /// Tells this watcher of every change from now on.
    pub(crate) fn watched(mut self, watcher: Option<Watcher>) -> Self {
        if watcher.is_some() {
            self.lock().remember_changed();
        }
        self.watcher = watcher;
        self
    }

    /// A panic elsewhere, such as in a test's closure, must not take the store down with it.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut store = self.lock();
        let changed = change(&mut store);
        if let Some(watcher) = &self.watcher {
            let what = store.take_changed();
            watcher(&store, what);
        }
        changed.map(then)
    }
}
