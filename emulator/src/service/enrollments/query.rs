//! Enrollments are listed.

use super::output::{GROUP_MEMBERS, INDIVIDUAL_MEMBERS, Output};
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
    /// Returns the enrollments that a query is about, without the states of their devices.
    pub(crate) fn query_enrollments(&self, kind: Kind, body: &[u8], page: &Page) -> Result<QueryPage, ServiceError> {
        let filter = match kind {
            Kind::Group => Filter::read(body, &GROUP_MEMBERS),
            Kind::Individual => Filter::read(body, &INDIVIDUAL_MEMBERS),
        }?;
        let store = self.store();
        let enrollments = store.enrollments.names(kind).map(|name| (name, name));
        let (stamped, continuation) = page.pick(enrollments, |name| {
            let stamped = store.enrollments.get(kind, name)?;
            filter.matches(&Output::new(&stamped, None)).then_some(stamped)
        })?;
        let items: Vec<_> = stamped.iter().map(|stamped| Output::new(stamped, None)).collect();
        Ok(QueryPage { body: json(&items), continuation })
    }
}
