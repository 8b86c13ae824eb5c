//! Reads JSON in place: without allocation, without recursion, to a depth of [`MAX_DEPTH`].
//!
//! Use this module to read a returned payload or the properties of a twin without serde. The reader
//! checks the complete grammar of [RFC 8259] and returns slices of the text:
//!
//! ```
//! use azure_dps::json::Object;
//!
//! let payload = Object::parse(r#"{"property2":{"propertyA":"valueA","property2-2":1234}}"#)?;
//! let property2 = payload.get("property2").and_then(|value| value.object()).unwrap();
//! assert_eq!(property2.get("property2-2").and_then(|value| value.u32()), Some(1234));
//! assert!(property2.get("propertyA").and_then(|value| value.text()).unwrap() == "valueA");
//! # Ok::<(), azure_dps::json::JsonError>(())
//! ```
//!
//! [RFC 8259]: https://www.rfc-editor.org/rfc/rfc8259

use core::{fmt, slice::Iter, str::Utf8Error};

use heapless::Vec;

use super::{
    BufferTooSmall,
    base64::{Undecodable, decode},
    writer::{Writer, text},
};

/// The maximum depth of nested objects and arrays. The .NET JSON readers of the service have the same
/// limit.
pub const MAX_DEPTH: usize = 64;

/// A JSON object whose syntax was checked.
///
/// A look-up reads the text from its start. If a name occurs twice, the first member counts.
///
/// ```
/// use azure_dps::json::Object;
///
/// let payload = Object::parse(r#"{"interval":60,"unit":"s"}"#)?;
/// assert_eq!(payload.get("interval").and_then(|value| value.u32()), Some(60));
/// assert_eq!(payload.members().count(), 2);
/// # Ok::<(), azure_dps::json::JsonError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Object<'b>(&'b [u8]);

impl<'b> Object<'b> {
    /// Creates an object from text that was checked before. Checks the braces only.
    pub(crate) fn checked(text: &'b [u8]) -> Option<Self> {
        matches!(text, [b'{', .., b'}']).then_some(Self(text))
    }

    /// Checks that `text` is one JSON object. White space around the object is allowed.
    ///
    /// # Errors
    /// [`JsonError`] with the position of the first wrong byte.
    pub fn parse(text: &'b str) -> Result<Self, JsonError> {
        Self::parse_within(text.as_bytes(), 0)
    }

    /// Does what [`parse`](Self::parse) does, for an object inside `depth` other containers.
    pub(crate) fn parse_within(text: &'b [u8], depth: usize) -> Result<Self, JsonError> {
        let mut reader = Reader { depth, ..Reader::new(text) };
        reader.whole_object().map_err(|Broken| reader.error())
    }

    /// Returns the text of the object, without the white space around it.
    pub fn raw(&self) -> &'b str {
        text(self.0)
    }

    /// Returns the text of the object as bytes. Costs less than [`raw`](Self::raw), which checks that the
    /// bytes are UTF-8.
    pub const fn as_bytes(&self) -> &'b [u8] {
        self.0
    }

    /// Returns the value of a member, or `None` if there is no such member.
    pub fn get(&self, name: &str) -> Option<Value<'b>> {
        self.members().find(|(key, _)| *key == *name).map(|(_, value)| value)
    }

    /// Returns the value of the first member with this name that is not `null`. The check of an answer
    /// uses the same rule.
    pub(crate) fn field(&self, name: &str) -> Option<Value<'b>> {
        self.members().find(|(key, value)| *key == *name && !value.is_null()).map(|(_, value)| value)
    }

    /// Returns an iterator over all members, in the order of the text.
    pub fn members(&self) -> Members<'b> {
        Members { reader: Reader::inside(self.0) }
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.raw())
    }
}

/// An iterator over the members of an [`Object`]: see [`Object::members`].
#[derive(Clone, Debug)]
pub struct Members<'b> {
    reader: Reader<'b>,
}

impl<'b> Iterator for Members<'b> {
    type Item = (Text<'b>, Value<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.reader.next_key().ok()??;
        Some((key, self.reader.value().ok()?))
    }
}

/// A JSON value whose syntax was checked.
///
/// `==` compares the text: `1.0` does not equal `1`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'b>(&'b [u8]);

impl<'b> Value<'b> {
    pub(crate) const fn checked(text: &'b [u8]) -> Self {
        Self(text)
    }

