//! The service's own waiting, which tests may let pass faster.

use std::time::{Duration, Instant};

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
        seconds(duration.as_secs_f64() / self.scale)
    }

    /// The world's time since the service started.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The service's time since it started.
    pub(crate) fn elapsed(&self) -> Duration {
        seconds(self.started.elapsed().as_secs_f64() * self.scale)
    }
}

/// As long as it can be told: any scale is allowed, and `Duration`'s own arithmetic panics.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
