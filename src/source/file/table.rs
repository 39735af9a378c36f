//! Rows of a file of fields (RFC 4180): carts, audiences, suppressions and older logs are all read here.
//!
//! Between the fields stands a comma, a semicolon or a tab: whichever the first line has most of. One line is one row. A
//! quote that is still open at the end of its line is an error, whatever follows: a single stray one would otherwise
//! swallow every row up to the next.

use std::borrow::Cow;
use std::fs::File;
use std::io;

use csv::ByteRecord;

use super::super::raw::Position;
use super::LONGEST_LINE_IN_BYTES;
use super::jsonl::{BYTE_ORDER_MARK, Lines};

/// Each place where a quote is left open costs another look at up to a mebibyte.
pub(in crate::source) const MOST_BROKEN_PLACES: usize = 1000;
pub(in crate::source) const START: Position = Position { offset: 0, line: 1 };
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// How reading one row ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) enum End {
    Row(Position),
    /// The row cannot be read; [`Rows::record`] holds the fields before the one that is wrong.
    Broken(Position, Cow<'static, str>),
    File,
}

/// What lines are to which a quoted field with line breaks may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Continuation {
    /// A part of the broken row, when the field ends as RFC 4180 says and the row has as many fields as the first: what a
    /// shopper typed must not become a row that mail is sent by.
    OfTheRow,
    /// Rows of their own: to read one too many does no harm, to leave out one may.
    Rows,
}

/// Reads rows, holding little more than [`LONGEST_LINE_IN_BYTES`] of each. Rows of nothing but empty fields are left out.
pub(in crate::source) struct Rows<'a> {
    file: &'a File,
    lines: Lines<'a>,
    delimiter: u8,
    continuation: Continuation,
    /// How many fields the first row has.
    expected: Option<usize>,
    /// The row read last.
    pub record: ByteRecord,
}

impl<'a> Rows<'a> {
    /// Rows from the start of a file, which is UTF-8. A line `sep=;`, as spreadsheets write, names the delimiter.
    pub fn open(file: &'a File, continuation: Continuation) -> io::Result<Rows<'a>> {
        let mut lines = Lines::from(file, START)?;
        let mut first = Vec::new();
        while lines.next()?.is_some() {
            first = without_mark(&lines.line).to_vec();
            if !first.trim_ascii().is_empty() {
                break;
            }
        }
        match first.trim_ascii() {
            [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] if DELIMITERS.contains(delimiter) => {
                let (delimiter, expected, record) = (*delimiter, None, ByteRecord::new());
                Ok(Rows { file, lines, delimiter, continuation, expected, record })
            }
            _ => Rows::from(file, START, most_frequent(&first), continuation, None),
        }
    }

    /// Rows from somewhere in the file; `expected` is how many fields its first row has.
    pub fn from(
        file: &'a File,
        begin: Position,
        delimiter: u8,
        continuation: Continuation,
        expected: Option<usize>,
    ) -> io::Result<Rows<'a>> {
        let lines = Lines::from(file, begin)?;
        Ok(Rows { file, lines, delimiter, continuation, expected, record: ByteRecord::new() })
    }

    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The line read last, as it stands in the file.
    pub fn line(&self) -> &[u8] {
        without_mark(&self.lines.line)
    }

    pub fn next(&mut self) -> io::Result<End> {
        loop {
            self.record.clear();
            let Some((position, length)) = self.lines.next()? else { return Ok(End::File) };
            let line = if position.offset == 0 { without_mark(&self.lines.line) } else { &self.lines.line };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if length > LONGEST_LINE_IN_BYTES as u64 {
                split(line, self.delimiter, &mut self.record);
                // The field in which the reading ended.
                self.record.truncate(self.record.len().saturating_sub(1));
                return Ok(End::Broken(position, "the line is longer than 1 MiB".into()));
            }
            match split(line, self.delimiter, &mut self.record) {
                Split::Whole if self.record.iter().all(|field| field.trim_ascii().is_empty()) => {}
                Split::Whole => {
                    self.expected.get_or_insert(self.record.len());
                    return Ok(End::Row(position));
                }
                Split::BehindAQuote => {
                    let flaw = "something stands behind the closing quote of a field";
                    return Ok(End::Broken(position, flaw.into()));
                }
                Split::Open => {
                    let whole = self.record.clone();
                    let line = line.to_vec();
                    let flaw = self.open_quote(position, line)?;
                    self.record = whole;
                    return Ok(End::Broken(position, flaw));
                }
            }
        }
    }

    /// What to say of a row whose line ends inside quotes. Reading goes on behind the lines that belong to it, if any.
    fn open_quote(&mut self, begin: Position, mut row: Vec<u8>) -> io::Result<Cow<'static, str>> {
        let behind = self.lines.position();
        if self.continuation == Continuation::OfTheRow {
            while let Some((position, length)) = self.lines.next()? {
                if row.len() as u64 + length > LONGEST_LINE_IN_BYTES as u64 {
                    break;
                }
                row.push(b'\n');
                row.extend_from_slice(self.lines.line.strip_suffix(b"\r").unwrap_or(&self.lines.line));
                match split(&row, self.delimiter, &mut self.record) {
                    Split::Open => {}
                    Split::Whole if self.expected.is_none_or(|expected| expected == self.record.len()) => {
                        let (first, last) = (begin.line, position.line);
                        return Ok(format!("a field holds line breaks; lines {first} to {last} are one row").into());
                    }
                    Split::Whole | Split::BehindAQuote => break,
                }
            }
            self.lines = Lines::from(self.file, behind)?;
        }
        Ok("a field holds a line break, or a quote in it is never closed".into())
    }
}

fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
}

/// The delimiter that a line has most of outside quotes; of as many, the one that stands first; a comma when it has none.
fn most_frequent(line: &[u8]) -> u8 {
    let (mut quoted, mut counts, mut first) = (false, [0_usize; DELIMITERS.len()], [usize::MAX; DELIMITERS.len()]);
    for (at, byte) in line.iter().enumerate() {
        quoted ^= *byte == b'"';
        if let Some(which) = DELIMITERS.iter().position(|delimiter| delimiter == byte).filter(|_| !quoted) {
            counts[which] += 1;
            first[which] = first[which].min(at);
        }
    }
    let most = (0..DELIMITERS.len()).max_by_key(|&which| (counts[which], std::cmp::Reverse(first[which])));
    most.filter(|&which| counts[which] > 0).map_or(b',', |which| DELIMITERS[which])
}

/// How splitting a row into fields ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    Whole,
    /// A quoted field has no end.
    Open,
    /// A quoted field ends, and neither a delimiter nor the end of the row follows.
    BehindAQuote,
}

/// Splits a row. A quote opens a field only at its start; in it, two quotes are one. On an error `record` holds the fields
/// before the one that is wrong.
fn split(row: &[u8], delimiter: u8, record: &mut ByteRecord) -> Split {
    record.clear();
    let mut rest = row;
    let mut field = Vec::new();
    loop {
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            rest = quoted;
            field.clear();
            loop {
                let Some(end) = memchr::memchr(b'"', rest) else { return Split::Open };
                field.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix(b"\"") {
                    Some(behind) => {
                        field.push(b'"');
                        rest = behind;
                    }
                    None => break,
                }
            }
            record.push_field(&field);
            match rest.split_first() {
                None => return Split::Whole,
                Some((&first, behind)) if first == delimiter => rest = behind,
                Some(_) => {
                    record.truncate(record.len() - 1);
                    return Split::BehindAQuote;
                }
            }
        } else {
            let end = memchr::memchr(delimiter, rest);
            record.push_field(&rest[..end.unwrap_or(rest.len())]);
            match end {
                None => return Split::Whole,
                Some(end) => rest = &rest[end + 1..],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(text: &str, continuation: Continuation) -> Vec<Result<String, (u64, String)>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut rows = Rows::open(&file, continuation).unwrap();
        let mut found = Vec::new();
        loop {
            match rows.next().unwrap() {
                End::Row(position) => {
                    let fields: Vec<_> = rows.record.iter().map(String::from_utf8_lossy).collect();
                    found.push(Ok(format!("{}:{}", position.line, fields.join("|"))));
                }
                End::Broken(position, flaw) => found.push(Err((position.line, flaw.into_owned()))),
                End::File => return found,
            }
        }
    }

    fn rows(text: &str) -> Vec<String> {
        read(text, Continuation::OfTheRow).into_iter().map(|row| row.unwrap()).collect()
    }

    #[test]
    fn each_delimiter_and_line_end_is_read() {
        for (text, expected) in [
            ("a,b\r\n1,2\r\n", ["1:a|b", "2:1|2"]),
            ("a;b\n1;2", ["1:a|b", "2:1|2"]),
            ("a\tb\n\n,\t\n1\t2\n", ["1:a|b", "3:,|"]),
            ("\"a,x,y\";b\n1;2,5\n", ["1:a,x,y|b", "2:1|2,5"]),
            ("\u{feff}\"a\",b\n\"1\"\"\",2 \"x\"\n", ["1:a|b", "2:1\"|2 \"x\""]),
            ("sep=;\r\na;b,c,d\r\n1;2\r\n;\r\n", ["2:a|b,c,d", "3:1|2"]),
        ] {
            assert_eq!(rows(text)[..2], expected, "{text:?}");
        }
        assert_eq!(rows("a,b\n1;2,3\n"), ["1:a|b", "2:1;2|3"]);
        assert_eq!(rows(""), [""; 0]);
    }

    #[test]
    fn a_stray_quote_costs_its_line_and_no_other() {
        for (text, good) in [
            ("a,b\n1,\"x\n2,y\n3,z\n", ["1:a|b", "3:2|y", "4:3|z"]),
            ("a,b\n1,\"x\n2,y\n3,z \"the\" z\n", ["1:a|b", "3:2|y", "4:3|z \"the\" z"]),
            ("a,b\n\"1\"x,x\n2,y\n3,z\n", ["1:a|b", "3:2|y", "4:3|z"]),
        ] {
            for continuation in [Continuation::OfTheRow, Continuation::Rows] {
                let found = read(text, continuation);
                assert_eq!(found.iter().flatten().collect::<Vec<_>>(), good.iter().collect::<Vec<_>>(), "{text:?}");
                let bad: Vec<_> = found.into_iter().filter_map(Result::err).map(|(line, _)| line).collect();
                assert_eq!(bad, [2], "{text:?}");
            }
        }
    }

    #[test]
    fn what_was_typed_into_a_field_is_no_row_of_its_own() {
        let text = "a,b\n1,\"x\nvictim,y\n\"\n3,z\n";
        let found = read(text, Continuation::OfTheRow);
        let flaw = "a field holds line breaks; lines 2 to 4 are one row".to_owned();
        assert_eq!(found, [Ok("1:a|b".into()), Err((2, flaw)), Ok("5:3|z".into())]);
        // An opt-out that may be one counts.
        let found = read(text, Continuation::Rows);
        assert!(found.contains(&Ok("3:victim|y".into())) && found.contains(&Ok("5:3|z".into())), "{found:?}");
    }
}
