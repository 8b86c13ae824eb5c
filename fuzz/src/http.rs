//! HTTP over a stream in memory: requests that are written in parts, and the answers.

use std::sync::{Arc, Mutex, PoisonError};

use azure_dps_emulator::fuzzing::Service;

use crate::{Wire, first_line};

/// A request in an input: `METHOD target`, headers, an empty line, and the body.
pub struct HttpRequest<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: &'a [u8],
}

impl<'a> HttpRequest<'a> {
    pub fn parse(part: &'a [u8]) -> Self {
        let (line, mut rest) = first_line(part);
        let (method, target) = line.split_once(' ').unwrap_or((line, "/"));
        let mut headers = Vec::new();
        while !rest.is_empty() {
            let (line, after) = first_line(rest);
            rest = after;
            match line.split_once(": ") {
                Some(header) => headers.push(header),
                None => break,
            }
        }
        Self { method, target, headers, body: rest }
    }

    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Whether the target is one of the service API.
    pub fn is_of_service(&self) -> bool {
        let root = self.target.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
        ["enrollments", "enrollmentgroups", "registrations"].contains(&&*root.to_ascii_lowercase())
    }

    /// Whether the target may be one of the device API.
    pub fn is_of_device(&self) -> bool {
        !self.is_of_service() && self.target.contains("/registrations/")
    }

    /// The bytes of the request. Headers of `defaults` are there unless the request has its own.
    pub fn write(&self, defaults: &[(&str, &str)]) -> Vec<u8> {
        let missing = defaults.iter().filter(|(name, _)| self.header(name).is_none());
        let headers = self.headers.iter().chain(missing).map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        let length = match self.header("Content-Length").is_some() || self.header("Transfer-Encoding").is_some() {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", self.body.len()),
        };
        let head = format!("{} {} HTTP/1.1\r\n{headers}{length}Connection: close\r\n\r\n", self.method, self.target);
        [head.as_bytes(), self.body].concat()
    }
}

/// Says this to a listener and hangs up. Returns what was answered.
pub async fn say(service: &Service, said: Vec<u8>, listener: impl AsyncFnOnce(&Service, Wire)) -> Vec<u8> {
    let answered = Arc::new(Mutex::default());
    let wire = Wire { said, heard: 0, piece: usize::MAX, stays: false, pauses: false, answered: Arc::clone(&answered) };
    listener(service, wire).await;
    let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *answered)
}

/// An answer that is well-formed HTTP.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body has an end. A stream of events has none.
    pub is_whole: bool,
}

impl HttpAnswer {
    /// The first of the answers in `bytes`. One to a HEAD has no body, whatever its head says.
    pub fn split_off(bytes: &mut &[u8], may_be_head: bool) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; 24];
        let mut head = httparse::Response::new(&mut headers);
        let length = head.parse(bytes).unwrap().unwrap();
        let status = head.code.unwrap();
        let text = |header: &httparse::Header<'_>| String::from_utf8(header.value.to_vec()).unwrap();
        let headers: Vec<_> = head.headers.iter().map(|header| (header.name.to_lowercase(), text(header))).collect();
        let header = |name| headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
        let content_length = header("content-length").map(|length| length.parse().unwrap());
        let is_chunked = header("transfer-encoding") == Some("chunked");
        *bytes = &bytes[length..];
        let body = match content_length {
            _ if matches!(status, 100..200 | 204) => Vec::new(),
            _ if may_be_head && (bytes.is_empty() || bytes.starts_with(b"HTTP/1.")) => Vec::new(),
            Some(length) => take(bytes, length).to_vec(),
            None if is_chunked => {
                let (body, is_whole) = chunks(bytes);
                return Some(Self { status, headers, body, is_whole });
            }
            // HTTP/1.0 has no chunks: the end of the connection ends it.
            None => std::mem::take(bytes).to_vec(),
        };
        Some(Self { status, headers, body, is_whole: true })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

/// A body in chunks, and whether it has an end.
fn chunks(bytes: &mut &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        if bytes.is_empty() {
            return (body, false);
        }
        let (start, size) = httparse::parse_chunk_size(bytes).unwrap().unwrap();
        take(bytes, start);
        body.extend_from_slice(take(bytes, size as usize));
        assert_eq!(take(bytes, 2), b"\r\n");
        if size == 0 {
            return (body, true);
        }
    }
}
