//! `If-Match`: a change is made only if no other client made one in between.

use super::error::ServiceError;

/// Checks `If-Match` against the current entity tag (RFC 9110, section 13.1.1). A missing `If-Match` and `*` match
/// every tag.
///
/// Quotes do not matter: entity tags of enrollments have quotes, those of registrations do not, and clients send what
/// they read.
pub(super) fn check(if_match: Option<&str>, etag: &str) -> Result<(), ServiceError> {
    let Some(if_match) = if_match else { return Ok(()) };
    let bare = |tag: &str| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned()
    };
    let is_met = if_match.split(',').any(|tag| tag.trim() == "*" || bare(tag) == bare(etag));
    if is_met {
        Ok(())
    } else {
        Err(ServiceError::precondition_failed(format!("If-Match is {if_match}, the etag is {etag}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_compared_without_quotes() {
        let (quoted, bare) = ("\"0000f176\"", "IjAwMDBmMTc2Ig==");
        for (if_match, etag) in [
            (None, quoted),
            (Some("*"), quoted),
            (Some(quoted), quoted),
            (Some("0000f176"), quoted),
            (Some("W/\"0000f176\""), quoted),
            (Some("\"1\", \"0000f176\""), quoted),
            (Some(bare), bare),
            (Some("\"IjAwMDBmMTc2Ig==\""), bare),
        ] {
            assert!(check(if_match, etag).is_ok(), "{if_match:?} {etag}");
        }
        for if_match in ["", "\"\"", "\"0000f177\"", "0000F176", "**"] {
            assert_eq!(check(Some(if_match), quoted).unwrap_err().status(), 412, "{if_match:?}");
        }
    }
}