    /// Checks that `text` is one JSON value. White space around the value is allowed.
    ///
    /// ```
    /// use azure_dps::json::Value;
    ///
    /// assert_eq!(Value::parse(" 21 ")?.u32(), Some(21));
    /// assert!(Value::parse("21 22").is_err());
    /// # Ok::<(), azure_dps::json::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// [`JsonError`] with the position of the first wrong byte.
    pub fn parse(text: &'b str) -> Result<Self, JsonError> {
        let mut reader = Reader::new(text.as_bytes());
        reader.whole_value().map_err(|Broken| reader.error())
    }

    /// Returns the text of the value.
    pub fn raw(&self) -> &'b str {
        text(self.0)
    }

    /// Returns the text of the value as bytes. Costs less than [`raw`](Self::raw), which checks that the
    /// bytes are UTF-8.
    ///
    /// ```
    /// use azure_dps::json::Object;
    ///
    /// let settings = Object::parse(r#"{"limits":[5,80]}"#)?;
    /// assert_eq!(settings.get("limits").unwrap().as_bytes(), b"[5,80]");
    /// # Ok::<(), azure_dps::json::JsonError>(())
    /// ```
    pub const fn as_bytes(&self) -> &'b [u8] {
        self.0
    }

    pub(crate) const fn bytes(&self) -> &'b [u8] {
        self.0
    }

    /// Returns `true` if the value is `null`.
    pub fn is_null(&self) -> bool {
        // No other value begins with an `n`.
        self.0.first() == Some(&b'n')
    }

    /// Returns the value if it is a string.
    pub fn text(&self) -> Option<Text<'b>> {
        match self.0 {
            [b'"', text @ .., b'"'] => Some(Text(text)),
            _ => None,
        }
    }

    /// Returns the value if it is an object.
    pub fn object(&self) -> Option<Object<'b>> {
        Object::checked(self.0)
    }

    pub(crate) fn is_array(&self) -> bool {
        self.0.starts_with(b"[")
    }

    /// Returns an iterator over the elements of an array. Any other value has no elements.
    pub fn elements(&self) -> Elements<'b> {
        let text = if self.is_array() { self.0 } else { b"[]" };
        Elements { reader: Reader::inside(text) }
    }

    /// Returns the value if it is `true` or `false`.
    pub fn bool(&self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// Returns the value if it is a number of digits only (no sign, fraction or exponent) that fits.
    pub fn u32(&self) -> Option<u32> {
        parse_u32(self.0)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.raw())
    }
}

/// An iterator over the elements of an array: see [`Value::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'b> {
    reader: Reader<'b>,
}

impl<'b> Iterator for Elements<'b> {
    type Item = Value<'b>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.reader.next_item(b']').ok()? {
            return None;
        }
        self.reader.value().ok()
    }
}

/// A JSON string, undecoded: the text between the quotes.
///
/// `Display`, [`chars`](Self::chars) and `==` decode escapes. Most strings have no escapes:
/// [`as_str`](Self::as_str) returns such a string without decoding or copying.
///
/// ```
/// use azure_dps::json::Object;
///
/// let object = Object::parse(r#"{"plain":"a+b","escaped":"a\u002bb"}"#)?;
/// let [plain, escaped] = ["plain", "escaped"].map(|name| object.get(name).unwrap().text().unwrap());
/// assert_eq!(plain.as_str(), Some("a+b"));
/// assert_eq!(escaped.as_str(), None);
/// assert!(escaped == "a+b");
/// # Ok::<(), azure_dps::json::JsonError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Text<'b>(&'b [u8]);

impl<'b> Text<'b> {
    /// Creates a string from text that was checked before, or that has no escapes.
    pub(crate) const fn checked(text: &'b [u8]) -> Self {
        Self(text)
    }

