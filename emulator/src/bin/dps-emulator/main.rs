//! `dps-emulator`: the emulator as a program.

#![forbid(unsafe_code)]

mod arguments;
mod bodies;
mod check;
mod colour;
mod configuration;
mod control;
mod failure;
mod health;
mod hosts;
mod output;
mod secret;
mod service_key;

use std::{fs, path::PathBuf, process::ExitCode};

use arguments::Arguments;
use azure_dps_emulator::{
    Config, Emulator, Event, StartError,
    console::{self, Console, Signals},
};
use clap::{Parser, error::ErrorKind};
use configuration::Configuration;
use failure::Failure;
use output::Lines;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(2),
            };
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, why }) => {
            if let Some(why) = why {
                eprintln!("dps-emulator: {why}");
            }
            ExitCode::from(code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(address) = &arguments.control.check_health {
        return health::check(address, &arguments.control);
    }
    let configuration = Configuration::read(arguments);
    if arguments.configuration.check {
        return check::report(&configuration, &arguments.output);
    }
    let configuration = configuration.usable()?;
    if arguments.names.hosts {
        hosts::print(&configuration.config.host_names(&arguments.names.gateway_name));
        return Ok(());
    }
    let config = &configuration.config;
    let about = format!(
        "ID scope {}, {} enrollment group(s), {} individual enrollment(s), {} linked hub(s)",
        config.id_scope,
        config.enrollment_groups.len(),
        config.individual_enrollments.len(),
        config.linked_hubs.len()
    );

    console::allow_many_connections();
    // Signals are caught before the first line is printed, because a script may stop the emulator after this line.
    let signals = Signals::catch().map_err(Failure::start)?;
    let console = Console::start().map_err(Failure::start)?;
    let lines = Lines::new(console.printer(), &arguments.output);
    let emulator = start(arguments, config.clone(), &lines)?;
    let certificates = &arguments.certificates;
    for (path, pem) in
        [(&certificates.ca_out, emulator.ca_pem()), (&certificates.issuing_ca_out, emulator.issuing_ca_pem())]
    {
        if let Some(path) = path {
            fs::write(path, pem).map_err(|error| Failure::start(format!("{}: {error}", path.display())))?;
        }
    }
    lines.announce(&emulator, &config.linked_hubs, &about);
    for warning in &configuration.findings {
        lines.warning(&configuration, warning);
    }
    for warning in emulator.warnings() {
        lines.start_warning(&warning);
    }
    lines.control_url(&emulator);
    drop(lines);
    signals.wait();
    emulator.stop();
    console.finish();
    Ok(())
}

fn start(arguments: &Arguments, config: Config, lines: &Lines) -> Result<Emulator, Failure> {
    let events = lines.clone();
    let mut builder = Emulator::builder(config)
        .time_scale(arguments.behaviour.time_scale)
        .observer(move |event: &Event| events.event(event));
    if arguments.output.function_log {
        let log = lines.clone();
        builder = builder.contoso_log(move |line| log.function(line));
    }
    let listeners = &arguments.listeners;
    if let Some(address) = &listeners.http {
        builder = builder.http(address);
    }
    if let Some(address) = &listeners.https {
        builder = builder.https(address);
    }
    if let Some(address) = &listeners.mqtt {
        builder = builder.mqtt(address);
    }
    if let Some(address) = &listeners.mqtts {
        builder = builder.mqtts(address);
    }
    if let Some(key) = service_key::read(&arguments.service_api)? {
        builder = builder.service_key(key);
    }
    for host in &arguments.service_api.allow_webhook {
        builder = builder.allow_webhook(host);
    }
    for name in &arguments.names.gateway_name {
        builder = builder.gateway_name(name);
    }
    builder = control::listen(builder, &arguments.control)?;
    if let Some(folder) = &arguments.configuration.data {
        builder = builder.data(folder);
    }
    let certificates = &arguments.certificates;
    if let (Some(certificate), Some(key)) = (&certificates.tls_certificate, &certificates.tls_key) {
        let read =
            |path: &PathBuf| fs::read(path).map_err(|error| Failure::start(format!("{}: {error}", path.display())));
        builder = builder.certificate(read(certificate)?, read(key)?);
    }
    builder.start().map_err(|error| match error {
        StartError::Config(_) => Failure::config(error),
        StartError::Listen { listener, .. } => Failure::start(format!("--{listener}: {error}")),
        StartError::WebhookHost(_) => Failure::command_line(error),
        _ => Failure::start(error),
    })
}
