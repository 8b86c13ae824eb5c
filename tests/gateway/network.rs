//! Connections to the service, time limits, and the answers that the program accepts and prints.

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use programs::output_of;
use proxy::Proxy;

use super::*;

/// Returns the port at the end of a URL.
fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap()
}

#[test]
fn ipv6_addresses_over_every_transport() {
    let mut config = polled();
    config.behaviour.result_at_once = true;
    let builder = Emulator::builder(config).http("[::1]:0").https("[::1]:0").mqtt("[::1]:0").mqtts("[::1]:0");
    let emulator = builder.start().unwrap();
    let ca = temporary("ipv6-ca.pem", emulator.ca_pem());
    let ca = ca.to_str().unwrap();
    let [plain, tls, mqtt, mqtts] =
        [emulator.http_url(), emulator.https_url(), emulator.mqtt_url(), emulator.mqtts_url()]
            .map(|url| format!("[::1]:{}", port(url.unwrap())));
    let [plain, tls] = [format!("http://{plain}"), format!("https://{tls}")];
    for (url, args, listener) in [
        (&plain, &[][..], "http"),
        (&plain, &["--status"], "http"),
        (&tls, &["--ca", ca], "https"),
        (&mqtts, &["--ca", ca, "--transport", "mqtt"], "mqtts"),
    ] {
        let run = Gateway::to(url, TOASTER).args(args).key(TOASTER_KEY).run();
        run.expect(0);
        assert!(run.stdout.contains(TOASTERS_HUB), "{}", run.stdout);
        assert!(run.stderr.contains("://[::1]:"), "{}", run.stderr);
        assert_eq!(emulator.requests().pop().unwrap().listener, listener);
    }
    // With the roots of this machine.
    for args in [&[][..], &["--transport", "mqtt"]] {
        let url = if args.is_empty() { &tls } else { &mqtts };
        let gateway = Gateway::to(url, TOASTER).args(args).key(TOASTER_KEY);
        gateway.env("SSL_CERT_FILE", ca).run().expect(0);
    }
    // The program does not trust this server.
    Gateway::to(&tls, TOASTER).key(TOASTER_KEY).run().expect(UNREACHABLE);

    // The example `fleet`.
    let fleet = ["--id-scope", "0ne00002193", "--devices", "2", "--rid", "fleet-{}-contoso-tstrsd-007", "--ca", ca];
    for args in [&["--host", &tls][..], &["--host", &mqtts, "--transport", "mqtt"]] {
        let mut program = Command::new(example("fleet"));
        let output = output_of(program.args(fleet).args(args).env("AZURE_DPS_SYMMETRIC_KEY", GROUP_KEY));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let [mqtt, mqtts_url] =
        [("mqtt", &mqtt), ("mqtts", &mqtts)].map(|(scheme, address)| format!("{scheme}://{address}"));
    for (name, args) in [
        ("mqtt_embedded", &[mqtt.as_str(), TOASTER][..]),
        ("mqtt_embedded", &[&mqtts_url, TOASTER, ca]),
        ("mqtt_rumqttc", &[&mqtts, ca, TOASTER]),
    ] {
        let mut program = Command::new(example(name));
        let output = output_of(program.args(args).env("AZURE_DPS_SYMMETRIC_KEY", TOASTER_KEY));
        assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn ipv4_addresses_over_tls() {
    let emulator = emulator();
    let ca = temporary("ipv4-ca.pem", emulator.ca_pem());
    for (url, transport) in [(https(&emulator), "http"), (emulator.mqtts_url().unwrap(), "mqtt")] {
        let address = format!("127.0.0.1:{}", port(url));
        let args = ["--ca", ca.to_str().unwrap(), "--transport", transport];
        Gateway::to(&address, TOASTER).args(&args).key(TOASTER_KEY).run().expect(0);
    }
}

#[test]
fn https_goes_through_the_proxy_that_the_environment_names() {
    let mut config = polled();
    config.behaviour.result_at_once = true;
    let device = Device::new("sn-007");
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: "sn-007".to_owned(),
        x509: attested_by(&device.certificate),
        ..Default::default()
    });
    let emulator = Emulator::builder(config).http("127.0.0.1:0").https("127.0.0.1:0").start().unwrap();
    let ca = temporary("proxy-ca.pem", emulator.ca_pem());
    let ca = ca.to_str().unwrap();
    let proxy = Proxy::start();
    let [certificate, key, _] = device.files("proxied").map(|file| file.to_str().unwrap().to_owned());
    let to = |url: &str, id: &str| Gateway::to(url, id).env("SSL_CERT_FILE", ca);
    let toaster = || to(https(&emulator), TOASTER).key(TOASTER_KEY);
    let with_certificate = || to(https(&emulator), "sn-007").args(&["--cp", &certificate, "--kp", &key]);

    // Through the proxy: with the roots of this machine, with a CA file and with a certificate. Each variable that
    // names a proxy is used.
    let mut tunnels = 0;
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        for gateway in [toaster(), toaster().args(&["--ca", ca]), with_certificate()] {
            let run = gateway.env(variable, &proxy.url()).run();
            run.expect(0);
            tunnels += 1;
            assert_eq!(proxy.heads().len(), tunnels);
            let begins = format!("Connecting to {} through the proxy {}/\n", https(&emulator), proxy.url());
            assert!(run.stderr.starts_with(&begins), "{}", run.stderr);
        }
    }
    let address = https(&emulator).strip_prefix("https://").unwrap();
    assert!(proxy.heads().iter().all(|head| head.starts_with(&format!("CONNECT {address} HTTP/1.1\r\n"))));

    // Without the proxy: excluded by NO_PROXY, or not needed.
    let past = |gateway: Gateway| gateway.env("HTTPS_PROXY", &proxy.url()).env("NO_PROXY", "example.com, localhost");
    for gateway in [past(toaster()), past(with_certificate()), to(http(&emulator), TOASTER).key(TOASTER_KEY)] {
        let run = gateway.env("HTTPS_PROXY", &proxy.url()).run();
        run.expect(0);
        assert!(!run.stderr.contains("proxy"), "{}", run.stderr);
    }
    assert_eq!(proxy.heads().len(), tunnels);
}

