//! A clock of 32 bits, which may wrap, as a clock that does not.

use core::time::Duration;

/// How far the clock may seem to go backwards: another thread's reading may be older.
const BACKWARDS_MS: u32 = 60_000;

/// The time of a handle, which goes on from reading to reading.
// In parts: 64 bits of milliseconds would need a division of 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    last_ms: u32,
    seconds: u32,
    /// Below 1000.
    millis: u32,
}

impl Clock {
    /// A clock that starts at this reading.
    pub(crate) const fn starting_at(now_ms: u32) -> Self {
        Self { last_ms: now_ms, seconds: 0, millis: 0 }
    }

    /// Takes a reading of C's clock. Everything is time that passed, but for a step backwards of up to a minute.
    pub(crate) fn read(&mut self, now_ms: u32) -> Duration {
        let passed = now_ms.wrapping_sub(self.last_ms);
        if passed <= u32::MAX - BACKWARDS_MS {
            self.last_ms = now_ms;
            // Wraps after 136 years.
            self.seconds = self.seconds.wrapping_add(passed / 1000);
            self.millis += passed % 1000;
            if self.millis >= 1000 {
                self.millis -= 1000;
                self.seconds = self.seconds.wrapping_add(1);
            }
        }
        self.time()
    }

    /// The time of the last reading.
    pub(crate) fn time(&self) -> Duration {
        // The bound is for the compiler, which cannot know it.
        Duration::new(self.seconds.into(), (self.millis * 1_000_000).min(999_999_999))
    }
}

/// A duration in milliseconds, rounded up: at most 49 days.
pub(crate) fn millis(duration: Duration) -> u32 {
    let seconds = duration.as_secs().min((u32::MAX / 1000 - 1).into()) as u32;
    seconds * 1000 + duration.subsec_nanos().div_ceil(1_000_000)
}
