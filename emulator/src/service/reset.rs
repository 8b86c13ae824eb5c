//! Resets the emulator to its state after the start.

use super::{Service, lock, script::Scripts};
use crate::{
    clock::window::Window,
    config::settings::Settings,
    store::{Store, shared::NotKept},
};

impl Service {
    /// Restores the state after the start: settings and enrollments of the configuration, no devices, no records, no
    /// scripts, unused quotas. Certificate authorities and connections stay.
    pub(crate) fn reset(&self) -> Result<(), NotKept> {
        let (settings, groups, individuals) = Settings::split(self.initial.clone());
        let forget = |store: &mut Store| {
            store.reset(groups, individuals);
            Ok(())
        };
        self.shared.store.change(forget, |()| {
            self.shared.settings.set(settings);
            self.forget_all_but_the_store();
        })
    }

    /// Forgets all state outside the store. The store is locked meanwhile, so that no request sees a half reset.
    pub(super) fn forget_all_but_the_store(&self) {
        self.jobs.forget();
        *lock(&self.registrations) = Window::default();
        *lock(&self.operations) = Window::default();
        *lock(&self.scripts) = Scripts::default();
        self.shared.activity.reset();
        self.shared.journal.reset();
    }
}
