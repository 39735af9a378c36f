//! `add-index`: an old log becomes a ledger, in one transaction.

use rusqlite::Connection;

use super::rows::RowInsert;
use super::rules::{Rules, span};
use super::survey::{Survey, survey};
use super::table::{OldTable, Which, has_table};
use super::{LOG, OldLog, look};
use crate::domain::instant::Instant;
use crate::failure::Failure;
use crate::ledger::Kind;
use crate::ledger::sqlite::Undone;
use crate::ledger::sqlite::open::write_head;
use crate::ledger::sqlite::parts::SCHEMA_SQL;
use crate::ledger::sqlite::parts::{drop_indexes_and_triggers, parts_of_a_ledger};
use crate::output::count;

/// Tables of the older system that stay as they were, and what they are called from then on.
const ASIDE: [(&str, &str); 3] =
    [(LOG, "old_log"), ("removed_duplicate", "old_removed_duplicate"), ("kept_duplicate", "old_kept_duplicate")];
const ADOPTED: &str = "adopted";

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
    /// Mailed rows among them whose time cannot be read: they count as mailed at the adoption.
    pub mailed_now: u64,
    /// Rows that stay in `old_log` only: no shopper, or not readable.
    pub without_shopper: u64,
    pub unreadable: u64,
    pub unreadable_rows: Vec<String>,
}

impl OldLog {
    /// Refuses what cannot be adopted, and says what adoption would take over. Writes nothing.
    pub fn check_adoption(&self, adoption: &Adoption) -> Result<Survey, Failure> {
        look((&self.conn, &self.path), |conn| self.survey_ready(conn, adoption))
    }

    /// Turns the file into a ledger: killed at any instant, it is the old log as it was, or the whole ledger.
    ///
    /// # Errors
    /// Exit 65 while duplicates remain, or rows that cannot be read (unless they are to be set aside); nothing changes.
    pub fn adopt(self, adoption: &Adoption) -> Result<Adopted, Failure> {
        self.write(|conn| {
            let survey = self.survey_ready(conn, adoption)?;
            let (rows, removed_duplicates) = rebuild(conn, adoption)?;
            let expected = survey.usable();
            if rows != expected {
                let what = format!("taken over were {rows} of {}", count(expected, "row"));
                return Err(Undone::NotUnderstood(what));
            }
            let Survey { mailed_now, without_shopper, unreadable, unreadable_rows, .. } = survey;
            Ok(Adopted { rows, removed_duplicates, mailed_now, without_shopper, unreadable, unreadable_rows })
        })
    }

    /// A survey of a file that can be adopted; what cannot is refused.
    fn survey_ready(&self, conn: &Connection, adoption: &Adoption) -> Result<Survey, Undone> {
        let survey = survey(conn, &OldTable::inspect(conn, Which::UNADOPTED)?, &adoption.rules)?;
        let refuse = |what: String, next: String| {
            let what = format!("{}: {what}", self.path.display());
            Err(Undone::Refused(Failure::data(what, next).kept("nothing was changed")))
        };
        if survey.duplicates > 0 {
            return refuse(
                format!(
                    "{} of {} left, less than {} apart",
                    count(survey.duplicates, "duplicate"),
                    count(survey.groups, "row"),
                    span(adoption.rules.window_in_seconds)
                ),
                format!("run `mailonce cleanup-duplicates{}`, then `mailonce add-index` again", adoption.rules.flags()),
            );
        }
        if survey.unreadable > 0 && !adoption.set_aside {
            return refuse(
                format!("{} cannot be read: {}", count(survey.unreadable, "row"), survey.unreadable_rows.join("; ")),
                "correct them, or leave them in the table old_log only, where they keep no one from being mailed: `mailonce add-index --set-aside`".into(),
            );
        }
        let parts: Vec<_> = parts_of_a_ledger()?;
        for ((_, name), _) in parts.iter().filter(|((kind, _), _)| kind == "table") {
            let of_ours = ASIDE.iter().any(|(aside, _)| aside == name) || name == "cleanup";
            if !of_ours && has_table(conn, name)? {
                let what = format!("it has a table {name}, which a ledger needs for itself");
                return Err(Undone::NotUnderstood(what));
            }
        }
        Ok(survey)
    }
}

/// Puts the old tables aside, makes the ledger's, and fills them; says how many rows and removed duplicates it took over.
fn rebuild(conn: &Connection, adoption: &Adoption) -> Result<(u64, u64), Undone> {
    // What the older system hung on its table would keep names that the ledger needs, or fire later.
    drop_indexes_and_triggers(conn, LOG)?;
    for (name, aside) in ASIDE {
        if has_table(conn, name)? {
            conn.execute_batch(&format!("ALTER TABLE {name} RENAME TO {aside}"))?;
        }
    }
    conn.execute_batch("DROP TABLE IF EXISTS cleanup")?;
    conn.execute_batch(SCHEMA_SQL)?;
    let mut made_again = drop_indexes_and_triggers(conn, LOG)?;
    made_again.extend(drop_indexes_and_triggers(conn, "removed_duplicate")?);
    let taken = (take_rows(conn, &adoption.rules)?, take_removed_duplicates(conn, &adoption.rules)?);
    for sql in &made_again {
        conn.execute_batch(sql)?;
    }
    write_head(conn, adoption.kind, adoption.born_at, adoption.detect_window_in_seconds)?;
    Ok(taken)
}

fn take_rows(conn: &Connection, rules: &Rules) -> Result<u64, Undone> {
    let mut taken = 0;
    let mut insert = RowInsert::into(conn, LOG, &["id", "origin"])?;
    OldTable::inspect(conn, Which::SET_ASIDE)?.each_row(conn, &rules.reader, |id, row| {
        (rules.tick)();
        let Ok(row) = row else { return Ok(()) };
        taken += 1;
        insert.add(&row, None, &[&id, &ADOPTED])
    })?;
    Ok(taken)
}

fn take_removed_duplicates(conn: &Connection, rules: &Rules) -> Result<u64, Undone> {
    let mut taken = 0;
    if !has_table(conn, "old_removed_duplicate")? {
        return Ok(taken);
    }
    let table = match OldTable::inspect(conn, Which::REMOVED_SET_ASIDE) {
        // The older system's own table of that name.
        Err(Undone::NotUnderstood(_)) => return Ok(taken),
        table => table?,
    };
    let mut insert =
        RowInsert::into(conn, "removed_duplicate", &["origin", "removed_row", "kept_row", "moved_aside_at"])?;
    let mut places =
        conn.prepare("SELECT removed_row, kept_row, moved_aside_at FROM old_removed_duplicate WHERE rowid = ?1")?;
    table.each_row(conn, &rules.reader, |id, row| {
        let (removed_row, kept_row, at): (i64, i64, String) =
            places.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let Ok(row) = row else { return Ok(()) };
        taken += 1;
        insert.add(&row, None, &[&ADOPTED, &removed_row, &kept_row, &at])
    })?;
    Ok(taken)
}
