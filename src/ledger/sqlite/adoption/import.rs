//! `import log`: rows of an older system into a ledger, each once, in one transaction.
//!
//! The rows wait in a temporary table until all are read. Then they are gone through in the order of the index that
//! finds them, and those that are new are added in the order of the dump: neither jumps about in a large ledger.

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension, Row};

use super::LOG;
use super::rows::{COLUMNS, RowInsert};
use crate::domain::instant::{self, Instant};
use crate::domain::old_log::OldRow;
use crate::failure::Failure;
use crate::ledger::sqlite::parts::drop_indexes_and_triggers;
use crate::ledger::sqlite::{Durability, Ledger, unusable};

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

impl Ledger {
    /// Imports the rows that `read` hands over: all of them, or none when it fails.
    ///
    /// A row is known by shopper, cart hash and creation. One that is there under the same id, or where one of the two
    /// has no id, is the same row; under another id it is a copy.
    pub fn import_log(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut dyn FnMut(&OldRow, Option<&str>) -> Result<(), Failure>) -> anyhow::Result<()>,
    ) -> anyhow::Result<ImportedRows> {
        let failed = |err: rusqlite::Error| unusable(&self.path, &err);
        let conn = self.conn();
        conn.execute_batch(&format!(
            "PRAGMA cache_size = -{CACHE_IN_KIB};
             PRAGMA temp.cache_size = -4000;
             DROP TABLE IF EXISTS temp.dump;
             CREATE TEMP TABLE dump AS SELECT {COLUMNS} FROM {LOG} WHERE 0;"
        ))
        .map_err(failed)?;
        // Only the temporary table is written to: whoever else writes need not wait while the dump is read.
        let staging = conn.unchecked_transaction().map_err(failed)?;
        let mut insert = RowInsert::into(&staging, "temp.dump", &[]).map_err(failed)?;
        read(&mut |row, extra| insert.add(row, extra, &[]).map_err(failed))?;
        drop(insert);
        staging.commit().map_err(failed)?;
        Ok(self.write(Durability::Full, |tx| {
            let counts = take_staged(tx, &instant::text(now))?;
            tx.execute_batch("DROP TABLE temp.dump")?;
            Ok(counts)
        })?)
    }
}

/// Decides about every staged row, and adds what is new.
fn take_staged(conn: &Connection, now: &str) -> rusqlite::Result<ImportedRows> {
    let highest = |id: &str, table: &str| -> rusqlite::Result<i64> {
        conn.query_row(&format!("SELECT coalesce(max({id}), 0) FROM {table}"), [], |row| row.get(0))
    };
    let (base, staged) = (highest("id", LOG)?, highest("rowid", "temp.dump")?);
    let mut is_new = vec![true; staged as usize + 1];
    let counts = decide(conn, base, now, &mut is_new)?;
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
        let news = News { old_id: row.get(4)?, email_sent: row.get(5)?, last_sent_at: row.get(6)? };
        Ok(Staged { seq: row.get(0)?, identity: row.get(1)?, cart_hash: row.get(2)?, created_at: row.get(3)?, news })
    }

    /// The row of the same shopper, cart and second that the ledger has.
    fn known(&self, conn: &Connection) -> rusqlite::Result<Option<Known>> {
        conn.prepare_cached(
            "SELECT id, old_id, email_sent, last_sent_at, message_key IS NOT NULL FROM cart_abandonment_log
             WHERE identity = ?1 AND cart_hash = ?2 AND created_at = ?3",
        )?
        .query_row((&self.identity, &self.cart_hash, &self.created_at), |row| {
            let news = News { old_id: row.get(1)?, email_sent: row.get(2)?, last_sent_at: row.get(3)? };
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
}

fn decide(conn: &Connection, base: i64, now: &str, is_new: &mut [bool]) -> rusqlite::Result<ImportedRows> {
    let mut counts = ImportedRows::default();
    let mut rows = conn.prepare(
        "SELECT rowid, identity, cart_hash, created_at, old_id, email_sent, last_sent_at FROM temp.dump
         ORDER BY identity, cart_hash, created_at, rowid",
    )?;
    let mut rows = rows.query([])?;
    let mut before: Option<(String, String, String)> = None;
    let mut known: Option<Known> = None;
    while let Some(row) = rows.next()? {
        let row = Staged::of(row)?;
        let key = (row.identity.clone(), row.cart_hash.clone(), row.created_at.clone());
        if before.as_ref() != Some(&key) {
            known = row.known(conn)?;
            before = Some(key);
        }
        let is_same = |known: &Known| {
            known.news.old_id.is_none() || row.news.old_id.is_none() || known.news.old_id == row.news.old_id
        };
        match &mut known {
            Some(known) if is_same(known) => match known.learn(conn, &row.news)? {
                true => counts.updated += 1,
                false => counts.already_there += 1,
            },
            _ if row.was_moved_aside(conn)? => counts.already_there += 1,
            Some(known) => {
                conn.prepare_cached(&format!(
                    "INSERT INTO removed_duplicate ({COLUMNS}, origin, kept_row, moved_aside_at)
                     SELECT {COLUMNS}, 'import', ?2, ?3 FROM temp.dump WHERE rowid = ?1"
                ))?
                .execute((row.seq, known.id, now))?;
                known.learn(conn, &row.news)?;
                counts.copies += 1;
            }
            None => {
                counts.added += 1;
                let seq = Some(row.seq);
                known = Some(Known { id: base + row.seq, news: row.news, has_message: false, seq });
                continue;
            }
        }
        is_new[row.seq as usize] = false;
    }
    Ok(counts)
}

impl Known {
    /// Lets the row learn that a mail went out, or a later one; says whether it did. A row that has a message is never
    /// touched.
    fn learn(&mut self, conn: &Connection, news: &News) -> rusqlite::Result<bool> {
        let is_news = (news.email_sent && !self.news.email_sent) || news.last_sent_at > self.news.last_sent_at;
        if self.has_message || !is_news {
            return Ok(false);
        }
        self.news.email_sent |= news.email_sent;
        self.news.last_sent_at = self.news.last_sent_at.take().max(news.last_sent_at.clone());
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
