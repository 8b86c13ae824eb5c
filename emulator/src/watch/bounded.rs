//! Limits for what is kept and what is shown.

use std::{collections::VecDeque, time::Duration};

use crate::clock::window::Window;

/// Limits how many events are shown in 10 s, and counts the others. Use it for events that any client can cause.
#[derive(Debug, Default)]
pub(crate) struct Flood<const SHOWN: u32> {
    shown: Window,
    hidden: u64,
}

impl<const SHOWN: u32> Flood<SHOWN> {
    const PERIOD: Duration = Duration::from_secs(10);

    /// Returns how many events were hidden before this one, or `None` if this one is hidden.
    pub(crate) fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.shown.admit(now, Self::PERIOD, Some(SHOWN)) {
            Some(std::mem::take(&mut self.hidden))
        } else {
            self.hidden += 1;
            None
        }
    }
}

/// The most entries that are kept.
pub(crate) const ENTRIES: usize = 10_000;
/// The most bytes of text that are kept.
const BYTES: usize = 64 * 1024 * 1024;

/// Keeps the newest entries, limited in number and size.
#[derive(Debug)]
pub(crate) struct Bounded<T> {
    entries: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Bounded<T> {
    /// Adds `entry`, which holds `bytes` of text.
    pub(crate) fn push(&mut self, entry: T, bytes: usize) {
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            let Some((_, freed)) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= freed;
        }
    }

    /// Returns the entries, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.entries.iter().map(|(entry, _)| entry)
    }

    /// Returns the entries from the first one on for which `before` is false. `before` must be true only for the
    /// oldest entries.
    pub(super) fn after_all(&self, before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let first = self.entries.partition_point(|(entry, _)| before(entry));
        self.entries.range(first..).map(|(entry, _)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first events of a flood are shown. The next event that is shown has the number of hidden ones.
    #[test]
    fn a_flood_is_counted_and_not_shown() {
        let mut flood = Flood::<20>::default();
        let at = Duration::from_secs;
        let shown: Vec<_> = (0..1000).filter_map(|_| flood.admit(at(1))).collect();
        assert_eq!(shown, [0; 20]);
        assert_eq!([flood.admit(at(10)), flood.admit(at(11)), flood.admit(at(11))], [None, Some(981), Some(0)]);
    }

    /// The oldest entries are dropped if there are too many entries or too much text.
    #[test]
    fn entries_are_bounded_in_number_and_size() {
        for (size, kept) in [(0, ENTRIES), (BYTES / 10, 10), (BYTES + 1, 0)] {
            let mut bounded = Bounded::default();
            for entry in 0..2 * ENTRIES {
                bounded.push(entry, size);
            }
            let entries: Vec<_> = bounded.iter().copied().collect();
            assert_eq!(entries, (2 * ENTRIES - kept..2 * ENTRIES).collect::<Vec<_>>(), "{size}");
        }
    }
}
