//! The entity tags and times of enrollments, which change when the enrollment does.

use std::collections::HashMap;

use crate::{
    clock::wall_time,
    config::{Config, EnrollmentGroup, IndividualEnrollment},
    enrollment::{Enrollment, Kind},
    identity::ids,
};

/// One enrollment's version.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) etag: String,
    pub(crate) created: String,
    pub(crate) updated: String,
}

impl Stamp {
    fn new() -> Self {
        let now = wall_time::now();
        Self { etag: ids::enrollment_etag(), created: now.clone(), updated: now }
    }
}

/// What an enrollment says, to see whether it has changed.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    Group(EnrollmentGroup),
    Individual(IndividualEnrollment),
}

/// All enrollments' versions, by their names in lower case.
#[derive(Debug, Default)]
pub(crate) struct Stamps(HashMap<(Kind, String), (Content, Stamp)>);

impl Stamps {
    /// Stamps what is new or has changed, and forgets what is gone.
    pub(crate) fn update(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.0);
        let groups = config.enrollment_groups.iter().map(|group| {
            let key = (Kind::Group, group.enrollment_group_id.to_ascii_lowercase());
            (key, Content::Group(group.clone()))
        });
        let individuals = config.individual_enrollments.iter().map(|individual| {
            let key = (Kind::Individual, individual.registration_id.to_ascii_lowercase());
            (key, Content::Individual(individual.clone()))
        });
        for (key, content) in groups.chain(individuals) {
            let stamp = match before.remove(&key) {
                Some((same, stamp)) if same == content => stamp,
                Some((_, old)) => Stamp { created: old.created, ..Stamp::new() },
                None => Stamp::new(),
            };
            self.0.insert(key, (content, stamp));
        }
    }

    pub(crate) fn of(&self, enrollment: &Enrollment) -> Stamp {
        self.0
            .get(&(enrollment.kind, enrollment.id.to_ascii_lowercase()))
            .map_or_else(Stamp::new, |(_, stamp)| stamp.clone())
    }
}
