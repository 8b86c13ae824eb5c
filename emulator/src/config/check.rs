//! A configuration is read from its text, and checked.

use super::{Config, ConfigError, Finding, document::Document, rules, warnings};

impl Config {
    /// Reads a configuration, refusing what it does not know.
    ///
    /// ```
    /// # use azure_dps_emulator::Config;
    /// let config = Config::from_toml(
    ///     r#"
    ///     id_scope = "0ne00002193"
    ///     linked_hubs = ["hub-1.azure-devices.net"]
    ///
    ///     [[enrollment_groups]]
    ///     enrollment_group_id = "all-my-devices"
    ///     primary_key = "c2l4dGVlbiBieXRlcyEhIQ=="
    ///     "#,
    /// )?;
    /// assert_eq!(config.linked_hubs.len(), 1);
    /// # Ok::<(), azure_dps_emulator::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the text is no TOML, names something that the emulator does not know, or breaks a rule. The error tells all
    /// that is wrong, with the places in the text.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let document = Document::read(text);
        let errors: Vec<_> = document.findings().into_iter().filter(Finding::is_error).collect();
        if errors.is_empty() { Ok(document.config) } else { Err(ConfigError::new(errors)) }
    }

    /// Returns what is allowed but hardly intended: no linked hub, no enrollment, a certificate that TLS does not
    /// accept, custom allocation without a webhook of its own, or settings without effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        warnings::warnings(self)
    }

    /// Checks the rules between fields, which hold for configurations built in code too.
    ///
    /// # Errors
    ///
    /// All that makes the configuration unusable.
    pub fn check(&self) -> Result<(), ConfigError> {
        let errors = rules::errors(self);
        if errors.is_empty() { Ok(()) } else { Err(ConfigError::new(errors)) }
    }
}
