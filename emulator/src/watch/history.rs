//! Numbered entries. Readers take the entries that they have not seen.

use std::sync::Arc;

use super::bounded::Bounded;

/// The newest entries of a kind, by the numbers of their events.
#[derive(Debug)]
pub(crate) struct History<T> {
    entries: Bounded<(u64, Arc<T>)>,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self { entries: Bounded::default() }
    }
}

impl<T> History<T> {
    /// Adds an entry, which holds `bytes` of text. Its number must be higher than all others.
    pub(super) fn push(&mut self, number: u64, entry: Arc<T>, bytes: usize) {
        self.entries.push((number, entry), bytes);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<T>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// Returns the first entries after this number, oldest first.
    pub(super) fn after(&self, number: u64, limit: usize) -> Vec<(u64, Arc<T>)> {
        self.entries.after_all(|&(entry, _)| entry <= number).take(limit).cloned().collect()
    }

    /// Returns the newest entries, oldest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<(u64, Arc<T>)> {
        let mut entries: Vec<_> = self.entries.iter().rev().take(limit).cloned().collect();
        entries.reverse();
        entries
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<T>> {
        let (found, entry) = self.entries.after_all(|&(entry, _)| entry < number).next()?;
        (*found == number).then(|| Arc::clone(entry))
    }

    /// Returns the number of the oldest entry.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.iter().next().map(|&(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_takes_only_new_entries() {
        let mut history = History::default();
        for number in [2, 3, 7, 9] {
            history.push(number, Arc::new(number * 10), 1);
        }
        let numbers =
            |entries: Vec<(u64, Arc<u64>)>| -> Vec<u64> { entries.iter().map(|&(number, _)| number).collect() };
        for (after, limit, expected) in
            [(0, 9, &[2, 3, 7, 9][..]), (2, 9, &[3, 7, 9]), (4, 1, &[7]), (9, 9, &[]), (u64::MAX, 9, &[]), (0, 0, &[])]
        {
            assert_eq!(numbers(history.after(after, limit)), expected, "{after} {limit}");
        }
        assert_eq!(numbers(history.newest(2)), [7, 9]);
        assert_eq!(history.first(), Some(2));
        for (number, entry) in [(1, None), (2, Some(20)), (4, None), (9, Some(90)), (10, None)] {
            assert_eq!(history.get(number).map(|entry| *entry), entry, "{number}");
        }
    }
}
