//! The compiled example `gateway`, run as people and scripts run it, with the emulator over real sockets. The tests
//! check its exit code and its output.

#[path = "gateway/hub.rs"]
mod hub;
#[path = "gateway/inputs.rs"]
mod inputs;
#[path = "gateway/network.rs"]
mod network;
#[path = "support/programs.rs"]
mod programs;
#[path = "support/proxy.rs"]
mod proxy;

use std::{
    collections::HashMap,
    env, fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use azure_dps_emulator::{
    Certificate, Config, Emulator, EnrollmentGroup, IndividualEnrollment, Operation, Script, SymmetricKey,
    X509Attestation,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use programs::{example, output_of};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

// The tutorial's group key and devices.
const GROUP_KEY: &str = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
const TOASTER: &str = "breakroom499-contoso-tstrsd-007";
const TOASTER_KEY: &str = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
const TOASTERS_HUB: &str = "contoso-toasters-hub-1098.azure-devices.net";
const HEAT_PUMP: &str = "mainbuilding167-contoso-hpsd-088";
const HEAT_PUMP_KEY: &str = "6uejA9PfkQgmYylj8Zerp3kcbeVrGZ172YLa7VSnJzg=";
const HEAT_PUMPS_HUB: &str = "contoso-heatpumps-hub-1098.azure-devices.net";

const OTHER: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const DISABLED: i32 = 4;
const UNAUTHORIZED: i32 = 5;
const BUSY: i32 = 6;
const UNREACHABLE: i32 = 7;
const NOT_DPS: i32 = 8;
const UNASSIGNED: i32 = 9;
const NO_CERTIFICATE: i32 = 10;

// ---- Provisioning ----

#[test]
fn the_tutorials_devices_by_group_key_and_by_their_own() {
    let emulator = start(polled());
    thread::scope(|scope| {
        for (id, device_key, hub) in [(TOASTER, TOASTER_KEY, TOASTERS_HUB), (HEAT_PUMP, HEAT_PUMP_KEY, HEAT_PUMPS_HUB)]
        {
            let emulator = &emulator;
            scope.spawn(move || {
                let by_group_key = Gateway::to(http(emulator), id).args(&["--compute-key"]).key(GROUP_KEY).run();
                let by_device_key = Gateway::to(http(emulator), id).key(device_key).run();
                for run in [by_group_key, by_device_key] {
                    run.expect(0);
                    let shown = format!("hub:        {hub}\ndevice ID:  {id}\npayload:    none\n");
                    assert_eq!(run.stdout, shown);
                }
                assert_eq!(emulator.device(id).unwrap().assigned_hub, hub);
            });
        }
    });
}

#[test]
fn json_for_scripts() {
    let mut config = polled();
    config.contoso.return_payload = true;
    let emulator = start(config);
    let run = Gateway::to(http(&emulator), TOASTER).args(&["--json"]).key(TOASTER_KEY).run();
    run.expect(0);
    assert_eq!(run.stderr, "");
    assert_eq!(run.stdout.lines().count(), 1);
    let object = run.json();
    assert_eq!(object["status"], "assigned");
    assert_eq!(object["assignedHub"], TOASTERS_HUB);
    assert_eq!(object["deviceId"], TOASTER);
    assert_eq!(object["registrationId"], TOASTER);
    assert_eq!(object["substatus"], "initialAssignment");
    assert_eq!(object["payload"], json!({"property1": "value1"}));
    let asked = emulator.requests().pop().unwrap().path;
    assert!(asked.contains(object["operationId"].as_str().unwrap()), "{asked}");
    assert_eq!(object.get("connectionString"), None);
}

#[test]
fn the_returned_payload_is_printed_as_it_came() {
    let emulator = emulator();
    // An f64 cannot represent this integer.
    let payload = r#"{"serial":9007199254740993}"#;
    let answer = json!({"registrationState": {"payload": serde_json::from_str::<Value>(payload).unwrap()}});
    emulator.script(Script::merge(Operation::Register, answer));
    let run = Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY).run();
    run.expect(0);
    assert!(run.stdout.contains(payload), "{}", run.stdout);
}

#[test]
fn the_payload_goes_to_the_webhook_inline_or_from_a_file() {
    let emulator = emulator();
    let file = temporary("payload.json", r#"{"from":"file"}"#);
    let path = file.to_str().unwrap();
    let given = [(r#"{"from":"argv"}"#, "argv"), (path, "file"), (&format!("@{path}"), "file")];
    for (payload, from) in given {
        Gateway::to(http(&emulator), TOASTER).args(&["--payload", payload]).key(TOASTER_KEY).run().expect(0);
        let call = emulator.webhook_calls().pop().unwrap();
        assert_eq!(call.request["deviceRuntimeContext"]["payload"], json!({"from": from}));
    }
}

#[test]
fn progress_is_on_stderr_and_can_be_turned_off() {
    let emulator = start(polled());
    let run = Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY).run();
    let steps: Vec<_> = run.stderr.lines().skip(1).collect();
    assert_eq!(steps, ["Registering", "Assigning", "Assigned"]);

    let run = Gateway::to(http(&emulator), TOASTER).args(&["--quiet"]).key(TOASTER_KEY).run();
    run.expect(0);
    assert_eq!(run.stderr, "");
}

#[test]
fn the_connection_string_is_printed_on_request() {
    let emulator = emulator();
    let expected = format!("HostName={TOASTERS_HUB};DeviceId={TOASTER};SharedAccessKey={TOASTER_KEY}");
    let gateway = || {
        let gateway = Gateway::to(http(&emulator), TOASTER).args(&["--connection-string", "--compute-key"]);
        gateway.key(GROUP_KEY).may_print(TOASTER_KEY)
    };
    let run = gateway().run();
    run.expect(0);
    assert!(run.stdout.contains(&format!("connection: {expected}\n")), "{}", run.stdout);
    assert_eq!(gateway().args(&["--json"]).run().json()["connectionString"], expected);
}

// ---- Keys ----

#[test]
fn the_key_comes_from_the_environment_a_file_standard_input_or_argv() {
    let emulator = emulator();
    // An editor adds a line feed.
    let file = temporary("device.key", &format!("{TOASTER_KEY}\n"));
    let file = file.to_str().unwrap();
    let gateway = || Gateway::to(http(&emulator), TOASTER);
    gateway().key(TOASTER_KEY).run().expect(0);
    gateway().args(&["--key-file", file]).run().expect(0);
    gateway().args(&["--key-file", "-"]).stdin(TOASTER_KEY).run().expect(0);
    gateway().args(&["--key", "-"]).stdin(&format!("{TOASTER_KEY}\n")).run().expect(0);
    gateway().args(&["--symmetric-key", TOASTER_KEY]).run().expect(0);
    // A key in a file takes precedence over the environment.
    gateway().args(&["--key-file", file]).key(HEAT_PUMP_KEY).run().expect(0);
}

#[test]
fn derive_key_computes_the_tutorials_keys() {
    let file = temporary("group.key", GROUP_KEY);
    let file = file.to_str().unwrap();
    let derive =
        |args: &[&str]| Gateway::bare(&["derive-key"]).args(args).may_print(TOASTER_KEY).may_print(HEAT_PUMP_KEY);
    let one = |run: Run| {
        run.expect(0);
        assert_eq!(run.stdout, format!("{TOASTER_KEY}\n"));
        assert_eq!(run.stderr, "");
    };
    one(derive(&["--registration-id", TOASTER]).key(GROUP_KEY).run());
    one(derive(&["--rid", TOASTER, "--key-file", file]).run());
    one(derive(&["--rid", TOASTER, "--key", "-"]).stdin(GROUP_KEY).run());
    one(derive(&["--rid", TOASTER, "--key", GROUP_KEY]).run());

    let table = format!("{TOASTER}\t{TOASTER_KEY}\n{HEAT_PUMP}\t{HEAT_PUMP_KEY}\n");
    let both = derive(&["--rid", TOASTER, "--rid", HEAT_PUMP]).key(GROUP_KEY).run();
    assert_eq!(both.stdout, table);

    // The file as an editor on Windows saves it, with a comment, and without a line end after the last line.
    let list = format!("\u{feff}# the tutorial's\r\n\r\n  {TOASTER}\t\r\n{HEAT_PUMP}");
    let ids = temporary("ids.txt", &list);
    let from_file = derive(&["--ids-file", ids.to_str().unwrap(), "--key-file", file]).run();
    let from_stdin = derive(&["--ids-file", "-", "--key-file", file]).stdin(&list).run();
    for run in [from_file, from_stdin] {
        run.expect(0);
        assert_eq!((run.stdout, run.stderr), (table.clone(), String::new()));
    }
    // A list of one ID has the format of a list.
    let one = derive(&["--ids-file", "-"]).key(GROUP_KEY).stdin(TOASTER).run();
    assert_eq!(one.stdout, format!("{TOASTER}\t{TOASTER_KEY}\n"));

    let json = derive(&["--rid", TOASTER, "--rid", HEAT_PUMP, "--json"]).key(GROUP_KEY).run();
    let objects: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [(TOASTER, TOASTER_KEY), (HEAT_PUMP, HEAT_PUMP_KEY)];
    assert_eq!(objects, expected.map(|(id, key)| json!({ "registrationId": id, "symmetricKey": key })));
}

/// A list with one invalid line is rejected as a whole. The error names the line number. It does not print the line,
/// because the line may contain a key.
#[test]
fn derive_key_names_the_line_of_a_wrong_id() {
    let many: String = (0..=100_000).map(|number| format!("sn-{number}\n")).collect();
    for (list, why) in [
        ("sn-1\n\n# more\nsn 2\n", "standard input: line 4: the registration ID has a character at position 2"),
        ("sn-1\nsn-2.\n", "line 2: the registration ID must end with"),
        ("sn-1\nsn-2\nSN-1\n", "line 3: this registration ID is already in line 1"),
        (&format!("sn-1\n{}\n", "x".repeat(129)), "line 2: the registration ID is longer than 128"),
        (GROUP_KEY, "line 1: the registration ID has a character at position"),
        ("\n# none\n", "standard input: no registration ID"),
        (&many, "line 100001: more than 100000 registration IDs"),
        (&"#".repeat(16 * 1024 * 1024 + 1), "more than 16777216 bytes"),
    ] {
        let run = Gateway::bare(&["derive-key", "--ids-file", "-"]).key(GROUP_KEY).stdin(list).run();
        run.expect(USAGE);
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
    for (args, why) in [
        (&["--ids-file", "/nowhere"][..], "/nowhere"),
        (&["--ids-file", "/"], "/: "),
        (&["--ids-file", "/dev/zero"], "/dev/zero: it is a device"),
        (&["--ids-file", "-", "--key-file", "-"], "only one of key and IDs"),
        (&["--ids-file", "-", "--rid", "sn-1"], "cannot be used with"),
        (&[], "--registration-id"),
    ] {
        let run = Gateway::bare(&["derive-key"]).args(args).key(GROUP_KEY).run();
        run.expect(USAGE);
        assert!(run.stderr.contains(why), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn the_secondary_key_is_used_if_the_first_is_rejected() {
    let emulator = emulator();
    let ca = temporary("secondary-ca.pem", emulator.ca_pem());
    let mqtt = emulator.mqtts_url().unwrap().replace("mqtts://", "");
    let over_http = || Gateway::to(http(&emulator), TOASTER).key(HEAT_PUMP_KEY);
    let over_mqtt = || {
        let gateway = Gateway::to(&mqtt, TOASTER).args(&["--transport", "mqtt", "--ca", ca.to_str().unwrap()]);
        gateway.key(HEAT_PUMP_KEY)
    };
    let file = temporary("secondary.key", &format!("{TOASTER_KEY}\n"));
    let file = &["--secondary-key-file", file.to_str().unwrap()];
    for gateway in [
        over_http().secondary_key(TOASTER_KEY),
        over_http().args(file),
        over_http().args(file).secondary_key(HEAT_PUMP_KEY),
        over_http().args(&["--secondary-key-file", "-"]).stdin(TOASTER_KEY),
        over_mqtt().secondary_key(TOASTER_KEY),
        Gateway::to(http(&emulator), TOASTER).args(&["--compute-key"]).key(TOASTER_KEY).secondary_key(GROUP_KEY),
    ] {
        let run = gateway.run();
        run.expect(0);
        assert!(run.stdout.contains(TOASTERS_HUB), "{}", run.stdout);
        assert!(run.stderr.contains("Retrying with the other key: "), "{}", run.stderr);
    }

    // The connection string contains the key that the service accepted.
    let run = over_http().secondary_key(TOASTER_KEY).args(&["--connection-string"]).may_print(TOASTER_KEY).run();
    run.expect(0);
    assert!(run.stdout.contains(&format!("SharedAccessKey={TOASTER_KEY}\n")), "{}", run.stdout);

    // Each key is tried once.
    let served = emulator.requests().len();
    let run = over_http().secondary_key(HEAT_PUMP_KEY).run();
    run.expect(UNAUTHORIZED);
    assert!(run.stderr.contains("neither of this device's keys"), "{}", run.stderr);
    assert_eq!(emulator.requests().len(), served + 2);

    // The second key is not tried if the first is accepted, or if the service rejects the device for another reason.
    Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY).secondary_key(HEAT_PUMP_KEY).run().expect(0);
    emulator.script(Script::respond(Operation::Register, 400, &[], r#"{"errorCode":400004}"#));
    over_http().secondary_key(TOASTER_KEY).run().expect(REFUSED);
    assert_eq!(emulator.requests().len(), served + 4);
}

// ---- Certificates ----

#[test]
fn a_certificate_instead_of_a_key() {
    let device = Device::new("sn-007");
    let [root, intermediate] = authorities();
    let emulator = start(by_certificate("sn-007", &device, &root.pem()));
    let ca = temporary("x509-ca.pem", emulator.ca_pem());
    let mqtt = emulator.mqtts_url().unwrap().replace("mqtts://", "");
    let show = |url: &str, id: &str, chain: &PathBuf, device: &Device| {
        let [chain, key] = [chain, &device.files(id)[1]].map(|file| file.to_str().unwrap().to_owned());
        let gateway = Gateway::to(url, id).args(&["--certificate-file-path", &chain, "--key-file-path", &key]);
        // A key in the environment is ignored.
        gateway.key("no-base64!").may_not_print(&device.private_key_line()).may_not_print("PRIVATE")
    };
    let over_http = |id: &str, chain: &PathBuf, device: &Device| {
        show(https(&emulator), id, chain, device).args(&["--ca", ca.to_str().unwrap()])
    };
    let over_mqtt = |id: &str, chain: &PathBuf, device: &Device| {
        show(&mqtt, id, chain, device).args(&["--ca", ca.to_str().unwrap(), "--transport", "mqtt"])
    };

    // The enrolled certificate.
    let [own, ..] = device.files("sn-007");
    over_http("sn-007", &own, &device).run().expect(0);
    over_mqtt("sn-007", &own, &device).run().expect(0);
    over_http("sn-007", &own, &device).args(&["--status"]).run().expect(0);
    let this_machines = show(https(&emulator), "sn-007", &own, &device).env("SSL_CERT_FILE", ca.to_str().unwrap());
    let run = this_machines.args(&["--connection-string", "--json"]).run();
    run.expect(0);
    let assigned = run.json();
    let hub = assigned["assignedHub"].as_str().unwrap();
    assert_eq!(assigned["connectionString"], format!("HostName={hub};DeviceId=sn-007;x509=true"));

    // A certificate from the enrolled CA, with the intermediate.
    let of_group = Device::new("sn-008");
    let leaf = of_group.params.signed_by(&of_group.key, &intermediate).unwrap().pem();
    let chain = temporary("sn-008-chain.pem", &(leaf.clone() + &intermediate.pem()));
    over_http("sn-008", &chain, &of_group).run().expect(0);
    over_mqtt("sn-008", &chain, &of_group).run().expect(0);
    let requests = emulator.requests();
    assert!(requests.iter().all(|request| !request.authorization), "{requests:?}");

    // A gap in the chain, another device's certificate, and an unknown certificate.
    let incomplete = temporary("sn-008-leaf.pem", &leaf);
    let unknown = Device::new("sn-007");
    let [unknown_certificate, ..] = unknown.files("sn-007-unknown");
    for gateway in [
        over_http("sn-008", &incomplete, &of_group),
        over_http("sn-009", &chain, &of_group),
        {
            let gateway = show(https(&emulator), "sn-007-unknown", &unknown_certificate, &unknown);
            gateway.args(&["--ca", ca.to_str().unwrap()])
        },
        over_mqtt("sn-009", &chain, &of_group),
    ] {
        let run = gateway.run();
        run.expect(UNAUTHORIZED);
        for part in ["does not accept this device's certificate", "401002", "common name"] {
            assert!(run.stderr.contains(part), "no {part} in {}", run.stderr);
        }
    }
}

#[test]
fn a_certificate_is_issued() {
    let mut config = polled();
    config.behaviour.result_at_once = true;
    config.enrollment_groups[0].certificate_policy = Some("short-lived".to_owned());
    let emulator = start(config);
    let ca = temporary("csr-ca.pem", emulator.ca_pem());
    let ca = ca.to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("hub.pem");
    let mqtt = emulator.mqtts_url().unwrap().replace("mqtts://", "");
    let over_mqtt = ["--transport", "mqtt", "--ca", ca];
    // An RSA request is longer than the requests of most devices.
    let device = Device::with(KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), TOASTER);
    let [_, key_file, pem] = device.files("csr");
    let der = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gateway-csr.der");
    fs::write(&der, device.params.serialize_request(&device.key).unwrap().der()).unwrap();

    for (url, args, csr, is_root_first) in [
        (http(&emulator), &[][..], &pem, false),
        (http(&emulator), &[][..], &der, true),
        (https(&emulator), &["--ca", ca], &der, true),
        (&mqtt, &over_mqtt, &pem, false),
    ] {
        emulator.update(|config| config.behaviour.issued_chain_root_first = is_root_first);
        let files = ["--csr", csr.to_str().unwrap(), "--issued-out", out.to_str().unwrap()];
        let gateway = || Gateway::to(url, TOASTER).args(args).args(&files).key(TOASTER_KEY);
        let run = gateway().run();
        run.expect(0);
        assert!(run.stdout.contains("\nissued:     3 certificates\n"), "{}", run.stdout);
        let chain: Vec<_> = CertificateDer::pem_file_iter(&out).unwrap().map(Result::unwrap).collect();
        let public_key = device.key.subject_public_key_info();
        let is_own: Vec<_> = chain.iter().map(|der| der.windows(public_key.len()).any(|at| at == public_key)).collect();
        assert_eq!(is_own, [true, false, false]);

        // JSON has the chain as sent. The connection string is that of a device with a certificate.
        let run = gateway().args(&["--json", "--connection-string"]).run();
        run.expect(0);
        let answer: Value = serde_json::from_str(&emulator.requests().pop().unwrap().response_body).unwrap();
        let state = &answer["registrationState"];
        assert_eq!(run.json()["issuedCertificateChain"], state["issuedCertificateChain"]);
        assert_eq!(run.json()["issuedCertificateChain"].as_array().unwrap().len(), 3);
        assert!(run.json()["connectionString"].as_str().unwrap().ends_with(";x509=true"));
        // No temporary file is left.
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    // The service accepts the issued certificate.
    emulator.update(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.to_owned(),
            x509: attested_by(&fs::read_to_string(&out).unwrap()),
            ..Default::default()
        });
    });
    let files = ["--cp", out.to_str().unwrap(), "--kp", key_file.to_str().unwrap(), "--ca", ca];
    Gateway::to(https(&emulator), TOASTER).args(&files).run().expect(0);
}

#[test]
fn no_certificate_is_issued() {
    let emulator = emulator();
    let device = Device::new(TOASTER);
    let [.., csr] = device.files("not-issued");
    let out = temporary("not-issued-out.pem", "the last one");
    let files = ["--csr", csr.to_str().unwrap(), "--issued-out", out.to_str().unwrap()];
    let gateway = || Gateway::to(http(&emulator), TOASTER).args(&files).key(TOASTER_KEY);
    // The service rejects the request, because the enrollment has no certificate policy.
    gateway().run().expect(REFUSED);

    // The service assigns the device, but issues no certificate.
    emulator.update(|config| config.behaviour.ignore_csr_without_policy = true);
    let run = gateway().run();
    run.expect(NO_CERTIFICATE);
    assert!(run.stdout.contains(TOASTERS_HUB) && run.stdout.contains("issued:     0 certificates"), "{}", run.stdout);
    assert!(run.stderr.contains("assigned, but no certificate was issued"), "{}", run.stderr);
    let run = gateway().args(&["--json"]).run();
    run.expect(NO_CERTIFICATE);
    assert_eq!(run.json().get("issuedCertificateChain"), None);

    // The service sends the certificate of another device.
    let another = CertificateDer::from_pem_slice(Device::new(TOASTER).certificate.as_bytes()).unwrap();
    let answer = json!({"registrationState": {"issuedCertificateChain": [BASE64_STANDARD.encode(another)]}});
    emulator.script(Script::merge(Operation::Register, answer));
    let run = gateway().run();
    run.expect(NO_CERTIFICATE);
    assert!(run.stderr.contains("issuedCertificateChain"), "{}", run.stderr);

    assert_eq!(fs::read_to_string(&out).unwrap(), "the last one");
}

// ---- The record ----

#[test]
fn a_record_avoids_a_request() {
    let emulator = emulator();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("record");
    let at = |url: &str| Gateway::to(url, TOASTER).args(&["--record", file.to_str().unwrap()]);
    let gateway = || at(http(&emulator)).key(TOASTER_KEY);
    let first = gateway().args(&["--json"]).run();
    first.expect(0);
    assert_eq!(first.json()["from"], "service");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);

    // The record has the answer of the service, without a key. The address of the service does not matter.
    let mut expected = first.json();
    expected["from"] = json!("record");
    for of_the_run in ["operationId", "endpoint"] {
        expected.as_object_mut().unwrap().remove(of_the_run);
    }
    let again = at("http://127.0.0.1:9").args(&["--json"]).run();
    again.expect(0);
    assert_eq!((again.json(), again.stderr.as_str()), (expected, ""));
    let again = gateway().run();
    again.expect(0);
    assert!(again.stdout.contains("\nfrom:       the record"), "{}", again.stdout);
    assert_eq!(emulator.requests().len(), 1);

    // The hub has rejected the device, and the service rejects it too. The record is kept.
    let kept = fs::read(&file).unwrap();
    let old = directory.path().join("old");
    fs::hard_link(&file, &old).unwrap();
    let reprovision = || gateway().args(&["--reprovision"]);
    reprovision().key(HEAT_PUMP_KEY).run().expect(UNAUTHORIZED);
    assert_eq!(fs::read(&file).unwrap(), kept);
    let moved = json!({"registrationState": {"assignedHub": "another-hub.azure-devices.net"}});
    emulator.script(Script::merge(Operation::Register, moved));
    for gateway in [reprovision(), gateway()] {
        let run = gateway.run();
        run.expect(0);
        assert!(run.stdout.contains("another-hub.azure-devices.net"), "{}", run.stdout);
    }
    assert_eq!(emulator.requests().len(), 3);
    // The old file is unchanged, because a new file replaced it.
    assert_eq!(fs::read(&old).unwrap(), kept);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}

#[test]
fn a_bad_record_is_replaced() {
    let emulator = emulator();
    let file = temporary("bad-record", "");
    let gateway = |id, key| {
        let gateway = Gateway::to(http(&emulator), id).args(&["--record", file.to_str().unwrap(), "--quiet"]);
        gateway.key(key)
    };
    fs::remove_file(&file).unwrap();
    let run = gateway(TOASTER, TOASTER_KEY).run();
    run.expect(0);
    assert_eq!(run.stderr, "");
    let good = fs::read(&file).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut newer = changed(2, 2);
    let content = newer.len() - 16;
    let digest = Sha256::digest(&newer[..content]);
    newer[content..].copy_from_slice(&digest[..16]);
    let torn = "incomplete or damaged";
    for (bytes, why) in [
        (good[..good.len() - 1].to_vec(), torn),
        (changed(40, b'#'), torn),
        (newer, "layout 2"),
        (Vec::new(), "there is no record"),
        (b"something else".to_vec(), "there is no record"),
    ] {
        fs::write(&file, bytes).unwrap();
        let served = emulator.requests().len();
        let run = gateway(TOASTER, TOASTER_KEY).run();
        run.expect(0);
        assert!(run.stderr.starts_with("warning: ") && run.stderr.contains(why), "{why}: {}", run.stderr);
        let run = gateway(TOASTER, TOASTER_KEY).run();
        run.expect(0);
        assert_eq!(run.stderr, "");
        assert_eq!(emulator.requests().len(), served + 1);
    }
    // The record of another device, as after copying a disk.
    let run = gateway(HEAT_PUMP, HEAT_PUMP_KEY).run();
    run.expect(0);
    assert!(run.stdout.contains(HEAT_PUMPS_HUB), "{}", run.stdout);
    assert!(run.stderr.contains("another registration ID"), "{}", run.stderr);
}

#[test]
fn the_records_connection_string_has_the_accepted_key() {
    let emulator = emulator();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("record");
    let gateway = || {
        let args = ["--connection-string", "--record", file.to_str().unwrap()];
        Gateway::to(http(&emulator), TOASTER).args(&args).key(HEAT_PUMP_KEY).may_print(TOASTER_KEY)
    };
    for _ in 0..2 {
        let run = gateway().secondary_key(TOASTER_KEY).run();
        run.expect(0);
        assert!(run.stdout.contains(&format!(";SharedAccessKey={TOASTER_KEY}\n")), "{}", run.stdout);
    }
    assert_eq!(emulator.requests().len(), 2);
    let run = gateway().run();
    run.expect(USAGE);
    assert!(run.stderr.contains("--secondary-key-file"), "{}", run.stderr);
}

#[test]
fn a_record_without_the_certificate_for_this_csr_is_ignored() {
    let mut config = polled();
    config.behaviour.result_at_once = true;
    config.enrollment_groups[0].certificate_policy = Some("short-lived".to_owned());
    let emulator = start(config);
    let directory = tempfile::tempdir().unwrap();
    let [file, out] = ["record", "hub.pem"].map(|name| directory.path().join(name));
    let [device, other] = ["", "other-"].map(|name| Device::new(TOASTER).files(&format!("{name}recorded")));
    let gateway = |csr: Option<&PathBuf>| {
        let gateway = Gateway::to(http(&emulator), TOASTER).args(&["--record", file.to_str().unwrap()]);
        let args = csr.map(|csr| ["--csr", csr.to_str().unwrap(), "--issued-out", out.to_str().unwrap()]);
        gateway.args(args.as_ref().map_or(&[], |args| args)).key(TOASTER_KEY)
    };
    gateway(None).run().expect(0);
    let run = gateway(Some(&device[2])).run();
    run.expect(0);
    assert!(run.stderr.contains("has no certificate for this csr"), "{}", run.stderr);
    let issued = fs::read_to_string(&out).unwrap();

    fs::remove_file(&out).unwrap();
    gateway(Some(&device[2])).run().expect(0);
    assert_eq!(fs::read_to_string(&out).unwrap(), issued);
    // The device uses the issued certificate at its hub, also if the command line has no --csr.
    let run = gateway(None).args(&["--connection-string"]).run();
    assert!(run.stdout.contains(";x509=true\n"), "{}", run.stdout);
    assert_eq!(emulator.requests().len(), 2);

    gateway(Some(&other[2])).run().expect(0);
    assert_ne!(fs::read_to_string(&out).unwrap(), issued);
    assert_eq!(emulator.requests().len(), 3);
}

#[test]
fn a_new_registration_does_not_lose_an_issued_certificate() {
    let mut config = polled();
    config.behaviour.result_at_once = true;
    config.enrollment_groups[0].certificate_policy = Some("short-lived".to_owned());
    let emulator = start(config);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("record");
    let device = Device::new(TOASTER).files("kept-");
    let gateway = |args: &[&str]| {
        let record = ["--record", file.to_str().unwrap()];
        Gateway::to(http(&emulator), TOASTER).args(&record).args(args).key(TOASTER_KEY)
    };
    let csr = ["--csr", device[2].to_str().unwrap()];
    gateway(&csr).run().expect(0);
    let kept = fs::read(&file).unwrap();

    let run = gateway(&["--reprovision"]).run();
    run.expect(USAGE);
    assert!(run.stderr.contains("--reprovision without --csr would lose it: give --csr"), "{}", run.stderr);
    assert_eq!((fs::read(&file).unwrap(), emulator.requests().len()), (kept, 1));

    gateway(&["--reprovision", csr[0], csr[1]]).run().expect(0);
    assert_eq!(emulator.requests().len(), 2);
    // Without --csr, a record without a certificate and an invalid record can be replaced, because no certificate is
    // lost.
    for lost in [false, true] {
        fs::remove_file(&file).unwrap();
        gateway(&[]).run().expect(0);
        if lost {
            fs::write(&file, "no record").unwrap();
        }
        gateway(&["--reprovision"]).run().expect(0);
    }
}

#[test]
fn a_new_registration_begins_with_the_key_of_the_record() {
    let emulator = emulator();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("record");
    let gateway = || {
        let gateway = Gateway::to(http(&emulator), TOASTER).args(&["--record", file.to_str().unwrap()]);
        gateway.key(HEAT_PUMP_KEY).secondary_key(TOASTER_KEY)
    };
    gateway().run().expect(0);
    assert_eq!(emulator.requests().len(), 2);
    // For half an hour, the service would reject the other key.
    let run = gateway().args(&["--reprovision"]).run();
    run.expect(0);
    assert!(!run.stderr.contains("Retrying"), "{}", run.stderr);
    assert_eq!(emulator.requests().len(), 3);
}

// ---- The status look-up ----

#[test]
fn status_shows_the_last_registration_and_registers_nothing() {
    let emulator = emulator();
    let ca = temporary("status-ca.pem", emulator.ca_pem());
    let status = || Gateway::to(http(&emulator), TOASTER).args(&["--status"]).key(TOASTER_KEY);
    let run = status().run();
    run.expect(UNASSIGNED);
    assert!(run.stderr.contains("404201") && run.stderr.contains("without --status"), "{}", run.stderr);
    let run = status().args(&["--json"]).run();
    run.expect(UNASSIGNED);
    let error = &run.json()["error"];
    assert_eq!((&error["kind"], &error["code"]), (&json!("unassigned"), &json!(404201)));

    let registered = Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY).run();
    let calls = emulator.webhook_calls().len();
    let over_tls = Gateway::to(https(&emulator), TOASTER).args(&["--status", "--ca", ca.to_str().unwrap()]);
    for gateway in [status(), over_tls.key(TOASTER_KEY), status().key(HEAT_PUMP_KEY).secondary_key(TOASTER_KEY)] {
        let run = gateway.run();
        run.expect(0);
        assert_eq!(run.stdout, registered.stdout);
        assert_eq!(emulator.requests().pop().unwrap().method, "POST");
    }
    assert_eq!(status().args(&["--json"]).run().json()["assignedHub"], TOASTERS_HUB);
    assert_eq!(emulator.webhook_calls().len(), calls);

    status().key(HEAT_PUMP_KEY).run().expect(UNAUTHORIZED);
}

#[test]
fn the_status_of_a_device_without_a_hub_is_an_error() {
    let emulator = emulator();
    let status = || Gateway::to(http(&emulator), TOASTER).args(&["--status", "--json"]).key(TOASTER_KEY);
    for (state, code) in [
        (r#"{"status":"assigning"}"#, UNASSIGNED),
        (r#"{"status":"unassigned"}"#, UNASSIGNED),
        (r#"{"status":"disabled"}"#, DISABLED),
        (r#"{"status":"failed","errorCode":400207}"#, REFUSED),
        (r#"{"errorCode":400207}"#, NOT_DPS),
    ] {
        emulator.script(Script::respond(Operation::Lookup, 200, &[], state));
        let run = status().run();
        run.expect(code);
        assert_eq!(run.json()["error"]["exitCode"], code, "{state}");
    }
}

#[test]
fn the_api_version_can_be_chosen() {
    let emulator = emulator();
    let gateway = || Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY);
    gateway().run().expect(0);
    gateway().args(&["--api-version", "2025-07-01-preview"]).run().expect(0);
    let versions: Vec<_> = emulator
        .requests()
        .iter()
        .map(|request| request.path.split_once("api-version=").unwrap().1.to_owned())
        .collect();
    assert_eq!(versions, ["2021-06-01", "2025-07-01-preview"]);
}

// ---- TLS ----

#[test]
fn https_needs_the_ca_that_the_emulator_wrote() {
    let emulator = start(polled());
    let ca = temporary("ca.pem", emulator.ca_pem());
    let ca = ca.to_str().unwrap();
    let by_address = https(&emulator).replace("localhost", "127.0.0.1");
    for url in [https(&emulator), &by_address] {
        let run = Gateway::to(url, TOASTER).args(&["--ca", ca]).key(TOASTER_KEY).run();
        run.expect(0);
        assert!(run.stderr.contains("Connected\nRegistering\n"), "{}", run.stderr);
    }
    assert!(emulator.requests().iter().all(|request| request.listener == "https"));
    let served = emulator.requests().len();

    let another = temporary("another-ca.pem", self::emulator().ca_pem());
    let untrusted: [&[&str]; 2] = [&[], &["--ca", another.to_str().unwrap()]];
    for args in untrusted {
        let run = Gateway::to(https(&emulator), TOASTER).args(&["--timeout", "600"]).args(args).key(TOASTER_KEY).run();
        run.expect(UNREACHABLE);
        assert!(run.stderr.contains("check --ca"), "{}", run.stderr);
        // A machine without any roots reports the missing roots instead.
        assert!(args.is_empty() || run.stderr.contains("invalid peer certificate"), "{}", run.stderr);
        // The program ends early, although it has much time.
        assert!(!run.stderr.contains("Retrying"), "{}", run.stderr);
    }
    assert_eq!(emulator.requests().len(), served);
}

/// The same cases as over HTTP end in the same exit codes.
#[test]
fn mqtt() {
    let emulator = start(polled());
    let ca = temporary("mqtt-ca.pem", emulator.ca_pem());
    let another = temporary("mqtt-another-ca.pem", self::emulator().ca_pem());
    let address = emulator.mqtts_url().unwrap().replace("mqtts://", "");
    let gateway =
        |id, ca: &PathBuf| Gateway::to(&address, id).args(&["--transport", "mqtt", "--ca", ca.to_str().unwrap()]);
    thread::scope(|scope| {
        for (id, key, hub) in [(TOASTER, TOASTER_KEY, TOASTERS_HUB), (HEAT_PUMP, HEAT_PUMP_KEY, HEAT_PUMPS_HUB)] {
            let (gateway, ca) = (&gateway, &ca);
            scope.spawn(move || {
                let run = gateway(id, ca).key(key).run();
                run.expect(0);
                assert!(run.stdout.starts_with(&format!("hub:        {hub}\ndevice ID:  {id}\n")), "{}", run.stdout);
            });
        }
        scope.spawn(|| {
            let run = gateway(TOASTER, &ca).key(HEAT_PUMP_KEY).run();
            run.expect(UNAUTHORIZED);
            assert!(run.stderr.contains("401000"), "{}", run.stderr);
        });
        scope.spawn(|| {
            let run = gateway("contoso-unknown-1", &ca).args(&["--compute-key"]).key(GROUP_KEY).run();
            run.expect(REFUSED);
            assert!(run.stderr.contains("400207"), "{}", run.stderr);
        });
        scope.spawn(|| gateway(TOASTER, &another).key(TOASTER_KEY).run().expect(UNREACHABLE));
        // Without --ca, the program uses the roots that the environment names.
        scope.spawn(|| {
            let gateway = Gateway::to(&address, TOASTER).args(&["--transport", "mqtt"]).key(TOASTER_KEY);
            gateway.env("SSL_CERT_FILE", ca.to_str().unwrap()).run().expect(0);
        });
        scope.spawn(|| {
            let gateway = Gateway::to(http(&emulator), TOASTER).args(&["--transport", "mqtt"]).key(TOASTER_KEY);
            gateway.run().expect(USAGE);
        });
    });
}

#[test]
fn https_of_minreq_with_ssl_cert_file() {
    let emulator = start(polled());
    let ca = temporary("ssl-cert-file.pem", emulator.ca_pem());
    let gateway = || Gateway::to(https(&emulator), TOASTER).key(TOASTER_KEY);
    gateway().env("SSL_CERT_FILE", ca.to_str().unwrap()).run().expect(0);
    let served = emulator.requests().len();
    assert!(served > 0);

    gateway().run().expect(UNREACHABLE);
    let another = temporary("another-ssl-cert-file.pem", self::emulator().ca_pem());
    let run = gateway().env("SSL_CERT_FILE", another.to_str().unwrap()).run();
    run.expect(UNREACHABLE);
    assert!(run.stderr.contains("invalid peer certificate"), "{}", run.stderr);
    assert_eq!(emulator.requests().len(), served);
}

#[test]
fn a_server_without_tls_fails_at_once() {
    let emulator = emulator();
    let url = http(&emulator).replace("http:", "https:");
    let run = Gateway::to(&url, TOASTER).args(&["--timeout", "30"]).key(TOASTER_KEY).run();
    run.expect(UNREACHABLE);
}

// ---- Exit codes ----

#[test]
fn usage() {
    let emulator = emulator();
    let url = http(&emulator);
    // 0.0.0.0 reaches this machine, but only by convention.
    let elsewhere = url.replace("127.0.0.1", "0.0.0.0");
    let own = |args: &[&str]| Gateway::to(url, TOASTER).args(args).key(TOASTER_KEY);
    let no_certificate = temporary("no-certificate.pem", "");
    let no_certificate = no_certificate.to_str().unwrap();
    let device = Device::new(TOASTER);
    let files = device.files("usage");
    let [certificate, private_key, csr] = files.each_ref().map(|file| file.to_str().unwrap());
    let other = Device::new(TOASTER).files("usage-other");
    let other_key = other[1].to_str().unwrap();
    let with_certificate = |cp: &str, kp: &str| Gateway::to(https(&emulator), TOASTER).args(&["--cp", cp, "--kp", kp]);
    let both = || with_certificate(certificate, private_key);
    let runs = [
        ("plain http to another host", Gateway::to(&elsewhere, TOASTER).key(TOASTER_KEY)),
        ("no arguments", Gateway::bare(&[])),
        ("no scope", Gateway::bare(&["--rid", TOASTER]).key(TOASTER_KEY)),
        ("a registration ID with a blank", Gateway::to(url, "sn 007").key(TOASTER_KEY)),
        ("no key", Gateway::to(url, TOASTER)),
        ("an invalid key", Gateway::to(url, TOASTER).key("no-base64!")),
        ("an invalid key as an argument", Gateway::to(url, TOASTER).args(&["--key", "no-base64!"])),
        ("a missing key file", own(&["--key-file", "/no/such/file"])),
        ("two keys", own(&["--key-file", "-", "--key", TOASTER_KEY])),
        ("a payload that is not an object", own(&["--payload", "[1]"])),
        ("a payload that is not JSON", own(&["--payload", "{1}"])),
        ("a CA for http", own(&["--ca", no_certificate])),
        ("a CA file without a certificate", {
            let gateway = Gateway::to(https(&emulator), TOASTER).key(TOASTER_KEY);
            gateway.args(&["--ca", no_certificate])
        }),
        ("a time-out of 0", own(&["--timeout", "0"])),
        ("an invalid secondary key", own(&[]).secondary_key("no-base64!")),
        ("two keys on one standard input", own(&["--key-file", "-", "--secondary-key-file", "-"])),
        ("a PEM key without its certificate", own(&["--key-file", private_key])),
        ("a certificate for http", Gateway::to(url, TOASTER).args(&["--cp", certificate, "--kp", private_key])),
        ("a certificate without its key", own(&["--certificate-file-path", certificate])),
        ("a key without its certificate", own(&["--key-file-path", private_key])),
        ("a certificate and a key", both().args(&["--key", TOASTER_KEY])),
        ("a certificate and a key file", both().args(&["--key-file", private_key])),
        ("a certificate and a group's key", both().args(&["--compute-key"])),
        ("a certificate and a secondary key", both().args(&["--secondary-key-file", private_key])),
        ("a missing certificate file", with_certificate("/no/such/file", private_key)),
        ("a certificate file without a certificate", with_certificate(private_key, private_key)),
        ("a missing key file", with_certificate(certificate, "/no/such/file")),
        ("a key file without a key", with_certificate(certificate, certificate)),
        ("another certificate's key", with_certificate(certificate, other_key)),
        ("a missing csr", own(&["--csr", "/no/such/file"])),
        ("a certificate as the csr", own(&["--csr", certificate])),
        ("an empty csr", own(&["--csr", no_certificate])),
        ("--issued-out without --csr", own(&["--issued-out", "issued.pem"])),
        (
            "an output file in a missing directory",
            own(&["--csr", csr, "--issued-out", "/no/such/directory/issued.pem"]),
        ),
        ("a directory as the output file", own(&["--csr", csr, "--issued-out", env!("CARGO_TARGET_TMPDIR")])),
        ("a device as the output file", own(&["--csr", csr, "--issued-out", "/dev/null"])),
        ("a status with a payload", own(&["--status", "--payload", "{}"])),
        ("a status with a csr", own(&["--status", "--csr", csr])),
        ("a status over MQTT", {
            let gateway = Gateway::to(https(&emulator), TOASTER).key(TOASTER_KEY);
            gateway.args(&["--status", "--transport", "mqtt"])
        }),
        ("a status of a record", own(&["--status", "--record", "record"])),
        ("a record in a missing directory", own(&["--record", "/no/such/directory/record"])),
        ("a directory as the record", own(&["--record", env!("CARGO_TARGET_TMPDIR")])),
        ("--reprovision without --record", own(&["--reprovision"])),
        ("an empty API version", own(&["--api-version", ""])),
        ("an invalid API version", own(&["--api-version", "2021-06-01&x=y"])),
    ];
    for (what, gateway) in runs {
        let run = gateway.may_not_print("no-base64!").may_not_print(&device.private_key_line()).run();
        assert_eq!(run.code, USAGE, "{what}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{what}");
        assert!(run.stderr.contains("error: ") || run.stderr.contains("Usage: "), "{what}: {}", run.stderr);
    }
    assert!(emulator.requests().is_empty());
}

#[test]
fn refused() {
    let emulator = start(polled());
    let gateway = || Gateway::to(http(&emulator), "garage12-contoso-lamp-001").args(&["--compute-key"]).key(GROUP_KEY);
    let run = gateway().run();
    run.expect(REFUSED);
    for part in ["400207", "Custom allocation failed with status code: 400", "to do:"] {
        assert!(run.stderr.contains(part), "no {part} in {}", run.stderr);
    }
    assert_eq!(run.stdout, "");

    let run = gateway().args(&["--json"]).run();
    run.expect(REFUSED);
    assert_eq!(run.stderr, "");
    let error = &run.json()["error"];
    assert_eq!(error["kind"], "refused");
    assert_eq!(error["exitCode"], REFUSED);
    assert_eq!(error["code"], 400207);
    assert_eq!(error["message"], "Custom allocation failed with status code: 400");
}

#[test]
fn disabled() {
    let emulator = emulator();
    emulator.update(|config| {
        config.individual_enrollments.push(IndividualEnrollment {
            registration_id: TOASTER.to_owned(),
            enabled: false,
            primary_key: SymmetricKey::from_base64(TOASTER_KEY).unwrap(),
            ..Default::default()
        });
    });
    let run = Gateway::to(http(&emulator), TOASTER).args(&["--json"]).key(TOASTER_KEY).run();
    run.expect(DISABLED);
    assert_eq!(run.json()["error"]["kind"], "disabled");
}

#[test]
fn unauthorized() {
    let emulator = emulator();
    let gateway = || Gateway::to(http(&emulator), TOASTER).key(HEAT_PUMP_KEY);
    let run = gateway().run();
    run.expect(UNAUTHORIZED);
    assert!(run.stderr.contains("401002"), "{}", run.stderr);
    // A wrong clock may cause the same rejection, so the error shows the service's time.
    assert!(run.stderr.contains("clock:  20"), "{}", run.stderr);

    let run = gateway().args(&["--json"]).run();
    run.expect(UNAUTHORIZED);
    let error = &run.json()["error"];
    assert_eq!((&error["kind"], &error["code"]), (&json!("unauthorized"), &json!(401002)));
    let answer: Value = serde_json::from_str(&emulator.requests().pop().unwrap().response_body).unwrap();
    assert_eq!(error["trackingId"], answer["trackingId"]);
    assert_eq!(error["message"], answer["message"]);
}

#[test]
fn busy() {
    let emulator = start(polled());
    let gateway = || Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY);
    let throttled = r#"{"errorCode":429001,"message":"Operations are being throttled for this tenant."}"#;
    emulator.script(Script::respond(Operation::Register, 429, &[("Retry-After", "60")], throttled));
    let run = gateway().args(&["--timeout", "30", "--json"]).run();
    run.expect(BUSY);
    assert_eq!(run.json()["error"]["code"], 429001);

    // With enough time, the program waits between attempts, each time longer.
    let registering = r#"{"errorCode":409203,"message":"Precondition failed."}"#;
    emulator.script(Script::respond(Operation::Register, 409, &[], registering).times(2));
    let run = gateway().run();
    run.expect(0);
    let waits: Vec<f32> = (2..4)
        .map(|attempt| {
            let cause = format!(" s, attempt {attempt}: the service refused the request: 409203");
            let line =
                run.stderr.lines().find(|line| line.contains(&cause)).unwrap_or_else(|| panic!("{}", run.stderr));
            line.strip_prefix("Retrying in ").unwrap().split(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    assert!((1.0..=2.0).contains(&waits[0]) && (2.0..=4.0).contains(&waits[1]), "{waits:?}");

    let assigning = r#"{"operationId":"5.1","status":"assigning"}"#;
    emulator.script(Script::respond(Operation::Status, 202, &[("Retry-After", "1")], assigning).times(9));
    gateway().args(&["--timeout", "2"]).run().expect(BUSY);
}

#[test]
fn unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ca = temporary("unreachable-ca.pem", emulator().ca_pem());
    let over_http = || Gateway::to(&format!("http://{address}"), TOASTER).key(TOASTER_KEY);
    let over_tls = || {
        let gateway = Gateway::to(&address.to_string(), TOASTER).key(TOASTER_KEY);
        gateway.args(&["--ca", ca.to_str().unwrap()])
    };

    // The server accepts connections and sends nothing.
    let begun = Instant::now();
    over_http().args(&["--timeout", "1"]).run().expect(UNREACHABLE);
    over_tls().args(&["--timeout", "1"]).run().expect(UNREACHABLE);
    assert!(begun.elapsed() < Duration::from_secs(10));

    // Port 1 has no listener. A free port that was just closed may already be in use again.
    let over_http = Gateway::to("http://127.0.0.1:1", TOASTER).key(TOASTER_KEY);
    let over_tls = Gateway::to("127.0.0.1:1", TOASTER).key(TOASTER_KEY).args(&["--ca", ca.to_str().unwrap()]);
    for gateway in [over_http, over_tls] {
        let run = gateway.args(&["--timeout", "3", "--json"]).run();
        run.expect(UNREACHABLE);
        let error = &run.json()["error"];
        assert_eq!(error["kind"], "unreachable");
        assert!(error["seen"].as_str().unwrap().contains("Connection refused"), "{error}");
    }

    // A single broken connection is not a failure.
    let emulator = emulator();
    emulator.script(Script::drop_connection(Operation::Register));
    Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY).run().expect(0);
}

/// The server sends a handshake record byte by byte. Each byte arrives in time, but the record is never complete.
#[test]
fn a_slow_handshake_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || {
                let mut socket = socket.unwrap();
                // The header of a handshake record of 16 KB.
                let mut sent = socket.write_all(&[22, 3, 3, 0x40, 0]);
                while sent.is_ok() {
                    thread::sleep(Duration::from_millis(20));
                    sent = socket.write_all(&[0]);
                }
            });
        }
    });
    let ca = temporary("trickling-ca.pem", emulator().ca_pem());
    let gateway = |args: &[&str]| {
        let gateway = Gateway::to(&address, TOASTER).key(TOASTER_KEY).args(args);
        gateway.args(&["--ca", ca.to_str().unwrap(), "--timeout", "1"])
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        for transport in ["http", "mqtt"] {
            let gateway = gateway(&["--transport", transport]);
            scope.spawn(|| gateway.run().expect(UNREACHABLE));
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn not_dps() {
    let emulator = emulator();
    let ca = temporary("not-dps-ca.pem", emulator.ca_pem());
    let over_http = || Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY);
    let over_tls = || {
        let gateway = Gateway::to(https(&emulator), TOASTER).key(TOASTER_KEY);
        gateway.args(&["--ca", ca.to_str().unwrap()])
    };
    // A captive portal answers with its page, or with a redirect.
    for _ in 0..2 {
        emulator.script(Script::respond(Operation::Register, 200, &[], "<html>Please log in</html>"));
    }
    over_http().run().expect(NOT_DPS);
    over_tls().run().expect(NOT_DPS);
    emulator.script(Script::respond(Operation::Register, 302, &[("Location", "https://login.example/")], "Log in"));
    over_http().run().expect(NOT_DPS);

    let assigned_nowhere = r#"{"status":"assigned","registrationState":{"status":"assigned"}}"#;
    emulator.script(Script::respond(Operation::Register, 200, &[], assigned_nowhere));
    let run = over_http().args(&["--json"]).run();
    run.expect(NOT_DPS);
    assert_eq!(run.json()["error"]["kind"], "notDps");

    emulator.script(Script::raw(Operation::Register, "SSH-2.0-OpenSSH_9.9\r\n"));
    over_tls().run().expect(NOT_DPS);
    // minreq reports invalid data as a missing answer.
    emulator.script(Script::raw(Operation::Register, "SSH-2.0-OpenSSH_9.9\r\n").times(2));
    over_http().args(&["--timeout", "3"]).run().expect(UNREACHABLE);
}

#[test]
fn the_service_cannot_control_the_terminal() {
    let emulator = emulator();
    let message = r#"{"errorCode":400000,"message":"\u001b[2Jgotcha"}"#;
    emulator.script(Script::respond(Operation::Register, 400, &[], message));
    let run = Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY).run();
    run.expect(REFUSED);
    assert!(run.stderr.contains("gotcha"), "{}", run.stderr);
    assert!(!run.stderr.contains('\u{1b}'), "{:?}", run.stderr);
}

#[test]
fn help_documents_the_exit_codes_shows_no_key_and_fits_80_columns() {
    let run = Gateway::bare(&["--help"]).key(GROUP_KEY).run();
    run.expect(0);
    let (_, exit_codes) = run.stdout.split_once("Exit codes:\n").unwrap();
    // Continuation lines have more spaces at the start.
    let codes = exit_codes.lines().filter_map(|line| line.strip_prefix("  "));
    let listed: Vec<_> = codes.filter_map(|line| line.split(' ').next()).filter(|code| !code.is_empty()).collect();
    assert_eq!(listed, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]);
    for flag in ["--id-scope", "--registration-id", "--symmetric-key", "--compute-key", "--payload"] {
        assert!(run.stdout.contains(flag), "{flag}");
    }
    assert!(run.stdout.contains("worst place"));

    for program in ["gateway", "fleet", "contoso"] {
        for flag in ["-h", "--help"] {
            for columns in ["80", "200", ""] {
                // Without a terminal, the width is 80 columns, also without COLUMNS.
                let output = output_of(Command::new(example(program)).arg(flag).env("COLUMNS", columns));
                let help = String::from_utf8(output.stdout).unwrap();
                let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
                assert!(help.contains("Usage: ") && long.is_empty(), "{program} {flag}: {long:#?}");
            }
        }
    }

    let run = Gateway::bare(&["--version"]).run();
    assert_eq!(run.stdout, format!("gateway {}\n", env!("CARGO_PKG_VERSION")));
}

/// The command in the unit provisions a device with a certificate. systemd restarts the unit after the exit codes that
/// can pass. The page lists the same codes.
#[test]
fn the_systemd_unit_is_for_this_program() {
    let unit = include_str!("../examples/gateway/azure-dps.service").replace("\\\n", " ");
    let setting = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
    let permanent = [USAGE, REFUSED, DISABLED, UNAUTHORIZED, NO_CERTIFICATE].map(|code| code.to_string());
    assert_eq!(setting("RestartPreventExitStatus"), permanent.join(" "));
    assert_eq!(setting("Restart"), "on-failure");
    let (_, table) = include_str!("../docs/gateway.md").split_once("## Exit codes\n").unwrap();
    let rows = table.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    let advice: Vec<_> = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>()).collect();
    let stop = advice.iter().filter(|cells| cells[3].starts_with("stop")).map(|cells| cells[1]);
    assert_eq!(stop.collect::<Vec<_>>(), permanent);

    let [root, _] = authorities();
    let device = Device::new("sn-008");
    let mut params = device.params.clone();
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = params.signed_by(&device.key, &root).unwrap().pem();
    let mut config = polled();
    config.enrollment_groups[0] = EnrollmentGroup {
        enrollment_group_id: "factory".to_owned(),
        x509: attested_by(&root.pem()),
        ..Default::default()
    };
    let emulator = start(config);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    fs::write(format!("{folder}/device.pem"), certificate).unwrap();
    fs::write(format!("{folder}/device-key.pem"), device.key.serialize_pem()).unwrap();
    let command = setting("ExecStart").replace("${ID_SCOPE}", "0ne00002193").replace("${REGISTRATION_ID}", "sn-008");
    let command = command.replace("${CREDENTIALS_DIRECTORY}", folder).replace("${STATE_DIRECTORY}", folder);
    let ca = temporary("unit-ca.pem", emulator.ca_pem());
    let gateway = || {
        let args: Vec<_> = command.split_whitespace().skip(1).collect();
        Gateway::bare(&args).args(&["--host", https(&emulator)]).env("SSL_CERT_FILE", ca.to_str().unwrap())
    };
    for from in ["service", "record"] {
        let run = gateway().may_not_print(&device.private_key_line()).run();
        run.expect(0);
        let assigned = run.json();
        assert_eq!((&assigned["deviceId"], &assigned["from"]), (&json!("sn-008"), &json!(from)));
    }
}

// ---- Helpers ----

/// Returns the configuration of the tutorial's service. The device must poll once.
fn polled() -> Config {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    config.behaviour.polls_before_result = 0;
    config
}

fn start(config: Config) -> Emulator {
    Emulator::builder(config).http("127.0.0.1:0").https("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap()
}

/// Starts an emulator that returns the result at once, for tests that do not need polls.
fn emulator() -> Emulator {
    let mut config = polled();
    config.behaviour.result_at_once = true;
    start(config)
}

fn http(emulator: &Emulator) -> &str {
    emulator.http_url().unwrap()
}

fn https(emulator: &Emulator) -> &str {
    emulator.https_url().unwrap()
}

/// Creates a file with a name that no other test uses.
fn temporary(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gateway-{name}"));
    fs::write(&path, text).unwrap();
    path
}

/// Creates a root CA and its intermediate CA.
fn authorities() -> [CertifiedIssuer<'static, KeyPair>; 2] {
    let params = |name| {
        let mut params = Device::new(name).params;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root = CertifiedIssuer::self_signed(params("root"), KeyPair::generate().unwrap()).unwrap();
    let intermediate = CertifiedIssuer::signed_by(params("intermediate"), KeyPair::generate().unwrap(), &root).unwrap();
    [root, intermediate]
}

/// Returns the X.509 attestation with the first certificate of a PEM text.
fn attested_by(pem: &str) -> Option<X509Attestation> {
    Some(X509Attestation { primary: Certificate::from_pem(pem).unwrap(), secondary: None })
}

/// Returns a configuration that enrolls this device by its certificate, and a group by its CA.
fn by_certificate(registration_id: &str, device: &Device, ca_pem: &str) -> Config {
    let mut config = polled();
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: registration_id.to_owned(),
        x509: attested_by(&device.certificate),
        ..Default::default()
    });
    config.enrollment_groups.push(EnrollmentGroup {
        enrollment_group_id: "by-certificate".to_owned(),
        x509: attested_by(ca_pem),
        ..Default::default()
    });
    config
}

/// A device with a key pair and a self-signed certificate.
struct Device {
    key: KeyPair,
    params: CertificateParams,
    certificate: String,
}

impl Device {
    fn new(common_name: &str) -> Self {
        Self::with(KeyPair::generate().unwrap(), common_name)
    }

    fn with(key: KeyPair, common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { key, params, certificate }
    }

    /// Writes the certificate, its private key, and a certificate request.
    fn files(&self, name: &str) -> [PathBuf; 3] {
        let request = self.params.serialize_request(&self.key).unwrap().pem().unwrap();
        [
            temporary(&format!("{name}.pem"), &self.certificate),
            temporary(&format!("{name}-key.pem"), &self.key.serialize_pem()),
            temporary(&format!("{name}.csr"), &request),
        ]
    }

    /// Returns a line of the private key. No output may contain it.
    fn private_key_line(&self) -> String {
        self.key.serialize_pem().lines().nth(1).unwrap().to_owned()
    }
}

/// A call of the program. Each call checks that the program prints no key.
struct Gateway {
    args: Vec<String>,
    env: HashMap<String, String>,
    stdin: String,
    /// The delay before standard input is written.
    typing: Duration,
    secrets: Vec<String>,
}

impl Gateway {
    fn bare(args: &[&str]) -> Self {
        let secrets = [GROUP_KEY, TOASTER_KEY, HEAT_PUMP_KEY, "SharedAccessSignature", "sig="];
        let secrets = secrets.map(str::to_owned).to_vec();
        Self { args: Vec::new(), env: HashMap::new(), stdin: String::new(), typing: Duration::ZERO, secrets }.args(args)
    }

    fn to(url: &str, registration_id: &str) -> Self {
        Self::bare(&["--id-scope", "0ne00002193", "--registration-id", registration_id, "--host", url])
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn key(self, key: &str) -> Self {
        self.env("AZURE_DPS_SYMMETRIC_KEY", key)
    }

    fn secondary_key(self, key: &str) -> Self {
        self.env("AZURE_DPS_SECONDARY_KEY", key)
    }

    fn stdin(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stdin);
        self
    }

    fn typing_takes(mut self, time: Duration) -> Self {
        self.typing = time;
        self
    }

    fn may_print(mut self, key: &str) -> Self {
        self.secrets.retain(|secret| secret != key);
        self
    }

    fn may_not_print(mut self, text: &str) -> Self {
        self.secrets.push(text.to_owned());
        self
    }

    fn run(self) -> Run {
        let mut program = Command::new(example("gateway"))
            .args(&self.args)
            .env_remove("AZURE_DPS_SYMMETRIC_KEY")
            .env_remove("AZURE_DPS_SECONDARY_KEY")
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR")
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .env_remove("ALL_PROXY")
            .env_remove("all_proxy")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(self.typing);
        // A program that reads no key may already have ended.
        let _ = program.stdin.take().unwrap().write_all(self.stdin.as_bytes());
        let output = program.wait_with_output().unwrap();
        let run = Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        for secret in &self.secrets {
            assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "printed a secret: {:?}", self.args);
        }
        run
    }
}

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    #[track_caller]
    fn expect(&self, code: i32) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}
