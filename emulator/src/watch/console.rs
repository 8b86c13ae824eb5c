//! What the binaries share: lines on standard output that never hold up the service, and the
//! signals that end them.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

/// How many entries may wait for a slow reader before more are dropped, and how many bytes.
const BACKLOG: usize = 4096;
const BACKLOG_BYTES: usize = 64 * 1024 * 1024;

/// Standard output behind a thread, so that a reader that has stopped or gone does not hold up the service.
#[derive(Debug)]
pub struct Console {
    lines: SyncSender<String>,
    drained: Receiver<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The bytes that wait.
    waiting: AtomicUsize,
    /// The entries that were dropped.
    dropped: AtomicU64,
}

/// Prints lines, from any thread.
#[derive(Clone, Debug)]
pub struct Printer {
    lines: SyncSender<String>,
    counts: Arc<Counts>,
}

impl Console {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (lines, received) = mpsc::sync_channel::<String>(BACKLOG);
        let (done, drained) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let printed = Arc::clone(&counts);
        thread::Builder::new().name("console".to_owned()).spawn(move || {
            for line in received {
                let mut stdout = io::stdout().lock();
                // If the reader has gone, lines are taken and not printed.
                let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
                printed.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            let _ = done.send(());
        })?;
        Ok(Self { lines, drained, counts })
    }

    /// A handle for printing.
    #[must_use]
    pub fn printer(&self) -> Printer {
        Printer { lines: self.lines.clone(), counts: Arc::clone(&self.counts) }
    }

    /// Waits a moment for what is still to be printed, and says on standard error how many lines were
    /// not. All printers must be gone before.
    pub fn finish(self) {
        drop(self.lines);
        let _ = self.drained.recv_timeout(Duration::from_secs(1));
        match self.counts.dropped.load(Ordering::Relaxed) {
            0 => {}
            lines => eprintln!("{lines} lines were not printed: whoever reads them is too slow"),
        }
    }
}

impl Printer {
    /// Prints a line, or several that belong together. Drops them if too many wait already.
    pub fn line(&self, line: impl Into<String>) {
        let line = line.into();
        let Counts { waiting, dropped } = &*self.counts;
        let bytes = line.len();
        let has_room = waiting.fetch_add(bytes, Ordering::Relaxed) < BACKLOG_BYTES;
        if !has_room || self.lines.try_send(line).is_err() {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Raises the number of files that this process may have open to what the system allows. Each connection is a file, and
/// shells start with 1 024. For programs, not for libraries.
pub fn allow_many_connections() {
    // Without it there are fewer connections at a time, and the log says so.
    #[cfg(unix)]
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// Now, as Azure Functions writes it in its logs.
#[must_use]
pub fn log_time() -> String {
    crate::clock::wall_time::log_time(std::time::SystemTime::now())
}

/// A peer's text as it may be printed: without control characters.
#[must_use]
pub fn printable(text: &str) -> String {
    super::text::printable(text)
}

/// A line of JSON that steers no terminal: JSON escapes the control characters up to U+001F itself, the others may be
/// in its strings only.
#[must_use]
pub fn json_line(value: &serde_json::Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        if c.is_control() {
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    line
}

/// Ctrl-C and SIGTERM, caught from the moment when this is made.
#[derive(Debug)]
pub struct Signals {
    runtime: tokio::runtime::Runtime,
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    /// Catches them.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        #[cfg(unix)]
        let signals = {
            use tokio::signal::unix::{SignalKind, signal};
            let _entered = runtime.enter();
            [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]
        };
        Ok(Self {
            runtime,
            #[cfg(unix)]
            signals,
        })
    }

    /// Waits for one of them.
    pub fn wait(self) {
        #[cfg(unix)]
        {
            let [mut interrupt, mut terminate] = self.signals;
            self.runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
        }
        #[cfg(not(unix))]
        self.runtime.block_on(async {
            let _ = tokio::signal::ctrl_c().await;
        });
    }
}
