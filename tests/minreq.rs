//! The minreq transport against peers that misbehave: what minreq hides must not pass.

#[path = "support/network.rs"]
mod network;
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use azure_dps::{Endpoint, Error, Malformed, RetryPolicy, TransportFault};
use network::*;
use support::*;

/// One answer for one connection, and the request that it answered.
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
    let mut key = toaster_key();
    let policy = RetryPolicy::new().with_max_retries(0);
    let mut provisioning = toaster(&mut key).with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
    let mut buffer = [0; 1024];
    let result = provision(&mut provisioning, Transport::Minreq, "", &mut buffer);
    let result = result.map(|assignment| assignment.assigned_hub().to_string());
    (result, peer.join().unwrap())
}

const CLOSED: Error = Error::Transport(TransportFault::Closed);

#[test]
fn a_request_like_any_other() {
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
fn an_answer_cut_at_any_byte_is_a_network_fault() {
    for answer in [http("200 OK", "", ASSIGNED), http_chunked("200 OK", "", ASSIGNED, 64)] {
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        // The end of a chunked body, behind the last byte of JSON, is minreq's affair.
        let end = answer.iter().rposition(|&byte| byte == b'}').unwrap();
        for len in (0..end).step_by(7).chain([head - 2, head - 1, head, head + 1, end - 1, end]) {
            let result = against(&answer[..len]).0;
            let peers_fault = matches!(
                result,
                Err(Error::Transport(_)) | Err(Error::Malformed(Malformed::HttpChunk | Malformed::HttpHead))
            );
            assert!(peers_fault, "{len}: {result:?}");
        }
    }
}

#[test]
fn garbage_and_silence_are_network_faults() {
    assert_eq!(against(b"").0, Err(CLOSED));
    assert_eq!(against(b"SSH-2.0-OpenSSH_9.2\r\n").0, Err(CLOSED));
    assert_eq!(against(b"HTTP/1.1 200 OK\r\n\r\n").0, Err(CLOSED));
}

#[test]
fn an_interim_answer_is_not_the_answer() {
    let answer = [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], &http("200 OK", "", ASSIGNED)].concat();
    assert_eq!(against(&answer).0, Err(Malformed::HttpHead.into()));
}

#[test]
fn a_redirect_takes_the_token_nowhere() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("Location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let result = against(&http(status, &location, "")).0;
        assert!(matches!(result, Err(Error::Refused(refusal)) if refusal.http_status / 100 == 3), "{result:?}");
    }
    assert!(elsewhere.accept().is_err(), "somebody followed the redirect");
}

#[test]
fn a_body_that_does_not_fit_says_how_much_it_needs() {
    let body = ASSIGNED.replace("value1", &"x".repeat(2000));
    let Err(Error::BufferTooSmall(error)) = against(&http("200 OK", "", &body)).0 else { panic!() };
    assert_eq!((error.needed, error.exact), (body.len(), true));
    let Err(Error::BufferTooSmall(error)) = against(&http_chunked("200 OK", "", &body, 100)).0 else { panic!() };
    assert_eq!((error.needed, error.exact), (1025, false));
}

#[test]
fn a_refusal_without_a_body_is_a_refusal() {
    for (status, expected) in [("302 Found", 302), ("403 Forbidden", 403), ("404 Not Found", 404), ("429 Slow", 429)] {
        for answer in [http(status, "", ""), http_chunked(status, "", "", 1)] {
            let result = against(&answer).0;
            assert!(matches!(result, Err(Error::Refused(refusal)) if refusal.http_status == expected), "{result:?}");
        }
    }
}

#[test]
fn a_refusal_that_is_cut_short_is_a_network_fault() {
    let body = r#"{"errorCode":409203,"trackingId":"","message":"m"}"#;
    let answer = http_chunked("409 Conflict", "", body, 4096);
    let cut = answer.windows(6).position(|window| window == b"409203").unwrap();
    assert!(matches!(against(&answer[..cut]).0, Err(Error::Transport(_))));
}

#[test]
fn a_run_without_any_bound_does_not_panic() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(&http("200 OK", "", ASSIGNED)).unwrap();
    });
    let for_ever = std::time::Duration::MAX;
    let policy = RetryPolicy::new().with_timeout(for_ever).with_request_timeout(for_ever);
    let mut key = toaster_key();
    let mut provisioning = toaster(&mut key).with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
    assert!(provision(&mut provisioning, Transport::Minreq, "", &mut [0; 1024]).is_ok());
    peer.join().unwrap();
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, expected) in [
        (format!("http://{address}"), Error::Transport(TransportFault::Connect)),
        (format!("http://[::1]:{}", address.port()), Error::InvalidEndpoint),
    ] {
        let mut key = toaster_key();
        let policy = RetryPolicy::new().with_max_retries(0);
        let mut provisioning =
            toaster(&mut key).with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
        assert_eq!(provision(&mut provisioning, Transport::Minreq, "", &mut [0; 1024]), Err(expected));
    }
}

#[test]
fn retry_after_is_read() {
    // Longer than the run may take, so the run ends at once instead of waiting.
    let mut key = toaster_key();
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
    let mut provisioning = toaster(&mut key).with_endpoint(Endpoint::parse(&url).unwrap()).with_retry_policy(policy);
    let error = provision(&mut provisioning, Transport::Minreq, "", &mut [0; 1024]).unwrap_err();
    assert_eq!(error, Error::TimedOut);
    peer.join().unwrap();
}
