//! An audience that a query on the shop's database finds.

use std::path::Path;

use anyhow::Result;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::Value;

use super::super::file::{LONGEST_LINE_IN_BYTES, file_name, no_room, require_file};
use super::super::recipient::{AudienceRow, Columns, not_ready, row};
use super::queries::{checked, query_failed};
use super::{Stored, cannot_read, connect};
use crate::failure::{Exit, Failure};

const KEY: &str = "sql";

/// Hands each row of a query to `each`.
///
/// The rows are first copied into a nameless temporary file, so that no statement keeps the shop from writing meanwhile.
///
/// # Errors
/// Exit 1: the database gives no answer, or the query cannot be used. Also what `each` returns.
pub fn read(path: &Path, query: &str, each: &mut dyn FnMut(AudienceRow) -> Result<()>) -> Result<()> {
    let name = file_name(path);
    let (columns, width, copy) = copied(path, &name, query).map_err(needs_a_person)?;
    let failed = |err: rusqlite::Error| no_room(err);
    let mut statement = copy.prepare("SELECT * FROM rows ORDER BY rowid").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut number = 0;
    while let Some(found) = rows.next().map_err(failed)? {
        number += 1;
        let size: usize = (0..width).map(|at| size_of_value(found, at)).sum();
        let recipient = if size > LONGEST_LINE_IN_BYTES {
            Err("the row is longer than 1 MiB".into())
        } else {
            columns.recipient(|at| found.get_ref(at).map_err(|_| "cannot be read").and_then(value))
        };
        let content = if recipient.is_ok() { Vec::new() } else { content(found, width) };
        each(row(recipient, &name, format!("{name}: row {number}"), &content))?;
    }
    Ok(())
}

/// The columns, how many there are, and a private database with the rows in its table `rows`.
fn copied(path: &Path, name: &str, query: &str) -> Result<(Columns, usize, Connection)> {
    require_file(path)?;
    let shop = connect(path, name)?;
    let query = checked(&shop, name, KEY, query, &[])?;
    let failed = |err: rusqlite::Error| query_failed(name, KEY, &err);
    let mut statement = shop.prepare(&format!("SELECT * FROM (\n{query}\n)")).map_err(failed)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let width = names.len();
    let columns = Columns::find(names, &format!("the query `{KEY}` on {name}"))?;

    let copy = Connection::open("").map_err(no_room)?;
    let list = |each: &dyn Fn(usize) -> String| (0..width).map(each).collect::<Vec<_>>().join(", ");
    copy.execute_batch(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -12288;
         CREATE TABLE rows ({}); BEGIN",
        list(&|at| format!("c{at}"))
    ))
    .map_err(no_room)?;
    let insert = format!("INSERT INTO rows VALUES ({})", list(&|_| "?".into()));
    let mut insert = copy.prepare(&insert).map_err(no_room)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(found) = rows.next().map_err(|err| cannot_read(name, &err))? {
        let values = (0..width).map(|at| found.get::<_, Stored>(at)).collect::<rusqlite::Result<Vec<_>>>();
        insert.execute(params_from_iter(values.map_err(failed)?)).map_err(no_room)?;
    }
    drop(insert);
    copy.execute_batch("COMMIT").map_err(no_room)?;
    Ok((columns, width, copy))
}

fn value(value: ValueRef<'_>) -> Result<Value, &'static str> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(number.into()),
        ValueRef::Real(number) => Ok(number.into()),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map(Value::from).map_err(|_| "is not UTF-8"),
        ValueRef::Blob(_) => Err("is a BLOB, not a text"),
    }
}

fn size_of_value(row: &Row<'_>, at: usize) -> usize {
    match row.get_ref(at) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.len(),
        _ => 8,
    }
}

/// What a bad row is known by: its texts and numbers, as far as they are needed to tell it from others.
fn content(row: &Row<'_>, width: usize) -> Vec<u8> {
    let mut content = Vec::new();
    for at in 0..width {
        match row.get_ref(at) {
            Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
                content.extend_from_slice(&bytes[..bytes.len().min(LONGEST_LINE_IN_BYTES)]);
            }
            Ok(ValueRef::Integer(number)) => content.extend_from_slice(&number.to_be_bytes()),
            _ => {}
        }
        content.push(0);
    }
    content
}

/// A query of one campaign must not end the run as a wrong configuration would.
fn needs_a_person(err: anyhow::Error) -> anyhow::Error {
    match err.downcast::<Failure>() {
        Ok(failure) => Failure { exit: Exit::NeedsAPerson, ..failure }.into(),
        Err(other) => not_ready(other.to_string(), "the next run tries again").into(),
    }
}
