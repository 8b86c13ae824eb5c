//! The transport over minreq with servers that misbehave. Faults that minreq hides must be errors.

#[path = "support/network.rs"]
mod network;
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use azure_dps::{Error, RetryPolicy, error::TransportError, https, provisioning::Endpoint};
use network::*;
use support::*;

/// Runs against one answer on one connection. Also returns the request.
fn against(answer: &[u8]) -> (Result<String, Error>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_vec();
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let len = socket.read(&mut request).unwrap();
        socket.write_all(&answer).unwrap();
        String::from_utf8(request[..len].to_vec()).unwrap()
    });
    let policy = RetryPolicy::new().with_max_retries(0);
    let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
    let mut buffer = [0; 1024];
    let result = provision(&mut provisioning, &mut toaster_key(), Transport::Minreq, "", &mut buffer);
    let result = result.map(|assignment| assignment.assigned_hub().to_string());
    (result, peer.join().unwrap())
}

#[test]
fn minreq_sends_the_same_request() {
    let (result, request) = against(&http("200 OK", "", ASSIGNED));
    assert_eq!(result.as_deref(), Ok(TOASTERS_HUB));
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with(&format!("PUT /{SCOPE}/registrations/{TOASTER}/register?api-version=2021-06-01 HTTP/1.1"))
    );
    assert_eq!(head.matches("Authorization: SharedAccessSignature sr=").count(), 1);
    assert_eq!(body, format!(r#"{{"registrationId":"{TOASTER}","payload":{PAYLOAD}}}"#));
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("Location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let result = against(&http(status, &location, "")).0;
        assert!(matches!(result, Err(Error::Refused(refusal)) if refusal.http_status / 100 == 3), "{result:?}");
    }
    assert!(elsewhere.accept().is_err(), "the redirect was followed");
}

#[test]
fn a_small_buffer_error_names_the_needed_size() {
    let body = ASSIGNED.replace("value1", &"x".repeat(2000));
    let Err(Error::BufferTooSmall(error)) = against(&http("200 OK", "", &body)).0 else { panic!() };
    assert_eq!((error.needed, error.exact), (body.len(), true));
    let Err(Error::BufferTooSmall(error)) = against(&http_chunked("200 OK", "", &body, 100)).0 else { panic!() };
    assert_eq!((error.needed, error.exact), (1025, false));
}

#[test]
fn a_run_without_a_time_limit_does_not_panic() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(&http("200 OK", "", ASSIGNED)).unwrap();
    });
    let unlimited = std::time::Duration::MAX;
    let policy = RetryPolicy::new().with_timeout(unlimited).with_request_timeout(unlimited);
    let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
    assert!(provision(&mut provisioning, &mut toaster_key(), Transport::Minreq, "", &mut [0; 1024]).is_ok());
    peer.join().unwrap();
}

#[test]
fn an_unreachable_server() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, expected) in [
        (format!("http://{address}"), Error::Transport(TransportError::Connect)),
        (format!("http://[::1]:{}", address.port()), Error::InvalidEndpoint),
    ] {
        let policy = RetryPolicy::new().with_max_retries(0);
        let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
        assert_eq!(
            provision(&mut provisioning, &mut toaster_key(), Transport::Minreq, "", &mut [0; 1024]),
            Err(expected)
        );
    }
}

/// RFC 6761: no name in `invalid` exists. Nothing was sent.
#[test]
fn an_unknown_host_is_a_connect_error() {
    let policy = RetryPolicy::new().with_max_retries(0);
    let mut provisioning = toaster().with_endpoint(Endpoint::parse("dps.invalid").unwrap()).with_retry_policy(policy);
    let error = provision(&mut provisioning, &mut toaster_key(), Transport::Minreq, "", &mut [0; 1024]).unwrap_err();
    assert_eq!(error, Error::Transport(TransportError::Connect));
    assert!(!provisioning.register_was_sent());
}

/// Environment variables must exist before a process starts, so this test starts itself again.
#[test]
fn a_proxy_is_an_error_and_is_not_bypassed() {
    const CHILD: &str = "AZURE_DPS_TEST_CHILD";
    if let Ok(variable) = std::env::var(CHILD) {
        let run = |url| {
            let policy = RetryPolicy::new().with_max_retries(0);
            let mut provisioning = toaster().with_endpoint(Endpoint::parse(url).unwrap()).with_retry_policy(policy);
            let clock = || Duration::ZERO;
            provisioning.start(clock(), 0);
            let run = https::run(&mut provisioning, &mut toaster_key(), &mut [0; 1024], clock, |_| (), |_| ());
            let error = run.unwrap_err();
            assert!(!provisioning.register_was_sent());
            error
        };
        let error = run("dps.invalid");
        assert_eq!(error.kind(), Error::Unsupported);
        assert!(error.to_string().contains(&format!("{variable} is set to a proxy")), "{error}");
        // Plain HTTP is on this machine.
        assert_eq!(run("http://127.0.0.1:1").kind(), Error::Transport(TransportError::Connect));
        return;
    }
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "a_proxy_is_an_error_and_is_not_bypassed"]).env(CHILD, variable);
        for name in PROXY_VARIABLES {
            process.env_remove(name);
        }
        let output = process.env(variable, "http://127.0.0.1:1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn retry_after_is_read() {
    // Longer than the run may take, so the run ends at once instead of waiting.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = thread::spawn(move || {
        for retry_after in ["rEtRy-AfTeR: 299\r\n", "Retry-After: 301\r\n"] {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]).unwrap();
            socket.write_all(&http("202 Accepted", retry_after, ASSIGNING)).unwrap();
        }
    });
    let policy = RetryPolicy::new().with_timeout(std::time::Duration::from_secs(400));
    let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
    let error = provision(&mut provisioning, &mut toaster_key(), Transport::Minreq, "", &mut [0; 1024]).unwrap_err();
    assert_eq!(error, Error::StillAssigning);
    peer.join().unwrap();
}
