//! Reads the files and pipes that the command line names. Each has a size limit, and each pipe also has a time limit.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use zeroize::Zeroizing;

pub type Bytes = Zeroizing<Vec<u8>>;

/// The time limit for a pipe. A program that writes a key into a pipe may first ask for a passphrase.
pub const PIPE_TIMEOUT: Duration = Duration::from_secs(60);

/// The purpose of a file, and its size limit in bytes.
#[derive(Clone, Copy)]
pub struct Input {
    what: &'static str,
    limit: usize,
}

impl Input {
    pub const KEY: Self = Self { what: "the key", limit: 4 << 10 };
    /// Ten times the limit of the service.
    pub const PAYLOAD: Self = Self { what: "the payload", limit: 1 << 20 };
    pub const CSR: Self = Self { what: "the csr", limit: 64 << 10 };
    /// All roots of a Linux distribution take 250 kB, or 1 MB with comments.
    pub const CA: Self = Self { what: "the CA certificates", limit: 4 << 20 };
    pub const CERTIFICATE: Self = Self { what: "the device's certificate", limit: 1 << 20 };
    pub const PRIVATE_KEY: Self = Self { what: "the private key", limit: 64 << 10 };
    /// 100 000 IDs of the maximum length with line ends, and space for comments.
    pub const IDS: Self = Self { what: "the registration IDs", limit: 16 << 20 };
    /// Larger than any answer that the gateway accepts.
    pub const RECORD: Self = Self { what: "the record", limit: 4 << 20 };

    /// Reads a regular file, or a pipe such as `<(command)` of a shell.
    pub fn read(self, path: &Path) -> Result<Bytes, String> {
        self.read_within(path, PIPE_TIMEOUT)
    }

    /// Reads a regular file only.
    pub fn read_file(self, path: &Path) -> Result<Bytes, String> {
        self.read_within(path, Duration::ZERO)
    }

    /// Reads standard input without a time limit, because a person may be typing.
    pub fn read_stdin(self) -> Result<Bytes, String> {
        // `io::stdin` would keep a copy of the input in its buffer.
        let stdin = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        let read = stdin.and_then(|stdin| self.read_from(stdin));
        read.map_err(|error| self.unreadable(Path::new("standard input"), &error))
    }

    /// Reads a regular file, or a pipe within `patience`. If `patience` is zero, a pipe is an error.
    pub fn read_within(self, path: &Path, patience: Duration) -> Result<Bytes, String> {
        let read = || {
            let kind = fs::metadata(path)?.file_type();
            if kind.is_fifo() && !patience.is_zero() {
                let file = path.to_owned();
                // Opening a pipe blocks until another program opens it for writing.
                return within(patience, move || self.read_from(File::open(file)?)).map_err(|error| {
                    match error.kind() {
                        ErrorKind::TimedOut => {
                            other(format!("the pipe was not written to its end within {patience:?}"))
                        }
                        _ => error,
                    }
                });
            }
            if !kind.is_file() {
                let kind = match kind {
                    _ if kind.is_dir() => "a directory",
                    _ if kind.is_fifo() => "a pipe",
                    _ => "a device",
                };
                return Err(other(format!("it is {kind}, not a file")));
            }
            self.read_from(File::open(path)?)
        };
        read().map_err(|error| self.unreadable(path, &error))
    }

    fn read_from(self, source: impl Read) -> io::Result<Bytes> {
        // Allocates the full size at once, because a vector that grows leaves copies of a key in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.limit + 1));
        source.take(self.limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > self.limit {
            return Err(other(format!("more than {} bytes", self.limit)));
        }
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(other("it is UTF-16, as PowerShell writes it: save it as UTF-8".to_owned()));
        }
        // Removes the byte order mark that Windows editors write. No binary format here begins with these bytes.
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        Ok(bytes)
    }

    fn unreadable(self, path: &Path, error: &io::Error) -> String {
        format!("cannot read {}: {}: {error}", self.what, path.display())
    }

    /// Returns the input as text.
    pub fn text(self, mut bytes: Bytes) -> Result<Zeroizing<String>, String> {
        match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(format!("{} is not UTF-8 text", self.what))
            }
        }
    }
}

fn other(text: String) -> io::Error {
    io::Error::other(text)
}

/// Runs `work` on another thread, and waits for at most this time. A later result is discarded.
pub fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || drop(sender.send(work())))?;
    receiver.recv_timeout(time).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
