//! A value as a database holds it.

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde_json::Value;

use super::raw::{RawField, field_of_bytes, field_of_float};

const IS_BINARY: &str = "is a BLOB, not a text";

/// A value as it is stored: a text may be of any bytes, so that reading can go on after one that is not UTF-8.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Stored {
    /// The value as a field's text.
    pub fn field(&self) -> RawField {
        field(self.into())
    }
}

/// A value as a field's text.
pub(super) fn field(value: ValueRef<'_>) -> RawField {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(number.to_string())),
        ValueRef::Real(number) => field_of_float(number),
        ValueRef::Text(bytes) => field_of_bytes(bytes),
        ValueRef::Blob(_) => Err(IS_BINARY),
    }
}

/// A value as templates get it.
pub(super) fn value(value: ValueRef<'_>) -> Result<Value, &'static str> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(number.into()),
        ValueRef::Real(number) => Ok(number.into()),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map(Value::from).map_err(|_| "is not UTF-8"),
        ValueRef::Blob(_) => Err(IS_BINARY),
    }
}

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Stored> {
        Ok(match value {
            ValueRef::Null => Stored::Null,
            ValueRef::Integer(number) => Stored::Integer(number),
            ValueRef::Real(number) => Stored::Real(number),
            ValueRef::Text(bytes) => Stored::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Stored::Blob(bytes.to_vec()),
        })
    }
}

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.into()))
    }
}

impl<'a> From<&'a Stored> for ValueRef<'a> {
    fn from(stored: &'a Stored) -> ValueRef<'a> {
        match stored {
            Stored::Null => ValueRef::Null,
            Stored::Integer(number) => ValueRef::Integer(*number),
            Stored::Real(number) => ValueRef::Real(*number),
            Stored::Text(bytes) => ValueRef::Text(bytes),
            Stored::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}
