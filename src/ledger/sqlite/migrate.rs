//! A ledger of an older schema is brought up to date, in one transaction: killed at any instant, it is the old or the new.
//! Before, a copy of it is put beside it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rusqlite::Connection;

use super::older::show_as_it_is;
use super::open::{self, SCHEMA};
use super::parts::{SCHEMA_SQL, drop_part, makes_the_same, parts, parts_of_a_ledger};
use super::{Durability, Ledger, Records, tally};
use crate::failure::Failure;
use crate::output::count;

/// Indexes and triggers that an earlier schema had. What this one has no longer is dropped; what a person added stays.
const ONCE_OURS: [&str; 31] = [
    "message_by_state",
    "message_armed",
    "message_in_doubt",
    "message_of_shopper",
    "message_of_address",
    "message_of_cart",
    "one_planned_per_address",
    "one_planned_per_cart",
    "one_per_occurrence_and_address",
    "attempt_of_message",
    "resolution_of_message",
    "idx_user_cart_unique",
    "episode_once",
    "episode_of_address",
    "removed_duplicate_of_identity",
    "removed_duplicate_of_address",
    "occurrence_is_kept",
    "occurrence_is_decided_once",
    "message_begins_planned",
    "message_moves",
    "doubt_is_settled_on_record",
    "resolution_is_kept",
    "resolution_stands",
    "planned_again_runs_again",
    "message_is_kept",
    "message_is_itself",
    "arming_is_of_the_newest_run",
    "settling_is_of_the_arming_run",
    "window_on_planning",
    "window_on_arming",
    "email_sent_means_sent",
];

/// Type and name of a part of the schema, and the statement that makes it.
type Parts = BTreeMap<(String, String), String>;

impl Ledger {
    /// Brings the ledger to this program's schema, and says where the copy of the older one is; `None` when it was of this
    /// schema already. The caller holds the run lock.
    ///
    /// # Errors
    /// Exit 74: the disk refuses or has no room for the copy, or a table was changed by hand so that it cannot become the new
    /// one. Nothing is changed.
    pub fn migrate(&mut self) -> Result<Option<PathBuf>, Failure> {
        if self.schema == SCHEMA {
            return Ok(None);
        }
        // A copy cannot be made with views in front of its tables either.
        self.scratch(show_as_it_is)?;
        let copy = self.keep_copy()?;
        self.write(Durability::Full, |tx| {
            let expected = parts_of_a_ledger()?;
            let listed = take_out_suppressions(tx)?;
            let counts = !stored_columns(tx, "message_tally")?.is_empty();
            change_tables(tx, &expected)?;
            if listed {
                tx.execute_batch(
                    "INSERT INTO suppression (folded_address, reason, added_at, origin) SELECT * FROM temp.listed;
                     DROP TABLE temp.listed",
                )?;
            }
            // Before schema 4 every message about a cart was an abandonment of its own.
            tx.execute("UPDATE message SET episode = message_key WHERE kind = 'cart' AND episode IS NULL", [])?;
            change_indexes_and_triggers(tx, &expected)?;
            // Schema 1 had no reason of its own for what an old copy held back.
            tx.execute(
                "UPDATE message SET reason = 'held_back' WHERE state = 'skipped' AND reason = 'cancelled'
                     AND last_reply = 'the ledger was put back from a backup'",
                [],
            )?;
            // Schemas 1 and 2 kept a cancellation in the status alone.
            tx.execute(
                "UPDATE scheduled_campaign SET cancelled_at = (SELECT newest_at FROM ledger) WHERE status = 'cancelled'",
                [],
            )?;
            // Before schema 11 what is counted was counted when it was asked for.
            if !counts {
                tally::recount(tx)?;
            }
            tx.pragma_update(None, "user_version", SCHEMA)
        })?;
        self.records.schema = SCHEMA;
        Ok(Some(copy))
    }

