//! Why a key or certificate cannot be used.

use std::fmt;

/// A key or certificate that cannot be used, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialError(pub(super) String);

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CredentialError {}
