//! The command line.

use std::{num::NonZeroU32, path::PathBuf, str::FromStr};

use azure_dps_emulator::{gateway_name, listening_address};
use clap::{Args, Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  Start Microsoft's tutorial on a free port of 127.0.0.1:
      dps-emulator
  Use fixed ports for HTTP and HTTPS, and write the CA certificate:
      dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 \\
          --ca-out ca.pem
  Serve MQTT: plain, over TLS, and over WebSocket on the HTTPS port:
      dps-emulator --mqtt 127.0.0.1:1883 --mqtts 127.0.0.1:8883 \\
          --https 127.0.0.1:8443 --ca-out ca.pem
  Print lines for /etc/hosts, so that devices find the hubs:
      dps-emulator --config my-dps.toml --hosts
  Serve devices that dial gateway.local:
      dps-emulator --mqtts 0.0.0.0:8883 --gateway-name gateway.local \\
          --ca-out ca.pem
  Use your own enrollments and your own webhook:
      dps-emulator --config my-dps.toml \\
          --webhook http://127.0.0.1:7071/api/HttpTrigger1
  Serve the web page and the control API on a fixed port:
      dps-emulator --http 127.0.0.1:8080 --control 127.0.0.1:8085
  Print what devices and the webhook send:
      dps-emulator --verbose
  Keep all data over restarts. The CA certificate is dps-data/ca.pem:
      dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 \\
          --data dps-data
  Check a configuration:
      dps-emulator --config my-dps.toml --check
  Apply the quotas of the real service. The answer beyond a quota is 429:
      dps-emulator --registrations-per-minute 1000 \\
          --operations-per-minute 1000 --device-polls-per-10s 5

Without --config, the emulator has the set-up of Microsoft's tutorial
\"Use custom allocation policies\":
  ID scope    0ne00002193
  Enrollment  group contoso-custom-allocated-devices, with the tutorial's key
  Hubs        contoso-toasters-hub-1098, contoso-heatpumps-hub-1098
  Webhook     the tutorial's function, called the Contoso webhook

Exit codes:
  0  stopped by Ctrl-C or SIGTERM; --check: the configuration can be used
  1  the emulator could not start, for example because a port is in use;
     --check-health: the other emulator is not ready
  2  the command line is wrong
  3  the configuration cannot be read or used";

/// A local Azure IoT Hub Device Provisioning Service.
#[derive(Parser)]
#[command(name = "dps-emulator", version, after_help = EXAMPLES, max_term_width = 80)]
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
    /// Listen for plain HTTP. Port 0 takes a free port [default: 127.0.0.1:0 without other listeners]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) http: Option<String>,
    /// Listen for HTTPS and MQTT over WebSocket, with TLS 1.2
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) https: Option<String>,
    /// Listen for plain MQTT 3.1.1
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) mqtt: Option<String>,
    /// Listen for MQTT 3.1.1 over TLS 1.2
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) mqtts: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Control API and page")]
pub(crate) struct Control {
    /// Serve the control API and the web page. `none` turns both off
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = control_address)]
    #[arg(overrides_with = "control")]
    pub(crate) control: String,
    /// Accept this name in the Host header, with any port or as NAME:PORT. May be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) control_host: Vec<String>,
    /// Require the token in this file, or in DPS_EMULATOR_CONTROL_TOKEN. Without a token, the address must be
    /// loopback
    #[arg(long, value_name = "FILE")]
    pub(crate) control_token_file: Option<PathBuf>,
    /// Ask the running emulator with this control API whether it is ready, and exit with 0 or 1
    #[arg(long, value_name = "ADDR:PORT", value_parser = listening_address)]
    pub(crate) check_health: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Certificates")]
pub(crate) struct Certificates {
    /// Write the CA certificate to this file. Without --data, the CA is new at each start
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_out: Option<PathBuf>,
    /// Write the certificates of the CA that issues device certificates: the intermediate, then the root
    #[arg(long, value_name = "FILE")]
    pub(crate) issuing_ca_out: Option<PathBuf>,
    /// Present this certificate (PEM, followed by its chain) to TLS clients
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "ca_out")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The private key of --tls-certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = "Names of hubs")]
pub(crate) struct Names {
    /// Add this name to the TLS certificate, for devices that dial a gateway host name or are on another machine. May be
    /// repeated
    #[arg(long, value_name = "NAME", value_parser = gateway_name)]
    pub(crate) gateway_name: Vec<String>,
    /// Print lines for a hosts file and exit: one for each linked hub and gateway name
    #[arg(long, conflicts_with = "check")]
    pub(crate) hosts: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct Configuration {
    /// Read enrollments, hubs and behavior from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Call this webhook. Put a URL with a function key (?code=…) into the environment
    #[arg(long, value_name = "URL", env = "DPS_EMULATOR_WEBHOOK", hide_env_values = true)]
    pub(crate) webhook: Option<String>,
    /// Keep enrollments, devices and CAs in this folder over restarts
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Check the file and the options, print all findings, and exit
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Service API, on the HTTP and HTTPS listeners")]
pub(crate) struct ServiceApi {
    /// Read the key of provisioningserviceowner from this file; `-` is standard input. Without this option, the key is in
    /// DPS_EMULATOR_SERVICE_KEY [default: a public key, if all listeners are on loopback]
    #[arg(long, value_name = "FILE")]
    pub(crate) service_key_file: Option<PathBuf>,
    /// Let the service API set webhooks on this host too, not only on loopback. May be repeated
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_webhook: Vec<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Behavior (takes precedence over the configuration)")]
pub(crate) struct Behaviour {
    /// Seconds in Retry-After, or `none` [default: 3]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) retry_after: Option<OrNone>,
    /// Registrations a minute before the answer is 429, or `none`. The real service allows 1000
    #[arg(long, value_name = "N")]
    pub(crate) registrations_per_minute: Option<OrNone>,
    /// Polls and look-ups a minute before the answer is 429, or `none`. The real service allows 1000
    #[arg(long, value_name = "N")]
    pub(crate) operations_per_minute: Option<OrNone>,
    /// Polls of one device in 10 s before the answer is 429, or `none`. The real service allows 5
    #[arg(long = "device-polls-per-10s", value_name = "N")]
    pub(crate) device_polls_per_10s: Option<OrNone>,
    /// Divide these delays by this factor: pauses between webhook calls, quota windows, delays of scripts,
    /// other_key_blocked_for and hub_session_after_expiry. The webhook time-out is divided too, but not below 10 s.
    /// Retry-After does not change
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = time_scale)]
    pub(crate) time_scale: f64,
    /// Handle every N-th request, then close the connection without an answer
    #[arg(long, value_name = "N")]
    pub(crate) drop_every: Option<NonZeroU32>,
    /// Answer every N-th call of the built-in webhook with 429
    #[arg(long, value_name = "N", conflicts_with = "webhook")]
    pub(crate) throttle_webhook_every: Option<NonZeroU32>,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the bodies of requests, answers and webhook calls, too. --json always has them
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Print the log of the built-in webhook, too
    #[arg(long)]
    pub(crate) function_log: bool,
    /// Use color: `auto`, `always` or `never`. `auto` uses color on a terminal, unless NO_COLOR is set
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
