//! A thread for the service, so that tests need no async runtime.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::oneshot, task};

/// A thread with a runtime. Dropping this value ends the thread.
pub(crate) struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs the tasks that `start` spawns, until the worker is dropped.
    pub(crate) fn start<T: Send + 'static>(
        name: &str,
        start: impl FnOnce() -> Vec<task::JoinHandle<T>> + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async move {
                let _tasks = start();
                // Dropping the sender also ends the thread.
                let _ = stopped.await;
            });
            // The limit is for the name look-up of a webhook, which cannot be cancelled.
            runtime.shutdown_timeout(Duration::from_millis(100));
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread has already reported its panic.
            let _ = thread.join();
        }
    }
}
