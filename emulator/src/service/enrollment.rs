//! The settings of an enrollment for one device. The enrollment is a group or an individual enrollment.

use super::{attestation::Attested, hub_identity::authentication};
use crate::{
    config::{Allocation, ReprovisionPolicy, Twin, settings::Settings},
    store::{
        enrollments::{EntryRef, Kind, Stamp, Stored},
        hub_device::Authentication,
    },
};

#[derive(Clone, Debug)]
pub(super) struct Enrollment {
    pub(super) kind: Kind,
    /// The ID of the group or the individual enrollment.
    pub(super) id: String,
    pub(super) enabled: bool,
    pub(super) device_id: Option<String>,
    pub(super) attested: Attested,
    /// The credentials that the hub will accept from the device.
    pub(super) authentication: Authentication,
    pub(super) certificate_policy: Option<String>,
    pub(super) allocation: Allocation,
    pub(super) reprovision_policy: ReprovisionPolicy,
    pub(super) initial_twin: Twin,
    pub(super) iot_edge: bool,
    pub(super) stamp: Stamp,
}

impl Enrollment {
    /// Collects the settings for a device that proved `attested`.
    pub(super) fn new(
        Stored { entry, stamp }: Stored<'_>,
        attested: Attested,
        settings: &Settings,
        registration_id: &str,
    ) -> Self {
        let common = entry.common();
        Self {
            authentication: authentication(entry, &attested, settings, registration_id),
            kind: entry.kind(),
            id: common.id.to_owned(),
            enabled: common.enabled,
            device_id: match entry {
                EntryRef::Group(_) => None,
                EntryRef::Individual(individual) => individual.device_id.clone(),
            },
            attested,
            certificate_policy: common.certificate_policy.map(str::to_owned),
            allocation: common.allocation.clone(),
            reprovision_policy: common.reprovision_policy,
            initial_twin: common.initial_twin.clone(),
            iot_edge: common.iot_edge,
            stamp: stamp.clone(),
        }
    }

    /// Returns the ID of the group, if the enrollment is a group.
    pub(super) fn group(&self) -> Option<&str> {
        (self.kind == Kind::Group).then_some(&*self.id)
    }
}
