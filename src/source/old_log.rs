//! A dump of an older system's `cart_abandonment_log`: CSV, JSON Lines, or a table of an SQLite file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use csv::ByteRecord;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value};

use super::dump_row::{DumpRow, json_of, understand};
use super::file::jsonl::{BYTE_ORDER_MARK, Lines, without_line_number};
use super::file::table::{Continuation, End, MOST_BROKEN_PLACES, Rows, START};
use super::file::text;
use super::file::{LONGEST_LINE_IN_BYTES, Stamp, file_name};
use super::raw::{field_of_float, is_absent, printable};
use super::{server, sqlite};
use crate::domain::column;
use crate::domain::old_log::{Column, Columns, Field, Flaw, Part, Reader, shown};
use crate::failure::Failure;
use crate::settings::{SourceKind, SourceSettings};

type Each<'a> = &'a mut dyn FnMut(DumpRow) -> Result<(), Failure>;

/// Reads a whole dump, in memory that does not grow. What it is shows by its first bytes.
///
/// # Errors
/// Exit 65 when it cannot be read to its end, lacks a column, or changes meanwhile. Also what `each` returns.
pub fn read(path: &Path, table: &str, reader: &Reader, each: Each<'_>) -> Result<(), Failure> {
    let failed = |err: std::io::Error| unreadable(path, &err);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unreadable(path, &"it is not a file"));
    }
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(64 * 1024).read_to_end(&mut start).map_err(failed)?;
    if start.starts_with(b"SQLite format 3\0") {
        return read_table(path, table, reader, each);
    }
    let mut content = text::as_utf8(&file).map_err(failed)?;
    content.seek(SeekFrom::Start(0)).map_err(failed)?;
    start.clear();
    Read::by_ref(&mut content).take(64 * 1024).read_to_end(&mut start).map_err(failed)?;
    match start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start).trim_ascii_start().first() {
        None => return Err(unreadable(path, &"it is empty")),
        Some(b'{') => read_json_lines(path, &content, reader, each)?,
        Some(_) => read_csv(path, &content, reader, each)?,
    }
    if Stamp::of(&file.metadata().map_err(failed)?) != Stamp::of(&metadata) {
        return Err(unreadable(path, &"it changed while it was read"));
    }
    Ok(())
}

/// Reads the table of an older system's log that the shop's own database has.
///
/// # Errors
/// As [`read`], and as for every question to the shop. Also what `each` returns.
pub fn read_source(settings: &SourceSettings, table: &str, reader: &Reader, each: Each<'_>) -> anyhow::Result<()> {
    match &settings.kind {
        SourceKind::Sqlite(path) => Ok(read_table(path, table, reader, each)?),
        SourceKind::Server(server) => server::old_log::read(server, table, reader, each),
        SourceKind::JsonLines(path) | SourceKind::Csv(path) => {
            let what = format!("the source {} is no database", path.display());
            Err(Failure::usage(what, "name the log's own file: `mailonce import log FILE`").into())
        }
    }
}

fn unreadable(path: &Path, problem: &dyn std::fmt::Display) -> Failure {
    Failure::data(
        format!("could not read {}: {problem}", path.display()),
        "name a CSV file whose first row names its columns, a file of JSON Lines, or an SQLite database",
    )
    .kept("nothing was imported")
}

fn read_csv(path: &Path, file: &File, reader: &Reader, each: Each<'_>) -> Result<(), Failure> {
    let failed = |err: std::io::Error| unreadable(path, &err);
    let name = file_name(path);
    let mut rows = Rows::open(file, Continuation::Rows).map_err(failed)?;
    let header = match rows.next().map_err(failed)? {
        End::Row(_) => rows.record.iter().map(|name| column::tidy(&String::from_utf8_lossy(name)).to_owned()),
        End::Broken(_, flaw) => return Err(unreadable(path, &format!("its first row: {flaw}"))),
        End::File => return Err(unreadable(path, &"it is empty")),
    };
    let columns = Columns::find(header.collect()).map_err(|problem| unreadable(path, &format!("it {problem}")))?;
    let mut broken_places = 0;
    loop {
        match rows.next().map_err(failed)? {
            End::File => return Ok(()),
            End::Row(position) => {
                let place = || format!("{name}:{}", position.line);
                let (fields, expected) = (rows.record.len(), columns.names().len());
                if fields != expected {
                    let flaw = format!("the row has {fields} fields where the header has {expected}");
                    each(Err((place(), Flaw::Unreadable(Part::Whole, flaw))))?;
                    continue;
                }
                let extra = |at: usize| match csv_field(&rows.record, at) {
                    Ok(text) => text.map_or(Value::Null, |text| Value::from(text.into_owned())),
                    Err(_) => Value::from(String::from_utf8_lossy(&rows.record[at])),
                };
                each(understand(reader, &columns, place, &|at| csv_field(&rows.record, at), extra))?;
            }
            End::Broken(position, flaw) => {
                broken_places += 1;
                if broken_places > MOST_BROKEN_PLACES {
                    return Err(unreadable(path, &format!("more than {MOST_BROKEN_PLACES} rows cannot be read")));
                }
                each(Err((format!("{name}:{}", position.line), Flaw::Unreadable(Part::Whole, flaw.into()))))?;
            }
        }
    }
}

