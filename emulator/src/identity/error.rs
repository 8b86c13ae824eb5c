//! The reason why a key or certificate cannot be used.

use std::fmt;

/// The reason why a key or certificate cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialError(pub(super) String);

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CredentialError {}
