//! A NOR flash with its content in a file on the host. The file stays when QEMU ends, as a flash keeps its content without
//! power.
//!
//! It has the rules of an STM32's flash: words of 8 bytes, each programmed once after an erase, and sectors of 2 KiB. For
//! tests, the end of the file counts the erases of each sector, as a `u32` each.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use crate::{exit, println, semihosting::File};

const WORD: usize = 8;
const SECTOR: usize = 2048;
/// sequential-storage needs at least two. With two, tests see wear after few writes.
const SECTORS: usize = 2;

/// QEMU's exit code when the power fails.
const POWER_LOST: u8 = 99;

pub struct Flash {
    file: File,
    /// The number of words to program and sectors to erase before the power fails.
    changes_left: Option<u32>,
}

impl Flash {
    pub const SIZE: usize = SECTORS * SECTOR;

    /// Opens the flash in this file. Returns `None` if there is no such file.
    pub fn open(path: &str, power_loss_after: Option<u32>) -> Option<Self> {
        Some(Self { file: File::update(path)?, changes_left: power_loss_after })
    }

    /// Programs a word or erases a sector. If the power fails, half of the change is written, and the program ends.
    fn change(&mut self, offset: usize, bytes: &[u8]) -> Result<(), FlashError> {
        let left = self.changes_left;
        let power_lost = left == Some(0);
        self.changes_left = left.map(|left| left.saturating_sub(1));
        let arriving = if power_lost { &bytes[..bytes.len() / 2] } else { bytes };
        if self.file.write_at(offset, arriving) != arriving.len() {
            return Err(FlashError::Broken);
        }
        if power_lost {
            println!("power lost");
            exit(POWER_LOST);
        }
        Ok(())
    }

    fn fetch(&mut self, offset: usize, bytes: &mut [u8]) -> Result<(), FlashError> {
        if self.file.read_at(offset, bytes) == bytes.len() { Ok(()) } else { Err(FlashError::Broken) }
    }

    fn erase_sector(&mut self, sector: usize) -> Result<(), FlashError> {
        let counter = Self::SIZE + sector * size_of::<u32>();
        let mut erasures = [0; size_of::<u32>()];
        self.fetch(counter, &mut erasures)?;
        let erasures = (u32::from_le_bytes(erasures) + 1).to_le_bytes();
        if self.file.write_at(counter, &erasures) != erasures.len() {
            return Err(FlashError::Broken);
        }
        self.change(sector * SECTOR, &[0xff; SECTOR])
    }
}

impl ErrorType for Flash {
    type Error = FlashError;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        check_read(self, offset, bytes.len())?;
        self.fetch(offset as usize, bytes)
    }

    fn capacity(&self) -> usize {
        Self::SIZE
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        check_erase(self, from, to)?;
        (from as usize / SECTOR..to as usize / SECTOR).try_for_each(|sector| self.erase_sector(sector))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        check_write(self, offset, bytes.len())?;
        for (offset, word) in (offset as usize..).step_by(WORD).zip(bytes.chunks(WORD)) {
            let mut before = [0; WORD];
            self.fetch(offset, &mut before)?;
            if before != [0xff; WORD] {
                return Err(FlashError::NotErased);
            }
            self.change(offset, word)?;
        }
        Ok(())
    }
}

/// Why the flash returns an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// The address or the length is wrong.
    Address(NorFlashErrorKind),
    /// The word is not erased.
    NotErased,
    /// The file cannot be read or written.
    Broken,
}

impl From<NorFlashErrorKind> for FlashError {
    fn from(kind: NorFlashErrorKind) -> Self {
        Self::Address(kind)
    }
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Address(kind) => *kind,
            Self::NotErased | Self::Broken => NorFlashErrorKind::Other,
        }
    }
}