/// An unusable proxy is an error. The program never ignores it silently.
#[test]
fn a_proxy_that_cannot_be_used_is_an_error() {
    let emulator = emulator();
    let ca = temporary("no-proxy-ca.pem", emulator.ca_pem());
    let ca = ca.to_str().unwrap();
    let proxy = Proxy::start();
    let mqtts = emulator.mqtts_url().unwrap().replace("mqtts://", "");
    let to = |url: &str, proxy: &str| Gateway::to(url, TOASTER).key(TOASTER_KEY).env("HTTPS_PROXY", proxy);
    let over_mqtt = || to(&mqtts, &proxy.url()).args(&["--ca", ca, "--transport", "mqtt"]);
    let https = https(&emulator);
    for (gateway, why) in [
        (over_mqtt(), "MQTT does not go through a proxy: use --transport http, or list localhost in NO_PROXY"),
        (to(https, "socks5://localhost:1080"), "HTTPS_PROXY: the proxy must have a URL with http://"),
        (to(https, "http://user:open sesame@proxy"), "HTTPS_PROXY: it is not a URL"),
    ] {
        let run = gateway.may_not_print("sesame").run();
        run.expect(USAGE);
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
    over_mqtt().env("NO_PROXY", "localhost").run().expect(0);

    // A proxy that rejects the device is asked once. A proxy that is unreachable is retried.
    let wants_password = Proxy::answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let forbids = Proxy::answering(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, timeout, why) in [
        (wants_password.url().as_str(), "600", "the proxy needs a user and a password (HTTP 407)"),
        (forbids.url().as_str(), "600", "the proxy did not open a tunnel: HTTP 403"),
        (&format!("http://{gone}"), "1", &format!("the proxy http://{gone}/: ")),
    ] {
        let run = to(https, url).args(&["--timeout", timeout, "--json"]).run();
        run.expect(UNREACHABLE);
        let error = &run.json()["error"];
        assert!(error["seen"].as_str().unwrap().contains(why), "{error}");
        assert!(error["advice"].as_str().unwrap().contains("HTTPS_PROXY"), "{error}");
    }
    assert_eq!((wants_password.heads().len(), forbids.heads().len()), (1, 1));

    // The example `fleet`.
    let fleet = ["--id-scope", "0ne00002193", "--devices", "2", "--rid", "fleet-{}-contoso-tstrsd-007", "--ca", ca];
    for (name, args, key) in [
        ("fleet", [&fleet[..], &["--host", https]].concat(), GROUP_KEY),
        ("mqtt_rumqttc", vec![mqtts.as_str(), ca, TOASTER], TOASTER_KEY),
        ("mqtt_embedded", vec![emulator.mqtts_url().unwrap(), TOASTER, ca], TOASTER_KEY),
    ] {
        let mut program = Command::new(example(name));
        program.args(args).env("AZURE_DPS_SYMMETRIC_KEY", key).env_remove("NO_PROXY").env_remove("no_proxy");
        let output = output_of(program.env("HTTPS_PROXY", proxy.url()));
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("the proxy http://127.0.0.1:") && errors.contains("NO_PROXY"), "{name}: {errors}");
    }
    assert_eq!(proxy.heads().len(), 0);
}

