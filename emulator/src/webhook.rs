//! The operator's custom allocation function: what it is asked, how often, and what its answer
//! means.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Client, Url, header::CONTENT_TYPE, redirect};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    allocation::{self, Allocated, Failure},
    config::Behaviour,
    config::{AllocationPolicy, ReprovisionPolicy, Twin, webhook_url},
    enrollment::{Attested, Enrollment, Kind},
    identity::certificate::{Certificate, CertificateInfo},
    identity::tpm::TpmKeys,
    stamps::Stamp,
    watch::text::{excerpt, mask},
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
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_twin: Option<TwinState<'a>>,
    etag: &'a str,
    provisioning_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reprovision_policy: Option<ReprovisionSettings>,
    created_date_time_utc: &'a str,
    last_updated_date_time_utc: &'a str,
    allocation_policy: AllocationPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    iot_hubs: Option<&'a [String]>,
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
            Attested::SymmetricKey(_) => Self::SymmetricKey {},
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
        omits_unset: bool,
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
                    Attested::SymmetricKey(_) => "symmetricKey",
                    Attested::X509 { .. } => "x509",
                    Attested::Tpm(_) => "tpm",
                },
            },
            capabilities: (!omits_unset || enrollment.iot_edge)
                .then_some(Capabilities { iot_edge: enrollment.iot_edge }),
            initial_twin: (*twin != Twin::default())
                .then_some(TwinState { tags: &twin.tags, properties: Properties { desired: &twin.desired } }),
            etag: &stamp.etag,
            provisioning_status: "enabled",
            reprovision_policy: (!omits_unset || policy != ReprovisionPolicy::default()).then_some(
                ReprovisionSettings {
                    update_hub_assignment: policy != ReprovisionPolicy::Never,
                    migrate_device_data: policy == ReprovisionPolicy::Migrate,
                },
            ),
            created_date_time_utc: &stamp.created,
            last_updated_date_time_utc: &stamp.updated,
            allocation_policy: enrollment.allocation.policy,
            iot_hubs: Some(&*enrollment.allocation.iot_hubs).filter(|hubs| !(omits_unset && hubs.is_empty())),
            custom_allocation_definition: CustomAllocationDefinition {
                webhook_url: webhook_url::masked(webhook_url),
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
        // It was checked when it was configured.
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

/// What a webhook's answer means, and what is to be said about it.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    /// In words, for the log.
    pub(crate) outcome: String,
    /// What the webhook's author may want to know.
    pub(crate) warnings: Vec<String>,
}

impl Judgement {
    pub(crate) fn failed(failure: Failure) -> Self {
        let outcome = format!("{} {}", failure.code, failure.message);
        Self { verdict: Verdict::Failed(failure), outcome, warnings: Vec::new() }
    }
}

/// The tutorial's troubleshooting table. "[The hub] must be one of the IoT hubs passed in the linkedHubs
/// property in the request."
pub(crate) fn judge(answer: &HttpAnswer, offered: &[String], behaviour: &Behaviour, secrets: &[String]) -> Judgement {
    // Masked before it is cut, so that no half of a secret is left.
    let show = |text: &str| excerpt(&mask(text.to_owned(), secrets));
    let failed = match answer.status {
        200 => {
            let mut warnings = Vec::new();
            let judgement = match read_response(&answer.body, &mut warnings, &show) {
                Ok(allocated) if allocated.hub.is_empty() => Judgement::failed(Failure::no_hub()),
                Ok(allocated) => judge_hub(allocated, offered, behaviour, &show),
                Err(failure) => Judgement::failed(failure),
            };
            return Judgement { warnings, ..judgement };
        }
        401 => Failure::unauthorized(),
        status if status >= 429 => {
            let outcome = "to be called again".to_owned();
            return Judgement { verdict: Verdict::TryAgain(status), outcome, warnings: Vec::new() };
        }
        status => Failure::status(status),
    };
    Judgement::failed(failed)
}

/// How a text of the webhook is shown: short, printable and without secrets.
type Show<'a> = &'a dyn Fn(&str) -> String;

