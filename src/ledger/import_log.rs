//! `import log`: rows of an older system into a ledger, each once, in one transaction.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::old_rows::{INSERT_REMOVED, INSERT_ROW, insert_removed, insert_row};
use super::{Ledger, unusable};
use crate::domain::instant::{self, Instant};
use crate::domain::old_log::OldRow;
use crate::failure::Failure;

/// Bounds what the indexes of a million rows take of the memory.
const CACHE_IN_KIB: i64 = 32_768;

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

/// Takes rows, within the transaction of [`Ledger::import_log`].
pub struct Inserter<'a> {
    conn: &'a Connection,
    now: String,
    counts: ImportedRows,
}

impl Ledger {
    /// Imports the rows that `read` hands over: all of them, or none when it fails.
    ///
    /// A row is known by shopper, cart hash and creation. One that is there under the same id, or where one of the two
    /// has no id, is the same row; under another id it is a copy.
    pub fn import_log<T>(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut dyn FnMut(&OldRow, Option<&str>) -> Result<(), Failure>) -> Result<T, Failure>,
    ) -> Result<(T, ImportedRows), Failure> {
        let path = self.path.clone();
        let failed = |err: rusqlite::Error| unusable(&path, &err);
        let conn = self.conn.as_mut().expect("the connection is only taken on drop");
        conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        conn.pragma_update(None, "cache_size", -CACHE_IN_KIB).map_err(failed)?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut inserter = Inserter { conn: &tx, now: instant::text(now), counts: ImportedRows::default() };
        let value = read(&mut |row, extra| inserter.take(row, extra).map_err(failed))?;
        let counts = inserter.counts;
        tx.commit().map_err(|err| {
            self.broken.set(true);
            failed(err)
        })?;
        Ok((value, counts))
    }
}

/// A row of the ledger that a row of the dump may be.
struct Known {
    id: i64,
    old_id: Option<String>,
    email_sent: bool,
    last_sent_at: Option<String>,
    has_message: bool,
}

impl Inserter<'_> {
    fn take(&mut self, row: &OldRow, extra: Option<&str>) -> rusqlite::Result<()> {
        let created_at = instant::text(row.created_at);
        let known = self
            .conn
            .prepare_cached(
                "SELECT id, old_id, email_sent, last_sent_at, message_key IS NOT NULL FROM cart_abandonment_log
                 WHERE identity = ?1 AND cart_hash = ?2 AND created_at = ?3",
            )?
            .query_row((&row.identity, &row.cart_hash, &created_at), |found| {
                Ok(Known {
                    id: found.get(0)?,
                    old_id: found.get(1)?,
                    email_sent: found.get(2)?,
                    last_sent_at: found.get(3)?,
                    has_message: found.get(4)?,
                })
            })
            .optional()?;
        let same = |known: &Known| known.old_id.is_none() || row.old_id.is_none() || known.old_id == row.old_id;
        match known {
            Some(known) if same(&known) => match self.merge(row, &known)? {
                true => self.counts.updated += 1,
                false => self.counts.already_there += 1,
            },
            known => {
                let was_moved = self
                    .conn
                    .prepare_cached(
                        "SELECT 1 FROM removed_duplicate
                         WHERE identity = ?1 AND cart_hash = ?2 AND created_at = ?3
                           AND (old_id = ?4 OR old_id IS NULL OR ?4 IS NULL)",
                    )?
                    .exists((&row.identity, &row.cart_hash, &created_at, &row.old_id))?;
                match known {
                    _ if was_moved => self.counts.already_there += 1,
                    Some(known) => {
                        let place = (None, known.id, self.now.as_str());
                        insert_removed(&mut *self.conn.prepare_cached(INSERT_REMOVED)?, row, "import", extra, place)?;
                        self.merge(row, &known)?;
                        self.counts.copies += 1;
                    }
                    None => {
                        insert_row(&mut *self.conn.prepare_cached(INSERT_ROW)?, None, row, "import", extra)?;
                        self.counts.added += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets a known row learn that a mail went out, or a later one; says whether it did. A row that has a message is
    /// never touched.
    fn merge(&self, row: &OldRow, known: &Known) -> rusqlite::Result<bool> {
        let last_sent_at = row.last_sent_at.map(instant::text);
        let news = (row.email_sent && !known.email_sent) || last_sent_at > known.last_sent_at;
        if known.has_message || !news {
            return Ok(false);
        }
        self.conn
            .prepare_cached(
                "UPDATE cart_abandonment_log SET email_sent = max(email_sent, ?2),
                     last_sent_at = nullif(max(coalesce(last_sent_at, ''), coalesce(?3, '')), '') WHERE id = ?1",
            )?
            .execute((known.id, row.email_sent, last_sent_at))?;
        Ok(true)
    }
}
