//! Unusual input: paths that are not files, pasted keys, and certificates that TLS rejects.

use std::{os::unix::net::UnixListener, path::Path, process::Command};

use rcgen::date_time_ymd;
use rustls::{
    ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::*;

/// Longer than each of these calls takes, and shorter than the time limit of a pipe.
const FAST: Duration = Duration::from_secs(20);

fn pipe(directory: &tempfile::TempDir) -> PathBuf {
    let path = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

// ---- Files ----

/// No path on the command line makes the program read or wait without limit, or write to a device.
#[test]
fn a_path_that_is_not_a_file_is_an_error_at_once() {
    let emulator = emulator();
    let directory = tempfile::tempdir().unwrap();
    let pipe = pipe(&directory);
    let socket = directory.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let device = Device::new(TOASTER).files("no-file");
    let own = |args: &[&str]| Gateway::to(http(&emulator), TOASTER).args(args).key(TOASTER_KEY);
    let over_tls = |args: &[&str]| Gateway::to(https(&emulator), TOASTER).args(args).key(TOASTER_KEY);
    let read = |path: &str| {
        [
            (Gateway::to(http(&emulator), TOASTER).args(&["--key-file", path]), "cannot read the key"),
            (own(&["--secondary-key-file", path]), "cannot read the key"),
            (own(&["--payload", path]), "cannot read the payload"),
            (own(&["--payload", &format!("@{path}")]), "cannot read the payload"),
            (own(&["--csr", path]), "cannot read the csr"),
            (over_tls(&["--ca", path]), "cannot read the CA certificates"),
            (over_tls(&["--ca", path, "--transport", "mqtt"]), "cannot read the CA certificates"),
            (over_tls(&["--cp", path, "--kp", text(&device[1])]), "cannot read the device's certificate"),
            (over_tls(&["--cp", text(&device[0]), "--kp", path]), "cannot read the private key"),
            (over_tls(&[]).env("SSL_CERT_FILE", path), "SSL_CERT_FILE: cannot read the CA certificates"),
            (
                over_tls(&["--transport", "mqtt"]).env("SSL_CERT_FILE", path),
                "SSL_CERT_FILE: cannot read the CA certificates",
            ),
            (Gateway::bare(&["derive-key", "--rid", "a", "--key-file", path]), "cannot read the key"),
            (
                Gateway::bare(&["derive-key", "--ids-file", path, "--key", GROUP_KEY]),
                "cannot read the registration IDs",
            ),
        ]
    };
    let begun = Instant::now();
    for (path, why) in [
        ("/dev/zero", "it is a device, not a file"),
        ("/dev/full", "it is a device, not a file"),
        ("/dev/null", "it is a device, not a file"),
        (text(&socket), "it is a device, not a file"),
        (env!("CARGO_TARGET_TMPDIR"), "it is a directory, not a file"),
        ("/no/such/file", "No such file"),
    ] {
        for (gateway, what) in read(path) {
            let run = gateway.run();
            run.expect(USAGE);
            // If two options are wrong, the error names either of them.
            assert!(run.stderr.contains(&format!("{what}: {path}: ")), "{what}: {}", run.stderr);
            assert!(run.stderr.contains(why), "{}", run.stderr);
        }
    }
    // A file that is replaced, or that another library reads, must not be a pipe either.
    for (path, why) in [("/dev/full", "a device"), (text(&pipe), "a pipe"), ("/", "a directory")] {
        for run in [own(&["--record", path]).run(), over_tls(&[]).env("SSL_CERT_FILE", path).run()] {
            run.expect(USAGE);
            assert!(run.stderr.contains(&format!("{path}: it is {why}, not a file")), "{}", run.stderr);
        }
        let out = own(&["--csr", text(&device[2]), "--issued-out", path]).run();
        out.expect(USAGE);
        assert!(out.stderr.contains(&format!("cannot write {path}: it is not a regular file")), "{}", out.stderr);
    }
    assert!(emulator.requests().is_empty());
    assert!(begun.elapsed() < 5 * FAST, "{:?}", begun.elapsed());
}

#[test]
fn files_have_a_maximum_size() {
    let emulator = emulator();
    let long = temporary("long", "");
    for (flag, limit) in
        [("--key-file", 4 << 10), ("--payload", 1 << 20), ("--csr", 64 << 10), ("--ca", 4 << 20), ("--record", 4 << 20)]
    {
        fs::File::create(&long).unwrap().set_len(limit + 1).unwrap();
        let mut gateway = Gateway::to(https(&emulator), TOASTER).args(&[flag, text(&long)]);
        if flag != "--key-file" {
            gateway = gateway.key(TOASTER_KEY);
        }
        let run = gateway.run();
        run.expect(USAGE);
        let why = format!("{}: more than {limit} bytes", long.display());
        assert!(run.stderr.contains(&why), "{flag}: {}", run.stderr);
        // A file that is too long is not replaced by a record.
        assert_eq!(long.metadata().unwrap().len(), limit + 1);
    }
}

/// Keys that are never in a file, such as bash's `--key-file <(command)`.
#[test]
fn keys_payload_and_certificates_come_through_a_pipe() {
    let device = Device::new("sn-007");
    let mut config = polled();
    config.behaviour.result_at_once = true;
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: "sn-007".to_owned(),
        x509: attested_by(&device.certificate),
        ..Default::default()
    });
    let emulator = start(config);
    let ca = temporary("pipe-ca.pem", emulator.ca_pem());
    let [certificate, ..] = device.files("pipe");
    let directory = tempfile::tempdir().unwrap();
    let pipe = pipe(&directory);
    let through = |gateway: Gateway, content: &str| {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                fs::write(&pipe, content).unwrap();
            });
            gateway.run()
        })
    };
    let own = || Gateway::to(http(&emulator), TOASTER);
    through(own().args(&["--key-file", text(&pipe)]), TOASTER_KEY).expect(0);
    through(own().key(TOASTER_KEY).args(&["--payload", text(&pipe)]), r#"{"from":"pipe"}"#).expect(0);
    let call = emulator.webhook_calls().pop().unwrap();
    assert_eq!(call.request["deviceRuntimeContext"]["payload"], json!({"from": "pipe"}));
    let shown = |cp: &PathBuf, ca: &PathBuf| {
        Gateway::to(https(&emulator), "sn-007").args(&["--cp", text(cp), "--kp", text(&pipe), "--ca", text(ca)])
    };
    through(shown(&certificate, &ca), &device.key.serialize_pem()).expect(0);

    let run = through(own().args(&["--key-file", text(&pipe)]), &"A".repeat(5000));
    run.expect(USAGE);
    assert!(run.stderr.contains("more than 4096 bytes"), "{}", run.stderr);
}

