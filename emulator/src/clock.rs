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
        duration.div_f64(self.scale)
    }

    /// The service's time since it started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed().mul_f64(self.scale)
    }
}
