//! Counts instructions with QEMU's `-icount shift=0`: one instruction takes one nanosecond, so one tick of SysTick at
//! 25 MHz is 40 instructions. Measures the stack by painting it.

use core::{convert::Infallible, hint::black_box, time::Duration};

use azure_dps::asynch::{self, ConnectError};
use azure_dps::{DeviceKey, GroupKey, Provisioning, provisioning::Step};
use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_semihosting::hprintln;
use embedded_io_async::{ErrorType, Read, Write};

use crate::workload::{self, BUFFER};

const REPEATS: u32 = 100;
const INSTRUCTIONS_PER_TICK: u32 = 40;
/// Much more than W needs, and much less than the available RAM.
const PAINTED: usize = 16 * 1024;
const PAINT: u8 = 0xa5;

pub fn all() {
    let mut buffer = [0; BUFFER];
    let stack = stack(&mut buffer);

    let Some(mut peripherals) = cortex_m::Peripherals::take() else { return };
    let systick = &mut peripherals.SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();

    let mut text = [0; 44];
    let a = instructions(|| black_box(workload::a(&mut text)));
    let mut key = DeviceKey::new();
    let b_key = instructions(|| black_box(workload::device_key(&mut key)));
    let c_check = instructions(|| black_box(workload::provisioning().is_some()));
    // A step can be repeated only with a new device, because request numbers continue from run to run. It also needs
    // the steps before it. The cost of these steps is measured alone, and subtracted.
    type Steps<'s> = dyn FnMut(&mut Provisioning<'_>, &mut DeviceKey, &mut [u8; BUFFER]) -> bool + 's;
    let mut from_new = |steps: &mut Steps<'_>| {
        instructions(|| {
            workload::provisioning().is_some_and(|mut provisioning| steps(&mut provisioning, &mut key, &mut buffer))
        })
    };
    let before_b = from_new(&mut |_, _, _| true);
    let b_token =
        from_new(&mut |provisioning, key, buffer| black_box(workload::b(provisioning, key, buffer))) - before_b;
    let before_c = from_new(&mut |provisioning, key, buffer| begin(provisioning, key, buffer));
    let c_strings = from_new(&mut |provisioning, key, buffer| {
        begin(provisioning, key, buffer) && workload::c(provisioning, buffer)
    }) - before_c;
    let before_d = from_new(&mut |provisioning, key, buffer| registered(provisioning, key, buffer));
    let polled = |provisioning: &mut Provisioning<'_>, key: &mut DeviceKey, buffer: &mut [u8; BUFFER]| {
        registered(provisioning, key, buffer) && workload::d(provisioning, buffer)
    };
    let before_e = from_new(&mut |provisioning, key, buffer| polled(provisioning, key, buffer));
    let d = before_e - before_d;
    let mut e = |body: &[u8]| {
        from_new(&mut |provisioning, key, buffer| {
            polled(provisioning, key, buffer) && black_box(workload::e(provisioning, body).is_some())
        }) - before_e
    };
    let e_1 = e(workload::assigned());

    let provisioning_size = size_of::<Provisioning<'_>>();
    let key_size = size_of::<DeviceKey>();
    assert!(size_of::<GroupKey>() == key_size);
    let buffers = BUFFER + provisioning_size + key_size;
    let (b, c) = (b_key + b_token, c_check + c_strings);
    hprintln!("stack {}", stack);
    hprintln!("future {}", future());
    hprintln!("buffers {}", buffers);
    hprintln!("provisioning {}", provisioning_size);
    hprintln!("a {}", a);
    hprintln!("b {}", b);
    hprintln!("c {}", c);
    hprintln!("d {}", d);
    hprintln!("e {}", e_1);
    for times in [10, 100] {
        let mut large = [0; 12 * 1024];
        let body = with_payload(times, &mut large);
        hprintln!("e{} {}", times, e(body));
    }
}

