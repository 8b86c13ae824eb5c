//! The C API of [azure-dps](https://docs.rs/azure-dps). `include/azure_dps.h` documents the API for C.
//!
//! This crate converts pointers and numbers of C to the types of `azure-dps`, and back. All other logic is in
//! `azure-dps`.
//!
//! | file | content |
//! |---|---|
//! | `border` | pointers, texts and buffers of C; handles, which are memory of C with a Rust value |
//! | `clock` | the 32-bit clock of C, which may wrap, as a `Duration` |
//! | `error` | a code for each variant of `azure_dps::Error`, and its name |
//! | `key`, `signer` | keys in memory; callbacks that sign |
//! | `client` | the handle of a device: configuration and state machine |
//! | `mqtt`, `http`, `run` | MQTT requests and answers; HTTP requests and answers; a complete run over callbacks |
//! | `assignment`, `json` | the result of a run; functions to read JSON |
//! | `hub`, `twin`, `record`, `reprovisioning` | the time after the first boot |
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
//! - `outcome` converts a `Result` to a code of C. `answer` does the same for functions that return a number.
//! - `get`, `get_mut` and `enter` check a handle before they create a reference. A function that calls callbacks uses
//!   `enter`: until it returns, other calls with the handle fail.
//! - `write_text` is a whole function that writes a text of a handle, such as the MQTT user name.
//! - `structure`, `bytes`, `buffer` and `azure_dps_str::read` check other pointers for NULL and, if possible, for
//!   alignment. The C caller must ensure that they are valid.
//! - No function panics. `ci/no-panic` proves this with the linker. So the code does not index slices, and does not
//!   subtract lengths without a check.
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
