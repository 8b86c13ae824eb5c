//! The control API: its address and its token.

use azure_dps_emulator::Builder;

use crate::{arguments::Control, failure::Failure, secret};

const TOKEN: &str = "DPS_EMULATOR_CONTROL_TOKEN";

/// Sets up the control API from the command line.
pub(crate) fn listen(mut builder: Builder, flags: &Control) -> Result<Builder, Failure> {
    if flags.control == "none" {
        return Ok(builder);
    }
    builder = builder.control(&flags.control);
    for host in &flags.control_host {
        builder = builder.control_host(host);
    }
    Ok(match token(flags)? {
        Some(token) => builder.control_token(token),
        None => builder,
    })
}

/// Returns the token, if there is one.
pub(crate) fn token(flags: &Control) -> Result<Option<String>, Failure> {
    Ok(secret::read(flags.control_token_file.as_deref(), TOKEN)?.map(|(_, token)| token))
}
