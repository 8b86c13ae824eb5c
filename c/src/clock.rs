//! A clock of 32 bits, which may wrap, as a clock that does not.

use core::time::Duration;

/// How far the clock may seem to go backwards: another thread's reading may be older.
const BACKWARDS_MS: u32 = 60_000;

/// The time of a handle, which goes on from reading to reading.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    last_ms: u32,
    time: Duration,
}

impl Clock {
    /// A clock that starts at this reading.
    pub(crate) const fn starting_at(now_ms: u32) -> Self {
        Self { last_ms: now_ms, time: Duration::ZERO }
    }

    /// Takes a reading of C's clock. Everything is time that passed, but for a step backwards of up to a minute.
    pub(crate) fn read(&mut self, now_ms: u32) -> Duration {
        let passed = now_ms.wrapping_sub(self.last_ms);
        if passed <= u32::MAX - BACKWARDS_MS {
            self.last_ms = now_ms;
            self.time = self.time.saturating_add(Duration::from_millis(passed.into()));
        }
        self.time
    }

    /// The time of the last reading.
    pub(crate) const fn time(&self) -> Duration {
        self.time
    }
}

/// A duration in milliseconds, rounded up.
pub(crate) fn millis(duration: Duration) -> u32 {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    seconds.saturating_mul(1000).saturating_add(duration.subsec_nanos().div_ceil(1_000_000))
}
