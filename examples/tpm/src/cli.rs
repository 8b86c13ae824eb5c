//! The command line.

use std::path::PathBuf;

use azure_dps::{IdScope, RegistrationId, identity::InvalidIdentifier, provisioning::Endpoint};
use clap::Parser;
use tss_esapi::tcti_ldr::TctiNameConf;

/// Provisions this machine with its TPM through the Azure IoT Hub Device Provisioning Service
/// (DPS), and prints its IoT hub.
#[derive(Parser)]
#[command(name = "azure-dps-tpm", after_long_help = LONG_HELP)]
pub struct Cli {
    /// The TPM: device:PATH, tabrmd, or a simulator such as swtpm:host=127.0.0.1,port=2321
    #[arg(long, env = "TPM2TOOLS_TCTI", default_value = "device:/dev/tpmrm0")]
    pub tcti: TctiNameConf,

    /// Only print what the operator needs to enroll this machine
    #[arg(long)]
    pub print_enrollment: bool,

    /// The DPS instance's ID scope, such as 0ne00002193
    #[arg(long, value_name = "SCOPE", value_parser = id_scope, required_unless_present = "print_enrollment")]
    pub id_scope: Option<String>,

    /// The registration ID of the enrollment [default: derived from the endorsement key]
    #[arg(long, value_name = "ID", value_parser = registration_id)]
    pub registration_id: Option<String>,

    /// The service: a host, host:port, or a URL
    #[arg(long, value_name = "HOST|URL", default_value = Endpoint::GLOBAL.host(), value_parser = endpoint)]
    pub endpoint: String,

    /// Trust these PEM certificates instead of this machine's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// A JSON object for the allocation webhook
    #[arg(long, value_name = "JSON")]
    pub payload: Option<String>,
}

const LONG_HELP: &str = "\
The TPM keeps its endorsement key at 0x81010001 and its storage root key at 0x81000001. The program
creates them if there are none. It stores the key for the hub at 0x81000100, and replaces an older
one.

Exit codes:
  0  assigned, and the TPM has the key for the hub
  1  any other error
  2  usage: an option, the payload or the CA file is invalid
  3  refused: the service, its operator or the allocation webhook rejects the device
  4  disabled: the operator has disabled the enrollment
  5  unauthorized: the service rejects the TPM's signature, or this machine's clock is wrong
  6  busy: the service is throttling or failing, or was assigning for too long
  7  unreachable: no connection, no trusted certificate, or no answer
  8  not DPS: the server is not the service
  9  TPM: there is no TPM, or it rejected a command";

fn id_scope(text: &str) -> Result<String, InvalidIdentifier> {
    IdScope::new(text).map(|_| text.to_owned())
}

fn registration_id(text: &str) -> Result<String, InvalidIdentifier> {
    RegistrationId::new(text).map(|_| text.to_owned())
}

fn endpoint(text: &str) -> Result<String, String> {
    match Endpoint::parse(text) {
        Ok(endpoint) if endpoint.is_https() => Ok(text.to_owned()),
        Ok(_) => Err("the endpoint must be https".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
