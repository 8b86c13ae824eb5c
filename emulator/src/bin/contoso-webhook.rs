//! `contoso-webhook`: the tutorial's custom allocation function as a program.

#![forbid(unsafe_code)]

use std::{fs, num::NonZeroU32, path::PathBuf, process::ExitCode};

use azure_dps_emulator::{
    console::{self, Console, Signals, log_time, printable},
    contoso::{ContosoOptions, Webhook},
    listening_address,
};
use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  Start the webhook on a fixed port, then an emulator that calls it:
      contoso-webhook --listen 127.0.0.1:7071
      dps-emulator --webhook http://127.0.0.1:7071/api/HttpTrigger1
  Require a function key. Callers send it as ?code=KEY:
      CONTOSO_FUNCTION_KEY=… contoso-webhook --listen 127.0.0.1:7071

Exit codes:
  0  stopped by Ctrl-C or SIGTERM
  1  the webhook could not start
  2  the command line is wrong";

/// The custom allocation function of Microsoft's tutorial, as a web server.
#[derive(Parser)]
#[command(name = "contoso-webhook", version, after_help = EXAMPLES, max_term_width = 80)]
struct Arguments {
    /// Listen on this address. Port 0 takes a free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = listening_address)]
    listen: String,
    /// Answer 401 to callers without this key. Prefer the environment or a file: every user of the machine can read the
    /// command line
    #[arg(long, value_name = "KEY", env = "CONTOSO_FUNCTION_KEY", hide_env_values = true)]
    function_key: Option<String>,
    /// Read the function key from this file
    #[arg(long, value_name = "FILE", conflicts_with = "function_key")]
    function_key_file: Option<PathBuf>,
    /// Return a payload to the device, as in Microsoft's concept document
    #[arg(long)]
    return_payload: bool,
    /// Choose the hub by deviceModel or modelId in the device's payload, not by the registration ID
    #[arg(long)]
    by_model: bool,
    /// Answer every N-th call with 429
    #[arg(long, value_name = "N")]
    throttle_every: Option<NonZeroU32>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("contoso-webhook: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let function_key = match &arguments.function_key_file {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(text.trim_end().to_owned())
        }
        None => arguments.function_key,
    };
    let options = ContosoOptions {
        return_payload: arguments.return_payload,
        by_model: arguments.by_model,
        function_key,
        throttle_every: arguments.throttle_every,
    };
    console::allow_many_connections();
    let signals = Signals::catch().map_err(|error| error.to_string())?;
    let console = Console::start().map_err(|error| error.to_string())?;
    let printer = console.printer();
    let webhook = Webhook::start_with_log(&arguments.listen, options, move |line| {
        printer.line(format!("{} [Information] {}", log_time(), printable(line)));
    })
    .map_err(|error| format!("--listen: cannot listen on {}: {error}", arguments.listen))?;
    console.printer().line(format!("listening on {}", webhook.url()));
    signals.wait();
    drop(webhook);
    console.finish();
    Ok(())
}
