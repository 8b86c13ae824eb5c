//! Blocking TCP over smoltcp, one connection at a time: DHCP, DNS, and a byte stream with the traits of embedded-io.
//! Every wait has a time limit.

use core::{cell::RefCell, fmt, time::Duration};

use cortex_m::singleton;
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use mps2_an385 as board;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage},
    socket::{
        dhcpv4::{self, Event},
        dns, tcp,
    },
    time::Instant,
    wire::{DnsQueryType, EthernetAddress, IpAddress, IpCidr, Ipv4Address},
};

/// The longest wait for DHCP, for DNS, and for a connection.
const SET_UP_PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait for the next bytes of a connection.
const STREAM_PATIENCE: Duration = Duration::from_secs(20);

/// Holds what arrives before it is read. A TLS flight of DPS has 4 to 5 KB.
const RECEIVE_BUFFER: usize = 4096;
const SEND_BUFFER: usize = 1536;

/// The board's network, with an address.
pub struct Network(RefCell<Stack>);

struct Stack {
    device: board::Ethernet,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    dns: SocketHandle,
    tcp: SocketHandle,
}

impl Network {
    /// Gets an address by DHCP. Call this function once: the buffers are static.
    pub fn start(mut device: board::Ethernet) -> Result<Self, Error> {
        let mut config = Config::new(EthernetAddress(device.mac_address()).into());
        let mut seed = [0; 8];
        board::random(&mut seed);
        config.random_seed = u64::from_le_bytes(seed);
        let interface = Interface::new(config, &mut device, now());

        let once = "Network::start is called once";
        let storage = singleton!(: [SocketStorage<'static>; 3] = [SocketStorage::EMPTY; 3]).expect(once);
        let received = singleton!(: [u8; RECEIVE_BUFFER] = [0; RECEIVE_BUFFER]).expect(once);
        let to_send = singleton!(: [u8; SEND_BUFFER] = [0; SEND_BUFFER]).expect(once);
        let queries = singleton!(: [Option<dns::DnsQuery>; 1] = [None]).expect(once);
        let mut sockets = SocketSet::new(&mut storage[..]);
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let dns = sockets.add(dns::Socket::new(&[], &mut queries[..]));
        let tcp = sockets
            .add(tcp::Socket::new(tcp::SocketBuffer::new(&mut received[..]), tcp::SocketBuffer::new(&mut to_send[..])));
        let network = Self(RefCell::new(Stack { device, interface, sockets, dhcp, dns, tcp }));
        network
            .wait(SET_UP_PATIENCE, |stack| stack.interface.ipv4_addr().map(drop))
            .ok_or(Error::NoAddress)
            .map(|()| network)
    }

    /// Waits this long, and keeps the connections alive.
    pub fn delay(&self, duration: Duration) {
        self.wait(duration, |_| None::<()>);
    }

    /// Opens a connection to a host name or an address, and ends an earlier one. Nothing on the connection takes longer
    /// than until `deadline`, a time of [`board::uptime`].
    pub fn connect(&self, host: &str, port: u16, deadline: Duration) -> Result<TcpStream<'_>, Error> {
        let address = match host.parse() {
            Ok(address) => address,
            Err(_) => self.resolve(host, deadline)?,
        };
        let mut random = [0; 2];
        board::random(&mut random);
        let local_port = 0xc000 | u16::from_le_bytes(random);
        {
            let stack = &mut *self.0.borrow_mut();
            let socket = stack.sockets.get_mut::<tcp::Socket>(stack.tcp);
            socket.abort();
            // Fails only for port 0 or an unspecified address.
            let connecting = socket.connect(stack.interface.context(), (address, port), local_port);
            connecting.map_err(|_| Error::Refused)?;
        }
        let stream = TcpStream { network: self, deadline };
        let connected = self.wait_until(deadline, SET_UP_PATIENCE, |stack| match stack.tcp().state() {
            tcp::State::SynSent | tcp::State::SynReceived => None,
            tcp::State::Closed => Some(Err(Error::Refused)),
            _ => Some(Ok(())),
        });
        connected.unwrap_or(Err(Error::TimedOut)).map(|()| stream)
    }

    fn resolve(&self, name: &str, deadline: Duration) -> Result<Ipv4Address, Error> {
        let query = {
            let Stack { interface, sockets, dns, .. } = &mut *self.0.borrow_mut();
            let socket = sockets.get_mut::<dns::Socket>(*dns);
            socket.start_query(interface.context(), name, DnsQueryType::A).map_err(|_| Error::UnknownName)?
        };
        let answer = self.wait_until(deadline, SET_UP_PATIENCE, |stack| {
            let socket = stack.sockets.get_mut::<dns::Socket>(stack.dns);
            match socket.get_query_result(query) {
                Ok(addresses) => {
                    Some(addresses.first().map(|IpAddress::Ipv4(address)| *address).ok_or(Error::UnknownName))
                }
                Err(dns::GetQueryResultError::Pending) => None,
                Err(dns::GetQueryResultError::Failed) => Some(Err(Error::UnknownName)),
            }
        });
        answer.unwrap_or_else(|| {
            let Stack { sockets, dns, .. } = &mut *self.0.borrow_mut();
            sockets.get_mut::<dns::Socket>(*dns).cancel_query(query);
            Err(Error::UnknownName)
        })
    }

    /// Does what `wait` does, until `deadline` at the latest.
    fn wait_until<T>(
        &self,
        deadline: Duration,
        patience: Duration,
        done: impl FnMut(&mut Stack) -> Option<T>,
    ) -> Option<T> {
        self.wait(patience.min(deadline.saturating_sub(board::uptime())), done)
    }

    /// Runs the network until `done` returns a value. Returns `None` if this takes too long.
    fn wait<T>(&self, patience: Duration, mut done: impl FnMut(&mut Stack) -> Option<T>) -> Option<T> {
        let end = board::uptime().saturating_add(patience);
        loop {
            let stack = &mut *self.0.borrow_mut();
            stack.poll();
            let result = done(stack);
            if result.is_some() || board::uptime() >= end {
                return result;
            }
            board::idle();
        }
    }
}

impl Stack {
    fn poll(&mut self) {
        let Self { device, interface, sockets, dhcp, dns, .. } = self;
        interface.poll(now(), device, sockets);
        match sockets.get_mut::<dhcpv4::Socket>(*dhcp).poll() {
            None => {}
            Some(Event::Deconfigured) => {
                interface.update_ip_addrs(|addresses| addresses.clear());
                interface.routes_mut().remove_default_ipv4_route();
            }
            Some(Event::Configured(config)) => {
                interface.update_ip_addrs(|addresses| {
                    addresses.clear();
                    // There is space for one address.
                    let _ = addresses.push(IpCidr::Ipv4(config.address));
                });
                if let Some(router) = config.router {
                    let _ = interface.routes_mut().add_default_ipv4_route(router);
                }
                if let Some(server) = config.dns_servers.first() {
                    sockets.get_mut::<dns::Socket>(*dns).update_servers(&[(*server).into()]);
                }
            }
        }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }
}

fn now() -> Instant {
    Instant::from_millis(board::uptime().as_millis() as i64)
}

/// An open connection.
pub struct TcpStream<'n> {
    network: &'n Network,
    deadline: Duration,
}

