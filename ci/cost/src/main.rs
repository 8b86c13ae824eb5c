//! One of five images: only the start-up; the start-up and W once; both and the twin; the measurements; or the test of
//! the recipe's memory functions. The first three have no other difference, so their sizes can be subtracted.

#![no_std]
#![no_main]

#[cfg(feature = "measure")]
#[cfg_attr(feature = "twin", allow(dead_code, reason = "the measurements of W are another image"))]
mod measure;
#[cfg(all(feature = "measure", feature = "twin"))]
mod measure_twin;
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
    #[cfg(all(feature = "measure", not(feature = "twin")))]
    measure::all();
    #[cfg(all(feature = "measure", feature = "twin"))]
    measure_twin::all();

    #[cfg(feature = "memory-test")]
    memory_test::all();

    #[cfg(all(feature = "workload", not(feature = "measure")))]
    {
        // The caller's memory does not count as the library's flash.
        let mut buffer = [0; workload::BUFFER];
        if !workload::run(&mut buffer) {
            debug::exit(debug::EXIT_FAILURE);
        }
        #[cfg(feature = "twin")]
        if !workload::twin(&mut buffer) {
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
