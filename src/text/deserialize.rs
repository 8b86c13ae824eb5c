//! Reads JSON into the caller's types: a serde deserializer on top of [`json`](super::json).
//!
//! The syntax of the text was checked before. The only errors here are values that do not fit the type.

use core::{fmt, str::FromStr};

use serde::{
    de::{
        self, Deserialize, DeserializeSeed, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor,
    },
    forward_to_deserialize_any,
};

use super::{
    PayloadError,
    json::{Elements, Members, Reader, Text, Value},
};

impl de::Error for PayloadError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        PayloadError::Unfit
    }

    fn missing_field(field: &'static str) -> Self {
        PayloadError::Missing(field)
    }

    // The default functions format a message for `custom`, which drops it. Without the functions below,
    // the texts of these messages would be in the flash.
    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        PayloadError::Unfit
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        PayloadError::Unfit
    }

    fn invalid_length(_: usize, _: &dyn Expected) -> Self {
        PayloadError::Unfit
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        PayloadError::Unfit
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        PayloadError::Unfit
    }

    fn duplicate_field(_: &'static str) -> Self {
        PayloadError::Unfit
    }
}

pub(crate) fn deserialize<'b, T: Deserialize<'b>>(value: Value<'b>, scratch: &mut [u8]) -> Result<T, PayloadError> {
    T::deserialize(Deserializer { value, scratch })
}

struct Deserializer<'b, 's> {
    value: Value<'b>,
    /// The buffer for decoding a string with escapes.
    scratch: &'s mut [u8],
}

impl<'b> Deserializer<'b, '_> {
    fn number<N: FromStr>(&self) -> Result<N, PayloadError> {
        self.value.raw().parse().map_err(|_| PayloadError::Unfit)
    }

    fn float(&self) -> Result<f64, PayloadError> {
        // A number that is too large for a float is read as infinite.
        self.number().ok().filter(|number: &f64| number.is_finite()).ok_or(PayloadError::Unfit)
    }
}

macro_rules! numbers {
    ($($deserialize:ident $visit:ident)*) => {$(
        fn $deserialize<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
            visitor.$visit(self.number()?)
        }
    )*};
}

impl<'b> de::Deserializer<'b> for Deserializer<'b, '_> {
    type Error = PayloadError;

    fn deserialize_any<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        if let Some(bool) = self.value.bool() {
            return visitor.visit_bool(bool);
        }
        match self.value.bytes() {
            [b'"', ..] => self.deserialize_str(visitor),
            [b'{', ..] => self.deserialize_map(visitor),
            [b'[', ..] => self.deserialize_seq(visitor),
            [b'n', ..] => visitor.visit_unit(),
            _ => match (self.number(), self.number()) {
                (Ok(number), _) => visitor.visit_u64(number),
                // `-0` is a float: an integer has no negative zero.
                (_, Ok(number)) if number != 0 => visitor.visit_i64(number),
                _ => visitor.visit_f64(self.float()?),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        visitor.visit_bool(self.value.bool().ok_or(PayloadError::Unfit)?)
    }

    numbers! {
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_i128 visit_i128 deserialize_u128 visit_u128
    }

    fn deserialize_f32<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        let number: f32 = self.number()?;
        if number.is_finite() { visitor.visit_f32(number) } else { Err(PayloadError::Unfit) }
    }

    fn deserialize_f64<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_str<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        let text = self.value.text().ok_or(PayloadError::Unfit)?;
        visit_text(text, self.scratch, visitor)
    }

    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        if self.value.is_null() { visitor.visit_unit() } else { Err(PayloadError::Unfit) }
    }

    fn deserialize_unit_struct<V: Visitor<'b>>(self, _: &'static str, visitor: V) -> Result<V::Value, PayloadError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'b>>(self, _: &'static str, visitor: V) -> Result<V::Value, PayloadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        if !self.value.bytes().starts_with(b"[") {
            return Err(PayloadError::Unfit);
        }
        let mut array = Array { elements: self.value.elements(), scratch: self.scratch };
        let value = visitor.visit_seq(&mut array)?;
        // An array with more elements than the tuple does not fit.
        if array.elements.next().is_none() { Ok(value) } else { Err(PayloadError::Unfit) }
    }

    fn deserialize_tuple<V: Visitor<'b>>(self, _: usize, visitor: V) -> Result<V::Value, PayloadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, PayloadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        let members = self.value.object().ok_or(PayloadError::Unfit)?.members();
        let mut map = Map { members, value: None, scratch: self.scratch };
        let value = visitor.visit_map(&mut map)?;
        if map.members.next().is_none() { Ok(value) } else { Err(PayloadError::Unfit) }
    }

    fn deserialize_struct<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PayloadError> {
        // serde_json also accepts an array for a struct.
        if self.value.bytes().starts_with(b"[") { self.deserialize_seq(visitor) } else { self.deserialize_map(visitor) }
    }

    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PayloadError> {
        let variant = match self.value.object() {
            Some(object) => {
                let mut members = object.members();
                let (Some((name, content)), None) = (members.next(), members.next()) else {
                    return Err(PayloadError::Unfit);
                };
                Variant { name, content: Some(content), scratch: self.scratch }
            }
            None => {
                Variant { name: self.value.text().ok_or(PayloadError::Unfit)?, content: None, scratch: self.scratch }
            }
        };
        visitor.visit_enum(variant)
    }

    fn deserialize_ignored_any<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        visitor.visit_unit()
    }

    // Forwarding these to `deserialize_any` would link the code that reads floats.
    fn deserialize_char<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        match self.value.text() {
            Some(text) => visit_bytes(text, self.scratch, visitor),
            None => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        self.deserialize_bytes(visitor)
    }
}

