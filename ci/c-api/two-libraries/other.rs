//! Other Rust code in a program. Compiled alone, it is a separate static library.
#![cfg_attr(bare_metal, no_std)]

/// Returns a checksum. A wrong length panics.
///
/// # Safety
/// `bytes` must point to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn other_checksum(bytes: *const u8, len: usize) -> u32 {
    assert!(len < 100);
    // SAFETY: the caller guarantees it.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, len) };
    bytes.iter().fold(1, |sum, byte| sum * 31 + u32::from(*byte))
}

#[cfg(bare_metal)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
