//! A ledger of an older schema, seen as one of today: what it lacks reads as the migration would make it. So every query is
//! written for one schema.

use rusqlite::Connection;

use super::parts::{SCHEMA_SQL, quoted};
use super::tally::{MESSAGES_COUNTED, REST_COUNTED};

/// What the columns read as that have no default of their own: table, column, expression. Any other is NULL.
const MADE_OF: [(&str, &str, &str); 1] = [("message", "episode", "CASE WHEN kind = 'cart' THEN message_key END")];

/// Tables whose rows are counts of others.
const COUNTED: [(&str, &str); 2] = [("message_tally", MESSAGES_COUNTED), ("tally", REST_COUNTED)];

/// Puts a temporary view before each table that lacks a column, or is not there at all.
pub(super) fn show_as_today(conn: &Connection) -> rusqlite::Result<()> {
    let today = Connection::open_in_memory()?;
    today.execute_batch(SCHEMA_SQL)?;
    for table in tables(&today)? {
        let (columns, found) = (columns(&today, &table)?, columns(conn, &table)?);
        let missing = columns.iter().filter(|(name, _)| found.iter().all(|(known, _)| known != name));
        let shown: Vec<String> = missing.map(|(name, default)| shown(&table, name, default)).collect();
        let name = quoted(&table);
        if found.is_empty() {
            let counted = COUNTED.iter().find(|(of, _)| *of == table).map(|(_, counted)| (*counted).to_owned());
            let rows = counted.unwrap_or_else(|| format!("SELECT {} WHERE 0", shown.join(", ")));
            conn.execute_batch(&format!("CREATE TEMP VIEW {name} AS {rows}"))?;
        } else if !shown.is_empty() {
            let shown = shown.join(", ");
            conn.execute_batch(&format!("CREATE TEMP VIEW {name} AS SELECT *, {shown} FROM main.{name}"))?;
        }
    }
    Ok(())
}

/// Takes the views away, before the tables become those of today.
pub(super) fn show_as_it_is(conn: &Connection) -> rusqlite::Result<()> {
    let views: Vec<String> = conn
        .prepare("SELECT name FROM sqlite_temp_schema WHERE type = 'view'")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    views.iter().try_for_each(|view| conn.execute_batch(&format!("DROP VIEW temp.{}", quoted(view))))
}

fn shown(table: &str, column: &str, default: &Option<String>) -> String {
    let made_of = MADE_OF.iter().find(|(of, name, _)| *of == table && *name == column).map(|(.., made_of)| *made_of);
    format!("{} AS {}", made_of.or(default.as_deref()).unwrap_or("NULL"), quoted(column))
}

fn tables(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Name and default of each column, generated ones too.
fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    conn.prepare("SELECT name, dflt_value FROM pragma_table_xinfo(?1, 'main')")?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
