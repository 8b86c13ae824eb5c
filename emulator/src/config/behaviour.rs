//! All switches of `[behaviour]`: how the service answers.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::watch::text::excerpt;

/// How the service answers if the real service varies, or if no source describes the point.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Sets the seconds in `Retry-After` on 202 and 429. `None`, in TOML `false`, omits the header. Default 3.
    #[serde(deserialize_with = "seconds_or_false", serialize_with = "or_false")]
    pub retry_after: Option<u32>,
    /// Sends bodies chunked, as the real service does. If false, bodies have a Content-Length. Default true.
    pub chunked: bool,
    /// Sets how many polls of an operation are answered `assigning` after the result is known. Default 0. In
    /// [`Config::contoso`](crate::Config::contoso) it is 1, as the tutorial's device prints.
    pub polls_before_result: u32,
    /// Lets the register request wait for the result and return it with 200. Default false.
    pub result_at_once: bool,
    /// Sets how the registration ends if the webhook names a hub that is not among `linkedHubs`.
    pub unlinked_hub: UnlinkedHub,
    /// Refuses api-versions that no specification names. Default false. A missing api-version is always refused.
    pub strict_api_version: bool,
    /// Accepts tokens with any `skn`. If false, `skn` must be absent, empty or `registration`. Default false.
    pub any_key_name: bool,
    /// Sets for how many seconds after its expiry a token is still accepted. Default 0.
    pub token_leeway: u32,
    /// Sets the error code for an ID scope that is not the service's: 400000 to 599999. Default 401000.
    pub unknown_id_scope_code: u32,
    /// Answers a missing enrollment (404201) with HTTP status 200 and the status `failed` in the body. If false, the
    /// HTTP status is 404. Sources show both. Default false.
    pub not_found_as_failed: bool,
    /// Refuses a device with 409203 if it registers while its last registration is in progress. If false, the new
    /// registration replaces the old one. Default false.
    pub refuse_concurrent_registration: bool,
    /// Describes the certificates in `registrationState.x509`, as in the specification. If false, `x509` has only the
    /// name of the group, as in logs of the real service. Default false.
    pub certificate_info_in_result: bool,
    /// Ignores a `csr` if the enrollment has no `certificate_policy`. If false, the registration is refused with
    /// 400000. Default false.
    pub ignore_csr_without_policy: bool,
    /// Begins `issuedCertificateChain` with the root. If false, the chain begins with the device's certificate. Sources
    /// disagree. Default false.
    pub issued_chain_root_first: bool,
    /// Refuses an MQTT client with a bad token or certificate in CONNACK, with code 5. If false, the client may
    /// connect, and its first request is answered 401 (azure-docs#43157). Default false.
    pub refuse_at_connect: bool,
    /// Sets how many seconds the webhook may take. Default 230, which is the limit of Azure Functions for an HTTP
    /// trigger.
    pub webhook_timeout: f64,
    /// Sets how often a webhook is called again that answers 429 or above. Default 10.
    pub webhook_retries: u32,
    /// Sets the seconds before the first such call. Default 1.
    pub webhook_retry_initial: f64,
    /// Sets by how many seconds the wait grows from call to call. Default 9.
    pub webhook_retry_increment: f64,
    /// Sets how many registrations a minute are accepted. More are refused with 429001. The service's quota is 1000.
    /// Default none.
    pub registrations_per_minute: Option<u32>,
    /// Sets how many polls and look-ups a minute are accepted. More are refused with 429001. The service's quota is
    /// 1000. Default none.
    pub operations_per_minute: Option<u32>,
    /// Sets how many polls of one device are accepted in 10 s. More are refused with 429001. The service's quota is 5.
    /// Default none.
    pub device_polls_per_10s: Option<u32>,
    /// Sets how many seconds a client may take for a handshake, a request's head, its body, or reading the answer. Then
    /// the connection is closed. An idle connection is closed after the same time, unless it is an MQTT session.
    /// Default 60.
    pub client_timeout: f64,
    /// Loses the answer of every n-th request: the request is carried out, then the connection is closed without a
    /// byte. The requests of all devices count, MQTT's CONNECT too. Default none.
    pub drop_every: Option<NonZeroU32>,
    /// Accepts TLS 1.3 besides 1.2 for HTTPS and MQTT. Default false, as the real service.
    pub tls13: bool,

    // Records of the real service disagree on these points. `docs/evidence/decisions.md` names the sources.
    /// Sets the error code for a symmetric key that is refused over HTTP: 400000 to 599999. Default 401002, as in
    /// records since 2020; one of 2019 has 401000. Over MQTT the code is always 401000.
    pub refused_key_code_over_http: u32,
    /// Sets for how many seconds of the service's time a registration over HTTP blocks the other key of the enrollment,
    /// primary or secondary. A request with the blocked key gets the same answer as one with a wrong key. Default 1800.
    /// 0 turns the block off.
    pub other_key_blocked_for: f64,
    /// Refuses a payload that is a JSON string with 400012. If false, the device is registered, and the payload is not
    /// passed on to the webhook. Default true.
    pub refuse_string_payload: bool,
    /// Refuses a registration with an unknown member with 400012. Default false.
    pub refuse_unknown_members: bool,
    /// Sets the error codes whose body has `"trackingId":""`. Default 400012 and 429001.
    pub empty_tracking_ids: Vec<u32>,
    /// Uses the GUID of the header `x-ms-request-id` as `trackingId`. If false, the two GUIDs differ. Default false.
    pub tracking_id_is_request_id: bool,
    /// Sends the header `x-ms-error-code` with refusals over HTTP. Default true.
    pub error_code_header: bool,
    /// Sets the message of 401002 for a certificate that is refused. Default "Invalid certificate.". Other records have
    /// "Unauthorized", "Signing certificate info did not match chain elements" and "IotHubUnauthorizedAccess".
    pub certificate_refusal: String,
    /// Makes the middle part of operation IDs the same for all registrations of a device. If false, it is random.
    /// Default true.
    pub constant_operation_id_middle: bool,
    /// Reports `initialAssignment` if a device registers again at the same hub with an api-version before 2019-04-15.
    /// If false, the substatus is `reprovisionedToInitialAssignment`, as with later versions. Default true.
    pub substatus_by_api_version: bool,
    /// Omits members of the enrollment in an `AllocationRequest` that have their default: `capabilities`,
    /// `reprovisionPolicy` and `iotHubs`. Default false.
    pub omit_unset_members: bool,
    /// Sets the form of the TPM challenge.
    pub tpm_challenge: TpmChallenge,
    /// Sets the form of the answer to a device that is disabled.
    pub disabled_answer: DisabledAnswer,
    /// Names hubs that refuse the service, because its access was withdrawn. A device that is allocated to one of these
    /// hubs fails with 401002. Default none.
    pub inaccessible_hubs: Vec<String>,
    /// Sets the form of `errorMessage` for [`inaccessible_hubs`](Self::inaccessible_hubs).
    pub hub_refusal_message: HubRefusalMessage,
    /// Sets for how many seconds of the service's time a session with a hub outlives its token. Default 600: "about 10
    /// minutes after expiry".
    pub hub_session_after_expiry: f64,
    /// Names hubs that cannot be reached: CONNECT is answered with code 3, and live sessions end. Default none.
    pub unavailable_hubs: Vec<String>,
    /// Sends a `status` in answers with HTTP status 202. Default true. Microsoft's own mock of the service, in
    /// iot-identity-service, sends none.
    pub status_in_202: bool,
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
            refused_key_code_over_http: 401_002,
            other_key_blocked_for: 1800.0,
            refuse_string_payload: true,
            refuse_unknown_members: false,
            empty_tracking_ids: vec![400_012, 429_001],
            tracking_id_is_request_id: false,
            error_code_header: true,
            certificate_refusal: "Invalid certificate.".to_owned(),
            constant_operation_id_middle: true,
            substatus_by_api_version: true,
            omit_unset_members: false,
            tpm_challenge: TpmChallenge::default(),
            disabled_answer: DisabledAnswer::default(),
            inaccessible_hubs: Vec::new(),
            hub_refusal_message: HubRefusalMessage::default(),
            hub_session_after_expiry: 600.0,
            unavailable_hubs: Vec::new(),
            status_in_202: true,
        }
    }
}

