//! The outcome of all devices: text, JSON and exit code.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    rc::Rc,
    time::Duration,
};

use serde::Serialize;

use crate::{
    device::{Failure, Identity, Outcome},
    hub::Stay,
    values::printable,
};

/// The text names at most this many devices of each kind, and counts the others.
const NAMED: usize = 20;

/// Names, and how often each occurred.
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
    requests: u64,
    register_requests: u64,
    refused_calls: u64,
    connections: u64,
    /// How many devices got the same hub and device ID as an earlier device.
    shared_identities: usize,
    verification: Option<Verification>,
    connection: Option<Connection>,
    results: Vec<Device>,
}

/// What all devices did at their hubs.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    connected: usize,
    failed: Counts,
    breaks: Counts,
    seconds: f64,
    devices_per_second: f64,
    latency_seconds: Option<Latency>,
    connections: u64,
    sessions: u64,
    resumed_sessions: u64,
    changes: u64,
    reports: u64,
    telemetry: u64,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    /// Calculates the percentiles of these latencies, in seconds.
    fn of(mut latencies: Vec<f64>) -> Option<Self> {
        latencies.sort_unstable_by(f64::total_cmp);
        // Uses the nearest rank, so each percentile is the latency of a real device.
        let at = |percent: usize| latencies[(latencies.len() * percent).div_ceil(100).max(1) - 1];
        (!latencies.is_empty()).then(|| Latency { p50: at(50), p90: at(90), p99: at(99), max: at(100) })
    }
}

/// The result of the look-ups of the assigned devices.
#[derive(Default, Serialize)]
struct Verification {
    same: usize,
    different: usize,
    failed: Counts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    registration_id: String,
    outcome: &'static str,
    #[serde(flatten)]
    run: Option<Run>,
}

/// A finished run of a device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    #[serde(flatten)]
    identity: Option<Identity>,
    seconds: f64,
    requests: u32,
    register_requests: u32,
    refused_calls: u32,
    retries: usize,
    connections: u32,
    error: Option<Failure>,
    verification: Option<&'static str>,
    stay: Option<Stay>,
    shares_identity_with: Option<String>,
}

impl Report {
    pub fn new(ids: &[Rc<str>]) -> Self {
        let device = |id: &Rc<str>| Device { registration_id: id.to_string(), outcome: "unfinished", run: None };
        Self {
            devices: ids.len(),
            assigned: 0,
            failed: 0,
            unfinished: ids.len(),
            interrupted: false,
            seconds: 0.0,
            devices_per_second: 0.0,
            latency_seconds: None,
            hubs: Counts::new(),
            errors: Counts::new(),
            retries: Counts::new(),
            requests: 0,
            register_requests: 0,
            refused_calls: 0,
            connections: 0,
            shared_identities: 0,
            verification: None,
            connection: None,
            results: ids.iter().map(device).collect(),
        }
    }

