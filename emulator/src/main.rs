//! `dps-emulator`: the emulator as a program.

#![forbid(unsafe_code)]

use std::{fmt, fs, num::NonZeroU32, path::PathBuf, process::ExitCode};

use azure_dps_emulator::{
    Config, Emulator, Event, StartError,
    console::{self, Console, Printer, Signals, printable},
};
use clap::{Parser, error::ErrorKind};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  The tutorial's set-up on a free port of 127.0.0.1:
      dps-emulator
  On fixed ports, HTTPS too; the CA's certificate is written to ca.pem:
      dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 --ca-out ca.pem
  MQTT, plain and over TLS, and over WebSocket on the HTTPS port:
      dps-emulator --mqtt 127.0.0.1:1883 --mqtts 127.0.0.1:8883 --https 127.0.0.1:8443 --ca-out ca.pem
  Your own enrollments, and your own function:
      dps-emulator --config my-dps.toml --webhook http://127.0.0.1:7071/api/HttpTrigger1
  The quotas of the real service, answered with 429 when they are used up:
      dps-emulator --registrations-per-minute 1000 --operations-per-minute 1000 --device-polls-per-10s 5

Without --config it is the set-up of Microsoft's tutorial \"Use custom allocation policies\":
  ID scope 0ne00002193, enrollment group contoso-custom-allocated-devices with the tutorial's key,
  the hubs contoso-toasters-hub-1098 and contoso-heatpumps-hub-1098, and the Contoso webhook.

Exit codes:
  0  stopped by Ctrl-C or SIGTERM
  1  it could not start: an address is taken, a file cannot be read or written, …
  2  the command line is wrong
  3  the configuration cannot be read or used";

/// A local Azure IoT Hub Device Provisioning Service.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Listen for plain HTTP; port 0 takes a free one [default: 127.0.0.1:0 without other listeners]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Listen for HTTPS and for MQTT over WebSocket (TLS 1.2); port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    https: Option<String>,
    /// Listen for plain MQTT 3.1.1; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    mqtt: Option<String>,
    /// Listen for MQTT 3.1.1 over TLS 1.2; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    mqtts: Option<String>,
    /// Write the certificate of the CA made at start here
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Write the certificates of the CA that issues certificates to devices here: it, then its root
    #[arg(long, value_name = "FILE")]
    issuing_ca_out: Option<PathBuf>,
    /// Present this certificate to TLS clients, PEM, followed by its chain
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "ca_out")]
    tls_certificate: Option<PathBuf>,
    /// The key of --tls-certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Read enrollments, hubs and behaviour from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Call this custom allocation webhook; a function key (?code=…) is better in the environment
    #[arg(long, value_name = "URL", env = "DPS_EMULATOR_WEBHOOK", hide_env_values = true)]
    webhook: Option<String>,
    /// Seconds in Retry-After, or `none`; 3 unless the configuration has another
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<OrNone>,
    /// Answer 429 to more registrations in a minute than this, or `none`; the service has 1000
    #[arg(long, value_name = "N")]
    registrations_per_minute: Option<OrNone>,
    /// Answer 429 to more polls and look-ups in a minute than this, or `none`; the service has 1000
    #[arg(long, value_name = "N")]
    operations_per_minute: Option<OrNone>,
    /// Answer 429 to more polls of one device in 10 s than this, or `none`; the service has 5
    #[arg(long = "device-polls-per-10s", value_name = "N")]
    device_polls_per_10s: Option<OrNone>,
    /// Divide the service's own delays by this factor: webhook retries, quota windows
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    time_scale: f64,
    /// Lose the answer of every N-th request: it is done, then the connection is closed
    #[arg(long, value_name = "N")]
    drop_every: Option<NonZeroU32>,
    /// Have the Contoso webhook inside answer every N-th call with 429
    #[arg(long, value_name = "N", conflicts_with = "webhook")]
    throttle_webhook_every: Option<NonZeroU32>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Print what the Contoso webhook logs too
    #[arg(long)]
    function_log: bool,
}

#[derive(Clone, Copy)]
struct OrNone(Option<u32>);

impl std::str::FromStr for OrNone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            number => {
                number.parse().map(|number| Self(Some(number))).map_err(|_| "neither a number nor `none`".to_owned())
            }
        }
    }
}

/// Why it ended, and the exit code for it.
struct Failure(u8, String);

impl Failure {
    fn start(error: impl fmt::Display) -> Self {
        Self(1, error.to_string())
    }

