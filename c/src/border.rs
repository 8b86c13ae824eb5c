//! Converts the pointers, texts, buffers and handles of C to Rust types, and back.
//!
//! Only this file has pointer arithmetic. The other files call its functions and `azure-dps`.
//!
//! In the comments of all files, "the caller's promise" is the `# Safety` section of the function.

use core::{
    ffi::{c_char, c_void},
    num::NonZero,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

use azure_dps::{Error, error::BufferTooSmall};

use crate::error::{
    AZURE_DPS_ERR_ARGUMENT, AZURE_DPS_ERR_BUFFER_TOO_SMALL, AZURE_DPS_ERR_HANDLE, AZURE_DPS_OK, azure_dps_result,
    failure_of,
};

/// A negative `AZURE_DPS_ERR_*`. It is never 0, so a `Result<(), Failure>` has the bits of C's code.
#[derive(Clone, Copy)]
pub(crate) struct Failure(NonZero<azure_dps_result>);

impl Failure {
    pub(crate) const ARGUMENT: Self = Self::of(AZURE_DPS_ERR_ARGUMENT);
    pub(crate) const HANDLE: Self = Self::of(AZURE_DPS_ERR_HANDLE);

    pub(crate) const fn of(result: azure_dps_result) -> Self {
        const { assert!(AZURE_DPS_OK == 0) };
        match NonZero::new(result) {
            Some(result) => Self(result),
            None => Self(NonZero::<azure_dps_result>::MIN),
        }
    }

    pub(crate) const fn result(self) -> azure_dps_result {
        self.0.get()
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        failure_of(&error.into())
    }
}

/// Runs the body of a function of C: `?` in it returns the code of a failure.
#[inline]
pub(crate) fn answer(body: impl FnOnce() -> Result<i32, Failure>) -> i32 {
    match body() {
        Ok(answer) => answer,
        Err(failure) => failure.result(),
    }
}

/// Does what [`answer`] does, for a function that returns no value.
#[inline]
pub(crate) fn outcome(body: impl FnOnce() -> Result<(), Failure>) -> azure_dps_result {
    answer(|| body().map(|()| AZURE_DPS_OK))
}

/// A text. See the header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct azure_dps_str {
    /// The first byte.
    pub ptr: *const c_char,
    /// The length in bytes.
    pub len: usize,
}

/// Bytes. See the header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct azure_dps_bytes {
    /// The first byte.
    pub ptr: *const u8,
    /// The length.
    pub len: usize,
}

impl azure_dps_str {
    /// No text: not even an empty one.
    pub(crate) const NONE: Self = Self { ptr: core::ptr::null(), len: 0 };

    /// The text. A NULL pointer of length 0 is the empty text.
    ///
    /// # Safety
    /// The pointer is NULL or valid for reads of `len` bytes, which do not change during `'a`.
    pub(crate) unsafe fn read<'a>(self) -> Result<&'a str, Failure> {
        // SAFETY: the caller's promise.
        unsafe { read_text(self.ptr.cast(), self.len) }.ok_or(Failure::ARGUMENT)
    }
}

/// Returns `None` if the text is not valid. An `Option` of a text fits in two registers, a `Result` does not.
///
/// # Safety
/// As for [`azure_dps_str::read`].
#[inline(never)]
unsafe fn read_text<'a>(ptr: *const c_void, len: usize) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    str::from_utf8(unsafe { bytes(ptr, len).ok()? }).ok()
}

#[cfg(any(feature = "csr", feature = "tpm"))]
impl azure_dps_bytes {
    /// The bytes. A NULL pointer of length 0 is none.
    ///
    /// # Safety
    /// As for [`azure_dps_str::read`].
    #[cfg(any(feature = "tpm", feature = "csr"))]
    pub(crate) unsafe fn read<'a>(self) -> Result<&'a [u8], Failure> {
        // SAFETY: the caller's promise.
        unsafe { bytes(self.ptr.cast(), self.len) }
    }
}

impl From<&str> for azure_dps_str {
    fn from(text: &str) -> Self {
        Self { ptr: text.as_ptr().cast(), len: text.len() }
    }
}

/// Converts a text that is known to be UTF-8, without a check.
impl From<&[u8]> for azure_dps_str {
    fn from(text: &[u8]) -> Self {
        Self { ptr: text.as_ptr().cast(), len: text.len() }
    }
}

impl From<&[u8]> for azure_dps_bytes {
    fn from(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }
}

/// Bytes that C passes as pointer and length.
///
/// # Safety
/// The pointer is NULL or valid for reads of `len` bytes, which do not change during `'a`.
pub(crate) unsafe fn bytes<'a>(ptr: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    let start = range(ptr, len).ok_or(Failure::ARGUMENT)?;
    // SAFETY: not NULL, not longer than an object can be, and the rest is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(start.as_ptr(), len) })
}

