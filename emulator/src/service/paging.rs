//! Answers queries in pages.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{error::ServiceError, request::Page};

/// How many items a page has by default.
const DEFAULT_ITEMS: usize = 100;

/// The most items in a page.
const MAX_ITEMS: usize = 1000;

impl Page {
    /// Returns a page of `items` in the order of their keys, and the continuation if there is more. Items for which
    /// `see` returns `None` are left out.
    ///
    /// If an item is added or deleted between two pages, the other items stay on their pages.
    pub(super) fn pick<'k, I, T>(
        &self,
        items: impl Iterator<Item = (&'k str, I)>,
        mut see: impl FnMut(I) -> Option<T>,
    ) -> Result<(Vec<T>, Option<String>), ServiceError> {
        let after = self.after()?;
        let mut items: Vec<_> = items.filter(|(key, _)| after.as_deref().is_none_or(|after| *key > after)).collect();
        items.sort_unstable_by_key(|(key, _)| *key);
        let size = self.max_items.filter(|max| *max > 0).unwrap_or(DEFAULT_ITEMS).min(MAX_ITEMS);
        let seen = items.into_iter().filter_map(|(key, item)| Some((key, see(item)?))).take(size + 1);
        let (mut keys, mut seen): (Vec<_>, Vec<_>) = seen.unzip();
        let has_more = seen.len() > size;
        keys.truncate(size);
        seen.truncate(size);
        let last = keys.last().filter(|_| has_more).map(|key| BASE64_URL_SAFE_NO_PAD.encode(key));
        Ok((seen, last))
    }

    /// Returns the key of the last item of the previous page.
    fn after(&self) -> Result<Option<String>, ServiceError> {
        let Some(continuation) = &self.continuation else { return Ok(None) };
        let key = BASE64_URL_SAFE_NO_PAD.decode(continuation).ok().and_then(|key| String::from_utf8(key).ok());
        key.map(Some).ok_or_else(|| ServiceError::bad_request("x-ms-continuation is not one that the service returned"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_exactly_one_page() {
        let keys: Vec<_> = (0..250).map(|number| format!("{number:03}")).collect();
        for (max_items, sizes) in [
            (None, vec![100, 100, 50]),
            (Some(0), vec![100, 100, 50]),
            (Some(125), vec![125, 125]),
            (Some(250), vec![250]),
            (Some(usize::MAX), vec![250]),
        ] {
            let (mut found, mut continuation) = (Vec::new(), None);
            for (at, size) in sizes.iter().enumerate() {
                let page = Page { max_items, continuation };
                let (part, more) = page.pick(keys.iter().rev().map(|key| (&**key, key.clone())), Some).unwrap();
                assert_eq!((part.len(), more.is_some()), (*size, at + 1 < sizes.len()), "{max_items:?}");
                found.extend(part);
                continuation = more;
            }
            assert_eq!(found, keys, "{max_items:?}");
        }
    }

    #[test]
    fn a_continuation_of_another_service_is_rejected() {
        for continuation in ["ö", "a", "_w"] {
            let page = Page { max_items: None, continuation: Some(continuation.to_owned()) };
            assert_eq!(page.pick([("a", ())].into_iter(), Some).unwrap_err().status(), 400, "{continuation}");
        }
    }
}
