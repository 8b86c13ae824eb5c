//! The reasons why an emulator does not start.

use std::{fmt, io};

use crate::{config::ConfigError, identity::error::CredentialError, store::disk::DataError};

/// The reasons why an emulator does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is not valid.
    Config(ConfigError),
    /// The emulator cannot listen on the address.
    #[non_exhaustive]
    Listen {
        /// The listener: `http`, `https`, `mqtt`, `mqtts` or `control`.
        listener: &'static str,
        /// The address of this listener.
        address: String,
        /// The error of the system.
        error: io::Error,
    },
    /// The control API would be open to other machines, or its token is not valid.
    Control(String),
    /// The time scale is not a number above zero.
    TimeScale,
    /// A host of [`Builder::allow_webhook`](crate::Builder::allow_webhook) is not a host name or IP address.
    WebhookHost(String),
    /// A name of [`Builder::gateway_name`](crate::Builder::gateway_name) is not a host name or IP address.
    GatewayName(String),
    /// A certificate could not be created, or the certificate of
    /// [`Builder::certificate`](crate::Builder::certificate) is not valid.
    Tls(String),
    /// The data folder cannot be used. For example, another process uses it, or a newer version wrote it.
    Data(String),
    /// The system reported another error, for example that no thread can be started.
    Io(io::Error),
}

impl StartError {
    pub(super) fn tls(error: &dyn fmt::Display) -> Self {
        Self::Tls(error.to_string())
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<CredentialError> for StartError {
    fn from(error: CredentialError) -> Self {
        Self::Config(error.into())
    }
}

impl From<DataError> for StartError {
    fn from(DataError(why): DataError) -> Self {
        Self::Data(why)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "the configuration cannot be used: {error}"),
            Self::Listen { address, error, .. } => {
                write!(f, "cannot listen on {address}: {error}")?;
                if error.kind() == io::ErrorKind::AddrInUse {
                    f.write_str("; port 0 takes a free one")?;
                }
                Ok(())
            }
            Self::TimeScale => f.write_str("the time scale is not a number above zero"),
            Self::WebhookHost(fault) => write!(f, "a webhook cannot be allowed: {fault}"),
            Self::GatewayName(fault) => write!(f, "a gateway name cannot be used: {fault}"),
            Self::Control(why) => write!(f, "cannot start the control API: {why}"),
            Self::Tls(error) => write!(f, "cannot use the certificates: {error}"),
            Self::Data(error) => f.write_str(error),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Listen { error, .. } | Self::Io(error) => Some(error),
            Self::Control(_)
            | Self::TimeScale
            | Self::WebhookHost(_)
            | Self::GatewayName(_)
            | Self::Tls(_)
            | Self::Data(_) => None,
        }
    }
}
