//! What the shop's tables look like: their columns, row ids and indexes.

use std::collections::HashMap;

use anyhow::Result;
use rusqlite::Connection;

use super::cannot_read;
use crate::failure::Failure;

/// What to SELECT for the columns, NULL for one that is optional and missing; and the declared type of each column.
pub(super) fn select_list(
    connection: &Connection,
    name: &str,
    table: &str,
    columns: &[(&str, bool)],
    key: &str,
) -> Result<(String, HashMap<String, String>)> {
    let types = types_of(connection, name, table)?;
    let next =
        format!("name what carts and orders are called in this shop: set `{key}` to a query, as docs/guide.md shows");
    if types.is_empty() {
        return Err(Failure::config(format!("the shop's database {name} has no table {table}"), next).into());
    }
    let missing: Vec<&str> = columns
        .iter()
        .filter(|(column, required)| *required && !types.contains_key(*column))
        .map(|(column, _)| *column)
        .collect();
    if !missing.is_empty() {
        let what = format!("the table {table} in {name} lacks {}", missing.join(", "));
        return Err(Failure::config(what, next).into());
    }
    let list: Vec<&str> =
        columns.iter().map(|(column, _)| if types.contains_key(*column) { *column } else { "NULL" }).collect();
    Ok((list.join(", "), types))
}

/// The declared type of each column of a table, by its name in lower case; none where there is no such table.
pub(super) fn types_of(connection: &Connection, name: &str, table: &str) -> Result<HashMap<String, String>, Failure> {
    let read = || -> rusqlite::Result<HashMap<String, String>> {
        let mut statement = connection.prepare("SELECT lower(name), type FROM pragma_table_xinfo(?1)")?;
        statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    read().map_err(|err| cannot_read(name, &err))
}

/// The name by which the row id of `carts` can be had; `None` for a view or a table without row ids.
pub(super) fn row_id_name(connection: &Connection) -> rusqlite::Result<Option<&'static str>> {
    let is_plain: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_list
                        WHERE schema = 'main' AND lower(name) = 'carts' AND type = 'table' AND wr = 0)",
        [],
        |row| row.get(0),
    )?;
    if !is_plain {
        return Ok(None);
    }
    for alias in ["_rowid_", "rowid", "oid"] {
        let taken = "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo('carts') WHERE lower(name) = ?1)";
        if !connection.query_row(taken, [alias], |row| row.get::<_, bool>(0))? {
            return Ok(Some(alias));
        }
    }
    Ok(None)
}

/// What an index must be like to serve a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    /// In any collation: a look by `=` goes by the column's own.
    Any,
    Bytewise,
    /// Bytewise, unique, and on this column alone.
    KeepsUnique,
}

/// Whether a whole index begins with the column.
pub(super) fn has_index(connection: &Connection, table: &str, column: &str, serves: Serves) -> rusqlite::Result<bool> {
    let and = match serves {
        Serves::Any => "",
        Serves::Bytewise => "AND x.coll = 'BINARY'",
        Serves::KeepsUnique => {
            "AND x.coll = 'BINARY' AND \"unique\" = 1 AND (SELECT count(*) FROM pragma_index_info(l.name)) = 1"
        }
    };
    let sql = format!(
        "SELECT EXISTS (
             SELECT 1 FROM pragma_index_list(?1) AS l, pragma_index_xinfo(l.name) AS x
             WHERE l.partial = 0 AND x.seqno = 0 AND lower(x.name) = ?2 {and})"
    );
    connection.query_row(&sql, [table, column], |row| row.get(0))
}

/// So many rows, and reading a table whole takes longer than all else in a run with nothing to do.
const MANY_ROWS: u32 = 10_000;

/// Whether a table of many rows has no index that serves looks by the column. A view can have none.
pub(super) fn lacks_index(
    connection: &Connection,
    table: &str,
    column: &str,
    serves: Serves,
) -> rusqlite::Result<bool> {
    let is_table =
        "SELECT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND lower(name) = ?1 AND type = 'table')";
    let many = format!("SELECT count(*) = {MANY_ROWS} FROM (SELECT 1 FROM {table} LIMIT {MANY_ROWS})");
    Ok(connection.query_row(is_table, [table], |row| row.get(0))?
        && !has_index(connection, table, column, serves)?
        && !is_row_id(connection, table, column)?
        && connection.query_row(&many, [], |row| row.get(0))?)
}

/// Whether the column is the row id by another name.
pub(super) fn is_row_id(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT count(*) = 1 AND max(lower(name) = ?2 AND upper(type) = 'INTEGER')
         FROM pragma_table_xinfo(?1) WHERE pk > 0",
        [table, column],
        |row| row.get::<_, Option<bool>>(0).map(|is| is.unwrap_or(false)),
    )
}