#[path = "../../examples/gateway/input.rs"]
#[allow(dead_code, reason = "only one function is used")]
mod input;

#[test]
fn waiting_for_a_pipe_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = pipe(&directory);
    let patience = Duration::from_millis(200);
    let begun = Instant::now();
    // No program opens the pipe for writing.
    let error = input::Input::KEY.read_within(&pipe, patience).unwrap_err();
    assert!(error.contains("was not written to its end within 200ms"), "{error}");
    // A program opens the pipe and does not close it.
    let writer = thread::spawn(move || fs::OpenOptions::new().write(true).open(pipe).unwrap());
    let error = input::Input::KEY.read_within(&directory.path().join("pipe"), patience).unwrap_err();
    assert!(error.contains("was not written to its end"), "{error}");
    drop(writer.join().unwrap());
    assert!(begun.elapsed() < FAST);
    assert!(input::PIPE_TIMEOUT <= Duration::from_secs(60));
}

// ---- What is pasted ----

#[test]
fn a_pasted_key_is_accepted() {
    let emulator = emulator();
    let wrapped = |width: usize| {
        let lines: Vec<_> = GROUP_KEY.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
        lines.join("\r\n")
    };
    let connection_string = format!("HostName={TOASTERS_HUB};DeviceId={TOASTER};SharedAccessKey={TOASTER_KEY}");
    let devices = [
        format!("\u{feff}{TOASTER_KEY}\r\n"),
        format!("\"{TOASTER_KEY}\""),
        format!(" '{TOASTER_KEY}'\n"),
        TOASTER_KEY.trim_end_matches('=').to_owned(),
        format!("SharedAccessKey={TOASTER_KEY}"),
        connection_string.clone(),
        format!("\"{}\"\n", connection_string.replace("SharedAccessKey", "sharedaccesskey").replace(';', "; ")),
    ];
    let file = temporary("pasted.key", "");
    for given in &devices {
        fs::write(&file, given).unwrap();
        for gateway in [
            Gateway::to(http(&emulator), TOASTER).args(&["--key-file", text(&file)]),
            Gateway::to(http(&emulator), TOASTER).key(given),
            Gateway::to(http(&emulator), TOASTER).args(&["--key", given]),
            Gateway::to(http(&emulator), TOASTER).args(&["--key-file", "-"]).stdin(given),
            Gateway::to(http(&emulator), TOASTER).args(&["--key-file", "/dev/stdin"]).stdin(given),
            Gateway::to(http(&emulator), TOASTER).key(HEAT_PUMP_KEY).secondary_key(given),
        ] {
            gateway.run().expect(0);
        }
    }
    for given in [wrapped(76), wrapped(64), format!("'{}'", wrapped(76)), GROUP_KEY.trim_end_matches('=').to_owned()] {
        fs::write(&file, &given).unwrap();
        let gateway = Gateway::to(http(&emulator), TOASTER).args(&["--compute-key", "--key-file", text(&file)]);
        gateway.run().expect(0);
        let derive = Gateway::bare(&["derive-key", "--rid", TOASTER, "--key-file", text(&file)]);
        let run = derive.may_print(TOASTER_KEY).run();
        run.expect(0);
        assert_eq!(run.stdout, format!("{TOASTER_KEY}\n"));
    }
}

