//! C API of [azure-dps](https://docs.rs/azure-dps). `include/azure_dps.h` documents it, for C.
//!
//! This crate is the border alone: it turns C's pointers and numbers into the types of `azure-dps`, and back.
//! Every rule lives in `azure-dps`.
//!
//! | file | what is in it |
//! |---|---|
//! | `border` | pointers, texts, buffers that C gives, and the handles: memory of C with a value of Rust in it |
//! | `clock` | C's 32-bit clock, which may wrap, as a `Duration` |
//! | `error` | a code for each variant of `azure_dps::Error`, and its texts |
//! | `key`, `signer` | keys in software; signing by callbacks |
//! | `client` | the handle of a device: configuration and state machine |
//! | `mqtt`, `http`, `run` | the transports: strings and messages; bytes; a whole run over callbacks |
//! | `assignment`, `json` | the outcome, and looking into its JSON |
//! | `hub`, `twin`, `record`, `reprovisioning` | the life after the first boot |
//! | `tpm`, `certificate` | the features `tpm` and `csr` |
//!
//! # How a function is written
//!
//! ```text
//! #[unsafe(no_mangle)]
//! pub unsafe extern "C" fn azure_dps_start(dps: *mut azure_dps_client, …) -> azure_dps_result {
//!     // SAFETY: the caller's promise.
//!     outcome(|| unsafe {
//!         get_mut::<Client>(dps)?.start(now_ms, unix_time);
//!         Ok(())
//!     })
//! }
//! ```
//!
//! - `outcome`, or `answer` for functions that return a number, makes the code of C of a `Result`.
//! - `get`, `get_mut` and `enter` check a handle before they make a reference. A function that calls callbacks uses
//!   `enter`: other calls on the handle are refused until it returns.
//! - `structure`, `bytes`, `buffer` and `azure_dps_str::read` check the other pointers for NULL and alignment, as far as
//!   that can be checked. That they are valid is the promise of C.
//! - Nothing panics: the linker proves it (`ci/no-panic`). So nothing is indexed, and no lengths are subtracted unchecked.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]
// The names are those of the header.
#![allow(non_camel_case_types)]

mod assignment;
mod border;
#[cfg(feature = "csr")]
mod certificate;
mod client;
mod clock;
mod error;
mod http;
mod hub;
mod json;
mod key;
mod mqtt;
mod record;
mod reprovisioning;
mod run;
mod signer;
#[cfg(feature = "tpm")]
mod tpm;
mod twin;

#[cfg(feature = "panic-handler")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
