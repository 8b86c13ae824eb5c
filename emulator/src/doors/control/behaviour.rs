//! The switches of `[behaviour]`.

use serde_json::{Map, Value};

use super::{
    call::{Call, Desk},
    reply::{Refusal, Reply},
};

pub(super) fn show(desk: &Desk, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::json(&desk.service.settings().behaviour))
}

pub(super) fn change(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let switches: Map<String, Value> = call.body()?;
    desk.service.change_behaviour(&switches).map_err(Refusal::bad_request)?;
    show(desk, call)
}