/// A buffer that C passes as pointer and size.
///
/// # Safety
/// The pointer is NULL or valid for reads and writes of `size` bytes, which nobody else uses during `'a`.
pub(crate) unsafe fn buffer<'a>(ptr: *mut c_void, size: usize) -> Result<&'a mut [u8], Failure> {
    let start = range(ptr, size).ok_or(Failure::ARGUMENT)?;
    // SAFETY: not NULL, not longer than an object can be, and the rest is the caller's promise. Bytes that C
    // has not written yet are not read: the library writes a buffer before it reads from it.
    Ok(unsafe { slice::from_raw_parts_mut(start.as_ptr(), size) })
}

/// Returns the start of a range. Returns `None` if it is NULL or longer than an object can be.
#[inline(never)]
fn range(ptr: *const c_void, len: usize) -> Option<NonNull<u8>> {
    if len == 0 {
        return Some(NonNull::dangling());
    }
    NonNull::new(ptr.cast_mut().cast()).filter(|_| isize::try_from(len).is_ok())
}

/// Returns `true` if two ranges overlap.
pub(crate) fn overlap(a: *const c_void, a_len: usize, b: *const c_void, b_len: usize) -> bool {
    // If the second range begins before the first one, the distance wraps to a large number.
    b.addr().wrapping_sub(a.addr()) < a_len || a.addr().wrapping_sub(b.addr()) < b_len
}

/// A structure that C passes by pointer, to be read.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for reads during `'a`.
pub(crate) unsafe fn structure<'a, T>(ptr: *const T) -> Result<&'a T, Failure> {
    if !ptr.is_aligned() {
        return Err(Failure::ARGUMENT);
    }
    // SAFETY: aligned, and the rest is the caller's promise.
    unsafe { ptr.as_ref() }.ok_or(Failure::ARGUMENT)
}

/// A structure that C passes by pointer, to be changed.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for reads and writes, and nobody else uses it during `'a`.
pub(crate) unsafe fn structure_mut<'a, T>(ptr: *mut T) -> Result<&'a mut T, Failure> {
    if !ptr.is_aligned() {
        return Err(Failure::ARGUMENT);
    }
    // SAFETY: aligned, and the rest is the caller's promise.
    unsafe { ptr.as_mut() }.ok_or(Failure::ARGUMENT)
}

/// Structures that C passes as pointer and count. A NULL pointer of count 0 is none.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for reads of `count` structures during `'a`.
pub(crate) unsafe fn structures<'a, T>(ptr: *const T, count: usize) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    let is_object = count.checked_mul(size_of::<T>()).is_some_and(|len| isize::try_from(len).is_ok());
    if ptr.is_null() || !ptr.is_aligned() || !is_object {
        return Err(Failure::ARGUMENT);
    }
    // SAFETY: aligned, not NULL, not longer than an object can be, and the rest is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(ptr, count) })
}

/// Writes a structure, or a number, for C.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for writes.
pub(crate) unsafe fn put<T>(ptr: *mut T, value: T) -> Result<(), Failure> {
    if ptr.is_null() || !ptr.is_aligned() {
        return Err(Failure::ARGUMENT);
    }
    // SAFETY: aligned and not NULL, and the rest is the caller's promise.
    unsafe { ptr.write(value) };
    Ok(())
}

/// Does what [`put`] does, for an optional output.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for writes.
pub(crate) unsafe fn put_if_wanted<T>(ptr: *mut T, value: T) {
    // SAFETY: the caller's promise. If the pointer is NULL, C does not want the output.
    let _ = unsafe { put(ptr, value) };
}

/// The buffer of a function that writes, and the place for the length.
pub(crate) struct Out<'b> {
    buffer: &'b mut [u8],
    /// A text ends with a zero byte.
    is_text: bool,
    len: *mut usize,
}

