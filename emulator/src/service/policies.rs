//! Access to the service API: the shared access policies and the tokens signed with their keys.

use super::{Service, error::ServiceError, trust::Trust};
use crate::{
    config::{
        policies::{OWNER, Right, WELL_KNOWN_SERVICE_KEY},
        settings::Settings,
    },
    identity::{key::SymmetricKey, token::SasToken},
    net::host,
};

/// Why the service API is off, and how to turn it on.
const OFF: &str = "the service API is off, because a listener is not on a loopback address and there is no key for \
                   provisioningserviceowner: give one in DPS_EMULATOR_SERVICE_KEY, with --service-key-file, or with \
                   Builder::service_key";

/// The credentials of a client of the service API.
pub(crate) struct Caller<'a> {
    /// The SAS token.
    pub(crate) authorization: Option<&'a str>,
    /// The scheme of the listener: `http` or `https`.
    pub(crate) scheme: &'a str,
    /// The host that the request names, perhaps with a port.
    pub(crate) host: Option<&'a str>,
    /// The path of the request.
    pub(crate) path: &'a str,
    /// When the client showed the token, in seconds since 1970.
    pub(crate) shown_at: u64,
}

/// A policy with its valid keys.
struct Usable<'a> {
    name: &'a str,
    keys: Vec<&'a SymmetricKey>,
    rights: &'a [Right],
}

/// Returns the policies that have at least one valid key. The owner's policy comes first.
///
/// The well-known key is valid only if every listener is on loopback, wherever the key was configured.
fn usable<'a>(trust: &'a Trust, settings: &'a Settings, well_known: &'a SymmetricKey) -> Vec<Usable<'a>> {
    let configured = || {
        settings.policies.iter().map(|policy| Usable {
            name: &policy.name,
            keys: std::iter::once(&policy.primary_key).chain(&policy.secondary_key).collect(),
            rights: &policy.rights,
        })
    };
    let is_owner = |policy: &Usable<'_>| policy.name.eq_ignore_ascii_case(OWNER);
    let mut owner =
        configured().find(is_owner).unwrap_or(Usable { name: OWNER, keys: vec![well_known], rights: &Right::ALL });
    if let Some(key) = &trust.owner_key {
        owner.keys = vec![key];
    }
    let others = configured().filter(|policy| !is_owner(policy));
    let mut policies: Vec<_> = std::iter::once(owner).chain(others).collect();
    for policy in &mut policies {
        policy.keys.retain(|key| !key.is_empty() && (trust.is_local || *key != well_known));
    }
    policies.retain(|policy| !policy.keys.is_empty());
    policies
}

fn well_known_key() -> SymmetricKey {
    SymmetricKey::from_base64(WELL_KNOWN_SERVICE_KEY).unwrap_or_default()
}

impl Service {
    /// Checks that the client has this right.
    pub(crate) fn authorize(&self, caller: &Caller<'_>, right: Right) -> Result<(), ServiceError> {
        let (settings, well_known) = (self.settings(), well_known_key());
        let policies = usable(&self.trust, &settings, &well_known);
        if policies.is_empty() {
            return Err(ServiceError::service_api_off(OFF));
        }
        let authorization =
            caller.authorization.ok_or_else(|| ServiceError::unauthorized("there is no authorization"))?;
        let leeway = settings.behaviour.token_leeway;
        let (policy, key) = verify(&policies, authorization, caller, leeway).map_err(ServiceError::unauthorized)?;
        // A web page could resolve its own name to 127.0.0.1. Over HTTPS, the browser then rejects the certificate.
        let name = host::normal(host::without_port(caller.host.unwrap_or_default()));
        if *key == well_known && caller.scheme == "http" && !host::is_loopback(&name) {
            return Err(ServiceError::unauthorized(format!(
                "the well-known key is not valid for the host {name:?} over HTTP, because any web page could use it: call \
                 localhost, use HTTPS, or give a key"
            )));
        }
        if policy.rights.iter().any(|granted| granted.includes(right)) {
            Ok(())
        } else {
            Err(ServiceError::unauthorized(format!("the policy {:?} does not have the right {right:?}", policy.name)))
        }
    }

    /// Returns the connection string of the service API at `host`. The key is in the text only if it is the
    /// well-known key. Returns `None` if the service API is off.
    pub(crate) fn connection_string(&self, host: &str) -> Option<String> {
        let (settings, well_known) = (self.settings(), well_known_key());
        let policies = usable(&self.trust, &settings, &well_known);
        let Usable { name, keys, .. } = policies.first()?;
        let key = match keys.contains(&&well_known) {
            true => format!(";SharedAccessKey={WELL_KNOWN_SERVICE_KEY}"),
            false => String::new(),
        };
        Some(format!("HostName={host};SharedAccessKeyName={name}{key}"))
    }

    /// Returns why the service API is off and how to turn it on, if it is off.
    pub(crate) fn service_api_is_off(&self) -> Option<&'static str> {
        usable(&self.trust, &self.settings(), &well_known_key()).is_empty().then_some(OFF)
    }

    /// Checks the URL of a webhook that came through the service API.
    pub(super) fn check_webhook(&self, url: &str) -> Result<(), String> {
        self.trust.webhook_hosts.check(url)
    }
}

/// Finds the policy and key that signed the token, and checks the resource of the token. The error is for the log.
fn verify<'p, 'a>(
    policies: &'p [Usable<'a>],
    authorization: &str,
    caller: &Caller<'_>,
    leeway: u32,
) -> Result<(&'p Usable<'a>, &'a SymmetricKey), String> {
    let token = SasToken::parse(authorization)?;
    let name = token.key_name().ok_or("the token has no skn: it must name the policy")?;
    let policy = policies.iter().find(|policy| policy.name.eq_ignore_ascii_case(&name)).ok_or_else(|| {
        // The log does not show the skn: a client may have put its key there.
        let names: Vec<_> = policies.iter().map(|policy| policy.name).collect();
        format!("the token's skn is not the name of a policy: {}", names.join(", "))
    })?;
    token.check_endpoint(caller.host.unwrap_or_default(), caller.path)?;
    token.check_expiry(caller.shown_at, leeway.into())?;
    let key = policy.keys.iter().find(|key| token.is_signed_by(key.bytes()));
    let key = key.ok_or_else(|| format!("the token is not signed with a key of the policy {:?}", policy.name))?;
    Ok((policy, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anybody can sign with an empty key.
    #[test]
    fn the_well_known_key_is_a_key() {
        assert_eq!(well_known_key().bytes(), b"azure-dps-emulator: this key is well known. It protects nothing.");
    }
}
