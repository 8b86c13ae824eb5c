//! Base layer: the service's own time, which tests can speed up, and the real time.

pub(crate) mod wall_time;
pub(crate) mod window;

use std::time::{Duration, Instant, SystemTime};

/// The longest wait. `Instant` panics at an overflow, which lies beyond.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The service's own time, which may run faster than real time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    scale: f64,
}

impl Clock {
    pub(crate) fn new(scale: f64) -> Self {
        Self { started: Instant::now(), scale }
    }

    /// Waits for `duration` of the service's time.
    pub(crate) async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(self.real(duration)).await;
    }

    /// Returns how long `duration` of the service's time lasts in real time.
    pub(crate) fn real(&self, duration: Duration) -> Duration {
        wait(duration.as_secs_f64() / self.scale)
    }

    /// Returns the real time since the service started.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the service's time since it started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.scaled(self.started.elapsed())
    }

    /// Returns the service's time since `at`, which may be before the start.
    pub(crate) fn since(&self, at: SystemTime) -> Duration {
        self.scaled(at.elapsed().unwrap_or_default())
    }

    /// Returns how much of the service's time passes in `duration`.
    fn scaled(&self, duration: Duration) -> Duration {
        // Every scale above 0 is allowed, and `Duration` panics at an overflow.
        Duration::try_from_secs_f64(duration.as_secs_f64() * self.scale).unwrap_or(Duration::MAX)
    }
}

/// Returns a duration of this many seconds, at most [`FOREVER`].
pub(crate) fn wait(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(FOREVER, |wait| wait.min(FOREVER))
}
