//! The control API: its address and its token.

use std::{env, fs};

use azure_dps_emulator::Builder;

use crate::{arguments::Control, failure::Failure};

/// Where the token may be, besides a file. It must not be on the command line, which other users see.
const TOKEN: &str = "DPS_EMULATOR_CONTROL_TOKEN";

/// Sets up the control API as the command line asks for.
pub(crate) fn listen(mut builder: Builder, arguments: &Control) -> Result<Builder, Failure> {
    if arguments.control == "none" {
        return Ok(builder);
    }
    builder = builder.control(&arguments.control);
    for host in &arguments.control_host {
        builder = builder.control_host(host);
    }
    let token = match &arguments.control_token_file {
        Some(path) => {
            let text = fs::read_to_string(path);
            Some(text.map_err(|error| Failure::start(format!("{}: {error}", path.display())))?)
        }
        None => env::var(TOKEN).ok().filter(|token| !token.is_empty()),
    };
    Ok(match token {
        Some(token) => builder.control_token(token.trim()),
        None => builder,
    })
}
