//! Compares the JSON reader with serde_json: both accept the same texts and return the same values.

use azure_dps::json::{JsonProblem, MAX_DEPTH, Object, Value};
use proptest::prelude::*;
use serde_json::Value as Json;

/// Builds a value from the reader's result. Numbers stay text.
fn rebuild(value: Value<'_>) -> Json {
    if let Some(text) = value.text() {
        return Json::String(text.chars().collect());
    }
    if let Some(object) = value.object() {
        let members = object.members().map(|(key, value)| (key.to_string(), rebuild(value)));
        return Json::Object(members.collect());
    }
    if value.raw().starts_with('[') {
        return Json::Array(value.elements().map(rebuild).collect());
    }
    match value.bool() {
        Some(bool) => Json::Bool(bool),
        None if value.is_null() => Json::Null,
        None => serde_json::from_str(value.raw()).unwrap(),
    }
}

fn agree(text: &str) {
    let theirs = serde_json::from_str::<Json>(text);
    match (Object::parse(text), &theirs) {
        (Ok(object), Ok(json)) => {
            let rebuilt: serde_json::Map<_, _> =
                object.members().map(|(key, value)| (key.to_string(), rebuild(value))).collect();
            assert_eq!(&Json::Object(rebuilt), json, "{text}");
        }
        (Err(error), Ok(json)) => {
            let known = match error.problem {
                JsonProblem::NotAnObject => !json.is_object(),
                // The limit of serde_json is 128.
                JsonProblem::Depth => depth(json) > MAX_DEPTH,
                _ => false,
            };
            assert!(known, "only serde_json accepts {text}: {error}");
        }
        // The grammar has no largest number, serde_json has one.
        (Ok(_), Err(error)) => assert!(error.to_string().starts_with("number out of range"), "{text}: {error}"),
        (Err(_), Err(_)) => {}
    }
}

fn depth(json: &Json) -> usize {
    match json {
        Json::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Json::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        "[\"\\\\\u{0}-\u{1f}\u{d7ff}\u{e000}\u{10ffff}]{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(8, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Json> {
    prop::collection::hash_map(any::<String>(), any_json(), 0..6)
        .prop_map(|members| Json::Object(members.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_are_read_as_serde_json_reads_them(json in any_object()) {
        agree(&json.to_string());
        agree(&serde_json::to_string_pretty(&json).unwrap());
    }

    #[test]
    fn objects_with_a_changed_character_are_read_as_serde_json_reads_them(json in any_object(), at in any::<prop::sample::Index>(), new in any::<char>()) {
        let text: Vec<char> = json.to_string().chars().collect();
        let at = at.index(text.len());
        for replacement in [vec![], vec![new], vec!['"'], vec!['\\'], vec![','], vec!['}'], vec![']'], vec!['0'], vec!['{', text[at]]] {
            let mut changed = text.clone();
            changed.splice(at..=at, replacement);
            agree(&changed.into_iter().collect::<String>());
        }
    }

    #[test]
    fn random_text_is_read_as_serde_json_reads_it(text in "[\\[\\]{}:,\"\\\\truefalsn0-9.eE+ud8c \n\t-]{0,40}") {
        agree(&text);
        agree(&format!("{{\"a\":{text}}}"));
        agree(&format!("{{\"a\":\"{text}\"}}"));
    }

    #[test]
    fn raw_spans_are_slices_of_the_text(json in any_object()) {
        let text = serde_json::to_string_pretty(&json).unwrap();
        for (_, value) in Object::parse(&text).unwrap().members() {
            let reparsed: Json = serde_json::from_str(value.raw()).unwrap();
            prop_assert_eq!(reparsed, rebuild(value));
            let offset = value.raw().as_ptr() as usize - text.as_ptr() as usize;
            prop_assert_eq!(&text[offset..offset + value.raw().len()], value.raw());
        }
    }

    #[test]
    fn text_is_decoded_and_a_small_buffer_error_names_the_needed_size(text in any::<String>()) {
        let json = serde_json::json!({ "a": text }).to_string();
        let read = Object::parse(&json).unwrap().get("a").unwrap().text().unwrap();
        prop_assert!(read == text.as_str());
        prop_assert_eq!(read.to_string(), text.as_str());
        let mut buffer = vec![0; text.len()];
        prop_assert_eq!(read.copy_to(&mut buffer).unwrap(), text.as_str());
        if !text.is_empty() {
            let error = read.copy_to(&mut vec![0; text.len() - 1]).unwrap_err();
            prop_assert_eq!((error.needed, error.exact), (text.len(), true));
        }
    }
}

/// Special cases of RFC 8259.
#[test]
fn corners() {
    for text in [
        r#"{"a":"\ud83d\ude00"}"#,
        r#"{"a":"\ud83d"}"#,
        r#"{"a":"\ude00"}"#,
        r#"{"a":"\ud83d\ud83d"}"#,
        r#"{"a":"\ud83dx"}"#,
        r#"{"a":"\u00"}"#,
        r#"{"a":"\x"}"#,
        "{\"a\":\"\u{1f}\"}",
        "{\"a\":\"\u{7f}\"}",
        r#"{"a":01}"#,
        r#"{"a":-}"#,
        r#"{"a":-0}"#,
        r#"{"a":0.}"#,
        r#"{"a":.5}"#,
        r#"{"a":1e}"#,
        r#"{"a":1E+09}"#,
        r#"{"a":1e999}"#,
        r#"{"a":+1}"#,
        r#"{"a":NaN}"#,
        r#"{"a":True}"#,
        r#"{"a":nul}"#,
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{,}"#,
        r#"{"a":1,,"b":2}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,1]}"#,
        r#"{"a":[}"#,
        r#"{"a":{]}"#,
        r#"{"a":1}}"#,
        r#"{"a":[[],{},[{}]]}"#,
        "\u{feff}{}",
        "{}\u{0}",
        "/* */{}",
        "{\"a\":1} ",
        "{\u{c}}",
    ] {
        agree(text);
    }
}

#[test]
fn depth_is_limited() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = |depth: usize| format!(r#"{{"p":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
        assert!(Object::parse(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(Object::parse(&nested(MAX_DEPTH)).unwrap_err().problem, JsonProblem::Depth);
        // A hundred thousand of them do not exhaust the stack.
        assert_eq!(Object::parse(&nested(100_000)).unwrap_err().problem, JsonProblem::Depth);
    }
}

#[test]
fn whole_numbers() {
    for (text, expected) in [
        ("0", Some(0)),
        ("4294967295", Some(u32::MAX)),
        ("4294967296", None),
        ("-1", None),
        ("1.0", None),
        ("1e3", None),
        ("\"1\"", None),
    ] {
        let object = format!(r#"{{"n":{text}}}"#);
        assert_eq!(Object::parse(&object).unwrap().get("n").unwrap().u32(), expected, "{text}");
    }
}
