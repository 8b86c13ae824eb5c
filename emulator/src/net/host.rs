//! Hosts, as clients and configurations write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the host of an authority. An IPv6 address has brackets there.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Returns a host in lower case, without the final dot of an absolute name.
pub(crate) fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Returns `true` for a loopback address, for `localhost` and for names under `localhost`. The host must be
/// [`normal`].
///
/// Other names are never loopback, because they may resolve to another address later.
pub(crate) fn is_loopback(host: &str) -> bool {
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| is_loopback(address.into()))
        || v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok_and(|address| is_loopback(address.into())))
}

/// Reads an address to listen on.
///
/// # Errors
///
/// Returns an error if the host or the port is missing.
pub fn listening_address(text: &str) -> Result<String, String> {
    let is_host = |host: &str| !host.is_empty() && (!host.contains(':') || host.starts_with('['));
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => {
            let port = text.parse::<u16>().unwrap_or(8080);
            Err(format!("it must be ADDR:PORT, for example 127.0.0.1:{port} or [::1]:{port}"))
        }
    }
}
