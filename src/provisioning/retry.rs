use core::time::Duration;

use crate::{
    error::{Error, ErrorCode, Fault},
    identity::RegistrationId,
};

/// The time-outs and retries of a run.
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
/// | situation | wait before the next request | jitter |
/// |---|---|---|
/// | the service is still assigning | `Retry-After`, limited to [`RETRY_AFTER_MIN`] and [`RETRY_AFTER_MAX`] | none |
/// | the same, without `Retry-After` | [`poll_interval`](Self::with_poll_interval) | up to 50 % |
/// | throttled, or an error of the service (429, 5xx, 408) | 10, 20, 40, then always 60 s, or `Retry-After` if that is longer | up to 100 % |
/// | the service still processes an earlier register request of this device (409203) | 1, 2, 4, 8, 16, then always 30 s, or `Retry-After` if that is longer | up to 100 % |
/// | the service lost the operation (404 for a poll) | as for throttling | up to 100 % |
/// | no answer | 5, 10, 20, 40, then always 80 s | up to 50 % |
///
/// - A failure can be any row from the third on. The wait depends on the number of failures in a row, of
///   any kind. For example, a 409203 after a lost answer is the second failure, so its wait begins at 2 s.
///   An answer without a failure resets the number.
/// - After a lost operation, the device registers again. This is billed, and happens once in a run.
/// - [`max_retries`](Self::with_max_retries) limits the requests without an answer. For all other rows, the
///   run continues until [`timeout`](Self::with_timeout). If a wait would end after the time-out, the run
///   ends at once.
/// - The jitter spreads a throttled fleet over time. It needs no source of randomness: it depends on the
///   registration ID, the wall clock at [`start`](crate::Provisioning::start), the
///   [`jitter_seed`](Self::with_jitter_seed) and the last run. So it differs between devices and between
///   starts. If a device has no wall clock, set the seed.
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct RetryPolicy {
    // In milliseconds: 32 bits. A `Duration` has 96 bits.
    timeout: u32,
    request_timeout: u32,
    poll_interval: u32,
    max_retries: u8,
    jitter_seed: u32,
}

/// The shortest wait for a `Retry-After`. A shorter one counts as this one.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// The longest wait for a `Retry-After`. A longer one counts as this one.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The first and the longest wait after a failure, in milliseconds.
type Backoff = (u32, u32);

const NETWORK: Backoff = (5_000, 80_000);
const BUSY: Backoff = (10_000, 60_000);
const REGISTERING: Backoff = (1_000, 30_000);
/// After five doublings, every back-off has reached its longest wait.
const DOUBLINGS: u8 = 5;
/// 12 days. A longer wait and its jitter would not fit 32 bits.
const WAIT_MAX: Duration = Duration::from_secs((1 << 30) / 1000);
/// 30 days: the longest validity of a token in the service's documentation. A run has one token, which
/// must be valid until the end of the run.
const LONGEST_RUN: Duration = Duration::from_secs(30 * 24 * 3600);

impl RetryPolicy {
    /// Creates a policy with the defaults: 10 minutes for a run, 60 s for a request, 8 retries, 3 s between
    /// polls.
    pub const fn new() -> Self {
        Self { timeout: 600_000, request_timeout: 60_000, poll_interval: 3_000, max_retries: 8, jitter_seed: 0 }
    }

    /// Sets the maximum duration of a run. The default is 10 minutes; more than 30 days counts as 30 days.
    ///
    /// The default is longer than the service retries a throttled webhook (about 7 minutes). The limit of 30
    /// days exists because the one token of a run must be valid until its end.
    pub const fn with_timeout(self, timeout: Duration) -> Self {
        self.with_timeout_ms(clamped_millis(timeout, LONGEST_RUN))
    }

    /// Sets the [`timeout`](Self::with_timeout) in milliseconds. This avoids the divisions of a
    /// [`Duration`], which need flash on a microcontroller.
    #[inline]
    pub const fn with_timeout_ms(mut self, ms: u32) -> Self {
        self.timeout = bounded(ms, LONGEST_RUN);
        self
    }

    /// Sets the maximum time for one request and its answer. The default is 60 s.
    pub const fn with_request_timeout(self, timeout: Duration) -> Self {
        self.with_request_timeout_ms(clamped_millis(timeout, LONGEST_RUN))
    }

    /// Sets the [`request_timeout`](Self::with_request_timeout) in milliseconds.
    #[inline]
    pub const fn with_request_timeout_ms(mut self, ms: u32) -> Self {
        self.request_timeout = bounded(ms, LONGEST_RUN);
        self
    }

