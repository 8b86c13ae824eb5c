//! The operator's custom allocation function: what it is asked, how often, and what its answer
//! means.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Client, Url, header::CONTENT_TYPE, redirect};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    allocation::{Allocated, Failure},
    config::{AllocationPolicy, ReprovisionPolicy, Twin, mask_query},
    enrollment::{Attested, Enrollment, Kind},
    stamps::Stamp,
    tpm::TpmKeys,
    x509::{Certificate, CertificateInfo},
};

/// An answer longer than this cannot be an `AllocationResponse`: a message to a device has at most
/// 96 KB, and twins have 40 KB.
const MAX_ANSWER: usize = 192 * 1024;

/// How many calls are under way at a time; more wait their turn, and their time-out does not run
/// meanwhile. It bounds what a webhook that hangs, or that never ends its answers, makes us hold.
const MAX_CALLS: usize = 1024;

/// How long a connection is kept for the next call: less than any server keeps it (Node 5 s), because
/// a call that crosses with the server's goodbye would be a failed registration.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// How many connections are kept for the next calls.
const KEPT: usize = 64;

/// `AllocationRequest`, in the order in which the tutorial's log shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllocationRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    individual_enrollment: Option<EnrollmentEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group: Option<EnrollmentEntry<'a>>,
    device_runtime_context: DeviceRuntimeContext<'a>,
    linked_hubs: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnrollmentEntry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    attestation: Attestation,
    capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_twin: Option<TwinState<'a>>,
    etag: &'a str,
    provisioning_status: &'static str,
    reprovision_policy: ReprovisionSettings,
    created_date_time_utc: &'a str,
    last_updated_date_time_utc: &'a str,
    allocation_policy: AllocationPolicy,
    iot_hubs: &'a [String],
    custom_allocation_definition: CustomAllocationDefinition<'a>,
}

#[derive(Serialize)]
struct Attestation {
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    iot_edge: bool,
}

#[derive(Serialize)]
struct TwinState<'a> {
    tags: &'a Map<String, Value>,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Properties<'a> {
    desired: &'a Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReprovisionSettings {
    update_hub_assignment: bool,
    migrate_device_data: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CustomAllocationDefinition<'a> {
    webhook_url: String,
    api_version: &'a str,
}

/// What is known of the device that registers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceRuntimeContext<'a> {
    pub(crate) registration_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current_iot_hub_host_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current_device_id: Option<&'a str>,
    #[serde(flatten)]
    pub(crate) attestation: DeviceAttestation<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<&'a RawValue>,
}

/// By what the device proved who it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum DeviceAttestation<'a> {
    /// Empty: it tells the kind of attestation, never a key.
    SymmetricKey {},
    X509 {
        /// What functions in the field read.
        client_certificate: String,
        /// The "certificate details" of the documents, in the words of the specification.
        certificate_info: &'a CertificateInfo,
        #[serde(skip_serializing_if = "Option::is_none")]
        signing_certificate_info: Option<&'a CertificateInfo>,
    },
    Tpm(&'a TpmKeys),
}

impl<'a> DeviceAttestation<'a> {
    pub(crate) fn of(attested: &'a Attested) -> Self {
        match attested {
            Attested::SymmetricKey => Self::SymmetricKey {},
            Attested::X509 { certificate, signer } => Self::X509 {
                client_certificate: certificate.base64(),
                certificate_info: certificate.info(),
                signing_certificate_info: signer.as_ref().map(Certificate::info),
            },
            Attested::Tpm(keys) => Self::Tpm(keys),
        }
    }
}

impl<'a> AllocationRequest<'a> {
    pub(crate) fn new(
        enrollment: &'a Enrollment,
        stamp: &'a Stamp,
        webhook_url: &str,
        device_runtime_context: DeviceRuntimeContext<'a>,
        linked_hubs: &'a [String],
    ) -> Self {
        let is_group = enrollment.kind == Kind::Group;
        let twin = &enrollment.initial_twin;
        let policy = enrollment.reprovision_policy;
        let entry = EnrollmentEntry {
            enrollment_group_id: is_group.then_some(&enrollment.id),
            registration_id: (!is_group).then_some(&enrollment.id),
            device_id: enrollment.device_id.as_deref(),
            attestation: Attestation {
                r#type: match enrollment.attested {
                    Attested::SymmetricKey => "symmetricKey",
                    Attested::X509 { .. } => "x509",
                    Attested::Tpm(_) => "tpm",
                },
            },
            capabilities: Capabilities { iot_edge: enrollment.iot_edge },
            initial_twin: (*twin != Twin::default())
                .then_some(TwinState { tags: &twin.tags, properties: Properties { desired: &twin.desired } }),
            etag: &stamp.etag,
            provisioning_status: "enabled",
            reprovision_policy: ReprovisionSettings {
                update_hub_assignment: policy != ReprovisionPolicy::Never,
                migrate_device_data: policy == ReprovisionPolicy::Migrate,
            },
            created_date_time_utc: &stamp.created,
            last_updated_date_time_utc: &stamp.updated,
            allocation_policy: enrollment.allocation.policy,
            iot_hubs: &enrollment.allocation.iot_hubs,
            custom_allocation_definition: CustomAllocationDefinition {
                webhook_url: mask_query(webhook_url),
                api_version: &enrollment.allocation.api_version,
            },
        };
        let (individual_enrollment, enrollment_group) =
            if is_group { (None, Some(entry)) } else { (Some(entry), None) };
        Self { individual_enrollment, enrollment_group, device_runtime_context, linked_hubs }
    }
}

