//! After the first boot: the stored assignment, the hub, the twin, and reprovisioning.
//!
//! An assignment is valid for years. A device stores it, and asks DPS again only if it must:
//!
//! ```
//! use azure_dps::after::{Next, Record, Reprovisioning, ReprovisioningPolicy};
//! use azure_dps::{IdScope, Registration, RegistrationId};
//! use core::time::Duration;
//!
//! let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
//! let flash = [0xff; 4096]; // erased: the device has no assignment
//! let record = Record::read(&flash, &registration);
//! let now = Duration::ZERO; // since boot
//! let mut life = Reprovisioning::new(registration.registration_id(), ReprovisioningPolicy::new(), record);
//! assert!(matches!(life.next(now), Next::Register(_)));
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! | item | use |
//! |---|---|
//! | [`Hub`] | returns what a hub client needs: host, client ID, user name, token, connection string |
//! | [`Record`] | stores the assignment in flash. Detects bytes that are incomplete, changed or from another device |
//! | [`Reprovisioning`] | decides what to do next: connect to the hub or ask DPS, when, and with which key |
//! | [`twin`] | reads and reports the device's properties at the hub |
//!
//! These types do no I/O. A program that does not use them is not larger. Start with
//! [how to drive it](Reprovisioning#how-to-drive-it).

mod hub;
mod record;
mod reprovisioning;
pub mod twin;

pub use crate::{error::RecordError, identity::InvalidHub};
pub use hub::Hub;
pub use record::Record;
pub use reprovisioning::{HubOutcome, Next, Pauses, Reprovisioning, ReprovisioningPolicy};