    /// Adds the outcome of the device at index `at`.
    pub fn add(&mut self, at: usize, outcome: Outcome) {
        self.unfinished -= 1;
        self.requests += u64::from(outcome.requests);
        self.register_requests += u64::from(outcome.register_requests);
        self.refused_calls += u64::from(outcome.refused_calls);
        self.connections += u64::from(outcome.connections);
        let retries = outcome.retries.len();
        for retry in outcome.retries {
            *self.retries.entry(retry).or_default() += 1;
        }
        let (identity, error) = match outcome.result {
            Ok(identity) => (Some(identity), None),
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = &error {
            self.failed += 1;
            *self.errors.entry(error.kind.clone()).or_default() += 1;
        }
        if let Some(identity) = &identity {
            self.assigned += 1;
            *self.hubs.entry(identity.assigned_hub.clone()).or_default() += 1;
        }
        let device = &mut self.results[at];
        device.outcome = if identity.is_some() { "assigned" } else { "failed" };
        device.run = Some(Run {
            identity,
            seconds: outcome.latency.as_secs_f64(),
            requests: outcome.requests,
            register_requests: outcome.register_requests,
            refused_calls: outcome.refused_calls,
            retries,
            connections: outcome.connections,
            error,
            verification: None,
            stay: None,
            shares_identity_with: None,
        });
    }

    pub fn finish(&mut self, took: Duration) {
        self.interrupted = self.unfinished > 0;
        self.seconds = took.as_secs_f64();
        self.devices_per_second = self.assigned as f64 / self.seconds.max(f64::MIN_POSITIVE);
        let (mut latencies, mut first) = (Vec::new(), HashMap::new());
        for Device { registration_id, run, .. } in &mut self.results {
            let Some(run) = run else { continue };
            let Some(identity) = &run.identity else { continue };
            latencies.push(run.seconds);
            run.shares_identity_with = first.get(identity).map(|id: &&String| (*id).clone());
            first.entry(identity).or_insert(registration_id);
        }
        self.shared_identities = latencies.len() - first.len();
        self.latency_seconds = Latency::of(latencies);
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Returns the indexes of the assigned devices.
    pub fn assigned(&self) -> impl Iterator<Item = usize> {
        self.identities().map(|(at, _)| at)
    }

    /// Returns the indexes of the assigned devices, and their assignments.
    pub fn identities(&self) -> impl Iterator<Item = (usize, &Identity)> {
        let devices = self.results.iter().enumerate();
        devices.filter_map(|(at, device)| Some((at, device.run.as_ref()?.identity.as_ref()?)))
    }

    /// Adds what the device at index `at` did at its hub.
    pub fn add_stay(&mut self, at: usize, stay: Stay) {
        let connection = self.connection.get_or_insert_default();
        match &stay.error {
            None => connection.connected += 1,
            Some(error) => *connection.failed.entry(error.clone()).or_default() += 1,
        }
        for why in &stay.breaks {
            *connection.breaks.entry(why.clone()).or_default() += 1;
        }
        connection.connections += u64::from(stay.connections);
        connection.sessions += u64::from(stay.sessions);
        connection.resumed_sessions += u64::from(stay.resumed_sessions);
        connection.changes += u64::from(stay.changes);
        connection.reports += u64::from(stay.reports);
        connection.telemetry += u64::from(stay.telemetry);
        if let Some(run) = &mut self.results[at].run {
            run.stay = Some(stay);
        }
    }

    pub fn finish_connection(&mut self, took: Duration) {
        let latencies: Vec<f64> = self.runs().filter_map(|(_, run)| run.stay.as_ref()?.seconds).collect();
        let connection = self.connection.get_or_insert_default();
        let settled = latencies.len();
        connection.latency_seconds = Latency::of(latencies);
        connection.seconds = took.as_secs_f64();
        connection.devices_per_second = settled as f64 / connection.seconds.max(f64::MIN_POSITIVE);
        let ended = connection.connected + connection.failed.values().sum::<usize>();
        self.interrupted = ended < self.assigned;
    }

    /// Compares the assignment of the device at index `at` with a later answer of the service.
    pub fn compare(&mut self, at: usize, outcome: Outcome) {
        let verification = self.verification.get_or_insert_default();
        let Some(run) = &mut self.results[at].run else { return };
        run.verification = Some(match outcome.result {
            Ok(identity) if run.identity.as_ref() == Some(&identity) => {
                verification.same += 1;
                "same"
            }
            Ok(_) => {
                verification.different += 1;
                "different"
            }
            Err(error) => {
                *verification.failed.entry(error.kind.clone()).or_default() += 1;
                run.error = Some(error);
                "failed"
            }
        });
    }

    pub fn finish_verification(&mut self) {
        let Verification { same, different, failed } = self.verification.get_or_insert_default();
        self.interrupted = *same + *different + failed.values().sum::<usize>() < self.assigned;
    }

    pub fn exit_code(&self) -> u8 {
        let disagrees = self.verification.as_ref().is_some_and(|verification| verification.same < self.assigned);
        match self {
            _ if self.interrupted => 130,
            _ if self.assigned < self.devices => 3,
            _ if disagrees || self.shared_identities > 0 => 4,
            _ if self.connection.as_ref().is_some_and(|connection| connection.connected < self.assigned) => 5,
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
            line("interrupted", format!("{} devices are unfinished", self.unfinished));
        }
        if let Some(Latency { p50, p90, p99, max }) = self.latency_seconds {
            line("latency", format!("p50 {p50:.2} s, p90 {p90:.2} s, p99 {p99:.2} s, max {max:.2} s"));
        }
        line("connections", self.connections.to_string());
        line("requests", format!("{}, {} of them to register", self.requests, self.register_requests));
        if self.refused_calls > 0 {
            let most = self.runs().map(|(_, run)| run.refused_calls).max().unwrap_or_default();
            let mean = self.refused_calls as f64 / self.devices as f64;
            let each = format!("{mean:.1} a device, at most {most}");
            line("refused", format!("{} requests with 429: {each}", self.refused_calls));
        }
        for (name, counts) in [("hub", &self.hubs), ("retried", &self.retries), ("failed", &self.errors)] {
            for (what, count) in counts {
                line(name, format!("{count:>6}  {}", printable(what)));
            }
        }
        if self.shared_identities > 0 {
            line(
                "shared",
                format!("{} devices have the same hub and device ID as another device", self.shared_identities),
            );
        }
        if let Some(Verification { same, different, failed }) = &self.verification {
            line("verified", format!("{same} the same, {different} different"));
            for (what, count) in failed {
                line("not found", format!("{count:>6}  {}", printable(what)));
            }
        }
        if let Some(connection) = &self.connection {
            let Connection { connected, seconds, devices_per_second, .. } = connection;
            line(
                "connected",
                format!("{connected} at their hubs, in {seconds:.1} s: {devices_per_second:.1} a second"),
            );
            if let Some(Latency { p50, p90, p99, max }) = &connection.latency_seconds {
                line("latency", format!("p50 {p50:.2} s, p90 {p90:.2} s, p99 {p99:.2} s, max {max:.2} s"));
            }
            let Connection { sessions, resumed_sessions, reports, telemetry, changes, .. } = connection;
            line("sessions", format!("{sessions}, {resumed_sessions} of them resumed"));
            line("accepted", format!("{reports} reports, {telemetry} messages"));
            line("received", format!("{changes} changes of desired properties"));
            for (name, counts) in [("broke", &connection.breaks), ("gave up", &connection.failed)] {
                for (what, count) in counts {
                    line(name, format!("{count:>6}  {}", printable(what)));
                }
            }
        }
        let named: Vec<_> = self.runs().filter_map(|(id, run)| Some(format!("{id}: {}", blemish(run)?))).collect();
        for device in named.iter().take(NAMED) {
            line("device", printable(device));
        }
        if named.len() > NAMED {
            line("", format!("and {} more: --json names all", named.len() - NAMED));
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn runs(&self) -> impl Iterator<Item = (&str, &Run)> {
        self.results.iter().filter_map(|device| Some((device.registration_id.as_str(), device.run.as_ref()?)))
    }
}

/// Returns what is wrong with a device. Returns `None` if nothing is wrong.
fn blemish(run: &Run) -> Option<String> {
    let error = run.error.as_ref().map(|error| {
        let tracking_id = error.tracking_id.as_ref().map_or(String::new(), |id| format!(", tracking ID {id}"));
        format!("{}{tracking_id}", error.kind)
    });
    match (run.verification, &run.shares_identity_with) {
        (None, None) => error.or_else(|| {
            let why = run.stay.as_ref()?.error.as_ref()?;
            Some(format!("not connected to its hub: {why}"))
        }),
        (Some("failed"), _) => error.map(|error| format!("the look-up failed: {error}")),
        (Some("different"), _) => Some("the service names another hub or device ID".to_owned()),
        (_, shared) => shared.as_ref().map(|id| format!("has the same hub and device ID as {id}")),
    }
}
