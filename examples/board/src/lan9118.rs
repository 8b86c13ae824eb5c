//! The board's Ethernet controller, an SMSC LAN9118. The driver polls it and uses neither interrupts nor DMA.

/// The longest Ethernet frame, without its checksum.
pub const MTU: usize = 1514;

mod register {
    pub const RX_DATA: usize = 0x00;
    pub const TX_DATA: usize = 0x20;
    pub const RX_STATUS: usize = 0x40;
    pub const ID_REV: usize = 0x50;
    pub const TX_CFG: usize = 0x70;
    pub const HW_CFG: usize = 0x74;
    pub const RX_FIFO_INF: usize = 0x7c;
    pub const TX_FIFO_INF: usize = 0x80;
    pub const MAC_CSR_CMD: usize = 0xa4;
    pub const MAC_CSR_DATA: usize = 0xa8;
    /// Accessed through `MAC_CSR_CMD`.
    pub mod mac {
        pub const CONTROL: u32 = 1;
        pub const ADDRESS_HIGH: u32 = 2;
        pub const ADDRESS_LOW: u32 = 3;
    }
}

/// The controller's registers. A copy refers to the same registers.
#[derive(Clone, Copy)]
struct Registers(*mut u32);

impl Registers {
    fn read(self, register: usize) -> u32 {
        // SAFETY: the caller of `Lan9118::new` promises a controller at this address, and every offset in this file is
        // one of its 32-bit registers.
        unsafe { self.0.byte_add(register).read_volatile() }
    }

    fn write(self, register: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { self.0.byte_add(register).write_volatile(value) }
    }

    fn mac_command(self, command: u32) {
        const BUSY: u32 = 1 << 31;
        self.write(register::MAC_CSR_CMD, BUSY | command);
        while self.read(register::MAC_CSR_CMD) & BUSY != 0 {}
    }

    fn read_mac(self, register: u32) -> u32 {
        const READ: u32 = 1 << 30;
        self.mac_command(READ | register);
        self.read(register::MAC_CSR_DATA)
    }

    fn write_mac(self, register: u32, value: u32) {
        self.write(register::MAC_CSR_DATA, value);
        self.mac_command(register);
    }

    /// Reads the next frame from the controller, if there is one, and returns its length.
    fn receive(self, frame: &mut [u8; MTU]) -> Option<usize> {
        const ERROR: u32 = 1 << 15;
        const CHECKSUM: usize = 4;
        if self.read(register::RX_FIFO_INF) >> 16 & 0xff == 0 {
            return None;
        }
        let status = self.read(register::RX_STATUS);
        let in_fifo = (status >> 16 & 0x3fff) as usize;
        let mut words = frame.chunks_mut(4);
        for _ in 0..in_fifo.div_ceil(4) {
            let word = self.read(register::RX_DATA).to_le_bytes();
            if let Some(place) = words.next() {
                place.copy_from_slice(&word[..place.len()]);
            }
        }
        // A frame with an error, or a frame that is too long, becomes an empty frame. TCP/IP stacks ignore it.
        let len = in_fifo.saturating_sub(CHECKSUM);
        Some(if status & ERROR == 0 && len <= MTU { len } else { 0 })
    }

    fn has_room(self) -> bool {
        // The frame, its two commands, and the padding to whole words.
        (self.read(register::TX_FIFO_INF) & 0xffff) as usize >= MTU + 12
    }

    fn send(self, frame: &[u8]) {
        const FIRST_AND_LAST: u32 = 1 << 13 | 1 << 12;
        let len = frame.len() as u32;
        self.write(register::TX_DATA, FIRST_AND_LAST | len);
        self.write(register::TX_DATA, len);
        for bytes in frame.chunks(4) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.write(register::TX_DATA, u32::from_le_bytes(word));
        }
    }
}

/// The controller, with a buffer for one frame in each direction.
pub struct Lan9118 {
    registers: Registers,
    received: &'static mut [u8; MTU],
    to_send: &'static mut [u8; MTU],
}

impl Lan9118 {
    /// Turns the controller on. Returns `None` if the address belongs to something else, and at the second call.
    ///
    /// # Safety
    /// The registers of a LAN9118, or of another device that may be read, are at `address`. No other code uses them.
    pub unsafe fn new(address: usize) -> Option<Self> {
        const TX_ON: u32 = 1 << 1;
        const TX_STATUS_OVERRUN: u32 = 1 << 2;
        const STORE_AND_FORWARD: u32 = 1 << 20;
        const FIVE_KIB_TO_SEND: u32 = 5 << 16;
        const MAC_ON: u32 = 1 << 3 | 1 << 2;
        let registers = Registers(address as *mut u32);
        if registers.read(register::ID_REV) >> 16 != 0x0118 {
            return None;
        }
        let received = cortex_m::singleton!(: [u8; MTU] = [0; MTU])?;
        let to_send = cortex_m::singleton!(: [u8; MTU] = [0; MTU])?;
        registers.write(register::HW_CFG, STORE_AND_FORWARD | FIVE_KIB_TO_SEND);
        // The driver does not read the status of sent frames, because TCP sends lost data again.
        registers.write(register::TX_CFG, TX_ON | TX_STATUS_OVERRUN);
        registers.write_mac(register::mac::CONTROL, MAC_ON);
        Some(Self { registers, received, to_send })
    }

    /// Returns the next received frame, and a buffer for an answer.
    pub(crate) fn receive(&mut self) -> Option<(Received<'_>, ToSend<'_>)> {
        if !self.registers.has_room() {
            return None;
        }
        let len = self.registers.receive(self.received)?;
        let Self { registers, received, to_send } = self;
        Some((Received(&mut received[..len]), ToSend { registers: *registers, frame: to_send }))
    }

    /// Returns a buffer for a frame to send.
    pub(crate) fn transmit(&mut self) -> Option<ToSend<'_>> {
        let Self { registers, to_send, .. } = self;
        registers.has_room().then_some(ToSend { registers: *registers, frame: to_send })
    }

    pub fn mac_address(&self) -> [u8; 6] {
        let [a, b, c, d] = self.registers.read_mac(register::mac::ADDRESS_LOW).to_le_bytes();
        let [e, f, ..] = self.registers.read_mac(register::mac::ADDRESS_HIGH).to_le_bytes();
        [a, b, c, d, e, f]
    }
}

/// A received frame.
pub struct Received<'a>(pub(crate) &'a mut [u8]);

/// A buffer for a frame to send.
pub struct ToSend<'a> {
    registers: Registers,
    frame: &'a mut [u8; MTU],
}

impl ToSend<'_> {
    pub(crate) fn send<R>(self, len: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let frame = &mut self.frame[..len];
        let result = write(frame);
        self.registers.send(frame);
        result
    }
}
