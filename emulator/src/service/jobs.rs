//! The running registrations, and how to stop them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

type Why = Option<&'static str>;

/// The reason if a reset stopped a registration.
pub(super) const FORGOTTEN: &str = "everything was reset";

/// The running registrations, by their operation IDs.
#[derive(Default)]
pub(super) struct Jobs(Mutex<HashMap<String, watch::Sender<Why>>>);

/// Receives the reason when a registration is stopped.
pub(super) struct Stopped(watch::Receiver<Why>);

impl Jobs {
    pub(super) fn start(&self, operation_id: &str) -> Stopped {
        let (stop, stopped) = watch::channel(None);
        self.with(|jobs| jobs.insert(operation_id.to_owned(), stop));
        Stopped(stopped)
    }

    /// Stops a registration, if it is running. It stays in this list until it has ended.
    pub(super) fn stop(&self, operation_id: Option<String>, why: &'static str) {
        self.with(|jobs| {
            if let Some(stop) = operation_id.and_then(|id| jobs.get(&id)) {
                stop.send_replace(Some(why));
            }
        });
    }

    /// Removes a registration that has ended.
    pub(super) fn end(&self, operation_id: &str) {
        self.with(|jobs| jobs.remove(operation_id));
    }

    /// Stops all registrations, also those that were stopped but have not ended. They leave no record.
    pub(super) fn forget(&self) {
        for (_, stop) in self.with(|jobs| jobs.drain().collect::<Vec<_>>()) {
            stop.send_replace(Some(FORGOTTEN));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, watch::Sender<Why>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stopped {
    /// Waits until the registration is stopped. Returns the reason.
    pub(super) async fn wait(&self) -> &'static str {
        let mut stopped = self.0.clone();
        stopped.wait_for(Option::is_some).await.ok().and_then(|why| *why).unwrap_or(FORGOTTEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reset also applies to registrations that were stopped before but have not ended. Ended registrations do not
    /// change.
    #[tokio::test]
    async fn a_reset_forgets_what_was_stopped_before() {
        let jobs = Jobs::default();
        let [running, stopped, ended] = ["running", "stopped", "ended"].map(|id| jobs.start(id));
        for id in ["stopped", "ended"] {
            jobs.stop(Some(id.to_owned()), "it was disabled");
        }
        jobs.end("ended");
        assert_eq!(stopped.wait().await, "it was disabled");
        jobs.forget();
        for (job, why) in [(running, FORGOTTEN), (stopped, FORGOTTEN), (ended, "it was disabled")] {
            assert_eq!(job.wait().await, why);
        }
    }
}
