//! Compares `payload_as` with serde_json, for types of the caller.

mod support;

use std::{collections::BTreeMap, fmt::Debug};

use azure_dps::{error::PayloadError, provisioning::Answer};
use serde::{Deserialize, de::DeserializeOwned};
use support::*;

/// Returns the result of `payload_as`.
fn payload_as<T: DeserializeOwned>(payload: &str) -> Result<Option<T>, PayloadError> {
    let body = format!(
        r#"{{"status":"assigned","registrationState":{{"assignedHub":"{TOASTERS_HUB}","deviceId":"{TOASTER}","payload":{payload}}}}}"#
    );
    let mut provisioning = toaster();
    provisioning.start(Default::default(), UNIX_TIME);
    provisioning.on_answer(Default::default(), Answer::new(200, None, body.as_bytes()));
    provisioning.result(body.as_bytes()).unwrap().payload_as(&mut [0; 64])
}

#[derive(Debug, Deserialize, PartialEq)]
struct Unit;

#[derive(Debug, Deserialize, PartialEq)]
struct Newtype(u16);

#[derive(Debug, Deserialize, PartialEq)]
struct Pair(i32, String);

#[derive(Debug, Deserialize, PartialEq)]
struct Model {
    name: String,
    slices: Option<u8>,
    #[serde(default)]
    inner: Option<Box<Model>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Strict {
    name: String,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flat {
    #[serde(flatten)]
    model: Model,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Off,
    On(bool),
    Between(i8, i8),
    Named { name: String },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Text(String),
    Model(Model),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Tagged {
    Lamp { on: bool },
    Fan(Model),
}

/// Reads a byte string through a visitor.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut elements: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = elements.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

const PAYLOADS: &[&str] = &[
    "true",
    "false",
    "0",
    "-0.0",
    "1e-05",
    "7",
    "255",
    "256",
    "-1",
    "-128",
    "-129",
    "65535",
    "4294967296",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "340282366920938463463374607431768211455",
    "1.0",
    "-2.5",
    "1e2",
    "6.02214076E+23",
    "1e-400",
    "1e400",
    "-1e400",
    r#""""#,
    r#""a""#,
    r#""ü""#,
    r#""ab""#,
    r#""\u00fc""#,
    r#""\ud83d\ude00""#,
    r#""line\n\"two\" \\ \/ \b\f\r\t""#,
    r#""7""#,
    r#""Off""#,
    r#""\u004fff""#,
    r#""On""#,
    "[]",
    "[1]",
    r#"[1,"b"]"#,
    "[1,2]",
    "[1,2,3]",
    " [ 1 , 2 , 3 , 4 ] ",
    r#"[1,"b",true]"#,
    "[[1],[2,3],[]]",
    r#"["name",3]"#,
    r#"["name",3,["x",null,null]]"#,
    "{}",
    r#"{"name":"x"}"#,
    r#"{"name":"x","slices":null}"#,
    r#"{"name":"x","slices":4,"another":[1,{"deep":{}}]}"#,
    r#"{ "na\u006de" : "\u0078" , "slices" : 4 }"#,
    r#"{"name":"x","inner":{"name":"y","inner":{"name":"z","slices":300}}}"#,
    r#"{"name":"x","inner":{"name":"y","inner":{"name":"z","slices":30}}}"#,
    r#"{"name":"x","name":"y"}"#,
    r#"{"name":7}"#,
    r#"{"slices":7}"#,
    r#"{"Off":null}"#,
    r#"{"Off":1}"#,
    r#"{"On":true}"#,
    r#"{"Between":[1,-2]}"#,
    r#"{"Between":[1,-2,3]}"#,
    r#"{"Named":{"name":"n"}}"#,
    r#"{"Named":["n"]}"#,
    r#"{"Named":"n"}"#,
    r#"{"On":true,"Off":null}"#,
    r#"{"kind":"Lamp","on":true}"#,
    r#"{"on":true,"kind":"Lamp"}"#,
    r#"{"kind":"Fan","name":"f","slices":1}"#,
    r#"{"1":true,"65535":false}"#,
    r#"{"65536":true}"#,
    r#"{"-1":true}"#,
    r#"{"05":true}"#,
    r#"{"+5":true}"#,
    r#"{" 5":true}"#,
    r#"{"\u0035":true}"#,
    r#"{"true":true,"false":false}"#,
    r#"{"a":true}"#,
    r#"{"Off":true,"On":false}"#,
    r#"{"1.5":true,"2":true}"#,
];

/// For every payload, both return the same value, or both return an error.
fn agree<T: DeserializeOwned + Debug + PartialEq>() {
    let mut read = 0;
    for payload in PAYLOADS {
        let ours = payload_as::<T>(payload);
        match serde_json::from_str::<T>(payload) {
            Ok(theirs) => {
                assert_eq!(ours, Ok(Some(theirs)), "{payload} as {}", std::any::type_name::<T>());
                read += 1;
            }
            Err(error) => assert!(ours.is_err(), "{payload} as {}: {error}, not {ours:?}", std::any::type_name::<T>()),
        }
    }
    assert!(read > 0, "no payload is a {}", std::any::type_name::<T>());
}

macro_rules! types {
    ($($name:ident: $type:ty,)*) => {$(
        #[test]
        fn $name() {
            agree::<$type>();
        }
    )*};
}

types! {
    bool: bool,
    u8: u8,
    u16: u16,
    u32: u32,
    u64: u64,
    u128: u128,
    i8: i8,
    i16: i16,
    i32: i32,
    i64: i64,
    i128: i128,
    f64: f64,
    char: char,
    string: String,
    bytes: Bytes,
    option: Option<Option<u8>>,
    newtype: Newtype,
    pair: Pair,
    tuple: (u8, u8),
    array: [i16; 3],
    sequence: Vec<i32>,
    sequence_of_sequences: Vec<Vec<u8>>,
    structure: Model,
    structure_without_more: Strict,
    structure_flattened: Flat,
    map: BTreeMap<String, serde_json::Value>,
    map_of_numbers: BTreeMap<u16, bool>,
    map_of_bools: BTreeMap<bool, bool>,
    map_of_chars: BTreeMap<char, bool>,
    map_of_options: BTreeMap<Option<i8>, bool>,
    map_of_bytes: BTreeMap<Bytes, bool>,
    map_of_modes: BTreeMap<Mode, bool>,
    enumeration: Mode,
    untagged: Either,
    tagged: Tagged,
    anything: serde_json::Value,
}

#[test]
fn f32_is_the_nearest_and_never_infinite() {
    for (payload, expected) in [("0.1", 0.1), ("-3", -3.0), ("16777217", 16_777_216.0), ("1e-50", 0.0)] {
        assert_eq!(payload_as::<f32>(payload), Ok(Some(expected)), "{payload}");
    }
    assert_eq!(payload_as::<f32>("1e39"), Err(PayloadError::Unfit));
}

/// serde_json reads this number only as a float.
#[test]
fn minus_zero() {
    assert_eq!(payload_as::<serde_json::Value>("-0"), Ok(Some(serde_json::json!(-0.0))));
    assert_eq!(payload_as::<i8>("-0"), Ok(Some(0)));
}

/// `null` is the same as no payload.
#[test]
fn null() {
    assert_eq!(payload_as::<Unit>("null"), Ok(None));
    assert_eq!(payload_as::<(Unit, ())>("[null,null]"), Ok(Some((Unit, ()))));
    assert_eq!(payload_as::<(Option<u8>, u8)>("[null,1]"), Ok(Some((None, 1))));
    assert_eq!(payload_as::<(u8, u8)>("[null,1]"), Err(PayloadError::Unfit));
}

#[test]
fn the_error_names_the_problem() {
    assert_eq!(payload_as::<Model>("{}").unwrap_err().to_string(), "the JSON has no `name`");
    let long = format!(r#"{{"name":"\t{}"}}"#, "x".repeat(64));
    let Err(PayloadError::BufferTooSmall(error)) = payload_as::<Model>(&long) else { panic!("it fits") };
    assert_eq!((error.needed, error.exact), (65, true));
    assert!(payload_as::<Strict>(r#"{"name":"x","slices":1}"#).unwrap_err().to_string().contains("does not fit"));
}
