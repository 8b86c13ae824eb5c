//! The settings of `[behaviour]`.

use serde_json::{Map, Value};

use super::{
    call::{Call, Desk, with_integers},
    reply::{Refusal, Reply},
};

pub(super) fn show(desk: &Desk, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::json(&desk.service.settings().behaviour))
}

pub(super) fn change(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let switches: Map<String, Value> = call.body()?;
    let switches = switches.into_iter().map(|(name, value)| (name, with_integers(value))).collect();
    desk.service.change_behaviour(&switches).map_err(Refusal::bad_request)?;
    show(desk, call)
}