impl<'b> Out<'b> {
    /// The buffer of a function that writes bytes.
    ///
    /// # Safety
    /// `ptr` as for [`buffer`]; `len` is NULL, not aligned, or valid for writes during `'b`.
    pub(crate) unsafe fn bytes(ptr: *mut c_void, size: usize, len: *mut usize) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        Ok(Self { buffer: unsafe { buffer(ptr, size)? }, is_text: false, len })
    }

    /// The buffer of a function that writes a text.
    ///
    /// # Safety
    /// As for [`Out::bytes`].
    pub(crate) unsafe fn text(ptr: *mut c_char, size: usize, len: *mut usize) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        Ok(Self { buffer: unsafe { buffer(ptr.cast(), size)? }, is_text: true, len })
    }

    /// The buffer to write into.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let len = self.buffer.len().saturating_sub(self.is_text.into());
        self.buffer.get_mut(..len).unwrap_or_default()
    }

    /// Writes the length for C: of the output in [`room`](Self::room), or the required size of the buffer. Adds a
    /// zero byte to a text.
    #[inline(never)]
    pub(crate) fn finish(self, written: Result<usize, Error>) -> Result<(), Failure> {
        let (len, is_written) = match written {
            Ok(len) => (len, true),
            Err(Error::BufferTooSmall(BufferTooSmall { needed, .. })) => (needed, false),
            Err(error) => return Err(failure_of(&error)),
        };
        let needed = len.saturating_add(self.is_text.into());
        // The text may fit, but not its zero byte.
        let fits = is_written && needed <= self.buffer.len();
        if fits
            && self.is_text
            && let Some(end) = self.buffer.get_mut(len)
        {
            *end = 0;
        }
        // SAFETY: the promise of `bytes` and `text`.
        unsafe { put_if_wanted(self.len, if fits { len } else { needed }) };
        if fits { Ok(()) } else { Err(Failure::of(AZURE_DPS_ERR_BUFFER_TOO_SMALL)) }
    }
}

/// Copies bytes into a buffer if they fit, and returns their number.
pub(crate) fn copy(from: &[u8], room: &mut [u8]) -> usize {
    if let Some(place) = room.get_mut(..from.len()) {
        place.copy_from_slice(from);
    }
    from.len()
}

/// Copies a text. See the header.
///
/// # Safety
/// `str` is as many bytes as it says, `buffer` `size` others; `len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn azure_dps_str_copy(
    str: azure_dps_str,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        // The text need not be UTF-8 here.
        let text = bytes(str.ptr.cast(), str.len)?;
        if overlap(str.ptr.cast(), str.len, buffer.cast(), size) {
            return Err(Failure::ARGUMENT);
        }
        let mut out = Out::text(buffer, size, len)?;
        let written = copy(text, out.room());
        out.finish(Ok(written))
    })
}

/// A value in a handle of C: a client, a key or a reprovisioning.
pub(crate) trait Guarded: Sized {
    /// The structure of the header, whose memory holds a `Handle<Self>`.
    type Memory;
    /// A number for each kind of handle.
    const KIND: u8;
    /// The header's structure is large enough and aligned. Evaluated by [`place`].
    const FITS: () = assert!(
        size_of::<Handle<Self>>() <= size_of::<Self::Memory>()
            && align_of::<Handle<Self>>() <= align_of::<u64>()
            && align_of::<Self::Memory>() == align_of::<u64>()
    );
}

/// The layout of a handle's memory.
///
/// The magic is a number mixed with [`Guarded::KIND`] and the handle's address. It is different in memory that was not
/// initialized, was copied, moved or wiped, or is in use by a callback. The magic is accessed through a raw pointer
/// only, and references point to the value only. So the magic may be read while a callback runs.
#[repr(C)]
pub(crate) struct Handle<T> {
    magic: u32,
    value: T,
}

impl<T: Guarded> Handle<T> {
    /// Finds the handle in memory of C.
    ///
    /// # Safety
    /// The pointer is NULL, not aligned, or valid for reads of the whole memory.
    #[inline]
    unsafe fn find(memory: *const T::Memory) -> Result<*mut Self, Failure> {
        const { T::FITS };
        // SAFETY: the caller's promise. The magic is within the memory (`FITS`).
        unsafe { find(memory.cast(), T::KIND)? };
        Ok(memory.cast_mut().cast())
    }
}

/// Returns the magic of a handle at this address.
fn magic(kind: u8, address: *const u32) -> u32 {
    let address = address.addr() as u64;
    0x7370_6400 ^ u32::from(kind) ^ address as u32 ^ (address >> 32) as u32
}

/// # Safety
/// The pointer is NULL, not aligned, or valid for reads of the magic.
#[inline(never)]
unsafe fn find(memory: *const u32, kind: u8) -> Result<(), Failure> {
    check_place(memory)?;
    // SAFETY: aligned, not NULL, and the rest is the caller's promise.
    let found = unsafe { memory.read() };
    if found == magic(kind, memory) { Ok(()) } else { Err(Failure::HANDLE) }
}

/// Checks that a pointer can be a handle.
#[inline(never)]
fn check_place(memory: *const u32) -> Result<(), Failure> {
    // The memory of every handle is an array of `u64`.
    match memory.cast::<u64>() {
        memory if memory.is_null() => Err(Failure::ARGUMENT),
        memory if !memory.is_aligned() => Err(Failure::HANDLE),
        _ => Ok(()),
    }
}

