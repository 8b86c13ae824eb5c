//! The state that DPS and the hubs share.

use std::sync::Arc;

use super::activity::Activity;
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

/// The store, the settings, the journal, the clock, and the activity of devices at their hubs.
pub(crate) struct Shared {
    pub(crate) store: SharedStore,
    pub(crate) settings: SharedSettings,
    pub(crate) journal: Arc<Journal>,
    pub(crate) clock: Clock,
    pub(crate) activity: Arc<Activity>,
}

impl Shared {
    /// Opens the store of this configuration. The watchers are called with every change of the store.
    pub(crate) fn open(
        config: Config,
        clock: Clock,
        journal: Arc<Journal>,
        disk: Option<Disk>,
        activity: Arc<Activity>,
        watchers: impl IntoIterator<Item = Watcher>,
    ) -> Result<Self, DataError> {
        let (settings, groups, individuals) = Settings::split(config);
        let store = SharedStore::open(disk, groups, individuals)?;
        for watcher in watchers {
            store.watch(watcher);
        }
        Ok(Self { store, settings: SharedSettings::new(settings), journal, clock, activity })
    }
}
