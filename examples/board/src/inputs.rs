//! The inputs of one boot: words of the command line, and files on the host.

use core::str;

use crate::{File, command_line};

pub const USAGE: &str = "\
inputs, as words of the command line:
  id-scope=SCOPE registration-id=ID   the device
  key-file=FILE                       a file on the host with the device key, in base64
  ca=FILE                             a file on the host with the trusted roots, in PEM
  flash=FILE                          a file on the host with the content of the flash
  host=HOST[:PORT]                    the service [default: that of the public cloud]
  address=IPv4                        the service's address [default: from DNS]
  timeout=SECONDS                     the longest time for a run [default: 120]
  time=SECONDS                        the time, since 1970 [default: the host's]";

/// The words of the command line, each `name=value`. An error is the name of an input that is missing or invalid.
pub struct Inputs<'a>(&'a str);

impl<'a> Inputs<'a> {
    pub fn read(buffer: &'a mut [u8]) -> Result<Self, &'static str> {
        command_line(buffer).map(Self).ok_or("the command line")
    }

    pub fn find(&self, name: &str) -> Option<&'a str> {
        self.0.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn text(&self, name: &'static str) -> Result<&'a str, &'static str> {
        self.find(name).ok_or(name)
    }

    /// Reads a text file, which must be shorter than the buffer.
    pub fn file<'b>(&self, name: &'static str, buffer: &'b mut [u8]) -> Result<&'b str, &'static str> {
        let mut file = File::open(self.text(name)?).ok_or(name)?;
        let len = file.read(buffer);
        let text = buffer.get(..len).filter(|_| len < buffer.len()).and_then(|text| str::from_utf8(text).ok());
        text.ok_or(name)
    }

    pub fn number(&self, name: &'static str) -> Result<Option<u32>, &'static str> {
        self.find(name).map(|number| number.parse().map_err(|_| name)).transpose()
    }
}