/// The value of a handle, to read.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for reads of the whole memory, which nobody writes during `'h`.
pub(crate) unsafe fn get<'h, T: Guarded + 'h>(memory: *const T::Memory) -> Result<&'h T, Failure> {
    // SAFETY: the caller's promise.
    let this = unsafe { Handle::<T>::find(memory)? };
    // SAFETY: with its magic in place, the value is initialized. The rest is the caller's promise.
    Ok(unsafe { &(*this).value })
}

/// The value of a handle, to change.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for reads and writes of the whole memory, which nobody else uses
/// during `'h`. No callback may be called during `'h`: see [`enter`].
pub(crate) unsafe fn get_mut<'h, T: Guarded + 'h>(memory: *mut T::Memory) -> Result<&'h mut T, Failure> {
    // SAFETY: the caller's promise.
    let this = unsafe { Handle::<T>::find(memory)? };
    // SAFETY: with its magic in place, the value is initialized. The rest is the caller's promise.
    Ok(unsafe { &mut (*this).value })
}

/// Writes a text of a handle's value for C. `write` writes the text and returns its length.
///
/// `write` is a function pointer, so that all texts of a kind of handle share this code.
///
/// # Safety
/// `memory` as for [`get`], the others as for [`Out::text`].
#[inline(never)]
pub(crate) unsafe fn write_text<T: Guarded>(
    memory: *const T::Memory,
    buffer: *mut c_char,
    size: usize,
    len: *mut usize,
    write: fn(&T, &mut [u8]) -> Result<usize, Error>,
) -> azure_dps_result {
    // SAFETY: the caller's promise.
    outcome(|| unsafe {
        let value = get::<T>(memory)?;
        let mut out = Out::text(buffer, size, len)?;
        let written = write(value, out.room());
        out.finish(written)
    })
}

/// The value of a handle while callbacks run. Until this is dropped, other calls with the handle fail.
pub(crate) struct InUse<T: Guarded>(*mut Handle<T>);

/// Removes the magic of a handle while callbacks run.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for reads and writes of the whole memory, which nobody else uses,
/// except to read the magic, until the result is dropped.
pub(crate) unsafe fn enter<T: Guarded>(memory: *mut T::Memory) -> Result<InUse<T>, Failure> {
    // SAFETY: the caller's promise.
    let this = unsafe { Handle::<T>::find(memory)? };
    // SAFETY: found, so valid; nobody else writes to it.
    unsafe { (&raw mut (*this).magic).write(0) };
    Ok(InUse(this))
}

impl<T: Guarded> Deref for InUse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `enter` found the value, and nobody else uses it.
        unsafe { &(*self.0).value }
    }
}

impl<T: Guarded> DerefMut for InUse<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `enter` found the value, and nobody else uses it.
        unsafe { &mut (*self.0).value }
    }
}

impl<T: Guarded> Drop for InUse<T> {
    fn drop(&mut self) {
        // SAFETY: `enter` found the handle, and nobody else writes to it.
        unsafe { set_magic(self.0.cast(), T::KIND) };
    }
}

/// Returns the place for a value in the memory of a handle. The memory is not a handle until [`mark`].
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for writes of the whole memory, which nobody else uses.
pub(crate) unsafe fn place<T: Guarded>(memory: *mut T::Memory) -> Result<*mut T, Failure> {
    const { T::FITS };
    check_place(memory.cast())?;
    let this = memory.cast::<Handle<T>>();
    // SAFETY: aligned, not NULL, and within the memory (`FITS`).
    unsafe {
        (&raw mut (*this).magic).write(0);
        Ok(&raw mut (*this).value)
    }
}

/// Turns memory into a handle, after its [`place`] was written.
///
/// # Safety
/// `place` returned a pointer for this memory, and a value was written there.
pub(crate) unsafe fn mark<T: Guarded>(memory: *mut T::Memory) {
    // SAFETY: `place` has checked the pointer.
    unsafe { set_magic(memory.cast(), T::KIND) };
}

/// # Safety
/// The handle is valid for writes.
#[inline(never)]
unsafe fn set_magic(memory: *mut u32, kind: u8) {
    // SAFETY: the caller's promise. The magic is the first member.
    unsafe { memory.write(magic(kind, memory)) };
}

/// Drops the value of a handle. The memory is not a handle afterwards. Does nothing if it was not a handle.
///
/// # Safety
/// The pointer is NULL, not aligned, or valid for reads and writes of the whole memory, which nobody else uses.
pub(crate) unsafe fn release<T: Guarded>(memory: *mut T::Memory) {
    // SAFETY: the caller's promise. A handle that was found has a value, and it is dropped once, since the
    // magic is gone.
    unsafe {
        if let Ok(this) = Handle::<T>::find(memory) {
            (&raw mut (*this).magic).write(0);
            (&raw mut (*this).value).drop_in_place();
        }
    }
}
