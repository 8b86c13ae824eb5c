//! `--check-health`: asks a running emulator whether it is ready. The health check of a container needs this option,
//! because the container has no shell and no other program.

use std::time::Duration;

use azure_dps_emulator::get_status;

use crate::{arguments::Control, control, failure::Failure};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the emulator whose control API is at this address. The answer comes after all listeners are open.
pub(crate) fn check(address: &str, flags: &Control) -> Result<(), Failure> {
    let token = control::token(flags)?;
    let status = get_status(&format!("http://{address}/_emulator/health"), token.as_deref(), TIMEOUT);
    match status.map_err(|error| Failure::start(format!("no answer from {address}: {error}")))? {
        status if status == 200 => Ok(()),
        status => Err(Failure::start(format!("{address} is not a healthy emulator: {status}"))),
    }
}
