//! Changes of enrollments and settings, and what they do to registrations that are running.

use super::{Service, failure::Failure, operations::disabled};
use crate::{
    config::{Config, ConfigError, settings::Settings},
    store::{
        devices::Running,
        enrollments::{Enrollments, Kind},
        registration_state::RegistrationState,
    },
};
use std::sync::{Arc, PoisonError};

/// What has become of the enrollment through which a device came.
enum Standing {
    Enabled,
    Disabled,
    /// The enrollment was deleted, or another one takes precedence now.
    Gone,
}

impl Standing {
    fn of(enrollments: &Enrollments, running: &Running) -> Self {
        let (kind, id) = &running.enrollment;
        let enabled = match (kind, enrollments.individual(&running.registration_id)) {
            (Kind::Individual, individual) => individual.map(|individual| individual.entry.enabled),
            // A disabled individual enrollment shuts the device out of the group; an enabled one is the device's own
            // from now on.
            (Kind::Group, Some(individual)) => (!individual.entry.enabled).then_some(false),
            (Kind::Group, None) => enrollments.group(id).map(|group| group.entry.enabled),
        };
        match enabled {
            Some(true) => Self::Enabled,
            Some(false) => Self::Disabled,
            None => Self::Gone,
        }
    }
}

impl Service {
    /// Changes settings and enrollments. A registration that is running ends at once if its enrollment is disabled or
    /// gone.
    ///
    /// # Errors
    ///
    /// If the changed configuration cannot be used. Nothing is changed then.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
        let mut store = self.store();
        let store = &mut *store;
        let groups = store.enrollments.groups().map(|group| group.entry.clone()).collect();
        let individuals = store.enrollments.individuals().map(|individual| individual.entry.clone()).collect();
        let mut config = self.settings().join(groups, individuals);
        change(&mut config);
        config.check()?;
        let (settings, groups, individuals) = Settings::split(config);
        let settings = Arc::new(settings);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&settings);
        store.enrollments.replace(groups, individuals);
        for device in store.devices.iter_mut() {
            let Some(running) = device.running() else { continue };
            let (id, created) = (&running.registration_id, &running.created);
            let (state, why) = match Standing::of(&store.enrollments, running) {
                Standing::Enabled => continue,
                Standing::Disabled => (disabled(id, created, &settings.behaviour), "its enrollment was disabled"),
                Standing::Gone => {
                    let Failure { code, message } = Failure::enrollment_gone();
                    (RegistrationState::failed(id, code, message).stored(created), "its enrollment is gone")
                }
            };
            self.jobs.stop(device.end(state), why);
        }
        Ok(())
    }
}
