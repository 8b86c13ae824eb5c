//! The command line. Options have the same names as in `az iot device registration create`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use azure_dps::{
    DeviceKey, GroupKey, RegistrationId,
    after::Hub,
    identity::{Csr, InvalidIdentifier},
    provisioning::Endpoint,
};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{
    derive::DeriveKey,
    input::Input,
    values::{self, endpoint, id_scope, is_stdin, read_key, read_stdin},
};

const KEY_VARIABLE: &str = "AZURE_DPS_SYMMETRIC_KEY";
const SECONDARY_KEY_VARIABLE: &str = "AZURE_DPS_SECONDARY_KEY";

/// Provisions this machine through the Azure IoT Hub Device Provisioning Service (DPS) and prints its IoT hub.
#[derive(Parser)]
#[command(name = "gateway", version, max_term_width = 80, after_long_help = LONG_HELP)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub provision: Option<Provision>,
    // Not in `Provision`: clap treats an optional group that contains another group as absent.
    #[command(flatten)]
    pub key: Key,
}

const LONG_HELP: &str = "\
The key: give it in the environment variable AZURE_DPS_SYMMETRIC_KEY, in a
file, or on standard input. The command line is the worst place: every user of
this machine can read it in the list of processes, and the shell keeps it in
its history. An enrollment has a secondary key too. The gateway tries it if the
service rejects the first key.

A key may have quotes around it, line breaks in it, or no padding at its end.
It may also be a device's whole connection string
(HostName=…;DeviceId=…;SharedAccessKey=…).

A certificate instead of a key: --certificate-file-path and --key-file-path.
The gateway then ignores keys in the environment.

Files: keys, certificates, the payload and the CSR may come through a pipe, such
as <(command) in a shell. A pipe must end within 60 s. --record and --issued-out
must be regular files. The largest sizes: 4 kB for a key, 64 kB for a private
key or a CSR, 1 MB for a payload or the device's certificates, 4 MB for a CA
file.

The service's certificate: its chain must end at one of this machine's root
certificates, of the file that SSL_CERT_FILE names, or of --ca.

A proxy: HTTPS_PROXY, https_proxy, ALL_PROXY or all_proxy names it, as
http://proxy:3128 or http://user:password@proxy:3128. NO_PROXY lists the hosts
that need no proxy. MQTT does not go through a proxy.

Examples, with the values of Microsoft's tutorial. The emulator runs as
`dps-emulator --http 127.0.0.1:8080 --https 127.0.0.1:8443 --ca-out ca.pem`:
  # The enrollment group's key. The device's key is derived from it
  AZURE_DPS_SYMMETRIC_KEY=… gateway --id-scope 0ne00002193 --compute-key \\
      --registration-id breakroom499-contoso-tstrsd-007 \\
      --host http://127.0.0.1:8080

  # The device's own key, a payload for the webhook, JSON for a script
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 \\
      --key-file device.key --json \\
      --payload '{\"MyDeviceFirmwareVersion\":\"12.0.2.5\"}'

  # The emulator over HTTPS, with the CA that it wrote
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 \\
      --key-file device.key --host https://localhost:8443 --ca ca.pem

  # The same over MQTT. The emulator needs `--mqtts 127.0.0.1:8883` too
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 \\
      --key-file device.key --transport mqtt --host localhost --ca ca.pem

  # A certificate and its private key. An enrollment must name it or its CA
  gateway --scope 0ne00002193 --rid sn-008 --cp device.pem \\
      --kp device-key.pem --host https://localhost:8443 --ca ca.pem

  # A certificate for the hub, issued for a key pair of this machine. The
  # enrollment needs a certificate policy
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \\
      -subj /CN=sn-007 -keyout hub-key.pem -out hub.csr
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key \\
      --csr hub.csr --issued-out hub.pem

  # At each boot: only the first run asks the service. Run the second command
  # when the hub rejects this device
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key \\
      --record /var/lib/gateway/record
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key \\
      --record /var/lib/gateway/record --reprovision

  # Test the hub too. --hub-address leads to the emulator's hubs, which need
  # `--mqtts 127.0.0.1:8883`
  gateway --scope 0ne00002193 --rid breakroom499-contoso-tstrsd-007 \\
      --key-file device.key --host https://localhost:8443 --ca ca.pem \\
      --connect --hub-address localhost:8883

  # Show where this device is assigned, and register nothing
  gateway --scope 0ne00002193 --rid sn-007 --key-file device.key --status

  # In the factory: the key of one device, then the keys of all in a list
  gateway derive-key --registration-id breakroom499-contoso-tstrsd-007 \\
      --key-file group.key
  gateway derive-key --ids-file ids.txt --key-file group.key

Exit codes:
  0  assigned
  1  another failure, such as a result that cannot be written
  2  usage: a flag, ID, file, key, payload or endpoint is not acceptable
  3  refused: the service, its operator or the webhook rejects this device
  4  disabled: the operator has disabled the enrollment
  5  unauthorized: the service rejects the key or certificate, or this
     machine's clock is wrong
  6  busy: the service is throttling or failing, or still assigning at the end
     of the time-out
  7  unreachable: no connection, no trusted certificate, no answer, or the
     proxy rejects the connection
  8  not DPS: another server answered, such as a captive portal
  9  unassigned: --status found no assignment, or none yet
  10 no certificate: assigned and printed, but none was issued for --csr
  11 hub refuses: assigned and printed, but --connect found that the hub
     rejects this device
  12 hub unreachable: assigned and printed, but --connect found no connection,
     no trusted certificate or no twin
