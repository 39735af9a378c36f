//! What PHP's `serialize()` wrote, read into plain values: no class is ever made, and nothing of it runs.

use std::rc::Rc;

/// Arrays and objects in each other; shops nest a dozen.
const DEEPEST: usize = 64;
/// Bounds the memory that one cart can take: a value takes some 40 bytes here, and two in the text.
const MOST_VALUES: usize = 200_000;
/// No number, length or count is longer.
const LONGEST_NUMBER_IN_BYTES: usize = 40;

/// A value. An array and an object are the same here: what they hold, by key or by the property's bare name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// As PHP spells it: `2`, `19.899999999999999`, `1.0E+25`, `NAN`.
    Number(&'a str),
    /// Of any bytes. The case of an enumeration is one, too.
    Text(&'a [u8]),
    Map(Rc<[(&'a [u8], Value<'a>)]>),
}

impl<'a> Value<'a> {
    /// What an array or object holds under this name; `None` also for what is neither. The last of several counts.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        let Value::Map(entries) = self else { return None };
        entries.iter().rfind(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// What an array or object holds, in its order; nothing for what is neither.
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        let entries = if let Value::Map(entries) = self { &entries[..] } else { &[] };
        entries.iter().map(|(_, value)| value)
    }
}

/// Reads one value, which must be all there is.
///
/// `r:` and `R:` stand for an earlier value by its number; for one that holds them, they are [`Value::Null`]. What a class
/// wrote in a form of its own (`C:`) is left out, and references behind it are refused: it has numbers that only the class
/// knows.
///
/// # Errors
/// Why it is none, with the place, and without anything that stands there.
pub(super) fn read(data: &[u8]) -> Result<Value<'_>, String> {
    let mut reader = Reader { data, at: 0, values: Vec::new(), is_numbering_known: true };
    let value = reader.value(0).and_then(|value| match reader.at == data.len() {
        true => Ok(value),
        false => Err("something follows the value"),
    });
    value.map_err(|why| format!("{why} at byte {}", reader.at))
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    /// By their numbers, the first is 1; `None` while it is being read.
    values: Vec<Option<Value<'a>>>,
    is_numbering_known: bool,
}

