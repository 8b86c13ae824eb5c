//! The output: the listeners at start, then a line for each event.

use azure_dps_emulator::{
    Emulator, Event, Finding,
    console::{self, Printer, printable},
};
use serde_json::json;

use crate::{arguments::Output, bodies, colour::Paint, configuration::Configuration};

/// The emulator's name for the listener of the control API.
const CONTROL: &str = "control";

/// Prints in the format of the command line.
#[derive(Clone)]
pub(crate) struct Lines {
    printer: Printer,
    paint: Paint,
    is_json: bool,
    is_verbose: bool,
}

impl Lines {
    pub(crate) fn new(printer: Printer, output: &Output) -> Self {
        Self { printer, paint: Paint::of_output(output), is_json: output.json, is_verbose: output.verbose }
    }

    /// Prints a line for each listener. Without `--json`, also prints the hubs and the other services.
    pub(crate) fn announce(&self, emulator: &Emulator, hubs: &[String], about: &str) {
        for (listener, url) in emulator.listeners() {
            if self.is_json {
                self.printer.line(json!({ "listener": listener, "url": url }).to_string());
            } else if listener != CONTROL {
                self.printer.line(format!("listening on {url}"));
            }
        }
        if let Some(connection_string) = emulator.service_connection_string() {
            self.printer.line(if self.is_json {
                json!({ "service": { "connectionString": connection_string } }).to_string()
            } else {
                format!("service API: {connection_string}")
            });
        }
        if !self.is_json {
            if !hubs.is_empty() {
                self.printer.line(printable(&named(hubs)));
            }
            self.printer.line(about);
            if let Some(webhook) = emulator.contoso() {
                self.printer.line(format!("Contoso webhook at {}", webhook.url()));
            }
        }
    }

    /// Prints the last line at start: the address of the page. Not with `--json`.
    pub(crate) fn control_url(&self, emulator: &Emulator) {
        if let Some(url) = emulator.control_url().filter(|_| !self.is_json) {
            self.printer.line(format!("control page at {url}/"));
        }
    }

    /// Prints a warning about the configuration.
    pub(crate) fn warning(&self, configuration: &Configuration, warning: &Finding) {
        self.printer.line(if self.is_json {
            json!({ "warning": warning.to_string() }).to_string()
        } else {
            self.paint.finding(warning, &printable(&configuration.line(warning)))
        });
    }

    /// Prints a warning about how the emulator was started.
    pub(crate) fn start_warning(&self, warning: &str) {
        self.printer.line(if self.is_json {
            json!({ "warning": warning }).to_string()
        } else {
            printable(&format!("warning: {warning}"))
        });
    }

    pub(crate) fn event(&self, event: &Event) {
        if self.is_json {
            self.printer.line(console::json_line(&json!(event)));
            return;
        }
        let mut lines = self.paint.event(event);
        if self.is_verbose {
            bodies::append(&mut lines, event, self.paint);
        }
        // Printed with one call, so that lines of other events do not come in between.
        self.printer.line(lines);
    }

    /// Prints a line of the Contoso webhook's log.
    pub(crate) fn function(&self, line: &str) {
        self.printer.line(if self.is_json {
            console::json_line(&json!({ "function": line }))
        } else {
            format!("                        func  {}", printable(line))
        });
    }
}

/// Returns the names of the hubs. A long list is shortened.
fn named(hubs: &[String]) -> String {
    /// The names of more hubs make the line long.
    const NAMED: usize = 3;
    let more = hubs.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = hubs[..hubs.len().min(NAMED)].join(", ");
    format!("hubs on the same listeners, over MQTT: {names}{more} (--hosts prints lines for a hosts file)")
}