The gateway retries 6 and 7 until the time-out, with growing pauses. After a
refusal a pause is 10 to 60 s and up to as much again, or longer if the service
asks for it. Without an answer a pause is 5 to 80 s and up to half as much
again, and the run ends after 8 retries in a row. A run ends at once if the next
pause would be longer than the time left. The gateway does not retry if a
certificate is not trusted, or if a proxy needs a password or rejects the
connection.";

#[derive(Subcommand)]
pub enum Command {
    /// Derive the keys of devices from the key of an enrollment group, and print them
    DeriveKey(DeriveKey),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// HTTPS, port 443
    Http,
    /// MQTT, port 8883
    Mqtt,
}

#[derive(Args)]
pub struct Provision {
    /// The DPS instance's ID scope, such as 0ne00002193
    #[arg(long, visible_alias = "scope", value_name = "SCOPE", value_parser = id_scope)]
    pub id_scope: String,

    /// The name under which this device is enrolled; use lower case
    #[arg(long, visible_alias = "rid", value_name = "ID", value_parser = registration_id)]
    pub registration_id: String,

    /// The key is the enrollment group's: derive this device's key from it. Also for the secondary key
    ///
    /// With a group key a program can be any device of the group. If you can, derive the keys in the factory: see
    /// derive-key.
    #[arg(long, visible_alias = "ck")]
    pub compute_key: bool,

    /// A file with the secondary key, tried if the service rejects the other key; - is standard input [env:
    /// AZURE_DPS_SECONDARY_KEY]
    #[arg(long, value_name = "FILE")]
    secondary_key_file: Option<PathBuf>,

    /// The device's certificate, instead of a key: PEM, followed by the certificates up to its CA; or DER
    #[arg(long, visible_alias = "cp", value_name = "FILE", requires = "key_file_path")]
    #[arg(conflicts_with_all = ["symmetric_key", "key_file", "compute_key", "secondary_key_file"])]
    certificate_file_path: Option<PathBuf>,

    /// The certificate's private key: PEM or DER, not encrypted
    #[arg(long, visible_alias = "kp", value_name = "FILE", requires = "certificate_file_path")]
    key_file_path: Option<PathBuf>,

    /// Ask for a certificate for the hub: a PKCS #10 request (CSR), PEM or DER
    ///
    /// The common name of its subject must be the registration ID. The enrollment must have a certificate policy. With
    /// --json, issuedCertificateChain is what the service sent.
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,

    /// Write the issued certificates here: PEM, the device's own first
    #[arg(long, value_name = "FILE", requires = "csr")]
    pub issued_out: Option<PathBuf>,

    /// Keep the assignment in this file. The next start prints it without asking the service
    ///
    /// The gateway registers again and replaces the record if it is damaged, belongs to another device, or has no
    /// certificate for --csr. A record holds no key. It holds the webhook's payload.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Register although there is a record: use it if the hub rejects this device, or if the payload changed
    ///
    /// If the record has an issued certificate, give --csr again. Otherwise the certificate would be lost.
    #[arg(long, requires = "record")]
    pub reprovision: bool,

    /// Show where the device is assigned, and register nothing; over HTTP only
    #[arg(long, conflicts_with_all = ["payload", "csr", "record"])]
    pub status: bool,

    /// A JSON object for the allocation webhook, or the path of a file with one
    #[arg(long, value_name = "JSON|FILE")]
    payload: Option<String>,

    /// The service: a host, host:port, or a URL. https, or http to this machine only
    #[arg(long, visible_alias = "host", value_name = "HOST|URL", default_value = Endpoint::GLOBAL.host(), value_parser = endpoint)]
    pub provisioning_host: String,

    /// The protocol, over TLS
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub transport: Transport,

    /// The version of the service's API [default: the one that the request needs]
    #[arg(long, value_name = "VERSION", value_parser = api_version)]
    pub api_version: Option<String>,

    /// Trust only these certificates, PEM or DER, and not this machine's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Give up after this time; counts from when key and files have been read
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Then connect to the assigned hub over MQTT and download the twin, as a test
    ///
    /// The gateway uses the key that the service accepted, or the certificate, and --ca. With --json, hubConnection has
    /// the outcome. Not with --csr: the gateway has no private key for an issued certificate.
    #[arg(long, conflicts_with = "csr")]
    pub connect: bool,

    /// Connect to this host instead of the assigned hub, such as the emulator; the default port is 8883
    #[arg(long, value_name = "HOST[:PORT]", requires = "connect", value_parser = hub_address)]
    pub hub_address: Option<(String, u16)>,

    /// Print the hub connection string too. It holds the device's key, so it is a secret
    ///
    /// With a certificate it ends in x509=true and holds no secret.
    #[arg(long)]
    pub connection_string: bool,

