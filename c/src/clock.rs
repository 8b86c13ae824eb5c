//! Turns a 32-bit clock that may wrap into a clock that does not wrap.

use core::time::Duration;

/// The longest step backwards that is accepted. A reading from another thread may be older.
const BACKWARDS_MS: u32 = 60_000;

/// The time of a handle. Each reading of C's clock advances it.
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

    /// Takes a reading of C's clock. A difference counts as passed time, except for a step backwards of up to a minute.
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
        // The bound always holds, but the compiler does not know it.
        Duration::new(self.seconds.into(), (self.millis * 1_000_000).min(999_999_999))
    }
}

/// A duration in milliseconds, rounded up: at most 49 days.
pub(crate) fn millis(duration: Duration) -> u32 {
    let seconds = duration.as_secs().min((u32::MAX / 1000 - 1).into()) as u32;
    seconds * 1000 + duration.subsec_nanos().div_ceil(1_000_000)
}
