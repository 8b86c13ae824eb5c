//! `--hosts`: the lines for a hosts file.

use std::{
    io::{self, Write},
    net::IpAddr,
};

/// Prints a line for each of these hosts that needs one. IP addresses and `localhost` do not.
pub(crate) fn print(names: &[String]) {
    // A reader such as `head` may close the pipe.
    let _ = write(names);
}

fn write(names: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "# dps-emulator: linked hubs and gateway names")?;
    for name in names.iter().filter(|name| *name != "localhost" && name.parse::<IpAddr>().is_err()) {
        writeln!(out, "127.0.0.1 {name}")?;
    }
    out.flush()
}
