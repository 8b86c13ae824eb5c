//! Changes enrollments and settings, and ends the running registrations that a change affects.

use std::fmt;

use serde_json::{Map, Value};

use crate::{
    config::{Behaviour, Config, ConfigError, finding::Path, rules::behaviour_errors, settings::Settings},
    service::{Service, failure::Failure, operations::disabled},
    store::{
        Store,
        device::Device,
        enrollments::{Enrollments, Kind},
        registration_state::RegistrationState,
        running::Running,
        shared::NotKept,
    },
};

/// Why settings and enrollments were not changed.
#[derive(Debug)]
pub(crate) enum UpdateError {
    Config(ConfigError),
    NotKept(NotKept),
}

impl From<ConfigError> for UpdateError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<NotKept> for UpdateError {
    fn from(error: NotKept) -> Self {
        Self::NotKept(error)
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "the configuration cannot be used: {error}"),
            Self::NotKept(NotKept(why)) => f.write_str(why),
        }
    }
}

/// The state of the enrollment of a running registration, after a change.
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
            // A disabled individual enrollment excludes the device from the group. An enabled one replaces the group
            // for this device.
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
    /// Changes settings of `[behaviour]`, as [`Behaviour::changed`](crate::config::Behaviour::changed) reads them.
    pub(crate) fn change_behaviour(&self, switches: &Map<String, Value>) -> Result<(), String> {
        // Settings change only while the store is locked.
        let _locked = self.store();
        let settings = self.settings();
        let behaviour = settings.behaviour.changed(switches)?;
        if let Some(error) = behaviour_errors(&behaviour, &Path::default()).first() {
            return Err(error.to_string());
        }
        if behaviour.tls13 != settings.behaviour.tls13 {
            return Err("tls13: it cannot change while the emulator runs".to_owned());
        }
        self.shared.settings.set(settings.with(behaviour));
        Ok(())
    }

    /// Changes settings and enrollments. A running registration ends at once if its enrollment is disabled or no
    /// longer applies.
    ///
    /// # Errors
    ///
    /// Returns an error if the changed configuration is not valid or cannot be written. The old configuration stays.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Config)) -> Result<(), UpdateError> {
        let changed = |store: &mut Store| {
            let groups = store.enrollments.groups().map(|group| group.entry.clone()).collect();
            let individuals = store.enrollments.individuals().map(|individual| individual.entry.clone()).collect();
            let mut config = self.settings().join(groups, individuals);
            change(&mut config);
            config.check()?;
            let (settings, groups, individuals) = Settings::split(config);
            store.enrollments.replace(groups, individuals);
            let ended = end_registrations(store, &settings.behaviour, None);
            Ok((settings, ended))
        };
        self.shared.store.change(changed, |(settings, ended)| {
            self.shared.settings.set(settings);
            self.stop(ended);
        })
    }

    /// Stops the tasks of registrations that ended.
    pub(in crate::service) fn stop(&self, ended: Vec<Ended>) {
        for (operation_id, why) in ended {
            self.jobs.stop(operation_id, why);
        }
    }
}

/// The operation ID of a registration that ended, and the reason.
pub(in crate::service) type Ended = (Option<String>, &'static str);

/// Ends the registrations whose enrollment was disabled or no longer applies. With `only`, it checks the registration
/// of one device.
pub(in crate::service) fn end_registrations(
    store: &mut Store,
    behaviour: &Behaviour,
    only: Option<&str>,
) -> Vec<Ended> {
    let all = only.is_none().then(|| store.devices.iter().map(|(_, device)| device));
    let one = only.and_then(|id| store.devices.get(id));
    let mut ends = Vec::new();
    for running in all.into_iter().flatten().chain(one).filter_map(Device::running) {
        let (id, created) = (&running.registration_id, &running.created);
        match Standing::of(&store.enrollments, running) {
            Standing::Enabled => {}
            Standing::Disabled => {
                ends.push((id.clone(), disabled(id, created, behaviour), "its enrollment was disabled"));
            }
            Standing::Gone => {
                let Failure { code, message } = Failure::enrollment_gone();
                let state = RegistrationState::failed(id, code, message).stored(created);
                ends.push((id.clone(), state, "its enrollment was deleted or replaced"));
            }
        }
    }
    ends.into_iter()
        .map(|(id, state, why)| (store.devices.get_mut(&id).and_then(|device| device.end(state)), why))
        .collect()
}
