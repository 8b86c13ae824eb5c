//! The sessions of devices at their hubs.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep_until};

use super::{
    Hub,
    activity::TelemetryMessage,
    admission::{RefusalAnswer, Refused, is_unavailable},
    admitted::Admitted,
    live::{Live, Order, Sessions},
    shared::Shared,
};
use crate::{
    clock::wall_time,
    store::{Store, device::Device, hub_device::Filters, shared::NotKept},
};

/// A live session. It ends when it is dropped.
pub(crate) struct Session {
    /// The registration ID in lower case.
    id: String,
    pub(crate) admitted: Admitted,
    /// `true` if the subscriptions are kept for the next connection.
    is_kept: bool,
    /// When the token expires.
    expires: Option<Instant>,
    live: Arc<Live>,
    sessions: Arc<Sessions>,
    shared: Arc<Shared>,
}

/// A session with its kept subscriptions.
pub(crate) struct Opened {
    pub(crate) session: Session,
    /// `true` if the hub had kept a session of this device.
    pub(crate) was_kept: bool,
    pub(crate) filters: Filters,
}

impl From<NotKept> for Refused {
    fn from(NotKept(why): NotKept) -> Self {
        Self { answer: RefusalAnswer::Unavailable, ..Self::new(why) }
    }
}

impl Hub {
    /// Opens the session of a device that was admitted. An older session of the device ends. With a clean session,
    /// the kept subscriptions are forgotten.
    pub(crate) fn open(&self, admitted: Admitted, clean: bool) -> Result<Opened, Refused> {
        let id = admitted.registration_id.to_ascii_lowercase();
        let live = self.sessions.new_session(admitted.clone());
        let take = |store: &mut Store| {
            // The device may have changed since it was admitted.
            if let Some(why) = admitted.is_over(store) {
                return Err(Refused::new(why));
            }
            let kept = store.devices.get(&id).and_then(|device| device.hub.session.clone());
            let next = (!clean).then(|| kept.clone().unwrap_or_default());
            if next != kept
                && let Some(device) = store.devices.get_mut(&id)
            {
                device.hub.session.clone_from(&next);
            }
            Ok((kept.is_some() && !clean, next.unwrap_or_default()))
        };
        let (was_kept, filters) = self.shared.store.change(take, |taken| {
            // The store is still locked here. So a later change finds the session, and all parts agree which session
            // is the last.
            self.sessions.open(&id, Arc::clone(&live));
            self.shared.activity.connected(&admitted.registration_id, live.number);
            taken
        })?;
        self.shared.store.tell(&id);
        let expires = admitted.token_expiry.map(|expiry| {
            Instant::now() + Duration::from_secs(expiry.saturating_sub(wall_time::unix_seconds()).min(FOREVER))
        });
        let session = Session {
            id,
            admitted,
            is_kept: !clean,
            expires,
            live,
            sessions: Arc::clone(&self.sessions),
            shared: Arc::clone(&self.shared),
        };
        Ok(Opened { session, was_kept, filters })
    }

    /// Keeps the subscriptions of a session for the next connection, unless the session is clean.
    pub(crate) fn keep(&self, session: &Session, filters: &Filters) -> Result<(), NotKept> {
        let is_same = |device: &Device| device.hub.session.as_ref() == Some(filters);
        if !session.is_kept || self.shared.store.read().devices.get(&session.id).is_none_or(is_same) {
            return Ok(());
        }
        let keep = |store: &mut Store| {
            // A session that has ended or was replaced changes nothing.
            if session.admitted.is_over(store).is_none()
                && self.sessions.is_live(&session.id, session.live.number)
                && let Some(device) = store.devices.get_mut(&session.id)
            {
                device.hub.session = Some(filters.clone());
            }
            Ok(())
        };
        self.shared.store.change(keep, |()| ())
    }

    /// Accepts a message of a device. The error says why the device is no longer served.
    pub(crate) fn accept(&self, session: &Session, message: TelemetryMessage) -> Result<(), String> {
        let over = session.admitted.is_over(&self.shared.store.read());
        over.map_or(Ok(()), Err)?;
        self.shared.activity.received(&session.admitted.registration_id, message);
        Ok(())
    }

    /// Ends the connection of a device. Returns `false` if the device is not connected.
    pub(crate) fn disconnect(&self, registration_id: &str, why: &str) -> bool {
        self.sessions.order(registration_id, Order::Close(why.to_owned()))
    }
}

/// A token with a longer life in seconds is treated as if it never expires.
const FOREVER: u64 = 100 * 365 * 24 * 60 * 60;

impl Session {
    /// Waits for an order of the hub. Cancelling this call loses no order.
    pub(crate) async fn order(&self) -> Order {
        let mut settings = self.shared.settings.watch();
        loop {
            let current = Arc::clone(&settings.borrow_and_update());
            let behaviour = &current.behaviour;
            if is_unavailable(behaviour, &self.admitted.hub) {
                return Order::Close("the hub is unavailable: it is in unavailable_hubs".to_owned());
            }
            if let Some(order) = self.live.next() {
                return order;
            }
            let outlives = self.shared.clock.real(Duration::from_secs_f64(behaviour.hub_session_after_expiry));
            let end = self.expires.map(|expires| expires + outlives);
            tokio::select! {
                () = self.live.ordered() => {}
                _ = settings.changed() => {}
                () = at(end) => {
                    return Order::Close("401003: the token expired longer ago than \
                                         hub_session_after_expiry allows".to_owned());
                }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.close(&self.id, self.live.number);
        if self.shared.activity.disconnected(&self.id, self.live.number) {
            self.shared.store.tell(&self.id);
        }
    }
}

async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
