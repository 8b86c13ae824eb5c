//! The command line: flags named as in the example `gateway`.

use std::{path::PathBuf, rc::Rc, time::Duration};

use azure_dps::{Endpoint, GroupKey, RegistrationId};
use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};

use crate::values::{self, endpoint, id_scope};

const KEY_VARIABLE: &str = "AZURE_DPS_SYMMETRIC_KEY";

/// "Device registrations: 1000/min/service", the published quota.
const REGISTRATIONS_PER_MINUTE: u32 = 1000;

/// Provisions many simulated devices of an enrollment group through the Azure IoT Hub Device
/// Provisioning Service (DPS) at the same time, and says what became of them.
///
/// Each device has a key of its own, a connection of its own, and waits as the service asks it to.
#[derive(Parser)]
#[command(name = "fleet", version, after_long_help = LONG_HELP, arg_required_else_help = true)]
pub struct Cli {
    /// The DPS instance's ID scope, such as 0ne00002193
    #[arg(long, visible_alias = "scope", value_name = "SCOPE", value_parser = id_scope)]
    pub id_scope: String,

    /// The names of the devices: {} is a number, counted from --first
    #[arg(long, visible_alias = "rid", value_name = "PATTERN", default_value = "fleet-{}", value_parser = pattern)]
    pub registration_id: String,

    /// How many devices there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub devices: u32,

    /// The number of the first device
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u32,

    /// How many devices are provisioned at a time [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,

    /// How many devices begin in a minute [default: 1000, the service's quota; to this machine: all at once]
    ///
    /// They are spread evenly. What is refused with 429 all the same, because somebody else uses the
    /// service too, is repeated when the service says so.
    #[arg(long, value_name = "PER_MINUTE", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// A file with nothing but the group's key; - is standard input [env: AZURE_DPS_SYMMETRIC_KEY]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// A JSON object for the allocation webhook, or the path of a file with one
    #[arg(long, value_name = "JSON|FILE")]
    payload: Option<String>,

    /// The service: a host, host:port, or a URL; https, or http to this machine only
    #[arg(long, visible_alias = "host", value_name = "HOST|URL", default_value = Endpoint::GLOBAL.host(), value_parser = endpoint)]
    pub provisioning_host: String,

    /// What is spoken with the service
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub transport: Transport,

    /// Trust these PEM certificates, and none of this machine's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// A device gives up after so long
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Afterwards look up each device that was assigned: does the service say the same? Over HTTP only
    ///
    /// The look-up registers nothing and is not billed, but counts against the quota of operations.
    #[arg(long)]
    pub verify: bool,

    /// Let the devices' waits pass so many times faster; to this machine only
    #[arg(long, value_name = "FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub time_scale: u32,

    /// Print one JSON object on standard output, and show no progress
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

const LONG_HELP: &str = "\
The key is the enrollment group's: from it each device's own is derived. Give it in the
environment variable AZURE_DPS_SYMMETRIC_KEY, in a file, or on standard input, never on the
command line, which every user of this machine can read.

The default --rate keeps within the quota of registrations (1000 a minute and DPS instance), the
library within that of polls (5 in 10 s and device): it polls when the service says so, or else
every 3 s. Register calls are billed, also those of simulated devices; those that --verify makes
are not. The devices stay enrolled at their hubs until somebody deletes them there.

Examples, against the emulator as started by
`dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 --ca-out ca.pem`:
  # 2000 toasters of the tutorial at once, over TLS, and what the service then says of each
  AZURE_DPS_SYMMETRIC_KEY=… fleet --id-scope 0ne00002193 --devices 2000 --verify \\
      --registration-id 'fleet-{}-contoso-tstrsd-007' --host https://localhost:8443 --ca ca.pem

  # The same for a script, without TLS, 50 at a time
  fleet --scope 0ne00002193 --rid 'fleet-{}-contoso-tstrsd-007' --devices 2000 --concurrency 50 \\
      --key-file group.key --host http://127.0.0.1:8080 --json

  # A real DPS: 1000 a minute
  fleet --scope 0ne00ABCDEF --rid 'load-{}' --devices 500 --key-file group.key --verify

JSON: devices, assigned, failed, unfinished, interrupted; seconds, devicesPerSecond;
latencySeconds (p50, p90, p99, max: of the assigned ones, each from its own beginning); hubs,
errors and retries (each a name and how often); connections; sharedIdentities (devices that were
given the hub and device ID of another one); verification, null without --verify: same,
different (the service names another hub or device ID), failed (a name and how often).

Exit codes:
  0    every device is assigned, and what --verify found agrees
  1    anything that is not below
  2    usage: a flag, an ID, a file, the key, the payload or the endpoint is not acceptable
  3    some device is not assigned
  4    every device is assigned, but --verify found otherwise, or two devices share an identity
  130  interrupted by Ctrl-C: what is printed is what had happened by then";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// HTTPS, port 443; or HTTP to this machine
    Http,
    /// MQTT over TLS, port 8883; or without TLS to this machine, where --host is an http URL
    Mqtt,
}

impl Cli {
    pub fn registration_ids(&self) -> Vec<Rc<str>> {
        let numbers = (u64::from(self.first)..).take(self.devices as usize);
        numbers.map(|number| self.registration_id.replace("{}", &number.to_string()).into()).collect()
    }

    pub fn concurrency(&self) -> usize {
        self.concurrency.unwrap_or(self.devices) as usize
    }

    /// How many may begin in a minute; `None` for as many as there are.
    pub fn rate(&self) -> Option<u32> {
        self.rate.or((!self.is_local()).then_some(REGISTRATIONS_PER_MINUTE))
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Whether the service is an emulator on this machine.
    pub fn is_local(&self) -> bool {
        let host = Endpoint::parse(&self.provisioning_host).map_or("", |endpoint| endpoint.host());
        let host = host.trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The text of the payload, which nobody has checked yet.
    pub fn payload(&self) -> Result<Option<String>, String> {
        let Some(payload) = &self.payload else { return Ok(None) };
        values::payload(payload).map(Some)
    }

    pub fn group_key(&self) -> Result<GroupKey, String> {
        let key = values::read_key(self.key_file.as_deref(), KEY_VARIABLE)?;
        let key = key.ok_or_else(|| format!("no key: set {KEY_VARIABLE}, or give --key-file"))?;
        GroupKey::from_base64(key.trim()).map_err(|error| error.to_string())
    }
}

/// Ends the program as clap does when it is given something unusable.
pub fn usage_error(message: impl std::fmt::Display) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, message).exit()
}

/// What it is like with the longest number.
fn pattern(text: &str) -> Result<String, String> {
    if text.matches("{}").count() != 1 {
        return Err("the pattern must have {} once, which is the number".to_owned());
    }
    let longest = text.replace("{}", &(u64::from(u32::MAX) + 100_000).to_string());
    RegistrationId::new(&longest).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
