//! Duplicates that a survey found go to `removed_duplicate`; the rows that stay learn of the latest mail.

use rusqlite::Connection;

use super::rules::Rules;
use super::survey::{Survey, survey};
use super::table::{OldTable, Which, has_table};
use super::{LOG, OldLog};
use crate::domain::instant::{self, Instant};
use crate::domain::old_log::Column;
use crate::failure::Failure;
use crate::ledger::sqlite::parts::quoted;
use crate::ledger::sqlite::{Durability, Ledger, Undone};

/// What an unadopted file has besides `removed_duplicate`: what kept rows said before and were made to say, and how
/// `cleanup-duplicates` was run.
const BOOKKEEPING: &str = "
    CREATE TABLE IF NOT EXISTS kept_duplicate (row INTEGER PRIMARY KEY, last_sent_at_before, last_sent_at_set);
    CREATE TABLE IF NOT EXISTS cleanup (
        one INTEGER PRIMARY KEY CHECK (one = 1), added_column INTEGER NOT NULL DEFAULT 0,
        window_in_seconds INTEGER NOT NULL, timezone TEXT);
";

impl OldLog {
    /// Moves duplicates to `removed_duplicate`, in one transaction.
    pub fn move_aside(&self, rules: &Rules, now: Instant) -> Result<Survey, Failure> {
        self.write(|conn| move_aside(conn, Which::UNADOPTED, rules, now))
    }
}

impl Ledger {
    /// Moves duplicates of what it holds of older systems to `removed_duplicate`, in one transaction.
    pub fn move_aside(&mut self, rules: &Rules, now: Instant) -> Result<Survey, Failure> {
        self.write_unless_refused(Durability::Full, |conn| move_aside(conn, Which::IN_LEDGER, rules, now))
    }
}

fn move_aside(conn: &Connection, which: Which, rules: &Rules, now: Instant) -> Result<Survey, Undone> {
    let mut table = OldTable::inspect(conn, which)?;
    let survey = survey(conn, &table, rules)?;
    if survey.duplicates == 0 {
        return Ok(survey);
    }
    if which.can_be_restored {
        table = make_room(conn, table, rules)?;
    }
    move_duplicates(conn, &table, now)?;
    if which.can_be_restored {
        note_what_was_set(conn, &table)?;
    }
    Ok(survey)
}

/// Makes the tables of an unadopted file that duplicates are moved to, and the column that kept rows need; returns the
/// table as it is then.
fn make_room(conn: &Connection, mut table: OldTable, rules: &Rules) -> Result<OldTable, Undone> {
    if !has_table(conn, "cleanup")? {
        for name in ["removed_duplicate", "kept_duplicate"] {
            if has_table(conn, name)? {
                return Err(Undone::NotUnderstood(format!("a table {name} is there that mailonce did not make")));
            }
        }
    }
    conn.execute_batch(BOOKKEEPING)?;
    conn.execute(
        "INSERT INTO cleanup (one, window_in_seconds, timezone) VALUES (1, ?1, ?2)
         ON CONFLICT DO UPDATE SET window_in_seconds = excluded.window_in_seconds, timezone = excluded.timezone",
        (rules.window_in_seconds, rules.reader.zone.map(|zone| zone.to_string())),
    )?;
    let later_mails = "SELECT 1 FROM temp.latest_mail";
    if table.columns.name(Column::LastSentAt).is_none() && conn.prepare(later_mails)?.exists([])? {
        // Without a type, so that a value copied into it stays as it is.
        conn.execute_batch(&format!("ALTER TABLE {LOG} ADD COLUMN last_sent_at; UPDATE cleanup SET added_column = 1"))?;
        table = OldTable::inspect(conn, Which::UNADOPTED)?;
    }
    if !has_table(conn, "removed_duplicate")? {
        conn.execute_batch(&format!(
            "CREATE TABLE removed_duplicate AS SELECT * FROM {LOG} WHERE 0;
             ALTER TABLE removed_duplicate ADD COLUMN removed_row INTEGER;
             ALTER TABLE removed_duplicate ADD COLUMN kept_row INTEGER;
             ALTER TABLE removed_duplicate ADD COLUMN moved_aside_at TEXT;"
        ))?;
    }
    for name in table.columns.names() {
        let known = "SELECT 1 FROM pragma_table_info('removed_duplicate') WHERE lower(name) = lower(?1)";
        if !conn.prepare_cached(known)?.exists([name])? {
            conn.execute_batch(&format!("ALTER TABLE removed_duplicate ADD COLUMN {}", quoted(name)))?;
        }
    }
    if let Some(sent_at) = table.quoted(Column::LastSentAt) {
        conn.execute(
            &format!(
                "INSERT INTO kept_duplicate (row, last_sent_at_before)
                 SELECT {row_id}, {sent_at} FROM {LOG} WHERE {row_id} IN (SELECT kept FROM temp.latest_mail)
                 ON CONFLICT (row) DO UPDATE SET last_sent_at_before = excluded.last_sent_at_before
                 WHERE excluded.last_sent_at_before IS NOT last_sent_at_set",
                row_id = table.row_id
            ),
            [],
        )?;
    }
    Ok(table)
}

/// Moves what the survey found to `removed_duplicate`, which has all columns of the table, in the same transaction.
fn move_duplicates(conn: &Connection, table: &OldTable, now: Instant) -> rusqlite::Result<()> {
    let (row_id, list) = (table.row_id, table.list());
    if let Some(sent_at) = table.quoted(Column::LastSentAt) {
        let created_at = table.expression(Column::CreatedAt);
        conn.execute(
            &format!(
                "UPDATE {LOG} SET {sent_at} = (
                     SELECT CASE WHEN latest.created THEN source.{created_at} ELSE source.{sent_at} END
                     FROM temp.latest_mail AS latest JOIN {LOG} AS source ON source.{row_id} = latest.from_row
                     WHERE latest.kept = {LOG}.{row_id})
                 WHERE {row_id} IN (SELECT kept FROM temp.latest_mail)"
            ),
            [],
        )?;
    }
    conn.execute(
        &format!(
            "INSERT INTO removed_duplicate ({list}, removed_row, kept_row, moved_aside_at)
             SELECT {list}, duplicate.row, duplicate.kept, ?1
             FROM temp.duplicate AS duplicate JOIN {LOG} AS source ON source.{row_id} = duplicate.row
             ORDER BY duplicate.row"
        ),
        [instant::text(now)],
    )?;
    conn.execute(
        "UPDATE removed_duplicate SET kept_row = (SELECT kept FROM temp.duplicate WHERE row = kept_row)
         WHERE kept_row IN (SELECT row FROM temp.duplicate)",
        [],
    )?;
    conn.execute(&format!("DELETE FROM {LOG} WHERE {row_id} IN (SELECT row FROM temp.duplicate)"), [])?;
    Ok(())
}

/// Keeps what kept rows say now: one that says something else later was written to by the older system, and a mail that
/// it knows of is not forgotten by putting back what the row said before.
fn note_what_was_set(conn: &Connection, table: &OldTable) -> rusqlite::Result<()> {
    let Some(sent_at) = table.quoted(Column::LastSentAt) else { return Ok(()) };
    conn.execute(
        &format!(
            "UPDATE kept_duplicate SET last_sent_at_set = {LOG}.{sent_at} FROM {LOG}
             WHERE {LOG}.{row_id} = row AND row IN (SELECT kept FROM temp.latest_mail)",
            row_id = table.row_id
        ),
        [],
    )?;
    Ok(())
}
