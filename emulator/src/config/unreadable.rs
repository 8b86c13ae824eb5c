//! Messages for values that cannot be read. They quote no key.

use toml::de::DeValue;

use super::finding::quoted;

/// If a table has more keys than this, the message does not list them.
const MOST_NAMES: usize = 16;

/// Returns the message of a deserializer in plain words. For an unknown key, also returns the probable key.
///
/// The deserializer's own message quotes strings, which may be misplaced keys.
pub(super) fn explain<'a>(message: &'a str, value: Option<&DeValue<'_>>) -> (String, Option<&'a str>) {
    let text = match value {
        Some(DeValue::String(text)) => text,
        _ => "",
    };
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let names = known_names(rest);
        // The finding's path contains the name.
        let (name, _) = rest.split_once('`').unwrap_or((rest, ""));
        let meant = nearest(name, &names);
        let hint = match meant {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None if names.len() <= MOST_NAMES => format!("; known keys: {}", names.join(", ")),
            None => String::new(),
        };
        (format!("this key is unknown{hint}"), meant)
    } else if message.starts_with("unknown variant `") {
        let names = known_names(message.rsplit_once("`, expected ").map_or("", |(_, names)| names));
        let hint = nearest(text, &names).map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
        let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
        (format!("{} is not one of {}{hint}", quoted(text), names.join(", ")), None)
    } else if let Some(rest) = message.strip_prefix("missing field `") {
        (format!("the key `{}` is missing", rest.trim_end_matches('`')), None)
    } else if let Some((_, expected)) = message.rsplit_once(", expected ")
        && (message.starts_with("invalid type: ") || message.starts_with("invalid value: "))
    {
        (format!("this is {}, but {} is expected", found(value), plain(expected)), None)
    } else if message == "wanted string or table" {
        (format!("this is {}, but a string is expected", found(value)), None)
    } else {
        (message.to_owned(), None)
    }
}

/// Returns the names in a list such as "expected one of `a`, `b`". An unknown name may come before the list.
fn known_names(list: &str) -> Vec<&str> {
    let list = list.rsplit_once(", expected ").map_or(list, |(_, list)| list);
    list.split('`').skip(1).step_by(2).collect()
}

fn found(value: Option<&DeValue<'_>>) -> String {
    match value {
        Some(DeValue::String(text)) => format!("the string {}", quoted(text)),
        Some(DeValue::Integer(number)) => format!("the number {number}"),
        Some(DeValue::Float(number)) => format!("the number {number}"),
        Some(DeValue::Boolean(value)) => value.to_string(),
        Some(DeValue::Datetime(_)) => "a date or time".to_owned(),
        Some(DeValue::Array(_)) => "a list".to_owned(),
        Some(DeValue::Table(_)) => "a table".to_owned(),
        None => "something else".to_owned(),
    }
}

/// Returns the name of a type that readers of TOML know.
fn plain(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "f64" => "a number",
        "u32" => "a whole number from 0 to 4294967295",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        name if name.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Returns the name that was probably intended. Azure's own names have no underscores.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    const SIMILAR: f64 = 0.75;
    let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let name = plain(name);
    let similarity = |other: &str| strsim::jaro(&name, &plain(other));
    let scored = names.iter().map(|other| (similarity(other), *other)).filter(|(score, _)| *score > SIMILAR);
    scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}
