//! Counts events within a period, for quotas.

use std::{collections::VecDeque, time::Duration};

/// The times of recent events, which count towards a quota.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window(VecDeque<Duration>);

impl Window {
    /// Counts an event at `now`. Returns `false` if there are already `limit` events within `period`.
    pub(crate) fn admit(&mut self, now: Duration, period: Duration, limit: Option<u32>) -> bool {
        let Some(limit) = limit else {
            return true;
        };
        while self.0.front().is_some_and(|&at| now - at >= period) {
            self.0.pop_front();
        }
        let admitted = self.0.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        if admitted {
            self.0.push_back(now);
        }
        admitted
    }
}