/// How the registration ends if the webhook names a hub outside `linkedHubs`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnlinkedHub {
    /// `failed` with 400207.
    #[default]
    CustomAllocationFailed,
    /// `failed` with 401001 "IoTHub not found.", as without any linked hub.
    HubNotFound,
    /// The device is assigned to that hub.
    Assigned,
}

/// The forms of the answer that challenges a TPM.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TpmChallenge {
    /// The message "Authorization required.", the key and its name.
    #[default]
    Short,
    /// As in the tests of Microsoft's clients, of 2017: the message "Authorization required, resend request using
    /// supplied key", and also `"unencryptedAuthenticationKey":null`.
    Long,
}

/// The forms of the answer to a device that is disabled.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledAnswer {
    /// An empty operation ID, and a state with times and an etag.
    #[default]
    Stored,
    /// An operation ID, and a state without times and etag.
    Operation,
}

/// The forms of `errorMessage` when a hub refuses the service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HubRefusalMessage {
    /// JSON in the string, with the hub's tracking ID in `ExceptionMessage`.
    #[default]
    Json,
    /// JSON in the string, and in its `Message` JSON in a string again, with the hub's tracking ID.
    NestedJson,
    /// Plain text.
    Plain,
}

impl Behaviour {
    /// Returns a copy with these switches changed. Names and values are those of the configuration file; `null` means
    /// none. The error names the first switch that cannot be read.
    pub(crate) fn changed(&self, switches: &Map<String, Value>) -> Result<Self, String> {
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        let mut behaviour = self.clone();
        for (name, value) in switches {
            if let Value::Object(all) = &mut all {
                all.insert(name.clone(), value.clone());
            }
            behaviour = Self::deserialize(&all).map_err(|error| {
                // The error may quote a long text.
                format!("{}: {}", excerpt(name), excerpt(&error.to_string()))
            })?;
        }
        Ok(behaviour)
    }
}

/// Reads seconds, or `false` for none, because TOML has no null. JSON may also use null.
fn seconds_or_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number of seconds, or false")]
    enum Seconds {
        Some(u32),
        Flag(bool),
    }
    match Option::deserialize(deserializer)? {
        Some(Seconds::Some(seconds)) => Ok(Some(seconds)),
        Some(Seconds::Flag(false)) | None => Ok(None),
        Some(Seconds::Flag(true)) => Err(de::Error::custom("expected a number of seconds, or false")),
    }
}

fn or_false<S: Serializer>(seconds: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    match seconds {
        Some(seconds) => serializer.serialize_u32(*seconds),
        None => serializer.serialize_bool(false),
    }
}
