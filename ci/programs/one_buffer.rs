//! Writes and reads a record with the buffer that held the answer.

use azure_dps::{Error, Provisioning, Registration, after::Record};

/// The functions of a flash driver.
pub trait Flash {
    fn read(&self, offset: usize, bytes: &mut [u8]);
    fn write(&mut self, offset: usize, bytes: &[u8]);
}

/// Stores the assignment. `buffer` holds the last answer.
pub fn store(provisioning: &Provisioning<'_>, buffer: &mut [u8], flash: &mut impl Flash) -> Result<(), Error> {
    flash.write(0, provisioning.write_record(buffer)?);
    Ok(())
}

/// Reads the record at the next boot: first its header, which contains the length.
pub fn load<'b>(
    registration: &Registration<'_>,
    buffer: &'b mut [u8],
    flash: &impl Flash,
) -> Result<Record<'b>, Error> {
    let mut header = [0; Record::HEADER_LEN];
    flash.read(0, &mut header);
    let len = Record::len(&header).unwrap_or(0).min(buffer.len());
    flash.read(0, &mut buffer[..len]);
    Ok(Record::read(&buffer[..len], registration)?)
}
