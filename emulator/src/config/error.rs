//! The error of a configuration that cannot be used.

use std::fmt;

use super::finding::{Finding, Path};
use crate::identity::error::CredentialError;

/// The errors of a configuration that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError(Vec<Finding>);

impl ConfigError {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self(findings)
    }

    /// Returns all errors of the configuration, in the order of its text.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }
}

/// Writes all findings in one line.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if at > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<CredentialError> for ConfigError {
    fn from(error: CredentialError) -> Self {
        Self(vec![Finding::error(Path::default(), error.to_string())])
    }
}
