//! Carts as CSV (RFC 4180): one row per cart line, the rows of one cart next to each other.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use anyhow::Result;
use csv::{ByteRecord, ReaderBuilder, Terminator};

use super::file::{Format, LONGEST_LINE_IN_BYTES, unreadable};
use super::raw::{Position, RawCart, RawField, field_of_bytes};
use super::rows::{Columns, Gathering};
use crate::failure::{Exit, Failure};

const BUFFER_IN_BYTES: usize = 64 * 1024;
/// Each place where a quote is left open costs another look at up to a mebibyte.
pub(super) const MOST_BROKEN_PLACES: usize = 1000;
const BESIDE_A_BROKEN_ROW: &str = "the row beside it cannot be read and may belong to it";

/// The format's name for [`super::file::FileSource`].
pub(super) struct Csv;

impl Format for Csv {
    fn carts(&self, file: &File, name: &str, each: &mut dyn FnMut(RawCart) -> Result<()>) -> Result<()> {
        let (header, mut rows) = read_header(file, name)?;
        let mut gathering = Gathering::default();
        let (mut broken_places, mut spoil_next) = (0, false);
        loop {
            let record = match rows.next().map_err(|err| unreadable(name, &err))? {
                End::Row(position) => {
                    let flaw = spoil_next.then(|| BESIDE_A_BROKEN_ROW.to_owned());
                    spoil_next = false;
                    gathering.push(header.split(&rows.record), Some(position), header.flaw(&rows.record).or(flaw))
                }
                End::Broken(position, flaw) => {
                    broken_places += 1;
                    if broken_places > MOST_BROKEN_PLACES {
                        return Err(not_csv(name).into());
                    }
                    let start = rows.start_of(position).map_err(|err| unreadable(name, &err))?;
                    if start.len() > header.columns.cart_id() {
                        gathering.push(header.split(&start), Some(position), Some(flaw.into()))
                    } else {
                        gathering.spoil(BESIDE_A_BROKEN_ROW);
                        spoil_next = true;
                        let before = gathering.finish();
                        if let Some(cart) = before {
                            each(cart)?;
                        }
                        Some(RawCart::unreadable(flaw.into(), Some(position), start.as_slice()))
                    }
                }
                End::File => break,
            };
            if let Some(cart) = record {
                each(cart)?;
            }
        }
        gathering.finish().map_or(Ok(()), each)
    }

    fn cart_at(&self, file: &File, name: &str, position: Position) -> Result<Option<RawCart>> {
        let (header, _) = read_header(file, name)?;
        let mut rows = Rows::from(file, position).map_err(|err| unreadable(name, &err))?;
        let mut gathering = Gathering::default();
        loop {
            let finished = match rows.next().map_err(|err| unreadable(name, &err))? {
                End::Row(at) => gathering.push(header.split(&rows.record), Some(at), header.flaw(&rows.record)),
                End::Broken(at, flaw) => {
                    let start = rows.start_of(at).map_err(|err| unreadable(name, &err))?;
                    if start.len() > header.columns.cart_id() {
                        gathering.push(header.split(&start), Some(at), Some(flaw.into()))
                    } else {
                        gathering.spoil(BESIDE_A_BROKEN_ROW);
                        gathering.finish()
                    }
                }
                End::File => return Ok(gathering.finish()),
            };
            if finished.is_some() {
                return Ok(finished);
            }
        }
    }

    fn check(&self, file: &File, name: &str) -> Result<()> {
        read_header(file, name).map(|_| ())
    }
}

struct Header {
    columns: Columns,
    fields: usize,
}

impl Header {
    fn split(&self, record: &ByteRecord) -> (super::raw::RawHead, super::raw::RawLine) {
        self.columns.read(|index| field(record.get(index)))
    }

    fn flaw(&self, record: &ByteRecord) -> Option<String> {
        let (fields, expected) = (record.len(), self.fields);
        (fields != expected).then(|| format!("the row has {fields} fields where the header has {expected}"))
    }
}

/// An empty field of a CSV file is the same as none.
fn field(bytes: Option<&[u8]>) -> RawField {
    bytes.filter(|bytes| !bytes.is_empty()).map_or(Ok(None), field_of_bytes)
}

