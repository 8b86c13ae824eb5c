//! Provisions many devices of an enrollment group at the same time, to test a deployment: the service, its allocation
//! webhook, and each device.
//!
//! ```text
//! cargo run --example fleet -- --help
//! ```

mod cli;
mod device;
mod hub;
#[path = "../gateway/ids.rs"]
mod ids;
#[allow(dead_code, reason = "the example `gateway` uses more of it")]
#[path = "../gateway/input.rs"]
mod input;
mod report;
#[allow(dead_code, reason = "the example `gateway` uses more of it")]
#[path = "../gateway/values.rs"]
mod values;

use std::{
    future::pending,
    io::{self, Write},
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
    time::{Instant, sleep_until},
};

use crate::{
    cli::{Cli, usage_error},
    device::{Fleet, Identity, Outcome},
    hub::{Hold, Stay},
    report::Report,
};

fn main() -> ExitCode {
    // Fails if the process already has a provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Each device needs an open connection. The usual limit of a shell is 1024 files.
    let _ = rlimit::increase_nofile_limit(u64::MAX);

    let args = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| usage_error(error));
    let report = LocalSet::new().block_on(&runtime, run(&args));
    // A DNS query that is still running must not delay the end.
    runtime.shutdown_background();
    let printed = match args.json {
        true => serde_json::to_string(&report).map_err(io::Error::from),
        false => Ok(report.text()),
    };
    match printed.and_then(|text| writeln!(io::stdout(), "{text}")) {
        Ok(()) => ExitCode::from(report.exit_code()),
        Err(error) => {
            eprintln!("error: cannot write the result: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the fleet. An error in the command line ends the program here.
async fn run(args: &Cli) -> Report {
    let ids = args.registration_ids().unwrap_or_else(|error| usage_error(error));
    let first = ids.first().map_or("", |id| id);
    let fleet = Rc::new(Fleet::new(args, first).await.unwrap_or_else(|error| usage_error(error)));
    let mut report = Report::new(&ids);
    let started = Instant::now();
    let provision = |id: Rc<str>| {
        let fleet = Rc::clone(&fleet);
        async move { fleet.provision(&id).await }
    };
    crowd(args, "Provisioning", args.concurrency(), &ids, provision, |at, outcome| report.add(at, outcome)).await;
    report.finish(started.elapsed());
    if args.verify && !report.is_interrupted() {
        let assigned: Vec<usize> = report.assigned().collect();
        let ids: Vec<_> = assigned.iter().map(|&at| Rc::clone(&ids[at])).collect();
        let look_up = |id: Rc<str>| {
            let fleet = Rc::clone(&fleet);
            async move { fleet.look_up(&id).await }
        };
        let compare = |at: usize, outcome| report.compare(assigned[at], outcome);
        crowd(args, "Looking up", args.concurrency(), &ids, look_up, compare).await;
        report.finish_verification();
    }
    if args.connect && !report.is_interrupted() {
        let assigned: Vec<(usize, Identity)> = report.identities().map(|(at, id)| (at, id.clone())).collect();
        let places: Vec<usize> = assigned.iter().map(|(at, _)| *at).collect();
        let hold = Rc::new(Hold::new(assigned.len(), args.concurrency(), args.hold()));
        let stay = |(at, identity): (usize, Identity)| {
            let (fleet, hold, id) = (Rc::clone(&fleet), Rc::clone(&hold), Rc::clone(&ids[at]));
            async move { fleet.stay(&id, &identity, &hold).await }
        };
        let add = |at: usize, stay| report.add_stay(places[at], stay);
        // All devices are connected at the same time.
        crowd(args, "At the hubs", None, &assigned, stay, add).await;
        report.finish_connection(hold.settled_after());
    }
    report
}

/// The result of a job.
trait Ended {
    fn has_failed(&self) -> bool;
}

impl Ended for Outcome {
    fn has_failed(&self) -> bool {
        self.result.is_err()
    }
}

impl Ended for Stay {
    fn has_failed(&self) -> bool {
        self.error.is_some()
    }
}

/// Runs `job` for each device, within the limits of the command line on concurrency and rate. Returns when all jobs
/// have ended, or after Ctrl-C.
async fn crowd<D: Clone, O: Ended + 'static, F: Future<Output = O> + 'static>(
    args: &Cli,
    what: &'static str,
    concurrency: Option<usize>,
    devices: &[D],
    job: impl Fn(D) -> F,
    mut done: impl FnMut(usize, O),
) {
    let progress = progress_bar(args, what, devices.len());
    let slots = Arc::new(Semaphore::new(concurrency.unwrap_or(devices.len())));
    let pause = args.rate().map_or(Duration::ZERO, |per_minute| Duration::from_secs(60) / per_minute);
    let (mut turn, mut running) = (Instant::now(), JoinSet::new());
    for (at, device) in devices.iter().enumerate() {
        let (job, slots, begin) = (job(device.clone()), Arc::clone(&slots), turn);
        turn += pause;
        running.spawn_local(async move {
            sleep_until(begin).await;
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            (at, job.await)
        });
    }
    // If the program cannot catch Ctrl-C, Ctrl-C ends the program as usual.
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    };
    tokio::pin!(interrupted);
    let mut failed = 0;
    loop {
        let joined = tokio::select! {
            joined = running.join_next() => joined,
            () = &mut interrupted => None,
        };
        match joined {
            Some(Ok((at, outcome))) => {
                failed += usize::from(outcome.has_failed());
                if failed > 0 {
                    progress.set_message(format!("{failed} failed"));
                }
                progress.inc(1);
                done(at, outcome);
            }
            // A device that panicked counts as unfinished.
            Some(Err(_)) => {}
            None => break,
        }
    }
    progress.finish_and_clear();
}

/// Shows progress on standard error, if standard error is a terminal.
fn progress_bar(args: &Cli, what: &'static str, devices: usize) -> ProgressBar {
    if args.quiet || args.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len}, {per_sec}, {elapsed} {msg}");
    let progress = ProgressBar::new(devices as u64).with_prefix(what);
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}
