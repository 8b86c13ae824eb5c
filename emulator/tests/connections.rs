//! What the log says about connections without a request.

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use azure_dps_emulator::{Config, ConnectionFailure, Emulator, Event};
use rustls::{
    ClientConfig, ClientConnection, SignatureScheme, StreamOwned,
    client::ResolvesClientCert,
    crypto::{aws_lc_rs, aws_lc_rs::sign::any_supported_type},
    pki_types::CertificateDer,
    sign::CertifiedKey,
};
use serde_json::json;
use support::{mqtt::tcp, x509::*, *};

/// An emulator with all listeners, and the connection failures that it reported.
struct Service {
    emulator: Emulator,
    failures: Arc<Mutex<Vec<ConnectionFailure>>>,
}

impl Service {
    fn start() -> Self {
        Self::with(Config::contoso())
    }

    fn with(config: Config) -> Self {
        let failures: Arc<Mutex<Vec<_>>> = Arc::default();
        let told = Arc::clone(&failures);
        let emulator = Emulator::builder(config)
            .http("127.0.0.1:0")
            .https("127.0.0.1:0")
            .mqtt("127.0.0.1:0")
            .mqtts("127.0.0.1:0")
            .observer(move |event: &Event| {
                if let Event::ConnectionFailed(failure) = event {
                    told.lock().unwrap().push(failure.clone());
                }
            })
            .start()
            .unwrap();
        Self { emulator, failures }
    }

    fn url(&self, listener: &str) -> &str {
        let emulator = &self.emulator;
        let url = match listener {
            "http" => emulator.http_url(),
            "https" => emulator.https_url(),
            "mqtt" => emulator.mqtt_url(),
            _ => emulator.mqtts_url(),
        };
        url.unwrap()
    }

    fn connect(&self, listener: &str) -> TcpStream {
        tcp(self.url(listener))
    }

    /// Sends these bytes and nothing more.
    fn say(&self, listener: &str, bytes: &[u8]) {
        let mut stream = self.connect(listener);
        // The emulator may close the connection before all bytes are written.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_end(&mut vec![]);
    }

