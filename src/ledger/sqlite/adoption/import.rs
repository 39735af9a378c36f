//! `import log`: rows of an older system into a ledger, each once, in one transaction.
//!
//! The rows wait in a temporary table until all are read. Then they are gone through in the order of the index that
//! finds them, and those that are new are added in the order of the dump: neither jumps about in a large ledger.
//!
//! What a dry run says is decided by the same pass, which then writes nothing; where there is no ledger yet, on an empty one
//! in memory.

use std::path::Path;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension, Row};

use super::LOG;
use super::rows::{COLUMNS, RowInsert};
use crate::domain::instant::{self, Instant};
use crate::domain::old_log::{OldRow, StandIn};
use crate::failure::Failure;
use crate::ledger::sqlite::parts::SCHEMA_SQL;
use crate::ledger::sqlite::parts::drop_indexes_and_triggers;
use crate::ledger::sqlite::{Durability, Ledger, Records, unusable};

/// Bounds what the indexes of a million rows take of the memory.
const CACHE_IN_KIB: i64 = 16_384;

/// What became of the rows of a dump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportedRows {
    pub added: u64,
    /// Rows there already, with nothing new.
    pub already_there: u64,
    /// Rows there already that say now that a mail went out, or a later one.
    pub updated: u64,
    /// Copies of a row: the same shopper, cart and second under another id. They are in `removed_duplicate`.
    pub copies: u64,
}

/// Takes one row of a dump; what the ledger has no columns for comes with it, as JSON.
pub type Take<'a> = &'a mut dyn FnMut(&OldRow, Option<&str>) -> Result<(), Failure>;

