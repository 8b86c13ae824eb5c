//! What an enrollment says about one device, be it a group or an individual enrollment.

use super::attestation::Attested;
use crate::{
    config::{Allocation, EnrollmentGroup, IndividualEnrollment, ReprovisionPolicy, Twin},
    store::enrollments::{Kind, Stamp, Stamped},
};

#[derive(Clone, Debug)]
pub(super) struct Enrollment {
    pub(super) kind: Kind,
    /// The group's or the individual enrollment's name.
    pub(super) id: String,
    pub(super) enabled: bool,
    pub(super) device_id: Option<String>,
    pub(super) attested: Attested,
    pub(super) certificate_policy: Option<String>,
    pub(super) allocation: Allocation,
    pub(super) reprovision_policy: ReprovisionPolicy,
    pub(super) initial_twin: Twin,
    pub(super) iot_edge: bool,
    pub(super) stamp: Stamp,
}

impl Enrollment {
    pub(super) fn of_group(group: &Stamped<EnrollmentGroup>, attested: Attested) -> Self {
        let Stamped { entry: group, stamp } = group;
        Self {
            kind: Kind::Group,
            id: group.enrollment_group_id.clone(),
            enabled: group.enabled,
            device_id: None,
            attested,
            certificate_policy: group.certificate_policy.clone(),
            allocation: group.allocation.clone(),
            reprovision_policy: group.reprovision_policy,
            initial_twin: group.initial_twin.clone(),
            iot_edge: group.iot_edge,
            stamp: stamp.clone(),
        }
    }

    pub(super) fn of_individual(individual: &Stamped<IndividualEnrollment>, attested: Attested) -> Self {
        let Stamped { entry: individual, stamp } = individual;
        Self {
            kind: Kind::Individual,
            id: individual.registration_id.clone(),
            enabled: individual.enabled,
            device_id: individual.device_id.clone(),
            attested,
            certificate_policy: individual.certificate_policy.clone(),
            allocation: individual.allocation.clone(),
            reprovision_policy: individual.reprovision_policy,
            initial_twin: individual.initial_twin.clone(),
            iot_edge: individual.iot_edge,
            stamp: stamp.clone(),
        }
    }

    /// The group's name, if it is a group.
    pub(super) fn group(&self) -> Option<&str> {
        (self.kind == Kind::Group).then_some(&*self.id)
    }
}
