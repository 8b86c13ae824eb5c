//! `--check-health`: asks a running emulator whether it is ready. The health check of a container needs this option,
//! because the container has no shell and no other program.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use crate::{arguments::Control, control, failure::Failure};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A limit above the size of any answer.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Asks the emulator whose control API is at this address. The answer comes after all listeners are open.
pub(crate) fn check(address: &str, flags: &Control) -> Result<(), Failure> {
    let token = control::token(flags)?;
    let answer = ask(address, token.as_deref());
    let answer = answer.map_err(|error| Failure::start(format!("no answer from {address}: {error}")))?;
    let status_line = answer.lines().next().unwrap_or_default();
    match status_line.starts_with("HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(Failure::start(format!("{address} is not a healthy emulator: {status_line:?}"))),
    }
}

fn ask(address: &str, token: Option<&str>) -> io::Result<String> {
    let addresses = address.to_socket_addrs()?;
    let connected = addresses.map(|address| TcpStream::connect_timeout(&address, TIMEOUT));
    let mut stream = connected.reduce(Result::or).unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let request =
        format!("GET /_emulator/health HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
