//! Functions that never panic, for jobs that `core` does with functions that may panic.
//!
//! # Code for the no-panic proof
//!
//! `ci/no-panic` proves that the library does not panic: it links each entry point with a panic
//! handler that does not link. The link fails if the compiler keeps a panic, even an unreachable one.
//! So this crate
//!
//! - indexes with `get`, or with an index that its type bounds;
//! - subtracts `Duration`s with [`between`] and copies within a buffer with [`move_down`];
//! - replaces a few functions of `core` and of other crates (the base64 decoder, the parser of IPv6
//!   addresses) by shorter ones;
//! - writes `Debug` by hand for types with a `&'static str`. The derived `Debug` escapes characters, and
//!   the compiler keeps a panic in that code.
//!
//! Comments elsewhere refer to this section as "see `crate::total`".

use core::{ops::Range, time::Duration};

/// Returns the time between two readings of a clock. `to` must not be before `from`.
pub(crate) fn between(from: Duration, to: Duration) -> Duration {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    let (to, from) = (to.subsec_nanos(), from.subsec_nanos());
    match to.checked_sub(from) {
        Some(nanos) => Duration::new(seconds, nanos.min(SECOND - 1)),
        None => Duration::new(seconds.saturating_sub(1), (to + SECOND - from).min(SECOND - 1)),
    }
}

/// Returns the time that is `millis` milliseconds after `now`.
pub(crate) fn later(now: Duration, millis: u32) -> Duration {
    now.saturating_add(Duration::from_millis(u64::from(millis)))
}

/// A reading of the caller's clock. All readings of more than 136 years are equal, as if the clock had stopped.
///
/// On a microcontroller, a comparison of two `Duration`s is four times the code. `Reprovisioning` compares them
/// nevertheless, so that its waits also work on a clock of more than 136 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    seconds: u32,
    /// Below [`SECOND`].
    nanos: u32,
}

const SECOND: u32 = 1_000_000_000;

impl Time {
    pub(crate) const ZERO: Self = Self { seconds: 0, nanos: 0 };

    const MAX: Self = Self { seconds: u32::MAX, nanos: SECOND - 1 };

    /// Returns the time that is `millis` milliseconds later.
    #[inline(never)]
    pub(crate) fn later(self, millis: u32) -> Self {
        let nanos = self.nanos + millis % 1000 * 1_000_000;
        let (carry, nanos) = match nanos.checked_sub(SECOND) {
            Some(nanos) => (1, nanos),
            None => (0, nanos),
        };
        match self.seconds.checked_add(millis / 1000 + carry) {
            Some(seconds) => Self { seconds, nanos },
            None => Self::MAX,
        }
    }

    /// Returns the time from `earlier` to this time. `earlier` must not be after this time.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let seconds = self.seconds.saturating_sub(earlier.seconds);
        match self.nanos.checked_sub(earlier.nanos) {
            Some(nanos) => Self { seconds, nanos },
            None => Self { seconds: seconds.saturating_sub(1), nanos: self.nanos + SECOND - earlier.nanos },
        }
        .into()
    }
}

impl From<Duration> for Time {
    fn from(time: Duration) -> Self {
        match u32::try_from(time.as_secs()) {
            Ok(seconds) => Self { seconds, nanos: time.subsec_nanos() },
            Err(_) => Self::MAX,
        }
    }
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        // `nanos` is below a second. `min` tells the compiler so.
        Self::new(time.seconds.into(), time.nanos.min(SECOND - 1))
    }
}

/// Moves bytes within a buffer, in either direction.
#[inline]
pub(crate) fn move_within(buffer: &mut [u8], from: Range<usize>, to: usize) {
    if from.start >= to {
        return move_down(buffer, from, to);
    }
    for at in (0..from.len()).rev() {
        let Some(&byte) = buffer.get(from.start.saturating_add(at)) else { return };
        if let Some(slot) = buffer.get_mut(to.saturating_add(at)) {
            *slot = byte;
        }
    }
}

/// Returns the first `N` bytes of a digest.
#[inline]
pub(crate) fn first<const N: usize>(digest: &[u8]) -> &[u8] {
    digest.get(..N).unwrap_or_default()
}

/// Moves bytes toward the start of the buffer.
pub(crate) fn move_down(buffer: &mut [u8], from: Range<usize>, to: usize) {
    for (from, to) in from.zip(to..) {
        let Some(&byte) = buffer.get(from) else { return };
        if let Some(slot) = buffer.get_mut(to) {
            *slot = byte;
        }
    }
}
