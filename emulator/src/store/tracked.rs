//! A map that knows what was changed in it, so that changes can be written together or be taken back together.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};

/// Entries by their keys, in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Tracked<V> {
    entries: IndexMap<String, Numbered<V>>,
    /// The number of the entry that was added last.
    last: u64,
    /// What was there before the changes that are not written yet: `None` for an entry that is new. Absent if changes
    /// are not written at all.
    before: Option<HashMap<String, Option<Numbered<V>>>>,
    /// The keys of the entries that were changed and not told of yet. Absent if nobody is told.
    changed: Option<IndexSet<String>>,
}

/// An entry and its place in the order.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<V> {
    pub(crate) number: u64,
    pub(crate) value: V,
}

impl<V> Default for Tracked<V> {
    fn default() -> Self {
        Self { entries: IndexMap::new(), last: 0, before: None, changed: None }
    }
}

impl<V: Clone> Tracked<V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(key, entry)| (&**key, &entry.value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// The entry, to be changed.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.touch(key);
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Adds an entry at the end, or replaces one in its place.
    pub(crate) fn insert(&mut self, key: String, value: V) -> &mut V {
        self.touch(&key);
        let number = self.entries.get(&key).map_or(self.last + 1, |entry| entry.number);
        self.last = self.last.max(number);
        let place = self.entries.insert_full(key, Numbered { number, value }).0;
        &mut self.entries[place].value
    }

    /// The entry, which is added if there is none.
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
        self.touch(key);
        self.entries.shift_remove(key).map(|entry| entry.value)
    }

    /// Removes an entry quickly, which changes the order.
    pub(crate) fn swap_remove(&mut self, key: &str) -> Option<V> {
        self.touch(key);
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

    /// From now on remembers which entries are changed, for [`take_changed`](Self::take_changed).
    pub(crate) fn remember_changed(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Returns the keys of the entries that were changed or removed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<String> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default().into_iter().collect()
    }

    /// Remembers the entry as it is before its change.
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
