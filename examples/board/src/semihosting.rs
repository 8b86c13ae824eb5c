//! Services of a debugger or of QEMU: a command line, files, the time, a console, an exit code. A product uses flash, an
//! RTC and a UART instead.

use core::ffi::CStr;

use cortex_m_semihosting::{nr, syscall};
use heapless::CString;

/// Ends the program with an exit code. `nr` does not have this number.
const EXIT_EXTENDED: usize = 0x20;
/// The reason with which the host uses the exit code.
const APPLICATION_EXIT: usize = 0x20026;

/// The longest path, and the zero byte at its end.
const PATH: usize = 256;

/// Returns the command line, without the zero byte at its end.
pub fn command_line(buffer: &mut [u8]) -> Option<&str> {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: the host writes to `buffer` within its length, and writes the length to the block.
    let result = unsafe { cortex_m_semihosting::syscall1(nr::GET_CMDLINE, &raw mut block as usize) };
    if result != 0 {
        return None;
    }
    CStr::from_bytes_until_nul(buffer).ok()?.to_str().ok()
}

/// Returns the seconds since 1970.
pub fn unix_time() -> u32 {
    // SAFETY: this call has no argument.
    unsafe { cortex_m_semihosting::syscall1(nr::TIME, 0) as u32 }
}

/// Ends the program. The code becomes QEMU's exit code.
pub fn exit(code: u8) -> ! {
    // SAFETY: the host reads the block and ends the program.
    unsafe { syscall(EXIT_EXTENDED, &[APPLICATION_EXIT, usize::from(code)]) };
    loop {
        cortex_m::asm::wfi();
    }
}

/// A file on the host.
pub struct File(usize);

impl File {
    /// Opens a file for reading.
    pub fn open(path: &str) -> Option<Self> {
        Self::open_as(path, nr::open::R_BINARY)
    }

    /// Opens a file for reading and writing.
    #[cfg(feature = "flash")]
    pub fn update(path: &str) -> Option<Self> {
        Self::open_as(path, nr::open::RW_BINARY)
    }

    fn open_as(path: &str, mode: usize) -> Option<Self> {
        let mut terminated = CString::<PATH>::new();
        terminated.extend_from_bytes(path.as_bytes()).ok()?;
        let path = terminated.as_c_str();
        let block = [path.as_ptr() as usize, mode, path.count_bytes()];
        // SAFETY: the host reads the path, within its length.
        let handle = unsafe { syscall(nr::OPEN, &block) };
        (handle as isize > 0).then_some(Self(handle))
    }

    /// Reads until the buffer is full or the file ends, and returns the number of bytes.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let block = [self.0, buffer.as_mut_ptr() as usize, buffer.len()];
        // SAFETY: the host writes to `buffer`, within its length.
        let unread = unsafe { syscall(nr::READ, &block) };
        buffer.len().saturating_sub(unread)
    }

    /// Does what [`File::read`] does, from this offset.
    #[cfg(feature = "flash")]
    pub fn read_at(&mut self, offset: usize, buffer: &mut [u8]) -> usize {
        if self.seek(offset) { self.read(buffer) } else { 0 }
    }

    /// Writes from this offset, and returns the number of bytes.
    #[cfg(feature = "flash")]
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> usize {
        if !self.seek(offset) {
            return 0;
        }
        let block = [self.0, bytes.as_ptr() as usize, bytes.len()];
        // SAFETY: the host reads `bytes`, within their length.
        let unwritten = unsafe { syscall(nr::WRITE, &block) };
        bytes.len().saturating_sub(unwritten)
    }

    #[cfg(feature = "flash")]
    fn seek(&mut self, offset: usize) -> bool {
        // SAFETY: the host only reads the block.
        unsafe { syscall(nr::SEEK, &[self.0, offset]) == 0 }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and not used again.
        unsafe { syscall(nr::CLOSE, &self.0) };
    }
}
