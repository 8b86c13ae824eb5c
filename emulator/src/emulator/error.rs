//! Why an emulator did not start.

use std::{fmt, io};

use crate::{config::ConfigError, identity::error::CredentialError, store::disk::DataError};

/// Why an emulator did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    Config(ConfigError),
    /// The address cannot be listened on.
    #[non_exhaustive]
    Listen {
        /// The listener: `http`, `https`, `mqtt`, `mqtts` or `control`.
        listener: &'static str,
        /// The address that was given for it.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The control API would be open to others, or its token cannot be used.
    Control(String),
    /// The time scale is not a number above zero.
    TimeScale,
    /// A host of [`Builder::allow_webhook`](crate::Builder::allow_webhook) is not a host.
    WebhookHost(String),
    /// A name of [`Builder::gateway_name`](crate::Builder::gateway_name) is not a host.
    GatewayName(String),
    /// The certificates could not be made, or the caller's cannot be used.
    Tls(String),
    /// The data folder cannot be used: another process uses it, a newer version wrote it, other users can read it, ….
    Data(String),
    /// The system refused something else, such as a thread.
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
