//! Devices whose device ID differs from their registration ID.

use std::collections::HashMap;

use super::device::DeviceRecord;

/// The registration IDs in lower case, by the device IDs. Only individual enrollments can set a device ID, so these
/// devices are few. Other devices need no index.
#[derive(Debug, Default)]
pub(super) struct Renamed(HashMap<String, Vec<String>>);

impl Renamed {
    pub(super) fn of(&self, device_id: &str) -> impl Iterator<Item = &str> {
        self.0.get(device_id).into_iter().flatten().map(String::as_str)
    }

    pub(super) fn add(&mut self, key: &str, record: &DeviceRecord) {
        if !record.device_id.eq_ignore_ascii_case(key) {
            self.0.entry(record.device_id.clone()).or_default().push(key.to_owned());
        }
    }

    pub(super) fn remove(&mut self, key: &str, record: &DeviceRecord) {
        if let Some(keys) = self.0.get_mut(&record.device_id) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.0.remove(&record.device_id);
            }
        }
    }
}

impl<'a> FromIterator<(&'a str, &'a DeviceRecord)> for Renamed {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a DeviceRecord)>>(devices: T) -> Self {
        let mut renamed = Self::default();
        for (key, record) in devices {
            renamed.add(key, record);
        }
        renamed
    }
}