/// Replaces the resolver of the C library with one that never answers.
#[test]
fn the_time_out_includes_the_dns_query() {
    let directory = tempfile::tempdir().unwrap();
    let [source, library] = ["resolver.c", "resolver.so"].map(|name| directory.path().join(name));
    fs::write(&source, "#include <unistd.h>\nint getaddrinfo() { sleep(60); return -3; }\n").unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).args([&library, &source]).status();
    assert!(cc.unwrap().success());
    let ca = temporary("resolver-ca.pem", emulator().ca_pem());
    let ca = ca.to_str().unwrap();
    let mut fleet = Command::new(example("fleet"));
    let fleet = fleet.args(["--id-scope", "0ne00002193", "--devices", "1", "--host", "dps.example", "--timeout", "1"]);
    let fleet = fleet.env("LD_PRELOAD", &library).env("AZURE_DPS_SYMMETRIC_KEY", GROUP_KEY);
    let begun = Instant::now();
    let output = output_of(fleet.args(["--ca", ca]));
    assert_eq!(output.status.code(), Some(USAGE));
    assert!(String::from_utf8_lossy(&output.stderr).contains("dps.example: the DNS query timed out"));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    let routes = [vec![], vec!["--ca", ca], vec!["--ca", ca, "--transport", "mqtt"]];
    thread::scope(|scope| {
        for args in &routes {
            let gateway = Gateway::to("dps.example", TOASTER).args(args).key(TOASTER_KEY).args(&["--timeout", "1"]);
            let gateway = gateway.env("LD_PRELOAD", library.to_str().unwrap());
            scope.spawn(move || {
                let begun = Instant::now();
                gateway.run().expect(UNREACHABLE);
                assert!(begun.elapsed() < Duration::from_secs(20), "{args:?}: {:?}", begun.elapsed());
            });
        }
    });
}

/// The time to type the key, or to read it from a slow program, does not count.
#[test]
fn the_time_out_starts_after_the_key_was_read() {
    let emulator = start(polled());
    for (args, key) in [(&["--key-file", "-"][..], TOASTER_KEY), (&["--key", "-", "--compute-key"], GROUP_KEY)] {
        let gateway = Gateway::to(http(&emulator), TOASTER).args(args).args(&["--timeout", "4"]);
        gateway.stdin(key).typing_takes(Duration::from_secs(4)).run().expect(0);
    }
}

