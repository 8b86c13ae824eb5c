use core::time::Duration;

use crate::{
    error::{Error, ErrorCode, Fault},
    identity::RegistrationId,
};

/// How long a run may take and how patient it is.
///
/// ```
/// use azure_dps::RetryPolicy;
/// use core::time::Duration;
///
/// let policy = RetryPolicy::new().with_timeout(Duration::from_secs(120)).with_max_retries(3);
/// assert_eq!(policy.timeout(), Duration::from_secs(120));
/// ```
///
/// # How a run waits
///
/// - **Still assigning.** The service asks for a time between polls (`Retry-After`), within
///   [`RETRY_AFTER_MIN`] and [`RETRY_AFTER_MAX`]. Without one, the next poll is due after
///   [`poll_interval`](Self::with_poll_interval) plus up to half of that.
/// - **Throttled or failing** (429, 5xx, 408). The wait is 10 s, then 20, 40, and 60 s from then
///   on, or `Retry-After` if that is longer, plus up to as much again. So a throttled fleet
///   spreads out instead of coming back in waves.
/// - **Registering already** (409203). The service is still working on an earlier register
///   request of this device, whose answer was lost, perhaps. The wait is 1 s, then 2, 4, 8, 16,
///   and 30 s from then on, or `Retry-After`, plus up to as much again.
/// - **Operation lost** (404 for a poll). The service failed over or restarted. The wait is as
///   after throttling; then the device registers again, which is billed, once in a run.
/// - **No answer.** The wait is 5 s, then 10, 20, 40, and 80 s from then on, plus up to half of
///   that. Only these failures count against [`max_retries`](Self::with_max_retries).
///
/// Each wait grows with the number of failures in a row, of whatever kind: a 409203 after a lost
/// answer is the second failure, and its wait begins at 2 s. An answer that is not a failure starts the
/// count again.
///
/// Everything but the last goes on until [`timeout`](Self::with_timeout) ends the run. A wait that
/// would outlast the run ends it at once.
///
/// The random part needs no source of randomness. It comes from the registration ID, the wall
/// clock at [`start`](crate::Provisioning::start), [`jitter_seed`](Self::with_jitter_seed) and the
/// last run, so it differs between devices and between starts. A device without a wall clock
/// should set the seed.
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct RetryPolicy {
    // In milliseconds: 32 bits instead of the 96 of a `Duration`.
    timeout: u32,
    request_timeout: u32,
    poll_interval: u32,
    max_retries: u8,
    jitter_seed: u32,
}

/// The shortest wait a `Retry-After` can ask for.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// The longest wait a `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The first and the longest wait after a failure, in milliseconds: 32 bits instead of the 96 of a
/// `Duration`.
type Backoff = (u32, u32);

const NETWORK: Backoff = (5_000, 80_000);
const BUSY: Backoff = (10_000, 60_000);
const REGISTERING: Backoff = (1_000, 30_000);
/// More would only exceed the longest wait.
const DOUBLINGS: u8 = 5;
/// Twelve days, which leave room for jitter in 32 bits.
const WAIT_MAX: Duration = Duration::from_secs((1 << 30) / 1000);
/// Thirty days: the longest validity of a token that the service's documents show. It bounds a run,
/// whose one token must outlast it.
const LONGEST_RUN: Duration = Duration::from_secs(30 * 24 * 3600);

impl RetryPolicy {
    /// The defaults.
    pub const fn new() -> Self {
        Self { timeout: 600_000, request_timeout: 60_000, poll_interval: 3_000, max_retries: 8, jitter_seed: 0 }
    }

    /// Sets the longest time for the whole run: at most 30 days, because the run has one token, which must
    /// outlast it. The default, 10 minutes, outlasts the service's own retries of a throttled webhook (about
    /// 7 minutes).
    pub const fn with_timeout(self, timeout: Duration) -> Self {
        self.with_timeout_ms(clamped_millis(timeout, LONGEST_RUN))
    }

    /// Sets the [`timeout`](Self::with_timeout) in milliseconds.
    ///
    /// Some code that counts milliseconds has no other use for a [`Duration`], which costs a
    /// microcontroller divisions.
    #[inline]
    pub const fn with_timeout_ms(mut self, ms: u32) -> Self {
        self.timeout = bounded(ms, LONGEST_RUN);
        self
    }

    /// Sets the longest time for one request and its answer; 60 s by default.
    pub const fn with_request_timeout(self, timeout: Duration) -> Self {
        self.with_request_timeout_ms(clamped_millis(timeout, LONGEST_RUN))
    }

    /// Sets the [`request_timeout`](Self::with_request_timeout) in milliseconds.
    #[inline]
    pub const fn with_request_timeout_ms(mut self, ms: u32) -> Self {
        self.request_timeout = bounded(ms, LONGEST_RUN);
        self
    }