    /// Sets the maximum number of retries in a row without any answer. The default is 8.
    ///
    /// Any answer of the service resets the number. Errors such as 429 or 503 are answers and do not count:
    /// the [`timeout`](Self::with_timeout) limits them.
    pub const fn with_max_retries(mut self, retries: u8) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets the time between polls for answers without `Retry-After`. The default is 3 s. The service allows
    /// 5 polls per device in 10 s.
    pub const fn with_poll_interval(self, interval: Duration) -> Self {
        self.with_poll_interval_ms(millis(interval))
    }

    /// Sets the [`poll_interval`](Self::with_poll_interval) in milliseconds.
    #[inline]
    pub const fn with_poll_interval_ms(mut self, ms: u32) -> Self {
        self.poll_interval = bounded(ms, WAIT_MAX);
        self
    }

    /// Sets a number that differs between boots, such as a boot counter or the noise of a sensor. The
    /// default is 0.
    ///
    /// Set it if the device passes no wall clock to [`start`](crate::Provisioning::start).
    pub const fn with_jitter_seed(mut self, seed: u32) -> Self {
        self.jitter_seed = seed;
        self
    }

    /// Returns the maximum duration of a run.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout as u64)
    }

    /// Returns the maximum time for one request and its answer.
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout as u64)
    }

    /// Returns the maximum number of retries in a row without any answer.
    pub const fn max_retries(&self) -> u8 {
        self.max_retries
    }

    /// Returns the time between polls for answers without `Retry-After`.
    pub const fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval as u64)
    }

    /// Returns the number that differs between boots.
    pub const fn jitter_seed(&self) -> u32 {
        self.jitter_seed
    }

    pub(crate) const fn timeout_ms(&self) -> u32 {
        self.timeout
    }

    pub(crate) const fn request_timeout_ms(&self) -> u32 {
        self.request_timeout
    }

    /// Returns the milliseconds until the next poll.
    pub(crate) fn poll_wait(&self, retry_after: Option<u32>, jitter: &mut Jitter) -> u32 {
        retry_after.map_or_else(|| jitter.add_half(self.poll_interval.max(millis(RETRY_AFTER_MIN))), clamp)
    }
}

/// Returns the milliseconds until the next attempt. `failures` is the number of failures in a row, with
/// this one.
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

/// Returns `ms`, limited to `longest`.
const fn bounded(ms: u32, longest: Duration) -> u32 {
    let longest = longest.as_secs() as u32 * 1000;
    if ms < longest { ms } else { longest }
}

/// Returns `time` in milliseconds, rounded up and limited to `longest`.
const fn clamped_millis(time: Duration, longest: Duration) -> u32 {
    let time = if time.as_secs() < longest.as_secs() { time } else { longest };
    time.as_secs() as u32 * 1000 + time.subsec_nanos().div_ceil(1_000_000)
}

/// Returns the FNV-1a hash, which is not cryptographic.
///
/// Source: [FNV](https://datatracker.ietf.org/doc/html/draft-eastlake-fnv).
pub(crate) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(FNV_OFFSET, fnv_1a_step)
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

fn fnv_1a_step(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

/// Marsaglia's xorshift32: random enough to spread devices over time.
#[derive(Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub(crate) struct Jitter(u32);

impl Jitter {
    pub(crate) const fn new() -> Self {
        Self(FNV_OFFSET)
    }

    /// Creates jitter that differs between devices.
    pub(crate) fn of(registration_id: RegistrationId<'_>, seed: u32) -> Self {
        let mut jitter = Self::new();
        jitter.mix(registration_id, 0, seed);
        jitter
    }

    /// Mixes in data that differs between devices and between starts.
    pub(crate) fn mix(&mut self, registration_id: RegistrationId<'_>, unix_time: u64, seed: u32) {
        // The low bytes come first, so that the following bytes spread them over all bits.
        let mut hash = self.0;
        for part in [registration_id.as_str().as_bytes(), &seed.to_le_bytes(), &unix_time.to_le_bytes()] {
            hash = part.iter().copied().fold(hash, fnv_1a_step);
        }
        // xorshift never leaves the state 0.
        self.0 = if hash == 0 { FNV_OFFSET } else { hash };
    }

    /// Returns `millis` plus up to half of it.
    pub(crate) fn add_half(&mut self, millis: u32) -> u32 {
        self.add(millis, millis / 2)
    }

    /// Returns `millis` plus up to `at_most`.
    pub(crate) fn add(&mut self, millis: u32, at_most: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        let more = (u64::from(at_most) * u64::from(self.0)) >> 32;
        millis.saturating_add(more as u32)
    }
}
