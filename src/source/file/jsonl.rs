//! Carts as JSON Lines: one object a line.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Take};

use anyhow::Result;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::raw::{MOST_LINES, Position, RawCart, RawField, RawHead, RawLine, field_of_float};
use super::{Format, LONGEST_LINE_IN_BYTES, unreadable};

pub(in crate::source) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The format's name for [`super::FileSource`].
pub(in crate::source) struct JsonLines;

impl Format for JsonLines {
    fn carts(&self, file: &File, name: &str, each: &mut dyn FnMut(RawCart) -> Result<()>) -> Result<()> {
        let mut lines = Lines::from(file, Position { offset: 0, line: 1 }).map_err(|err| unreadable(name, &err))?;
        while let Some((position, length)) = lines.next().map_err(|err| unreadable(name, &err))? {
            if let Some(cart) = read_line(&lines.line, length, position) {
                each(cart)?;
            }
        }
        Ok(())
    }

    fn cart_at(&self, file: &File, name: &str, position: Position) -> Result<Option<RawCart>> {
        let mut lines = Lines::from(file, position).map_err(|err| unreadable(name, &err))?;
        let Some((position, length)) = lines.next().map_err(|err| unreadable(name, &err))? else { return Ok(None) };
        Ok(read_line(&lines.line, length, position))
    }

    fn check(&self, _: &File, _: &str) -> Result<()> {
        Ok(())
    }
}

/// Reads a file line by line, holding at most [`LONGEST_LINE_IN_BYTES`] of each.
pub(in crate::source) struct Lines<'a> {
    /// As far as the file went when reading began: one that is appended to must not keep a reading from its end.
    reader: BufReader<Take<&'a File>>,
    next: Position,
    /// The start of the line read last, without its line feed.
    pub line: Vec<u8>,
}

impl Lines<'_> {
    pub fn from(mut file: &File, position: Position) -> std::io::Result<Lines<'_>> {
        file.seek(SeekFrom::Start(position.offset))?;
        let rest = file.metadata()?.len().saturating_sub(position.offset);
        Ok(Lines { reader: BufReader::with_capacity(64 * 1024, file.take(rest)), next: position, line: Vec::new() })
    }

    /// Where the line that is next begins.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Where the next line stands and how many bytes it has; `None` at the end.
    pub fn next(&mut self) -> std::io::Result<Option<(Position, u64)>> {
        self.line.clear();
        let (begun_at, mut length) = (self.next, 0);
        loop {
            let read = self.reader.fill_buf()?;
            if read.is_empty() {
                self.next.offset = begun_at.offset + length;
                return Ok((length > 0).then_some((begun_at, length)));
            }
            let end = read.iter().position(|&byte| byte == b'\n');
            let part = &read[..end.unwrap_or(read.len())];
            let room = LONGEST_LINE_IN_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            length += part.len() as u64;
            let consumed = part.len() + usize::from(end.is_some());
            self.reader.consume(consumed);
            if end.is_some() {
                self.next = Position { offset: begun_at.offset + length + 1, line: begun_at.line + 1 };
                return Ok(Some((begun_at, length)));
            }
        }
    }
}

/// The cart of one line; `None` for a blank one.
fn read_line(line: &[u8], length: u64, position: Position) -> Option<RawCart> {
    let line = if position.offset == 0 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
    let bad = |flaw: String| Some(RawCart::unreadable(flaw, Some(position), line));
    if length > LONGEST_LINE_IN_BYTES as u64 {
        return bad("the line is longer than 1 MiB".into());
    }
    let Ok(text) = std::str::from_utf8(line) else { return bad("the line is not UTF-8".into()) };
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    // serde would also take a list for an object, its values in the order of the fields.
    if !text.starts_with('{') {
        return bad("the line is not a JSON object".into());
    }
    match serde_json::from_str::<JsonCart>(text) {
        Ok(cart) => Some(cart.into_raw(position, line)),
        Err(err) => bad(format!("the line is not a cart in JSON: {}", without_line_number(&err))),
    }
}

