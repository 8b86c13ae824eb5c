//! Where the record is kept: the first sector of the board's flash. If the power is lost during a
//! write, the next boot finds a torn record, and asks the service again. For a store that has the old
//! record then, see the firmware on embassy.

use azure_dps::after::Record;
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use mps2_an385::{Flash, println};

const WORD: usize = Flash::WRITE_SIZE;

pub struct Store(pub Flash);

impl Store {
    /// Reads as much as there is of a record into `buffer`, for [`Record::read`] to check.
    pub fn read(&mut self, buffer: &mut [u8]) {
        let mut header = [0; Record::HEADER_LEN];
        let len = self.0.read(0, &mut header).ok().and_then(|()| Record::len(&header));
        // A length that is not one of a record's leaves the buffer without a record.
        let place = len.and_then(|len| buffer.get_mut(..len)).unwrap_or_default();
        if self.0.read(0, place).is_err() {
            place.fill(0);
        }
    }

    /// Writes a record. A device whose flash fails has its hub all the same, until the next boot.
    pub fn write(&mut self, record: &[u8]) {
        let (words, rest) = record.as_chunks::<WORD>();
        let mut last = [0xff; WORD];
        last[..rest.len()].copy_from_slice(rest);
        let (sector, end) = (Flash::ERASE_SIZE as u32, words.as_flattened().len() as u32);
        let written = self.0.erase(0, sector).and_then(|()| self.0.write(0, words.as_flattened()));
        if let Err(error) = written.and_then(|()| self.0.write(end, &last)) {
            println!("the record is not kept: {:?}", error);
        }
    }
}
