//! An answer larger than the buffer is an error over every transport. The error names the needed size, and a buffer of
//! this size is sufficient.

#[path = "support/network.rs"]
mod network;
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use azure_dps::{
    Error, asynch,
    error::Fault,
    mqtt,
    provisioning::{Endpoint, Step},
};
use support::*;

#[path = "../examples/mqtt_embedded/session.rs"]
#[allow(clippy::duplicate_mod, reason = "here on the virtual clock, in `network` on the real one")]
mod session;

/// Returns an assignment with a payload of 70 000 characters, larger than a buffer of 64 KiB.
fn assigned_with_70_000_characters() -> String {
    ASSIGNED.replace("value1", &"x".repeat(70_000))
}

type Run = fn(&str, &mut [u8]) -> Result<usize, Error>;

fn blocking(answer: Vec<u8>, buffer: &mut [u8]) -> Result<usize, Error> {
    let script = Script::new([vec![Act::Bytes(answer, 1000)]]);
    let mut provisioning = toaster();
    let assignment = script.provision(&mut provisioning, buffer).map_err(|error| error.kind())?;
    Ok(assignment.payload().unwrap().raw().len())
}

fn with_a_length(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    blocking(http("200 OK", "", body), buffer)
}

fn in_chunks(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    blocking(http_chunked("200 OK", "", body, 4096), buffer)
}

fn in_one_chunk(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    blocking(http_chunked("200 OK", "", body, usize::MAX), buffer)
}

fn until_the_end_of_the_connection(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    blocking(format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes(), buffer)
}

fn asynchronous(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    let script = Script::new([vec![Act::Bytes(http("200 OK", "", body), 1000)]]);
    let clock = script.clock;
    let mut provisioning = toaster();
    let (mut key, mut connect) = (toaster_key(), async |_| script.connect().map(AsyncStream));
    let (now, delay) = (|| clock.now(), async |wait| clock.sleep(wait).await);
    provisioning.start(clock.now(), UNIX_TIME);
    let run = asynch::run(&mut provisioning, &mut key, buffer, &mut connect, now, delay, |_| ());
    clock.block_on(run).map_err(|error| error.kind())?;
    Ok(provisioning.result(buffer)?.payload().unwrap().raw().len())
}

fn over_minreq(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    minreq(http("200 OK", "", body), buffer)
}

fn over_minreq_in_chunks(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    minreq(http_chunked("200 OK", "", body, 4096), buffer)
}

fn minreq(answer: Vec<u8>, buffer: &mut [u8]) -> Result<usize, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        // The client closes the connection when it knows the size.
        let _ = socket.write_all(&answer);
    });
    let mut provisioning = toaster().with_endpoint(Endpoint::parse(&url).unwrap());
    let result = network::provision(&mut provisioning, &mut toaster_key(), network::Transport::Minreq, "", buffer);
    let result = result.map(|assignment| assignment.payload().unwrap().raw().len());
    peer.join().unwrap();
    result
}

/// Runs the session of the example `mqtt_embedded`. Its buffer holds a whole packet.
fn over_mqtt(body: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    let topic = "$dps/registrations/res/200/?$rid=1";
    let mut publish = vec![0x30];
    let mut rest = 2 + topic.len() + body.len();
    while rest > 127 {
        publish.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    publish.push(rest as u8);
    publish.extend((topic.len() as u16).to_be_bytes());
    publish.extend([topic, body].concat().bytes());
    let acts = [vec![0x20, 2, 0, 0], vec![0x90, 3, 0, 1, 0], publish].map(|packet| Act::Bytes(packet, 1000));
    let script = Script::new([acts.into()]);
    let clock = script.clock;
    let mut provisioning = toaster();
    provisioning.start(clock.now(), UNIX_TIME);
    provisioning.sign_with(&mut toaster_key(), &mut [0; 128]).unwrap();
    assert_eq!(provisioning.step(clock.now()), Step::Send);
    let stream = AsyncStream(script.connect().unwrap());
    let ended = clock.block_on(session::session(&mut provisioning, clock, stream, buffer, &mut |_| ()));
    ended.unwrap_or_else(|error| provisioning.on_error(clock.now(), error));
    Ok(provisioning.result(buffer)?.payload().unwrap().raw().len())
}

#[test]
fn an_answer_that_does_not_fit_is_the_callers_fault_and_names_its_size() {
    let body = assigned_with_70_000_characters();
    // For each case: the smallest buffer for which the error names the exact size, if the answer has a length.
    let cases: [(&str, Run, Option<usize>); 8] = [
        ("a length", with_a_length, Some(body.len())),
        ("chunks", in_chunks, None),
        ("one chunk", in_one_chunk, Some(body.len())),
        ("no length", until_the_end_of_the_connection, None),
        ("async", asynchronous, Some(body.len())),
        ("minreq", over_minreq, Some(body.len())),
        ("minreq, chunks", over_minreq_in_chunks, None),
        ("MQTT", over_mqtt, Some(body.len())),
    ];
    for (name, run, at_once) in cases {
        let error = run(&body, &mut vec![0; 64 * 1024]).unwrap_err();
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Caller, false), "{name}: {error}");
        let Error::BufferTooSmall(small) = error else { panic!("{name}: {error}") };
        assert!(small.needed > 64 * 1024, "{name}: {error}");
        assert!(error.to_string().contains(&format!("{} bytes are needed", small.needed)), "{error}");
        let size = match at_once {
            Some(size) => {
                assert!(small.needed >= size && small.needed < size + 100, "{name}: {error}");
                small.needed
            }
            None => body.len() + 1000,
        };
        // A buffer of that size holds the answer, without chunk framing and head.
        let slack = if name == "one chunk" { 1000 } else { 0 };
        let len = run(&body, &mut vec![0; size + slack]);
        assert_eq!(len, Ok(70_000 + assigned_payload_len() - "value1".len()), "{name}");
    }
}

fn assigned_payload_len() -> usize {
    assigned(&registration(TOASTER), ASSIGNED).unwrap().payload().unwrap().raw().len()
}

/// The codec reads an answer of any size in the client's own buffer.
#[test]
fn the_mqtt_codec_has_no_size_limit() {
    let body = ASSIGNED.replace("value1", &"x".repeat(200_000));
    let mut provisioning = toaster();
    provisioning.start(Default::default(), UNIX_TIME);
    provisioning.sign_with(&mut toaster_key(), &mut [0; 128]).unwrap();
    mqtt::write_publish(&mut provisioning, Default::default(), &mut [0; 512]).unwrap();
    assert!(mqtt::on_message(
        &mut provisioning,
        Default::default(),
        "$dps/registrations/res/200/?$rid=1",
        body.as_bytes()
    ));
    let assignment = provisioning.result(body.as_bytes()).unwrap();
    assert!(assignment.payload().unwrap().raw().len() > 200_000);
    assert!(assignment.owned::<210_000>().is_ok());
}
