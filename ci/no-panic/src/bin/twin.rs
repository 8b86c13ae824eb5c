//! `after::twin`.

#![no_std]
#![no_main]

use azure_dps::after::{
    Hub,
    twin::{self, Message, Properties},
};
use azure_dps_no_panic::*;
use serde::Deserialize;

links!(proof);

#[derive(Deserialize)]
struct Settings<'a> {
    darkness: &'a str,
    limits: Option<(u8, i32)>,
}

fn proof() {
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    used(twin::write_get_topic(number() as u32, room).is_ok());
    used(twin::write_report_topic(number() as u32, room).is_ok());
    if let Ok(hub) = Hub::new(text(), text()) {
        used(hub.write_telemetry_topic(&[(text(), text()), (text(), text())], room).is_ok());
    }
    used(twin::answer_len(number().min(65_536), number().min(65_536)));
    for message in [twin::read(text(), bytes()), twin::read_skipped(text(), number())] {
        match message {
            Ok(Message::Twin(twin)) => {
                used(twin.request_id);
                properties(twin.desired);
                properties(twin.reported);
            }
            Ok(Message::Reported { request_id, version }) => used((request_id, version)),
            Ok(Message::Refused(refusal)) => {
                used((refusal.request_id, refusal.status, refusal.code(), refusal.fault(), refusal.is_retryable()));
                used((refusal.hub_outcome(), refusal.message().is_some(), refusal.details().is_some()));
                shown(refusal);
            }
            Ok(Message::Change(patch)) => properties(patch),
            Ok(Message::Other) => {}
            Err(unreadable) => {
                used((unreadable.request_id, unreadable.error));
                shown(unreadable);
            }
        }
    }
}

fn properties(properties: Properties<'_>) {
    used((properties.version(), properties.order(number() as u64), properties.object().raw()));
    used(properties.get(text()).is_some_and(|value| value.is_null()));
    let mut scratch = [0; 64];
    let scratch = scratch.get_mut(..number()).unwrap_or_default();
    match properties.read_as::<Settings<'_>>(scratch) {
        Ok(settings) => used((settings.darkness, settings.limits)),
        Err(error) => shown(error),
    }
}