fn csv_field(record: &ByteRecord, at: usize) -> Field<'_> {
    let text =
        std::str::from_utf8(record.get(at).unwrap_or_default()).map_err(|_| "is not UTF-8 (`iconv` makes it so)")?;
    Ok((!is_absent(text)).then_some(Cow::Borrowed(text)))
}

fn read_json_lines(path: &Path, file: &File, reader: &Reader, each: Each<'_>) -> Result<(), Failure> {
    let failed = |err: std::io::Error| unreadable(path, &err);
    let name = file_name(path);
    let mut lines = Lines::from(file, START).map_err(failed)?;
    let mut is_first = true;
    while let Some((position, length)) = lines.next().map_err(failed)? {
        let line = lines.line.as_slice();
        let line = if position.offset == 0 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = || format!("{name}:{}", position.line);
        let object = match length > LONGEST_LINE_IN_BYTES as u64 {
            true => Err("the line is longer than 1 MiB".to_owned()),
            false => object(line),
        };
        let (names, values): (Vec<String>, Vec<Value>) = match object {
            Ok(object) => object.into_iter().unzip(),
            Err(flaw) => {
                each(Err((place(), Flaw::Unreadable(Part::Whole, flaw))))?;
                continue;
            }
        };
        let columns = Columns::of(names);
        if std::mem::take(&mut is_first) {
            // Later objects may leave out what has no value.
            Columns::find(columns.names().to_vec())
                .map_err(|problem| unreadable(path, &format!("its first object {problem}")))?;
        }
        each(understand(reader, &columns, place, &|at| json_field(&values[at]), |at| values[at].clone()))?;
    }
    Ok(())
}

fn object(line: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8")?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the line is not a JSON object".into()),
        Err(err) => Err(format!("the line is not JSON: {}", without_line_number(&err))),
    }
}

fn json_field(value: &Value) -> Field<'_> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(Cow::Borrowed(if *flag { "true" } else { "false" }))),
        Value::String(text) => Ok(Some(Cow::Borrowed(text))),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => field_of_float(float).map(|text| text.map(Cow::Owned)),
            None => Ok(Some(Cow::Owned(number.to_string()))),
        },
        Value::Array(_) => Err("is a list, not a text"),
        Value::Object(_) => Err("is an object, not a text"),
    }
}

fn read_table(path: &Path, table: &str, reader: &Reader, each: Each<'_>) -> Result<(), Failure> {
    let failed = |err: rusqlite::Error| unreadable(path, &err);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(sqlite::BUSY_FOR).map_err(failed)?;
    let there = "SELECT count(*) FROM sqlite_schema WHERE type IN ('table', 'view') AND lower(name) = lower(?1)";
    if conn.query_row(there, [table], |row| row.get::<_, i64>(0)).map_err(failed)? == 0 {
        return Err(unreadable(path, &format!("it has no table {}; name it with --table", printable(table, 60))));
    }
    let mut rows = conn.prepare(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\""))).map_err(failed)?;
    let names = rows.column_names().map(str::to_owned).collect();
    let columns = Columns::find(names).map_err(|problem| unreadable(path, &format!("its table {table} {problem}")))?;
    let name = file_name(path);
    let mut rows = rows.query([]).map_err(failed)?;
    let mut number = 0_u64;
    while let Some(row) = rows.next().map_err(failed)? {
        number += 1;
        let field = |at: usize| -> Field<'_> {
            sqlite::field(row.get_ref(at).map_err(|_| "cannot be read")?).map(|text| text.map(Cow::Owned))
        };
        let place = || match columns.place(Column::Id).and_then(|at| field(at).ok()?) {
            Some(id) => format!("{name}: row {}", shown(&id)),
            None => format!("{name}: row number {number}"),
        };
        let extra = |at: usize| match field(at) {
            Ok(text) => text.map_or(Value::Null, |text| Value::from(text.into_owned())),
            Err(_) => row.get_ref(at).map_or(Value::Null, json_of),
        };
        each(understand(reader, &columns, place, &field, extra))?;
    }
    Ok(())
}
