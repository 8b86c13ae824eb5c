//! After the first boot: the stored assignment, the hub, the twin, and when to provision again.
//!
//! An assignment is valid for years. A device stores it, and asks DPS again only when it must.
//!
//! | | |
//! |---|---|
//! | [`Hub`] | what the hub's client connects with: host, client ID, user name, token, connection string |
//! | [`Record`] | the assignment in flash. Bytes that are incomplete, changed or from another device are an error |
//! | [`Reprovisioning`] | decides whether to connect to the hub or to ask DPS, when, and with which key |
//! | [`twin`] | the device's settings at the hub: topics, and how to read what arrives |
//!
//! None of them does I/O. A program that does not call them does not contain them. Start with
//! [how to drive it](Reprovisioning#how-to-drive-it).

mod hub;
mod record;
mod reprovisioning;
pub mod twin;

pub use crate::{error::RecordError, identity::InvalidHub};
pub use hub::Hub;
pub use record::Record;
pub use reprovisioning::{HubOutcome, Next, Pauses, Reprovisioning, ReprovisioningPolicy};
