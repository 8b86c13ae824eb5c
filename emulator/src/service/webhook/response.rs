//! The meaning of a webhook's answer: the troubleshooting table of the tutorial.

use std::collections::BTreeMap;

use serde_json::{Map, Value, value::RawValue};

use crate::{
    config::{Behaviour, Twin, twin_limits},
    service::{
        allocation::{self, Allocated},
        failure::Failure,
    },
    watch::text::{excerpt, mask},
};

/// The HTTP answer of a webhook.
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// The meaning of a webhook's answer.
pub(crate) enum Verdict {
    Allocated(Allocated),
    Failed(Failure),
    /// The status is 429 or above: call the webhook again.
    TryAgain(u16),
}

/// The meaning of a webhook's answer, and its text for the log.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    /// The outcome for the log.
    pub(crate) outcome: String,
    /// Hints for the author of the webhook.
    pub(crate) warnings: Vec<String>,
}

impl Judgement {
    pub(crate) fn failed(failure: Failure) -> Self {
        let outcome = format!("{} {}", failure.code, failure.message);
        Self { verdict: Verdict::Failed(failure), outcome, warnings: Vec::new() }
    }
}

/// Applies the troubleshooting table of the tutorial. "[The hub] must be one of the IoT hubs passed in the linkedHubs
/// property in the request."
pub(crate) fn judge(answer: &HttpAnswer, offered: &[String], behaviour: &Behaviour, secrets: &[String]) -> Judgement {
    // Masked before it is cut, so that no part of a secret remains.
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
            let outcome = "will be called again".to_owned();
            return Judgement { verdict: Verdict::TryAgain(status), outcome, warnings: Vec::new() };
        }
        status => Failure::status(status),
    };
    Judgement::failed(failed)
}

/// Makes a text of the webhook short and printable, and removes secrets.
type Show<'a> = &'a dyn Fn(&str) -> String;

fn judge_hub(allocated: Allocated, offered: &[String], behaviour: &Behaviour, show: Show<'_>) -> Judgement {
    /// The most hubs that the text names.
    const NAMED: usize = 8;
    let hub = allocated.hub.clone();
    match allocation::check_hub(allocated, offered, behaviour.unlinked_hub) {
        Ok(allocated) => {
            if let Err(failure) = allocation::check_access(&allocated.hub, behaviour) {
                let outcome = format!("{} {} rejects the service (inaccessible_hubs)", failure.code, show(&hub));
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
            let outcome = format!("{code} rejected {hub}, which is not one of the offered hubs: {names}");
            Judgement { outcome, ..Judgement::failed(failure) }
        }
    }
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The places of the members of an `AllocationResponse`.
const PLACES: [&str; 6] = [
    "iotHubHostName",
    "initialTwin",
    "initialTwin.tags",
    "initialTwin.properties",
    "initialTwin.properties.desired",
    "payload",
];

/// Warns about members that are ignored: unknown members, members in a wrong place, and members in two spellings.
fn check_members(members: &Members<'_>, place: &str, warnings: &mut Vec<String>, show: Show<'_>) {
    /// The most warnings for an answer.
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
                format!("{place}{name} appears more than once")
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

/// Reads an `AllocationResponse`. Names match in any case, because the documentation spells them in different ways.
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
                let twin =
                    Twin { tags: object(member(&twin, "tags"))?, desired: object(member(&properties, "desired"))? };
                if let Err(why) = twin_limits::check(&twin) {
                    warnings.push(show(&format!("the initialTwin breaks a limit of the hub: {why}")));
                }
                Some(twin)
            }
            None => None,
        };
        let payload = member(&members, "payload");
        if let Some(payload) = payload {
            // The payload is passed on unchanged. Raw JSON may contain strings that are not Unicode, but a `Value`
            // may not.
            let _: Value = serde_json::from_str(payload.get())?;
        }
        Ok(Allocated { hub, initial_twin, payload: payload.map(ToOwned::to_owned) })
    };
    // The error may quote a long text of the answer.
    read().map_err(|error| Failure::unreadable(&show(&error.to_string())))
}
