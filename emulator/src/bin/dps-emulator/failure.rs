//! Why the program ends, and with which exit code.

use std::fmt;

/// The exit code, and what is said on standard error. `--help` lists the codes.
pub(crate) struct Failure(pub(crate) u8, pub(crate) String);

impl Failure {
    /// It could not start.
    pub(crate) fn start(error: impl fmt::Display) -> Self {
        Self(1, error.to_string())
    }

    /// The command line is wrong.
    pub(crate) fn command_line(error: impl fmt::Display) -> Self {
        Self(2, error.to_string())
    }

    /// The configuration cannot be read or used.
    pub(crate) fn config(error: impl fmt::Display) -> Self {
        Self(3, error.to_string())
    }
}
