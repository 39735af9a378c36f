//! `add-index`: an old log becomes a ledger, in one transaction.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::old_log::{OldLog, has_table};
use super::rows::RowInsert;
use super::survey::{self, Rules, Survey, span};
use super::table::{LOG, OldTable, not_understood};
use crate::domain::instant::Instant;
use crate::failure::Failure;
use crate::ledger::open::{SCHEMA_SQL, write_head};
use crate::ledger::parts::{Part, drop_indexes_and_triggers, parts_of_a_ledger};
use crate::ledger::{Kind, unusable};
use crate::output::count;

/// Tables of the older system that stay as they were, and what they are called from then on.
const ASIDE: [(&str, &str); 3] =
    [(LOG, "old_log"), ("removed_duplicate", "old_removed_duplicate"), ("kept_duplicate", "old_kept_duplicate")];

/// How an old log becomes a ledger.
#[derive(Clone)]
pub struct Adoption {
    pub kind: Kind,
    pub born_at: Instant,
    /// What the triggers use until the first run.
    pub detect_window_in_seconds: i64,
    pub rules: Rules,
    /// Leave rows that cannot be read in `old_log` only, instead of refusing.
    pub set_aside: bool,
}

/// What became of an old log.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Adopted {
    pub rows: u64,
    pub removed_duplicates: u64,
    /// Rows that stay in `old_log` only: no shopper, or not readable.
    pub without_shopper: u64,
    pub unreadable: u64,
    pub unreadable_rows: Vec<String>,
}

impl OldLog {
    /// Refuses what cannot be adopted, and says what adoption would take over. Writes nothing.
    pub fn check_adoption(&self, adoption: &Adoption) -> Result<Survey, Failure> {
        let survey = self.survey(&adoption.rules)?;
        refuse_unready(self, &self.conn, &survey, adoption)?;
        Ok(survey)
    }

    /// Turns the file into a ledger: killed at any instant, it is the old log as it was, or the whole ledger.
    ///
    /// # Errors
    /// Exit 65 while duplicates remain, or rows that cannot be read (unless they are to be set aside); nothing changes.
    pub fn adopt(mut self, adoption: &Adoption) -> Result<Adopted, Failure> {
        let path = self.path.clone();
        let failed = |err: rusqlite::Error| unusable(&path, &err);
        self.conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        self.conn.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        let mut conn = std::mem::replace(&mut self.conn, Connection::open_in_memory().map_err(failed)?);
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let survey = survey::survey(&tx, &path, &self.table, &adoption.rules)?;
        refuse_unready(&self, &tx, &survey, adoption)?;
        let mut adopted = rebuild(&tx, &self.table, adoption).map_err(failed)?;
        let expected = survey.rows - survey.without_shopper - survey.unreadable;
        if adopted.rows != expected {
            // Dropping the transaction leaves the old log as it was.
            let what = format!("{expected} rows should have been taken over, but {} were", adopted.rows);
            return Err(not_understood(&path, &what));
        }
        tx.commit().map_err(failed)?;
        adopted.without_shopper = survey.without_shopper;
        (adopted.unreadable, adopted.unreadable_rows) = (survey.unreadable, survey.unreadable_rows);
        Ok(adopted)
    }
}

fn refuse_unready(log: &OldLog, conn: &Connection, survey: &Survey, adoption: &Adoption) -> Result<(), Failure> {
    let path = log.path.display();
    if survey.duplicates > 0 {
        let window = span(adoption.rules.window_in_seconds);
        return Err(Failure::data(
            format!(
                "{path}: {} of {} left, less than {window} apart",
                count(survey.duplicates, "duplicate"),
                count(survey.groups, "row")
            ),
            format!("run `mailonce cleanup-duplicates{}`, then `mailonce add-index` again", adoption.rules.flags()),
        )
        .kept("nothing was changed"));
    }
    if survey.unreadable > 0 && !adoption.set_aside {
        return Err(Failure::data(
            format!("{path}: {} cannot be read: {}", count(survey.unreadable, "row"), survey.unreadable_rows.join("; ")),
            "correct them, or leave them in the table old_log only, where they keep no one from being mailed: `mailonce add-index --set-aside`",
        )
        .kept("nothing was changed"));
    }
    for name in table_names().map_err(|err| unusable(&log.path, &err))? {
        let of_ours = ASIDE.iter().any(|(aside, _)| *aside == name) || name == "cleanup";
        if !of_ours && has_table(conn, &name).map_err(|err| unusable(&log.path, &err))? {
            return Err(not_understood(&log.path, &format!("it has a table {name}, which a ledger needs for itself")));
        }
    }
    Ok(())
}

/// Puts the old tables aside, makes the ledger's, and fills them.
fn rebuild(tx: &Transaction<'_>, table: &OldTable, adoption: &Adoption) -> rusqlite::Result<Adopted> {
    // What the older system hung on its table would keep names that the ledger needs, or fire later.
    drop_indexes_and_triggers(tx, LOG)?;
    let mut removed = None;
    for (name, aside) in ASIDE {
        if has_table(tx, name)? {
            tx.execute_batch(&format!("ALTER TABLE {name} RENAME TO {aside}"))?;
        }
    }
    if has_table(tx, "old_removed_duplicate")? {
        let hidden = ["removed_row", "kept_row", "moved_aside_at"];
        removed = OldTable::inspect(tx, "old_removed_duplicate", "1", &hidden)?.ok();
    }
    tx.execute_batch("DROP TABLE IF EXISTS cleanup")?;
    tx.execute_batch(SCHEMA_SQL)?;
    let mut made_again = drop_indexes_and_triggers(tx, LOG)?;
    made_again.extend(drop_indexes_and_triggers(tx, "removed_duplicate")?);
    let mut adopted = Adopted::default();
    let table = OldTable { name: "old_log", ..table.clone() };
    let mut insert = RowInsert::into(tx, LOG, &["id", "origin"])?;
    table.each_row(tx, &adoption.rules.reader, |id, _, row| {
        (adoption.rules.tick)(1);
        let Ok(row) = row else { return Ok(()) };
        adopted.rows += 1;
        insert.add(&row, None, &[&id, &"adopted"])
    })?;
    drop(insert);
    if let Some(removed) = removed {
        let mut insert =
            RowInsert::into(tx, "removed_duplicate", &["origin", "removed_row", "kept_row", "moved_aside_at"])?;
        let mut places =
            tx.prepare("SELECT removed_row, kept_row, moved_aside_at FROM old_removed_duplicate WHERE rowid = ?1")?;
        removed.each_row(tx, &adoption.rules.reader, |id, _, row| {
            let (removed_row, kept_row, at): (i64, i64, String) =
                places.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let Ok(row) = row else { return Ok(()) };
            adopted.removed_duplicates += 1;
            insert.add(&row, None, &[&"adopted", &removed_row, &kept_row, &at])
        })?;
    }
    for sql in &made_again {
        tx.execute_batch(sql)?;
    }
    write_head(tx, adoption.kind, adoption.born_at, adoption.detect_window_in_seconds)?;
    Ok(adopted)
}

fn table_names() -> rusqlite::Result<Vec<String>> {
    let parts: Vec<Part> = parts_of_a_ledger()?;
    Ok(parts.into_iter().filter(|((kind, _), _)| kind == "table").map(|((_, name), _)| name).collect())
}
