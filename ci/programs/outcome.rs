//! Both arms of a `match` on the outcome read the same buffer.

use std::time::Duration;

use azure_dps::{DeviceKey, Provisioning, blocking};

pub fn provision<C>(
    provisioning: &mut Provisioning<'_>,
    key: &mut DeviceKey,
    connect: &mut C,
    clock: impl Fn() -> Duration,
    delay: impl FnMut(Duration),
) -> String
where
    C: blocking::Connect,
    C::Error: std::fmt::Display,
{
    let mut buffer = [0; 1024];
    provisioning.start(clock(), 1_700_000_000);
    match blocking::run(provisioning, key, &mut buffer, connect, &clock, delay, |_| ()) {
        Ok(()) => match provisioning.result(&buffer) {
            Ok(assignment) => format!("{} {}", assignment.assigned_hub(), assignment.device_id()),
            Err(error) => error.to_string(),
        },
        Err(error) => match provisioning.details(&buffer).and_then(|details| details.message()) {
            Some(message) => format!("{error}: {message}"),
            None => error.to_string(),
        },
    }
}
