//! The question for the twin, in an image of its own: what is linked along changes what the optimiser makes of W.

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

    // As in `measure`. A function that both share would be counted in W's steps.
    let Some(mut peripherals) = cortex_m::Peripherals::take() else { return };
    let systick = &mut peripherals.SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();

    hprintln!("stack {}", stack);
    hprintln!("instructions {}", instructions(|| right & black_box(workload::twin(&mut buffer))));
}
