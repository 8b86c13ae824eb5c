//! Connections to DPS for [`azure_dps::asynch::run`]. Copy this file.

use core::time::Duration;

use azure_dps::asynch::{Connect, ConnectError};
use mbedtls_rs::SessionError;

use crate::tls::{Connector, Error, Stream};

/// The address of DPS, and the connector.
pub struct Service<'s, 'd> {
    pub connector: &'s mut Connector<'d>,
    /// The host name that the service's certificate must be for, such as `global.azure-devices-provisioning.net`.
    pub host: &'s str,
    /// The same name, or an IPv4 address.
    pub address: &'s str,
    pub port: u16,
}

impl Connect for Service<'_, '_> {
    type Error = Error;
    type StreamError = SessionError;
    type Stream<'s>
        = Stream<'s>
    where
        Self: 's;

    /// Needs no time-out: the run drops this future if it takes too long.
    async fn connect(&mut self, _: Duration) -> Result<Stream<'_>, ConnectError<Error>> {
        self.connector.connect(self.host, self.address, self.port).await
    }
}