/// serde_json counts lines from 1 within the one line it was given, which would point to the wrong place.
pub(in crate::source) fn without_line_number(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let tail = format!(" at line {} column {}", err.line(), err.column());
    match text.strip_suffix(&tail) {
        Some(text) => format!("{text}, column {}", err.column()),
        None => text,
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct JsonCart {
    cart_id: Field,
    user_id: Field,
    email: Field,
    name: Field,
    currency: Field,
    created_at: Field,
    updated_at: Field,
    recovery_url: Field,
    consent: Field,
    locale: Field,
    timezone: Field,
    ordered_at: Field,
    items: Items,
}

impl Default for JsonCart {
    fn default() -> JsonCart {
        let field = || Field(Ok(None));
        JsonCart {
            cart_id: field(),
            user_id: field(),
            email: field(),
            name: field(),
            currency: field(),
            created_at: field(),
            updated_at: field(),
            recovery_url: field(),
            consent: field(),
            locale: field(),
            timezone: field(),
            ordered_at: field(),
            items: Items::Missing,
        }
    }
}

impl JsonCart {
    fn into_raw(self, position: Position, line: &[u8]) -> RawCart {
        let head = RawHead {
            cart_id: self.cart_id.0,
            user_id: self.user_id.0,
            email: self.email.0,
            name: self.name.0,
            currency: self.currency.0,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
            recovery_url: self.recovery_url.0,
            consent: self.consent.0,
            locale: self.locale.0,
            timezone: self.timezone.0,
            ordered_at: self.ordered_at.0,
        };
        let (lines, flaw) = match self.items {
            Items::Lines(lines) => (lines, None),
            Items::Missing => (Vec::new(), Some("no items".to_owned())),
            Items::Bad(flaw) => (Vec::new(), Some(flaw)),
        };
        let nameless = !matches!(&head.cart_id, Ok(Some(id)) if !id.is_empty());
        let content = if nameless { line.to_vec() } else { Vec::new() };
        RawCart { head, lines, position: Some(position), flaw, content }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct JsonLine {
    sku: Field,
    name: Field,
    quantity: Field,
    unit_price: Field,
    image_url: Field,
    category: Field,
    url: Field,
}

impl Default for JsonLine {
    fn default() -> JsonLine {
        let field = || Field(Ok(None));
        JsonLine {
            sku: field(),
            name: field(),
            quantity: field(),
            unit_price: field(),
            image_url: field(),
            category: field(),
            url: field(),
        }
    }
}

/// The list of items, or why it is none.
enum Items {
    Missing,
    Lines(Vec<RawLine>),
    Bad(String),
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Items, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of items")
            }

            fn visit_unit<E>(self) -> Result<Items, E> {
                Ok(Items::Lines(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
                let mut lines = Vec::new();
                while let Some(line) = seq.next_element::<JsonLine>()? {
                    if lines.len() == MOST_LINES {
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        return Ok(Items::Bad(format!("more than {MOST_LINES} lines")));
                    }
                    lines.push(RawLine {
                        sku: line.sku.0,
                        name: line.name.0,
                        quantity: line.quantity.0,
                        unit_price: line.unit_price.0,
                        image_url: line.image_url.0,
                        category: line.category.0,
                        url: line.url.0,
                    });
                }
                Ok(Items::Lines(lines))
            }
        }
        deserializer.deserialize_any(List)
    }
}

/// A field that may be a text, a number or a bool; anything else spoils the cart, not the reading of its other fields.
struct Field(RawField);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true, false or null")
            }

            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field(Ok(None)))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
                Ok(Field(Ok(Some(value.to_string()))))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
                Ok(Field(Ok(Some(value.to_string()))))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
                Ok(Field(Ok(Some(value.to_string()))))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Field, E> {
                Ok(Field(field_of_float(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Field, E> {
                Ok(Field(Ok(Some(value.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field(Err("is a list, not a text")))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field(Err("is an object, not a text")))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}