impl TcpStream<'_> {
    fn wait<T>(&self, mut done: impl FnMut(&mut tcp::Socket<'static>) -> Option<Result<T, Error>>) -> Result<T, Error> {
        let result = self.network.wait_until(self.deadline, STREAM_PATIENCE, |stack| done(stack.tcp()));
        result.unwrap_or(Err(Error::TimedOut))
    }
}

impl ErrorType for TcpStream<'_> {
    type Error = Error;
}

impl Read for TcpStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.wait(|socket| match socket.recv_slice(buffer) {
            Ok(0) => None,
            Ok(read) => Some(Ok(read)),
            Err(tcp::RecvError::Finished) => Some(Ok(0)),
            Err(tcp::RecvError::InvalidState) => Some(Err(Error::Reset)),
        })
    }
}

impl Write for TcpStream<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.wait(|socket| match socket.send_slice(buffer) {
            Ok(0) => None,
            Ok(written) => Some(Ok(written)),
            Err(tcp::SendError::InvalidState) => Some(Err(Error::Reset)),
        })
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.wait(|socket| match socket.send_queue() {
            0 => Some(Ok(())),
            _ if socket.may_send() => None,
            _ => Some(Err(Error::Reset)),
        })
    }
}

impl Drop for TcpStream<'_> {
    fn drop(&mut self) {
        let stack = &mut *self.network.0.borrow_mut();
        stack.tcp().close();
        stack.poll();
    }
}

/// Why the network failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// DHCP gave no address.
    NoAddress,
    /// DNS does not know the host.
    UnknownName,
    /// Nothing listens at this port.
    Refused,
    /// The other side broke the connection.
    Reset,
    /// The other side did not answer in time.
    TimedOut,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::NoAddress => "no address from DHCP",
            Error::UnknownName => "DNS does not know the host",
            Error::Refused => "connection refused",
            Error::Reset => "connection broken by the other side",
            Error::TimedOut => "no answer in time",
        })
    }
}

impl core::error::Error for Error {}

impl embedded_io::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::NoAddress => ErrorKind::NotConnected,
            Error::UnknownName => ErrorKind::NotFound,
            Error::Refused => ErrorKind::ConnectionRefused,
            Error::Reset => ErrorKind::ConnectionReset,
            Error::TimedOut => ErrorKind::TimedOut,
        }
    }
}