fn read_header<'a>(file: &'a File, name: &str) -> Result<(Header, Rows<'a>)> {
    let wrong = |what: String| {
        Failure::config(format!("{name} {what}"), "its first row has to name the columns, as the README shows them")
    };
    let mut rows = Rows::from(file, Position { offset: 0, line: 1 }).map_err(|err| unreadable(name, &err))?;
    match rows.next().map_err(|err| unreadable(name, &err))? {
        End::Row(_) => {}
        End::File => return Err(wrong("is empty: it has no header".into()).into()),
        End::Broken(_, flaw) => return Err(wrong(format!("has no header: {flaw}")).into()),
    }
    let names: Vec<_> = rows.record.iter().map(String::from_utf8_lossy).collect();
    let columns = Columns::find(names.iter().map(AsRef::as_ref)).map_err(wrong)?;
    let header = Header { columns, fields: rows.record.len() };
    Ok((header, rows))
}

/// How reading one row ended.
pub(super) enum End {
    Row(Position),
    /// The row cannot be read; reading goes on at the next physical line.
    Broken(Position, &'static str),
    File,
}

/// Reads rows, holding little more than [`LONGEST_LINE_IN_BYTES`] of each.
pub(super) struct Rows<'a> {
    file: &'a File,
    reader: csv::Reader<Limited<'a>>,
    /// Where the reader began; its own positions count from there.
    begun_at: Position,
    delimiter: u8,
    supply: Rc<Supply>,
    /// The row read last, without a carriage return at its end.
    pub record: ByteRecord,
}

/// What the reader was given since it began, and how much it may still get for the row in hand.
#[derive(Default)]
struct Supply {
    given: Cell<u64>,
    room: Cell<usize>,
    last_byte: Cell<u8>,
    exhausted: Cell<bool>,
    /// How far the file went when reading began: one that is appended to must not keep a reading from its end.
    rest: Cell<u64>,
}

/// A file that ends with an error when one row takes more than its room.
struct Limited<'a> {
    file: &'a File,
    supply: Rc<Supply>,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.supply.room.get();
        if room == 0 {
            self.supply.exhausted.set(true);
            return Err(io::Error::other("row too long"));
        }
        let rest = self.supply.rest.get();
        let most = buffer.len().min(room).min(usize::try_from(rest).unwrap_or(usize::MAX));
        let read = self.file.read(&mut buffer[..most])?;
        self.supply.room.set(room - read);
        self.supply.rest.set(rest - read as u64);
        self.supply.given.set(self.supply.given.get() + read as u64);
        if read > 0 {
            self.supply.last_byte.set(buffer[read - 1]);
        }
        Ok(read)
    }
}

