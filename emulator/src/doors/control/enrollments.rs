//! Enrollments: lists them, enables and disables them.

use serde_json::json;

use super::{
    call::{Call, Desk},
    reply::{Refusal, Reply},
};
use crate::{service::inspection::Page, store::enrollments::Kind, watch::text::excerpt};

pub(super) fn list(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let Page { entries, next, last_event } =
        desk.service.enrollment_page(call.query("after").unwrap_or_default(), call.limit()?);
    Ok(Reply::json(&json!({ "enrollments": entries, "next": next, "lastEvent": last_event })))
}

pub(super) fn enable(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    set_enabled(desk, call, true)
}

pub(super) fn disable(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    set_enabled(desk, call, false)
}

fn set_enabled(desk: &Desk, call: &Call<'_>, enabled: bool) -> Result<Reply, Refusal> {
    call.no_body()?;
    let kinds = match call.query("kind") {
        Some("group") => vec![Kind::Group],
        Some("individual") => vec![Kind::Individual],
        Some(kind) => {
            return Err(Refusal::bad_request(format!("kind is {:?}: it must be group or individual", excerpt(kind))));
        }
        None => vec![Kind::Group, Kind::Individual],
    };
    let exists = |kind: &Kind| desk.service.enrollment_view(*kind, &call.parameter).is_some();
    let kind = match kinds.into_iter().filter(exists).collect::<Vec<_>>()[..] {
        [kind] => kind,
        [] => return Err(no_enrollment(call)),
        _ => {
            return Err(Refusal::conflict(
                "a group and an individual enrollment have this ID: add ?kind=group or ?kind=individual",
            ));
        }
    };
    desk.service.enable_enrollment(kind, &call.parameter, enabled).map_err(|error| match error.status() {
        // The enrollment was deleted meanwhile.
        404 => no_enrollment(call),
        _ => Refusal::unavailable(error.detail),
    })?;
    desk.service
        .enrollment_view(kind, &call.parameter)
        .map_or_else(|| Err(no_enrollment(call)), |enrollment| Ok(Reply::json(&enrollment)))
}

fn no_enrollment(call: &Call<'_>) -> Refusal {
    Refusal::not_found(format!("there is no enrollment {:?} of this kind", excerpt(&call.parameter)))
}
