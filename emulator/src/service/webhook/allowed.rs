//! Decides which webhooks the service API may set: on this machine, and on hosts that the operator allows.
//!
//! Without this check, a client that may write enrollments could make the emulator POST to any address.

use std::net::Ipv6Addr;

use reqwest::Url;

use crate::{
    config::webhook_url,
    net::host::{is_loopback, normal},
};

/// The hosts besides loopback on which the service API may set webhooks.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// Reads host names and IP addresses.
    ///
    /// # Errors
    ///
    /// Returns an error if a text is more than a host: a URL, or a host with a port.
    pub(crate) fn new(hosts: &[String]) -> Result<Self, String> {
        hosts.iter().map(|host| read_host(host)).collect::<Result<_, _>>().map(Self)
    }

    /// Checks the URL of a webhook that came through the service API. The error has no secret of the URL.
    pub(crate) fn check(&self, url: &str) -> Result<(), String> {
        webhook_url::check(url)?;
        let Some(host) = Url::parse(url).ok().and_then(|url| url.host_str().map(normal)) else {
            return Err("the webhook's URL has no host".to_owned());
        };
        if is_loopback(&host) || self.0.contains(&host) {
            Ok(())
        } else {
            Err(format!(
                "the webhook's host {host:?} is not allowed: the service API may set a webhook on a loopback address or \
                 localhost only; start the emulator with --allow-webhook {host} to allow this host"
            ))
        }
    }
}

/// Reads a host as [`Url`] writes it, so that both have the same spelling.
fn read_host(host: &str) -> Result<String, String> {
    let fault = || format!("{host:?} is not the name or address of a host, without scheme and port");
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let authority = match bare.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) if host.is_empty() || host.contains([':', '/', '\\', '@', '?', '#', '*']) => return Err(fault()),
        Err(_) => host.to_owned(),
    };
    let url = Url::parse(&format!("http://{authority}/")).map_err(|_| fault())?;
    url.host_str().map(normal).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_on_loopback_or_on_an_allowed_host() {
        let hosts = ["Functions.example".to_owned(), "10.0.0.7".to_owned(), "fd00::1".to_owned()];
        let allowed = AllowedHosts::new(&hosts).unwrap();
        for url in [
            "http://127.0.0.1:7071/api/HttpTrigger1?code=secret",
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://127.200.3.4/",
            "https://[::1]:8443/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost:7071/",
            "http://LOCALHOST./",
            "http://functions.localhost/",
            "https://functions.example/api?code=secret",
            "https://FUNCTIONS.example.:444/",
            "http://10.0.0.7:80/",
            "http://[fd00:0::1]/",
        ] {
            assert_eq!(allowed.check(url), Ok(()), "{url}");
        }
        for url in [
            "http://127.0.0.1@evil.example/?code=secret",
            "http://localhost@evil.example/",
            "http://localhost:pass@evil.example/",
            "http://evil.example#@localhost/",
            "http://evil.example\\@localhost/",
            "http://localhost.evil.example/",
            "http://notlocalhost/",
            "http://127.0.0.1.evil.example/",
            "http://128.0.0.1/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
            "http://10.0.0.8/",
            "http://a.functions.example/",
            "http://169.254.169.254/metadata",
            "file://localhost/etc/passwd",
            "http:127.0.0.1/",
            "localhost:7071",
            "",
        ] {
            let why = allowed.check(url).expect_err(url);
            assert!(!why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn an_allowed_host_is_a_host_and_nothing_else() {
        for host in ["functions.example", "10.0.0.7", "::1", "[fd00::80]", "Functions.Example."] {
            assert!(AllowedHosts::new(&[host.to_owned()]).is_ok(), "{host}");
        }
        for host in [
            "",
            "http://functions.example",
            "a.example:80",
            "a.example:443",
            "a.example/",
            "u@a.example",
            "a b",
            "a?",
            "a#",
            "*",
        ] {
            assert!(AllowedHosts::new(&[host.to_owned()]).is_err(), "{host}");
        }
    }
}
