use core::fmt;

use crate::{Error, writer::Writer};

/// Where DPS is to be found: the global endpoint unless told otherwise.
///
/// ```
/// use azure_dps::Endpoint;
///
/// assert_eq!(Endpoint::default().host(), "global.azure-devices-provisioning.net");
///
/// let china = Endpoint::parse("global.azure-devices-provisioning.cn")?;
/// assert_eq!((china.is_https(), china.port()), (true, 443));
///
/// let emulator = Endpoint::parse("http://127.0.0.1:8080")?;
/// assert_eq!((emulator.is_https(), emulator.port()), (false, 8080));
///
/// // Without TLS the token would be anyone's, so plain http stays on this machine.
/// assert!(Endpoint::parse("http://global.azure-devices-provisioning.net").is_err());
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// A transport over a stream of the caller's uses the host and port for the `Host` header
/// only: what the stream is connected to, and how it is secured, is the caller's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    https: bool,
    host: &'a str,
    port: u16,
}

impl<'a> Endpoint<'a> {
    /// The global endpoint of the public cloud.
    ///
    /// Source: [service operations endpoint](https://learn.microsoft.com/azure/iot-dps/concepts-service#device-provisioning-endpoint).
    pub const GLOBAL: Endpoint<'static> =
        Endpoint { https: true, host: "global.azure-devices-provisioning.net", port: 443 };

    /// Reads `host`, `host:port`, or a URL of these with `https://`; `http://` for loopback
    /// addresses only. An IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`].
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let (https, authority) = match text.split_once("://") {
            None => (true, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some(_) => return Err(Error::InvalidEndpoint),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let end_of_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match authority.get(end_of_host..).and_then(|rest| rest.find(':')) {
            None => (authority, None),
            Some(colon) => {
                let (host, port) = authority.split_at_checked(end_of_host + colon).ok_or(Error::InvalidEndpoint)?;
                let port = crate::json::parse_u32(port.as_bytes().get(1..).unwrap_or_default());
                (host, Some(port.ok_or(Error::InvalidEndpoint)?))
            }
        };
        let port = match port {
            None if https => 443,
            None => 80,
            Some(port) => u16::try_from(port).map_err(|_| Error::InvalidEndpoint)?,
        };
        if port == 0 || !is_host(host) || !(https || is_loopback(host)) {
            return Err(Error::InvalidEndpoint);
        }
        Ok(Self { https, host, port })
    }

    /// The host name or address, an IPv6 address in brackets.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// The TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the endpoint is to be reached over TLS.
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// The host, and the port where it is not the scheme's own.
    pub(crate) fn write_authority(&self, writer: &mut Writer<'_>) {
        writer.str(self.host);
        if self.port != if self.https { 443 } else { 80 } {
            writer.byte(b':');
            writer.decimal(u64::from(self.port));
        }
    }
}

impl Default for Endpoint<'_> {
    fn default() -> Self {
        Self::GLOBAL
    }
}

impl fmt::Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || host.parse::<core::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}
