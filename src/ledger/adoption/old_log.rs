//! A file that is an older system's log and not yet a ledger: duplicates moved aside and put back.
//!
//! Whatever happens here is one transaction in WAL mode: a reader sees the file before or after it, and so does the
//! next command when this one was killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::survey::{self, Rules, Survey};
use super::table::{LOG, OldTable, not_understood};
use crate::domain::instant::Instant;
use crate::domain::old_log::Column;
use crate::failure::Failure;
use crate::ledger::open::refuse_what_is_no_ledger;
use crate::ledger::parts::quoted;
use crate::ledger::{Access, Place, unusable};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The tables that `cleanup-duplicates` makes, besides `removed_duplicate`: what kept rows said before and were
/// made to say, and how it was run.
pub(super) const BOOKKEEPING: &str = "
    CREATE TABLE IF NOT EXISTS kept_duplicate (row INTEGER PRIMARY KEY, last_sent_at_before, last_sent_at_set);
    CREATE TABLE IF NOT EXISTS cleanup (
        one INTEGER PRIMARY KEY CHECK (one = 1), added_column INTEGER NOT NULL DEFAULT 0,
        window_in_seconds INTEGER NOT NULL, timezone TEXT);
";

/// What [`OldLog::restore`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Removed duplicates that are back.
    pub rows: u64,
    /// Rows that had been kept in their place and say something else now, which they keep, or are gone.
    pub written_since: u64,
}

/// How the last `cleanup-duplicates` was run; `add-index` goes by the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCleanup {
    pub window_in_seconds: i64,
    pub timezone: Option<String>,
}

/// A file with a table `cart_abandonment_log` that was not adopted.
#[derive(Debug)]
pub struct OldLog {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    pub(super) table: OldTable,
}

impl OldLog {
    /// Opens the file if it is one; `None` when it is a ledger, or something else that [`crate::ledger::Ledger::open`] judges.
    ///
    /// # Errors
    /// Exit 78 as for a ledger; exit 65 when the table lacks a column that is needed.
    pub fn open(place: Place<'_>, access: Access) -> Result<Option<OldLog>, Failure> {
        refuse_what_is_no_ledger(place)?;
        let path = place.path;
        let flags = match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write | Access::Decided => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let opened = || -> rusqlite::Result<_> {
            let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            conn.busy_timeout(BUSY_TIMEOUT)?;
            // What a dead run of a ledger left beside it is not to be taken away by this look.
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            if has_table(&conn, "ledger")? || !has_table(&conn, LOG)? {
                return Ok(None);
            }
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            // What the older system hung on its table is none of our doing: its triggers do not fire.
            conn.pragma_update(None, "foreign_keys", false)?;
            conn.pragma_update(None, "legacy_alter_table", true)?;
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            let table = OldTable::inspect(&conn, LOG, "1", &[])?;
            Ok(Some((conn, table)))
        };
        let Some((conn, table)) = opened().map_err(|err| unusable(path, &err))? else { return Ok(None) };
        let table = table.map_err(|problem| not_understood(path, &problem))?;
        Ok(Some(OldLog { conn, path: path.to_owned(), table }))
    }

    /// How `cleanup-duplicates` was last run on this file.
    pub fn last_cleanup(&self) -> Result<Option<LastCleanup>, Failure> {
        let read = || {
            if !has_table(&self.conn, "cleanup")? {
                return Ok(None);
            }
            let sql = "SELECT window_in_seconds, timezone FROM cleanup";
            let row =
                |row: &rusqlite::Row<'_>| Ok(LastCleanup { window_in_seconds: row.get(0)?, timezone: row.get(1)? });
            self.conn.query_row(sql, [], row).optional()
        };
        read().map_err(|err| unusable(&self.path, &err))
    }

    /// Looks for duplicates and writes nothing.
    pub fn survey(&self, rules: &Rules) -> Result<Survey, Failure> {
        let failed = |err: rusqlite::Error| unusable(&self.path, &err);
        // One state of the file for the whole look.
        self.conn.execute_batch("BEGIN").map_err(failed)?;
        let survey = survey::survey(&self.conn, &self.path, &self.table, rules);
        self.conn.execute_batch("ROLLBACK").map_err(failed)?;
        survey
    }

    /// Moves duplicates to `removed_duplicate`, in one transaction.
    pub fn move_duplicates(&mut self, rules: &Rules, now: Instant) -> Result<Survey, Failure> {
        let (path, table) = (self.path.clone(), self.table.clone());
        let failed = |err: rusqlite::Error| unusable(&path, &err);
        self.conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        self.conn.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let survey = survey::survey(&tx, &path, &table, rules)?;
        if survey.duplicates > 0 {
            let zone = rules.reader.zone.map(|zone| zone.to_string());
            let table = make_room(&tx, &path, &table, rules.window_in_seconds, zone)?;
            survey::move_aside(&tx, &table, now).map_err(failed)?;
            note_what_was_set(&tx, &table).map_err(failed)?;
            self.table = table;
        }
        tx.commit().map_err(failed)?;
        Ok(survey)
    }

