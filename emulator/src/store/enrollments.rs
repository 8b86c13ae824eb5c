//! The enrollments, in their order, each with its entity tag and times.
//!
//! Every change goes through `Enrollments::set` or `Enrollments::remove`.

use serde::{Deserialize, Serialize};

use std::collections::HashSet;

use super::{
    json_size::map_size,
    tracked::{Row, Tracked},
};
use crate::{
    clock::wall_time,
    config::{EnrollmentGroup, IndividualEnrollment, X509Attestation, enrollments::Common},
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

/// A borrowed enrollment of either kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EntryRef<'a> {
    Group(&'a EnrollmentGroup),
    Individual(&'a IndividualEnrollment),
}

impl Entry {
    pub(crate) fn as_ref(&self) -> EntryRef<'_> {
        match self {
            Self::Group(group) => EntryRef::Group(group),
            Self::Individual(individual) => EntryRef::Individual(individual),
        }
    }

    pub(crate) fn enabled_mut(&mut self) -> &mut bool {
        match self {
            Self::Group(group) => &mut group.enabled,
            Self::Individual(individual) => &mut individual.enabled,
        }
    }
}

impl<'a> EntryRef<'a> {
    pub(crate) fn to_entry(self) -> Entry {
        match self {
            Self::Group(group) => Entry::Group(group.clone()),
            Self::Individual(individual) => Entry::Individual(individual.clone()),
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Group(_) => Kind::Group,
            Self::Individual(_) => Kind::Individual,
        }
    }

    pub(crate) fn common(self) -> Common<'a> {
        match self {
            Self::Group(group) => group.common(),
            Self::Individual(individual) => individual.common(),
        }
    }

    /// Returns about how many bytes of memory the parts take whose size a client chooses.
    fn size(self) -> usize {
        let (x509, information) = match self {
            Self::Group(group) => (&group.x509, 0),
            Self::Individual(individual) => (&individual.x509, map_size(&individual.optional_device_information)),
        };
        let Common { initial_twin, allocation, .. } = self.common();
        let certificates = x509.iter().flat_map(X509Attestation::certificates);
        map_size(&initial_twin.tags)
            + map_size(&initial_twin.desired)
            + information
            + certificates.map(|certificate| certificate.der().len()).sum::<usize>()
            + allocation.webhook_url.as_ref().map_or(0, String::len)
    }
}

impl Kind {
    /// Returns the name of the kind in the control API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Individual => "individual",
        }
    }
}

/// The version of an enrollment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Stamp {
    /// The entity tag with its quotes.
    pub(crate) etag: String,
    pub(crate) created: String,
    pub(crate) updated: String,
}

impl Stamp {
    /// Creates the stamp of a changed enrollment. The time of creation stays.
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

/// A borrowed enrollment of either kind and its version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) entry: EntryRef<'a>,
    pub(crate) stamp: &'a Stamp,
}

impl<'a> From<&'a Stamped<EnrollmentGroup>> for Stored<'a> {
    fn from(Stamped { entry, stamp }: &'a Stamped<EnrollmentGroup>) -> Self {
        Self { entry: EntryRef::Group(entry), stamp }
    }
}

impl<'a> From<&'a Stamped<IndividualEnrollment>> for Stored<'a> {
    fn from(Stamped { entry, stamp }: &'a Stamped<IndividualEnrollment>) -> Self {
        Self { entry: EntryRef::Individual(entry), stamp }
    }
}

/// The limits of the enrollments.
#[derive(Debug)]
struct Limits {
    /// The number of enrollments of both kinds. The real service allows 100 groups and a million individual
    /// enrollments.
    enrollments: usize,
    /// The bytes of all initial twins and device information.
    size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { enrollments: 100_000, size: 256 * 1024 * 1024 }
    }
}

