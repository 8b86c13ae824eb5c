//! The live sessions of devices, and the orders to them. A device has one session: a second connection ends the
//! first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::admitted::Admitted;
use crate::store::shared::Watcher;

/// The most orders that wait for a device that does not read.
const MAX_ORDERS: usize = 64;

/// An order of the hub to a session.
#[derive(Debug)]
pub(crate) enum Order {
    /// Ends the connection, for this reason.
    Close(String),
    /// Sends the device a change of its desired properties.
    Desired { patch: String, version: u64 },
}

/// The live sessions, by the registration IDs of the devices in lower case.
#[derive(Default)]
pub(crate) struct Sessions {
    live: Mutex<HashMap<String, Arc<Live>>>,
    /// The number of the last session.
    last: AtomicU64,
}

/// The shared part of a live session.
pub(super) struct Live {
    pub(super) number: u64,
    admitted: Admitted,
    orders: Mutex<Orders>,
    ordered: Notify,
}

#[derive(Default)]
struct Orders {
    waiting: VecDeque<Order>,
    is_closed: bool,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a watcher that ends the sessions of devices that may no longer be connected.
    pub(super) fn watcher(self: &Arc<Self>) -> Watcher {
        let sessions = Arc::clone(self);
        Box::new(move |store, changed| {
            let live = sessions.lock();
            for id in changed.devices.iter().filter(|_| !live.is_empty()) {
                if let Some(live) = live.get(id)
                    && let Some(why) = live.admitted.is_over(store)
                {
                    live.order(Order::Close(why));
                }
            }
        })
    }

    /// Creates a session, which is not in the list yet.
    pub(super) fn new_session(&self, admitted: Admitted) -> Arc<Live> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Live { number, admitted, orders: Mutex::default(), ordered: Notify::new() })
    }

    /// Adds a session to the list. An older session of the device ends.
    pub(super) fn open(&self, id: &str, live: Arc<Live>) {
        if let Some(older) = self.lock().insert(id.to_owned(), live) {
            older.order(Order::Close("400027: the device connected again, which ends the older connection".to_owned()));
        }
    }

    /// Returns `true` unless the session has ended or a newer session has replaced it.
    pub(super) fn is_live(&self, id: &str, number: u64) -> bool {
        self.lock().get(id).is_some_and(|live| live.number == number)
    }

    /// Removes a session from the list, unless a newer session has replaced it.
    pub(super) fn close(&self, id: &str, number: u64) {
        let mut live = self.lock();
        if live.get(id).is_some_and(|live| live.number == number) {
            live.remove(id);
        }
    }

    /// Sends a device a change of its desired properties, if it is connected. Changes do not wait for a device.
    pub(super) fn desired_changed(&self, registration_id: &str, patch: String, version: u64) {
        self.order(registration_id, Order::Desired { patch, version });
    }

    /// Gives an order to the session of a device. Returns `false` if there is no session.
    pub(super) fn order(&self, registration_id: &str, order: Order) -> bool {
        let live = self.lock().get(&registration_id.to_ascii_lowercase()).cloned();
        live.map(|live| live.order(order)).is_some()
    }
}

impl Live {
    /// Returns the next order, if there is one.
    pub(super) fn next(&self) -> Option<Order> {
        self.orders().waiting.pop_front()
    }

    /// Waits for an order. Cancelling this call loses no order.
    pub(super) async fn ordered(&self) {
        self.ordered.notified().await;
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        let mut orders = self.orders();
        if orders.is_closed {
            return;
        }
        if orders.waiting.len() >= MAX_ORDERS {
            orders.close("the client does not read".to_owned());
        } else if let Order::Close(why) = order {
            orders.close(why);
        } else {
            orders.waiting.push_back(order);
        }
        drop(orders);
        self.ordered.notify_one();
    }
}

impl Orders {
    /// Drops all other orders, because the session ends.
    fn close(&mut self, why: String) {
        self.waiting.clear();
        self.waiting.push_back(Order::Close(why));
        self.is_closed = true;
    }
}
