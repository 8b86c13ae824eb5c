//! Enrollments: what the service API and the configuration do to them, and what that does to devices.

mod attestation;
mod bulk;
mod changes;
mod input;
mod output;
mod query;
mod rules;
pub(super) mod update;