    /// Puts every removed duplicate back, and what kept rows said before unless they were written to since.
    ///
    /// # Errors
    /// Exit 65 when a row's id was given to another since.
    pub fn restore(&mut self) -> Result<Restored, Failure> {
        let path = self.path.clone();
        let failed = |err: rusqlite::Error| unusable(&path, &err);
        if !has_table(&self.conn, "cleanup").map_err(failed)? {
            return Ok(Restored::default());
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let row_id = self.table.row_id;
        let list = self.table.list();
        let back = match self.table.has_key {
            true => format!("INSERT INTO {LOG} ({list}) SELECT {list} FROM removed_duplicate ORDER BY removed_row"),
            // A row id that no column holds may have been given to a new row; it means nothing then.
            false => format!(
                "INSERT INTO {LOG} ({row_id}, {list})
                 SELECT CASE WHEN EXISTS (SELECT 1 FROM {LOG} AS taken WHERE taken.{row_id} = removed_row) THEN NULL
                             ELSE removed_row END, {list}
                 FROM removed_duplicate ORDER BY removed_row"
            ),
        };
        let restored = tx.execute(&back, []).map_err(|err| match err.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Failure::data(
                format!("{}: a removed duplicate's place was taken by a new row since: {err}", path.display()),
                "look for it in removed_duplicate; give one of the two another id",
            )
            .kept("nothing was changed"),
            _ => failed(err),
        })?;
        let rest = || -> rusqlite::Result<usize> {
            let kept: usize = tx.query_row("SELECT count(*) FROM kept_duplicate", [], |row| row.get(0))?;
            let mut written_since = 0;
            if let Some(sent_at) = self.table.columns.name(Column::LastSentAt).map(quoted) {
                let as_before = tx.execute(
                    &format!(
                        "UPDATE {LOG} SET {sent_at} = last_sent_at_before FROM kept_duplicate
                         WHERE row = {LOG}.{row_id} AND {sent_at} IS last_sent_at_set"
                    ),
                    [],
                )?;
                written_since = kept - as_before;
                if tx.query_row("SELECT added_column FROM cleanup", [], |row| row.get(0))? {
                    tx.execute_batch(&format!("ALTER TABLE {LOG} DROP COLUMN {sent_at}"))?;
                }
            }
            tx.execute_batch("DROP TABLE removed_duplicate; DROP TABLE kept_duplicate; DROP TABLE cleanup")?;
            Ok(written_since)
        };
        let written_since = rest().map_err(failed)?;
        tx.commit().map_err(failed)?;
        Ok(Restored { rows: restored as u64, written_since: written_since as u64 })
    }
}

/// Makes the tables that duplicates are moved to, and the column that kept rows need; returns the table as it is then.
fn make_room(
    conn: &Connection,
    path: &Path,
    table: &OldTable,
    window_in_seconds: i64,
    zone: Option<String>,
) -> Result<OldTable, Failure> {
    let failed = |err: rusqlite::Error| unusable(path, &err);
    if !has_table(conn, "cleanup").map_err(failed)? {
        for name in ["removed_duplicate", "kept_duplicate"] {
            if has_table(conn, name).map_err(failed)? {
                return Err(not_understood(path, &format!("a table {name} is there that mailonce did not make")));
            }
        }
    }
    let made = || -> rusqlite::Result<OldTable> {
        conn.execute_batch(BOOKKEEPING)?;
        conn.execute(
            "INSERT INTO cleanup (one, window_in_seconds, timezone) VALUES (1, ?1, ?2)
             ON CONFLICT DO UPDATE SET window_in_seconds = excluded.window_in_seconds, timezone = excluded.timezone",
            (window_in_seconds, zone),
        )?;
        let mut table = table.clone();
        if table.columns.name(Column::LastSentAt).is_none() && survey::later_mails(conn)? > 0 {
            // Without a type, so that a value copied into it stays as it is.
            conn.execute_batch(&format!(
                "ALTER TABLE {LOG} ADD COLUMN last_sent_at; UPDATE cleanup SET added_column = 1"
            ))?;
            table = OldTable::inspect(conn, LOG, "1", &[])?.unwrap_or(table);
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
        if let Some(sent_at) = table.columns.name(Column::LastSentAt) {
            conn.execute(
                &format!(
                    "INSERT INTO kept_duplicate (row, last_sent_at_before)
                     SELECT {row_id}, {sent_at} FROM {LOG} WHERE {row_id} IN (SELECT kept FROM temp.latest_mail)
                     ON CONFLICT (row) DO UPDATE SET last_sent_at_before = excluded.last_sent_at_before
                     WHERE excluded.last_sent_at_before IS NOT last_sent_at_set",
                    sent_at = quoted(sent_at),
                    row_id = table.row_id
                ),
                [],
            )?;
        }
        Ok(table)
    };
    made().map_err(failed)
}

/// Keeps what kept rows say now: one that says something else later was written to by the older system, and a mail that
/// it knows of is not forgotten by putting back what the row said before.
fn note_what_was_set(conn: &Connection, table: &OldTable) -> rusqlite::Result<()> {
    let Some(sent_at) = table.columns.name(Column::LastSentAt).map(quoted) else { return Ok(()) };
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

pub(super) fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = ?1")?.exists([name])
}
