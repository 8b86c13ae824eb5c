//! The failures of the program, and their exit codes.

use std::fmt;

/// An exit code and a message for standard error. `--help` lists the codes.
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// The message. `None` if it was already printed.
    pub(crate) why: Option<String>,
}

impl Failure {
    /// The emulator could not start, or `--check-health` found no emulator that is ready.
    pub(crate) fn start(error: impl fmt::Display) -> Self {
        Self { code: 1, why: Some(error.to_string()) }
    }

    /// The command line is wrong.
    pub(crate) fn command_line(error: impl fmt::Display) -> Self {
        Self { code: 2, why: Some(error.to_string()) }
    }

    /// The configuration cannot be read or used.
    pub(crate) fn config(error: impl fmt::Display) -> Self {
        Self { code: 3, why: Some(error.to_string()) }
    }

    /// `--check` found errors and printed them.
    pub(crate) fn checked() -> Self {
        Self { code: 3, why: None }
    }
}