    fn config(error: impl fmt::Display) -> Self {
        Self(3, error.to_string())
    }
}

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
        Err(Failure(code, why)) => {
            eprintln!("dps-emulator: {why}");
            ExitCode::from(code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut config = match &arguments.config {
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|error| Failure::config(format!("{}: {error}", path.display())))?;
            Config::from_toml(&text).map_err(|error| Failure::config(format!("{}: {error}", path.display())))?
        }
        None => Config::contoso(),
    };
    if arguments.webhook.is_some() {
        config.webhook_url.clone_from(&arguments.webhook);
    }
    let behaviour = &mut config.behaviour;
    for (argument, setting) in [
        (arguments.retry_after, &mut behaviour.retry_after),
        (arguments.registrations_per_minute, &mut behaviour.registrations_per_minute),
        (arguments.operations_per_minute, &mut behaviour.operations_per_minute),
        (arguments.device_polls_per_10s, &mut behaviour.device_polls_per_10s),
    ] {
        if let Some(OrNone(number)) = argument {
            *setting = number;
        }
    }
    if arguments.drop_every.is_some() {
        config.behaviour.drop_every = arguments.drop_every;
    }
    if arguments.throttle_webhook_every.is_some() {
        config.contoso.throttle_every = arguments.throttle_webhook_every;
    }
    let about = format!(
        "ID scope {}, {} enrollment group(s), {} individual enrollment(s), {} linked hub(s)",
        config.id_scope,
        config.enrollment_groups.len(),
        config.individual_enrollments.len(),
        config.linked_hubs.len()
    );

    let warnings = config.warnings();

    console::allow_many_connections();
    // Caught before anybody is told that there is something to stop.
    let signals = Signals::catch().map_err(Failure::start)?;
    let console = Console::start().map_err(Failure::start)?;
    let emulator = start(arguments, config, &console)?;
    for (path, pem) in [(&arguments.ca_out, emulator.ca_pem()), (&arguments.issuing_ca_out, emulator.issuing_ca_pem())]
    {
        if let Some(path) = path {
            fs::write(path, pem).map_err(|error| Failure::start(format!("{}: {error}", path.display())))?;
        }
    }
    let printer = console.printer();
    announce(&printer, arguments, &emulator, &about);
    for warning in warnings {
        printer.line(if arguments.json {
            json!({ "warning": warning }).to_string()
        } else {
            format!("warning: {warning}")
        });
    }
    drop(printer);
    signals.wait();
    emulator.stop();
    console.finish();
    Ok(())
}

fn start(arguments: &Arguments, config: Config, console: &Console) -> Result<Emulator, Failure> {
    let json = arguments.json;
    let printer = console.printer();
    let mut builder = Emulator::builder(config).time_scale(arguments.time_scale).observer(move |event: &Event| {
        printer.line(if json { console::json_line(&json!(event)) } else { event.to_string() });
    });
    if arguments.function_log {
        let printer = console.printer();
        builder = builder.contoso_log(move |line| {
            printer.line(if json {
                console::json_line(&json!({ "function": line }))
            } else {
                format!("                        func  {}", printable(line))
            });
        });
    }
    if let Some(address) = &arguments.http {
        builder = builder.http(address);
    }
    if let Some(address) = &arguments.https {
        builder = builder.https(address);
    }
    if let Some(address) = &arguments.mqtt {
        builder = builder.mqtt(address);
    }
    if let Some(address) = &arguments.mqtts {
        builder = builder.mqtts(address);
    }
    if let (Some(certificate), Some(key)) = (&arguments.tls_certificate, &arguments.tls_key) {
        let read =
            |path: &PathBuf| fs::read(path).map_err(|error| Failure::start(format!("{}: {error}", path.display())));
        builder = builder.certificate(read(certificate)?, read(key)?);
    }
    builder.start().map_err(|error| match error {
        StartError::Config(_) => Failure::config(error),
        StartError::TimeScale => Failure(2, error.to_string()),
        _ => Failure::start(error),
    })
}

/// One line for each listener; for people, what it serves as well.
fn announce(printer: &Printer, arguments: &Arguments, emulator: &Emulator, about: &str) {
    let wss_url = emulator.wss_url();
    let listeners = [
        ("http", emulator.http_url()),
        ("https", emulator.https_url()),
        ("mqtt", emulator.mqtt_url()),
        ("mqtts", emulator.mqtts_url()),
        ("wss", wss_url.as_deref()),
    ];
    for (listener, url) in listeners {
        let Some(url) = url else { continue };
        printer.line(if arguments.json {
            json!({ "listener": listener, "url": url }).to_string()
        } else {
            format!("listening on {url}")
        });
    }
    if !arguments.json {
        printer.line(about);
        if let Some(webhook) = emulator.contoso() {
            printer.line(format!("Contoso webhook at {}", webhook.url()));
        }
    }
}