    /// Sets how many network failures in a row are retried; 8 by default. Any answer of the service
    /// starts the count again. Refusals that ask for patience do not count: the
    /// [`timeout`](Self::with_timeout) bounds them.
    pub const fn with_max_retries(mut self, retries: u8) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets the time between polls if the service names none; 3 s by default. The service allows 5
    /// polls of a device in 10 s.
    pub const fn with_poll_interval(self, interval: Duration) -> Self {
        self.with_poll_interval_ms(millis(interval))
    }

    /// Sets the [`poll_interval`](Self::with_poll_interval) in milliseconds.
    #[inline]
    pub const fn with_poll_interval_ms(mut self, ms: u32) -> Self {
        self.poll_interval = bounded(ms, WAIT_MAX);
        self
    }

    /// Sets a number that differs from start to start, for a device that passes no wall clock to
    /// [`start`](crate::Provisioning::start): a boot counter, or the noise of a sensor. 0 by default.
    pub const fn with_jitter_seed(mut self, seed: u32) -> Self {
        self.jitter_seed = seed;
        self
    }

    /// Returns the longest time for the whole run.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout as u64)
    }

    /// Returns the longest time for one request and its answer.
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout as u64)
    }

    /// Returns how many network failures in a row are retried.
    pub const fn max_retries(&self) -> u8 {
        self.max_retries
    }

    /// Returns the time between polls if the service names none.
    pub const fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval as u64)
    }

    /// Returns the number that differs from start to start.
    pub const fn jitter_seed(&self) -> u32 {
        self.jitter_seed
    }

    pub(crate) const fn timeout_ms(&self) -> u32 {
        self.timeout
    }

    pub(crate) const fn request_timeout_ms(&self) -> u32 {
        self.request_timeout
    }

    /// Milliseconds until the next poll.
    pub(crate) fn poll_wait(&self, retry_after: Option<u32>, jitter: &mut Jitter) -> u32 {
        retry_after.map_or_else(|| jitter.add_half(self.poll_interval.max(millis(RETRY_AFTER_MIN))), clamp)
    }
}

/// Milliseconds until the next attempt, after the failure number `failures` in a row, from 1.
pub(crate) fn failure_wait(failures: u8, error: &Error, retry_after: Option<u32>, jitter: &mut Jitter) -> u32 {
    let is_network = error.fault() == Fault::Transport;
    let (first, longest) = match error.code() {
        _ if is_network => NETWORK,
        Some(ErrorCode::CONCURRENT_REGISTRATION) => REGISTERING,
        _ => BUSY,
    };
    let backoff = (first << failures.saturating_sub(1).min(DOUBLINGS)).min(longest);
    let wait = retry_after.map_or(0, clamp).max(backoff);
    if is_network { jitter.add_half(wait) } else { jitter.add(wait, wait) }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

fn clamp(seconds: u32) -> u32 {
    seconds.clamp(RETRY_AFTER_MIN.as_secs() as u32, RETRY_AFTER_MAX.as_secs() as u32) * 1000
}

pub(crate) const fn millis(wait: Duration) -> u32 {
    clamped_millis(wait, WAIT_MAX)
}

/// Milliseconds, at most as many as `longest` has.
const fn bounded(ms: u32, longest: Duration) -> u32 {
    let longest = longest.as_secs() as u32 * 1000;
    if ms < longest { ms } else { longest }
}

/// Rounded up.
const fn clamped_millis(time: Duration, longest: Duration) -> u32 {
    let time = if time.as_secs() < longest.as_secs() { time } else { longest };
    time.as_secs() as u32 * 1000 + time.subsec_nanos().div_ceil(1_000_000)
}

/// Tells things apart. It is not a cryptographic hash.
pub(crate) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(FNV_OFFSET, fnv_1a_step)
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

fn fnv_1a_step(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

/// Marsaglia's xorshift32: enough to spread devices over time.
#[derive(Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub(crate) struct Jitter(u32);

impl Jitter {
    pub(crate) const fn new() -> Self {
        Self(FNV_OFFSET)
    }

    /// Different for each device.
    pub(crate) fn of(registration_id: RegistrationId<'_>, seed: u32) -> Self {
        let mut jitter = Self::new();
        jitter.mix(registration_id, 0, seed);
        jitter
    }

    /// Makes what follows differ between devices and between starts.
    pub(crate) fn mix(&mut self, registration_id: RegistrationId<'_>, unix_time: u64, seed: u32) {
        // The low bytes first: those that follow carry them into all bits.
        let mut hash = self.0;
        for part in [registration_id.as_str().as_bytes(), &seed.to_le_bytes(), &unix_time.to_le_bytes()] {
            hash = part.iter().copied().fold(hash, fnv_1a_step);
        }
        // Zero is the one state that xorshift never leaves.
        self.0 = if hash == 0 { FNV_OFFSET } else { hash };
    }

    /// `millis` and up to half of that.
    pub(crate) fn add_half(&mut self, millis: u32) -> u32 {
        self.add(millis, millis / 2)
    }

    /// `millis` and up to `at_most` more.
    pub(crate) fn add(&mut self, millis: u32, at_most: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        let more = (u64::from(at_most) * u64::from(self.0)) >> 32;
        millis.saturating_add(more as u32)
    }
}
