//! Uses the library's modules together with the crates whose traits they use, without `::`.

use azure_dps::{blocking, https};
use embedded_io::{Error, Read};
use minreq::Method;

/// Reads a byte from a stream of the library's connector.
pub fn first_byte(connector: &mut impl blocking::Connect, deadline: std::time::Duration) -> Option<u8> {
    let mut stream = connector.connect(deadline).ok()?;
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(read) => (read == 1).then_some(byte[0]),
        Err(error) => {
            let _ = error.kind();
            None
        }
    }
}

pub fn is_a_get(method: &Method) -> bool {
    matches!(method, Method::Get)
}

pub fn reason(error: &https::Error) -> String {
    error.to_string()
}
