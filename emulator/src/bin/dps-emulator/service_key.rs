//! The key of `provisioningserviceowner`. It is never shown.

use azure_dps_emulator::SymmetricKey;

use crate::{arguments::ServiceApi, failure::Failure, secret};

const VARIABLE: &str = "DPS_EMULATOR_SERVICE_KEY";

/// Reads the key, if there is one.
pub(crate) fn read(flags: &ServiceApi) -> Result<Option<SymmetricKey>, Failure> {
    let Some((source, text)) = secret::read(flags.service_key_file.as_deref(), VARIABLE)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| Failure::config(format!("{source}: {error}")))
}
