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
    /// Sets the error code for an ID scope that is not the service's: 400000 to 599999. Default 401000.
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
    /// Whether an MQTT client with a bad token or certificate is refused in CONNACK (code 5). Default false: the
    /// client is let in, and its first request is answered 401 (azure-docs#43157).
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

    // Points in which records of the real service disagree. The README names the sources.
    /// Sets the error code for a symmetric key that is refused over HTTP: 400000 to 599999. Default 401002, seen
    /// since 2020; 401000 was seen in 2019. Over MQTT the code is always 401000.
    pub refused_key_code_over_http: u32,
    /// Sets for how many seconds of the service's time a registration over HTTP blocks the other key
    /// of the enrollment, primary or secondary. Requests with that key are then answered as any
    /// refused key is. Default 1800; 0 switches the rule off.
    pub other_key_blocked_for: f64,
    /// Whether a payload that is a JSON string is refused with 400012. Default true. If false, the
    /// device is registered, and the payload is not passed on to the webhook.
    pub refuse_string_payload: bool,
    /// Whether a registration with a member that the service does not know is refused with 400012.
    /// Default false.
    pub refuse_unknown_members: bool,
    /// Sets the error codes whose body has `"trackingId":""`. Default 400012 and 429001.
    pub empty_tracking_ids: Vec<u32>,
    /// Whether `trackingId` is the GUID of the header `x-ms-request-id`. Default false: two GUIDs.
    pub tracking_id_is_request_id: bool,
    /// Whether refusals over HTTP have the header `x-ms-error-code`. Default true.
    pub error_code_header: bool,
    /// Sets the message of 401002 for a certificate that is refused. Default "Invalid
    /// certificate."; the service was also seen to say "Unauthorized", "Signing certificate info
    /// did not match chain elements" and "IotHubUnauthorizedAccess".
    pub certificate_refusal: String,
    /// Whether the middle part of operation IDs is the same for all registrations of a device.
    /// Default true. If false, it is random.
    pub constant_operation_id_middle: bool,
    /// Whether a device that registers again at the same hub with an api-version before 2019-04-15
    /// is told `initialAssignment`. Default true. If false, it is told
    /// `reprovisionedToInitialAssignment`, as with later versions.
    pub substatus_by_api_version: bool,
    /// Whether `AllocationRequest` leaves out members of the enrollment that have their default:
    /// `capabilities`, `reprovisionPolicy` and `iotHubs`. Default false.
    pub omit_unset_members: bool,
    /// Sets the form of the TPM challenge.
    pub tpm_challenge: TpmChallenge,
    /// Sets the form of the answer to a device that is disabled.
    pub disabled_answer: DisabledAnswer,
    /// Names hubs that refuse the service, because its access was withdrawn. Devices that are
    /// allocated to one of these hubs fail with 401002. Default none.
    pub inaccessible_hubs: Vec<String>,
    /// Sets the form of `errorMessage` for [`inaccessible_hubs`](Self::inaccessible_hubs).
    pub hub_refusal_message: HubRefusalMessage,
    /// Whether answers with HTTP status 202 have a `status`. Default true. Microsoft's own mock of
    /// the service, in iot-identity-service, sends none.
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
            status_in_202: true,
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

/// The forms of the answer that challenges a TPM.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum TpmChallenge {
    /// The message "Authorization required.", the key and its name.
    #[default]
    Short,
    /// As Microsoft's clients have it in their tests, of 2017: the message "Authorization required,
    /// resend request using supplied key", and besides `"unencryptedAuthenticationKey":null`.
    Long,
}

/// The forms of the answer to a device that is disabled.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum DisabledAnswer {
    /// An empty operation ID, and a state with times and an etag.
    #[default]
    Stored,
    /// An operation ID, and a state without times and etag.
    Operation,
}

/// The forms of `errorMessage` when a hub refuses the service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
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
