//! The history of requests and webhook calls, and repeating a webhook call.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    call::{Call, Desk},
    records::{summary, whole_call},
    reply::{Refusal, Reply},
};
use crate::{
    service::replay::NoReplay,
    watch::journal::{Entries, From},
};

/// The most bytes of text in a page.
const MAX_PAGE: usize = 8 * 1024 * 1024;

pub(super) fn requests(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let read = |from, limit| desk.service.journal().read_requests(from, limit);
    page(desk, call, "requests", read, |record| json!(record), |record| record.text_len())
}

pub(super) fn webhook_calls(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let read = |from, limit| desk.service.journal().read_webhook_calls(from, limit);
    page(desk, call, "webhookCalls", read, |asked| summary(&asked.call), |_| 0)
}

pub(super) fn webhook_call(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    let number = call.number_in_path()?;
    let asked = desk.service.journal().webhook_call(number).ok_or_else(|| no_call(number))?;
    Ok(Reply::json(&whole_call(&asked.call)))
}

/// Calls the webhook again.
pub(super) async fn replay(desk: &Desk, call: &Call<'_>) -> Result<Reply, Refusal> {
    call.no_body()?;
    let number = call.number_in_path()?;
    let service = Arc::clone(&desk.service);
    // A task, so that the call continues and is recorded if the client hangs up.
    let replay = tokio::spawn(async move { service.replay(number).await });
    match replay.await {
        Ok(Ok(call)) => Ok(Reply::json(&whole_call(&call))),
        Ok(Err(NoReplay::NoSuchCall)) => Err(no_call(number)),
        Ok(Err(NoReplay::TooMany)) => {
            Err(Refusal::unavailable("too many webhook calls are being repeated: try again later"))
        }
        Ok(Err(NoReplay::Reset)) | Err(_) => Err(Refusal::conflict("the emulator was reset during the call")),
    }
}

fn no_call(number: u64) -> Refusal {
    Refusal::not_found(format!("there is no webhook call {number}, or it is no longer kept"))
}

/// Returns a page of a history, as much as fits.
fn page<T>(
    desk: &Desk,
    call: &Call<'_>,
    name: &'static str,
    read: impl Fn(From, usize) -> Entries<T>,
    show: impl Fn(&T) -> Value,
    size: impl Fn(&T) -> usize,
) -> Result<Reply, Refusal> {
    let (from, limit) = (call.from()?, call.limit()?);
    // Read the number first: later changes are in the events after it.
    let last_event = desk.service.journal().last_event();
    let mut bytes = 0;
    let mut fits = |entry: &T| {
        bytes += size(entry);
        bytes <= MAX_PAGE
    };
    let (entries, next) = match from {
        From::Newest => {
            let mut entries = read(from, limit);
            // The newest entries are at the end.
            let kept = entries.iter().rev().take_while(|(_, entry)| fits(entry)).count();
            entries.drain(..entries.len() - kept.max(1).min(entries.len()));
            (entries, None)
        }
        From::After(_) => {
            let mut entries = read(from, limit + 1);
            let kept = entries.iter().take(limit).take_while(|(_, entry)| fits(entry)).count();
            let is_cut = kept < entries.len();
            entries.truncate(kept.max(1));
            let next = entries.last().map(|&(number, _)| number).filter(|_| is_cut);
            (entries, next)
        }
    };
    let entries = entries.iter().map(|(_, entry)| show(entry)).collect();
    let members = [(name, Value::Array(entries)), ("next", json!(next)), ("lastEvent", json!(last_event))];
    let page: Map<String, Value> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(Reply::json(&page))
}
