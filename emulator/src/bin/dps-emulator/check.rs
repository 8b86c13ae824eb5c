//! `--check`: the findings in the configuration.

use azure_dps_emulator::{Finding, console::printable};
use serde_json::json;
use std::io::{self, Write};

use crate::{arguments::Output, colour::Paint, configuration::Configuration, failure::Failure};

/// Prints all findings. Without `--json`, also prints their number.
pub(crate) fn report(configuration: &Configuration, output: &Output) -> Result<(), Failure> {
    // A reader such as `head` may close the pipe. The exit code stays the same.
    let _ = print(configuration, output);
    if configuration.has_errors() { Err(Failure::checked()) } else { Ok(()) }
}

fn print(configuration: &Configuration, output: &Output) -> io::Result<()> {
    let paint = Paint::of_output(output);
    let mut out = io::stdout().lock();
    for finding in &configuration.findings {
        if output.json {
            writeln!(out, "{}", json!({ "finding": finding, "file": configuration.file }))?;
        } else {
            writeln!(out, "{}", paint.finding(finding, &printable(&configuration.line(finding))))?;
        }
    }
    let (errors, warnings): (Vec<_>, Vec<_>) = configuration.findings.iter().partition(|finding| finding.is_error());
    if !output.json {
        let name = configuration.file.as_deref().unwrap_or("the built-in configuration");
        let verdict = if errors.is_empty() { "can be used" } else { "cannot be used" };
        writeln!(
            out,
            "{}",
            printable(&format!("{name} {verdict}: {}, {}", count(&errors, "error"), count(&warnings, "warning")))
        )?;
    }
    Ok(())
}

fn count(findings: &[&Finding], name: &str) -> String {
    match findings.len() {
        0 => format!("no {name}s"),
        1 => format!("1 {name}"),
        number => format!("{number} {name}s"),
    }
}
