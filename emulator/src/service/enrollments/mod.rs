//! Enrollments: how the service API and the configuration change them, and how changes affect devices.

mod attestation;
mod bulk;
mod changes;
mod input;
mod output;
mod query;
mod rules;
pub(super) mod update;
