//! How the service answers: the switches of `[behaviour]`, one place for all of them.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, de};

/// How the service answers, where the real one varies or nobody has written down what it does.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Seconds in `Retry-After` on 202 and 429; `None` (in TOML `false`) leaves the header out.
    /// Default 3.
    #[serde(deserialize_with = "seconds_or_false")]
    pub retry_after: Option<u32>,
    /// Whether bodies are sent chunked, as the real service does, or with a Content-Length.
    /// Default true.
    pub chunked: bool,
    /// How many polls of an operation are answered `assigning` even when the result is there.
    /// Default 0; 1 in [`Config::contoso`](crate::Config::contoso), as the tutorial's device prints.
    pub polls_before_result: u32,
    /// Whether the register request itself waits for the result and answers it with 200.
    /// Default false.
    pub result_at_once: bool,
    /// What becomes of a device whose webhook names a hub that it was not offered.
    pub unlinked_hub: UnlinkedHub,
    /// Whether api-versions that no specification names are refused. Default false; a missing
    /// one is always refused.
    pub strict_api_version: bool,
    /// Whether tokens with any `skn` are taken. Default false: absent, empty or `registration`.
    pub any_key_name: bool,
    /// How many seconds after its expiry a token is still good. Default 0.
    pub token_leeway: u32,
    /// The code of the answer to an ID scope that is not ours. Default 401000.
    pub unknown_id_scope_code: u32,
    /// Whether "no such enrollment" (404201) is told inside a 200 with status `failed`, and not as
    /// HTTP status 404. Both have been seen. Default false.
    pub not_found_as_failed: bool,
    /// Whether a device that registers while its last registration is in progress is refused with
    /// 409203. Default false: the new registration replaces the old.
    pub refuse_concurrent_registration: bool,
    /// Whether `registrationState.x509` tells of the certificates, as the specification has it, and
    /// not, as has been seen, only of the group. Default false.
    pub certificate_info_in_result: bool,
    /// Whether a `csr` is passed over when the enrollment has no `certificate_policy`, and not
    /// refused with 400000. Default false.
    pub ignore_csr_without_policy: bool,
    /// Whether `issuedCertificateChain` begins with the root, and not with the device's certificate.
    /// Sources disagree. Default false.
    pub issued_chain_root_first: bool,
    /// Whether an MQTT client with a bad token or certificate is refused in CONNACK (code 5), and not, as has been
    /// seen, let in to be told 401 by the answer to its first request. Default false.
    pub refuse_at_connect: bool,
    /// How many seconds the webhook may take. Default 230, which is where Azure Functions itself
    /// gives up on an HTTP trigger.
    pub webhook_timeout: f64,
    /// How often a webhook that answers 429 or above is called again. Default 10.
    pub webhook_retries: u32,
    /// Seconds before the first such call. Default 1.
    pub webhook_retry_initial: f64,
    /// By how many seconds the wait grows from call to call. Default 9.
    pub webhook_retry_increment: f64,
    /// Registrations per minute before 429001. The service's quota is 1000. Default none.
    pub registrations_per_minute: Option<u32>,
    /// Polls and look-ups per minute before 429001. The service's quota is 1000. Default none.
    pub operations_per_minute: Option<u32>,
    /// Polls of one device per 10 s before 429001. The service's quota is 5. Default none.
    pub device_polls_per_10s: Option<u32>,
    /// How many seconds a client may take for a handshake, a request's head, its body, or reading the
    /// answer, before it is closed; so for an idle connection, but for an MQTT session. Default 60.
    pub client_timeout: f64,
    /// Loses the answer of every so many-th request: what was asked is done, then the connection is
    /// closed without a byte. Requests of all devices count, MQTT's CONNECT too. Default none.
    pub drop_every: Option<NonZeroU32>,
    /// Whether HTTPS and MQTT take TLS 1.3 beside 1.2. Default false, as the real service.
    pub tls13: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            retry_after: Some(3),
            chunked: true,
            polls_before_result: 0,
            result_at_once: false,
            unlinked_hub: UnlinkedHub::default(),
            strict_api_version: false,
            any_key_name: false,
            token_leeway: 0,
            unknown_id_scope_code: 401_000,
            not_found_as_failed: false,
            refuse_concurrent_registration: false,
            certificate_info_in_result: false,
            ignore_csr_without_policy: false,
            issued_chain_root_first: false,
            refuse_at_connect: false,
            webhook_timeout: 230.0,
            webhook_retries: 10,
            webhook_retry_initial: 1.0,
            webhook_retry_increment: 9.0,
            registrations_per_minute: None,
            operations_per_minute: None,
            device_polls_per_10s: None,
            client_timeout: 60.0,
            drop_every: None,
            tls13: false,
        }
    }
}

/// What becomes of a device whose webhook names a hub outside `linkedHubs`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum UnlinkedHub {
    /// `failed` with 400207.
    #[default]
    CustomAllocationFailed,
    /// `failed` with 401001 "IoTHub not found.", as without any linked hub.
    HubNotFound,
    /// It is assigned there all the same.
    Assigned,
}

/// Seconds, or `false` for none: TOML has no null.
fn seconds_or_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Some(u32),
        Flag(bool),
    }
    match Seconds::deserialize(deserializer)? {
        Seconds::Some(seconds) => Ok(Some(seconds)),
        Seconds::Flag(false) => Ok(None),
        Seconds::Flag(true) => Err(de::Error::custom("retry_after is a number of seconds or false")),
    }
}
