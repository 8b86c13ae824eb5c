use core::fmt;

use crate::{
    error::Error,
    text::{
        json::parse_u32,
        writer::{Writer, digits},
    },
};

/// The address of DPS. The default is the global endpoint.
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
/// // Plain HTTP would reveal the token, so it is accepted for this machine only.
/// assert!(Endpoint::parse("http://global.azure-devices-provisioning.net").is_err());
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// [`blocking`](crate::blocking) and [`asynch`](crate::asynch) use the endpoint for the `Host` header only.
/// The caller connects the stream and secures it.
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

    /// Creates an endpoint from `host` or `host:port`, with or without `https://` before it.
    ///
    /// Accepts `http://` for loopback addresses only. Write an IPv6 address in brackets.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`] for any other text.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let (https, authority) = match (after_scheme(text, "https://"), after_scheme(text, "http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            // Another scheme is rejected later: no host has a `/`.
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

    /// Returns the host name or address. An IPv6 address has its brackets.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns `true` if the endpoint needs TLS.
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// Writes the host, and the port unless it is the default port of the scheme.
    pub(crate) fn write_authority(&self, writer: &mut Writer<'_>) {
        writer.str(self.host);
        if self.has_other_port() {
            writer.byte(b':');
            writer.decimal(u64::from(self.port));
        }
    }

    /// Returns the length of what [`write_authority`](Self::write_authority) writes.
    pub(crate) const fn authority_len(&self) -> usize {
        self.host.len() + if self.has_other_port() { 1 + digits(self.port as usize) } else { 0 }
    }

    const fn has_other_port(&self) -> bool {
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

/// Returns `true` if the text can be a host.
fn is_host(host: &str) -> bool {
    match host.as_bytes() {
        [b'[', address @ .., b']'] => is_ipv6(address),
        host => {
            !host.is_empty()
                && host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    }
}

/// Returns `true` if the text is an IPv6 address. The parser of `Ipv6Addr` does not pass the no-panic
/// proof: see `crate::total`.
fn is_ipv6(address: &[u8]) -> bool {
    let Some(gap) = address.windows(2).position(|pair| pair == b"::") else {
        return groups(address, true) == Some(8);
    };
    let head = address.get(..gap).unwrap_or_default();
    let tail = address.get(gap + 2..).unwrap_or_default();
    // `::` replaces at least one group.
    matches!((groups(head, false), groups(tail, true)), (Some(head), Some(tail)) if head + tail < 8)
}

/// Returns the number of 16-bit groups of an IPv6 address or a part of one. An IPv4 address at the end
/// counts as two groups.
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

/// Returns `true` if the text is an IPv4 address.
fn is_ipv4(text: &[u8]) -> bool {
    core::str::from_utf8(text).is_ok_and(|text| text.parse::<core::net::Ipv4Addr>().is_ok())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || host.parse::<core::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}
