//! C API of [azure-dps](https://docs.rs/azure-dps). `include/azure_dps.h` documents it, for C.
//!
//! This crate is the border alone: it turns C's pointers and numbers into the types of `azure-dps`, and back.
//! Every rule lives in `azure-dps`.
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