type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Read<Value<'a>> {
        if depth > DEEPEST {
            return Err("it is nested too deeply");
        }
        let kind = self.bytes(1)?[0];
        if kind == b'R' {
            // Another name for the same value: it has no number of its own.
            return self.reference();
        }
        let number = self.values.len();
        if number >= MOST_VALUES {
            return Err("it has too many values");
        }
        self.values.push(None);
        let value = match kind {
            b'N' => self.expect(b";").map(|()| Value::Null)?,
            b'b' => match self.number(b';')? {
                "0" => Value::Bool(false),
                "1" => Value::Bool(true),
                _ => return Err("there is no truth value"),
            },
            b'i' | b'd' => Value::Number(self.number(b';')?),
            b's' => {
                let text = self.text()?;
                self.expect(b";")?;
                Value::Text(text)
            }
            b'E' => {
                let name = self.text()?;
                self.expect(b";")?;
                Value::Text(name.rsplit(|&byte| byte == b':').next().unwrap_or(name))
            }
            b'r' => self.reference()?,
            b'a' => self.map(depth)?,
            b'O' => {
                self.text()?;
                self.map(depth)?
            }
            b'C' => {
                self.text()?;
                let length = self.length()?;
                self.expect(b"{")?;
                self.bytes(length)?;
                self.expect(b"}")?;
                self.is_numbering_known = false;
                Value::Null
            }
            _ => return Err("there is no value"),
        };
        self.values[number] = Some(value.clone());
        Ok(value)
    }

    fn reference(&mut self) -> Read<Value<'a>> {
        let number: usize = self.number(b';')?.parse().map_err(|_| "there is no number")?;
        if !self.is_numbering_known {
            return Err("a reference has a number that cannot be known");
        }
        let value = number.checked_sub(1).and_then(|index| self.values.get(index));
        Ok(value.ok_or("a reference leads nowhere")?.clone().unwrap_or(Value::Null))
    }

    fn map(&mut self, depth: usize) -> Read<Value<'a>> {
        let count = self.length()?;
        self.expect(b"{")?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let key = match self.bytes(1)?[0] {
                b'i' => self.number(b';')?.as_bytes(),
                b's' => {
                    let name = self.text()?;
                    self.expect(b";")?;
                    // A property that is not public: its class or * between two zero bytes, then its name.
                    name.rsplit(|&byte| byte == 0).next().unwrap_or(name)
                }
                _ => return Err("there is no key"),
            };
            entries.push((key, self.value(depth + 1)?));
        }
        self.expect(b"}")?;
        Ok(Value::Map(entries.into()))
    }

    /// `:5:"Hello"`
    fn text(&mut self) -> Read<&'a [u8]> {
        let length = self.length()?;
        self.expect(b"\"")?;
        let text = self.bytes(length)?;
        self.expect(b"\"")?;
        Ok(text)
    }

    /// `:5:`
    fn length(&mut self) -> Read<usize> {
        self.number(b':')?.parse().map_err(|_| "there is no length")
    }

    /// A colon, and what stands before the byte `end`, which is taken too.
    fn number(&mut self, end: u8) -> Read<&'a str> {
        self.expect(b":")?;
        let rest = &self.data[self.at..];
        let length = rest.iter().take(LONGEST_NUMBER_IN_BYTES).position(|&byte| byte == end);
        let number = std::str::from_utf8(self.bytes(length.ok_or("a number does not end")?)?);
        self.at += 1;
        number.ok().filter(|number| number.is_ascii()).ok_or("there is no number")
    }

    fn expect(&mut self, wanted: &[u8]) -> Read<()> {
        if self.bytes(wanted.len())? == wanted { Ok(()) } else { Err("it is not what PHP writes") }
    }

    fn bytes(&mut self, length: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.data.len()).ok_or("it breaks off")?;
        let bytes = &self.data[self.at..end];
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(data: &[u8]) -> String {
        read(data).expect_err(&String::from_utf8_lossy(data))
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let data = b"a:9:{i:0;N;i:-1;b:1;s:1:\"n\";i:-7;i:3;d:1.0E+25;i:4;s:5:\"a\"b;c\";i:5;a:0:{}\
            i:6;O:3:\"Foo\":3:{s:1:\"p\";i:1;s:4:\"\0*\0q\";i:2;s:6:\"\0Foo\0r\";i:3;}i:7;E:8:\"Suit:Ace\";i:8;C:3:\"Bar\":4:{i:1;}}";
        let value = read(data).unwrap();
        let at = |name: &str| value.get(name).unwrap().clone();
        assert_eq!((at("0"), at("-1"), at("n")), (Value::Null, Value::Bool(true), Value::Number("-7")));
        assert_eq!((at("3"), at("4")), (Value::Number("1.0E+25"), Value::Text(b"a\"b;c")));
        assert_eq!((at("5").values().count(), at("7"), at("8")), (0, Value::Text(b"Ace"), Value::Null));
        let object = at("6");
        for (name, number) in [("p", "1"), ("q", "2"), ("r", "3")] {
            assert_eq!(object.get(name), Some(&Value::Number(number)), "{name}");
        }
        assert_eq!((object.get("s"), value.get("q"), Value::Null.get("p")), (None, None, None));
    }

    #[test]
    fn references_are_resolved_by_number_and_one_to_what_holds_it_is_nothing() {
        let value = read(b"a:4:{i:0;a:1:{i:0;i:5;}i:1;R:2;i:2;r:3;i:3;r:4;}").unwrap();
        // 1 is the whole, 2 the array, 3 its number, 4 the third entry: R has no number of its own.
        assert_eq!(value.get("1"), value.get("0"));
        assert_eq!((value.get("2"), value.get("3")), (Some(&Value::Number("5")), Some(&Value::Number("5"))));
        assert_eq!(read(b"a:1:{i:0;R:1;}").unwrap().get("0"), Some(&Value::Null));
        for nowhere in [&b"a:1:{i:0;R:2;}"[..], b"R:1;", b"r:2;", b"a:1:{i:0;r:0;}", b"a:1:{i:0;r:3;}"] {
            assert!(problem(nowhere).contains("leads nowhere"));
        }
        assert!(problem(b"a:2:{i:0;C:1:\"A\":0:{}i:1;r:1;}").contains("cannot be known"));
    }

    #[test]
    fn what_is_hostile_is_refused_within_bounds() {
        let deep = "a:1:{i:0;".repeat(100_000);
        assert!(problem(deep.as_bytes()).contains("nested too deeply"));
        let many = format!("a:300000:{{{}}}", "i:0;N;".repeat(300_000));
        assert!(problem(many.as_bytes()).contains("too many values"));
        // Each array twice in the next: of 2^60 values when written out.
        let mut twice = String::from("a:61:{i:0;a:0:{}");
        (2..=61).for_each(|number| twice.push_str(&format!("i:{number};a:2:{{i:0;R:{number};i:1;R:{number};}}")));
        assert!(read(format!("{twice}}}").as_bytes()).is_ok());
        for data in [
            &b""[..],
            b"a",
            b"i:1",
            b"b:2;",
            b"s:5:\"abc\";",
            b"s:18446744073709551615:\"a\";",
            b"s:-1:\"a\";",
            b"a:999999999999:{}",
            b"a:1:{d:1;N;}",
            b"a:1:{i:0;N;",
            b"N;N;",
            b"S:1:\"a\";",
            b"O:8:\"stdClass\":1:{s:1:\"a\";i:1}",
            b"C:1:\"A\":9:{}",
            b"i:00000000000000000000000000000000000000000000000001;",
            "i:\u{661};".as_bytes(),
        ] {
            problem(data);
        }
    }

    fn written(value: &Node) -> Vec<u8> {
        let text = |text: &[u8]| [format!(":{}:\"", text.len()).as_bytes(), text, b"\""].concat();
        match value {
            Node::Null => b"N;".to_vec(),
            Node::Number(number) => format!("i:{number};").into_bytes(),
            Node::Text(bytes) => [b"s", &text(bytes)[..], b";"].concat(),
            Node::Map(class, entries) => {
                let mut data = match class {
                    Some(class) => [b"O", &text(class)[..]].concat(),
                    None => b"a".to_vec(),
                };
                data.extend(format!(":{}:{{", entries.len()).bytes());
                for (key, value) in entries {
                    data.extend(format!("s:{}:\"{key}\";", key.len()).bytes());
                    data.extend(written(value));
                }
                data.push(b'}');
                data
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Node {
        Null,
        Number(i64),
        Text(Vec<u8>),
        Map(Option<Vec<u8>>, Vec<(String, Node)>),
    }

    fn node() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            Just(Node::Null),
            any::<i64>().prop_map(Node::Number),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Node::Text),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            let class = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
            let entries = proptest::collection::vec(("[a-z]{0,4}", inner), 0..6);
            (class, entries).prop_map(|(class, entries)| Node::Map(class, entries))
        })
    }

    fn same(node: &Node, value: &Value<'_>) -> bool {
        match (node, value) {
            (Node::Null, Value::Null) => true,
            (Node::Number(number), Value::Number(text)) => number.to_string() == *text,
            (Node::Text(bytes), Value::Text(text)) => bytes == text,
            (Node::Map(_, entries), Value::Map(read)) => {
                entries.len() == read.len()
                    && entries
                        .iter()
                        .zip(read.iter())
                        .all(|((key, node), (name, value))| key.as_bytes() == *name && same(node, value))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(node in node()) {
            let data = written(&node);
            prop_assert!(same(&node, &read(&data).unwrap()));
        }

        #[test]
        fn no_bytes_bring_it_down(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&data);
        }

        /// Nearer to the format than bytes at random.
        #[test]
        fn no_cut_or_changed_text_brings_it_down(
            node in node(), at in any::<prop::sample::Index>(), with in "[NbidsaOCErR0-9:;\"{}]{0,6}", most in 0_usize..4,
        ) {
            let mut data = written(&node);
            let at = at.index(data.len());
            let end = (at + most).min(data.len());
            data.splice(at..end, with.bytes());
            let _ = read(&data);
            data.truncate(at);
            let _ = read(&data);
        }
    }
}
