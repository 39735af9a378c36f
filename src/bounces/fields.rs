//! Header fields of a mail, and fields that look like them in a report (RFC 5322 §2.2, RFC 3464 §2.1.1).

/// So much of a header is read, in bytes.
const MOST_OF_A_HEADER: usize = 256 * 1024;
const MOST_FIELDS: usize = 2_000;
/// A longer value is cut, in bytes.
const LONGEST_VALUE: usize = 16 * 1024;

/// Fields in their order: names in lower case, values unfolded and trimmed, bytes that are no UTF-8 replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads up to the first empty line, and returns what follows it.
    ///
    /// Lines that are no fields are passed over, as mbox's `From ` line. A line that begins with `--` ends the header too:
    /// a boundary without the empty line before it.
    pub fn read(bytes: &[u8]) -> (Fields, &[u8]) {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut rest = bytes;
        let mut in_a_field = false;
        while let Some((line, after)) = next_line(rest) {
            if line.is_empty() {
                rest = after;
                break;
            }
            if line.starts_with(b"--") {
                break;
            }
            let begins_at = bytes.len() - rest.len();
            rest = after;
            if begins_at > MOST_OF_A_HEADER || fields.len() >= MOST_FIELDS {
                continue;
            }
            if line[0] == b' ' || line[0] == b'\t' {
                let more = line.trim_ascii();
                if let Some((_, value)) =
                    fields.last_mut().filter(|(_, value)| in_a_field && value.len() < LONGEST_VALUE)
                {
                    if !value.is_empty() && !more.is_empty() {
                        value.push(' ');
                    }
                    value.push_str(&cut(more));
                }
                continue;
            }
            in_a_field = false;
            if let Some((name, value)) = split(line) {
                in_a_field = true;
                fields.push((name.to_ascii_lowercase(), cut(value.trim_ascii())));
            }
        }
        (Fields(fields), rest)
    }

    /// The first value of a field, by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a field, the topmost first.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether one of these is there.
    pub fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The first line, without its end (`\n` or `\r\n`), and what follows. `None` at the end.
pub fn next_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let (line, rest) = match memchr::memchr(b'\n', bytes) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &bytes[bytes.len()..]),
    };
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

/// Name and value of a field. A name is made of printable ASCII (RFC 5322 §2.2); blanks before the colon are let pass.
pub fn split(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = memchr::memchr(b':', &line[..line.len().min(200)])?;
    let name = line[..colon].trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then(|| (String::from_utf8_lossy(name).into_owned(), &line[colon + 1..]))
}

fn cut(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(LONGEST_VALUE)]).into_owned()
}

/// A text as it is kept: control characters and runs of white space become one blank, and at most so many characters.
pub fn tidy(text: &str, most: usize) -> Option<String> {
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    let words = text.split(is_gap).filter(|word| !word.is_empty());
    let mut tidied = String::new();
    let mut left = most;
    for word in words {
        let gap = usize::from(!tidied.is_empty());
        if left <= gap {
            break;
        }
        if gap == 1 {
            tidied.push(' ');
        }
        left -= gap;
        tidied.extend(word.chars().take(left));
        left -= left.min(word.chars().count());
    }
    (!tidied.is_empty()).then_some(tidied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unfolded_and_end_at_an_empty_line() {
        for text in [
            "From x@y Sun Mar  1 08:00:00 2026\nSubject: a\n\tb\n  c\nno field\n left out\nX-Y : \n d\nsubject:2\n\nbody: x\n",
            "Subject:a\r\n b\r\n\tc  \r\nX-Y:d\r\nSUBJECT: 2\r\n\r\nbody: x\n",
        ] {
            let (fields, rest) = Fields::read(text.as_bytes());
            assert_eq!(fields.all("subject").collect::<Vec<_>>(), ["a b c", "2"], "{text:?}");
            assert_eq!((fields.get("x-y"), fields.iter().count()), (Some("d"), 3), "{text:?}");
            assert_eq!(rest, b"body: x\n");
        }
        let (fields, rest) = Fields::read(b"a: 1\n--boundary--\nb: 2\n");
        assert_eq!((fields.iter().count(), rest), (1, &b"--boundary--\nb: 2\n"[..]));
        assert_eq!(Fields::read(b""), (Fields::default(), &b""[..]));
    }

    #[test]
    fn a_header_is_bounded() {
        let many = "a: b\n".repeat(1_000_000);
        assert_eq!(Fields::read(many.as_bytes()).0.iter().count(), MOST_FIELDS);
        let long = format!("a: {}\n{}", "x".repeat(1 << 20), " y\n".repeat(1 << 20));
        assert!(Fields::read(long.as_bytes()).0.get("a").unwrap().len() <= LONGEST_VALUE);
    }

    #[test]
    fn a_tidy_text_has_no_control_characters() {
        assert_eq!(tidy(" a\r\n\tb\u{0}c\u{9b}d ", 300).as_deref(), Some("a b c d"));
        assert_eq!(tidy("abc def", 4).as_deref(), Some("abc"));
        assert_eq!(tidy("abc def", 5).as_deref(), Some("abc d"));
        assert_eq!(tidy("äöü", 2).as_deref(), Some("äö"));
        assert_eq!(tidy(" \n", 300), None);
    }
}
