//! The command line.

use std::{num::NonZeroU32, path::PathBuf, str::FromStr};

use azure_dps_emulator::{gateway_name, listening_address};
use clap::{Args, Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  The tutorial's set-up on a free port of 127.0.0.1:
      dps-emulator
  On fixed ports, HTTPS too; the CA's certificate is written to ca.pem:
      dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 \\
          --ca-out ca.pem
  MQTT, plain and over TLS, and over WebSocket on the HTTPS port:
      dps-emulator --mqtt 127.0.0.1:1883 --mqtts 127.0.0.1:8883 \\
          --https 127.0.0.1:8443 --ca-out ca.pem
  Print what to add to /etc/hosts, so that devices find the hubs here:
      dps-emulator --config my-dps.toml --hosts
  Devices on another machine, or with a gateway host name, dial gateway.local:
      dps-emulator --mqtts 0.0.0.0:8883 --gateway-name gateway.local \\
          --ca-out ca.pem
  Your own enrollments, and your own function:
      dps-emulator --config my-dps.toml \\
          --webhook http://127.0.0.1:7071/api/HttpTrigger1
  The page and the control API on a fixed port. The connection string for
  Microsoft's tools is printed, too:
      dps-emulator --http 127.0.0.1:8080 --control 127.0.0.1:8085
  See in the terminal what devices and the webhook send:
      dps-emulator --verbose
  Keep everything over restarts; the CA's certificate is in dps-data/ca.pem:
      dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 \\
          --data dps-data
  Only check a configuration:
      dps-emulator --config my-dps.toml --check
  The quotas of the real service, answered with 429 when they are used up:
      dps-emulator --registrations-per-minute 1000 \\
          --operations-per-minute 1000 --device-polls-per-10s 5

Without --config it is the set-up of Microsoft's tutorial \"Use custom
allocation policies\":
  ID scope 0ne00002193, enrollment group contoso-custom-allocated-devices
  with the tutorial's key, the hubs contoso-toasters-hub-1098 and
  contoso-heatpumps-hub-1098, and the Contoso webhook.

Exit codes:
  0  stopped by Ctrl-C or SIGTERM; --check: the configuration can be used
  1  it could not start: an address is taken, a file cannot be read, …;
     --check-health: the other emulator is not ready
  2  the command line is wrong
  3  the configuration cannot be read or used";

/// A local Azure IoT Hub Device Provisioning Service.
#[derive(Parser)]
#[command(name = "dps-emulator", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) listeners: Listeners,
    #[command(flatten)]
    pub(crate) control: Control,
    #[command(flatten)]
    pub(crate) certificates: Certificates,
    #[command(flatten)]
    pub(crate) names: Names,
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) service_api: ServiceApi,
    #[command(flatten)]
    pub(crate) behaviour: Behaviour,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
