//! A row of an older system's log, wherever it is read.

use serde_json::{Map, Value};

use crate::domain::old_log::{Columns, Field, Flaw, OldRow, Reader};

/// A row of the dump: understood, with its other columns as JSON; or where it stands and why it cannot be used.
pub type DumpRow = Result<(OldRow, Option<String>), (String, Flaw)>;

/// What a row says, by its columns; `extra` is the value of one that means nothing here.
pub(super) fn understand<'a>(
    reader: &Reader,
    columns: &Columns,
    place: impl Fn() -> String,
    field: &dyn Fn(usize) -> Field<'a>,
    extra: impl Fn(usize) -> Value,
) -> DumpRow {
    let row = reader.row(&|column| columns.place(column).map_or(Ok(None), field)).map_err(|flaw| (place(), flaw))?;
    let others: Map<String, Value> =
        columns.others().map(|(at, name)| (name.to_owned(), extra(at))).filter(|(_, value)| !value.is_null()).collect();
    Ok((row, (!others.is_empty()).then(|| Value::Object(others).to_string())))
}

/// Bytes that are no text, as hex digits: nothing is lost.
pub(super) fn json_of(value: rusqlite::types::ValueRef<'_>) -> Value {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::from(crate::domain::message_key::hex(bytes)),
        ValueRef::Real(number) => Value::from(number),
        ValueRef::Integer(number) => Value::from(number),
        ValueRef::Null => Value::Null,
    }
}
