//! Runs Microsoft's tutorial, up to the hub: `cargo run --example contoso`
//!
//! The program starts a local DPS with its hubs and Contoso's custom allocation webhook. Then it provisions three
//! devices at the same time: a toaster, a heat pump, and a device that Contoso does not know. The devices with a hub
//! connect to it and download their twins. Then the operator moves the toaster to another hub.
//! Source: <https://learn.microsoft.com/azure/iot-dps/tutorial-custom-allocation-policies>.

mod device;
#[path = "../mqtt_rumqttc/hub.rs"]
mod hub;

use std::{error::Error, process::ExitCode, thread, time::Instant};

use azure_dps::{
    after::HubOutcome,
    error::ErrorCode,
    provisioning::{Endpoint, Progress},
};
use azure_dps_emulator::{Allocation, AllocationPolicy, Config, Emulator, IndividualEnrollment, SymmetricKey};
use clap::Parser;
use console::style;
use device::{Device, Failure, ID_SCOPE, Local, Step};

const TOASTER: &str = "breakroom499-contoso-tstrsd-007";
const TOASTERS_TWIN: &str = r#"state "ready", darknessSetting "medium""#;
/// The operator moves the toaster to this hub.
const NEW_HUB: &str = "contoso-toasters-hub-1099.azure-devices.net";

