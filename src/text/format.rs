//! `defmt::Format` for the types of [`json`](super::json), with the output of their `Debug`.

use defmt::{Format, Formatter, write};

use super::json::{Chars, Elements, Members, Object, Text, Value};

impl Format for Object<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Object({=str})", self.raw());
    }
}

impl Format for Value<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Value({=str})", self.raw());
    }
}

impl Format for Text<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Text({=str})", self.raw());
    }
}

impl Format for Members<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Members(..)");
    }
}

impl Format for Elements<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Elements(..)");
    }
}

impl Format for Chars<'_> {
    fn format(&self, f: Formatter<'_>) {
        write!(f, "Chars(..)");
    }
}
