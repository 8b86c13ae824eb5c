//! The JSON that DPS speaks, read in place: no allocation, no recursion, bounded depth.
//!
//! The reader checks the whole grammar of [RFC 8259] and hands back slices of the text that
//! it was given. Use it for a returned payload where a `Deserialize` type would be too much:
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

use core::{fmt, str::Utf8Error};

use heapless::String;

/// The most objects and arrays within each other. The .NET JSON readers behind the service
/// have the same bound.
pub const MAX_DEPTH: usize = 64;

/// One JSON object that has been checked.
///
/// Members are looked up by walking the text; a name that occurs twice is found first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'b>(&'b str);

impl<'b> Object<'b> {
    pub(crate) const EMPTY: Self = Self("{}");

    /// Text that was checked before; what can be seen without reading it is checked again.
    pub(crate) fn checked(text: &'b str) -> Option<Self> {
        (text.starts_with('{') && text.ends_with('}')).then_some(Self(text))
    }

    /// Checks that `text` is one JSON object and nothing else but white space.
    ///
    /// # Errors
    /// [`JsonError`] with the position of the first wrong byte.
    pub fn parse(text: &'b str) -> Result<Self, JsonError> {
        Self::parse_within(text, 0)
    }

    /// The same for an object that has, or will have, so many containers around it.
    pub(crate) fn parse_within(text: &'b str, depth: usize) -> Result<Self, JsonError> {
        let mut reader = Reader { depth, ..Reader::new(text) };
        reader.whole_object().map_err(|problem| reader.error(problem))
    }

    /// The text, without the white space around it.
    pub const fn raw(&self) -> &'b str {
        self.0
    }

    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<Value<'b>> {
        self.members().find(|(key, _)| *key == *name).map(|(_, value)| value)
    }

    /// All members in the order of the text.
    pub fn members(&self) -> Members<'b> {
        Members { reader: Reader::inside(self.0) }
    }
}

/// The members of an [`Object`].
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

/// One JSON value that has been checked: a slice of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'b>(&'b str);

impl<'b> Value<'b> {
    pub(crate) const fn checked(text: &'b str) -> Self {
        Self(text)
    }

    /// The text of the value.
    pub const fn raw(&self) -> &'b str {
        self.0
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// The value as a string.
    pub fn text(&self) -> Option<Text<'b>> {
        self.0.strip_prefix('"')?.strip_suffix('"').map(Text::checked)
    }

    /// The value as an object.
    pub fn object(&self) -> Option<Object<'b>> {
        self.0.starts_with('{').then_some(Object(self.0))
    }

    /// The elements of an array; nothing if this is no array.
    pub fn elements(&self) -> Elements<'b> {
        let text = if self.0.starts_with('[') { self.0 } else { "[]" };
        Elements { reader: Reader::inside(text) }
    }

    /// The value as `true` or `false`.
    pub fn bool(&self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The value as a whole number without sign, fraction or exponent.
    pub fn u32(&self) -> Option<u32> {
        parse_u32(self.0.as_bytes())
    }
}

/// The elements of an array.
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

/// A JSON string as it stands between its quotes, escapes and all.
///
/// `Display`, [`chars`](Self::chars) and `==` see the decoded text. [`as_str`](Self::as_str)
/// is free of charge and works wherever there are no escapes, which is nearly everywhere.
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
#[derive(Clone, Copy, Debug)]
pub struct Text<'b> {
    raw: &'b str,
    escaped: bool,
}

impl<'b> Text<'b> {
    /// What stands between the quotes of a string that was checked before.
    pub(crate) fn checked(raw: &'b str) -> Self {
        Self { raw, escaped: raw.bytes().any(|byte| byte == b'\\') }
    }

