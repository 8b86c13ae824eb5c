//! The data of the service: enrollments, devices, their operations and twins. The store keeps the data within its
//! limits. `hub` and `service` decide what the data means.

mod at_hub;
pub(crate) mod device;
pub(crate) mod devices;
pub(crate) mod disk;
pub(crate) mod enrollments;
pub(crate) mod hub_device;
mod json_size;
pub(crate) mod merge;
pub(crate) mod registration_state;
mod renamed;
pub(crate) mod running;
pub(crate) mod shared;
pub(crate) mod tracked;
pub(crate) mod twin;

use self::{
    devices::Devices,
    enrollments::{Enrollments, Kind},
};
use crate::config::{EnrollmentGroup, IndividualEnrollment};

/// All data of the service. It is shared as a [`SharedStore`](shared::SharedStore).
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) enrollments: Enrollments,
    pub(crate) devices: Devices,
}

/// The changed entries, by their IDs in lower case.
pub(crate) struct Changed {
    pub(crate) enrollments: Vec<(Kind, String)>,
    pub(crate) devices: Vec<String>,
}

impl Store {
    /// Returns the entries that changed since the last call, if [`remember_changed`](Self::remember_changed) was
    /// called.
    fn take_changed(&mut self) -> Changed {
        let enrollments = [Kind::Group, Kind::Individual].into_iter().flat_map(|kind| {
            let changed = self.enrollments.take_changed(kind);
            changed.into_iter().map(move |id| (kind, id))
        });
        Changed { enrollments: enrollments.collect(), devices: self.devices.take_changed() }
    }

    fn remember_changed(&mut self) {
        self.enrollments.remember_changed();
        self.devices.remember_changed();
    }

    /// Restores these enrollments, and removes all devices.
    pub(crate) fn reset(&mut self, groups: Vec<EnrollmentGroup>, individuals: Vec<IndividualEnrollment>) {
        self.enrollments.reset(groups, individuals);
        self.devices.reset();
    }

    fn is_changed(&self) -> bool {
        self.enrollments.is_changed() || self.devices.tracked().is_changed()
    }

    fn keep_changes(&mut self) {
        self.enrollments.keep_changes();
        self.devices.keep_changes();
    }

    fn take_back_changes(&mut self) {
        self.enrollments.take_back_changes();
        self.devices.take_back_changes();
    }
}