/// The three devices, and the result that the tutorial gives for each: hub and twin, or the service's error code.
const DEVICES: [(&str, Expected); 3] = [
    (TOASTER, Ok(("contoso-toasters-hub-1098.azure-devices.net", TOASTERS_TWIN))),
    (
        "mainbuilding167-contoso-hpsd-088",
        Ok(("contoso-heatpumps-hub-1098.azure-devices.net", r#"state "on", temperatureSetting "65""#)),
    ),
    ("lobby1-contoso-unknown-001", Err(ErrorCode::CUSTOM_ALLOCATION_FAILED)),
];
type Expected = Result<(&'static str, &'static str), ErrorCode>;

/// Runs Microsoft's tutorial on custom allocation policies, with a local DPS.
///
/// It starts a DPS, its hubs and the Contoso webhook on 127.0.0.1. Then it provisions three devices and moves one of
/// them to another hub. The exit code is 0 if each device ends as in the tutorial.
#[derive(Parser)]
#[command(name = "contoso", version, max_term_width = 80)]
struct Cli {}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Cli {} = Cli::parse();
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    // The function in the tutorial returns no payload. The function in the concept document does.
    config.contoso.return_payload = true;
    let emulator = Emulator::builder(config).http("127.0.0.1:0").mqtt("127.0.0.1:0").start()?;
    let url = emulator.http_url().ok_or("the emulator has no HTTP listener")?;
    let mqtt_url = emulator.mqtt_url().ok_or("the emulator has no MQTT listener")?;
    let local = Local { dps: Endpoint::parse(url)?, hubs: mqtt_url.trim_start_matches("mqtt://").parse()? };

    println!("{}  {url}  ID scope {ID_SCOPE}", style("Local DPS      ").bold());
    println!("{}  {mqtt_url}", style("Local hubs     ").bold());
    if let Some(webhook) = emulator.contoso() {
        println!("{}  {}", style("Contoso webhook").bold(), webhook.url());
    }
    println!("\n{}\n", style("Three devices boot").bold());
    let started = Instant::now();
    let mut devices = Vec::new();
    for (id, _) in DEVICES {
        devices.push(Device::new(id)?);
    }
    let outcomes = thread::scope(|scope| {
        let boot = |device| scope.spawn(move || boot(device, local, started));
        let booting: Vec<_> = devices.iter_mut().map(boot).collect();
        let panicked = |_| Err(Failure { code: None, message: "the device's thread panicked".to_owned() });
        booting.into_iter().map(|device| device.join().unwrap_or_else(panicked)).collect::<Vec<_>>()
    });
    let mut as_expected = true;
    for ((device, (id, expected)), outcome) in devices.iter().zip(DEVICES).zip(&outcomes) {
        as_expected &= report(device, outcome, expected);
        let seen = emulator.webhook_calls().into_iter().rev().find(|call| call.registration_id == id);
        let seen = seen.map(|call| call.request["deviceRuntimeContext"]["payload"].to_string());
        println!("    the webhook saw  {}", seen.as_deref().unwrap_or("nothing"));
        let payload = device.assignment().ok().and_then(|assignment| assignment.payload());
        println!("    and returned     {}", payload.map_or("no payload", |payload| payload.raw()));
    }

    println!("\n{}\n", style(format!("The operator moves {TOASTER}, which boots again")).bold());
    move_toaster(&emulator)?;
    let outcome = boot(&mut devices[0], local, started);
    as_expected &= report(&devices[0], &outcome, Ok((NEW_HUB, TOASTERS_TWIN)));

    println!("\n3 devices, 1 move in {:.1} s", started.elapsed().as_secs_f32());
    if !as_expected {
        eprintln!("{} this differs from the tutorial", style("✘").red());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Boots a device, and prints each step.
fn boot(device: &mut Device, local: Local<'_>, started: Instant) -> Result<String, Failure> {
    let id = device.id;
    device.boot(local, |step| {
        let status = match step {
            Step::Dps(Progress::Connected) => style("CONNECTED").cyan(),
            Step::Dps(Progress::Registering) => style("REGISTERING").cyan(),
            Step::Dps(Progress::Assigning) => style("ASSIGNING").yellow(),
            Step::Dps(Progress::Assigned) => style("ASSIGNED").green(),
            Step::Dps(Progress::Failed(_)) => style("FAILED").red(),
            Step::Dps(_) => style("RETRYING").yellow(),
            Step::Hub(HubOutcome::Accepted) => style("TWIN DOWNLOADED").green(),
            Step::Hub(HubOutcome::Refused(_)) => style("HUB REJECTS IT").red(),
            Step::Hub(_) => style("HUB UNREACHABLE").yellow(),
        };
        println!("  {:5.2} s  {id:<34}{status}", started.elapsed().as_secs_f32());
    })
}

/// Prints the hub and the twin of a device. Returns `true` if both are as expected.
fn report(device: &Device, outcome: &Result<String, Failure>, expected: Expected) -> bool {
    println!("\n{}", style(device.id).bold());
    match (outcome, device.assignment()) {
        (Ok(twin), Ok(assignment)) => {
            let (hub, device_id) = (assignment.assigned_hub(), assignment.device_id());
            println!(
                "  {} Registration Information received from service: {}, deviceId: {device_id}",
                style("✔").green(),
                style(hub).green(),
            );
            println!("    its twin         {twin}");
            expected == Ok((hub, twin.as_str()))
        }
        (Err(failure), _) => {
            println!("  {} {}", style("✘").red(), failure.message);
            failure.code.is_some() && failure.code == expected.err()
        }
        (Ok(_), Err(error)) => {
            println!("  {} {error}", style("✘").red());
            false
        }
    }
}

/// Moves the toaster as an operator does: creates an individual enrollment with another hub, and disables the device at
/// the old hub.
/// DPS moves the twin when the device registers again (re-provisioning policy `migrate`).
fn move_toaster(emulator: &Emulator) -> Result<(), Box<dyn Error>> {
    let primary_key = SymmetricKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
    emulator.update(|config| {
        config.linked_hubs.push(NEW_HUB.to_owned());
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.to_owned(),
            primary_key,
            allocation: Allocation {
                policy: AllocationPolicy::Static,
                iot_hubs: vec![NEW_HUB.to_owned()],
                ..Allocation::default()
            },
            ..IndividualEnrollment::default()
        });
    });
    emulator.set_hub_enabled(TOASTER, false)?;
    Ok(())
}
