//! The enrollments, in their order, each with its entity tag and times.
//!
//! Every change ends in `Enrollments::set` or `Enrollments::remove`.

use serde::{Deserialize, Serialize};

use std::collections::HashSet;

use super::{
    tracked::{Row, Tracked},
    twin_size::{map_size, twin_size},
};
use crate::{
    clock::wall_time,
    config::{Allocation, EnrollmentGroup, IndividualEnrollment, X509Attestation},
    identity::ids,
};

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Kind {
    Group,
    Individual,
}

/// An enrollment of either kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    Group(EnrollmentGroup),
    Individual(IndividualEnrollment),
}

impl Entry {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Group(group) => &group.enrollment_group_id,
            Self::Individual(individual) => &individual.registration_id,
        }
    }

    pub(crate) fn enabled_mut(&mut self) -> &mut bool {
        match self {
            Self::Group(group) => &mut group.enabled,
            Self::Individual(individual) => &mut individual.enabled,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Group(_) => Kind::Group,
            Self::Individual(_) => Kind::Individual,
        }
    }

    /// About how much memory the parts take whose size a client chooses.
    fn size(&self) -> usize {
        match self {
            Self::Group(group) => group_size(group),
            Self::Individual(individual) => individual_size(individual),
        }
    }
}

impl Kind {
    /// How the control API names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Individual => "individual",
        }
    }
}

fn group_size(group: &EnrollmentGroup) -> usize {
    twin_size(&group.initial_twin) + shared_size(group.x509.as_ref(), &group.allocation)
}

fn individual_size(individual: &IndividualEnrollment) -> usize {
    twin_size(&individual.initial_twin)
        + map_size(&individual.optional_device_information)
        + shared_size(individual.x509.as_ref(), &individual.allocation)
}

/// What both kinds have.
fn shared_size(x509: Option<&X509Attestation>, allocation: &Allocation) -> usize {
    let certificates = x509.into_iter().flat_map(X509Attestation::certificates);
    certificates.map(|certificate| certificate.der().len()).sum::<usize>()
        + allocation.webhook_url.as_ref().map_or(0, String::len)
}

/// The version of an enrollment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Stamp {
    /// With its quotes.
    pub(crate) etag: String,
    pub(crate) created: String,
    pub(crate) updated: String,
}

impl Stamp {
    /// The stamp of a changed enrollment: the time of creation stays.
    fn after(before: Option<&Self>) -> Self {
        let now = wall_time::now();
        let created = before.map_or_else(|| now.clone(), |before| before.created.clone());
        Self { etag: ids::enrollment_etag(), created, updated: now }
    }
}

/// An enrollment and its version.
#[derive(Clone, Debug)]
pub(crate) struct Stamped<E> {
    pub(crate) entry: E,
    pub(crate) stamp: Stamp,
}

impl<E: Clone> Stamped<E> {
    fn map<T>(&self, make: fn(E) -> T) -> Stamped<T> {
        Stamped { entry: make(self.entry.clone()), stamp: self.stamp.clone() }
    }
}

/// The most that is kept.
#[derive(Debug)]
struct Limits {
    /// Enrollments of both kinds. The real service has 100 groups and a million individual enrollments.
    enrollments: usize,
    /// Bytes of all initial twins and device information.
    size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { enrollments: 100_000, size: 256 * 1024 * 1024 }
    }
}

/// There is no room for one more.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// All enrollments, by their names in lower case.
///
/// A device that several groups let in belongs to the group that was created first.
#[derive(Debug, Default)]
pub(crate) struct Enrollments {
    groups: Tracked<Stamped<EnrollmentGroup>>,
    individuals: Tracked<Stamped<IndividualEnrollment>>,
    /// The sum of all sizes.
    size: usize,
    limits: Limits,
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

    /// The individual enrollments, by their registration IDs.
    pub(crate) fn individuals(&self) -> impl Iterator<Item = &Stamped<IndividualEnrollment>> {
        self.individuals.values()
    }

    /// An enrollment, which is copied.
    pub(crate) fn get(&self, kind: Kind, id: &str) -> Option<Stamped<Entry>> {
        match kind {
            Kind::Group => self.group(id).map(|stamped| stamped.map(Entry::Group)),
            Kind::Individual => self.individual(id).map(|stamped| stamped.map(Entry::Individual)),
        }
    }