    /// Print one JSON object on standard output, also after a failure
    ///
    /// A success has assignedHub, deviceId, registrationId, the service's other fields, `from` (service or record), and
    /// endpoint if the service was asked. A failure has error. No progress is shown. Usage errors (exit code 2) are
    /// plain text.
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct Key {
    /// The symmetric key, base64; - reads it from standard input [env: AZURE_DPS_SYMMETRIC_KEY]
    #[arg(long, visible_alias = "key", value_name = "KEY", value_parser = secret, conflicts_with = "key_file")]
    symmetric_key: Option<Zeroizing<String>>,

    /// A file with the key; - is standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Provision {
    /// Reads the primary and the secondary key into `keys`, and returns how many keys there are. Returns 0 if the
    /// device has a certificate.
    pub fn keys(
        &self,
        key: &Key,
        registration_id: &RegistrationId<'_>,
        [primary, secondary]: &mut [DeviceKey; 2],
    ) -> Result<usize, String> {
        if self.certificate_file_path.is_some() {
            return Ok(0);
        }
        if key.is_on_stdin() && self.secondary_key_file.as_deref().is_some_and(is_stdin) {
            return Err("only one of the two keys can come from standard input".to_owned());
        }
        self.read_key(&key.read()?, registration_id, primary)?;
        let Some(text) = read_key(self.secondary_key_file.as_deref(), SECONDARY_KEY_VARIABLE)? else { return Ok(1) };
        let read = self.read_key(&text, registration_id, secondary);
        read.map(|()| 2).map_err(|error| format!("the secondary key: {error}"))
    }

    /// Reads the key with which this device signs.
    fn read_key(&self, text: &str, registration_id: &RegistrationId<'_>, key: &mut DeviceKey) -> Result<(), String> {
        if !self.compute_key {
            return values::read_device_key(text, key);
        }
        let mut group_key = GroupKey::new();
        values::read_group_key(text, &mut group_key)?;
        group_key.derive_into(registration_id, key).map_err(|error| error.to_string())
    }

    /// Returns the files of the device's certificate and of its private key.
    pub fn certificate(&self) -> Option<(&Path, &Path)> {
        self.certificate_file_path.as_deref().zip(self.key_file_path.as_deref())
    }

    /// Returns the text of the payload. The text is not checked yet.
    pub fn payload(&self) -> Result<Option<String>, String> {
        let Some(payload) = &self.payload else { return Ok(None) };
        values::payload(payload).map(Some)
    }

    /// Returns the certificate request, as DER.
    pub fn csr(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(file) = &self.csr else { return Ok(None) };
        let contents = Input::CSR.read(file)?;
        let der = CertificateSigningRequestDer::from_pem_slice(&contents);
        let der = der.map_or_else(|_| contents.to_vec(), |der| der.to_vec());
        match Csr::from_der(&der) {
            Ok(_) => Ok(Some(der)),
            Err(_) => Err(format!("{} is not a certificate request (PKCS #10, PEM or DER)", file.display())),
        }
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

impl Key {
    pub fn read_group_key(&self, key: &mut GroupKey) -> Result<(), String> {
        values::read_group_key(&self.read()?, key)
    }

    pub fn is_on_stdin(&self) -> bool {
        self.symmetric_key.as_ref().is_some_and(|key| key.as_str() == "-")
            || self.key_file.as_deref().is_some_and(is_stdin)
    }

    fn read(&self) -> Result<Zeroizing<String>, String> {
        match &self.symmetric_key {
            Some(key) if key.as_str() == "-" => read_stdin(),
            Some(key) => Ok(key.clone()),
            None => read_key(self.key_file.as_deref(), KEY_VARIABLE)?.ok_or_else(|| {
                format!(
                    "no key: set {KEY_VARIABLE}, or give --key-file or --symmetric-key, or use --certificate-file-path"
                )
            }),
        }
    }
}

/// Ends the program as clap does after an invalid argument.
pub fn usage_error(message: impl std::fmt::Display) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, message).exit()
}

fn api_version(text: &str) -> Result<String, &'static str> {
    let is_version = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_version.then(|| text.to_owned()).ok_or("a version is a date, such as 2021-06-01 or 2025-07-01-preview")
}

fn hub_address(text: &str) -> Result<(String, u16), String> {
    if text.contains("://") {
        return Err("give a host or host:port, without a scheme".to_owned());
    }
    endpoint(text)?;
    let endpoint = Endpoint::parse(text).map_err(|error| error.to_string())?;
    // An endpoint without a port has the HTTPS port.
    let port = if endpoint.port() == Endpoint::GLOBAL.port() { Hub::MQTT_PORT } else { endpoint.port() };
    Ok((endpoint.host().to_owned(), port))
}

pub fn registration_id(text: &str) -> Result<String, InvalidIdentifier> {
    RegistrationId::new(text).map(|_| text.to_owned())
}

// The key is checked later. If this function failed, clap would print the key.
fn secret(text: &str) -> Result<Zeroizing<String>, std::convert::Infallible> {
    Ok(Zeroizing::new(text.to_owned()))
}
