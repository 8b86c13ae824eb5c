//! One of four images: the start-up alone, the start-up and W once, the measurements of W, or the test of the
//! recipe's memory functions. The first two differ in nothing else, so their sizes can be subtracted.

#![no_std]
#![no_main]

#[cfg(feature = "measure")]
mod measure;
#[cfg(feature = "recipe")]
#[path = "../recipe/memory.rs"]
mod memory;
#[cfg(feature = "memory-test")]
mod memory_test;
#[cfg(feature = "workload")]
mod workload;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};

#[entry]
fn main() -> ! {
    #[cfg(feature = "measure")]
    measure::all();

    #[cfg(feature = "memory-test")]
    memory_test::all();

    #[cfg(all(feature = "workload", not(feature = "measure")))]
    {
        // The caller's memory is not the library's flash.
        let mut buffer = [0; workload::BUFFER];
        if !workload::run(&mut buffer) {
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    if let Ok(mut out) = hio::hstdout() {
        let _ = out.write_all(b"done\n");
    }
    debug::exit(debug::EXIT_SUCCESS);
    loop {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