#[test]
fn an_invalid_key_is_reported_and_never_shown() {
    let emulator = emulator();
    let file = temporary("no.key", "");
    let of_hub = format!("HostName={TOASTERS_HUB};SharedAccessKeyName=iothubowner;SharedAccessKey={TOASTER_KEY}");
    let of_dps = of_hub.replace(TOASTERS_HUB, "contoso.azure-devices-provisioning.net");
    let of_device = format!("HostName={TOASTERS_HUB};DeviceId={TOASTER}");
    let with_key = format!("{of_device};SharedAccessKey={TOASTER_KEY}");
    let utf_16: Vec<u8> = TOASTER_KEY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(Vec<u8>, &[&str], &str); 12] = [
        (of_hub.into(), &[], "the connection string of a service's access policy"),
        (of_dps.into(), &[], "the connection string of a service's access policy"),
        (format!("{of_device};x509=true").into(), &[], "this connection string has no SharedAccessKey"),
        (format!("{of_device};ModuleId=m;SharedAccessKey={TOASTER_KEY}").into(), &[], "of a module"),
        (with_key.into(), &["--compute-key"], "of one device: its key is not the enrollment group's"),
        (format!("{TOASTER_KEY}\n{HEAT_PUMP_KEY}").into(), &[], "give exactly one key"),
        (b"SharedAccessSignature sr=0ne%2fregistrations%2fa&sig=x%3d&se=1".into(), &[], "this is a SAS token"),
        (format!(r#"{{"primaryKey":"{TOASTER_KEY}"}}"#).into(), &[], "this is JSON"),
        ([b"\xff\xfe".to_vec(), utf_16].concat(), &[], "UTF-16"),
        (b"\x80\x81".into(), &[], "is not UTF-8 text"),
        (b" \n".into(), &[], "base64 of 16 to 64 bytes"),
        (TOASTER_KEY.replace('C', "-").into(), &[], "not base64: wrong at position"),
    ];
    for (given, args, why) in cases {
        fs::write(&file, &given).unwrap();
        let own = || Gateway::to(http(&emulator), TOASTER).args(args);
        let run = own().args(&["--key-file", text(&file)]).run();
        run.expect(USAGE);
        assert!(run.stderr.contains(why), "{why}: {}", run.stderr);
        let run = own().key(if args.is_empty() { TOASTER_KEY } else { GROUP_KEY });
        let run = run.args(&["--secondary-key-file", text(&file)]).run();
        run.expect(USAGE);
        let is_unreadable = why.starts_with("is not") || why == "UTF-16";
        assert!(run.stderr.contains("the secondary key: ") || is_unreadable, "{}", run.stderr);
    }
    assert!(emulator.requests().is_empty());
}

#[test]
fn a_byte_order_mark_does_not_matter() {
    let device = Device::new("sn-007");
    let mut config = polled();
    config.behaviour.result_at_once = true;
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: "sn-007".to_owned(),
        x509: attested_by(&device.certificate),
        ..Default::default()
    });
    config.enrollment_groups[0].certificate_policy = Some("short-lived".to_owned());
    let emulator = start(config);
    let marked = |name: &str, content: &str| temporary(&format!("mark-{name}"), &format!("\u{feff}{content}"));
    let ca = marked("ca.pem", emulator.ca_pem());
    let certificate = marked("certificate.pem", &device.certificate.replace('\n', "\r\n"));
    let key = marked("key.pem", &device.key.serialize_pem());
    let csr = marked("csr.pem", &fs::read_to_string(&device.files("mark")[2]).unwrap());
    let payload = marked("payload.json", r#"{"from":"windows"}"#);
    let files = ["--cp", text(&certificate), "--kp", text(&key), "--ca", text(&ca)];
    Gateway::to(https(&emulator), "sn-007").args(&files).run().expect(0);
    for payload in [text(&payload), "\u{feff}{\"from\":\"windows\"}"] {
        let files = ["--payload", payload, "--csr", text(&csr)];
        let run = Gateway::to(http(&emulator), TOASTER).args(&files).key(TOASTER_KEY).run();
        // The csr belongs to another device. The test only checks that it was read.
        assert!([0, NO_CERTIFICATE, REFUSED].contains(&run.code), "{}", run.stderr);
        let sent: Value = serde_json::from_str(&emulator.requests().pop().unwrap().body).unwrap();
        assert_eq!(sent["payload"], json!({"from": "windows"}));
        assert!(sent["csr"].is_string());
    }
}

