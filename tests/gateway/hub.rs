//! `--connect`: tests whether the hub accepts the device, over MQTT and TLS, with the emulator's hubs.

use azure_dps_emulator::{Allocation, AllocationPolicy};

use super::*;

const HUB_REFUSES: i32 = 11;
const HUB_UNREACHABLE: i32 = 12;

/// Returns the address of the emulator's hubs.
fn hubs(emulator: &Emulator) -> &str {
    emulator.mqtts_url().unwrap().strip_prefix("mqtts://").unwrap()
}

/// Returns a call with `--connect` that trusts this CA.
fn connecting(emulator: &Emulator, url: &str, id: &str, ca: &Path) -> Gateway {
    Gateway::to(url, id).args(&["--connect", "--hub-address", hubs(emulator), "--ca", ca.to_str().unwrap()])
}

/// Returns hub, device and outcome of each CONNECT.
fn connects(emulator: &Emulator) -> Vec<(String, String)> {
    let requests = emulator.requests().into_iter();
    let connects = requests.filter(|request| request.method == "CONNECT");
    connects.filter_map(|request| Some((request.hub?, request.outcome))).collect()
}

#[test]
fn the_hub_accepts_the_key() {
    let emulator = emulator();
    let ca = temporary("hub-ca.pem", emulator.ca_pem());
    let to = |url: &str, id: &str| connecting(&emulator, url, id, &ca);
    let secondary = temporary("hub-secondary.key", TOASTER_KEY);
    for gateway in [
        // Without TLS to the service, --ca is only for the hub.
        to(http(&emulator), TOASTER).key(TOASTER_KEY),
        to(https(&emulator), TOASTER).key(TOASTER_KEY),
        to(hubs(&emulator), TOASTER).args(&["--transport", "mqtt"]).key(TOASTER_KEY),
        to(http(&emulator), TOASTER).args(&["--compute-key"]).key(GROUP_KEY),
        to(http(&emulator), TOASTER).args(&["--secondary-key-file", secondary.to_str().unwrap()]).key(HEAT_PUMP_KEY),
        to(http(&emulator), TOASTER).args(&["--status"]).key(TOASTER_KEY),
    ] {
        let before = connects(&emulator).len();
        let run = gateway.run();
        run.expect(0);
        let twin = r#"twin:       {"desired":{"state":"ready","darknessSetting":"medium","$version":1},"reported":{"$version":1}}"#;
        assert!(run.stdout.contains(&format!("hub:        {TOASTERS_HUB}\n")), "{}", run.stdout);
        assert!(run.stdout.contains(twin), "{}", run.stdout);
        assert!(run.stderr.contains(&format!("Connecting to mqtts://{}", hubs(&emulator))), "{}", run.stderr);
        let connects = connects(&emulator);
        assert_eq!(connects.len(), before + 1);
        assert_eq!(connects.last().unwrap().0, TOASTERS_HUB);
    }
    let run = to(http(&emulator), HEAT_PUMP).args(&["--json"]).key(HEAT_PUMP_KEY).run();
    run.expect(0);
    assert_eq!((run.json()["status"].as_str(), run.stderr.as_str()), (Some("assigned"), ""));
    let connection = &run.json()["hubConnection"];
    assert_eq!(connection["connected"], true);
    assert_eq!(connection["endpoint"], emulator.mqtts_url().unwrap());
    assert_eq!(connection["twin"]["desired"], json!({"state": "on", "temperatureSetting": "65", "$version": 1}));
    assert_eq!(connection.get("error"), None);
    // Without --connect, there is no connection.
    let run = Gateway::to(http(&emulator), HEAT_PUMP).args(&["--json"]).key(HEAT_PUMP_KEY).run();
    assert_eq!(run.json().get("hubConnection"), None);
}

#[test]
fn the_hub_accepts_the_certificate() {
    let device = super::Device::new("sn-017");
    let [root, intermediate] = authorities();
    let of_group = super::Device::new("sn-018");
    let leaf = of_group.params.signed_by(&of_group.key, &intermediate).unwrap().pem();
    let emulator = start(by_certificate("sn-017", &device, &root.pem()));
    let ca = temporary("hub-x509-ca.pem", emulator.ca_pem());
    let [own, own_key, ..] = device.files("sn-017");
    let [_, group_key, ..] = of_group.files("sn-018");
    let chain = temporary("hub-sn-018-chain.pem", &(leaf + &intermediate.pem()));
    for (id, certificate, key) in [("sn-017", &own, &own_key), ("sn-018", &chain, &group_key)] {
        let [certificate, key] = [certificate, key].map(|file| file.to_str().unwrap());
        let gateway = connecting(&emulator, https(&emulator), id, &ca);
        let run = gateway.args(&["--certificate-file-path", certificate, "--key-file-path", key]).run();
        run.expect(0);
        assert!(run.stdout.contains("\ntwin:       {\"desired\":{\"$version\":1}"), "{}", run.stdout);
    }
    assert!(emulator.requests().iter().all(|request| !request.authorization));
}

