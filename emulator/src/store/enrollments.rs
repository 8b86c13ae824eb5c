//! The enrollments, in their order, each with its entity tag and times.

use serde::{Deserialize, Serialize};

use super::tracked::Tracked;
use crate::{
    clock::wall_time,
    config::{EnrollmentGroup, IndividualEnrollment},
    identity::ids,
};

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Kind {
    Group,
    Individual,
}

/// The version of an enrollment.
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

/// An enrollment and its version.
#[derive(Clone, Debug)]
pub(crate) struct Stamped<E> {
    pub(crate) entry: E,
    pub(crate) stamp: Stamp,
}

/// All enrollments, by their names in lower case.
#[derive(Debug, Default)]
pub(crate) struct Enrollments {
    groups: Tracked<Stamped<EnrollmentGroup>>,
    individuals: Tracked<Stamped<IndividualEnrollment>>,
}

impl Enrollments {
    pub(crate) fn group(&self, id: &str) -> Option<&Stamped<EnrollmentGroup>> {
        self.groups.get(&id.to_ascii_lowercase())
    }

    pub(crate) fn individual(&self, registration_id: &str) -> Option<&Stamped<IndividualEnrollment>> {
        self.individuals.get(&registration_id.to_ascii_lowercase())
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Stamped<EnrollmentGroup>> {
        self.groups.values()
    }

    pub(crate) fn individuals(&self) -> impl Iterator<Item = &Stamped<IndividualEnrollment>> {
        self.individuals.values()
    }

    /// Replaces all enrollments. The stamp of one that is as before stays; a changed one keeps its time of creation.
    pub(crate) fn replace(&mut self, groups: Vec<EnrollmentGroup>, individuals: Vec<IndividualEnrollment>) {
        replace(&mut self.groups, groups, |group| &group.enrollment_group_id);
        replace(&mut self.individuals, individuals, |individual| &individual.registration_id);
    }
}

fn replace<E: Clone + PartialEq>(stored: &mut Tracked<Stamped<E>>, entries: Vec<E>, id: fn(&E) -> &str) {
    let entries: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let key = id(&entry).to_ascii_lowercase();
            let stamp = match stored.get(&key) {
                Some(old) if old.entry == entry => old.stamp.clone(),
                Some(old) => Stamp { created: old.stamp.created.clone(), ..Stamp::new() },
                None => Stamp::new(),
            };
            (key, Stamped { entry, stamp })
        })
        .collect();
    stored.clear();
    for (key, stamped) in entries {
        stored.insert(key, stamped);
    }
}
