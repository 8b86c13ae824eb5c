//! The board of both firmwares: QEMU's `mps2-an385`, which is Arm's MPS2 with the AN385 image (Cortex-M3).
//!
//! A product uses a HAL instead. This crate has start-up code, `memory.x`, an [`Ethernet`] device, two clocks, random
//! numbers, a console, [`Inputs`], a flash, and what [`mbedtls`] needs.
#![no_std]

#[cfg(feature = "embassy")]
mod embassy;
#[cfg(feature = "flash")]
mod flash;
mod inputs;
mod lan9118;
pub mod mbedtls;
pub mod memory;
mod semihosting;
#[cfg(feature = "smoltcp")]
mod smoltcp;

use core::{cell::Cell, time::Duration};

use azure_dps::error::Fault;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use critical_section::Mutex;

/// Prints a line. Never print a secret.
pub use cortex_m_semihosting::hprintln as println;
#[cfg(feature = "flash")]
pub use flash::{Flash, FlashError};
pub use inputs::{Inputs, USAGE};
pub use lan9118::Lan9118 as Ethernet;
pub use semihosting::{File, command_line, exit};

const CLOCK_HZ: u32 = 25_000_000;
const ETHERNET: usize = 0x4020_0000;

static MILLISECONDS: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));
static UNIX_TIME_AT_BOOT: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

/// Starts the clocks and the Ethernet controller. Returns `None` if this is another board, and at the second call.
pub fn start() -> Option<Ethernet> {
    let mut syst = cortex_m::Peripherals::take()?.SYST;
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(CLOCK_HZ / 1000 - 1);
    syst.clear_current();
    syst.enable_interrupt();
    syst.enable_counter();
    set_unix_time(semihosting::unix_time());
    // SAFETY: the AN385 has a LAN9118 at this address. This line runs once, because `take` succeeds only once.
    unsafe { Ethernet::new(ETHERNET) }
}

#[exception]
fn SysTick() {
    critical_section::with(|token| {
        let milliseconds = MILLISECONDS.borrow(token);
        milliseconds.set(milliseconds.get() + 1);
    });
    #[cfg(feature = "embassy")]
    embassy::on_tick();
}

fn milliseconds() -> u64 {
    critical_section::with(|token| MILLISECONDS.borrow(token).get())
}

/// Returns the time since the start.
pub fn uptime() -> Duration {
    Duration::from_millis(milliseconds())
}

/// Returns the seconds since 1970. The host's clock replaces an RTC.
pub fn unix_time() -> u64 {
    critical_section::with(|token| UNIX_TIME_AT_BOOT.borrow(token).get()) + uptime().as_secs()
}

/// Sets the current time.
pub fn set_unix_time(now: u32) {
    let at_boot = u64::from(now).saturating_sub(uptime().as_secs());
    critical_section::with(|token| UNIX_TIME_AT_BOOT.borrow(token).set(at_boot));
}

/// Returns the exit code of the program, and what is at fault.
pub fn exit_code(fault: Fault) -> (u8, &'static str) {
    match fault {
        Fault::Refused => (3, "the enrollment, or the webhook of the operator"),
        Fault::Credential => (5, "the device's key, or its clock"),
        Fault::Busy => (6, "the service, which is busy"),
        Fault::Transport => (7, "the network"),
        Fault::Peer => (8, "the server, which is not the service"),
        _ => (2, "this firmware, or its inputs"),
    }
}

/// Sleeps until the next interrupt: at most a millisecond.
pub fn idle() {
    cortex_m::asm::wfi();
}

/// Fills `bytes` with random numbers that are good enough for keys, or panics. The board has no random number generator,
/// so this reads the host's.
pub fn random(bytes: &mut [u8]) {
    let read = File::open("/dev/urandom").map_or(0, |mut file| file.read(bytes));
    assert!(read == bytes.len(), "no random numbers: the host has no /dev/urandom");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{}", info);
    exit(101)
}

#[exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    println!("CPU fault at {:#010x}", frame.pc());
    exit(102)
}