#[command(next_help_heading = "Listeners for devices")]
pub(crate) struct Listeners {
    /// Listen for plain HTTP; port 0 takes a free one [default: 127.0.0.1:0 without other listeners]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) http: Option<String>,
    /// Listen for HTTPS and for MQTT over WebSocket (TLS 1.2); port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) https: Option<String>,
    /// Listen for plain MQTT 3.1.1; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) mqtt: Option<String>,
    /// Listen for MQTT 3.1.1 over TLS 1.2; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) mqtts: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Control API and page")]
pub(crate) struct Control {
    /// Listen for the control API and serve its page; port 0 takes a free one, `none` turns it off
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = control_address)]
    #[arg(overrides_with = "control")]
    pub(crate) control: String,
    /// Accept this name in Host, with any port or as NAME:PORT; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) control_host: Vec<String>,
    /// Demand the token in this file, or the one in DPS_EMULATOR_CONTROL_TOKEN; without a token the address must be
    /// loopback
    #[arg(long, value_name = "FILE")]
    pub(crate) control_token_file: Option<PathBuf>,
    /// Ask the emulator whose control API has this address whether it is ready: the exit code is 0 or 1. Nothing is
    /// started
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) check_health: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Certificates")]
pub(crate) struct Certificates {
    /// Write the certificate of the CA here; it is new at each start, unless there is --data
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_out: Option<PathBuf>,
    /// Write the certificates of the CA that issues certificates to devices here: it, then its root
    #[arg(long, value_name = "FILE")]
    pub(crate) issuing_ca_out: Option<PathBuf>,
    /// Present this certificate to TLS clients, PEM, followed by its chain
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "ca_out")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The key of --tls-certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = "Names of hubs")]
pub(crate) struct Names {
    /// Add this name to the certificate: devices dial it if it is their gateway host name, or if they are on another
    /// machine. Linked hubs, localhost and hub.localhost are always in the certificate; may be repeated
    #[arg(long, value_name = "NAME", value_parser = gateway_name)]
    pub(crate) gateway_name: Vec<String>,
    /// Print lines for a hosts file, one for each linked hub and gateway name. Nothing is started
    #[arg(long, conflicts_with = "check")]
    pub(crate) hosts: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct Configuration {
    /// Read enrollments, hubs and behaviour from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Call this custom allocation webhook; a function key (?code=…) is better in the environment
    #[arg(long, value_name = "URL", env = "DPS_EMULATOR_WEBHOOK", hide_env_values = true)]
    pub(crate) webhook: Option<String>,
    /// Keep enrollments, devices and CAs in this folder, so that they are there again at the next start
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Check the configuration, file and flags, and tell all that is wrong. Nothing is started
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Service API (enrollments and registrations, on the HTTP and HTTPS listeners)")]
pub(crate) struct ServiceApi {
    /// Read the key of provisioningserviceowner from this file, or from standard input if it is `-`; it goes before the
    /// environment's DPS_EMULATOR_SERVICE_KEY [default: a well-known key, while every listener is on loopback]
    #[arg(long, value_name = "FILE")]
    pub(crate) service_key_file: Option<PathBuf>,
    /// Let the service API set webhooks on this host, beside loopback; may be repeated
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_webhook: Vec<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Behaviour (goes before the configuration's)")]
pub(crate) struct Behaviour {
    /// Seconds in Retry-After, or `none`; 3 unless the configuration has another
    #[arg(long, value_name = "SECONDS")]
    pub(crate) retry_after: Option<OrNone>,
    /// Answer 429 to more registrations in a minute than this, or `none`; the service has 1000
    #[arg(long, value_name = "N")]
    pub(crate) registrations_per_minute: Option<OrNone>,
    /// Answer 429 to more polls and look-ups in a minute than this, or `none`; the service has 1000
    #[arg(long, value_name = "N")]
    pub(crate) operations_per_minute: Option<OrNone>,
    /// Answer 429 to more polls of one device in 10 s than this, or `none`; the service has 5
    #[arg(long = "device-polls-per-10s", value_name = "N")]
    pub(crate) device_polls_per_10s: Option<OrNone>,
    /// Divide the service's own delays by this factor: webhook retries, quota windows
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = time_scale)]
    pub(crate) time_scale: f64,
    /// Lose the answer of every N-th request: it is done, then the connection is closed
    #[arg(long, value_name = "N")]
    pub(crate) drop_every: Option<NonZeroU32>,
    /// Have the Contoso webhook inside answer every N-th call with 429
    #[arg(long, value_name = "N", conflicts_with = "webhook")]
    pub(crate) throttle_webhook_every: Option<NonZeroU32>,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the bodies of requests, answers and webhook calls, too; --json has them always
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Print what the Contoso webhook logs too
    #[arg(long)]
    pub(crate) function_log: bool,
    /// Use colour: `auto`, `always` or `never`; `auto` is on a terminal, unless NO_COLOR is set. Never with --json
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, hide_possible_values = true)]
    pub(crate) color: When,
}

/// `auto`, `always` or `never`.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

fn control_address(text: &str) -> Result<String, String> {
    if text == "none" { Ok(text.to_owned()) } else { listening_address(text) }
}

fn time_scale(text: &str) -> Result<f64, &'static str> {
    let scale = text.parse().ok().filter(|scale: &f64| scale.is_finite() && *scale > 0.0);
    scale.ok_or("the time scale is not a number above zero")
}

/// A number, or `none`.
#[derive(Clone, Copy)]
pub(crate) struct OrNone(pub(crate) Option<u32>);

impl FromStr for OrNone {
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