impl Ledger {
    /// Imports the rows that `read` hands over: all of them, or none when it fails.
    ///
    /// A row is known by shopper, cart hash and creation. One that is there under the same id, or where one of the two
    /// has no id, is the same row; under another id it is a copy.
    pub fn import_log(
        &mut self,
        now: Instant,
        read: impl FnOnce(Take<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<ImportedRows> {
        stage(self.conn(), &self.path, read)?;
        Ok(self.write(Durability::Full, |tx| {
            let counts = take_staged(tx, &instant::text(now))?;
            tx.execute_batch("DROP TABLE temp.dump")?;
            Ok(counts)
        })?)
    }
}

impl Records {
    /// Says what [`Ledger::import_log`] would make of these rows. Writes nothing.
    pub fn look_at_import(&self, read: impl FnOnce(Take<'_>) -> anyhow::Result<()>) -> anyhow::Result<ImportedRows> {
        look_at_import(self.conn(), &self.path, read)
    }

    /// The same where there is no ledger yet, and none is made.
    pub fn look_at_first_import(
        path: &Path,
        read: impl FnOnce(Take<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<ImportedRows> {
        let empty = || {
            let conn = Connection::open_in_memory()?;
            conn.execute_batch(SCHEMA_SQL)?;
            Ok(conn)
        };
        look_at_import(&empty().map_err(|err| unusable(path, &err))?, path, read)
    }
}

fn look_at_import(
    conn: &Connection,
    path: &Path,
    read: impl FnOnce(Take<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<ImportedRows> {
    stage(conn, path, read)?;
    // One state of the ledger for all of it.
    let decided = || decide(&*conn.unchecked_transaction()?, 0, None, &mut Vec::new());
    Ok(decided().map_err(|err| unusable(path, &err))?)
}

/// Reads all rows into a temporary table.
fn stage(conn: &Connection, path: &Path, read: impl FnOnce(Take<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let failed = |err: rusqlite::Error| unusable(path, &err);
    conn.execute_batch(&format!(
        "PRAGMA cache_size = -{CACHE_IN_KIB};
         PRAGMA temp.cache_size = -4000;
         DROP TABLE IF EXISTS temp.dump;
         CREATE TEMP TABLE dump AS SELECT {COLUMNS}, 0 AS mailed_now FROM {LOG} WHERE 0;"
    ))
    .map_err(failed)?;
    // Only the temporary table is written to: whoever else writes need not wait while the dump is read.
    let staging = conn.unchecked_transaction().map_err(failed)?;
    let mut insert = RowInsert::into(&staging, "temp.dump", &["mailed_now"]).map_err(failed)?;
    read(&mut |row, extra| insert.add(row, extra, &[&(row.stand_in == Some(StandIn::MailedNow))]).map_err(failed))?;
    drop(insert);
    staging.commit().map_err(failed)?;
    Ok(())
}

/// Decides about every staged row, and adds what is new.
fn take_staged(conn: &Connection, now: &str) -> rusqlite::Result<ImportedRows> {
    let highest = |id: &str, table: &str| -> rusqlite::Result<i64> {
        conn.query_row(&format!("SELECT coalesce(max({id}), 0) FROM {table}"), [], |row| row.get(0))
    };
    let (base, staged) = (highest("id", LOG)?, highest("rowid", "temp.dump")?);
    let mut is_new = vec![true; staged as usize + 1];
    let counts = decide(conn, base, Some(now), &mut is_new)?;
    add(conn, base, counts.added, is_new)?;
    Ok(counts)
}

/// A row of the dump, as far as deciding about it goes.
struct Staged {
    seq: i64,
    identity: String,
    cart_hash: String,
    created_at: String,
    news: News,
}

/// What a row knows of mails, and its id in the older system.
struct News {
    old_id: Option<String>,
    email_sent: bool,
    last_sent_at: Option<String>,
    /// Whether `last_sent_at` is only when the dump was read, because the row's own time cannot be.
    mailed_now: bool,
}

/// The row of the ledger, or to be added to it, that a row of the dump is or is a copy of.
struct Known {
    id: i64,
    news: News,
    has_message: bool,
    /// Its row in the dump, when it waits there itself.
    seq: Option<i64>,
}

impl Staged {
    fn of(row: &Row<'_>) -> rusqlite::Result<Staged> {
        let news =
            News { old_id: row.get(4)?, email_sent: row.get(5)?, last_sent_at: row.get(6)?, mailed_now: row.get(7)? };
        Ok(Staged { seq: row.get(0)?, identity: row.get(1)?, cart_hash: row.get(2)?, created_at: row.get(3)?, news })
    }

    /// The row of the same shopper, cart and second that the ledger has.
    fn known(&self, conn: &Connection) -> rusqlite::Result<Option<Known>> {
        conn.prepare_cached(
            "SELECT id, old_id, email_sent, last_sent_at, message_key IS NOT NULL FROM cart_abandonment_log
             WHERE identity = ?1 AND cart_hash = ?2 AND created_at = ?3",
        )?
        .query_row((&self.identity, &self.cart_hash, &self.created_at), |row| {
            let news =
                News { old_id: row.get(1)?, email_sent: row.get(2)?, last_sent_at: row.get(3)?, mailed_now: false };
            Ok(Known { id: row.get(0)?, news, has_message: row.get(4)?, seq: None })
        })
        .optional()
    }

    fn was_moved_aside(&self, conn: &Connection) -> rusqlite::Result<bool> {
        conn.prepare_cached(
            "SELECT 1 FROM removed_duplicate WHERE identity = ?1 AND cart_hash = ?2 AND created_at = ?3
                 AND (old_id = ?4 OR old_id IS NULL OR ?4 IS NULL)",
        )?
        .exists((&self.identity, &self.cart_hash, &self.created_at, &self.news.old_id))
    }

    /// Adds the row as a copy of the one with this id.
    fn move_aside(&self, conn: &Connection, kept_row: i64, now: &str) -> rusqlite::Result<()> {
        conn.prepare_cached(&format!(
            "INSERT INTO removed_duplicate ({COLUMNS}, origin, kept_row, moved_aside_at)
             SELECT {COLUMNS}, 'import', ?2, ?3 FROM temp.dump WHERE rowid = ?1"
        ))?
        .execute((self.seq, kept_row, now))
        .map(|_| ())
    }
}

/// Decides about each staged row; what goes to other rows or tables is written at `now`, or not at all without it. Rows
/// that are not to be added become `false` in `is_new`, as far as it reaches.
fn decide(conn: &Connection, base: i64, now: Option<&str>, is_new: &mut [bool]) -> rusqlite::Result<ImportedRows> {
    let mut counts = ImportedRows::default();
    let mut rows = conn.prepare(
        "SELECT rowid, identity, cart_hash, created_at, old_id, email_sent, last_sent_at, mailed_now FROM temp.dump
         ORDER BY identity, cart_hash, created_at, rowid",
    )?;
    let mut rows = rows.query([])?;
    let mut before: Option<(String, String, String)> = None;
    let mut known: Option<Known> = None;
    // The ids of the copies of this row so far.
    let mut copies: Vec<Option<String>> = Vec::new();
    while let Some(row) = rows.next()? {
        let row = Staged::of(row)?;
        let key = (row.identity.clone(), row.cart_hash.clone(), row.created_at.clone());
        if before.as_ref() != Some(&key) {
            known = row.known(conn)?;
            copies.clear();
            before = Some(key);
        }
        match &mut known {
            Some(known) if is_same(&known.news.old_id, &row.news.old_id) => match known.learn(conn, now, &row.news)? {
                true => counts.updated += 1,
                false => counts.already_there += 1,
            },
            _ if copies.iter().any(|copy| is_same(copy, &row.news.old_id)) || row.was_moved_aside(conn)? => {
                counts.already_there += 1;
            }
            Some(known) => {
                if let Some(now) = now {
                    row.move_aside(conn, known.id, now)?;
                }
                known.learn(conn, now, &row.news)?;
                copies.push(row.news.old_id);
                counts.copies += 1;
            }
            None => {
                counts.added += 1;
                let seq = Some(row.seq);
                known = Some(Known { id: base + row.seq, news: row.news, has_message: false, seq });
                continue;
            }
        }
        if let Some(is_new) = is_new.get_mut(row.seq as usize) {
            *is_new = false;
        }
    }
    Ok(counts)
}

/// Whether two rows of one shopper, cart and second are the same row: one that has no id is any of them.
fn is_same(id: &Option<String>, other: &Option<String>) -> bool {
    id.is_none() || other.is_none() || id == other
}

impl Known {
    /// Lets the row learn that a mail went out, or a later one; says whether it did. A row that has a message is never
    /// touched. Without `now` only this value learns.
    fn learn(&mut self, conn: &Connection, now: Option<&str>, news: &News) -> rusqlite::Result<bool> {
        // Else each import of one dump would make its mails younger.
        let has_counted = news.mailed_now && self.news.email_sent && self.seq.is_none();
        let is_later = !has_counted && news.last_sent_at > self.news.last_sent_at;
        let is_news = (news.email_sent && !self.news.email_sent) || is_later;
        if self.has_message || !is_news {
            return Ok(false);
        }
        self.news.email_sent |= news.email_sent;
        self.news.last_sent_at = self.news.last_sent_at.take().max(news.last_sent_at.clone());
        if now.is_none() {
            return Ok(true);
        }
        let (table, column, id) = match self.seq {
            Some(seq) => ("temp.dump", "rowid", seq),
            None => (LOG, "id", self.id),
        };
        conn.prepare_cached(&format!("UPDATE {table} SET email_sent = ?2, last_sent_at = ?3 WHERE {column} = ?1"))?
            .execute((id, self.news.email_sent, &self.news.last_sent_at))?;
        Ok(true)
    }
}

/// Adds the new rows in the order of the dump. Where they are many beside what is there, the indexes are made anew after
/// that, each written in order, once.
fn add(conn: &Connection, base: i64, added: u64, is_new: Vec<bool>) -> rusqlite::Result<()> {
    if added == 0 {
        return Ok(());
    }
    conn.create_scalar_function("is_new", 1, FunctionFlags::SQLITE_UTF8, move |row| {
        Ok(is_new.get(row.get::<i64>(0)? as usize).copied())
    })?;
    // Row ids are given out one after the other, so the highest says about how many rows there are.
    let anew = added > base.unsigned_abs() / 2;
    let made_again = if anew { drop_indexes_and_triggers(conn, LOG)? } else { Vec::new() };
    conn.execute(
        &format!(
            "INSERT INTO {LOG} (id, {COLUMNS}, origin)
             SELECT ?1 + rowid, {COLUMNS}, 'import' FROM temp.dump WHERE is_new(rowid) ORDER BY rowid"
        ),
        [base],
    )?;
    for sql in &made_again {
        conn.execute_batch(sql)?;
    }
    Ok(())
}
