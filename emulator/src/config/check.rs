//! Reads a configuration from text, and checks it.

use super::{Config, ConfigError, Finding, document::Document, finding::Path, rules, warnings};
use crate::identity::server_certificate::{host_names, lacks_names, own};

impl Config {
    /// Reads a configuration, and refuses unknown names.
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
    /// Fails if the text is not TOML, has an unknown name, or breaks a rule. The error has all findings, with their places
    /// in the text.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let document = Document::read(text);
        let errors: Vec<_> = document.findings().into_iter().filter(Finding::is_error).collect();
        if errors.is_empty() { Ok(document.config) } else { Err(ConfigError::new(errors)) }
    }

    /// Returns the warnings: no linked hub, no enrollment, a certificate that TLS does not accept, custom allocation
    /// without a webhook, or settings without effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        warnings::warnings(self)
    }

    /// Returns the hosts that the certificate of the TLS listeners must name: hubs, then gateways.
    #[doc(hidden)]
    #[must_use]
    pub fn host_names(&self, gateways: &[String]) -> Vec<String> {
        host_names(self.linked_hubs.iter().chain(gateways))
    }

    /// Returns the errors and warnings of a certificate for the TLS listeners.
    #[doc(hidden)]
    #[must_use]
    pub fn check_certificate(&self, chain_pem: &[u8], key_pem: &[u8], gateways: &[String]) -> Option<Finding> {
        match own(chain_pem, key_pem) {
            Ok(certificate) => {
                let why = lacks_names(&certificate, &self.host_names(gateways))?;
                Some(Finding::warning(Path::default(), why))
            }
            Err(why) => Some(Finding::error(Path::default(), why)),
        }
    }

    /// Checks the rules between fields. They also apply to configurations built in code.
    ///
    /// # Errors
    ///
    /// Fails with all errors of the configuration.
    pub fn check(&self) -> Result<(), ConfigError> {
        let errors = rules::errors(self);
        if errors.is_empty() { Ok(()) } else { Err(ConfigError::new(errors)) }
    }
}
