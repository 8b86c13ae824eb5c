//! The configuration: the file, the options that take precedence over it, and the findings in both.

use std::{fs, path::Path};

use azure_dps_emulator::{Config, Document, Finding};

use crate::{
    arguments::{Arguments, OrNone},
    failure::Failure,
};

/// The configuration from the command line and the file.
pub(crate) struct Configuration {
    pub(crate) config: Config,
    /// The file's name, if there is a file.
    pub(crate) file: Option<String>,
    pub(crate) findings: Vec<Finding>,
}

impl Configuration {
    /// Reads as much as possible. The certificate of the TLS listeners is read only for the check. At a start, the
    /// emulator reads it again.
    pub(crate) fn read(arguments: &Arguments) -> Self {
        let mut configuration = Self::read_file(arguments);
        if arguments.configuration.check {
            configuration.findings.extend(certificate_finding(&configuration.config, arguments));
        }
        configuration
    }

    fn read_file(arguments: &Arguments) -> Self {
        let Some(path) = &arguments.configuration.config else {
            let mut config = Config::contoso();
            apply_flags(&mut config, arguments);
            let errors = config.check().err().map(|error| error.findings().to_vec()).unwrap_or_default();
            let findings = errors.into_iter().chain(config.warnings());
            return Self { file: None, findings: findings.map(|each| blame_flags(each, arguments)).collect(), config };
        };
        let file = Some(path.display().to_string());
        match fs::read_to_string(path) {
            Ok(text) => {
                let mut document = Document::read(&text);
                apply_flags(&mut document.config, arguments);
                let findings = document.findings().into_iter().map(|each| blame_flags(each, arguments)).collect();
                Self { file, findings, config: document.config }
            }
            Err(error) => {
                let finding = Finding::of_text(format!("the file cannot be read: {error}"));
                Self { file, findings: vec![finding], config: Config::default() }
            }
        }
    }

    /// Returns `true` if the configuration cannot be used.
    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// Returns a finding in the form that compilers use: `my-dps.toml:3:1: error: scope: this key is unknown`.
    pub(crate) fn line(&self, finding: &Finding) -> String {
        let place = match (&self.file, finding.line(), finding.column()) {
            (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: "),
            (Some(file), ..) if !finding.is_of_option() => format!("{file}: "),
            _ => String::new(),
        };
        let level = if finding.is_error() { "error" } else { "warning" };
        let path = Some(finding.path()).filter(|path| !path.is_empty()).map(|path| format!("{path}: "));
        format!("{place}{level}: {}{}", path.unwrap_or_default(), finding.message())
    }

    /// Returns the configuration, or a failure with all its errors.
    pub(crate) fn usable(self) -> Result<Self, Failure> {
        if self.has_errors() {
            let errors = self.findings.iter().filter(|finding| finding.is_error());
            let lines: Vec<_> = errors.map(|finding| self.line(finding)).collect();
            Err(Failure::config(format!("the configuration cannot be used:\n{}", lines.join("\n"))))
        } else {
            Ok(self)
        }
    }
}

/// Returns the findings in the certificate of `--tls-certificate`.
fn certificate_finding(config: &Config, arguments: &Arguments) -> Option<Finding> {
    let flags = &arguments.certificates;
    let (certificate, key) = (flags.tls_certificate.as_ref()?, flags.tls_key.as_ref()?);
    let unreadable = |path: &Path, error| Finding::of_text(format!("{}: {error}", path.display()));
    let read = |path: &Path| fs::read(path).map_err(|error| unreadable(path, error));
    let finding = match (read(certificate), read(key)) {
        (Ok(chain), Ok(key)) => config.check_certificate(&chain, &key, &arguments.names.gateway_name)?,
        (Err(finding), _) | (_, Err(finding)) => finding,
    };
    Some(finding.of_option("--tls-certificate"))
}

/// Attributes a finding to the option that set the value, not to the file.
fn blame_flags(finding: Finding, arguments: &Arguments) -> Finding {
    if arguments.configuration.webhook.is_some() && finding.path() == "webhook_url" {
        finding.of_option("--webhook")
    } else {
        finding
    }
}

fn apply_flags(config: &mut Config, arguments: &Arguments) {
    let flags = &arguments.behaviour;
    if arguments.configuration.webhook.is_some() {
        config.webhook_url.clone_from(&arguments.configuration.webhook);
    }
    let behaviour = &mut config.behaviour;
    for (argument, setting) in [
        (flags.retry_after, &mut behaviour.retry_after),
        (flags.registrations_per_minute, &mut behaviour.registrations_per_minute),
        (flags.operations_per_minute, &mut behaviour.operations_per_minute),
        (flags.device_polls_per_10s, &mut behaviour.device_polls_per_10s),
    ] {
        if let Some(OrNone(number)) = argument {
            *setting = number;
        }
    }
    if flags.drop_every.is_some() {
        behaviour.drop_every = flags.drop_every;
    }
    if flags.throttle_webhook_every.is_some() {
        config.contoso.throttle_every = flags.throttle_webhook_every;
    }
}
