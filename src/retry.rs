use core::time::Duration;

use crate::{ErrorCode, RegistrationId};

/// How long a run may take and how patient it is.
///
/// ```
/// use azure_dps::RetryPolicy;
/// use core::time::Duration;
///
/// let policy = RetryPolicy::new().with_timeout(Duration::from_secs(120)).with_max_retries(3);
/// assert_eq!(policy.timeout, Duration::from_secs(120));
/// ```
///
/// # How a run waits
///
/// - A `Retry-After` of the service is obeyed, within [`RETRY_AFTER_MIN`] and
///   [`RETRY_AFTER_MAX`].
/// - Without one, the next poll comes after [`poll_interval`](Self::poll_interval) plus
///   jitter of up to half of it.
/// - A request that failed in the network, or was answered with 429 or 5xx, is repeated
///   after 5 s, then 10, 20, 40, at most 80 s, each plus jitter of up to half of it. A
///   registration that met another one of the same device (409203) is repeated after 1 s
///   plus jitter.
/// - The jitter needs no source of randomness: it comes from the registration ID, so that a
///   site full of devices does not come back all at once. [`jitter_seed`](Self::jitter_seed)
///   adds to it.
///
/// Source: [large-scale deployments](https://learn.microsoft.com/azure/iot-dps/concepts-deploy-at-scale).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The longest time for the whole run. The default, 10 minutes, outlasts the service's
    /// own retries of a throttled webhook (about 7 minutes).
    pub timeout: Duration,
    /// The longest time for one request and its answer, 60 s by default.
    pub request_timeout: Duration,
    /// How many failures in a row are forgiven, 8 by default. A successful answer starts
    /// the count again.
    pub max_retries: u8,
    /// The time between polls where the service names none, 3 s by default. The service
    /// allows 5 polls of a device in 10 s.
    pub poll_interval: Duration,
    /// Something that differs from boot to boot, where the spread over devices is not enough.
    pub jitter_seed: u32,
}

/// The shortest wait a `Retry-After` can ask for.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// The longest wait a `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Waits are counted in milliseconds: 32 bits instead of the 96 of a `Duration`.
const BACK_OFF: u32 = 5000;
const BACK_OFF_DOUBLINGS: u8 = 4;
const CONCURRENT_BACK_OFF: u32 = 1000;
/// Twelve days, which leave room for jitter in 32 bits.
const WAIT_MAX: u32 = 1 << 30;

impl RetryPolicy {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            timeout: Duration::from_secs(600),
            request_timeout: Duration::from_secs(60),
            max_retries: 8,
            poll_interval: Duration::from_secs(3),
            jitter_seed: 0,
        }
    }

    /// Sets [`timeout`](Self::timeout).
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`request_timeout`](Self::request_timeout).
    pub const fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets [`max_retries`](Self::max_retries).
    pub const fn with_max_retries(mut self, retries: u8) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets [`poll_interval`](Self::poll_interval).
    pub const fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Sets [`jitter_seed`](Self::jitter_seed).
    pub const fn with_jitter_seed(mut self, seed: u32) -> Self {
        self.jitter_seed = seed;
        self
    }

    /// Milliseconds until the next poll.
    pub(crate) fn poll_wait(&self, retry_after: Option<u32>, jitter: &mut Jitter) -> u32 {
        retry_after.map_or_else(|| jitter.add_to(millis(self.poll_interval.max(RETRY_AFTER_MIN))), clamp)
    }

    /// Milliseconds after the failure number `failures`, counted from 1.
    pub(crate) fn failure_wait(
        &self,
        failures: u8,
        code: Option<ErrorCode>,
        retry_after: Option<u32>,
        jitter: &mut Jitter,
    ) -> u32 {
        match (retry_after, code) {
            (Some(seconds), _) => clamp(seconds),
            (None, Some(ErrorCode::CONCURRENT_REGISTRATION)) => jitter.add_to(CONCURRENT_BACK_OFF),
            (None, _) => jitter.add_to(BACK_OFF << failures.saturating_sub(1).min(BACK_OFF_DOUBLINGS)),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

fn clamp(seconds: u32) -> u32 {
    seconds.clamp(RETRY_AFTER_MIN.as_secs() as u32, RETRY_AFTER_MAX.as_secs() as u32) * 1000
}

pub(crate) fn millis(wait: Duration) -> u32 {
    (wait.as_secs().min(u64::from(WAIT_MAX / 1000)) as u32) * 1000 + wait.subsec_millis()
}

/// The time so many milliseconds later.
pub(crate) fn later(now: Duration, millis: u32) -> Duration {
    now.saturating_add(Duration::from_millis(u64::from(millis)))
}

/// From one time to a later one. (A difference of two `Duration`s may panic, as far as the
/// linker sees.)
pub(crate) fn between(from: Duration, to: Duration) -> Duration {
    const SECOND: u32 = 1_000_000_000;
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    let (to, from) = (to.subsec_nanos(), from.subsec_nanos());
    match to.checked_sub(from) {
        Some(nanos) => Duration::new(seconds, nanos.min(SECOND - 1)),
        None => Duration::new(seconds.saturating_sub(1), (to + SECOND - from).min(SECOND - 1)),
    }
}

/// A hash that tells things apart, and is no obstacle to anybody.
pub(crate) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Marsaglia's xorshift32: enough to spread devices over time.
#[derive(Debug)]
pub(crate) struct Jitter(u32);

impl Jitter {
    pub(crate) const fn new(seed: u32) -> Self {
        // The one state from which xorshift never leaves.
        Self(if seed == 0 { 0x9e37_79b9 } else { seed })
    }

    /// Different for each device: the FNV-1a hash of its registration ID.
    pub(crate) fn of(registration_id: RegistrationId<'_>, seed: u32) -> Self {
        Self::new(fnv_1a(registration_id.as_str().bytes()) ^ seed)
    }

    /// So many milliseconds and up to half of them more, in steps of 1/512.
    pub(crate) fn add_to(&mut self, millis: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        millis + millis / 512 * (self.0 >> 24)
    }
}
