//! The C library with a panic handler that does not link, and a function that needs it.

#![no_std]

use core::ffi::c_void;

use azure_dps_c as _;

unsafe extern "C" {
    /// Not defined anywhere. Code that can panic calls it.
    fn a_panic_is_reachable(why: *const c_void) -> !;
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // With the reason, because the compiler would otherwise merge all panicking functions of core under one name.
    // SAFETY: an image with this call in it is never linked.
    unsafe { a_panic_is_reachable((&raw const *info).cast()) }
}

static TABLE: [u8; 4] = [2, 3, 5, 7];

/// Shows that the proof can fail.
#[unsafe(no_mangle)]
pub extern "C" fn azure_dps_control(index: usize) -> u8 {
    TABLE[index]
}