/// Without this check, each would look like an unreachable service, and the program would retry.
#[test]
fn a_useless_ssl_cert_file_is_reported() {
    let emulator = emulator();
    let none = tempfile::tempdir().unwrap();
    let certificate = emulator.ca_pem();
    for (name, content, why) in [
        ("marked", format!("\u{feff}{certificate}"), "begins with a byte order mark"),
        ("text", "no certificate".to_owned(), "no PEM certificate in"),
        ("empty", String::new(), "no PEM certificate in"),
    ] {
        let file = temporary(&format!("ssl-cert-file-{name}.pem"), &content);
        for args in [&[][..], &["--transport", "mqtt"]] {
            let gateway = Gateway::to(https(&emulator), TOASTER).args(args).key(TOASTER_KEY);
            let run = gateway.env("SSL_CERT_FILE", text(&file)).env("SSL_CERT_DIR", text(none.path())).run();
            run.expect(USAGE);
            assert!(run.stderr.contains("SSL_CERT_FILE: ") && run.stderr.contains(why), "{name}: {}", run.stderr);
        }
    }
    assert!(emulator.requests().is_empty());
}

#[test]
fn an_ipv6_address_without_brackets_or_with_a_zone_is_explained() {
    for (host, why) in [
        ("::1", "put an IPv6 address in brackets"),
        ("http://::1:8080", "put an IPv6 address in brackets"),
        ("2001:db8::1", "put an IPv6 address in brackets"),
        ("https://[fe80::1%25eth0]:443", "an IPv6 address cannot have a zone"),
        ("[::1", "the endpoint must be"),
    ] {
        let run = Gateway::to(host, TOASTER).key(TOASTER_KEY).run();
        run.expect(USAGE);
        assert!(run.stderr.contains(why), "{host}: {}", run.stderr);
    }
}

