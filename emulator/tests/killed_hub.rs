//! Kills an emulator many times with SIGKILL while devices are connected to their hubs. What a device was told is
//! still there, and the device continues with its subscriptions.
//!
//! `DPS_EMULATOR_KILLS=1000 cargo test --release -p azure-dps-emulator --test killed_hub -- --nocapture` is the long
//! form. `DPS_EMULATOR_DEVICES` sets the number of devices.
#![cfg(unix)]

mod support;

use std::{
    env,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use azure_dps_emulator::{Config, Emulator};
use reqwest::{Method, blocking::Client as HttpClient};
use rumqttc::{
    QoS,
    mqttbytes::v4::{ConnAck, Packet, PubAck, Publish, Subscribe},
};
use serde_json::{Value, json};
use support::{
    control::Control,
    hub::{DESIRED, GET, HubDevice, REPORT, TWIN_ANSWERS},
    mqtt::Client,
    program::Program,
    *,
};

fn number_of(variable: &str, default: usize) -> usize {
    env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// The program and its address.
struct Running {
    program: Program,
    http: String,
    mqtt: String,
    control: String,
}

impl Running {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(DPS);
        command.args(["--json", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        let mut program = Program::start(command.arg("--data").arg(folder));
        let mut urls = Vec::new();
        while urls.len() < 3 {
            let line = program.json();
            urls.extend(
                line["listener"].as_str().map(|name| (name.to_owned(), line["url"].as_str().unwrap().to_owned())),
            );
        }
        let url = |name: &str| urls.iter().find(|(listener, _)| listener == name).unwrap().1.clone();
        Self { http: url("http"), mqtt: url("mqtt"), control: url("control"), program }
    }
}

/// A device, and the answers that it got. They must be there from then on.
struct Member {
    device: HubDevice,
    is_subscribed: bool,
    /// The number in the last report, and in the last accepted report.
    reported: (u64, u64),
    reported_version: u64,
    /// The number in the last change of the desired properties, and in the last accepted change.
    desired: (u64, u64),
    desired_version: u64,
    telemetry: usize,
    sessions: usize,
}

impl Member {
    fn new(id: &str) -> Self {
        let device = HubDevice::new(TOASTERS_HUB, id, &derive(GROUP_KEY, id));
        Self {
            device,
            is_subscribed: false,
            reported: (0, 0),
            reported_version: 1,
            desired: (0, 0),
            desired_version: 1,
            telemetry: 0,
            sessions: 0,
        }
    }

    /// Runs one session until the emulator is gone, then returns `None`.
    fn live(&mut self, url: &str, control: &Control, progress: &mpsc::Sender<()>) -> Option<()> {
        let stream = TcpStream::connect(url.strip_prefix("mqtt://").unwrap()).ok()?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Client::new(stream, &self.device.device_id);
        client.send(&Packet::Connect(self.device.packet()));
        let Packet::ConnAck(ConnAck { session_present, code }) = client.receive()? else { panic!("no CONNACK") };
        assert_eq!(code as u8, 0, "{}", self.device.device_id);
        if self.is_subscribed {
            assert!(session_present, "{}: the session was lost", self.device.device_id);
        } else {
            let filters =
                [TWIN_ANSWERS, DESIRED].map(|filter| rumqttc::SubscribeFilter::new(filter.into(), QoS::AtMostOnce));
            let mut subscribe = Subscribe::new_many(filters);
            subscribe.pkid = 1;
            client.send(&Packet::Subscribe(subscribe));
            let Packet::SubAck(_) = client.receive()? else { panic!("no SUBACK") };
            self.is_subscribed = true;
        }
        self.check_twin(&mut client)?;
        self.sessions += 1;
        self.is_told_of_a_change(&mut client, control)?;
        let _ = progress.send(());
        loop {
            self.report(&mut client)?;
            self.send_telemetry(&mut client)?;
        }
    }

    /// Checks that accepted changes are there. Changes without an answer may be there.
    fn check_twin(&mut self, client: &mut Client) -> Option<()> {
        let (topic, twin) = ask(client, &format!("{GET}1"), "")?;
        assert_eq!(topic, "200/?$rid=1", "{twin}");
        let id = &self.device.device_id;
        for (part, numbers, version) in [
            ("reported", &mut self.reported, &mut self.reported_version),
            ("desired", &mut self.desired, &mut self.desired_version),
        ] {
            let number = twin[part]["number"].as_u64().unwrap_or(0);
            assert!((numbers.1..=numbers.0).contains(&number), "{id}: {part} {number}, accepted was {}", numbers.1);
            let is = twin[part]["$version"].as_u64().unwrap();
            assert!(is >= *version, "{id}: {part} $version {is}, known was {version}");
            (*numbers, *version) = ((number, number), is);
        }
        assert_eq!(twin["desired"]["state"], "ready", "{id}: the initial twin is lost");
        Some(())
    }

    fn is_told_of_a_change(&mut self, client: &mut Client, control: &Control) -> Option<()> {
        self.desired.0 += 1;
        let body = json!({ "desired": { "number": self.desired.0 } });
        let path = format!("devices/{}/twin", self.device.device_id);
        let post = control.request(Method::POST, &path).header("Content-Type", "application/json");
        let answered = post.body(body.to_string()).send().ok()?;
        assert_eq!(answered.status(), 200);
        self.desired.1 = self.desired.0;
        let Packet::Publish(change) = client.receive()? else { panic!("no change") };
        self.desired_version += 1;
        assert_eq!(change.topic, format!("$iothub/twin/PATCH/properties/desired/?$version={}", self.desired_version));
        let patch: Value = serde_json::from_slice(&change.payload).unwrap();
        assert_eq!(patch["number"], self.desired.0);
        Some(())
    }

    fn report(&mut self, client: &mut Client) -> Option<()> {
        self.reported.0 += 1;
        let (topic, _) = ask(client, &format!("{REPORT}2"), &json!({ "number": self.reported.0 }).to_string())?;
        self.reported.1 = self.reported.0;
        self.reported_version += 1;
        assert_eq!(topic, format!("204/?$rid=2&$version={}", self.reported_version));
        Some(())
    }

    fn send_telemetry(&mut self, client: &mut Client) -> Option<()> {
        let mut publish = Publish::new(self.device.events(""), QoS::AtLeastOnce, "{}");
        publish.pkid = 3;
        client.send(&Packet::Publish(publish));
        match client.receive()? {
            Packet::PubAck(PubAck { pkid: 3 }) => self.telemetry += 1,
            other => panic!("{other:?}"),
        }
        Some(())
    }
}

/// Publishes a request. Returns its answer: the topic after `res/` and the body.
fn ask(client: &mut Client, topic: &str, body: &str) -> Option<(String, Value)> {
    client.publish(topic, QoS::AtMostOnce, body);
    let Packet::Publish(answer) = client.receive()? else { panic!("no answer") };
    let topic = answer.topic.strip_prefix("$iothub/twin/res/").unwrap().to_owned();
    Some((topic, serde_json::from_slice(&answer.payload).unwrap_or(Value::Null)))
}

#[test]
fn answered_requests_and_sessions_survive_a_kill() {
    let (kills, devices) = (number_of("DPS_EMULATOR_KILLS", 6), number_of("DPS_EMULATOR_DEVICES", 24));
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("data");
    let mut running = Running::start(&folder);
    let http = HttpClient::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    let mut members: Vec<_> = (0..devices).map(|number| Member::new(&format!("{number}-contoso-tstrsd-007"))).collect();
    for member in &members {
        let registration_id = member.device.device_id.clone();
        let key = derive(GROUP_KEY, &registration_id);
        let device =
            Device { client: http.clone(), url: running.http.clone(), registration_id, key, payload: Some(payload()) };
        assert_eq!(device.assigned()["assignedHub"], TOASTERS_HUB);
    }
    let mut restarts = Vec::new();
    for _ in 0..kills {
        let life = Duration::from_micros(uuid::Uuid::new_v4().as_u128() as u64 % 200_000);
        let control = Control::at(&running.control);
        thread::scope(|scope| {
            let (progress, begun) = mpsc::channel();
            let (url, control) = (&running.mqtt, &control);
            for member in &mut members {
                let progress = progress.clone();
                scope.spawn(move || member.live(url, control, &progress));
            }
            drop(progress);
            // In most rounds all devices are busy, and in some not all are connected yet.
            let awaited = if life.as_micros().is_multiple_of(3) { devices / 2 } else { devices };
            let _ = begun.iter().take(awaited).count();
            thread::sleep(life);
            running.program.child.kill().unwrap();
            running.program.child.wait().unwrap();
        });
        let started = Instant::now();
        running = Running::start(&folder);
        restarts.push(started.elapsed());
    }
    running.program.child.kill().unwrap();
    running.program.child.wait().unwrap();

    let emulator = Emulator::builder(Config::contoso()).data(&folder).start().unwrap();
    for member in &members {
        let record = emulator.device(&member.device.device_id).unwrap();
        assert_eq!(record.assigned_hub, TOASTERS_HUB);
        let number = record.twin.reported["number"].as_u64().unwrap();
        assert!((member.reported.1..=member.reported.0).contains(&number), "{}: {number}", member.device.device_id);
    }
    restarts.sort_unstable();
    let sum = |of: fn(&Member) -> usize| members.iter().map(of).sum::<usize>();
    let reports = sum(|member| member.reported.1 as usize);
    println!(
        "{kills} kills, {devices} devices: {} sessions, {reports} reports, {} messages and {} changes were answered, \
         and none is lost; a restart took {:?}, at most {:?}",
        sum(|member| member.sessions),
        sum(|member| member.telemetry),
        sum(|member| member.desired.1 as usize),
        restarts[restarts.len() / 2],
        restarts.last().unwrap(),
    );
    assert!(sum(|member| member.sessions) > kills, "there were too few sessions");
    assert!(reports > 0);
}