    /// The text between the quotes, undecoded.
    pub const fn raw(&self) -> &'b str {
        self.raw
    }

    /// The decoded text, if it has no escapes.
    pub fn as_str(&self) -> Option<&'b str> {
        (!self.escaped).then_some(self.raw)
    }

    /// The decoded text, a character at a time.
    pub fn chars(&self) -> impl Iterator<Item = char> + 'b {
        let mut rest = self.raw.chars();
        core::iter::from_fn(move || match rest.next()? {
            '\\' => Some(match rest.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => unescape(&mut rest)?,
                other => other,
            }),
            other => Some(other),
        })
    }

    /// Writes the decoded text into `buffer`.
    ///
    /// # Errors
    /// [`BufferTooSmall`](crate::BufferTooSmall) with the exact size.
    pub fn copy_to<'t>(&self, buffer: &'t mut [u8]) -> Result<&'t str, crate::BufferTooSmall> {
        let mut writer = crate::writer::Writer::new(buffer);
        for character in self.chars() {
            writer.str(character.encode_utf8(&mut [0; 4]));
        }
        // Whole characters were written.
        Ok(core::str::from_utf8(writer.finish()?).unwrap_or_default())
    }

    /// Whether the decoded text equals `other` but for the case of ASCII letters.
    pub fn eq_ignore_ascii_case(&self, other: &str) -> bool {
        match self.as_str() {
            Some(text) => text.eq_ignore_ascii_case(other),
            None => self.chars().map(|c| c.to_ascii_lowercase()).eq(other.chars().map(|c| c.to_ascii_lowercase())),
        }
    }

    /// Puts the decoded text in place of another one; `false` if it does not fit.
    pub(crate) fn decode_into<const N: usize>(&self, decoded: &mut String<N, u8>) -> bool {
        decoded.clear();
        match self.as_str() {
            Some(text) => decoded.push_str(text).is_ok(),
            None => self.chars().all(|character| decoded.push(character).is_ok()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}

/// The character of `\uXXXX`, or of a pair of these, which the reader has checked.
fn unescape(rest: &mut core::str::Chars<'_>) -> Option<char> {
    let unit =
        |rest: &mut core::str::Chars<'_>| (0..4).try_fold(0, |unit, _| Some(unit << 4 | rest.next()?.to_digit(16)?));
    let first = unit(rest)?;
    if let 0xd800..=0xdbff = first {
        rest.next();
        rest.next();
        return char::from_u32(0x10000 + ((first & 0x3ff) << 10) + (unit(rest)? & 0x3ff));
    }
    char::from_u32(first)
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

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => f.pad(text),
            None => self.chars().try_for_each(|character| fmt::Write::write_char(f, character)),
        }
    }
}

/// Why a text is not JSON that this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JsonError {
    /// What is wrong.
    pub problem: JsonProblem,
    /// Where, in bytes from 0.
    pub position: usize,
}

/// What can be wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonProblem {
    /// A byte that the grammar does not allow here.
    Syntax,
    /// The text ends too early.
    End,
    /// More than [`MAX_DEPTH`] objects and arrays within each other.
    Depth,
    /// An object was expected.
    NotAnObject,
    /// Something other than white space follows.
    Trailing,
    /// Not UTF-8.
    Utf8,
    /// A value that could not be written as JSON.
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
            JsonProblem::Trailing => "something follows the JSON",
            JsonProblem::Utf8 => "JSON is not UTF-8",
            JsonProblem::Unserializable => "the value cannot be written as JSON",
        })?;
        write!(f, " at position {}", self.position)
    }
}

/// Reads a JSON text once, from front to back. Whoever drives it descends into the objects
/// that it knows; [`Reader::value`] checks and passes over everything else.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'b> {
    text: &'b str,
    at: usize,
    /// Whether the next member or element is the first of its container.
    first: bool,
    /// How many containers are open around the next value.
    depth: usize,
}

impl<'b> Reader<'b> {
    pub(crate) fn new(text: &'b str) -> Self {
        Self { text, at: 0, first: true, depth: 0 }
    }

