//! The whole tutorial in one command: `cargo run --example contoso`
//!
//! A local DPS and Contoso's custom allocation webhook start inside this program. A toaster,
//! a heat pump and a device that Contoso does not know are provisioned at the same time.
//! Source: <https://learn.microsoft.com/azure/iot-dps/tutorial-custom-allocation-policies>.

use std::error::Error;
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use azure_dps::{
    Attestation, DeviceKey, GroupKey, IdScope, Provisioning, Registration, RegistrationId, blocking,
    error::ErrorCode,
    provisioning::{Endpoint, Progress, Sizes},
};
use azure_dps_emulator::{Config, Emulator};
use console::style;
use embedded_io_adapters::std::FromStd;

const ID_SCOPE: &str = "0ne00002193";
const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;
/// Sufficient for each of the three devices.
const SIZES: Sizes =
    Sizes::new(ID_SCOPE, "mainbuilding167-contoso-hpsd-088").with_payload(PAYLOAD.len()).with_returned_payload(100);

/// The three devices and what the tutorial says becomes of them.
const DEVICES: [(&str, Expected); 3] = [
    ("breakroom499-contoso-tstrsd-007", Ok("contoso-toasters-hub-1098.azure-devices.net")),
    ("mainbuilding167-contoso-hpsd-088", Ok("contoso-heatpumps-hub-1098.azure-devices.net")),
    ("lobby1-contoso-unknown-001", Err(ErrorCode::CUSTOM_ALLOCATION_FAILED)),
];
type Expected = Result<&'static str, ErrorCode>;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    // The tutorial's function returns no payload; the concept document's does.
    config.contoso.return_payload = true;
    let emulator = Emulator::builder(config).start()?;
    let url = emulator.http_url().ok_or("the emulator has no HTTP listener")?;

    println!("{}  {url}  ID scope {ID_SCOPE}", style("Local DPS      ").bold());
    if let Some(webhook) = emulator.contoso() {
        println!("{}  {}", style("Contoso webhook").bold(), webhook.url());
    }
    println!("\n{}\n", style("Registering devices").bold());

    let started = Instant::now();
    let outcomes = thread::scope(|scope| {
        let devices = DEVICES.map(|(device, _)| scope.spawn(move || provision(device, url, started)));
        devices.map(|device| device.join().unwrap_or_else(|_| Outcome::failed("the device's thread panicked")))
    });

    let mut as_expected = true;
    for ((device, expected), outcome) in DEVICES.iter().zip(&outcomes) {
        println!("\n{}", style(device).bold());
        match &outcome.result {
            Ok((hub, device_id)) => println!(
                "  {} Registration Information received from service: {}, deviceId: {device_id}",
                style("✔").green(),
                style(hub).green(),
            ),
            Err((_, message)) => println!("  {} {message}", style("✘").red()),
        }
        let seen = emulator.webhook_calls().into_iter().rev().find(|call| call.registration_id == *device);
        let seen = seen.map(|call| call.request["deviceRuntimeContext"]["payload"].to_string());
        println!("    the webhook saw  {}", seen.as_deref().unwrap_or("nothing"));
        println!("    and returned     {}", outcome.payload.as_deref().unwrap_or("no payload"));
        as_expected &= match (&outcome.result, expected) {
            (Ok((hub, _)), Ok(expected)) => hub == expected,
            (Err((code, _)), Err(expected)) => *code == Some(*expected),
            _ => false,
        };
    }
    println!("\n3 devices in {:.1} s", started.elapsed().as_secs_f32());
    if !as_expected {
        eprintln!("{} this is not what the tutorial says", style("✘").red());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Outcome {
    /// Hub and device ID, or the service's code and the whole story.
    result: Result<(String, String), (Option<ErrorCode>, String)>,
    payload: Option<String>,
}

impl Outcome {
    fn failed(message: impl ToString) -> Self {
        Self { result: Err((None, message.to_string())), payload: None }
    }
}

/// One device's boot. The group key stands in for the factory, which would give the device
/// nothing but its derived key.
fn provision(device: &str, url: &str, started: Instant) -> Outcome {
    try_provision(device, url, started).unwrap_or_else(Outcome::failed)
}

fn try_provision(device: &str, url: &str, started: Instant) -> Result<Outcome, Box<dyn Error>> {
    let registration_id = RegistrationId::new(device)?;
    let (mut group_key, mut key) = (GroupKey::new(), DeviceKey::new());
    group_key.read_base64(GROUP_KEY)?;
    group_key.derive_into(&registration_id, &mut key)?;
    let registration = Registration::new(IdScope::new(ID_SCOPE)?, registration_id).with_payload(PAYLOAD)?;

    let endpoint = Endpoint::parse(url)?;
    let report = |progress| {
        let status = match progress {
            Progress::Connected => style("CONNECTED").cyan(),
            Progress::Registering => style("REGISTERING").cyan(),
            Progress::Assigning => style("ASSIGNING").yellow(),
            Progress::Assigned => style("ASSIGNED").green(),
            Progress::Failed(_) => style("FAILED").red(),
            _ => style("RETRYING").yellow(),
        };
        println!("  {:5.2} s  {device:<34}{status}", started.elapsed().as_secs_f32());
    };
    let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key()).with_endpoint(endpoint);

    let mut connect = |_| Ok(FromStd::new(TcpStream::connect((endpoint.host(), endpoint.port()))?));
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let clock = || started.elapsed();
    let delay = |duration: Duration| thread::sleep(duration);
    let mut buffer = [0; SIZES.http()];
    provisioning.start(clock(), unix_time);
    match blocking::run(&mut provisioning, &mut key, &mut buffer, &mut connect, clock, delay, report) {
        Ok(()) => {
            let assignment = provisioning.result(&buffer)?;
            Ok(Outcome {
                result: Ok((assignment.assigned_hub().to_string(), assignment.device_id().to_string())),
                payload: assignment.payload().map(|payload| payload.raw().to_string()),
            })
        }
        Err(error) => {
            let words = provisioning.details(&buffer).and_then(|details| details.message());
            let words = words.map(|words| format!("\n    the service said  {words}")).unwrap_or_default();
            Ok(Outcome { result: Err((error.kind().code(), format!("{error}{words}"))), payload: None })
        }
    }
}
