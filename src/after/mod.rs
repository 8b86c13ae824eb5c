//! What comes after the first boot: the hub, and what a device remembers from boot to boot.
//!
//! | | |
//! |---|---|
//! | [`Hub`] | what the hub's client connects with: host, client ID, user name, token, connection string |
//! | [`Record`] | the assignment in flash, in bytes that are whole and this device's own, or refused |
//! | [`Reprovisioning`] | decides whether to connect to the hub or to ask DPS, when, and with which key |
//! | [`twin`] | the device's settings at the hub: topics, and how to read what arrives |
//!
//! None of them does I/O. Start with [how to drive it](Reprovisioning#how-to-drive-it).

mod hub;
mod record;
mod reprovisioning;
pub mod twin;

pub use crate::{error::RecordError, identity::InvalidHub};
pub use hub::Hub;
pub use record::Record;
pub use reprovisioning::{HubOutcome, Next, Pauses, Reprovisioning, ReprovisioningPolicy};