// ---- Certificates ----

const V1: [&str; 4] = [
    include_str!("../vectors/x509-v1/device.pem"),
    include_str!("../vectors/x509-v1/localhost-1.pem"),
    include_str!("../vectors/x509-v1/localhost-3.pem"),
    include_str!("../vectors/x509-v1/key.pem"),
];
const ADVICE: &str = "create one of version 3 with `openssl x509 -req";

#[test]
fn the_devices_files_are_checked_before_anything_is_sent() {
    let emulator = emulator();
    let [v1, _, _, v1_key] = V1;
    let v1 = temporary("v1.pem", v1);
    let v1_key = temporary("v1-key.pem", v1_key);
    let device = Device::new("sn-007");
    let [certificate, key, _] = device.files("judged");
    let mut behind = device.certificate.clone();
    behind += V1[0];
    let behind = temporary("v1-behind.pem", &behind);
    let legacy = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                  -----END EC PRIVATE KEY-----\n";
    let legacy = temporary("legacy-encrypted.pem", legacy);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = temporary("encrypted.pem", encrypted);
    let pfx = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gateway-device.pfx");
    fs::write(&pfx, b"\x30\x82\x01\x00\x02\x01\x03").unwrap();
    for (cp, kp, whys) in [
        (&v1, &v1_key, ["v1.pem: the device's certificate: certificate 1 is", "is X.509 version 1", ADVICE]),
        (&behind, &key, ["v1-behind.pem: the device's certificate: certificate 2 is", "is X.509 version 1", ADVICE]),
        (
            &certificate,
            &v1_key,
            ["v1-key.pem: the private key", "does not belong to the first certificate", "the device's certificate"],
        ),
        (&certificate, &legacy, ["legacy-encrypted.pem: the private key:", "is encrypted", "openssl pkey -in"]),
        (&certificate, &encrypted, ["encrypted.pem: the private key:", "is encrypted", "openssl pkey -in"]),
        (&certificate, &certificate, ["judged.pem: the private key: no private key", "PEM or DER", "not encrypted"]),
        (&pfx, &key, ["no certificate", "device.pfx: the device's certificate:", "openssl pkcs12 -in"]),
    ] {
        for transport in ["http", "mqtt"] {
            let args = ["--cp", text(cp), "--kp", text(kp), "--transport", transport];
            let run = Gateway::to(https(&emulator), "sn-007").args(&args).run();
            run.expect(USAGE);
            for why in whys {
                assert!(run.stderr.contains(why), "no {why} in {}", run.stderr);
            }
        }
    }
    assert!(emulator.requests().is_empty());
}

