//! The parts of a schema: tables, indexes and triggers, and which of them a ledger lacks.

use rusqlite::Connection;

use super::{Durability, Ledger, Reading, Records, tally};
use crate::failure::Failure;
use crate::output::count;

/// Every table, index and trigger of a ledger, as this program makes it.
pub(super) const SCHEMA_SQL: &str = include_str!("schema.sql");

/// How a duplicate check looks for a row of this user and cart since a given time.
const DUPLICATE_CHECK: &str =
    "SELECT 1 FROM cart_abandonment_log WHERE user_id = ?1 AND cart_hash = ?2 AND created_at > ?3";

/// Type and name of a part, and the statement that makes it.
type Part = ((String, String), String);

/// The parts that a file has, in the order in which they were made.
pub(super) fn parts<C: FromIterator<Part>>(conn: &Connection) -> rusqlite::Result<C> {
    let mut rows = conn.prepare("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?.collect()
}

/// The parts of a ledger as this program makes it.
pub(super) fn parts_of_a_ledger<C: FromIterator<Part>>() -> rusqlite::Result<C> {
    let model = Connection::open_in_memory()?;
    model.execute_batch(SCHEMA_SQL)?;
    parts(&model)
}

/// Takes the indexes off a table that is to be filled, and the triggers that would look into them for each row. The
/// statements that are returned make them again, each index written in order, once; what it must hold, it still refuses.
pub(super) fn drop_indexes_and_triggers(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut rows = conn.prepare(
        "SELECT type, name, sql FROM sqlite_schema
         WHERE type IN ('index', 'trigger') AND lower(tbl_name) = ?1 AND sql IS NOT NULL ORDER BY type",
    )?;
    let parts: Vec<Part> =
        rows.query_map([table], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?.collect::<Result<_, _>>()?;
    parts.into_iter().map(|(part, sql)| drop_part(conn, &part).map(|()| sql)).collect()
}

pub(super) fn drop_part(conn: &Connection, (kind, name): &(String, String)) -> rusqlite::Result<()> {
    conn.execute_batch(&format!("DROP {kind} {}", quoted(name)))
}

/// Whether two statements make the same: comments and white space between words mean nothing.
pub(super) fn makes_the_same(one: &str, other: &str) -> bool {
    words(one) == words(other)
}

/// A statement without comments and with one blank for white space; what stands in quotes is kept.
fn words(sql: &str) -> String {
    let mut words = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |at| at + 2),
            _ if rest.starts_with("--") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            _ if first.is_whitespace() => {
                rest = rest.trim_start();
                if !words.ends_with(' ') {
                    words.push(' ');
                }
                continue;
            }
            _ => first.len_utf8(),
        };
        words.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    words.trim().to_owned()
}

/// An identifier for SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Ledger {
    /// Makes the indexes and triggers that this ledger lacks, and counts anew what they keep counted, in one transaction; says which.
    ///
    /// # Errors
    /// Exit 65 when rows are there twice, so that a unique index cannot be made.
    pub fn add_missing_parts(&mut self) -> Result<Vec<String>, Failure> {
        let twice: u64 = self.read(|conn| {
            conn.query_row(
                "SELECT coalesce(sum(rows - 1), 0) FROM (SELECT count(*) AS rows FROM cart_abandonment_log
                     GROUP BY identity, cart_hash, created_at HAVING count(*) > 1)",
                [],
                |row| row.get(0),
            )
        })?;
        if twice > 0 {
            return Err(Failure::data(
                format!("{}: {} left", self.path.display(), count(twice, "duplicate")),
                "run `mailonce cleanup-duplicates`, then `mailonce add-index` again",
            )
            .kept("nothing was changed"));
        }
        self.write(Durability::Full, |tx| {
            let missing = missing(&Reading(tx))?;
            for (_, sql) in &missing {
                tx.execute_batch(sql)?;
            }
            tally::recount(tx)?;
            Ok(missing.into_iter().map(|(name, _)| name).collect())
        })
    }
}

impl Records {
    /// The indexes and triggers that this ledger lacks.
    pub fn missing_parts(&self) -> Result<Vec<String>, Failure> {
        self.read(|conn| Ok(missing(conn)?.into_iter().map(|(name, _)| name).collect()))
    }

    /// How SQLite looks for a duplicate: its own words, and whether that is by `idx_user_cart_unique`.
    pub fn duplicate_check(&self) -> Result<(String, bool), Failure> {
        let plan = self.read(|conn| {
            conn.query_row(&format!("EXPLAIN QUERY PLAN {DUPLICATE_CHECK}"), ["", "", ""], |row| {
                row.get::<_, String>(3)
            })
        })?;
        let uses_index = plan.contains("idx_user_cart_unique");
        Ok((plan, uses_index))
    }
}

/// Name and statement of what is missing.
fn missing(conn: &Reading<'_>) -> rusqlite::Result<Vec<(String, String)>> {
    let found: std::collections::BTreeMap<_, _> = parts(conn.0)?;
    let lacking = |(part, _): &Part| part.0 != "table" && !found.contains_key(part);
    let expected: Vec<Part> = parts_of_a_ledger()?;
    Ok(expected.into_iter().filter(lacking).map(|((_, name), sql)| (name, sql)).collect())
}

#[cfg(test)]
mod tests {
    use super::makes_the_same;

    #[test]
    fn comments_and_white_space_make_no_difference_and_everything_else_does() {
        let table = "CREATE TABLE t (\n    -- what it is for\n    a TEXT CHECK (a <> '--  x') -- last\n)";
        assert!(makes_the_same(table, "CREATE TABLE t ( a TEXT CHECK (a <> '--  x') )"));
        for other in ["CREATE TABLE t ( a TEXT CHECK (a <> '-- x') )", "CREATE TABLE t ( a TEXT CHECK (a <> 'x') )"] {
            assert!(!makes_the_same(table, other), "{other}");
        }
    }
}
