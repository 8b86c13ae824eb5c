//! A fleet whose devices start at the same moment, with the service's quota, on a virtual clock.

mod support;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use azure_dps::{
    Attestation, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy,
    provisioning::{Answer, Step},
};
use support::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A service with a quota of register requests in any minute, and no limit on polls.
///
/// Source: [quotas](https://learn.microsoft.com/azure/iot-dps/about-iot-dps#quotas-and-limits).
struct Service {
    registrations_per_minute: usize,
    /// `Retry-After` of a rejection.
    retry_after: Option<u32>,
    /// The duration of a webhook call.
    webhook: Duration,
    accepted: VecDeque<Duration>,
    refused: Vec<Duration>,
}

impl Service {
    fn new(registrations_per_minute: usize, retry_after: Option<u32>) -> Self {
        let (accepted, refused) = (VecDeque::new(), Vec::new());
        Self { registrations_per_minute, retry_after, webhook: 4 * SECOND, accepted, refused }
    }

    /// Returns `true` if a register request is within the quota.
    fn accepts(&mut self, now: Duration) -> bool {
        while self.accepted.front().is_some_and(|&at| now - at >= MINUTE) {
            self.accepted.pop_front();
        }
        let accepts = self.accepted.len() < self.registrations_per_minute;
        if accepts {
            self.accepted.push_back(now)
        } else {
            self.refused.push(now)
        }
        accepts
    }

    /// Returns the highest number of rejections in a second after the first wave.
    fn busiest_second(&self) -> usize {
        let mut seconds = vec![0; 3600];
        self.refused.iter().filter(|at| **at >= SECOND).for_each(|at| seconds[at.as_secs() as usize] += 1);
        seconds.into_iter().max().unwrap_or(0)
    }
}

struct Fleet {
    assigned: usize,
    last: Duration,
    service: Service,
}

impl Fleet {
    fn refused_per_device(&self) -> f64 {
        self.service.refused.len() as f64 / self.assigned as f64
    }
}

/// Provisions all devices. They start at the same moment.
fn provision(devices: usize, mut service: Service, timeout: Duration, unix_time: u64) -> Fleet {
    let ids = Vec::from_iter((0..devices).map(|number| format!("fleet-{number}")));
    let policy = RetryPolicy::new().with_timeout(timeout);
    let mut fleet = Vec::from_iter(ids.iter().map(|id| {
        let registration = Registration::new(IdScope::new(SCOPE).unwrap(), RegistrationId::new(id).unwrap());
        let mut device = Provisioning::new(registration, Attestation::x509()).with_retry_policy(policy);
        device.start(Duration::ZERO, unix_time);
        (device, Duration::MAX)
    }));
    let mut due = BinaryHeap::from_iter((0..devices).map(|number| Reverse((Duration::ZERO, number))));
    let (mut assigned, mut last) = (0, Duration::ZERO);
    while let Some(Reverse((now, number))) = due.pop() {
        let (device, ready) = &mut fleet[number];
        match device.step(now) {
            Step::Wait(wait) => due.push(Reverse((now + wait, number))),
            Step::Finished => {}
            Step::Sign | Step::Activate => unreachable!("a certificate signs nothing"),
            Step::Send => {
                let is_registered = device.operation_id().is_some();
                if !is_registered && service.accepts(now) {
                    *ready = now + service.webhook;
                    device.on_answer(now, Answer::new(202, Some(3), ASSIGNING.as_bytes()));
                } else if !is_registered {
                    device.on_answer(now, Answer::new(429, service.retry_after, br#"{"errorCode":429001}"#));
                } else if now < *ready {
                    device.on_answer(now, Answer::new(202, Some(3), ASSIGNING.as_bytes()));
                } else {
                    let body = ASSIGNED.replace(TOASTER, &ids[number]);
                    device.on_answer(now, Answer::new(200, None, body.as_bytes()));
                    device.result(body.as_bytes()).unwrap();
                    (assigned, last) = (assigned + 1, now);
                }
                due.push(Reverse((now, number)));
            }
        }
    }
    Fleet { assigned, last, service }
}

#[test]
fn ten_thousand_devices_at_a_thousand_a_minute() {
    for retry_after in [None, Some(3), Some(30), Some(60)] {
        let fleet = provision(10_000, Service::new(1_000, retry_after), 30 * MINUTE, UNIX_TIME);
        let (refused, last) = (fleet.refused_per_device(), fleet.last);
        println!("Retry-After {retry_after:?}: {refused:.2} refused calls a device, the last assigned after {last:?}");
        assert_eq!(fleet.assigned, 10_000);
        assert!(last <= 13 * MINUTE, "{last:?}");
        assert!(refused <= 7.0, "{refused}");
    }
}

/// `docs/gateway.md` has this figure.
#[test]
fn fifty_thousand_devices_at_a_thousand_a_minute() {
    let fleet = provision(50_000, Service::new(1_000, None), 150 * MINUTE, UNIX_TIME);
    println!("the last of 50 000 assigned after {:?}", fleet.last);
    assert_eq!(fleet.assigned, 50_000);
    assert!(fleet.last < 52 * MINUTE, "{:?}", fleet.last);
}

/// With the default time-out of 10 minutes, at any time of day.
#[test]
fn two_hundred_and_fifty_devices_at_a_hundred_a_minute() {
    for retry_after in [None, Some(3), Some(30)] {
        for start in 0..20 {
            let fleet = provision(250, Service::new(100, retry_after), 10 * MINUTE, UNIX_TIME + start);
            assert_eq!(fleet.assigned, 250);
            assert!(fleet.refused_per_device() <= 4.0, "{}", fleet.refused_per_device());
            assert!(fleet.service.busiest_second() <= 80, "{}", fleet.service.busiest_second());
        }
    }
}

/// Devices that start at the same moment spread out by their registration IDs, and do not return in waves.
#[test]
fn refusals_do_not_come_in_waves() {
    let fleet = provision(2_000, Service::new(200, Some(3)), 30 * MINUTE, 0);
    // The first wave has 1 800 rejections. The retries of these devices spread over ten seconds.
    assert!(fleet.service.busiest_second() <= 250, "{}", fleet.service.busiest_second());
}