    /// Returns the text between the quotes, undecoded.
    pub fn raw(&self) -> &'b str {
        text(self.0)
    }

    pub(crate) const fn bytes(&self) -> &'b [u8] {
        self.0
    }

    /// Returns the text if it has no escapes.
    pub fn as_str(&self) -> Option<&'b str> {
        // Takes less flash than `contains`, which searches a word at a time.
        let plain = self.0.iter().all(|&byte| byte != b'\\');
        plain.then(|| self.raw())
    }

    /// Returns an iterator over the characters of the decoded text.
    pub fn chars(&self) -> Chars<'b> {
        Chars { rest: self.0 }
    }

    /// Writes the decoded text into `buffer`.
    ///
    /// # Errors
    /// [`BufferTooSmall`] with the exact size.
    pub fn copy_to<'t>(&self, buffer: &'t mut [u8]) -> Result<&'t str, BufferTooSmall> {
        let mut writer = Writer::new(buffer);
        for character in self.chars() {
            writer.str(character.encode_utf8(&mut [0; 4]));
        }
        Ok(text(writer.finish()?))
    }

    /// Returns `true` if the decoded text equals `other`, ignoring the case of ASCII letters.
    pub fn eq_ignore_ascii_case(&self, other: &str) -> bool {
        self.chars().map(|c| c.to_ascii_lowercase()).eq(other.chars().map(|c| c.to_ascii_lowercase()))
    }

    /// Replaces the contents of `decoded` by the decoded text. Returns `false` if the text does not fit or
    /// is not ASCII.
    pub(crate) fn decode_into<const N: usize>(&self, decoded: &mut Vec<u8, N, u8>) -> bool {
        decoded.clear();
        // The usual case: no escapes.
        let plain = self.0.iter().take_while(|byte| byte.is_ascii() && **byte != b'\\').count();
        if plain == self.0.len() {
            return decoded.extend_from_slice(self.0).is_ok();
        }
        self.chars().all(|character| character.is_ascii() && decoded.push(character as u8).is_ok())
    }
}

/// An iterator over the decoded characters of a [`Text`]: see [`Text::chars`].
#[derive(Clone, Debug)]
pub struct Chars<'b> {
    rest: &'b [u8],
}

impl Iterator for Chars<'_> {
    type Item = char;

    // One copy in the program: the function is long, and few texts need it.
    #[inline(never)]
    fn next(&mut self) -> Option<char> {
        let (&first, rest) = self.rest.split_first()?;
        if first == b'\\' {
            let mut reader = Reader::new(rest);
            let character = reader.escape().ok()?;
            self.rest = reader.rest.as_slice();
            return Some(character);
        }
        if !first.is_ascii() {
            let mut chars = text(self.rest).chars();
            let character = chars.next()?;
            self.rest = chars.as_str().as_bytes();
            return Some(character);
        }
        self.rest = rest;
        Some(char::from(first))
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        match self.as_str() {
            Some(text) => text == other,
            None => self.chars().eq(other.chars()),
        }
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.chars().eq(other.chars())
    }
}

impl Eq for Text<'_> {}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text(\"{}\")", self.raw())
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => f.pad(text),
            None => self.chars().try_for_each(|character| fmt::Write::write_char(f, character)),
        }
    }
}

/// The reason why a text cannot be read as JSON.
///
/// ```
/// use azure_dps::json::{JsonProblem, Object};
///
/// let error = Object::parse(r#"{"interval":60,}"#).unwrap_err();
/// assert_eq!((error.problem, error.position), (JsonProblem::Syntax, 15));
/// assert_eq!(error.to_string(), "JSON syntax error at position 15");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct JsonError {
    /// The problem.
    pub problem: JsonProblem,
    /// The position of the problem in the text, in bytes from 0.
    pub position: usize,
}

/// The problems that a JSON text can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum JsonProblem {
    /// A byte that the grammar does not allow here.
    Syntax,
    /// The text ends too early.
    End,
    /// Objects and arrays are nested more than [`MAX_DEPTH`] deep.
    Depth,
    /// The JSON is not an object.
    NotAnObject,
    /// Text follows the JSON.
    Trailing,
    /// The text is not UTF-8.
    Utf8,
    /// The value of a Rust type cannot be written as JSON.
    Unserializable,
}

impl JsonError {
    #[cfg(feature = "serde")]
    pub(crate) const fn unserializable() -> Self {
        Self { problem: JsonProblem::Unserializable, position: 0 }
    }
}

impl From<Utf8Error> for JsonError {
    fn from(error: Utf8Error) -> Self {
        Self { problem: JsonProblem::Utf8, position: error.valid_up_to() }
    }
}

impl core::error::Error for JsonError {}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.problem {
            JsonProblem::Syntax => "JSON syntax error",
            JsonProblem::End => "JSON ends too early",
            JsonProblem::Depth => "JSON is nested too deeply",
            JsonProblem::NotAnObject => "JSON is not an object",
            JsonProblem::Trailing => "the JSON is followed by other text",
            JsonProblem::Utf8 => "JSON is not UTF-8",
            JsonProblem::Unserializable => "the value cannot be written as JSON",
        })?;
        write!(f, " at position {}", self.position)
    }
}