fn judge_hub(allocated: Allocated, offered: &[String], behaviour: &Behaviour, show: Show<'_>) -> Judgement {
    /// How many hubs are named.
    const NAMED: usize = 8;
    let hub = allocated.hub.clone();
    match allocation::check_hub(allocated, offered, behaviour.unlinked_hub) {
        Ok(allocated) => {
            if let Err(failure) = allocation::check_access(&allocated.hub, behaviour) {
                let outcome = format!("{} {} refuses the service (inaccessible_hubs)", failure.code, show(&hub));
                return Judgement { outcome, ..Judgement::failed(failure) };
            }
            let mut outcome = format!("allocated {}", show(&allocated.hub));
            if let Some(payload) = &allocated.payload {
                outcome = format!("{outcome} with payload {}", show(payload.get()));
            }
            Judgement { verdict: Verdict::Allocated(allocated), outcome, warnings: Vec::new() }
        }
        Err(failure) => {
            let mut names = offered.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            match offered.len() {
                0 => names.push_str("none"),
                hubs if hubs > NAMED => names.push_str(&format!(" and {} more", hubs - NAMED)),
                _ => {}
            }
            let hub = show(&hub);
            let code = failure.code;
            let outcome = format!("{code} refused {hub}, which is not one of the hubs offered: {names}");
            Judgement { outcome, ..Judgement::failed(failure) }
        }
    }
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Where the members of an `AllocationResponse` belong.
const PLACES: [&str; 6] = [
    "iotHubHostName",
    "initialTwin",
    "initialTwin.tags",
    "initialTwin.properties",
    "initialTwin.properties.desired",
    "payload",
];

/// Warns of members that are not looked at: unknown ones, those in the wrong place, and those that are
/// there in two spellings.
fn check_members(members: &Members<'_>, place: &str, warnings: &mut Vec<String>, show: Show<'_>) {
    /// More than so many help nobody.
    const WARNINGS: usize = 8;
    let known = |path: &'static str| path.strip_prefix(place).filter(|name| !name.contains('.'));
    let mut seen: Vec<&str> = Vec::new();
    for name in members.keys().take(64) {
        let warning =
            if let Some(name) = PLACES.into_iter().filter_map(known).find(|known| known.eq_ignore_ascii_case(name)) {
                if !seen.contains(&name) {
                    seen.push(name);
                    continue;
                }
                format!("{place}{name} is there more than once")
            } else {
                let last = |path: &&&str| path.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(name));
                let hint = match PLACES.iter().find(last) {
                    Some(path) => format!("it belongs in {path}"),
                    None => format!(
                        "the known members are {}",
                        PLACES.into_iter().filter_map(known).collect::<Vec<_>>().join(", ")
                    ),
                };
                format!("{place}{} is ignored: {hint}", show(name))
            };
        if warnings.len() < WARNINGS {
            warnings.push(warning);
        }
    }
}

/// Reads an `AllocationResponse`. The documents spell its names in more than one way, so their
/// case does not count.
fn read_response(body: &[u8], warnings: &mut Vec<String>, show: Show<'_>) -> Result<Allocated, Failure> {
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
    let mut read = || -> Result<Allocated, serde_json::Error> {
        let members: Members<'_> = serde_json::from_slice(body)?;
        check_members(&members, "", warnings, show);
        let hub = match member(&members, "iotHubHostName") {
            Some(hub) => serde_json::from_str(hub.get())?,
            None => String::new(),
        };
        let initial_twin = match member(&members, "initialTwin") {
            Some(twin) => {
                let twin: Members<'_> = serde_json::from_str(twin.get())?;
                check_members(&twin, "initialTwin.", warnings, show);
                let properties: Members<'_> = match member(&twin, "properties") {
                    Some(properties) => serde_json::from_str(properties.get())?,
                    None => Members::new(),
                };
                check_members(&properties, "initialTwin.properties.", warnings, show);
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
    // The error may quote a text of the answer, however long.
    read().map_err(|error| Failure::unreadable(&show(&error.to_string())))
}
