//! A client of the control API.

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use azure_dps_emulator::Emulator;
use reqwest::{
    Method,
    blocking::{Client, RequestBuilder, Response},
    header::CONTENT_TYPE,
};
use serde_json::Value;

use super::answer;

/// The control API of an emulator.
pub struct Control {
    pub client: Client,
    pub url: String,
}

impl Control {
    pub fn of(emulator: &Emulator) -> Self {
        Self::at(emulator.control_url().unwrap())
    }

    pub fn at(url: &str) -> Self {
        // A time-out, so that no test waits for ever.
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        Self { client, url: url.to_owned() }
    }

    /// Returns the port of the listener.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Creates a request without a body and its type.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/_emulator/{path}") };
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub fn try_get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).send().unwrap())
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.try_get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(method, path).header(CONTENT_TYPE, "application/json");
        answer(request.body(body.to_string()).send().unwrap())
    }

    pub fn try_post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, body)
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_post(path, body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// Opens the stream of events after this number.
    pub fn events_after(&self, number: u64) -> Events {
        Events::of(self.request(Method::GET, &format!("events?after={number}")).send().unwrap())
    }
}

/// A stream of events.
pub struct Events(BufReader<Response>);

impl Events {
    pub fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream; charset=utf-8");
        Self(BufReader::new(response))
    }

    /// Reads events until `is_last` is true for one: number, kind and data. Returns all of them.
    pub fn until(&mut self, is_last: impl Fn(&str, &Value) -> bool) -> Vec<(u64, String, Value)> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let (_, kind, data) = &event;
            let done = is_last(kind, data);
            events.push(event);
            if done {
                return events;
            }
        }
    }

    /// Reads this many events.
    pub fn take(&mut self, count: usize) -> Vec<(u64, String, Value)> {
        (0..count).map(|_| self.next()).collect()
    }

    #[allow(clippy::should_implement_trait, reason = "the stream has no end")]
    pub fn next(&mut self) -> (u64, String, Value) {
        self.try_next().expect("the stream has ended")
    }

    /// Reads an event. Returns `None` if the connection has ended.
    pub fn try_next(&mut self) -> Option<(u64, String, Value)> {
        let (mut id, mut kind, mut data) = (None, None, None);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("id", text)) => id = Some(text.parse().unwrap()),
                Some(("event", text)) => kind = Some(text.to_owned()),
                Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
                Some(("retry" | "", _)) => {}
                None if line == "\n" => {
                    // A block without data is a comment, or the time to wait before reconnecting.
                    if let Some(data) = data.take() {
                        return Some((id.unwrap(), kind.unwrap(), data));
                    }
                }
                _ => panic!("{line:?}"),
            }
        }
    }
}
