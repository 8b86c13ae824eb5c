//! The heap of mbedTLS, and the memory that a run has used. No Rust code of this program allocates.

use core::{
    alloc::Layout,
    cell::RefCell,
    fmt,
    mem::MaybeUninit,
    ptr::{NonNull, null_mut, write_bytes},
};

use critical_section::Mutex;
use linked_list_allocator::Heap;

/// A handshake with an RSA-4096 certificate takes about 40 KB, with ECDSA 28 KB.
const HEAP_SIZE: usize = 48 * 1024;
/// The length of a block, stored before the block.
const HEADER: usize = 8;

struct Memory {
    heap: Heap,
    /// The most bytes in use at a time.
    peak: usize,
    exhausted: bool,
}

static MEMORY: Mutex<RefCell<Memory>> =
    Mutex::new(RefCell::new(Memory { heap: Heap::empty(), peak: 0, exhausted: false }));

/// Gives the heap its memory. Call this function once, before TLS.
pub fn start() {
    let memory: &'static mut [MaybeUninit<u8>; HEAP_SIZE] =
        cortex_m::singleton!(: [MaybeUninit<u8>; HEAP_SIZE] = [MaybeUninit::uninit(); HEAP_SIZE])
            .expect("memory::start is called once");
    critical_section::with(|token| MEMORY.borrow_ref_mut(token).heap.init_from_slice(memory));
}

/// Returns `true` if the heap was full at some time. mbedTLS has many error codes for this.
pub fn is_exhausted() -> bool {
    critical_section::with(|token| MEMORY.borrow_ref(token).exhausted)
}

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, HEADER).ok()
}

/// C's `calloc`, for mbedTLS.
#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut u8 {
    let allocate = || {
        let size = count.checked_mul(size)?;
        let block = critical_section::with(|token| {
            let Memory { heap, peak, exhausted } = &mut *MEMORY.borrow_ref_mut(token);
            let block = layout(size).and_then(|layout| heap.allocate_first_fit(layout).ok());
            *peak = heap.used().max(*peak);
            *exhausted |= block.is_none();
            Some(block?.as_ptr())
        })?;
        // SAFETY: the heap has just given out this block. It is aligned to HEADER, and `HEADER + size` bytes long.
        unsafe {
            block.cast::<usize>().write(size);
            let memory = block.add(HEADER);
            write_bytes(memory, 0, size);
            Some(memory)
        }
    };
    allocate().unwrap_or(null_mut())
}

/// C's `free`, for mbedTLS.
///
/// # Safety
/// `memory` comes from `calloc` and is not used again, or is null.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(memory: *mut u8) {
    if memory.is_null() {
        return;
    }
    // SAFETY: `calloc` wrote the header, and allocated the block from this heap with this layout.
    unsafe {
        let block = memory.sub(HEADER);
        if let Some(layout) = layout(block.cast::<usize>().read()) {
            critical_section::with(|token| {
                MEMORY.borrow_ref_mut(token).heap.deallocate(NonNull::new_unchecked(block), layout);
            });
        }
    }
}

/// The most memory in use at a time, in bytes.
pub struct Peak {
    heap: usize,
    stack: usize,
    stack_size: usize,
}

impl Peak {
    /// Returns the peak since the start.
    pub fn now() -> Self {
        unsafe extern "C" {
            static _stack_end: u32;
            static _stack_start: u32;
        }
        let (bottom, top) = (&raw const _stack_end, &raw const _stack_start);
        let mut unused = bottom;
        // SAFETY: the stack is between these two symbols of the linker. cortex-m-rt paints it at reset.
        while unused < top && unsafe { unused.read_volatile() } == cortex_m_rt::STACK_PAINT_VALUE {
            unused = unused.wrapping_add(1);
        }
        Self {
            heap: critical_section::with(|token| MEMORY.borrow_ref(token).peak),
            stack: top as usize - unused as usize,
            stack_size: top as usize - bottom as usize,
        }
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heap, stack, stack_size } = self;
        write!(f, "heap {heap} of {HEAP_SIZE}, stack {stack} of {stack_size} bytes")
    }
}