/// There is no room for another one.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// All enrollments, by their IDs in lower case.
///
/// If several groups let a device in, the group that was created first applies.
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

    /// Returns the individual enrollments, by their registration IDs.
    pub(crate) fn individuals(&self) -> impl Iterator<Item = &Stamped<IndividualEnrollment>> {
        self.individuals.values()
    }

    pub(crate) fn get(&self, kind: Kind, id: &str) -> Option<Stored<'_>> {
        match kind {
            Kind::Group => self.group(id).map(Stored::from),
            Kind::Individual => self.individual(id).map(Stored::from),
        }
    }

    /// Returns the keys of the enrollments of this kind that changed since the last call.
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

    /// Returns the IDs in lower case.
    pub(crate) fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let (groups, individuals) = match kind {
            Kind::Group => (Some(self.groups.keys()), None),
            Kind::Individual => (None, Some(self.individuals.keys())),
        };
        groups.into_iter().flatten().chain(individuals.into_iter().flatten())
    }

    /// Returns the first IDs after this one, in lower case and in their order.
    pub(crate) fn page(&self, kind: Kind, after: &str, limit: usize) -> Vec<&str> {
        match kind {
            Kind::Group => self.groups.page(after, limit),
            Kind::Individual => self.individuals.page(after, limit),
        }
    }

    /// Creates or replaces an enrollment, and gives it a new stamp.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no room. Nothing is changed then.
    pub(crate) fn put(&mut self, entry: Entry) -> Result<(), Full> {
        let stored = self.stored(entry.as_ref());
        let is_full = stored.is_none() && self.groups.len() + self.individuals.len() >= self.limits.enrollments;
        let (before, size) = (stored.map_or(0, |stored| stored.entry.size()), entry.as_ref().size());
        if is_full || (size > before && self.size.saturating_sub(before) + size > self.limits.size) {
            return Err(Full);
        }
        let stamp = Stamp::after(stored.map(|stored| stored.stamp));
        self.set(entry, stamp);
        Ok(())
    }

    /// Sets an enrollment with this stamp.
    fn set(&mut self, entry: Entry, stamp: Stamp) {
        let before = self.stored(entry.as_ref()).map_or(0, |stored| stored.entry.size());
        self.size = (self.size + entry.as_ref().size()).saturating_sub(before);
        let key = entry.as_ref().common().id.to_ascii_lowercase();
        match entry {
            Entry::Group(entry) => drop(self.groups.insert(key, Stamped { entry, stamp })),
            Entry::Individual(entry) => drop(self.individuals.insert(key, Stamped { entry, stamp })),
        }
    }

    /// Deletes an enrollment. Returns `false` if it does not exist.
    pub(crate) fn remove(&mut self, kind: Kind, id: &str) -> bool {
        let Some(stored) = self.get(kind, id) else { return false };
        self.size = self.size.saturating_sub(stored.entry.size());
        let key = id.to_ascii_lowercase();
        match kind {
            Kind::Group => drop(self.groups.remove(&key)),
            // The order of individual enrollments does not matter.
            Kind::Individual => drop(self.individuals.swap_remove(&key)),
        }
        true
    }

    /// Returns the stored enrollment of the same kind and ID.
    fn stored(&self, entry: EntryRef<'_>) -> Option<Stored<'_>> {
        self.get(entry.kind(), entry.common().id)
    }

    /// Replaces all enrollments by those of the configuration, without limits. The stamp of an unchanged enrollment
    /// stays. A changed enrollment keeps its time of creation.
    pub(crate) fn replace(&mut self, groups: Vec<EnrollmentGroup>, individuals: Vec<IndividualEnrollment>) {
        let stamped: Vec<_> = entries(groups, individuals)
            .map(|entry| {
                let stamp = match self.stored(entry.as_ref()) {
                    Some(before) if before.entry == entry.as_ref() => before.stamp.clone(),
                    before => Stamp::after(before.map(|before| before.stamp)),
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

    /// Replaces all enrollments and forgets that others existed.
    pub(crate) fn reset(&mut self, groups: Vec<EnrollmentGroup>, individuals: Vec<IndividualEnrollment>) {
        self.groups.reset();
        self.individuals.reset();
        self.replace(groups, individuals);
    }

    /// Adds the enrollments whose IDs were never known.
    pub(super) fn add_unknown(
        &mut self,
        groups: Vec<EnrollmentGroup>,
        individuals: Vec<IndividualEnrollment>,
        known: &Known,
    ) {
        for entry in entries(groups, individuals) {
            let names = match entry {
                Entry::Group(_) => &known.groups,
                Entry::Individual(_) => &known.individuals,
            };
            if !names.contains(&entry.as_ref().common().id.to_ascii_lowercase()) {
                self.set(entry, Stamp::after(None));
            }
        }
    }

    /// Loads the rows of the disk. Returns the known IDs, including those of deleted enrollments.
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
        let groups = self.groups.values().map(|group| EntryRef::Group(&group.entry));
        let individuals = self.individuals.values().map(|individual| EntryRef::Individual(&individual.entry));
        self.size = groups.chain(individuals).map(EntryRef::size).sum();
    }
}

/// The IDs in lower case that enrollments have or once had.
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
            // A replacement needs only the additional room.
            (group("A", 5000), Ok(())),
            (group("a", 9000), Err(Full)),
            (individual("A"), Ok(())),
        ] {
            assert_eq!(enrollments.put(entry.clone()), result, "{entry:?}");
        }
        assert_eq!(enrollments.group("a").unwrap().entry.enrollment_group_id, "A");
        // A deletion makes room.
        assert!(enrollments.remove(Kind::Group, "B"));
        assert!(!enrollments.remove(Kind::Group, "b"));
        assert_eq!(enrollments.put(individual("b")), Ok(()));
        assert_eq!(enrollments.put(group("a", 9000)), Ok(()));
        let names = |kind| enrollments.page(kind, "", 9);
        assert_eq!((names(Kind::Group), names(Kind::Individual)), (vec!["a"], vec!["a", "b"]));
        assert_eq!(enrollments.page(Kind::Individual, "A", 9), ["b"]);
    }

    #[test]
    fn a_changed_enrollment_has_a_new_tag_and_its_time_of_creation() {
        let mut enrollments = Enrollments::default();
        let stamp = |enrollments: &Enrollments| enrollments.get(Kind::Group, "g").unwrap().stamp.clone();
        enrollments.put(group("g", 1)).unwrap();
        let first = stamp(&enrollments);
        assert_eq!(first.created, first.updated);
        // A change without effect also gets a new tag, because a client with the first tag must be rejected.
        enrollments.put(group("G", 1)).unwrap();
        let second = stamp(&enrollments);
        assert_eq!(second.created, first.created);
        assert_ne!(second.etag, first.etag);
        // A new configuration gives new stamps only to changed enrollments.
        let same = enrollments.group("g").unwrap().entry.clone();
        enrollments.replace(vec![same.clone()], vec![]);
        assert_eq!(stamp(&enrollments).etag, second.etag);
        enrollments.replace(vec![EnrollmentGroup { enabled: false, ..same }], vec![]);
        assert_ne!(stamp(&enrollments).etag, second.etag);
        assert_eq!(stamp(&enrollments).created, first.created);
    }
}
