//! What both programs need: standard output that never blocks the service, and the signals that end a program.

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

/// The most entries that wait for a slow reader of standard output. More entries are dropped.
const BACKLOG: usize = 4096;
const BACKLOG_BYTES: usize = 64 * 1024 * 1024;

/// Standard output behind a thread, so that a slow or closed reader does not block the service.
#[derive(Debug)]
pub struct Console {
    lines: SyncSender<String>,
    drained: Receiver<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The number of bytes that wait.
    waiting: AtomicUsize,
    /// The number of entries that were dropped.
    dropped: AtomicU64,
}

/// A handle that prints lines from any thread.
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
    /// Returns an error if the system cannot start a thread.
    pub fn start() -> io::Result<Self> {
        let (lines, received) = mpsc::sync_channel::<String>(BACKLOG);
        let (done, drained) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let printed = Arc::clone(&counts);
        thread::Builder::new().name("console".to_owned()).spawn(move || {
            for line in received {
                let mut stdout = io::stdout().lock();
                // If the reader has closed its end, the lines are lost.
                let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
                printed.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            let _ = done.send(());
        })?;
        Ok(Self { lines, drained, counts })
    }

    /// Returns a handle for printing.
    #[must_use]
    pub fn printer(&self) -> Printer {
        Printer { lines: self.lines.clone(), counts: Arc::clone(&self.counts) }
    }

    /// Waits at most 1 s until the waiting lines are printed. If lines were dropped, says how many on standard error.
    /// Drop all printers before this call.
    pub fn finish(self) {
        drop(self.lines);
        let _ = self.drained.recv_timeout(Duration::from_secs(1));
        match self.counts.dropped.load(Ordering::Relaxed) {
            0 => {}
            lines => eprintln!("{lines} lines were not printed, because the reader of the output is too slow"),
        }
    }
}

impl Printer {
    /// Prints an entry of one or more lines. Drops the entry if too many entries wait.
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

/// Raises the limit of open files of this process as far as the system allows. Each connection is a file, and shells
/// start programs with a limit of 1 024. For programs only: a library must not change limits.
pub fn allow_many_connections() {
    // If this fails, fewer connections fit at a time, and the log says so.
    #[cfg(unix)]
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// Returns the current time as Azure Functions writes it in its logs.
#[must_use]
pub fn log_time() -> String {
    crate::clock::wall_time::log_time(std::time::SystemTime::now())
}

/// Returns a client's text without control characters.
#[must_use]
pub fn printable(text: &str) -> String {
    super::text::printable(text)
}

/// Returns JSON in one line without control characters. JSON itself escapes only the control characters up to U+001F.
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

/// Catches Ctrl-C and SIGTERM from its creation on.
#[derive(Debug)]
pub struct Signals {
    runtime: tokio::runtime::Runtime,
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    /// Starts to catch the signals.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses.
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

    /// Blocks until one of the signals arrives.
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