/// POSTs to webhooks.
#[derive(Debug)]
pub(crate) struct WebhookClient {
    plain: OnceCell<Client>,
    secure: OnceCell<Client>,
    calls: Semaphore,
}

impl Default for WebhookClient {
    fn default() -> Self {
        Self { plain: OnceCell::default(), secure: OnceCell::default(), calls: Semaphore::new(MAX_CALLS) }
    }
}

/// A webhook's HTTP answer.
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl WebhookClient {
    /// One call. The error is for the log, and names no URL: its query is a secret.
    pub(crate) async fn post(&self, url: &str, body: String, timeout: Duration) -> Result<HttpAnswer, String> {
        let url: Url = url.parse().map_err(|_| "the webhook's URL is no URL".to_owned())?;
        let client = self.client(&url).await?;
        // It is never closed.
        let _call = self.calls.acquire().await;
        tokio::time::timeout(timeout, async {
            let mut response = client
                .post(url)
                .header(CONTENT_TYPE, "application/json; charset=utf-8")
                .body(body)
                .send()
                .await
                .map_err(describe)?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(describe)? {
                if body.len() + chunk.len() > MAX_ANSWER {
                    return Err("the webhook's answer is too long".to_owned());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(HttpAnswer { status: response.status().as_u16(), body })
        })
        .await
        .unwrap_or_else(|_| Err("the webhook did not answer in time".to_owned()))
    }

    async fn client(&self, url: &Url) -> Result<&Client, String> {
        // Proxies of the environment would catch calls to loopback. Redirects are "any other
        // status" to the service.
        let builder = || {
            Client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .pool_idle_timeout(KEPT_FOR)
                .pool_max_idle_per_host(KEPT)
        };
        if url.scheme() == "https" {
            self.secure.get_or_try_init(async || builder().build().map_err(describe)).await
        } else {
            // Without roots, so that it also works where the system has none.
            self.plain.get_or_try_init(async || builder().tls_certs_only([]).build().map_err(describe)).await
        }
    }
}

/// The whole chain of causes, without the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What a webhook's answer means.
pub(crate) enum Verdict {
    Allocated(Allocated),
    Failed(Failure),
    /// 429 and above: to be asked again.
    TryAgain(u16),
}

/// The tutorial's troubleshooting table.
pub(crate) fn judge(answer: &HttpAnswer) -> Verdict {
    match answer.status {
        200 => match read_response(&answer.body) {
            Ok(allocated) if allocated.hub.is_empty() => Verdict::Failed(Failure::no_hub()),
            Ok(allocated) => Verdict::Allocated(allocated),
            Err(failure) => Verdict::Failed(failure),
        },
        401 => Verdict::Failed(Failure::unauthorized()),
        status if status >= 429 => Verdict::TryAgain(status),
        status => Verdict::Failed(Failure::status(status)),
    }
}

/// Reads an `AllocationResponse`. The documents spell its names in more than one way, so their
/// case does not count.
fn read_response(body: &[u8]) -> Result<Allocated, Failure> {
    type Members<'a> = BTreeMap<String, &'a RawValue>;
    fn member<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
        members
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
            .filter(|value| value.get() != "null")
    }
    fn object(value: Option<&RawValue>) -> Result<Map<String, Value>, serde_json::Error> {
        value.map_or_else(|| Ok(Map::new()), |value| serde_json::from_str(value.get()))
    }
    let read = || -> Result<Allocated, serde_json::Error> {
        let members: Members<'_> = serde_json::from_slice(body)?;
        let hub = match member(&members, "iotHubHostName") {
            Some(hub) => serde_json::from_str(hub.get())?,
            None => String::new(),
        };
        let initial_twin = match member(&members, "initialTwin") {
            Some(twin) => {
                let twin: Members<'_> = serde_json::from_str(twin.get())?;
                let properties: Members<'_> = match member(&twin, "properties") {
                    Some(properties) => serde_json::from_str(properties.get())?,
                    None => Members::new(),
                };
                Some(Twin { tags: object(member(&twin, "tags"))?, desired: object(member(&properties, "desired"))? })
            }
            None => None,
        };
        let payload = member(&members, "payload");
        if let Some(payload) = payload {
            // It is passed on as it is. Raw JSON may have strings that are no Unicode; values may not.
            let _: Value = serde_json::from_str(payload.get())?;
        }
        Ok(Allocated { hub, initial_twin, payload: payload.map(ToOwned::to_owned) })
    };
    read().map_err(|error| Failure::unreadable(&error.to_string()))
}