/// Gateways that are rejected at the same time do not retry at the same time, even with the same name and the same
/// second of start.
#[test]
fn each_start_has_different_pauses() {
    let emulator = emulator();
    emulator.script(Script::respond(Operation::Register, 429, &[], r#"{"errorCode":429001}"#).times(6));
    let programs: Vec<_> = (0..6)
        .map(|_| {
            let mut program = Command::new(example("gateway"));
            program.args(["--scope", "0ne00002193", "--rid", TOASTER, "--host", http(&emulator)]);
            program.env("AZURE_DPS_SYMMETRIC_KEY", TOASTER_KEY).stderr(Stdio::piped()).stdin(Stdio::null());
            program.spawn().unwrap()
        })
        .collect();
    let mut waits: Vec<_> = programs
        .into_iter()
        .map(|mut program| {
            let lines = BufReader::new(program.stderr.take().unwrap()).lines();
            let line = lines.map(Result::unwrap).find(|line| line.starts_with("Retrying in ")).unwrap();
            program.kill().unwrap();
            program.wait().unwrap();
            line
        })
        .collect();
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 2, "{waits:?}");
}

/// Payloads up to the largest that a webhook may return, and larger ones.
#[test]
fn returned_payloads_of_every_size() {
    let emulator = emulator();
    let ca = temporary("size-ca.pem", emulator.ca_pem());
    let tls = ["--ca", ca.to_str().unwrap()];
    let mqtt = [&tls[..], &["--transport", "mqtt"]].concat();
    let mqtts = emulator.mqtts_url().unwrap().replace("mqtts://", "");
    let routes = [(http(&emulator), &[][..]), (https(&emulator), &tls), (&mqtts, &mqtt)];
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("record");
    for (url, args) in routes {
        let gateway = |size: usize| {
            let payload = json!({"data": "x".repeat(size)});
            emulator.script(Script::merge(Operation::Register, json!({"registrationState": {"payload": payload}})));
            Gateway::to(url, TOASTER).args(args).args(&["--json"]).key(TOASTER_KEY)
        };
        for size in [70_000, 200_000, 1_000_000] {
            let gateway = gateway(size).args(&["--record", record.to_str().unwrap(), "--reprovision"]);
            let run = gateway.run();
            run.expect(0);
            assert_eq!(run.json()["payload"]["data"].as_str().unwrap().len(), size);
            // The record of this run can be read at the next start.
            let again = Gateway::to(url, TOASTER).args(args).args(&["--json", "--record", record.to_str().unwrap()]);
            let again = again.run();
            again.expect(0);
            assert_eq!(again.json()["payload"], run.json()["payload"]);
        }
        let registered = || emulator.requests().iter().filter(|request| request.method == "PUT").count();
        let before = registered();
        let run = gateway(1_200_000).run();
        run.expect(OTHER);
        let error = &run.json()["error"];
        assert_eq!(error["kind"], "other");
        assert_eq!(error["summary"], "this program's buffer is too small");
        let seen = error["seen"].as_str().unwrap();
        let size: usize = seen.split(' ').find_map(|word| word.parse().ok()).unwrap();
        assert!(seen.starts_with("the buffer is too small: ") && size > 1 << 20, "{seen}");
        // Not retried, because the answer would be too large again.
        assert_eq!(registered(), before + 1, "{url}");
    }
}

#[test]
fn json_has_the_group_and_the_endpoint() {
    let emulator = emulator();
    let ca = temporary("endpoint-ca.pem", emulator.ca_pem());
    let mqtts = emulator.mqtts_url().unwrap();
    let over_mqtt = ["--ca", ca.to_str().unwrap(), "--transport", "mqtt"];
    for (endpoint, host, args) in
        [(http(&emulator), http(&emulator), &[][..]), (mqtts, mqtts.strip_prefix("mqtts://").unwrap(), &over_mqtt)]
    {
        let gateway = || Gateway::to(host, TOASTER).args(args);
        let run = gateway().args(&["--json"]).key(TOASTER_KEY).run();
        run.expect(0);
        assert_eq!(run.json()["enrollmentGroupId"], "contoso-custom-allocated-devices");
        assert_eq!(run.json()["endpoint"], endpoint);
        let run = gateway().args(&["--json"]).key(HEAT_PUMP_KEY).run();
        run.expect(UNAUTHORIZED);
        assert_eq!(run.json()["error"]["endpoint"], endpoint);
        let run = gateway().key(TOASTER_KEY).run();
        assert!(run.stderr.starts_with(&format!("Connecting to {endpoint}\n")), "{}", run.stderr);
    }
    // The default port of MQTT.
    let gateway = Gateway::to("localhost", TOASTER).args(&over_mqtt).key(TOASTER_KEY);
    let run = gateway.args(&["--timeout", "1", "--json"]).run();
    assert_eq!(run.json()["error"]["endpoint"], "mqtts://localhost:8883");
}

/// The limit of the service is 96 KB. The payload makes the request longer than this.
#[test]
fn a_payload_that_the_service_rejects() {
    let emulator = emulator();
    let ca = temporary("payload-ca.pem", emulator.ca_pem());
    let mqtts = emulator.mqtts_url().unwrap().replace("mqtts://", "");
    let long = temporary("long-payload.json", &json!({"data": "x".repeat(100_000)}).to_string());
    let own = |url: &str, args: &[&str]| Gateway::to(url, TOASTER).args(args).key(TOASTER_KEY);
    for (url, args) in [
        (http(&emulator), &[][..]),
        (https(&emulator), &["--ca", ca.to_str().unwrap()]),
        (&mqtts, &["--ca", ca.to_str().unwrap(), "--transport", "mqtt"]),
    ] {
        let run = own(url, args).args(&["--payload", long.to_str().unwrap()]).run();
        run.expect(USAGE);
        assert!(run.stderr.contains("but the service accepts at most 98304: send a smaller payload"), "{}", run.stderr);
    }
    assert!(emulator.requests().is_empty());

    for (status, body) in [(400, r#"{"errorCode":400012,"message":"Deserialization error."}"#), (413, "")] {
        emulator.script(Script::respond(Operation::Register, status, &[], body));
        let run = own(http(&emulator), &["--payload", "{}"]).run();
        run.expect(REFUSED);
        assert!(run.stderr.contains("error: the service rejects the content of the request\n"), "{}", run.stderr);
        assert!(run.stderr.contains("to do:  check --payload and --csr"), "{}", run.stderr);
    }
}

#[test]
fn an_invalid_value_in_an_answer_is_shown() {
    let emulator = emulator();
    let answer = json!({"registrationState": {"assignedHub": "https://a hub"}});
    emulator.script(Script::merge(Operation::Register, answer));
    let run = Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY).run();
    run.expect(NOT_DPS);
    assert!(run.stderr.contains(r#": "https://a hub""#), "{}", run.stderr);
}

#[test]
fn an_empty_tracking_id_is_left_out() {
    let emulator = emulator();
    let body = r#"{"errorCode":400012,"trackingId":"","message":"Deserialization error."}"#;
    emulator.script(Script::respond(Operation::Register, 400, &[], body));
    let run = Gateway::to(http(&emulator), TOASTER).args(&["--json"]).key(TOASTER_KEY).run();
    run.expect(REFUSED);
    let error = &run.json()["error"];
    assert_eq!((&error["code"], &error["trackingId"]), (&json!(400012), &Value::Null));
}

/// The service forwards messages of its hub: JSON in a string, nested up to two levels.
#[test]
fn the_hubs_message_and_tracking_id_are_shown() {
    let emulator = emulator();
    let hubs_id = "8d2d1f0c5a8e4f0e9f6f6a1c-G:10-TimeStamp:06/01/2022 12:00:00";
    let words = "ErrorCode:IotHubUnauthorizedAccess;Unauthorized";
    let one = json!({"Message": words, "ExceptionMessage": format!("Tracking ID:{hubs_id}")}).to_string();
    let two = json!({"Message": one, "ExceptionMessage": ""}).to_string();
    let other = json!({"errorCode": 401002, "trackingId": hubs_id, "message": words}).to_string();
    let plain = format!("{words}, Tracking ID:{hubs_id}, more");
    for (message, text) in [(&one, words), (&two, words), (&other, words), (&plain, &format!("{words},"))] {
        let state = json!({"status": "failed", "errorCode": 401002, "errorMessage": message});
        let answer = json!({"operationId": "5.1", "status": "failed", "registrationState": state}).to_string();
        let gateway = || {
            emulator.script(Script::respond(Operation::Register, 200, &[], answer.clone()));
            Gateway::to(http(&emulator), TOASTER).key(TOASTER_KEY)
        };
        let run = gateway().args(&["--json"]).run();
        run.expect(REFUSED);
        let error = &run.json()["error"];
        assert_eq!((&error["message"], &error["hubTrackingId"]), (&json!(text), &json!(hubs_id)));
        let run = gateway().run();
        run.expect(REFUSED);
        assert!(
            run.stderr.contains(&format!("\n  reason: {text}\n  hub:    tracking ID {hubs_id}\n")),
            "{}",
            run.stderr
        );
    }
    // Other messages stay unchanged: plain text, and JSON without a text.
    for message in ["Custom allocation failed with status code: 400", "{}", "{\"Message\":", "[1]"] {
        let state = json!({"status": "failed", "errorCode": 400207, "errorMessage": message});
        let answer = json!({"operationId": "5.1", "status": "failed", "registrationState": state}).to_string();
        emulator.script(Script::respond(Operation::Register, 200, &[], answer));
        let run = Gateway::to(http(&emulator), TOASTER).args(&["--json"]).key(TOASTER_KEY).run();
        run.expect(REFUSED);
        let error = &run.json()["error"];
        assert_eq!((&error["message"], &error["hubTrackingId"]), (&json!(message), &Value::Null));
    }
}

#[test]
fn the_help_describes_the_pauses() {
    let help = Gateway::bare(&["--help"]).run().stdout;
    let (_, waits) = help.split_once("The gateway retries 6 and 7 until the time-out").unwrap();
    for part in ["growing pauses", "10 to 60 s", "5 to 80 s", "8 retries in a row"] {
        assert!(waits.contains(part), "{waits}");
    }
    assert!(help.contains("counts from when key and files have been read"), "{help}");
}