    /// Returns the keys of the enrollments of this kind that were changed since the last call.
    pub(super) fn take_changed(&mut self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::Group => self.groups.take_changed(),
            Kind::Individual => self.individuals.take_changed(),
        }
    }

    pub(super) fn remember_changed(&mut self) {
        self.groups.remember_changed();
        self.individuals.remember_changed();
    }

    /// The version of an enrollment.
    pub(crate) fn stamp(&self, kind: Kind, id: &str) -> Option<&Stamp> {
        match kind {
            Kind::Group => self.group(id).map(|group| &group.stamp),
            Kind::Individual => self.individual(id).map(|individual| &individual.stamp),
        }
    }

    /// The names in lower case.
    pub(crate) fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let (groups, individuals) = match kind {
            Kind::Group => (Some(self.groups.keys()), None),
            Kind::Individual => (None, Some(self.individuals.keys())),
        };
        groups.into_iter().flatten().chain(individuals.into_iter().flatten())
    }

    /// The names in lower case that come after `after`, in their order.
    pub(crate) fn names_after(&self, kind: Kind, after: Option<&str>) -> Vec<&str> {
        let comes_after = |name: &&str| after.is_none_or(|after| *name > after);
        let mut names: Vec<_> = self.names(kind).filter(comes_after).collect();
        names.sort_unstable();
        names
    }

    /// Creates or replaces an enrollment, and gives it a new stamp.
    ///
    /// # Errors
    ///
    /// If there is no room. Nothing is changed then.
    pub(crate) fn put(&mut self, entry: Entry) -> Result<(), Full> {
        let before = self.size_of(entry.kind(), entry.id());
        let size = entry.size();
        let is_full = match before {
            None => self.groups.len() + self.individuals.len() >= self.limits.enrollments,
            Some(_) => false,
        };
        let before = before.unwrap_or_default();
        if is_full || (size > before && self.size.saturating_sub(before) + size > self.limits.size) {
            return Err(Full);
        }
        let stamp = Stamp::after(self.stamp(entry.kind(), entry.id()));
        self.set(entry, stamp);
        Ok(())
    }

    /// Sets an enrollment with this stamp.
    fn set(&mut self, entry: Entry, stamp: Stamp) {
        self.size += entry.size();
        self.size = self.size.saturating_sub(self.size_of(entry.kind(), entry.id()).unwrap_or_default());
        let key = entry.id().to_ascii_lowercase();
        match entry {
            Entry::Group(entry) => drop(self.groups.insert(key, Stamped { entry, stamp })),
            Entry::Individual(entry) => drop(self.individuals.insert(key, Stamped { entry, stamp })),
        }
    }

    /// Deletes an enrollment. Returns `false` if there is none.
    pub(crate) fn remove(&mut self, kind: Kind, id: &str) -> bool {
        let Some(size) = self.size_of(kind, id) else { return false };
        self.size = self.size.saturating_sub(size);
        let key = id.to_ascii_lowercase();
        match kind {
            Kind::Group => drop(self.groups.remove(&key)),
            // Individual enrollments have no order that matters.
            Kind::Individual => drop(self.individuals.swap_remove(&key)),
        }
        true
    }

    fn size_of(&self, kind: Kind, id: &str) -> Option<usize> {
        match kind {
            Kind::Group => self.group(id).map(|group| group_size(&group.entry)),
            Kind::Individual => self.individual(id).map(|individual| individual_size(&individual.entry)),
        }
    }

    /// Replaces all enrollments by the configuration's, which no limit counts for. The stamp of one that is as before
    /// stays; a changed one keeps its time of creation.
    pub(crate) fn replace(&mut self, groups: Vec<EnrollmentGroup>, individuals: Vec<IndividualEnrollment>) {
        let stamped: Vec<_> = entries(groups, individuals)
            .map(|entry| {
                let stamp = match self.get(entry.kind(), entry.id()) {
                    Some(before) if before.entry == entry => before.stamp,
                    before => Stamp::after(before.map(|before| before.stamp).as_ref()),
                };
                (entry, stamp)
            })
            .collect();
        self.groups.clear();
        self.individuals.clear();
        self.size = 0;
        for (entry, stamp) in stamped {
            self.set(entry, stamp);
        }
    }

    /// Goes back to these enrollments, as if there had never been others.
    pub(crate) fn reset(&mut self, groups: Vec<EnrollmentGroup>, individuals: Vec<IndividualEnrollment>) {
        self.groups.reset();
        self.individuals.reset();
        self.replace(groups, individuals);
    }

    /// Adds the enrollments whose names were never known.
    pub(super) fn add_unknown(
        &mut self,
        groups: Vec<EnrollmentGroup>,
        individuals: Vec<IndividualEnrollment>,
        known: &Known,
    ) {
        for entry in entries(groups, individuals) {
            let names = match entry.kind() {
                Kind::Group => &known.groups,
                Kind::Individual => &known.individuals,
            };
            if !names.contains(&entry.id().to_ascii_lowercase()) {
                self.set(entry, Stamp::after(None));
            }
        }
    }

    /// Takes the rows of the disk. Returns the names that are known, those of deleted enrollments too.
    pub(super) fn load(
        &mut self,
        groups: Vec<Row<Stamped<EnrollmentGroup>>>,
        individuals: Vec<Row<Stamped<IndividualEnrollment>>>,
    ) -> Known {
        let known = Known {
            groups: groups.iter().map(|(key, _)| key.clone()).collect(),
            individuals: individuals.iter().map(|(key, _)| key.clone()).collect(),
        };
        self.groups.load(groups);
        self.individuals.load(individuals);
        self.recount();
        known
    }

    pub(super) fn tracked_groups(&self) -> &Tracked<Stamped<EnrollmentGroup>> {
        &self.groups
    }

    pub(super) fn tracked_individuals(&self) -> &Tracked<Stamped<IndividualEnrollment>> {
        &self.individuals
    }

    pub(super) fn is_changed(&self) -> bool {
        self.groups.is_changed() || self.individuals.is_changed()
    }

    pub(super) fn keep_changes(&mut self) {
        self.groups.keep_changes();
        self.individuals.keep_changes();
    }

    pub(super) fn take_back_changes(&mut self) {
        self.groups.take_back_changes();
        self.individuals.take_back_changes();
        self.recount();
    }

    fn recount(&mut self) {
        let groups = self.groups.values().map(|group| group_size(&group.entry));
        let individuals = self.individuals.values().map(|individual| individual_size(&individual.entry));
        self.size = groups.chain(individuals).sum();
    }
}