/// Passes the text to `visitor`: borrowed if it has no escapes, else decoded into `scratch`.
fn visit_text<'b, V: Visitor<'b>>(text: Text<'b>, scratch: &mut [u8], visitor: V) -> Result<V::Value, PayloadError> {
    match text.as_str() {
        Some(plain) => visitor.visit_borrowed_str(plain),
        None => visitor.visit_str(text.copy_to(scratch).map_err(PayloadError::BufferTooSmall)?),
    }
}

fn visit_bytes<'b, V: Visitor<'b>>(text: Text<'b>, scratch: &mut [u8], visitor: V) -> Result<V::Value, PayloadError> {
    match text.as_str() {
        Some(plain) => visitor.visit_borrowed_bytes(plain.as_bytes()),
        None => visitor.visit_bytes(text.copy_to(scratch).map_err(PayloadError::BufferTooSmall)?.as_bytes()),
    }
}

struct Array<'b, 's> {
    elements: Elements<'b>,
    scratch: &'s mut [u8],
}

impl<'b> SeqAccess<'b> for &mut Array<'b, '_> {
    type Error = PayloadError;

    fn next_element_seed<T: DeserializeSeed<'b>>(&mut self, seed: T) -> Result<Option<T::Value>, PayloadError> {
        let Some(value) = self.elements.next() else { return Ok(None) };
        seed.deserialize(Deserializer { value, scratch: self.scratch }).map(Some)
    }
}

struct Map<'b, 's> {
    members: Members<'b>,
    /// The value of the member whose name was read.
    value: Option<Value<'b>>,
    scratch: &'s mut [u8],
}

impl<'b> MapAccess<'b> for &mut Map<'b, '_> {
    type Error = PayloadError;

    fn next_key_seed<K: DeserializeSeed<'b>>(&mut self, seed: K) -> Result<Option<K::Value>, PayloadError> {
        let Some((text, value)) = self.members.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Key { text, scratch: self.scratch }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'b>>(&mut self, seed: V) -> Result<V::Value, PayloadError> {
        let value = self.value.take().ok_or(PayloadError::Unfit)?;
        seed.deserialize(Deserializer { value, scratch: self.scratch })
    }
}

/// The name of a member. The key type of a map may be a number or `bool`.
struct Key<'b, 's> {
    text: Text<'b>,
    scratch: &'s mut [u8],
}

impl<'b, 's> Key<'b, 's> {
    fn json(self) -> Result<Deserializer<'b, 's>, PayloadError> {
        match Reader::new(self.text.bytes()).value() {
            Ok(value) if value.bytes() == self.text.bytes() => Ok(Deserializer { value, scratch: self.scratch }),
            _ => Err(PayloadError::Unfit),
        }
    }
}

macro_rules! from_json {
    ($($deserialize:ident)*) => {$(
        fn $deserialize<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
            self.json()?.$deserialize(visitor)
        }
    )*};
}

impl<'b> de::Deserializer<'b> for Key<'b, '_> {
    type Error = PayloadError;

    fn deserialize_any<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        visit_text(self.text, self.scratch, visitor)
    }

    from_json! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_bytes<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        visit_bytes(self.text, self.scratch, visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, PayloadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'b>>(self, _: &'static str, visitor: V) -> Result<V::Value, PayloadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PayloadError> {
        visitor.visit_enum(Variant { name: self.text, content: None, scratch: self.scratch })
    }

    forward_to_deserialize_any! {
        <V: Visitor<'b>> char str string unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// A variant of an enum: a string with its name, or an object with its name and its content.
struct Variant<'b, 's> {
    name: Text<'b>,
    content: Option<Value<'b>>,
    scratch: &'s mut [u8],
}

impl<'b, 's> Variant<'b, 's> {
    fn content(self) -> Result<Deserializer<'b, 's>, PayloadError> {
        let value = self.content.ok_or(PayloadError::Unfit)?;
        Ok(Deserializer { value, scratch: self.scratch })
    }
}

impl<'b> EnumAccess<'b> for Variant<'b, '_> {
    type Error = PayloadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'b>>(self, seed: V) -> Result<(V::Value, Self), PayloadError> {
        let variant = seed.deserialize(Key { text: self.name, scratch: &mut *self.scratch })?;
        Ok((variant, self))
    }
}

impl<'b> VariantAccess<'b> for Variant<'b, '_> {
    type Error = PayloadError;

    fn unit_variant(self) -> Result<(), PayloadError> {
        if self.content.is_none_or(|content| content.is_null()) { Ok(()) } else { Err(PayloadError::Unfit) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'b>>(self, seed: T) -> Result<T::Value, PayloadError> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'b>>(self, len: usize, visitor: V) -> Result<V::Value, PayloadError> {
        de::Deserializer::deserialize_tuple(self.content()?, len, visitor)
    }

    fn struct_variant<V: Visitor<'b>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PayloadError> {
        de::Deserializer::deserialize_struct(self.content()?, "", fields, visitor)
    }
}
