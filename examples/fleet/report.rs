//! What became of all of them: for people, for scripts, and as an exit code.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
    time::Duration,
};

use serde::Serialize;

use crate::{device::Outcome, values::printable};

/// Names, and how often each was met.
type Counts = BTreeMap<String, usize>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    devices: usize,
    assigned: usize,
    failed: usize,
    unfinished: usize,
    interrupted: bool,
    seconds: f64,
    devices_per_second: f64,
    latency_seconds: Option<Latency>,
    hubs: Counts,
    errors: Counts,
    retries: Counts,
    connections: u64,
    /// Devices that were given the identity, hub and device ID, of one before them.
    shared_identities: usize,
    verification: Option<Verification>,
    /// By device.
    #[serde(skip)]
    assignments: Vec<Option<(String, String)>>,
    #[serde(skip)]
    latencies: Vec<Duration>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

/// What the service says afterwards of the devices that were assigned.
#[derive(Default, Serialize)]
pub struct Verification {
    same: usize,
    different: usize,
    failed: Counts,
}

impl Report {
    pub fn new(devices: usize) -> Self {
        Self {
            devices,
            assigned: 0,
            failed: 0,
            unfinished: devices,
            interrupted: false,
            seconds: 0.0,
            devices_per_second: 0.0,
            latency_seconds: None,
            hubs: Counts::new(),
            errors: Counts::new(),
            retries: Counts::new(),
            connections: 0,
            shared_identities: 0,
            verification: None,
            assignments: vec![None; devices],
            latencies: Vec::new(),
        }
    }

    /// Counts one more device, which is the one at `at`.
    pub fn add(&mut self, at: usize, outcome: Outcome) {
        self.unfinished -= 1;
        self.connections += u64::from(outcome.connections);
        for retry in outcome.retries {
            *self.retries.entry(retry).or_default() += 1;
        }
        match outcome.result {
            Ok(identity) => {
                self.assigned += 1;
                self.latencies.push(outcome.latency);
                *self.hubs.entry(identity.0.clone()).or_default() += 1;
                self.assignments[at] = Some(identity);
            }
            Err(error) => {
                self.failed += 1;
                *self.errors.entry(error).or_default() += 1;
            }
        }
    }

    pub fn finish(&mut self, took: Duration) {
        self.interrupted = self.unfinished > 0;
        self.seconds = took.as_secs_f64();
        self.devices_per_second = self.assigned as f64 / self.seconds.max(f64::MIN_POSITIVE);
        self.latencies.sort_unstable();
        // The nearest rank: a latency that some device really had.
        let at = |percent: usize| self.latencies[(self.assigned * percent).div_ceil(100).max(1) - 1].as_secs_f64();
        self.latency_seconds =
            (self.assigned > 0).then(|| Latency { p50: at(50), p90: at(90), p99: at(99), max: at(100) });
        let identities: HashSet<_> = self.assignments.iter().flatten().collect();
        self.shared_identities = self.assigned - identities.len();
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Which devices were assigned.
    pub fn assigned(&self) -> impl Iterator<Item = usize> {
        self.assignments.iter().enumerate().filter(|(_, assignment)| assignment.is_some()).map(|(at, _)| at)
    }

    /// Compares what the device at `at` was told with what the service says of it now.
    pub fn compare(&self, verification: &mut Verification, at: usize, outcome: &Outcome) {
        match &outcome.result {
            Ok(identity) if self.assignments[at].as_ref() == Some(identity) => verification.same += 1,
            Ok(_) => verification.different += 1,
            Err(error) => *verification.failed.entry(error.clone()).or_default() += 1,
        }
    }

    pub fn verified(&mut self, verification: Verification) {
        self.interrupted = verification.same + verification.different + total(&verification.failed) < self.assigned;
        self.verification = Some(verification);
    }

    pub fn exit_code(&self) -> u8 {
        let disagrees = self.verification.as_ref().is_some_and(|verification| verification.same < self.assigned);
        match self {
            _ if self.interrupted => 130,
            _ if self.assigned < self.devices => 3,
            _ if disagrees || self.shared_identities > 0 => 4,
            _ => 0,
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!(
            "{} of {} devices assigned in {:.1} s: {:.1} a second\n",
            self.assigned, self.devices, self.seconds, self.devices_per_second
        );
        let mut line = |name: &str, what: String| {
            let _ = writeln!(text, "{name:<12}{what}");
        };
        if self.interrupted {
            line("interrupted", format!("{} devices were not done", self.unfinished));
        }
        if let Some(Latency { p50, p90, p99, max }) = self.latency_seconds {
            line("latency", format!("p50 {p50:.2} s, p90 {p90:.2} s, p99 {p99:.2} s, max {max:.2} s"));
        }
        line("connections", self.connections.to_string());
        for (name, counts) in [("hub", &self.hubs), ("retried", &self.retries), ("failed", &self.errors)] {
            for (what, count) in counts {
                line(name, format!("{count:>6}  {}", printable(what)));
            }
        }
        if self.shared_identities > 0 {
            line("shared", format!("{} devices have the hub and device ID of another one", self.shared_identities));
        }
        if let Some(Verification { same, different, failed }) = &self.verification {
            line("verified", format!("{same} as the service says, {different} otherwise"));
            for (what, count) in failed {
                line("not found", format!("{count:>6}  {}", printable(what)));
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn total(counts: &Counts) -> usize {
    counts.values().sum()
}
