//! Measures the request for the twin, in a separate image, because other linked code changes how the compiler optimizes
//! W.

use core::hint::black_box;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_semihosting::hprintln;

use crate::{
    measure::{instructions, stack_of},
    workload::{self, BUFFER},
};

pub fn all() {
    let (mut buffer, mut right) = ([0; BUFFER], true);
    let stack = stack_of(|| right &= workload::twin(&mut buffer));

    // Same code as in `measure`. A shared function would be counted in W's steps.
    let Some(mut peripherals) = cortex_m::Peripherals::take() else { return };
    let systick = &mut peripherals.SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();

    hprintln!("stack {}", stack);
    hprintln!("instructions {}", instructions(|| right & black_box(workload::twin(&mut buffer))));
}