fn begin(provisioning: &mut Provisioning<'_>, key: &mut DeviceKey, buffer: &mut [u8; BUFFER]) -> bool {
    provisioning.start(Duration::ZERO, black_box(1_700_000_000));
    matches!(provisioning.step(Duration::ZERO), Step::Sign)
        && provisioning.sign_with(key, buffer).is_ok()
        && matches!(provisioning.step(Duration::ZERO), Step::Send)
}

fn registered(provisioning: &mut Provisioning<'_>, key: &mut DeviceKey, buffer: &mut [u8; BUFFER]) -> bool {
    begin(provisioning, key, buffer) && workload::request(provisioning, Duration::ZERO, buffer)
}

/// Returns the final answer with its returned payload repeated `times` times.
fn with_payload(times: usize, large: &mut [u8]) -> &[u8] {
    const PAYLOAD: &[u8] = br#"{"property1":"value1","property2":{"propertyA":"valueA","property2-2":1234}}"#;
    let body = workload::assigned();
    let (before, after) = body.split_at(body.len() - PAYLOAD.len() - 2);
    let mut len = 0;
    let mut push = |bytes: &[u8]| {
        large[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    push(before);
    push(b"{\"a\":[");
    for at in 0..times {
        push(if at > 0 { b"," } else { b"" });
        push(PAYLOAD);
    }
    push(b"]}");
    push(&after[PAYLOAD.len()..]);
    &large[..len]
}

pub fn instructions(mut step: impl FnMut() -> bool) -> u32 {
    // The first call may differ from all others.
    let mut right = step();
    let start = SYST::get_current();
    for _ in 0..REPEATS {
        right &= step();
    }
    let ticks = start.wrapping_sub(SYST::get_current()) & 0x00ff_ffff;
    assert!(right);
    ticks * INSTRUCTIONS_PER_TICK / REPEATS
}

/// A stream without data.
struct Stream;

impl ErrorType for Stream {
    type Error = Infallible;
}

impl Read for Stream {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Infallible> {
        Ok(0)
    }
}

impl Write for Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Returns the size of the future of an async run, without the data of the stream and the delay.
fn future() -> usize {
    let Some(mut provisioning) = workload::provisioning() else { return 0 };
    let mut connect = async |_| Ok::<_, ConnectError<Infallible>>(Stream);
    let clock = || Duration::ZERO;
    size_of_val(&asynch::run(
        &mut provisioning,
        &mut DeviceKey::new(),
        &mut [],
        &mut connect,
        clock,
        async |_| (),
        |_| (),
    ))
}

/// Returns the deepest stack of the steps. Each step is called from the frame that has the caller's memory. Buffer, run
/// and key count as `buffers`, and are not counted again.
fn stack(buffer: &mut [u8; BUFFER]) -> usize {
    let (mut text, mut key, mut provisioning, mut right) = ([0; 44], DeviceKey::new(), None, true);
    let mut deepest = stack_of(|| right &= workload::a(&mut text));
    deepest = deepest.max(stack_of(|| right &= workload::device_key(&mut key)));
    deepest = deepest.max(stack_of(|| provisioning = workload::provisioning()));
    let Some(provisioning) = &mut provisioning else { return 0 };
    deepest = deepest.max(stack_of(|| right &= workload::b(provisioning, &mut key, buffer)));
    deepest = deepest.max(stack_of(|| right &= workload::c(provisioning, buffer)));
    deepest = deepest.max(stack_of(|| right &= workload::d(provisioning, buffer)));
    deepest = deepest.max(stack_of(|| right &= workload::e(provisioning, workload::assigned()).is_some()));
    assert!(right);
    deepest
}

/// Returns the number of bytes below the stack pointer that `work` touches.
#[inline(never)]
pub fn stack_of(work: impl FnOnce()) -> usize {
    let top = cortex_m::register::msp::read() as usize;
    let bottom = top - PAINTED;
    // SAFETY: this is unused RAM below the stack pointer. An exception would overwrite some of it, but no exception is
    // enabled.
    unsafe { core::ptr::write_bytes(bottom as *mut u8, PAINT, PAINTED - 64) };
    work();
    let untouched = (bottom..top).take_while(|&address| {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(address as *const u8) == PAINT }
    });
    PAINTED - untouched.count()
}
