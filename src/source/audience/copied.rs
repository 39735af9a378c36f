//! The rows that a query found, copied out of the shop's database before anything is done with them.
//!
//! The copy is a nameless temporary file, so that memory stays flat and no statement keeps the shop from writing meanwhile.

use anyhow::Result;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params_from_iter};

use super::super::file::{LONGEST_LINE_IN_BYTES, no_room};
use super::super::recipient::{AudienceRow, Columns, not_ready, row};
use super::super::stored::{Stored, value};
use crate::failure::{Exit, Failure};

/// The key of a campaign that holds the query.
pub(in crate::source) const KEY: &str = "sql";

/// What the query is called in messages.
pub(in crate::source) fn of_query(name: &str) -> String {
    format!("the query `{KEY}` on {name}")
}

/// A private copy of rows.
pub(in crate::source) struct Copied {
    copy: Connection,
    width: usize,
    insert: String,
}

impl Copied {
    /// An empty copy of rows that have `width` columns.
    pub fn begin(width: usize) -> Result<Copied> {
        let copy = Connection::open("").map_err(no_room)?;
        let list = |each: &dyn Fn(usize) -> String| (0..width).map(each).collect::<Vec<_>>().join(", ");
        copy.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -12288;
             CREATE TABLE rows ({}); BEGIN",
            list(&|at| format!("c{at}"))
        ))
        .map_err(no_room)?;
        let insert = format!("INSERT INTO rows VALUES ({})", list(&|_| "?".into()));
        Ok(Copied { copy, width, insert })
    }

    /// Adds a row.
    pub fn push(&self, values: &[Stored]) -> Result<()> {
        let mut insert = self.copy.prepare_cached(&self.insert).map_err(no_room)?;
        insert.execute(params_from_iter(values)).map_err(no_room)?;
        Ok(())
    }

    /// Ends the copying.
    pub fn end(self) -> Result<Copied> {
        self.copy.execute_batch("COMMIT").map_err(no_room)?;
        Ok(self)
    }

    /// Hands each row to `each`, in the order in which they were added.
    pub fn hand_out(
        &self,
        columns: &Columns,
        name: &str,
        each: &mut dyn FnMut(AudienceRow) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.copy.prepare("SELECT * FROM rows ORDER BY rowid").map_err(no_room)?;
        let mut rows = statement.query([]).map_err(no_room)?;
        let mut number = 0;
        while let Some(found) = rows.next().map_err(no_room)? {
            number += 1;
            let size: usize = (0..self.width).map(|at| size_of_value(found, at)).sum();
            let recipient = if size > LONGEST_LINE_IN_BYTES {
                Err("the row is longer than 1 MiB".into())
            } else {
                columns.recipient(|at| found.get_ref(at).map_err(|_| "cannot be read").and_then(value))
            };
            let content = if recipient.is_ok() { Vec::new() } else { content(found, self.width) };
            each(row(recipient, name, format!("{name}: row {number}"), &content))?;
        }
        Ok(())
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
pub(in crate::source) fn needs_a_person(err: anyhow::Error) -> anyhow::Error {
    match err.downcast::<Failure>() {
        Ok(failure) => Failure { exit: Exit::NeedsAPerson, ..failure }.into(),
        Err(other) => not_ready(other.to_string(), "the next run tries again").into(),
    }
}
