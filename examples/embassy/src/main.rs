//! A Cortex-M3 on embassy that asks DPS over TLS 1.2 for its hub at the first boot, and keeps the answer in flash.
//!
//! ```text
//! dps.rs         what a product copies: connections to the service over embassy-net and mbedTLS
//! life.rs        one boot: reads the record from flash, and provisions if it must
//! ../board/      QEMU's mps2-an385, instead of a HAL for embassy
//! ```
//!
//! `run.sh` builds it, and boots it in QEMU against the emulator. It has the inputs of `../firmware/`, and some more.
#![no_std]
#![no_main]

mod dps;
mod life;

use core::{fmt, time::Duration};

use azure_dps::{
    DeviceKey, Error, IdScope, Registration, RegistrationId, asynch, error::Fault, provisioning::Endpoint,
};
use cortex_m::singleton;
use dps::Service;
use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_executor::Spawner;
use embassy_net::{DhcpConfig, Runner, Stack, StackResources};
use embassy_time::with_timeout;
use heapless::CString;
use life::{Request, Storage};
use mps2_an385::{self as board, Flash, FlashError, Inputs, USAGE, mbedtls::Problems, memory, println};
use sequential_storage::{cache::Cache, map::MapConfig};
use zeroize::Zeroizing;

const MORE_USAGE: &str =
    "  provision-again=1                   the operator's command to ask DPS although there is a record
  drop-after=MILLISECONDS             drops the run after so long, then after twice as long, and so on
  power-loss=N                        the power is lost after N changes to the flash";

/// What the operator's allocation webhook is told about this device.
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;

/// For an address from DHCP.
const DHCP_PATIENCE: embassy_time::Duration = embassy_time::Duration::from_secs(10);
/// The longest name that DNS allows, and the zero that C wants.
const HOST_NAME: usize = 253 + 1;

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let code = match boot(spawner).await {
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

async fn boot(spawner: Spawner) -> Result<(), Failure> {
    let ethernet = board::start().ok_or(Failure::Board)?;
    let mut line = [0; 1024];
    let inputs = Inputs::read(&mut line)?;
    if let Some(time) = inputs.number("time")? {
        board::set_unix_time(time);
    }
    let id_scope = IdScope::new(inputs.text("id-scope")?).map_err(Error::from)?;
    let registration_id = RegistrationId::new(inputs.text("registration-id")?).map_err(Error::from)?;
    let request = Request {
        registration: Registration::new(id_scope, registration_id).with_payload(PAYLOAD)?,
        endpoint: Endpoint::parse(inputs.find("host").unwrap_or(Endpoint::GLOBAL.host()))?,
        give_up_after: Duration::from_secs(inputs.number("timeout")?.unwrap_or(120).into()),
        provision_again: inputs.find("provision-again").is_some(),
        drop_after: inputs.number("drop-after")?.map(|after| Duration::from_millis(after.into())),
    };
    let mut key = DeviceKey::new();
    read_key(&inputs, &mut key)?;
    let flash = Flash::open(inputs.text("flash")?, inputs.number("power-loss")?).ok_or(Failure::Input("flash"))?;
    let mut storage =
        Storage::new(BlockingAsync::new(flash), const { MapConfig::new(0..Flash::SIZE as u32) }, Cache::new_uncached());
    let tls = board::mbedtls::start();
    let roots = board::mbedtls::roots(&inputs)?;

    let stack = network(spawner, ethernet).await?;
    let mut host = CString::<HOST_NAME>::new();
    host.extend_from_bytes(request.endpoint.host().as_bytes()).map_err(|_| Failure::Input("host"))?;
    let mut service = Service {
        stack,
        tls: &tls,
        roots,
        host: &host,
        address: inputs.find("address").unwrap_or(request.endpoint.host()),
        port: request.endpoint.port(),
        received: [0; 4096],
        to_send: [0; 1536],
    };
    // Remains of the token will be in it.
    let mut buffer = Zeroizing::new([0; 1024]);
    let record = life::find_hub(&request, &mut key, &mut service, &mut storage, &mut *buffer).await?;
    let assignment = record.assignment();
    println!("hub: {}", assignment.assigned_hub());
    println!("device ID: {}", assignment.device_id());
    println!("payload: {}", assignment.payload().map_or("none", |payload| payload.raw()));
    Ok(())
}

/// Waits for an address from DHCP.
async fn network(spawner: Spawner, ethernet: board::Ethernet) -> Result<Stack<'static>, Failure> {
    #[embassy_executor::task]
    async fn run(mut runner: Runner<'static, board::Ethernet>) -> ! {
        runner.run().await
    }

    let mut seed = [0; 8];
    board::random(&mut seed);
    let config = embassy_net::Config::dhcpv4(DhcpConfig::default());
    // DHCP, DNS, and a connection.
    let resources = singleton!(: StackResources<3> = StackResources::new()).ok_or(Failure::Board)?;
    let (stack, runner) = embassy_net::new(ethernet, config, resources, u64::from_le_bytes(seed));
    spawner.spawn(run(runner).map_err(|_| Failure::Board)?);
    with_timeout(DHCP_PATIENCE, stack.wait_config_up()).await.map_err(|_| Failure::NoAddress)?;
    Ok(stack)
}

fn read_key(inputs: &Inputs<'_>, key: &mut DeviceKey) -> Result<(), Failure> {
    let mut text = Zeroizing::new([0; 128]);
    let text = inputs.file("key-file", &mut *text)?;
    Ok(key.read_base64(text.trim()).map_err(Error::from)?)
}

/// Why there is no hub.
enum Failure {
    /// This is another board.
    Board,
    /// This input is missing or unusable.
    Input(&'static str),
    NoAddress,
    Life(life::Failure<FlashError>),
}

impl From<&'static str> for Failure {
    fn from(input: &'static str) -> Self {
        Self::Input(input)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Life(error.into())
    }
}

impl From<life::Failure<FlashError>> for Failure {
    fn from(failure: life::Failure<FlashError>) -> Self {
        Self::Life(failure)
    }
}

impl Failure {
    /// An exit code, and whose move it is.
    fn fault(&self) -> (u8, &'static str) {
        let fault = match self {
            // mbedTLS has a dozen codes for it.
            _ if memory::is_exhausted() => Fault::Caller,
            Self::Board | Self::Input(_) => Fault::Caller,
            Self::NoAddress => Fault::Transport,
            Self::Life(life::Failure::Provisioning(error)) => error.fault(),
            Self::Life(life::Failure::Pause(_)) => Fault::Busy,
            Self::Life(life::Failure::Flash(_)) => return (4, "the flash"),
        };
        board::exit_code(fault)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if memory::is_exhausted() {
            return f.write_str("the heap is too small for a TLS handshake");
        }
        match self {
            Self::Board => f.write_str("no LAN9118 here; is this an mps2-an385?"),
            Self::Input(name) => write!(f, "{name} is missing or unusable\n{USAGE}\n{MORE_USAGE}"),
            Self::NoAddress => f.write_str("no address from DHCP"),
            Self::Life(life::Failure::Provisioning(asynch::Error::Untrusted(dps::Error::Certificate(flags)))) => {
                Problems(*flags).fmt(f)
            }
            Self::Life(life::Failure::Provisioning(error)) => error.fmt(f),
            Self::Life(life::Failure::Pause(wait)) => write!(f, "DPS is left alone for {} s", wait.as_secs()),
            Self::Life(life::Failure::Flash(error)) => write!(f, "the flash: {error:?}"),
        }
    }
}
