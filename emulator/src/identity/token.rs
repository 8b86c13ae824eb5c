//! Verifies SAS tokens as the service does: over the text that the token has.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::Mac;
use percent_encoding::percent_decode_str;

use super::{ids, key::mac};
use crate::{net::host::without_port, watch::text::excerpt};

/// The parts of a token as the client sent them. Only the signature is decoded.
#[derive(Debug)]
pub(crate) struct SasToken<'a> {
    /// The resource, with the client's percent-encoding.
    sr: &'a str,
    /// The bytes of the signature.
    sig: Vec<u8>,
    /// The digits of the expiry.
    se: &'a str,
    expiry: u64,
    skn: Option<&'a str>,
}

/// What is wrong with a token, for the log only.
pub(crate) type Fault = String;

impl<'a> SasToken<'a> {
    /// Reads an `Authorization` header or an MQTT password. The parameters may come in any order.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Fault> {
        let (scheme, parameters) =
            text.trim().split_once(' ').ok_or("the authorization has no scheme and parameters")?;
        if !scheme.eq_ignore_ascii_case("SharedAccessSignature") {
            return Err("the authorization's scheme is not SharedAccessSignature".into());
        }
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for parameter in parameters.trim().split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let slot = match name {
                "sr" => &mut sr,
                "sig" => &mut sig,
                "se" => &mut se,
                "skn" => &mut skn,
                // The parameter may be a part of a signature, so it must not be quoted.
                _ => return Err("the token has an unknown parameter".into()),
            };
            if slot.replace(value).is_some() {
                return Err(format!("the token has {name} twice"));
            }
        }
        let se = se.ok_or("the token has no se")?;
        let sig = percent_decode_str(sig.ok_or("the token has no sig")?).collect::<Vec<u8>>();
        Ok(Self {
            sr: sr.ok_or("the token has no sr")?,
            sig: BASE64_STANDARD.decode(sig).map_err(|_| "the token's sig is not base64")?,
            expiry: se.parse().map_err(|_| "the token's se is not a number of seconds")?,
            se,
            skn,
        })
    }

    /// Checks that the token is for `resource`, in any case and escaping.
    pub(crate) fn check_resource(&self, resource: &str) -> Result<(), Fault> {
        let named = percent_decode_str(self.sr).decode_utf8_lossy();
        if named.eq_ignore_ascii_case(resource) {
            Ok(())
        } else {
            Err(format!("the token is for {named:?}, but the request is for {resource:?}"))
        }
    }

    /// Checks that the token is for this host, and for this path or a path above it, in any case and escaping.
    ///
    /// Ports are ignored: clients write the host of the connection string, which has a port only if the client needs
    /// one.
    pub(crate) fn check_endpoint(&self, host: &str, path: &str) -> Result<(), Fault> {
        let named = percent_decode_str(self.sr).decode_utf8_lossy();
        let (named_host, named_path) = named.split_once('/').unwrap_or((&named, ""));
        if host.is_empty() || !without_port(named_host).eq_ignore_ascii_case(without_port(host)) {
            return Err(format!(
                "the token is for the host {named_host:?}, but the request is for {host:?}: call the service at the HostName \
                 of the connection string"
            ));
        }
        // "`/a/b` is a prefix for `/a/b/c` but not for `/a/bc`."
        let path = percent_decode_str(path).decode_utf8_lossy();
        let mut segments = path.trim_start_matches('/').split('/');
        let is_prefix = named_path
            .split_terminator('/')
            .all(|named| segments.next().is_some_and(|segment| segment.eq_ignore_ascii_case(named)));
        if is_prefix { Ok(()) } else { Err(format!("the token is for {named:?}, but the request is for {path:?}")) }
    }

    /// Checks that the token is for this device at this hub, in any escaping. Device IDs are case-sensitive.
    pub(crate) fn check_device(&self, hub: &str, device_id: &str) -> Result<(), Fault> {
        let named = percent_decode_str(self.sr).decode_utf8_lossy();
        let is_it = named.split_once('/').is_some_and(|(named_hub, path)| {
            ids::is_same_hub(named_hub, hub) && path.strip_prefix("devices/").is_some_and(|named| named == device_id)
        });
        if is_it {
            Ok(())
        } else {
            let (named, expected) = (excerpt(&named), format!("{hub}/devices/{device_id}"));
            Err(format!("the token's sr is {named:?}; sign {:?}", excerpt(&expected)))
        }
    }

    /// Returns when the token expires, in seconds since 1970.
    pub(crate) fn expiry(&self) -> u64 {
        self.expiry
    }

    /// Returns the name of the key.
    pub(crate) fn key_name(&self) -> Option<Cow<'a, str>> {
        self.skn.map(|name| percent_decode_str(name).decode_utf8_lossy())
    }

    /// Checks that the token is valid, or expired at most `leeway` seconds ago.
    pub(crate) fn check_expiry(&self, now: u64, leeway: u64) -> Result<(), Fault> {
        if now <= self.expiry.saturating_add(leeway) {
            Ok(())
        } else {
            Err(format!("the token expired {} s ago", now - self.expiry.min(now)))
        }
    }

    /// Checks the name of the key.
    pub(crate) fn check_key_name(&self) -> Result<(), Fault> {
        match self.key_name().as_deref() {
            None | Some("" | "registration") => Ok(()),
            // The log does not show it: a client may have put its key there.
            Some(_) => Err("the token's skn is not \"registration\"".to_owned()),
        }
    }

    /// Returns `true` if `key` made the signature over `sr`, exactly as the token has it.
    pub(crate) fn is_signed_by(&self, key: &[u8]) -> bool {
        let Some(mut mac) = mac(key) else {
            return false;
        };
        mac.update(self.sr.as_bytes());
        mac.update(b"\n");
        mac.update(self.se.as_bytes());
        mac.verify_slice(&self.sig).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "18RQk/hOPJR9EbsJlk2j8WA6vWaj/yi+oaYg7zmxfQNdOyMSu+SJ8O7TSlZhDJCYmn4rzEiVKIzNiVAWjLxrGA==";

    fn verifies(token: &str) -> bool {
        let key = BASE64_STANDARD.decode(KEY).unwrap();
        SasToken::parse(token).unwrap().is_signed_by(&key)
    }

    /// Three spellings of a resource have three signatures, and each signature fits only its own spelling.
    #[test]
    fn the_signature_is_over_the_raw_sr_text() {
        for (sr, sig) in [
            ("0ne00111111%2Fregistrations%2Fmy-symkey-device", "8VPprb8BiTkuVE0hBqHm%2FSVrzVpdD8VZcXugntdbhuU%3D"),
            ("0ne00111111%2fregistrations%2fmy-symkey-device", "6GqlY2Tr8xDlSYE04oQcdEH7vznSt2LcTUobz9BmpAY%3D"),
            ("0ne00111111/registrations/my-symkey-device", "nywv584Rsikp8eagkd4XnrDkLPXMGakB0DWzqcS0hPQ%3D"),
        ] {
            let token = format!("SharedAccessSignature sr={sr}&sig={sig}&se=1663952627&skn=registration");
            assert!(verifies(&token), "{token}");
            let swapped = token.replace(sr, &sr.replace("my-", "your-"));
            assert!(!verifies(&swapped), "{swapped}");
        }
    }

    #[test]
    fn a_token_is_for_a_host_and_what_is_below_its_path() {
        let path = "/enrollmentGroups/a%2Fb/attestationmechanism";
        for (sr, host) in [
            ("localhost", "localhost"),
            ("localhost%3A9443", "localhost:9443"),
            ("localhost%3a9443", "LocalHost:9443"),
            ("localhost:9443", "localhost"),
            ("localhost", "localhost:9443"),
            ("%6cocalhost", "localhost"),
            ("%5B%3A%3A1%5D%3A9443", "[::1]:9443"),
            ("[::1]", "[::1]:9443"),
            ("localhost/", "localhost"),
            ("localhost%2Fenrollmentgroups", "localhost"),
            ("localhost/enrollmentGroups/", "localhost"),
            ("localhost/enrollmentGroups%2Fa%2Fb", "localhost"),
        ] {
            let token = format!("SharedAccessSignature sr={sr}&sig=&se=1&skn=o");
            assert_eq!(SasToken::parse(&token).unwrap().check_endpoint(host, path), Ok(()), "{sr} {host}");
        }
        for (sr, host) in [
            ("localhost", "127.0.0.1:9443"),
            ("localhost", ""),
            ("", ""),
            ("", "localhost"),
            ("[::1]", "[::2]"),
            ("localhost.example", "localhost"),
            ("localhost/enrollments", "localhost"),
            ("localhost/enrollmentGroup", "localhost"),
            ("localhost//enrollmentGroups", "localhost"),
            ("localhost/enrollmentGroups/a/b/attestationmechanism/c", "localhost"),
        ] {
            let token = format!("SharedAccessSignature sr={sr}&sig=&se=1&skn=o");
            assert!(SasToken::parse(&token).unwrap().check_endpoint(host, path).is_err(), "{sr} {host}");
        }
    }
}
