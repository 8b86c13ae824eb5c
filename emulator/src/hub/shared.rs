//! What DPS and the hub share.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::{
        Config,
        settings::{Settings, SharedSettings},
    },
    store::{
        disk::{DataError, Disk},
        shared::{SharedStore, Watcher},
    },
    watch::journal::Journal,
};

/// The store, the settings, the record of what happened, and the time.
pub(crate) struct Shared {
    pub(crate) store: SharedStore,
    pub(crate) settings: SharedSettings,
    pub(crate) journal: Arc<Journal>,
    pub(crate) clock: Clock,
}

impl Shared {
    /// Opens the store of this configuration, and tells the watchers of every change of it.
    pub(crate) fn open(
        config: Config,
        clock: Clock,
        journal: Arc<Journal>,
        disk: Option<Disk>,
        watchers: impl IntoIterator<Item = Watcher>,
    ) -> Result<Self, DataError> {
        let (settings, groups, individuals) = Settings::split(config);
        let store = SharedStore::open(disk, groups, individuals)?;
        let store = watchers.into_iter().fold(store, SharedStore::watched);
        Ok(Self { store, settings: SharedSettings::new(settings), journal, clock })
    }
}
