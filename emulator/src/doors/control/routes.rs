//! The calls of the control API: methods and paths. `docs/control-api.json` describes them.

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::{
    behaviour,
    call::{Call, Desk},
    devices, enrollments, histories, overview,
    reply::{Refusal, Reply},
    scripts,
};

use crate::hub::{Hub, error::HubError};

/// The part of the emulator that answers a call.
#[derive(Clone, Copy)]
pub(super) enum Answered {
    By(fn(&Desk, &Call<'_>) -> Result<Reply, Refusal>),
    /// A stream of events.
    Events,
    /// The hub of a device. It ends the connection of the device.
    Disconnects(fn(&Hub, &str) -> Result<(), HubError>),
    /// A webhook.
    Replay,
    /// The guard, which knows the token.
    Session,
}

/// A call: its method, its path with `{…}` for one segment, and the parameters of its query.
pub(super) struct Route {
    pub(super) method: Method,
    path: &'static str,
    pub(super) query: &'static [&'static str],
    pub(super) answered: Answered,
}

const fn route(method: Method, path: &'static str, query: &'static [&'static str], answered: Answered) -> Route {
    Route { method, path, query, answered }
}

const PAGE: &[&str] = &["after", "limit"];

static ROUTES: [Route; 25] = {
    use Answered::{By, Disconnects, Events, Replay, Session};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    [
        route(GET, "/_emulator/health", &[], By(overview::health)),
        route(GET, "/_emulator/openapi.json", &[], By(overview::openapi)),
        route(POST, "/_emulator/session", &[], Session),
        route(GET, "/_emulator/devices", PAGE, By(devices::list)),
        route(GET, "/_emulator/devices/{id}", &[], By(devices::show)),
        route(GET, "/_emulator/devices/{id}/telemetry", &[], By(devices::telemetry)),
        route(POST, "/_emulator/devices/{id}/twin", &[], By(devices::patch_twin)),
        route(POST, "/_emulator/devices/{id}/hub/disable", &[], Disconnects(devices::disable)),
        route(POST, "/_emulator/devices/{id}/hub/enable", &[], By(devices::enable)),
        route(POST, "/_emulator/devices/{id}/hub/disconnect", &[], Disconnects(Hub::drop_connection)),
        route(DELETE, "/_emulator/devices/{id}/hub", &[], Disconnects(Hub::remove_device)),
        route(GET, "/_emulator/enrollments", PAGE, By(enrollments::list)),
        route(POST, "/_emulator/enrollments/{id}/enable", &["kind"], By(enrollments::enable)),
        route(POST, "/_emulator/enrollments/{id}/disable", &["kind"], By(enrollments::disable)),
        route(GET, "/_emulator/requests", PAGE, By(histories::requests)),
        route(GET, "/_emulator/webhook-calls", PAGE, By(histories::webhook_calls)),
        route(GET, "/_emulator/webhook-calls/{number}", &[], By(histories::webhook_call)),
        route(POST, "/_emulator/webhook-calls/{number}/replay", &[], Replay),
        route(GET, "/_emulator/events", &["after"], Events),
        route(POST, "/_emulator/reset", &[], By(overview::reset)),
        route(GET, "/_emulator/scripts", &[], By(scripts::show)),
        route(POST, "/_emulator/scripts", &[], By(scripts::add)),
        route(DELETE, "/_emulator/scripts", &[], By(scripts::clear)),
        route(GET, "/_emulator/behaviour", &[], By(behaviour::show)),
        route(POST, "/_emulator/behaviour", &[], By(behaviour::change)),
    ]
};

/// Finds the call of this method and path. Returns the value of `{…}`, too.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<(&'static Route, Cow<'a, str>), Refusal> {
    let with_path: Vec<_> = ROUTES.iter().filter_map(|route| Some((route, parameter(route.path, path)?))).collect();
    if with_path.is_empty() {
        return Err(Refusal::not_found("the control API has no such path; see /_emulator/openapi.json"));
    }
    let allowed: Vec<_> = with_path.iter().map(|(route, _)| route.method.as_str()).collect();
    let refusal = Refusal::method_not_allowed(&allowed.join(", "));
    let (route, parameter) = with_path.into_iter().find(|(route, _)| route.method == *method).ok_or(refusal)?;
    let parameter = percent_decode_str(parameter)
        .decode_utf8()
        .map_err(|_| Refusal::bad_request("the escapes in the path are not UTF-8"))?;
    Ok((route, parameter))
}

/// Returns the value of `{…}` if the path has this form. The value is one segment.
fn parameter<'a>(form: &str, path: &'a str) -> Option<&'a str> {
    let (Some((before, _)), Some((_, after))) = (form.split_once('{'), form.split_once('}')) else {
        return (form == path).then_some("");
    };
    let segment = path.strip_prefix(before)?.strip_suffix(after)?;
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// The description has every call with its parameters, and describes no other call.
    #[test]
    fn the_description_has_every_call() {
        let description: Value = serde_json::from_str(overview::DESCRIPTION).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for (method, call) in methods.as_object().unwrap() {
                let parameters = call["parameters"].as_array().map_or(&[][..], Vec::as_slice);
                let query = parameters.iter().filter_map(|parameter| {
                    let name = parameter["$ref"].as_str()?.rsplit('/').next()?;
                    let parameter = &description["components"]["parameters"][name];
                    (parameter["in"] == "query").then(|| parameter["name"].as_str().unwrap())
                });
                described.insert((method.to_uppercase(), path.clone(), query.map(str::to_owned).collect::<Vec<_>>()));
            }
        }
        let served: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| {
                let query = route.query.iter().map(|&name| name.to_owned()).collect();
                (route.method.to_string(), route.path.to_owned(), query)
            })
            .collect();
        assert_eq!(described.symmetric_difference(&served).collect::<Vec<_>>(), [] as [&_; 0]);
    }

    #[test]
    fn one_segment_stands_for_a_parameter() {
        for (path, expected) in [
            ("/a/x/b", Some("x")),
            ("/a/x%2Fy/b", Some("x%2Fy")),
            ("/a//b", None),
            ("/a/x/y/b", None),
            ("/a/x", None),
            ("/a/b", None),
        ] {
            assert_eq!(parameter("/a/{id}/b", path), expected, "{path}");
        }
        assert_eq!((parameter("/a", "/a"), parameter("/a", "/a/")), (Some(""), None));
    }
}