    /// Copies the ledger to a file beside it, unless an empty one of that name says that a person keeps a copy elsewhere. One
    /// that an earlier upgrade left is replaced: the ledger may have gone on since, with an older mailonce.
    fn keep_copy(&self) -> Result<PathBuf, Failure> {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let beside = |end: &str| PathBuf::from(format!("{}.schema-{}{end}", path.display(), self.schema));
        let (copy, unfinished) = (beside(""), beside(".part"));
        if fs::metadata(&copy).is_ok_and(|meta| meta.len() == 0) {
            return Ok(copy);
        }
        let next = format!(
            "make room there; or copy {} and its -wal, if there is one, to another disk, and say so with `touch {}`; then start \
             the same command again",
            path.display(),
            copy.display()
        );
        let failed = |what: String| {
            let _ = fs::remove_file(&unfinished);
            let what =
                format!("the ledger is to be brought up to date, and no copy of it could be kept beforehand: {what}");
            Failure::ledger(what, next.clone()).kept("nothing was changed, nothing is sent")
        };
        let size = fs::metadata(&path).map_or(0, |meta| meta.len());
        let room = fs2::available_space(open::folder_of(&path)).unwrap_or(u64::MAX);
        // As much again as the copy needs stays for the ledger.
        if room < size.saturating_mul(2) {
            return Err(failed(format!("it has {}, and {} can be written", count(size, "byte"), count(room, "byte"))));
        }
        let made = || -> std::io::Result<()> {
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            let into = unfinished.as_os_str().to_string_lossy();
            self.conn().execute("VACUUM INTO ?1", [into]).map_err(std::io::Error::other)?;
            File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, &copy)?;
            File::open(open::folder_of(&path))?.sync_all()
        };
        made().map_err(|err| failed(err.to_string()))?;
        Ok(copy)
    }
}

impl Records {
    /// Whether a command with the run lock would bring it up to date first.
    pub fn is_of_an_older_schema(&self) -> bool {
        self.schema < SCHEMA
    }
}

/// Before schema 10 an address was on the suppression list for all mail or not at all, so that it was the key alone; a key
/// changes with its table. Says whether there was such a one.
fn take_out_suppressions(tx: &Connection) -> rusqlite::Result<bool> {
    let columns: Vec<String> = stored_columns(tx, "suppression")?.into_iter().map(|(name, ..)| name).collect();
    if columns != ["folded_address", "reason", "added_at", "origin"] {
        return Ok(false);
    }
    tx.execute_batch("CREATE TEMP TABLE listed AS SELECT * FROM main.suppression; DROP TABLE main.suppression")?;
    Ok(true)
}

/// Gives each table the statement it has today, in constant time: what is stored stays as it is. That is sound for
/// constraints, generated columns that are not stored, and columns added behind the others, which read as their
/// default or NULL.
fn change_tables(tx: &Connection, expected: &Parts) -> rusqlite::Result<()> {
    let found: Parts = parts(tx)?;
    let fresh = Connection::open_in_memory()?;
    fresh.execute_batch(SCHEMA_SQL)?;
    let mut changed = Vec::new();
    for ((kind, name), sql) in expected.iter().filter(|((kind, _), _)| kind == "table") {
        match found.get(&(kind.clone(), name.clone())) {
            None => tx.execute_batch(sql)?,
            Some(found) if makes_the_same(found, sql) => {}
            Some(_) => {
                let (before, after) = (stored_columns(tx, name)?, stored_columns(&fresh, name)?);
                let added = after.get(before.len()..).unwrap_or_default();
                if !after.starts_with(&before) || added.iter().any(|(_, _, needed)| *needed) {
                    let what = format!("the table {name} was changed by hand and cannot be brought up to date");
                    return Err(rusqlite::Error::ToSqlConversionFailure(what.into()));
                }
                changed.push((name, sql));
            }
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let version: i64 = tx.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    tx.pragma_update(None, "writable_schema", true)?;
    for (name, sql) in changed {
        tx.execute("UPDATE sqlite_schema SET sql = ?2 WHERE type = 'table' AND name = ?1", (name, sql))?;
    }
    tx.pragma_update(None, "schema_version", version + 1)?;
    // Switches it off, and reads the tables as they are described now.
    tx.execute_batch("PRAGMA writable_schema = RESET")
}

/// Name and type of what a row of this table holds, and whether a row that lacks it cannot be read: NOT NULL, no default.
fn stored_columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<(String, String, bool)>> {
    let mut rows = conn.prepare(
        "SELECT name, type, \"notnull\" AND dflt_value IS NULL FROM pragma_table_xinfo(?1) WHERE hidden <> 2",
    )?;
    rows.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

fn change_indexes_and_triggers(tx: &Connection, expected: &Parts) -> rusqlite::Result<()> {
    let found: Parts = parts(tx)?;
    let not_table = |(kind, _): &(String, String)| kind != "table";
    for (part, sql) in found.iter().filter(|(part, _)| not_table(part)) {
        let outdated = match expected.get(part) {
            Some(other) => !makes_the_same(other, sql),
            None => ONCE_OURS.contains(&part.1.as_str()),
        };
        if outdated {
            drop_part(tx, part)?;
        }
    }
    let found: Parts = parts(tx)?;
    for (_, sql) in expected.iter().filter(|(part, _)| not_table(part) && !found.contains_key(*part)) {
        tx.execute_batch(sql)?;
    }
    Ok(())
}