    /// Makes a TLS connection to a listener, and sends these bytes on it.
    fn say_in_tls(&self, listener: &str, config: ClientConfig, name: &'static str, bytes: &[u8]) {
        let connection = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, self.connect(listener));
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        let _ = stream.sock.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut vec![]);
    }

    /// Returns the next report.
    fn told(&self) -> ConnectionFailure {
        let started = Instant::now();
        loop {
            let mut failures = self.failures.lock().unwrap();
            if !failures.is_empty() {
                return failures.remove(0);
            }
            drop(failures);
            assert!(started.elapsed() < Duration::from_secs(20), "nothing was reported");
            thread::yield_now();
        }
    }

    /// Checks that the next report is of this listener and contains this text.
    fn tells(&self, listener: &str, why: &str, what_to_do: &str) {
        let failure = self.told();
        assert_eq!(failure.listener, listener, "{failure}");
        assert!(failure.outcome.contains(why) && failure.outcome.contains(what_to_do), "{failure} / {why}");
        let line = failure.to_string();
        assert!(line.contains(&format!("{listener:<5} -    127.0.0.1 -> --- {}", failure.outcome)), "{line}");
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The beginning of a CONNECT.
const CONNECT: &[u8] = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04name";

/// Each listener reports a client that uses another protocol: TLS or not, HTTP or MQTT, also inside TLS.
#[test]
fn a_client_on_the_wrong_port_is_reported() {
    let service = Service::start();
    for (listener, bytes, why, what_to_do) in [
        ("https", GET, "plain HTTP on a port for TLS", "https://"),
        ("https", CONNECT, "plain MQTT on a port for TLS", "--mqtt"),
        ("mqtts", CONNECT, "plain MQTT on a port for TLS", "--mqtt"),
        ("mqtts", GET, "plain HTTP on a port for TLS", "--http"),
        ("http", CONNECT, "MQTT on a port for HTTP", "--mqtt"),
        ("mqtt", GET, "HTTP on a port for MQTT", "--http"),
    ] {
        service.say(listener, bytes);
        service.tells(listener, why, what_to_do);
    }
    for (listener, bytes, why, what_to_do) in [
        ("http", GET, "TLS on a port for plain HTTP", "--https"),
        ("mqtt", CONNECT, "TLS on a port for plain MQTT", "--mqtts"),
        ("https", CONNECT, "MQTT on a port for HTTP", "--mqtts"),
        ("mqtts", GET, "HTTP on a port for MQTT", "--https"),
    ] {
        service.say_in_tls(listener, tls_config(&service.emulator, None), "localhost", bytes);
        service.tells(listener, why, what_to_do);
    }
    // Each is reported once, and is not a request.
    assert!(service.failures.lock().unwrap().is_empty() && service.emulator.requests().is_empty());
}

/// A first packet that is not CONNECT is reported, although it is not a request.
#[test]
fn a_session_that_does_not_start_is_reported() {
    let service = Service::start();
    for (bytes, why) in [
        (&b"\xf0\x00"[..], "the MQTT session did not start: invalid header"),
        (b"\xc0\x00", "the MQTT session did not start: the first packet is not CONNECT"),
        (b"\x30\xff\xff\xff\x7f", "the MQTT session did not start: a packet of more than 327680 bytes"),
    ] {
        service.say("mqtt", bytes);
        service.tells("mqtt", why, "");
    }
    assert!(service.emulator.requests().is_empty());
}

/// Malformed HTTP is reported, although it is not a request.
#[test]
fn a_malformed_request_is_reported() {
    let service = Service::start();
    let head = |line: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
    for (request, why) in [
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "version"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "version"),
        (head("a\u{1b} b: c"), "header"),
    ] {
        service.say("http", request.as_bytes());
        service.tells("http", "the request is not HTTP/1.1: ", why);
    }
    for request in [head(&format!("a: {}", "x".repeat(400_000))), head(&"a: b\r\n".repeat(200))] {
        service.say("http", request.as_bytes());
        service.tells("http", "the request's head has more than 32 KB, or too many fields", "");
    }
    assert!(service.emulator.requests().is_empty());
}

/// Handshakes that fail because of the client: its trust, its versions, its ciphers.
#[test]
fn a_failed_handshake_is_reported() {
    let service = Service::start();
    let stranger = contoso_over_tls();
    let config = |emulator: &Emulator| tls_config(emulator, None);
    for listener in ["https", "mqtts"] {
        service.say_in_tls(listener, config(&stranger), "localhost", GET);
        service.tells(listener, "the client rejects the server's certificate (alert DecryptError)", "--ca-out");
        service.say_in_tls(listener, config(&service.emulator), "elsewhere", GET);
        service.tells(listener, "the client rejects the server's certificate (alert BadCertificate)", "localhost");
    }

    let with = |provider, version: &'static rustls::SupportedProtocolVersion| {
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    };
    service.say_in_tls("https", with(aws_lc_rs::default_provider(), &rustls::version::TLS12), "localhost", GET);
    service.tells("https", "the client rejects the server's certificate (alert UnknownCA)", "--ca-out");
    service.say_in_tls("https", with(aws_lc_rs::default_provider(), &rustls::version::TLS13), "localhost", GET);
    service.tells("https", "the client does not offer TLS 1.2", "tls13 = true");
    let mut rsa = aws_lc_rs::default_provider();
    rsa.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    service.say_in_tls("https", with(rsa, &rustls::version::TLS12), "localhost", GET);
    service.tells("https", "share no algorithm (NoCipherSuitesInCommon)", "--tls-certificate");

    // A ClientHello of TLS 1.1: version, random, session, one cipher suite, no compression. Then no extensions, or
    // signature algorithms and supported groups.
    for extensions in [&b""[..], b"\0\x10\0\x0d\0\x04\0\x02\x04\x03\0\x0a\0\x04\0\x02\0\x17"] {
        let hello = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x13], &[1, 0], extensions].concat();
        let handshake = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
        service.say("https", &[&[0x16, 3, 1, 0, handshake.len() as u8][..], &handshake].concat());
        service.tells("https", "the client uses TLS 1.1 or older", "TLS 1.2");
    }

    // A client that closes the connection without sending anything.
    service.say("https", &[0x16, 3, 1]);
    service.tells("https", "the client closed the connection without an alert", "--ca-out");
    // Garbage inside TLS.
    service.say("https", &[0x16, 3, 3, 0, 4, 9, 9, 9, 9]);
    service.tells("https", "the TLS handshake failed: ", "");
}

