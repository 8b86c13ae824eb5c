//! The configuration: the file, then the flags that go before it.

use std::fs;

use azure_dps_emulator::Config;

use crate::{
    arguments::{Arguments, OrNone},
    failure::Failure,
};

/// Reads the configuration that the command line names.
pub(crate) fn read(arguments: &Arguments) -> Result<Config, Failure> {
    let mut config = match &arguments.configuration.config {
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|error| Failure::config(format!("{}: {error}", path.display())))?;
            Config::from_toml(&text).map_err(|error| Failure::config(format!("{}: {error}", path.display())))?
        }
        None => Config::contoso(),
    };
    apply_flags(&mut config, arguments);
    Ok(config)
}

fn apply_flags(config: &mut Config, arguments: &Arguments) {
    let flags = &arguments.behaviour;
    if arguments.configuration.webhook.is_some() {
        config.webhook_url.clone_from(&arguments.configuration.webhook);
    }
    let behaviour = &mut config.behaviour;
    for (argument, setting) in [
        (flags.retry_after, &mut behaviour.retry_after),
        (flags.registrations_per_minute, &mut behaviour.registrations_per_minute),
        (flags.operations_per_minute, &mut behaviour.operations_per_minute),
        (flags.device_polls_per_10s, &mut behaviour.device_polls_per_10s),
    ] {
        if let Some(OrNone(number)) = argument {
            *setting = number;
        }
    }
    if flags.drop_every.is_some() {
        behaviour.drop_every = flags.drop_every;
    }
    if flags.throttle_webhook_every.is_some() {
        config.contoso.throttle_every = flags.throttle_webhook_every;
    }
}
