//! Bulk operations: up to ten enrollments at once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    changes::Condition,
    input::{Input, id_member},
    update::Ended,
};
use crate::{
    config::settings::Settings,
    service::{
        Service,
        answer::json,
        error::ServiceError,
        json_body::{bad_member, read, read_value},
    },
    store::{Store, enrollments::Kind},
};

/// "Bulk device enrollment operation with maximum of 10 enrollments."
const MOST: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkOperation {
    mode: Option<String>,
    enrollments: Option<Vec<Value>>,
    enrollment_groups: Option<Vec<Value>>,
}

#[derive(Clone, Copy)]
enum Mode {
    Create,
    Update,
    UpdateIfMatchETag,
    Delete,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BulkResult {
    is_successful: bool,
    errors: Vec<BulkError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BulkError {
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group_id: Option<String>,
    error_code: u32,
    error_status: String,
}

impl Service {
    /// Creates, changes or deletes several enrollments. If one fails, the others are still changed.
    pub(crate) fn change_enrollments(&self, kind: Kind, body: &[u8]) -> Result<String, ServiceError> {
        let operation: BulkOperation = read(body)?;
        let mode = match operation.mode.unwrap_or_default().to_ascii_lowercase().as_str() {
            "create" => Mode::Create,
            "update" => Mode::Update,
            "updateifmatchetag" => Mode::UpdateIfMatchETag,
            "delete" => Mode::Delete,
            _ => return Err(bad_member("mode", "create, update, updateIfMatchETag or delete is expected")),
        };
        let (items, member) = match kind {
            Kind::Group => (operation.enrollment_groups, "enrollmentGroups"),
            Kind::Individual => (operation.enrollments, "enrollments"),
        };
        let items = items.ok_or_else(|| bad_member(member, "it is missing"))?;
        if items.len() > MOST {
            return Err(bad_member(member, format!("{} are too many: at most {MOST} are allowed", items.len())));
        }
        let change = |store: &mut Store| {
            let (mut errors, mut ended) = (Vec::new(), Vec::new());
            for item in items {
                let id = item.get(id_member(kind)).and_then(Value::as_str).map(str::to_owned);
                match self.change_one(store, &self.settings(), kind, mode, item) {
                    Ok(more) => ended.extend(more),
                    Err(error) => errors.push(BulkError::new(kind, id, error)),
                }
            }
            Ok::<_, ServiceError>((errors, ended))
        };
        self.shared.store.change(change, |(errors, ended)| {
            self.stop(ended);
            json(&BulkResult { is_successful: errors.is_empty(), errors })
        })
    }

    fn change_one(
        &self,
        store: &mut Store,
        settings: &Settings,
        kind: Kind,
        mode: Mode,
        item: Value,
    ) -> Result<Vec<Ended>, ServiceError> {
        let input: Input = read_value(item)?;
        let etag = input.etag.clone();
        match mode {
            Mode::Create => self.put(store, settings, kind, input, Condition::New),
            Mode::Update => self.put(store, settings, kind, input, Condition::Known),
            Mode::UpdateIfMatchETag => {
                let etag = etag.ok_or_else(|| bad_member("etag", "it is missing"))?;
                self.put(store, settings, kind, input, Condition::Matching(&etag))
            }
            Mode::Delete => self.delete(store, settings, kind, input.id(kind)?, None),
        }
    }
}

impl BulkError {
    fn new(kind: Kind, id: Option<String>, error: ServiceError) -> Self {
        let (enrollment_group_id, registration_id) = match kind {
            Kind::Group => (id, None),
            Kind::Individual => (None, id),
        };
        Self { registration_id, enrollment_group_id, error_code: error.code, error_status: error.message }
    }
}
