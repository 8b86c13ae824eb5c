//! The primary and the secondary key in one call.

use std::time::Duration;

use azure_dps::{DeviceKey, Error, Provisioning, blocking, identity::KeyChoice};

/// Returns the key that the service accepted.
pub fn provision<C: blocking::Connect>(
    provisioning: &mut Provisioning<'_>,
    [primary, secondary]: [&str; 2],
    connect: &mut C,
    clock: impl Fn() -> Duration,
    delay: impl FnMut(Duration),
) -> Result<KeyChoice, Error> {
    let mut keys = [DeviceKey::new(), DeviceKey::new()];
    keys[0].read_base64(primary)?;
    keys[1].read_base64(secondary)?;

    let mut buffer = [0; 1024];
    provisioning.start(clock(), 1_700_000_000);
    blocking::run(provisioning, &mut keys, &mut buffer, connect, &clock, delay, |_| ())
        .map_err(|error| error.kind())?;
    Ok(provisioning.key())
}
