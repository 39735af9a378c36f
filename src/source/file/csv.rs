//! Carts as rows of a file: one row per cart line, the rows of one cart next to each other.

use std::fs::File;

use anyhow::Result;
use csv::ByteRecord;

use super::super::raw::{Position, RawCart, RawField, field_of_bytes};
use super::super::rows::{Columns, Gathering};
use super::table::{Continuation, End, MOST_BROKEN_PLACES, Rows};
use super::{Format, unreadable};
use crate::failure::{Exit, Failure};

const BESIDE_A_BROKEN_ROW: &str = "the row beside it cannot be read and may belong to it";
const CONTINUATION: Continuation = Continuation::OfTheRow;

/// The format's name for [`super::FileSource`].
pub(in crate::source) struct Csv;

impl Format for Csv {
    const TWICE: &'static str = "duplicate cart_id: the rows of one cart have to stand together";

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
                    let start = &rows.record;
                    if start.len() > header.columns.cart_id() {
                        gathering.push(header.split(start), Some(position), Some(flaw.into()))
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
        let (header, rows) = read_header(file, name)?;
        let mut rows = Rows::from(file, position, rows.delimiter(), CONTINUATION, Some(header.fields))
            .map_err(|err| unreadable(name, &err))?;
        let mut gathering = Gathering::default();
        loop {
            let finished = match rows.next().map_err(|err| unreadable(name, &err))? {
                End::Row(at) => gathering.push(header.split(&rows.record), Some(at), header.flaw(&rows.record)),
                End::Broken(at, flaw) => {
                    if rows.record.len() > header.columns.cart_id() {
                        gathering.push(header.split(&rows.record), Some(at), Some(flaw.into()))
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
    fn split(&self, record: &ByteRecord) -> (super::super::raw::RawHead, super::super::raw::RawLine) {
        self.columns.read(|index| field(record.get(index)))
    }

    fn flaw(&self, record: &ByteRecord) -> Option<String> {
        let (fields, expected) = (record.len(), self.fields);
        (fields != expected).then(|| format!("the row has {fields} fields where the header has {expected}"))
    }
}

/// An empty field is the same as none.
fn field(bytes: Option<&[u8]>) -> RawField {
    bytes.filter(|bytes| !bytes.is_empty()).map_or(Ok(None), field_of_bytes)
}

fn read_header<'a>(file: &'a File, name: &str) -> Result<(Header, Rows<'a>)> {
    let wrong = |what: String| {
        Failure::config(format!("{name} {what}"), "its first row has to name the columns, as docs/guide.md shows them")
    };
    let mut rows = Rows::open(file, CONTINUATION).map_err(|err| unreadable(name, &err))?;
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

fn not_csv(name: &str) -> Failure {
    Failure::new(
        Exit::NeedsAPerson,
        format!("{name} has more than {MOST_BROKEN_PLACES} rows that cannot be read; nothing is sent"),
        "let the shop quote its fields as RFC 4180 says: a quote inside a quoted field is written twice",
    )
}