/// The names in lower case that enrollments have or once had.
#[derive(Debug)]
pub(super) struct Known {
    groups: HashSet<String>,
    individuals: HashSet<String>,
}

fn entries(groups: Vec<EnrollmentGroup>, individuals: Vec<IndividualEnrollment>) -> impl Iterator<Item = Entry> {
    groups.into_iter().map(Entry::Group).chain(individuals.into_iter().map(Entry::Individual))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Twin;

    fn group(id: &str, text: usize) -> Entry {
        let tags = [("a".to_owned(), "x".repeat(text).into())].into_iter().collect();
        let initial_twin = Twin { tags, ..Twin::default() };
        Entry::Group(EnrollmentGroup { enrollment_group_id: id.to_owned(), initial_twin, ..EnrollmentGroup::default() })
    }

    fn individual(id: &str) -> Entry {
        Entry::Individual(IndividualEnrollment { registration_id: id.to_owned(), ..IndividualEnrollment::default() })
    }

    #[test]
    fn enrollments_are_bounded() {
        let mut enrollments = Enrollments { limits: Limits { enrollments: 3, size: 10_000 }, ..Enrollments::default() };
        for (entry, result) in [
            (group("a", 4000), Ok(())),
            (group("b", 4000), Ok(())),
            (individual("a"), Ok(())),
            (individual("b"), Err(Full)),
            // One that is there already needs no more room than it takes.
            (group("A", 5000), Ok(())),
            (group("a", 9000), Err(Full)),
            (individual("A"), Ok(())),
        ] {
            assert_eq!(enrollments.put(entry.clone()), result, "{entry:?}");
        }
        assert_eq!(enrollments.group("a").unwrap().entry.enrollment_group_id, "A");
        // What is deleted makes room.
        assert!(enrollments.remove(Kind::Group, "B"));
        assert!(!enrollments.remove(Kind::Group, "b"));
        assert_eq!(enrollments.put(individual("b")), Ok(()));
        assert_eq!(enrollments.put(group("a", 9000)), Ok(()));
        let names = |kind| enrollments.names_after(kind, None);
        assert_eq!((names(Kind::Group), names(Kind::Individual)), (vec!["a"], vec!["a", "b"]));
        assert_eq!(enrollments.names_after(Kind::Individual, Some("a")), ["b"]);
    }

    #[test]
    fn a_changed_enrollment_has_a_new_tag_and_its_time_of_creation() {
        let mut enrollments = Enrollments::default();
        let stamp = |enrollments: &Enrollments| enrollments.stamp(Kind::Group, "g").unwrap().clone();
        enrollments.put(group("g", 1)).unwrap();
        let first = stamp(&enrollments);
        assert_eq!(first.created, first.updated);
        // Also if it says the same as before: the next one who sends the first tag comes too late.
        enrollments.put(group("G", 1)).unwrap();
        let second = stamp(&enrollments);
        assert_eq!(second.created, first.created);
        assert_ne!(second.etag, first.etag);
        // The configuration changes only what is not as before.
        let Some(Stamped { entry: Entry::Group(same), .. }) = enrollments.get(Kind::Group, "g") else { panic!() };
        enrollments.replace(vec![same.clone()], vec![]);
        assert_eq!(stamp(&enrollments).etag, second.etag);
        enrollments.replace(vec![EnrollmentGroup { enabled: false, ..same }], vec![]);
        assert_ne!(stamp(&enrollments).etag, second.etag);
        assert_eq!(stamp(&enrollments).created, first.created);
    }
}
