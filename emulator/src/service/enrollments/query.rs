//! Queries enrollments.

use super::output::{Output, members};
use crate::{
    service::{
        Service,
        answer::json,
        error::ServiceError,
        query::Filter,
        request::{Page, QueryPage},
    },
    store::enrollments::Kind,
};

impl Service {
    /// Returns the enrollments that match a query, without the states of their devices.
    pub(crate) fn query_enrollments(&self, kind: Kind, body: &[u8], page: &Page) -> Result<QueryPage, ServiceError> {
        let filter = Filter::read(body, &members(kind))?;
        let store = self.store();
        let enrollments = store.enrollments.names(kind).map(|name| (name, name));
        let (items, continuation) = page.pick(enrollments, |name| {
            let item = Output::new(store.enrollments.get(kind, name)?, None);
            filter.matches(&item).then_some(item)
        })?;
        Ok(QueryPage { body: json(&items), continuation })
    }
}