/// Each boot connects to the hub, and does not ask the service.
#[test]
fn a_rejection_by_the_hub_has_an_exit_code() {
    let emulator = emulator();
    let ca = temporary("hub-refuses-ca.pem", emulator.ca_pem());
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    let boot = || {
        let gateway = connecting(&emulator, http(&emulator), TOASTER, &ca);
        gateway.args(&["--record", record.to_str().unwrap()]).key(TOASTER_KEY)
    };
    boot().run().expect(0);
    let registrations = || emulator.requests().iter().filter(|request| request.method == "PUT").count();
    assert_eq!(registrations(), 1);
    boot().run().expect(0);

    emulator.set_hub_enabled(TOASTER, false).unwrap();
    let run = boot().run();
    run.expect(HUB_REFUSES);
    assert!(run.stdout.starts_with(&format!("hub:        {TOASTERS_HUB}\n")), "{}", run.stdout);
    for part in ["error: this device is assigned, but the hub rejects it", "answered CONNECT with 5", "--reprovision"] {
        assert!(run.stderr.contains(part), "no {part} in {}", run.stderr);
    }
    let run = boot().args(&["--json"]).run();
    run.expect(HUB_REFUSES);
    assert_eq!(run.stderr, "");
    let (object, error) = (run.json(), &run.json()["hubConnection"]["error"]);
    assert_eq!((&object["status"], &object["hubConnection"]["connected"]), (&json!("assigned"), &json!(false)));
    assert_eq!((&error["kind"], &error["exitCode"]), (&json!("hubRefuses"), &json!(HUB_REFUSES)));
    assert_eq!(error["seen"], "the hub answered CONNECT with 5");

    emulator.set_hub_enabled(TOASTER, true).unwrap();
    boot().run().expect(0);
    emulator.remove_from_hub(TOASTER).unwrap();
    boot().run().expect(HUB_REFUSES);
    assert_eq!(registrations(), 1);
    // The error suggests --reprovision. It helps.
    boot().args(&["--reprovision"]).run().expect(0);
    // The service does not accept this key.
    let run = boot().key(HEAT_PUMP_KEY).run();
    run.expect(HUB_REFUSES);
}

#[test]
fn an_unreachable_hub_has_another_exit_code() {
    let mut config = polled();
    config.behaviour.result_at_once = true;
    config.behaviour.unavailable_hubs = vec![HEAT_PUMPS_HUB.to_owned()];
    let emulator = start(config);
    let ca = temporary("hub-unreachable-ca.pem", emulator.ca_pem());
    let other = start(polled());
    let other_ca = temporary("hub-other-ca.pem", other.ca_pem());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let no_hub = https(&emulator).strip_prefix("https://").unwrap();
    for (id, key, address, ca, seen) in [
        // The error says that a retry may succeed.
        (HEAT_PUMP, HEAT_PUMP_KEY, hubs(&emulator), &ca, "answered CONNECT with 3"),
        (TOASTER, TOASTER_KEY, &closed, &ca, "refused"),
        (TOASTER, TOASTER_KEY, hubs(&emulator), &other_ca, "certificate"),
        (TOASTER, TOASTER_KEY, no_hub, &ca, ""),
    ] {
        let gateway = || {
            let gateway = Gateway::to(http(&emulator), id).args(&["--connect", "--hub-address", address]);
            gateway.args(&["--ca", ca.to_str().unwrap()]).key(key)
        };
        let run = gateway().run();
        run.expect(HUB_UNREACHABLE);
        assert!(run.stdout.contains("hub:        "), "{}", run.stdout);
        assert!(run.stderr.contains("error: this device is assigned, but the hub cannot be reached"), "{}", run.stderr);
        assert!(run.stderr.contains(seen), "{seen}: {}", run.stderr);
        let run = gateway().args(&["--json"]).run();
        run.expect(HUB_UNREACHABLE);
        assert_eq!(run.json()["hubConnection"]["error"]["kind"], "hubUnreachable");
    }
}

/// If DPS names a hub with a port, no --hub-address is needed.
#[test]
fn the_port_of_the_assigned_hub_is_used() {
    let emulator = emulator();
    let ca = temporary("hub-port-ca.pem", emulator.ca_pem());
    let hub = hubs(&emulator).to_owned();
    emulator.update(|config| {
        config.linked_hubs.push(hub.clone());
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.to_owned(),
            primary_key: SymmetricKey::from_base64(TOASTER_KEY).unwrap(),
            allocation: Allocation {
                policy: AllocationPolicy::Static,
                iot_hubs: vec![hub.clone()],
                ..Allocation::default()
            },
            ..IndividualEnrollment::default()
        });
    });
    let gateway = Gateway::to(https(&emulator), TOASTER).args(&["--connect", "--ca", ca.to_str().unwrap()]);
    let run = gateway.key(TOASTER_KEY).run();
    run.expect(0);
    assert!(run.stdout.starts_with(&format!("hub:        {hub}\n")), "{}", run.stdout);
    assert_eq!(connects(&emulator).len(), 1);
}

#[test]
fn connect_with_wrong_options_is_a_usage_error() {
    let emulator = emulator();
    let to = || Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY);
    for (args, why) in [
        (&["--hub-address", "localhost"][..], "--connect"),
        (&["--connect", "--hub-address", "mqtts://localhost"], "without a scheme"),
        (&["--connect", "--hub-address", "::1"], "brackets"),
        (&["--connect", "--csr", "hub.csr"], "cannot be used with"),
        (&["--connect", "--ca", "/nowhere.pem"], "/nowhere.pem"),
    ] {
        let run = to().args(args).run();
        run.expect(USAGE);
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
    assert_eq!(emulator.requests().len(), 0);
}