/// After power-on, the clock may be wrong. The service decides whether the certificate is valid.
#[test]
fn a_certificate_outside_its_dates_causes_a_warning() {
    let emulator = emulator();
    let ca = temporary("out-of-date-ca.pem", emulator.ca_pem());
    for (from, to, why) in
        [(2020, 2021, "expired on Jan  1 00:00:00 2021"), (2100, 2101, "is not valid before Jan  1 00:00:00 2100")]
    {
        let mut device = Device::new("sn-007");
        (device.params.not_before, device.params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        device.certificate = device.params.self_signed(&device.key).unwrap().pem();
        let [certificate, key, _] = device.files("out-of-date");
        let args = ["--cp", text(&certificate), "--kp", text(&key), "--ca", text(&ca), "--json"];
        let run = Gateway::to(https(&emulator), "sn-007").args(&args).run();
        run.expect(UNAUTHORIZED);
        let warning = format!("warning: the device's certificate in {} {why}", text(&certificate));
        assert!(run.stderr.starts_with(&warning), "{}", run.stderr);
    }
}

#[test]
fn certificates_and_keys_may_be_der() {
    let device = Device::new("sn-007");
    let mut config = polled();
    config.behaviour.result_at_once = true;
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: "sn-007".to_owned(),
        x509: attested_by(&device.certificate),
        ..Default::default()
    });
    let emulator = start(config);
    let der = |name: &str, bytes: &[u8]| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gateway-{name}.der"));
        fs::write(&path, bytes).unwrap();
        path
    };
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let ca = der("ca", &certificate(emulator.ca_pem()));
    let own = der("certificate", &certificate(&device.certificate));
    let key = der("key", &device.key.serialize_der());
    let args = ["--cp", text(&own), "--kp", text(&key), "--ca", text(&ca)];
    Gateway::to(https(&emulator), "sn-007").args(&args).run().expect(0);
}

/// Presents a certificate that rustls rejects for a server.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A server on localhost with this certificate and the key of the vectors. It closes the connection after the
/// handshake.
fn server(certificate: &str) -> String {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(V1[3].as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let resolver = Shows(Arc::new(CertifiedKey::new(chain, key)));
    let config = Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(resolver)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
            while session.is_handshaking() && session.complete_io(&mut socket).is_ok() {}
        }
    });
    format!("localhost:{port}")
}

#[test]
fn a_server_certificate_of_version_1_is_reported() {
    let ca = temporary("v1-ca.pem", V1[0]);
    let address = server(V1[1]);
    let to = |address: &str| Gateway::to(address, TOASTER).key(TOASTER_KEY);
    let with_ca = ["--ca", text(&ca)];
    for gateway in [
        to(&address).env("SSL_CERT_FILE", text(&ca)),
        to(&address).args(&with_ca),
        to(&address).args(&with_ca).args(&["--transport", "mqtt"]),
    ] {
        let run = gateway.args(&["--json"]).run();
        run.expect(UNREACHABLE);
        let seen = run.json()["error"]["seen"].as_str().unwrap().to_owned();
        assert!(
            seen.contains("the server's certificate, or one between it and its CA, is not X.509 version 3"),
            "{seen}"
        );
        assert!(seen.contains(ADVICE) && !seen.contains("OtherError"), "{seen}");
        assert_eq!(run.stderr, "");
    }

    // As a CA, the certificate works, because TLS does not check the version of a CA. The handshake succeeds, and the
    // connection ends.
    let run = to(&server(V1[2])).args(&with_ca).args(&["--timeout", "3", "--json"]).run();
    run.expect(UNREACHABLE);
    let seen = run.json()["error"]["seen"].as_str().unwrap().to_owned();
    assert!(!seen.contains("certificate"), "{seen}");
}

/// The certificate that `openssl req -x509` creates for a server.
#[test]
fn a_ca_as_the_server_certificate_is_reported() {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let builder = Emulator::builder(polled()).https("127.0.0.1:0");
    let emulator = builder.certificate(certificate.clone(), key.serialize_pem()).start().unwrap();
    let ca = temporary("ca-as-server.pem", &certificate);
    let run = Gateway::to(https(&emulator), TOASTER).args(&["--ca", text(&ca)]).key(TOASTER_KEY).run();
    run.expect(UNREACHABLE);
    assert!(run.stderr.contains("the server presents a CA certificate"), "{}", run.stderr);
}
