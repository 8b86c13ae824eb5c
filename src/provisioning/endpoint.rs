use core::fmt;

use crate::{
    error::Error,
    text::{
        json::parse_u32,
        writer::{Writer, digits},
    },
};

/// Where DPS is to be found: the global endpoint unless told otherwise.
///
/// ```
/// use azure_dps::provisioning::Endpoint;
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
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
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
        let (https, authority) = match (after_scheme(text, "https://"), after_scheme(text, "http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            // Any other scheme has characters that no host has.
            _ => (true, text),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let bytes = authority.as_bytes();
        let end_of_host = bytes.iter().rposition(|&byte| byte == b']').map_or(0, |bracket| bracket + 1);
        let colon = bytes.iter().skip(end_of_host).position(|&byte| byte == b':');
        let (host, port) = match colon.and_then(|colon| authority.split_at_checked(end_of_host + colon)) {
            None => (authority, None),
            Some((host, port)) => {
                let port = parse_u32(port.as_bytes().get(1..).unwrap_or_default());
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
        if self.has_own_port() {
            writer.byte(b':');
            writer.decimal(u64::from(self.port));
        }
    }

    /// The length of what [`write_authority`](Self::write_authority) writes.
    pub(crate) const fn authority_len(&self) -> usize {
        self.host.len() + if self.has_own_port() { 1 + digits(self.port as usize) } else { 0 }
    }

    const fn has_own_port(&self) -> bool {
        self.port != if self.https { 443 } else { 80 }
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

fn after_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Whether this can be a host.
fn is_host(host: &str) -> bool {
    match host.as_bytes() {
        [b'[', address @ .., b']'] => is_ipv6(address),
        host => {
            !host.is_empty()
                && host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    }
}

/// Whether `Ipv6Addr` could be read from this. (Its own parser may panic, as far as the linker
/// sees.)
fn is_ipv6(address: &[u8]) -> bool {
    let Some(gap) = address.windows(2).position(|pair| pair == b"::") else {
        return groups(address, true) == Some(8);
    };
    let head = address.get(..gap).unwrap_or_default();
    let tail = address.get(gap + 2..).unwrap_or_default();
    // The gap stands for one group at least.
    matches!((groups(head, false), groups(tail, true)), (Some(head), Some(tail)) if head + tail < 8)
}

/// How many groups of 16 bits these are, where the last two may be an IPv4 address.
fn groups(text: &[u8], may_end_in_ipv4: bool) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let mut groups = text.split(|&byte| byte == b':').peekable();
    let mut count = 0;
    while let Some(group) = groups.next() {
        count += match group.len() {
            1..=4 if group.iter().all(u8::is_ascii_hexdigit) => 1,
            _ if may_end_in_ipv4 && groups.peek().is_none() && is_ipv4(group) => 2,
            _ => return None,
        };
    }
    Some(count)
}

/// Four decimal numbers up to 255, without leading zeros.
fn is_ipv4(text: &[u8]) -> bool {
    core::str::from_utf8(text).is_ok_and(|text| text.parse::<core::net::Ipv4Addr>().is_ok())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || host.parse::<core::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}