impl<'a> Rows<'a> {
    pub fn from(file: &'a File, begun_at: Position) -> io::Result<Rows<'a>> {
        Rows::delimited(file, begun_at, b',')
    }

    /// The same where something else than a comma stands between the fields.
    pub fn delimited(mut file: &'a File, begun_at: Position, delimiter: u8) -> io::Result<Rows<'a>> {
        file.seek(SeekFrom::Start(begun_at.offset))?;
        let supply = Rc::new(Supply::default());
        supply.rest.set(file.metadata()?.len().saturating_sub(begun_at.offset));
        // A line feed alone ends a row, so that offsets are exact; the carriage return before it is cut off below.
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(Terminator::Any(b'\n'))
            .buffer_capacity(BUFFER_IN_BYTES)
            .from_reader(Limited { file, supply: Rc::clone(&supply) });
        Ok(Rows { file, reader, begun_at, delimiter, supply, record: ByteRecord::new() })
    }

    pub fn next(&mut self) -> io::Result<End> {
        loop {
            let start = self.here();
            self.supply.room.set(LONGEST_LINE_IN_BYTES);
            match self.reader.read_byte_record(&mut self.record) {
                Ok(false) => return Ok(End::File),
                Ok(true) => {}
                Err(_) if self.supply.exhausted.get() => {
                    self.go_on_after_the_line_at(start)?;
                    return Ok(End::Broken(start, "the row is longer than 1 MiB, or a quote in it is never closed"));
                }
                Err(err) => return Err(io::Error::other(err)),
            }
            let breaks = self.record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
            let at_end = self.reader.position().byte() == self.supply.given.get();
            let terminated = !(at_end && self.supply.last_byte.get() != b'\n');
            if at_end && breaks > 0 && self.is_open_quote(start)? {
                self.go_on_after_the_line_at(start)?;
                return Ok(End::Broken(start, "a quote in the row is never closed"));
            }
            self.cut_carriage_return();
            if self.record.len() == 1 && self.record[0].is_empty() {
                continue;
            }
            // Counted from the row's end: the reader skips blank lines before it.
            let line = self.here().line - breaks - u64::from(terminated);
            return Ok(End::Row(Position { offset: start.offset, line }));
        }
    }

    fn here(&self) -> Position {
        let position = self.reader.position();
        Position {
            offset: self.begun_at.offset + position.byte(),
            line: self.begun_at.line + position.line().saturating_sub(1),
        }
    }

    fn cut_carriage_return(&mut self) {
        let last = self.record.len().wrapping_sub(1);
        let Some(cut) = self.record.get(last).and_then(|field| field.strip_suffix(b"\r")).map(<[u8]>::to_vec) else {
            return;
        };
        self.record.truncate(last);
        self.record.push_field(&cut);
    }

    /// Whether the text from a row's start to the end of the file ends inside quotes.
    fn is_open_quote(&self, start: Position) -> io::Result<bool> {
        let mut file = self.file;
        let here = file.stream_position()?;
        file.seek(SeekFrom::Start(start.offset))?;
        let mut rest = Vec::new();
        file.take(2 * LONGEST_LINE_IN_BYTES as u64).read_to_end(&mut rest)?;
        file.seek(SeekFrom::Start(here))?;
        // A quote opens a field only at its start; in the field, two quotes are one.
        let (mut at_start, mut quoted) = (true, false);
        let mut bytes = rest.iter().peekable();
        while let Some(&byte) = bytes.next() {
            match (quoted, byte) {
                (true, b'"') if bytes.peek() == Some(&&b'"') => {
                    bytes.next();
                }
                (true, b'"') => quoted = false,
                (true, _) => {}
                (false, b'"') if at_start => quoted = true,
                (false, _) => {}
            }
            at_start = !quoted && (byte == self.delimiter || byte == b'\n');
        }
        Ok(quoted)
    }

    /// The first fields of a row that cannot be read, all but the one in which the reading ended.
    fn start_of(&self, position: Position) -> io::Result<ByteRecord> {
        let mut file = self.file;
        let here = file.stream_position()?;
        file.seek(SeekFrom::Start(position.offset))?;
        let mut start = Vec::new();
        file.take(BUFFER_IN_BYTES as u64).read_to_end(&mut start)?;
        file.seek(SeekFrom::Start(here))?;
        let mut record = ByteRecord::new();
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(start.as_slice());
        reader.read_byte_record(&mut record).map_err(io::Error::other)?;
        record.truncate(record.len().saturating_sub(1));
        Ok(record)
    }

    /// Begins anew after the physical line in which a broken row began, so that one open quote loses one line.
    fn go_on_after_the_line_at(&mut self, start: Position) -> io::Result<()> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(start.offset))?;
        let (mut offset, mut buffer) = (start.offset, vec![0; BUFFER_IN_BYTES]);
        let next = loop {
            let read = file.read(&mut buffer)?;
            if let Some(end) = buffer[..read].iter().position(|&byte| byte == b'\n') {
                break Position { offset: offset + end as u64 + 1, line: start.line + 1 };
            }
            offset += read as u64;
            if read == 0 {
                break Position { offset, line: start.line + 1 };
            }
        };
        *self = Rows::delimited(self.file, next, self.delimiter)?;
        Ok(())
    }
}

fn not_csv(name: &str) -> Failure {
    Failure::new(
        Exit::NeedsAPerson,
        format!("{name} has more than {MOST_BROKEN_PLACES} rows that cannot be read; nothing is sent"),
        "let the shop quote its fields as RFC 4180 says: a quote inside a quoted field is written twice",
    )
}