    /// Right behind the opening bracket of a container.
    fn inside(container: &'b str) -> Self {
        Self { text: container, at: 1, first: true, depth: 1 }
    }

    fn whole_object(&mut self) -> Result<Object<'b>, JsonProblem> {
        self.white_space();
        if self.peek().is_some_and(|byte| byte != b'{') {
            return Err(JsonProblem::NotAnObject);
        }
        let value = self.value()?;
        self.end()?;
        Ok(Object(value.0))
    }

    /// Enters an object: [`Reader::next_key`] follows.
    pub(crate) fn begin_object(&mut self) -> Result<(), JsonProblem> {
        self.white_space();
        match self.peek() {
            Some(b'{') => self.at += 1,
            Some(_) => return Err(JsonProblem::NotAnObject),
            None => return Err(JsonProblem::End),
        }
        self.first = true;
        self.depth += 1;
        Ok(())
    }

    /// The name of the next member, up to and with the colon, or `None` behind the closing
    /// brace. The value must be read next.
    pub(crate) fn next_key(&mut self) -> Result<Option<Text<'b>>, JsonProblem> {
        if !self.next_item(b'}')? {
            return Ok(None);
        }
        self.key().map(Some)
    }

    /// After an inner object was left, the outer one goes on.
    fn next_item(&mut self, close: u8) -> Result<bool, JsonProblem> {
        self.white_space();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                self.first = false;
                self.depth = self.depth.saturating_sub(1);
                return Ok(false);
            }
            Some(b',') if !self.first => self.at += 1,
            Some(_) if self.first => self.first = false,
            Some(_) => return Err(JsonProblem::Syntax),
            None => return Err(JsonProblem::End),
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Text<'b>, JsonProblem> {
        self.white_space();
        let start = self.at;
        self.expect(b'"')?;
        let escaped = self.string()?;
        let key = Text { raw: self.slice(start + 1, self.at - 1), escaped };
        self.white_space();
        self.expect(b':')?;
        Ok(key)
    }

    /// Checks one value of any kind and depth, and hands back its text.
    pub(crate) fn value(&mut self) -> Result<Value<'b>, JsonProblem> {
        self.white_space();
        let start = self.at;
        // One bit for each open container: 1 for an object, 0 for an array.
        let mut objects = 0_u64;
        let mut depth = 0;
        loop {
            self.white_space();
            let byte = self.next()?;
            if let b'{' | b'[' = byte {
                if self.depth + depth >= MAX_DEPTH {
                    self.at -= 1;
                    return Err(JsonProblem::Depth);
                }
                depth += 1;
                objects = objects << 1 | u64::from(byte == b'{');
                self.white_space();
                // '}' and ']' are two behind their opening brackets.
                if self.peek() != Some(byte + 2) {
                    if byte == b'{' {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(byte)?;
            }
            // A value is complete, or a container is about to be closed while empty.
            loop {
                if depth == 0 {
                    return Ok(Value(self.slice(start, self.at)));
                }
                self.white_space();
                let in_object = objects & 1 == 1;
                match self.next()? {
                    b',' => {
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return self.wrong(),
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// The text from here to wherever the reader is when it is handed to
    /// [`Reader::object_since`].
    pub(crate) fn mark(&mut self) -> usize {
        self.white_space();
        self.at
    }

    /// An object that was read member by member.
    pub(crate) fn object_since(&self, mark: usize) -> Object<'b> {
        Object(self.slice(mark, self.at))
    }

    /// Whether the next value is an object.
    pub(crate) fn at_object(&mut self) -> bool {
        self.white_space();
        self.peek() == Some(b'{')
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), JsonProblem> {
        self.white_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(JsonProblem::Trailing),
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), JsonProblem> {
        match first {
            b'"' => self.string().map(|_| ()),
            b'-' => {
                let digit = self.next()?;
                self.number(digit)
            }
            b'0'..=b'9' => self.number(first),
            b't' => self.literal(b"rue"),
            b'f' => self.literal(b"alse"),
            b'n' => self.literal(b"ull"),
            _ => self.wrong(),
        }
    }

    fn literal(&mut self, rest: &[u8]) -> Result<(), JsonProblem> {
        rest.iter().try_for_each(|&byte| self.expect(byte))
    }

    /// number = [ "-" ] int [ frac ] [ exp ]; int = "0" or a digit 1 to 9 and more digits.
    fn number(&mut self, first: u8) -> Result<(), JsonProblem> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return self.wrong(),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), JsonProblem> {
        match self.next()? {
            b'0'..=b'9' => {
                self.digits();
                Ok(())
            }
            _ => self.wrong(),
        }
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    /// The rest of a string, behind its opening quote, and whether it has escapes.
    fn string(&mut self) -> Result<bool, JsonProblem> {
        let mut escaped = false;
        loop {
            self.at += plain(self.text.as_bytes().get(self.at..).unwrap_or_default());
            let special = loop {
                if let byte @ (b'"' | b'\\' | 0..0x20) = self.next()? {
                    break byte;
                }
            };
            match special {
                b'"' => return Ok(escaped),
                b'\\' => escaped = true,
                _ => return self.wrong(),
            }
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => self.code_point()?,
                _ => return self.wrong(),
            }
        }
    }

    /// The rest of `\uXXXX`; half a surrogate pair is no character.
    fn code_point(&mut self) -> Result<(), JsonProblem> {
        match self.hex4()? {
            0xd800..=0xdbff => {
                self.expect(b'\\')?;
                self.expect(b'u')?;
                match self.hex4()? {
                    0xdc00..=0xdfff => Ok(()),
                    _ => self.wrong(),
                }
            }
            0xdc00..=0xdfff => self.wrong(),
            _ => Ok(()),
        }
    }

    fn hex4(&mut self) -> Result<u32, JsonProblem> {
        (0..4).try_fold(0, |unit, _| match char::from(self.next()?).to_digit(16) {
            Some(digit) => Ok(unit << 4 | digit),
            None => self.wrong(),
        })
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonProblem> {
        if self.next()? == byte { Ok(()) } else { self.wrong() }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, JsonProblem> {
        let byte = self.peek().ok_or(JsonProblem::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// All slices start and end at ASCII characters, so they are never off a boundary.
    fn slice(&self, start: usize, end: usize) -> &'b str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// The byte that was read last is wrong, and stays where the reader is.
    fn wrong<T>(&mut self) -> Result<T, JsonProblem> {
        self.at = self.at.saturating_sub(1);
        Err(JsonProblem::Syntax)
    }

    /// A problem and where it is. Within the reader a problem goes without its place: that is
    /// where the reader stopped, and a small error fits a register.
    #[cold]
    pub(crate) fn error(&self, problem: JsonProblem) -> JsonError {
        JsonError { problem, position: self.at }
    }
}

/// How many bytes at least there are before a quote, a backslash or a control character,
/// four at a time: strings are most of what there is to read.
fn plain(bytes: &[u8]) -> usize {
    // A bit is set if any byte is less than the bound, of at most 128: the classic trick.
    let any_less = |word: u32, bound: u8| {
        word.wrapping_sub(u32::from_ne_bytes([bound; 4])) & !word & u32::from_ne_bytes([0x80; 4])
    };
    let any_equal = |word: u32, byte: u8| any_less(word ^ u32::from_ne_bytes([byte; 4]), 1);
    let special = |word: u32| any_less(word, 0x20) | any_equal(word, b'"') | any_equal(word, b'\\');
    let (words, _) = bytes.as_chunks();
    words.iter().take_while(|word| special(u32::from_ne_bytes(**word)) == 0).count() * 4
}

/// Decimal digits, no more than fit.
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