/// Reads a JSON text once, from start to end. The caller enters the objects that it knows.
/// [`Reader::value`] checks and skips any other value.
///
/// Functions return [`Broken`] if the text is wrong. [`Reader::error`] then says what is wrong and where:
/// the position is the next byte, and the problem is `problem`.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'b> {
    rest: Iter<'b, u8>,
    len: usize,
    /// `true` if the next member or element is the first one of its container.
    first: bool,
    /// The number of open containers around the next value.
    depth: usize,
    /// `true` if the last string had escapes.
    escaped: bool,
    problem: JsonProblem,
}

/// The error for a text that is not JSON. It has no size, which keeps every `Result` small.
/// [`Reader::error`] has the details.
pub(crate) struct Broken;

impl<'b> Reader<'b> {
    pub(crate) fn new(text: &'b [u8]) -> Self {
        Self { rest: text.iter(), len: text.len(), first: true, depth: 0, escaped: false, problem: JsonProblem::Syntax }
    }

    /// Creates a reader for the contents of a container that was checked before.
    fn inside(container: &'b [u8]) -> Self {
        Self { depth: 1, ..Self::new(container.get(1..).unwrap_or_default()) }
    }

    fn whole_object(&mut self) -> Result<Object<'b>, Broken> {
        if !matches!(self.token(), b'{' | 0) {
            return self.fail(JsonProblem::NotAnObject);
        }
        Ok(Object(self.whole_value()?.0))
    }

    fn whole_value(&mut self) -> Result<Value<'b>, Broken> {
        let value = self.value()?;
        self.end()?;
        Ok(value)
    }

    /// Enters an object. Call [`Reader::next_key`] next.
    pub(crate) fn begin_object(&mut self) -> Result<(), Broken> {
        self.problem = JsonProblem::NotAnObject;
        self.expect(b'{')?;
        self.problem = JsonProblem::Syntax;
        self.first = true;
        self.depth += 1;
        Ok(())
    }

    /// Reads the name of the next member and the colon, or the closing brace: then it returns `None`. The
    /// caller must read the value next.
    pub(crate) fn next_key(&mut self) -> Result<Option<Text<'b>>, Broken> {
        if !self.next_item(b'}')? {
            return Ok(None);
        }
        self.key().map(Some)
    }

    /// Reads up to the next member or element. Returns `false` after it has read `close`.
    fn next_item(&mut self, close: u8) -> Result<bool, Broken> {
        let byte = self.token();
        if byte == close {
            self.rest.next();
            self.first = false;
            self.depth = self.depth.saturating_sub(1);
            return Ok(false);
        }
        if !core::mem::take(&mut self.first) {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// Returns `true` if the last key equals `name`. The name itself must not need escapes.
    pub(crate) fn is(&self, key: Text<'b>, name: &str) -> bool {
        match self.escaped {
            false => key.0 == name.as_bytes(),
            true => key.chars().map(u32::from).eq(name.bytes().map(u32::from)),
        }
    }

    fn key(&mut self) -> Result<Text<'b>, Broken> {
        self.expect(b'"')?;
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Text(key))
    }

    /// Checks one value of any kind and depth, and returns it.
    pub(crate) fn value(&mut self) -> Result<Value<'b>, Broken> {
        let start = self.mark();
        // One bit for each open container: 1 for an object, 0 for an array.
        let mut objects = 0_u64;
        let mut depth = 0;
        loop {
            let byte = self.token();
            if let b'{' | b'[' = byte {
                if self.depth + depth >= MAX_DEPTH {
                    return self.fail(JsonProblem::Depth);
                }
                self.rest.next();
                depth += 1;
                objects = objects << 1 | u64::from(byte == b'{');
                // The codes of '}' and ']' are 2 larger than those of '{' and '['.
                if self.token() != byte + 2 {
                    if byte == b'{' {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(byte)?;
            }
            // A value is complete, or an empty container is about to be closed.
            loop {
                if depth == 0 {
                    return Ok(Value(self.since(start)));
                }
                let in_object = objects & 1 == 1;
                let byte = self.token();
                if byte == b',' {
                    self.rest.next();
                    if in_object {
                        self.key()?;
                    }
                    break;
                }
                if byte != if in_object { b'}' } else { b']' } {
                    return Err(Broken);
                }
                self.rest.next();
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// Returns the text from the next value to the end, for [`Reader::since`].
    pub(crate) fn mark(&mut self) -> &'b [u8] {
        self.token();
        self.rest.as_slice()
    }

    /// Returns the text that was read since [`Reader::mark`].
    pub(crate) fn since(&self, mark: &'b [u8]) -> &'b [u8] {
        mark.get(..mark.len().wrapping_sub(self.rest.len())).unwrap_or_default()
    }

    /// Returns `true` if the next value is an object.
    pub(crate) fn at_object(&mut self) -> bool {
        self.token() == b'{'
    }

    /// Checks that only white space follows.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        self.token();
        if self.rest.len() == 0 { Ok(()) } else { self.fail(JsonProblem::Trailing) }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Broken> {
        match first {
            b'"' => {
                self.rest.next();
                self.string().map(|_| ())
            }
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Broken> {
        literal.iter().try_for_each(|&byte| if self.eat(byte) { Ok(()) } else { Err(Broken) })
    }

    /// Checks a number ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259#section-6)).
    fn number(&mut self) -> Result<(), Broken> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if let b'e' | b'E' = self.peek() {
            self.rest.next();
            if let b'+' | b'-' = self.peek() {
                self.rest.next();
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Checks one or more digits.
    #[inline(never)]
    fn digits(&mut self) -> Result<(), Broken> {
        let before = self.rest.len();
        while self.peek().is_ascii_digit() {
            self.rest.next();
        }
        if self.rest.len() == before { Err(Broken) } else { Ok(()) }
    }

    /// Reads a string after its opening quote. Returns the text before the closing quote.
    fn string(&mut self) -> Result<&'b [u8], Broken> {
        let text = self.rest.as_slice();
        self.escaped = false;
        let plain = plain(text);
        match (text.get(..plain), text.get(plain..)) {
            (Some(string), Some([b'"', rest @ ..])) => {
                self.rest = rest.iter();
                Ok(string)
            }
            _ => self.string_at_length(text),
        }
    }

    /// Does what [`string`](Self::string) does, for strings with escapes, non-ASCII characters or mistakes.
    #[cold]
    fn string_at_length(&mut self, text: &'b [u8]) -> Result<&'b [u8], Broken> {
        loop {
            match self.peek() {
                b'"' => break,
                0..0x20 => return Err(Broken),
                b'\\' => {
                    self.escaped = true;
                    self.rest.next();
                    self.escape()?;
                }
                _ => _ = self.rest.next(),
            }
        }
        let string = self.since(text);
        if let Err(error) = core::str::from_utf8(string) {
            self.rest = text.get(error.valid_up_to()..).unwrap_or_default().iter();
            return self.fail(JsonProblem::Utf8);
        }
        self.rest.next();
        Ok(string)
    }

    /// Reads an escape after its backslash, and returns its character. Half a surrogate pair is an error.
    fn escape(&mut self) -> Result<char, Broken> {
        let character = match self.peek() {
            b'u' => return self.code_point(),
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            _ => return Err(Broken),
        };
        self.rest.next();
        Ok(character)
    }

    /// Reads `uXXXX`, or a surrogate pair of two such escapes.
    fn code_point(&mut self) -> Result<char, Broken> {
        let mut code = self.unit()?;
        if let 0xd800..=0xdbff = code {
            self.literal(b"\\")?;
            code = match self.unit()? {
                low @ 0xdc00..=0xdfff => 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff),
                _ => return Err(Broken),
            };
        }
        char::from_u32(code).ok_or(Broken)
    }

    fn unit(&mut self) -> Result<u32, Broken> {
        self.literal(b"u")?;
        (0..4).try_fold(0, |unit, _| {
            let digit = hex_digit(self.peek()).ok_or(Broken)?;
            self.rest.next();
            Ok(unit << 4 | u32::from(digit))
        })
    }

    /// Skips white space and returns the next byte, without reading it. Returns 0 at the end. No caller
    /// accepts a byte of 0.
    fn token(&mut self) -> u8 {
        let byte = self.peek();
        if byte > b' ' { byte } else { self.white_space() }
    }

    #[inline(never)]
    fn white_space(&mut self) -> u8 {
        while let b' ' | b'\t' | b'\n' | b'\r' = self.peek() {
            self.rest.next();
        }
        self.peek()
    }

    /// Reads this token. Any other one is an error.
    #[inline(always)]
    fn expect(&mut self, token: u8) -> Result<(), Broken> {
        if self.token() != token {
            return Err(Broken);
        }
        self.rest.next();
        Ok(())
    }

    #[inline(never)]
    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == byte;
        if eaten {
            self.rest.next();
        }
        eaten
    }

    /// Returns the next byte without reading it, or 0 at the end.
    fn peek(&self) -> u8 {
        self.rest.as_slice().first().copied().unwrap_or(0)
    }

    fn fail<T>(&mut self, problem: JsonProblem) -> Result<T, Broken> {
        self.problem = problem;
        Err(Broken)
    }

    /// Returns what is wrong, and where.
    #[cold]
    pub(crate) fn error(&self) -> JsonError {
        let problem = if self.rest.len() == 0 { JsonProblem::End } else { self.problem };
        JsonError { problem, position: self.len.saturating_sub(self.rest.len()) }
    }
}

/// Returns the number of plain bytes at the start: up to the first quote, backslash, control character or
/// byte that is not ASCII.
///
/// Most of an answer is strings, so this function compares four bytes at a time. Source of the method:
/// [Bit Twiddling Hacks](https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord).
fn plain(text: &[u8]) -> usize {
    const HIGH: u32 = u32::from_ne_bytes([0x80; 4]);
    // Sets the high bit of the first byte that is less than the bound, if all bytes are below 0x80. May
    // also set the high bits of later bytes, which does not matter.
    let less = |word: u32, bound: u8| word.wrapping_sub(u32::from_ne_bytes([bound; 4]));
    let equal = |word: u32, byte: u8| less(word ^ u32::from_ne_bytes([byte; 4]), 1);
    let (words, tail) = text.as_chunks();
    let mut plain = 0;
    for word in words {
        let word = u32::from_le_bytes(*word);
        let special = (less(word, 0x20) | equal(word, b'"') | equal(word, b'\\') | word) & HIGH;
        if special != 0 {
            return plain + special.trailing_zeros() as usize / 8;
        }
        plain += 4;
    }
    let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20 | 0x80..);
    plain + tail.iter().take_while(|byte| is_plain(byte)).count()
}

pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' | b'A'..=b'F' => Some((byte | 0x20) - b'a' + 10),
        _ => None,
    }
}

/// Reads decimal digits. Returns `None` if the number does not fit.
#[inline(never)]
pub(crate) fn parse_u32(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

/// Reads decimal digits. Returns `u32::MAX` if the number does not fit.
pub(crate) fn parse_seconds(value: &[u8]) -> Option<u32> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| parse_u32(value).unwrap_or(u32::MAX))
}

/// The reason why the text of a field cannot be decoded.
pub(crate) enum NoBytes {
    NotBase64,
    BufferTooSmall(BufferTooSmall),
}

/// Decodes base64 into the start of `buffer`. The text may have escapes: .NET writes `+` as `\u002B`.
pub(crate) fn decode_text<'o>(text: Text<'_>, buffer: &'o mut [u8]) -> Result<&'o [u8], NoBytes> {
    let mut characters = text.chars();
    let mut len = 0;
    // The length of the last group. Only the last group of a text may be shorter than 3 bytes.
    let mut last = 3;
    loop {
        let mut quad = [0; 4];
        let mut filled = 0;
        for (slot, character) in quad.iter_mut().zip(&mut characters) {
            *slot = u8::try_from(character).map_err(|_| NoBytes::NotBase64)?;
            filled += 1;
        }
        let quad = quad.get(..filled).unwrap_or_default();
        let room = buffer.get_mut(len..).unwrap_or_default();
        match decode(quad, room) {
            Ok(0) if quad.is_empty() => break,
            Ok(decoded) if last == 3 => {
                len += decoded;
                last = decoded;
            }
            Err(Undecodable::TooLong) => {
                let needed = text.bytes().len().div_ceil(4) * 3;
                return Err(NoBytes::BufferTooSmall(BufferTooSmall { needed, exact: true }));
            }
            _ => return Err(NoBytes::NotBase64),
        }
    }
    Ok(buffer.get(..len).unwrap_or_default())
}
