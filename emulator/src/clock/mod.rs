//! Ground: the service's own time, which tests may let pass faster, and the world's.

pub(crate) mod wall_time;
pub(crate) mod window;

use std::time::{Duration, Instant, SystemTime};

/// The longest wait. `Instant`'s own arithmetic panics some way beyond.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How fast the service's own time passes.
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

    /// How long `duration` of the service's time really lasts.
    pub(crate) fn real(&self, duration: Duration) -> Duration {
        wait(duration.as_secs_f64() / self.scale)
    }

    /// The world's time since the service started.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The service's time since it started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.scaled(self.started.elapsed())
    }

    /// The service's time since `at`, which may be before it started.
    pub(crate) fn since(&self, at: SystemTime) -> Duration {
        self.scaled(at.elapsed().unwrap_or_default())
    }

    /// How much of the service's time passes in `duration`.
    fn scaled(&self, duration: Duration) -> Duration {
        // Any scale is allowed, and `Duration`'s own arithmetic panics.
        Duration::try_from_secs_f64(duration.as_secs_f64() * self.scale).unwrap_or(Duration::MAX)
    }
}

/// A wait of this many seconds, at most [`FOREVER`].
pub(crate) fn wait(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(FOREVER, |wait| wait.min(FOREVER))
}
