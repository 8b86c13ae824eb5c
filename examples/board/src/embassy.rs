//! The parts of a HAL for embassy: a clock for embassy-time, and an Ethernet driver for embassy-net.

use core::{
    cell::RefCell,
    task::{Context, Waker},
};

use critical_section::Mutex;
use embassy_net_driver::{self as net, Capabilities, HardwareAddress, LinkState};
use embassy_sync::waitqueue::AtomicWaker;
use embassy_time_driver::time_driver_impl;
use embassy_time_queue_utils::Queue;

use crate::lan9118::{Lan9118, MTU, Received, ToSend};

/// The unit is one tick of SysTick, a millisecond.
struct Clock(Mutex<RefCell<Queue>>);

time_driver_impl!(static CLOCK: Clock = Clock(Mutex::new(RefCell::new(Queue::new()))));

impl embassy_time_driver::Driver for Clock {
    fn now(&self) -> u64 {
        crate::milliseconds()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|token| {
            // There is no alarm to set, because each tick checks the queue.
            self.0.borrow_ref_mut(token).schedule_wake(at, waker);
        });
    }
}

/// The task that waits for the Ethernet controller. Each tick wakes it: the controller's interrupt is not used.
static ETHERNET: AtomicWaker = AtomicWaker::new();

/// Wakes the timers that are due and the network.
pub fn on_tick() {
    let now = crate::milliseconds();
    critical_section::with(|token| CLOCK.0.borrow_ref_mut(token).next_expiration(now));
    ETHERNET.wake();
}

impl net::Driver for Lan9118 {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, ToSend<'_>)> {
        ETHERNET.register(context.waker());
        self.receive()
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<ToSend<'_>> {
        ETHERNET.register(context.waker());
        self.transmit()
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = MTU;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac_address())
    }
}

impl net::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl net::TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        self.send(len, write)
    }
}
