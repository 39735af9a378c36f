//! A table of rows from an older system: its columns, and its rows read one after the other.

use std::borrow::Cow;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::LOG;
use crate::domain::old_log::{Column, Columns, Field, Flaw, OldRow, Reader, shown};
use crate::ledger::sqlite::Undone;
use crate::ledger::sqlite::parts::quoted;

/// Which rows of an older system are meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which {
    table: &'static str,
    condition: &'static str,
    /// Columns that are not the older system's.
    ours: &'static [&'static str],
    /// Whether what is moved aside can be put back, so that what this takes is noted in the file. In a ledger it stays, and
    /// there is a place for it.
    pub can_be_restored: bool,
}

impl Which {
    /// All of a file that was not adopted.
    pub const UNADOPTED: Which = Which { table: LOG, condition: "1", ours: &[], can_be_restored: true };
    /// Those of a ledger that have no message: what mailonce itself wrote is not looked at.
    pub const IN_LEDGER: Which =
        Which { table: LOG, condition: "message_key IS NULL", ours: &["id", "message_key"], can_be_restored: false };
    /// What adoption sets aside.
    pub const SET_ASIDE: Which = Which { table: "old_log", can_be_restored: false, ..Which::UNADOPTED };
    pub const REMOVED_SET_ASIDE: Which = Which {
        table: "old_removed_duplicate",
        ours: &["removed_row", "kept_row", "moved_aside_at"],
        ..Which::SET_ASIDE
    };
}

/// A table that holds rows of an older system, in an unadopted file or in a ledger.
#[derive(Debug, Clone)]
pub(super) struct OldTable {
    which: Which,
    pub columns: Columns,
    /// The name by which the row id can be had.
    pub row_id: &'static str,
    /// Whether a column is the row id by another name.
    pub has_key: bool,
}

impl OldTable {
    /// Looks at which columns the table has.
    pub fn inspect(conn: &Connection, which: Which) -> Result<OldTable, Undone> {
        let name = which.table;
        let not_understood = |problem: &str| Undone::NotUnderstood(format!("the table {name} {problem}"));
        let mut names =
            conn.prepare("SELECT name, upper(type) = 'INTEGER' AND pk > 0, pk FROM pragma_table_info(?1)")?;
        let columns: Vec<(String, bool, i64)> =
            names.query_map([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
        let keys = columns.iter().filter(|(_, _, pk)| *pk > 0).count();
        let has_key = keys == 1 && columns.iter().any(|(_, integer_key, _)| *integer_key);
        let without_row_id: Option<bool> = conn
            .query_row("SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'", [name], |row| row.get(0))
            .optional()?;
        let free = |alias: &&&str| !columns.iter().any(|(name, _, _)| name.eq_ignore_ascii_case(alias));
        let row_id = ["rowid", "_rowid_", "oid"].iter().find(free).copied();
        let names = columns.into_iter().map(|(name, _, _)| name).filter(|name| !which.ours.contains(&name.as_str()));
        let columns = Columns::find(names.collect()).map_err(|problem| not_understood(&problem))?;
        let row_id =
            row_id.filter(|_| without_row_id == Some(false)).ok_or_else(|| not_understood("has no row ids"))?;
        Ok(OldTable { which, columns, row_id, has_key })
    }

    /// What follows SELECT and its columns, for all rows that are meant.
    pub fn from(&self) -> String {
        format!("FROM {} WHERE {}", self.which.table, self.which.condition)
    }

    /// What the table calls the column, for SQL.
    pub fn quoted(&self, column: Column) -> Option<String> {
        self.columns.name(column).map(quoted)
    }

    /// What to SELECT for a column: its name, or NULL where there is none.
    pub fn expression(&self, column: Column) -> String {
        self.quoted(column).unwrap_or_else(|| "NULL".into())
    }

    /// All columns, for a SELECT or INSERT.
    pub fn list(&self) -> String {
        self.columns.names().iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
    }

    /// Hands each row, with its row id, to `each`, in the order of the row ids.
    pub fn each_row(
        &self,
        conn: &Connection,
        reader: &Reader,
        mut each: impl FnMut(i64, Result<OldRow, Flaw>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (list, rows, row_id) = (self.list(), self.from(), self.row_id);
        let mut rows = conn.prepare(&format!("SELECT {list}, {row_id} {rows} ORDER BY {row_id}"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get(self.columns.names().len())?, self.read(row, reader))?;
        }
        Ok(())
    }

    /// Why the row with this id cannot be used; `None` when it can. Its id in the older system comes with it.
    pub fn flaw_of(&self, conn: &Connection, row: i64, reader: &Reader) -> rusqlite::Result<Option<(String, Flaw)>> {
        let (list, name, row_id) = (self.list(), self.which.table, self.row_id);
        conn.prepare_cached(&format!("SELECT {list} FROM {name} WHERE {row_id} = ?1"))?.query_row([row], |found| {
            let id = self.columns.place(Column::Id).and_then(|place| field(found.get_ref(place).ok()?).ok()?);
            let id = id.map_or_else(|| row.to_string(), |id| shown(&id));
            Ok(self.read(found, reader).err().map(|flaw| (id, flaw)))
        })
    }

    fn read(&self, row: &Row<'_>, reader: &Reader) -> Result<OldRow, Flaw> {
        reader.row(&|column| match self.columns.place(column) {
            Some(place) => field(row.get_ref(place).unwrap_or(ValueRef::Null)),
            None => Ok(None),
        })
    }
}

/// A value as a field's text.
pub(super) fn field(value: ValueRef<'_>) -> Field<'_> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(Cow::Owned(number.to_string()))),
        // From 2^53 on a float skips whole numbers, so two ids could become one.
        ValueRef::Real(number) if number.is_finite() && number.abs() < 9_007_199_254_740_992.0 => {
            Ok(Some(Cow::Owned(number.to_string())))
        }
        ValueRef::Real(_) => Err("is a number too large to be exact"),
        ValueRef::Text(bytes) => {
            std::str::from_utf8(bytes).map(|text| Some(Cow::Borrowed(text))).map_err(|_| "is not UTF-8")
        }
        ValueRef::Blob(_) => Err("is a BLOB, not a text"),
    }
}

pub(super) fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = ?1")?.exists([name])
}
