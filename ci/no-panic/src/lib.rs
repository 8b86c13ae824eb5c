//! Inputs that the optimizer cannot predict, and a panic handler that does not link.

#![no_std]

use core::{
    fmt::{Debug, Display, Write},
    hint::black_box,
    time::Duration,
};

use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};

unsafe extern "C" {
    /// Not defined anywhere. Code that can panic calls it.
    fn a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: an image with this call in it is never linked.
    unsafe { a_panic_is_reachable() }
}

static BYTES: [u8; 4096] = [0; 4096];

/// Returns unpredictable bytes.
pub fn bytes() -> &'static [u8] {
    black_box(&BYTES).get(..number()).unwrap_or_default()
}

/// Returns unpredictable text.
pub fn text() -> &'static str {
    core::str::from_utf8(bytes()).unwrap_or_default()
}

/// Returns an unpredictable number.
pub fn number() -> usize {
    black_box(0)
}

/// Returns an unpredictable time.
pub fn time() -> Duration {
    black_box(Duration::ZERO)
}

/// Returns the same value, and hides its state from the compiler. Without this, the compiler knows that a run has just
/// started, and leaves out the code for later states.
pub fn opaque<T>(value: &mut T) -> &mut T {
    black_box(value)
}

/// Calls `proof` with a run in any state. The compiler knows nothing about the changes that `make` made.
pub fn with_provisioning(
    make: impl for<'a> FnOnce(Provisioning<'a>) -> Provisioning<'a>,
    proof: impl FnOnce(&mut Provisioning<'_>),
) {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let attestation = if number() > 0 { Attestation::symmetric_key() } else { Attestation::x509() };
    let mut provisioning = make(Provisioning::new(Registration::new(scope, id), attestation));
    provisioning.start(time(), number() as u64);
    proof(opaque(&mut provisioning));
}

/// Uses the result of an entry point, so that it is not optimized away.
pub fn used<T>(value: T) {
    black_box(value);
}

/// Formats with `Display` and `Debug`.
pub fn shown(value: impl Debug + Display) {
    used(write!(Nowhere, "{value}{value:?}{value:#?}"));
}

/// Discards texts.
pub struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        used(text);
        Ok(())
    }
}

/// Defines an image with one function.
#[macro_export]
macro_rules! links {
    ($function:path) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn _start() {
            $function()
        }
    };
}