fn contoso_over_tls() -> Emulator {
    builder(Config::contoso()).https("127.0.0.1:0").start().unwrap()
}

/// Shows a certificate without checking that it fits.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Certificates of the client: version 1, without the key, or no certificate.
#[test]
fn a_client_certificate_that_cannot_be_used_is_reported() {
    let service = Service::start();
    let identity = Identity::self_signed("device");
    let other = Identity::self_signed("device");
    let x509: CertificateDer<'_> = identity.chain[0].clone();
    for (certificate, key, why, what_to_do) in [
        (version_1(&x509).into(), &identity, "the client's certificate has X.509 version 1", "-extfile"),
        (x509.clone(), &other, "the client does not hold the key of its certificate", ""),
        (vec![0x30, 0].into(), &identity, "the client's certificate cannot be used: BadEncoding", ""),
    ] {
        let mut config = tls_config(&service.emulator, None);
        let key = CertifiedKey::new(vec![certificate], any_supported_type(&key.private_key()).unwrap());
        config.client_auth_cert_resolver = Arc::new(Shown(Arc::new(key)));
        service.say_in_tls("https", config, "localhost", GET);
        service.tells("https", &format!("the TLS handshake failed: {why}"), what_to_do);
    }
}

/// A client that checks the certificate only after the handshake, as Node does, closes without an alert.
#[test]
fn a_client_that_closes_after_the_handshake_is_reported() {
    let service = Service::start();
    for listener in ["https", "mqtts"] {
        for (name, closed) in [
            ("LocalHost", "the client closed the connection after the TLS handshake for localhost, without"),
            ("127.0.0.1", "the client closed the connection after the TLS handshake, without"),
        ] {
            service.say_in_tls(listener, tls_config(&service.emulator, None), name, b"");
            service.tells(listener, closed, "--ca-out");
        }
    }
    assert!(service.failures.lock().unwrap().is_empty());
}

/// A client that begins a handshake and stops is reported. A client that sends nothing, and a client with a request,
/// are not reported.
#[test]
fn only_failures_are_reported() {
    let mut config = Config::contoso();
    config.behaviour.client_timeout = 0.2;
    let service = Service::with(config);
    drop(service.connect("https"));
    let mut silent = service.connect("https");
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0, "it was closed after its time");
    service.say("http", GET);
    service.say_in_tls("https", tls_config(&service.emulator, None), "localhost", GET);
    let mut slow = service.connect("mqtts");
    slow.write_all(&[0x16, 3]).unwrap();
    service.tells("mqtts", "the TLS handshake failed: it did not finish within 200ms", "");
    assert!(service.failures.lock().unwrap().is_empty());
    // None of them is a request.
    assert!(service.emulator.requests().iter().all(|request| request.method == "GET"));
}

/// Many failures make few lines of the log, and each line is an object in JSON.
#[test]
fn a_flood_of_failures_is_bounded() {
    let service = Service::start();
    for _ in 0..100 {
        service.say("https", GET);
    }
    // Reports are in order, so this report follows those of the earlier connections.
    assert_eq!(Device::of_group(&service.emulator, TOASTER).put().status(), 202);
    let failures = service.failures.lock().unwrap();
    // On a machine so slow that this takes 10 s, more failures are shown.
    assert!((20..=60).contains(&failures.len()), "{}", failures.len());
    let event = json!(Event::ConnectionFailed(failures[0].clone()));
    let failure = &event["connectionFailed"];
    assert_eq!((&failure["listener"], &failure["peer"]), (&json!("https"), &json!("127.0.0.1")));
    assert_eq!(failure["outcome"], failures[0].outcome);
}
