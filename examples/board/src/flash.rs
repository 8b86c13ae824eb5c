//! A NOR flash, whose bytes are in a file on the host: they stay when QEMU ends, as a flash's stay without power.
//!
//! It is as strict as any that it stands for: words of 8 bytes, each programmed once after an erasure (STM32), and
//! sectors of 4 KiB (RP2040, ESP32). Behind the sectors the file has, for whoever tests, how often each of them was
//! erased: a `u32` each.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use crate::{exit, println, semihosting::File};

const WORD: usize = 8;
const SECTOR: usize = 4096;
const SECTORS: usize = 4;

/// QEMU's exit code when the power is lost.
const POWER_LOST: u8 = 99;

pub struct Flash {
    file: File,
    /// How many words and sectors are still changed before the power is lost.
    changes_left: Option<u32>,
}

impl Flash {
    pub const SIZE: usize = SECTORS * SECTOR;

    /// A flash in this file, which has its size. `None` if there is no such file.
    pub fn open(path: &str, power_loss_after: Option<u32>) -> Option<Self> {
        Some(Self { file: File::update(path)?, changes_left: power_loss_after })
    }

    /// Writes to the file. If the power is lost meanwhile, half of it arrives, and the program ends.
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

/// What a flash refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// An address or a length that the flash has not.
    Address(NorFlashErrorKind),
    /// A word that was programmed before, and not erased since.
    NotErased,
    /// The file is gone.
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
