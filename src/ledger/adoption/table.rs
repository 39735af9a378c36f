//! A table of rows from an older system: its columns, and its rows read one after the other.

use std::borrow::Cow;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::domain::old_log::{Column, Columns, Field, Flaw, OldRow, Reader};
use crate::failure::Failure;
use crate::ledger::parts::quoted;

/// The table of an older system's abandonments, and ours.
pub(super) const LOG: &str = "cart_abandonment_log";

/// A table that holds rows of an older system, in an unadopted file or in a ledger.
#[derive(Debug, Clone)]
pub(super) struct OldTable {
    pub name: &'static str,
    pub columns: Columns,
    /// The name by which the row id can be had.
    pub row_id: &'static str,
    /// Whether a column is the row id by another name.
    pub has_key: bool,
    /// Which of its rows are meant.
    pub condition: &'static str,
}

impl OldTable {
    /// Looks at which columns the table has. Columns in `hidden` are left out.
    ///
    /// # Errors
    /// Words for what is missing.
    pub fn inspect(
        conn: &Connection,
        name: &'static str,
        condition: &'static str,
        hidden: &[&str],
    ) -> rusqlite::Result<Result<OldTable, String>> {
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
        let names = columns.into_iter().map(|(name, _, _)| name).filter(|name| !hidden.contains(&name.as_str()));
        let columns = match Columns::find(names.collect()) {
            Ok(columns) => columns,
            Err(problem) => return Ok(Err(format!("the table {name} {problem}"))),
        };
        Ok(match row_id.filter(|_| without_row_id == Some(false)) {
            Some(row_id) => Ok(OldTable { name, columns, row_id, has_key, condition }),
            None => Err(format!("the table {name} has no row ids")),
        })
    }

    /// What to SELECT for a column: its name, or NULL where there is none.
    pub fn expression(&self, column: Column) -> String {
        self.columns.name(column).map_or_else(|| "NULL".into(), quoted)
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
        mut each: impl FnMut(i64, &Row<'_>, Result<OldRow, Flaw>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (list, name, row_id, condition) = (self.list(), quoted(self.name), self.row_id, self.condition);
        let mut rows =
            conn.prepare(&format!("SELECT {list}, {row_id} FROM {name} WHERE {condition} ORDER BY {row_id}"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get(self.columns.names().len())?, row, self.read(row, reader))?;
        }
        Ok(())
    }

    /// Why the row with this id cannot be used; `None` when it can. Its id in the older system comes with it.
    pub fn flaw_of(&self, conn: &Connection, row: i64, reader: &Reader) -> rusqlite::Result<Option<(String, Flaw)>> {
        let (list, name, row_id) = (self.list(), quoted(self.name), self.row_id);
        conn.prepare_cached(&format!("SELECT {list} FROM {name} WHERE {row_id} = ?1"))?.query_row([row], |found| {
            let id = self.columns.place(Column::Id).and_then(|place| field(found.get_ref(place).ok()?).ok()?);
            let id = id.map_or_else(|| row.to_string(), |id| crate::domain::old_log::shown(&id));
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

/// The refusal of a file whose log cannot be understood: exit 65.
pub(super) fn not_understood(path: &Path, problem: &str) -> Failure {
    Failure::data(
        format!("{}: {problem}", path.display()),
        "make a new ledger with `mailonce init` and bring the rows over with `mailonce import log`",
    )
    .kept("nothing was changed")
}
