//! A thread for the service, so that tests need no async runtime.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::oneshot, task};

/// A thread with a runtime on it, which ends when this is dropped.
pub(crate) struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs what `start` spawns, until the worker is dropped.
    pub(crate) fn start<T: Send + 'static>(
        name: &str,
        start: impl FnOnce() -> Vec<task::JoinHandle<T>> + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async move {
                let _tasks = start();
                // A dropped sender ends it, too.
                let _ = stopped.await;
            });
            // Does not wait long for a name look-up of a webhook that is still under way.
            runtime.shutdown_timeout(Duration::from_millis(100));
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic on that thread has been reported there.
            let _ = thread.join();
        }
    }
}
