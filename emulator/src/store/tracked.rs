//! A map that tracks its changes, so that all changes are written together or undone together.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

/// An entry with its key. The value is `None` if the entry was deleted.
pub(super) type Row<V> = (String, Option<Numbered<V>>);

/// Entries by their keys, in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Tracked<V> {
    entries: IndexMap<String, Numbered<V>>,
    /// The number of the entry that was added last.
    last: u64,
    /// The entries before the changes that are not written yet. The value is `None` for a new entry. `None` as a
    /// whole if the map is not written to disk.
    before: Option<HashMap<String, Option<Numbered<V>>>>,
    /// The keys of the entries that changed since `take_changed`. `None` if there are no watchers.
    changed: Option<IndexSet<String>>,
    /// `true` if everything before these changes was forgotten, including deleted entries.
    was_reset: bool,
}

/// An entry and its place in the order.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<V> {
    pub(crate) number: u64,
    pub(crate) value: V,
}

impl<V> Default for Tracked<V> {
    fn default() -> Self {
        Self { entries: IndexMap::new(), last: 0, before: None, changed: None, was_reset: false }
    }
}

impl<V: Clone> Tracked<V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Returns the entry and its key as it is stored.
    pub(crate) fn get_key_value(&self, key: &str) -> Option<(&str, &V)> {
        self.entries.get_key_value(key).map(|(key, entry)| (&**key, &entry.value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(key, entry)| (&**key, &entry.value))
    }

    /// Returns the keys of the first entries after this key, which may be in any case, in their order.
    pub(crate) fn page(&self, after: &str, limit: usize) -> Vec<&str> {
        let after = after.to_ascii_lowercase();
        let mut page: Vec<_> = self.keys().filter(|key| **key > *after).collect();
        // Sort only the page, not all entries.
        if page.len() > limit {
            page.select_nth_unstable(limit);
            page.truncate(limit);
        }
        page.sort_unstable();
        page
    }

    /// Returns the entry for a change.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.contains_key(key).then(|| self.touch(key))?;
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Adds an entry at the end, or replaces an entry in its place.
    pub(crate) fn insert(&mut self, key: String, value: V) -> &mut V {
        self.touch(&key);
        let number = self.entries.get(&key).map_or(self.last + 1, |entry| entry.number);
        self.last = self.last.max(number);
        let place = self.entries.insert_full(key, Numbered { number, value }).0;
        &mut self.entries[place].value
    }

    /// Returns the entry, which is added if it is new.
    pub(crate) fn get_or_add(&mut self, key: String) -> &mut V
    where
        V: Default,
    {
        self.touch(&key);
        let last = &mut self.last;
        let added = || {
            *last += 1;
            Numbered { number: *last, value: V::default() }
        };
        &mut self.entries.entry(key).or_insert_with(added).value
    }

    /// Removes an entry. The others keep their order.
    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        self.entries.contains_key(key).then(|| self.touch(key))?;
        self.entries.shift_remove(key).map(|entry| entry.value)
    }

    /// Removes an entry quickly. This changes the order.
    pub(crate) fn swap_remove(&mut self, key: &str) -> Option<V> {
        self.entries.contains_key(key).then(|| self.touch(key))?;
        self.entries.swap_remove(key).map(|entry| entry.value)
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        let removed = std::mem::take(&mut self.entries);
        if let Some(changed) = &mut self.changed {
            changed.extend(removed.keys().cloned());
        }
        if let Some(before) = &mut self.before {
            for (key, entry) in removed {
                before.entry(key).or_insert(Some(entry));
            }
        }
    }

    /// Starts to collect changed entries for [`take_changed`](Self::take_changed).
    pub(crate) fn remember_changed(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Returns the keys of the entries that were changed or removed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<String> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default().into_iter().collect()
    }

    /// Removes all entries, and forgets deleted entries.
    pub(crate) fn reset(&mut self) {
        self.clear();
        self.was_reset = self.before.is_some();
    }

    /// Loads these entries, and tracks changes from now on.
    pub(super) fn load(&mut self, rows: Vec<Row<V>>) {
        self.entries = rows.into_iter().filter_map(|(key, entry)| Some((key, entry?))).collect();
        self.sort();
        self.before = Some(HashMap::new());
    }

    pub(super) fn is_changed(&self) -> bool {
        self.was_reset || self.before.as_ref().is_some_and(|before| !before.is_empty())
    }

    pub(super) fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Returns the changed entries with their present values. The value is `None` for a deleted entry.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&str, Option<&Numbered<V>>)> {
        self.before.iter().flat_map(HashMap::keys).map(|key| (&**key, self.entries.get(key)))
    }

    /// Call this when the changes are written.
    pub(super) fn keep_changes(&mut self) {
        self.was_reset = false;
        if let Some(before) = &mut self.before {
            before.clear();
        }
    }

    /// Undoes the changes.
    pub(super) fn take_back_changes(&mut self) {
        self.was_reset = false;
        let before = self.before.as_mut().map(std::mem::take).unwrap_or_default();
        for (key, entry) in before {
            match entry {
                Some(entry) => drop(self.entries.insert(key, entry)),
                None => drop(self.entries.swap_remove(&key)),
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.entries.sort_unstable_by(|_, one, _, other| one.number.cmp(&other.number));
        self.last = self.entries.last().map_or(0, |(_, entry)| entry.number);
    }

    /// Saves the entry before its change.
    fn touch(&mut self, key: &str) {
        if let Some(changed) = &mut self.changed
            && !changed.contains(key)
        {
            changed.insert(key.to_owned());
        }
        if let Some(before) = &mut self.before
            && !before.contains_key(key)
        {
            before.insert(key.to_owned(), self.entries.get(key).cloned());
        }
    }
}
