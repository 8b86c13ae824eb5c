//! The registrations that are running, and how to stop one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

type Why = Option<&'static str>;

/// Why a registration was stopped by a reset.
pub(super) const FORGOTTEN: &str = "everything was reset";

/// The running registrations, by their operation IDs.
#[derive(Default)]
pub(super) struct Jobs(Mutex<HashMap<String, watch::Sender<Why>>>);

/// Tells a running registration that it no longer counts.
pub(super) struct Stopped(watch::Receiver<Why>);

impl Jobs {
    pub(super) fn start(&self, operation_id: &str) -> Stopped {
        let (stop, stopped) = watch::channel(None);
        self.with(|jobs| jobs.insert(operation_id.to_owned(), stop));
        Stopped(stopped)
    }

    /// Stops a registration, if it is running. It stays here until it has come to its end.
    pub(super) fn stop(&self, operation_id: Option<String>, why: &'static str) {
        self.with(|jobs| {
            if let Some(stop) = operation_id.and_then(|id| jobs.get(&id)) {
                stop.send_replace(Some(why));
            }
        });
    }

    /// Drops a registration that has come to its end.
    pub(super) fn end(&self, operation_id: &str) {
        self.with(|jobs| jobs.remove(operation_id));
    }

    /// Stops all registrations: they are forgotten, and leave no record. This holds for those that were stopped already
    /// and have not noticed it.
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
    /// Waits until the registration no longer counts. Returns the reason.
    pub(super) async fn wait(&self) -> &'static str {
        let mut stopped = self.0.clone();
        stopped.wait_for(Option::is_some).await.ok().and_then(|why| *why).unwrap_or(FORGOTTEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was stopped and is then forgotten leaves no record, and one that has ended stays as it is.
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
