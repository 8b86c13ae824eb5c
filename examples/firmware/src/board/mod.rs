//! The board: ARM's MPS2 with the AN385 image (Cortex-M3), as QEMU's `mps2-an385` has it.
//!
//! Another board is another folder like this one. What the rest of the program wants of it:
//! an [`Ethernet`] device for smoltcp, two clocks, randomness, a console and the inputs.

mod lan9118;
mod semihosting;

use core::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;

/// Prints a line for whoever watches. Never give it a secret.
pub use cortex_m_semihosting::hprintln as println;
pub use lan9118::Lan9118 as Ethernet;
pub use semihosting::{File, command_line, exit};

const CLOCK_HZ: u32 = 25_000_000;
const ETHERNET: usize = 0x4020_0000;

static MILLISECONDS: AtomicU32 = AtomicU32::new(0);
static UNIX_TIME_AT_BOOT: AtomicU32 = AtomicU32::new(0);

/// Starts the clocks and switches Ethernet on. `None`: this is not that board, or it has been
/// started before.
pub fn start() -> Option<Ethernet> {
    let mut syst = cortex_m::Peripherals::take()?.SYST;
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(CLOCK_HZ / 1000 - 1);
    syst.clear_current();
    syst.enable_interrupt();
    syst.enable_counter();
    set_unix_time(semihosting::unix_time());
    // SAFETY: the AN385 has a LAN9118 there, and this line is passed once: `take` sees to it.
    unsafe { Ethernet::new(ETHERNET) }
}

#[exception]
fn SysTick() {
    MILLISECONDS.fetch_add(1, Relaxed);
}

/// The time since the start. It lasts for 49 days; a product that provisions later than that
/// counts on.
pub fn uptime() -> Duration {
    Duration::from_millis(MILLISECONDS.load(Relaxed).into())
}

/// Seconds since 1970. The host told us at the start what an RTC would have.
pub fn unix_time() -> u64 {
    u64::from(UNIX_TIME_AT_BOOT.load(Relaxed)) + uptime().as_secs()
}

/// Sets what [`unix_time`] counts from.
pub fn set_unix_time(now: u32) {
    UNIX_TIME_AT_BOOT.store(now.wrapping_sub(uptime().as_secs() as u32), Relaxed);
}

/// Sleeps until something may have changed: for a millisecond at most.
pub fn idle() {
    cortex_m::asm::wfi();
}

/// Fills `bytes` with randomness fit for keys, or does not come back. The board has no source
/// of its own: the host's stands for a TRNG.
pub fn random(bytes: &mut [u8]) {
    let read = File::open("/dev/urandom").map_or(0, |mut file| file.read(bytes));
    assert!(read == bytes.len(), "no randomness: the host has no /dev/urandom");
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
