//! Reads devices and enrollments for the control API, one by one or in pages.

use serde_json::{Map, Value};

use super::{
    Service,
    views::{device_summary, device_view, enrollment_view},
};
use crate::store::enrollments::Kind;

/// A page of a list.
pub(crate) struct Page {
    pub(crate) entries: Vec<Map<String, Value>>,
    /// The entry after which the next page begins. `None` on the last page.
    pub(crate) next: Option<String>,
    /// The number of the last event that the page includes.
    pub(crate) last_event: u64,
}

/// How many devices and enrollments there are.
pub(crate) struct Counts {
    pub(crate) devices: usize,
    pub(crate) enrollments: usize,
}

impl Service {
    pub(crate) fn counts(&self) -> Counts {
        let store = self.store();
        let enrollments = store.enrollments.groups().count() + store.enrollments.individuals().count();
        Counts { devices: store.devices.len(), enrollments }
    }

    /// Returns the devices after this registration ID.
    pub(crate) fn device_page(&self, after: &str, limit: usize) -> Page {
        let store = self.store();
        let mut devices = store.devices.page(after, limit + 1);
        let next = (devices.len() > limit).then(|| devices.truncate(limit)).and(devices.last());
        Page {
            next: next.map(|(id, _)| (*id).to_owned()),
            entries: devices.iter().map(|(id, device)| device_summary(id, device, &self.shared.activity)).collect(),
            last_event: self.shared.journal.last_event(),
        }
    }

    /// Returns a device with its twin.
    pub(crate) fn device_view(&self, registration_id: &str) -> Option<Map<String, Value>> {
        device_view(&self.store(), registration_id, &self.shared.activity)
    }

    /// Returns the enrollments after this one: `group/ID` or `individual/ID`.
    pub(crate) fn enrollment_page(&self, after: &str, limit: usize) -> Page {
        let store = self.store();
        let (after_kind, after_id) = after.split_once('/').unwrap_or((after, ""));
        let mut page = Vec::new();
        for kind in [Kind::Group, Kind::Individual].into_iter().filter(|kind| kind.name() >= after_kind) {
            let after = if kind.name() == after_kind { after_id } else { "" };
            let names = store.enrollments.page(kind, after, limit + 1 - page.len());
            page.extend(names.into_iter().map(|id| (kind, id)));
        }
        let next = (page.len() > limit).then(|| page.truncate(limit)).and(page.last());
        Page {
            next: next.map(|(kind, id)| format!("{}/{id}", kind.name())),
            entries: page.iter().filter_map(|&(kind, id)| enrollment_view(&store, kind, id)).collect(),
            last_event: self.shared.journal.last_event(),
        }
    }

    pub(crate) fn enrollment_view(&self, kind: Kind, id: &str) -> Option<Map<String, Value>> {
        enrollment_view(&self.store(), kind, id)
    }
}
