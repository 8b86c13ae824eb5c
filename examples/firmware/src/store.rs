//! Keeps the record in the first sector of the board's flash. If the power fails during a write, the next boot finds a
//! damaged record and asks the service again. The store of the firmware on embassy has the old record in this case.

use azure_dps::after::Record;
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use mps2_an385::{Flash, println};

const WORD: usize = Flash::WRITE_SIZE;

pub struct Store(pub Flash);

impl Store {
    /// Reads the record into `buffer`. [`Record::read`] checks it.
    pub fn read(&mut self, buffer: &mut [u8]) {
        let mut header = [0; Record::HEADER_LEN];
        let len = self.0.read(0, &mut header).ok().and_then(|()| Record::len(&header));
        // If the length is impossible, the buffer holds no record.
        let place = len.and_then(|len| buffer.get_mut(..len)).unwrap_or_default();
        if self.0.read(0, place).is_err() {
            place.fill(0);
        }
    }

    /// Writes a record. If the flash fails, the device still has its hub until the next boot.
    pub fn write(&mut self, record: &[u8]) {
        let (words, rest) = record.as_chunks::<WORD>();
        let mut last = [0xff; WORD];
        last[..rest.len()].copy_from_slice(rest);
        let (sector, end) = (Flash::ERASE_SIZE as u32, words.as_flattened().len() as u32);
        let written = self.0.erase(0, sector).and_then(|()| self.0.write(0, words.as_flattened()));
        if let Err(error) = written.and_then(|()| self.0.write(end, &last)) {
            println!("the record is not stored: {:?}", error);
        }
    }
}
