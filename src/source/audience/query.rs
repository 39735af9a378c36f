//! The rows that an audience's query found on the shop's database.

use anyhow::Result;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::super::copied::Copied;
use super::super::file::LONGEST_LINE_IN_BYTES;
use super::super::recipient::{AudienceRow, Columns, not_ready, row};
use super::super::stored::value;
use crate::failure::{Exit, Failure};

/// The key of a campaign that holds the query.
pub(in crate::source) const KEY: &str = "sql";

/// What the query is called in messages.
pub(in crate::source) fn of_query(name: &str) -> String {
    format!("the query `{KEY}` on {name}")
}

/// Hands each row to `each`, in the order in which they were found.
pub(in crate::source) fn hand_out(
    copied: &Copied,
    columns: &Columns,
    name: &str,
    each: &mut dyn FnMut(AudienceRow) -> Result<()>,
) -> Result<()> {
    let width = copied.width();
    let mut number = 0;
    copied.rows(None, &mut |found| {
        number += 1;
        let size: usize = (0..width).map(|at| size_of_value(found, at)).sum();
        let recipient = if size > LONGEST_LINE_IN_BYTES {
            Err("the row is longer than 1 MiB".into())
        } else {
            columns.recipient(|at| found.get_ref(at).map_err(|_| "cannot be read").and_then(value))
        };
        let content = if recipient.is_ok() { Vec::new() } else { content(found, width) };
        each(row(recipient, name, format!("{name}: row {number}"), &content))
    })
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
