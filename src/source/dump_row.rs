//! A row of an older system's log, wherever it is read.

use serde_json::{Map, Value};

use crate::domain::old_log::{Column, Columns, Field, Flaw, OldRow, Reader};

/// A row of the dump: understood; or where it stands and why it cannot be used.
pub type DumpRow = Result<Understood, (String, Flaw)>;

/// A row of the dump that counts.
pub struct Understood {
    pub row: OldRow,
    /// Its columns that mean nothing here, and its times where one of them cannot be read, as JSON.
    pub extra: Option<String>,
    /// Where it stands, when something stands in for a time that cannot be read.
    pub place: Option<String>,
}

/// What a row says, by its columns; `extra` is the value of one as it is.
pub(super) fn understand<'a>(
    reader: &Reader,
    columns: &Columns,
    place: impl Fn() -> String,
    field: &dyn Fn(usize) -> Field<'a>,
    extra: impl Fn(usize) -> Value,
) -> DumpRow {
    let row = reader.row(&|column| columns.place(column).map_or(Ok(None), field)).map_err(|flaw| (place(), flaw))?;
    let unreadable = row.stand_in.map(|_| [Column::CreatedAt, Column::LastSentAt]);
    let times = unreadable.into_iter().flatten().filter_map(|time| Some((columns.place(time)?, columns.name(time)?)));
    let kept: Map<String, Value> = columns
        .others()
        .chain(times)
        .map(|(at, name)| (name.to_owned(), extra(at)))
        .filter(|(_, value)| !value.is_null())
        .collect();
    let place = row.stand_in.map(|_| place());
    Ok(Understood { row, extra: (!kept.is_empty()).then(|| Value::Object(kept).to_string()), place })
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
