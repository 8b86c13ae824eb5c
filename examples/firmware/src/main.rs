//! A Cortex-M3 that asks DPS over TLS 1.2 where it belongs.
//!
//! ```text
//! provision.rs   what a product copies: the way from a key to a hub
//! tls.rs         TLS by mbedTLS: the certificate's chain, name and dates are checked
//! key.rs         with the feature `mbedtls-hmac`: the key, with which mbedTLS signs
//! store.rs       the record in flash, by which a later boot knows its hub
//! net.rs         a blocking TCP stream over smoltcp, with DHCP and DNS
//! ../board/      QEMU's mps2-an385: memory, Ethernet, clocks, randomness, console, inputs, flash.
//!                Another board is another crate.
//! ```
//!
//! `run.sh` builds it and runs it against the emulator. By hand, and against the real service:
//!
//! ```text
//! qemu-system-arm -M mps2-an385 -nic user,model=lan9118 -display none -kernel FIRMWARE -semihosting-config \
//!     enable=on,target=native,arg=firmware,arg=id-scope=…,arg=registration-id=…,arg=key-file=…,arg=ca=…
//! ```
//!
//! The inputs are words of a command line, so that one image serves every device. The key and
//! the roots are in files: the list of the host's processes is no place for a secret. A product
//! has all that in flash, from its factory.
#![no_std]
#![no_main]

#[cfg(feature = "mbedtls-hmac")]
mod key;
mod net;
mod provision;
mod store;
mod tls;

use core::{fmt, time::Duration};

#[cfg(not(feature = "mbedtls-hmac"))]
use azure_dps::DeviceKey;
use azure_dps::{error::Fault, provisioning::Endpoint};
use cortex_m_rt::entry;
#[cfg(feature = "mbedtls-hmac")]
use key::DeviceKey;
use mps2_an385::{self as board, Flash, Inputs, USAGE, memory, println};
use provision::{Request, SIZES};
use store::Store;
use zeroize::Zeroizing;

#[entry]
fn main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(failure) => {
            let (code, who) = failure.fault();
            println!("failed: {}", failure);
            println!("at fault: {}", who);
            code
        }
    };
    println!("peak: {}", memory::Peak::now());
    board::exit(code)
}

fn run() -> Result<(), Failure> {
    let ethernet = board::start().ok_or(Failure::Board)?;

    let mut line = [0; 1024];
    let inputs = Inputs::read(&mut line)?;
    if let Some(time) = inputs.number("time")? {
        board::set_unix_time(time);
    }
    let request = Request {
        id_scope: inputs.text("id-scope")?,
        registration_id: inputs.text("registration-id")?,
        endpoint: inputs.find("host").unwrap_or(Endpoint::GLOBAL.host()),
        address: inputs.find("address"),
        give_up_after: Duration::from_secs(inputs.number("timeout")?.unwrap_or(120).into()),
    };
    let flash = Flash::open(inputs.text("flash")?, None).ok_or("flash")?;
    let mut store = Store(flash);
    let mut key = DeviceKey::new();
    read_key(&mut key, &inputs)?;
    let tls = tls::Client { tls: board::mbedtls::start(), roots: board::mbedtls::roots(&inputs)? };

    let network = net::Network::start(ethernet).map_err(tls::Error::from).map_err(provision::Failure::Connect)?;
    // Remains of the token will be in it.
    let mut buffer = Zeroizing::new([0; SIZES.http()]);
    let record = provision::find_hub(&request, &mut key, &network, &tls, &mut store, &mut *buffer)?;
    let assignment = record.assignment();
    println!("hub: {}", assignment.assigned_hub());
    println!("device ID: {}", assignment.device_id());
    println!("payload: {}", assignment.payload().map_or("none", |payload| payload.raw()));
    Ok(())
}

fn read_key(key: &mut DeviceKey, inputs: &Inputs<'_>) -> Result<(), Failure> {
    let mut text = Zeroizing::new([0; 128]);
    let text = inputs.file("key-file", &mut *text)?;
    Ok(key.read_base64(text.trim())?)
}

/// Why there is no hub.
enum Failure {
    /// This is another board.
    Board,
    /// This input is missing or unusable.
    Input(&'static str),
    Provisioning(provision::Failure),
}

impl From<&'static str> for Failure {
    fn from(input: &'static str) -> Self {
        Self::Input(input)
    }
}

#[cfg(not(feature = "mbedtls-hmac"))]
impl From<azure_dps::identity::InvalidKey> for Failure {
    fn from(error: azure_dps::identity::InvalidKey) -> Self {
        Self::Provisioning(error.into())
    }
}

impl From<provision::Failure> for Failure {
    fn from(failure: provision::Failure) -> Self {
        Self::Provisioning(failure)
    }
}

impl From<azure_dps::Error> for Failure {
    fn from(error: azure_dps::Error) -> Self {
        Self::Provisioning(error.into())
    }
}

impl Failure {
    /// An exit code, and whose move it is.
    fn fault(&self) -> (u8, &'static str) {
        let fault = match self {
            Self::Board | Self::Input(_) => Fault::Caller,
            // Tried again by the library, in vain.
            Self::Provisioning(provision::Failure::Connect(tls::Error::OutOfMemory)) => Fault::Caller,
            Self::Provisioning(failure) => failure.fault(),
        };
        board::exit_code(fault)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Board => f.write_str("no LAN9118 here; is this an mps2-an385?"),
            Self::Input(name) => write!(f, "{name} is missing or unusable\n{USAGE}"),
            Self::Provisioning(failure) => failure.fmt(f),
        }
    }
}
