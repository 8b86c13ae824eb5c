//! Tests each function of the recipe's `memory.rs` with every short length, every alignment and every overlap. Checks
//! each byte in and around the destination.

use core::ffi::{c_int, c_void};
use core::hint::black_box;

use cortex_m_semihosting::hprintln;

type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
type Set = unsafe extern "C" fn(*mut c_void, c_int, usize) -> *mut c_void;
type AeabiSet = unsafe extern "C" fn(*mut c_void, usize, c_int);
type AeabiClear = unsafe extern "C" fn(*mut c_void, usize);
type Compare = unsafe extern "C" fn(*const c_void, *const c_void, usize) -> c_int;

unsafe extern "C" {
    fn memcpy(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn __aeabi_memcpy(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn __aeabi_memcpy4(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn __aeabi_memcpy8(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn memmove(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn __aeabi_memmove(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn __aeabi_memmove4(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn __aeabi_memmove8(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn memset(to: *mut c_void, value: c_int, length: usize) -> *mut c_void;
    fn __aeabi_memset(to: *mut c_void, length: usize, value: c_int);
    fn __aeabi_memset4(to: *mut c_void, length: usize, value: c_int);
    fn __aeabi_memset8(to: *mut c_void, length: usize, value: c_int);
    fn __aeabi_memclr(to: *mut c_void, length: usize);
    fn __aeabi_memclr4(to: *mut c_void, length: usize);
    fn __aeabi_memclr8(to: *mut c_void, length: usize);
    fn memcmp(left: *const c_void, right: *const c_void, length: usize) -> c_int;
    fn bcmp(left: *const c_void, right: *const c_void, length: usize) -> c_int;
}

/// Longer than a few words and the bytes that remain.
const LENGTHS: core::ops::RangeInclusive<usize> = 0..=36;
/// The distance from an address that is a multiple of eight.
const ALIGNMENTS: core::ops::Range<usize> = 0..8;
/// The number of bytes before and after the destination.
const MARGIN: usize = 8;
const SIZE: usize = 96;

#[repr(align(8))]
struct Memory([u8; SIZE]);

impl Memory {
    /// No two bytes are equal.
    fn new() -> Self {
        let mut memory = Memory([0; SIZE]);
        for (at, byte) in memory.0.iter_mut().enumerate() {
            *byte = original(at);
        }
        memory
    }

    fn at(&mut self, offset: usize) -> *mut c_void {
        black_box(self.0[offset..].as_mut_ptr().cast())
    }

    /// Checks that `length` bytes at `to` are as `expected`, and that no other byte has changed.
    fn check(&self, to: usize, length: usize, expected: impl Fn(usize) -> u8) {
        for (at, &byte) in black_box(&self.0).iter().enumerate() {
            let expected = if (to..to + length).contains(&at) { expected(at - to) } else { original(at) };
            assert!(byte == expected);
        }
    }
}

fn original(at: usize) -> u8 {
    at as u8 ^ 0x80
}

pub fn all() {
    // In `compiler_builtins` these are different functions.
    assert!(memcpy as Copy as usize == __aeabi_memcpy8 as Copy as usize);

    let mut calls = 0;
    for copy in [memcpy, __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8] as [Copy; 4] {
        calls += copies(black_box(copy));
    }
    for copy in [memmove, __aeabi_memmove, __aeabi_memmove4, __aeabi_memmove8] as [Copy; 4] {
        calls += copies(black_box(copy));
        calls += overlapping(black_box(copy));
    }
    calls += sets();
    for compare in [memcmp, bcmp] as [Compare; 2] {
        calls += compares(black_box(compare));
    }
    hprintln!("memory functions: {} calls are correct", calls);
}

/// Copies between two arrays.
fn copies(copy: Copy) -> u32 {
    let mut calls = 0;
    for length in LENGTHS {
        for from in ALIGNMENTS {
            for to in ALIGNMENTS {
                let (mut source, mut target) = (Memory::new(), Memory::new());
                let (from, to) = (from + 2 * MARGIN, to + MARGIN);
                let address = target.at(to);
                // SAFETY: both ends are within their arrays.
                let returned = unsafe { copy(address, source.at(from), length) };
                assert!(returned == address);
                target.check(to, length, |at| original(from + at));
                source.check(0, 0, |_| 0);
                calls += 1;
            }
        }
    }
    calls
}

/// Copies within one array, at all distances in both directions, up to one without overlap.
fn overlapping(copy: Copy) -> u32 {
    let mut calls = 0;
    for length in LENGTHS {
        for from in ALIGNMENTS {
            let from = from + SIZE / 3;
            for to in from.saturating_sub(length + 1).max(MARGIN)..=(from + length + 1).min(SIZE - MARGIN - length) {
                let mut memory = Memory::new();
                let address = memory.at(to);
                // SAFETY: both ends are within the array.
                let returned = unsafe { copy(address, memory.at(from), length) };
                assert!(returned == address);
                memory.check(to, length, |at| original(from + at));
                calls += 1;
            }
        }
    }
    calls
}

fn sets() -> u32 {
    let mut calls = 0;
    for length in LENGTHS {
        for to in ALIGNMENTS {
            let to = to + MARGIN;
            // Only the lowest byte counts.
            for value in [0, 0x5a, 0x1ff, -2] {
                let mut memory = Memory::new();
                let address = memory.at(to);
                // SAFETY: the end is within the array.
                let returned = unsafe { black_box(memset as Set)(address, value, length) };
                assert!(returned == address);
                memory.check(to, length, |_| value as u8);
                for set in [__aeabi_memset, __aeabi_memset4, __aeabi_memset8] as [AeabiSet; 3] {
                    let mut memory = Memory::new();
                    // SAFETY: as above.
                    unsafe { black_box(set)(memory.at(to), length, value) };
                    memory.check(to, length, |_| value as u8);
                }
                calls += 4;
            }
            for clear in [__aeabi_memclr, __aeabi_memclr4, __aeabi_memclr8] as [AeabiClear; 3] {
                let mut memory = Memory::new();
                // SAFETY: as above.
                unsafe { black_box(clear)(memory.at(to), length) };
                memory.check(to, length, |_| 0);
                calls += 1;
            }
        }
    }
    calls
}

/// Compares equal bytes, and bytes that differ at one place. Later bytes must not count.
fn compares(compare: Compare) -> u32 {
    let mut calls = 0;
    for length in LENGTHS {
        for left_at in ALIGNMENTS {
            for right_at in ALIGNMENTS {
                for place in 0..=length {
                    let (mut left, mut right) = (Memory([0x33; SIZE]), Memory([0x33; SIZE]));
                    let (left_at, right_at) = (left_at + MARGIN, right_at + MARGIN);
                    let (mut smaller, mut greater) = (0x7f, 0x80);
                    if place % 2 == 1 {
                        (smaller, greater) = (0, 0xff);
                    }
                    // With `place == length`, the first byte that differs is the one after the last.
                    (left.0[left_at + place], right.0[right_at + place]) = (smaller, greater);
                    left.0[left_at + place + 1..].fill(greater);
                    right.0[right_at + place + 1..].fill(smaller);
                    // SAFETY: both ends are within their arrays.
                    let (less, more) = unsafe {
                        let (left, right) = (left.at(left_at), right.at(right_at));
                        (compare(left, right, length), compare(right, left, length))
                    };
                    if place == length {
                        assert!(less == 0 && more == 0);
                    } else {
                        assert!(less < 0 && more > 0);
                    }
                    calls += 2;
                }
            }
        }
    }
    calls
}
