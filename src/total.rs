//! Functions that return a value for every input, where those of `core` may panic.
//!
//! The linker proves that nothing here panics (`ci/no-panic`): it refuses a program in which a
//! call of the panic handler is left. It sees a panic wherever the compiler cannot show that there is
//! none. So this crate
//!
//! - indexes with `get`, or with an index whose type bounds it;
//! - subtracts `Duration`s with [`between`] and copies within a buffer with [`move_down`];
//! - writes `Debug` by hand for types with a `&'static str` in them. The derived one looks for
//!   characters that need an escape, in code that can panic as far as the linker sees.

use core::{ops::Range, time::Duration};

/// The time from one reading of a clock to a later one. The caller knows that it is later.
pub(crate) fn between(from: Duration, to: Duration) -> Duration {
    const SECOND: u32 = 1_000_000_000;
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    let (to, from) = (to.subsec_nanos(), from.subsec_nanos());
    match to.checked_sub(from) {
        Some(nanos) => Duration::new(seconds, nanos.min(SECOND - 1)),
        None => Duration::new(seconds.saturating_sub(1), (to + SECOND - from).min(SECOND - 1)),
    }
}

/// The time so many milliseconds later.
pub(crate) fn later(now: Duration, millis: u32) -> Duration {
    now.saturating_add(Duration::from_millis(u64::from(millis)))
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

/// The first bytes of a digest.
#[inline]
pub(crate) fn first<const N: usize>(digest: &[u8]) -> &[u8] {
    digest.get(..N).unwrap_or_default()
}

/// Moves bytes to where others were before them.
pub(crate) fn move_down(buffer: &mut [u8], from: Range<usize>, to: usize) {
    for (from, to) in from.zip(to..) {
        let Some(&byte) = buffer.get(from) else { return };
        if let Some(slot) = buffer.get_mut(to) {
            *slot = byte;
        }
    }
}
