//! An HTTP proxy that opens tunnels, and counts them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The heads of the requests, in order.
type Heads = Arc<Mutex<Vec<String>>>;

pub struct Proxy {
    port: u16,
    heads: Heads,
}

impl Proxy {
    /// Opens a tunnel to any requested host.
    pub fn start() -> Self {
        Self::listen(|head, mut client| {
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let Ok(server) = TcpStream::connect(target) else {
                return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
            };
            client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")?;
            for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    to.shutdown(std::net::Shutdown::Write)
                });
            }
            Ok(())
        })
    }

    /// Answers each request with these bytes, and closes the connection.
    pub fn answering(answer: &'static [u8]) -> Self {
        Self::listen(|_, mut client| {
            client.write_all(answer)?;
            client.shutdown(std::net::Shutdown::Write)?;
            client.read(&mut [0]).map(drop)
        })
    }

    fn listen(serve: impl Fn(&str, TcpStream) -> io::Result<()> + Send + Sync + Copy + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Heads::default();
        let seen = heads.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = seen.clone();
                thread::spawn(move || {
                    let mut head = String::new();
                    // The client waits for the answer, so it sends nothing after the head.
                    let mut reader = BufReader::new(&client);
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).is_ok_and(|read| read == 0) {
                            return;
                        }
                    }
                    seen.lock().unwrap().push(head.clone());
                    let _ = serve(&head, client);
                });
            }
        });
        Self { port, heads }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}
