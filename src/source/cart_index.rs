//! What one pass over the carts leaves behind: where each cart stands, and which addresses ordered when.
//!
//! It lives in a private database that SQLite keeps in a nameless temporary file, so memory stays flat however many
//! carts there are. A cart id is kept as a 64-bit hash, keyed at random for each pass: among a million carts two
//! share one with a chance of 3 in 100 million, and then the second is reported as a duplicate, never mixed up, because
//! whoever reads a cart at its offset compares the id it finds there.

use std::hash::{BuildHasher, RandomState};

use rusqlite::{Connection, OptionalExtension, params};

use super::raw::Position;
use crate::domain::instant::Instant;
use crate::failure::{Exit, Failure};

/// The index of the carts that one pass saw.
pub(super) struct CartIndex {
    temporary: Connection,
    hasher: RandomState,
}

impl CartIndex {
    /// An empty index, with one transaction open that [`CartIndex::finish`] ends.
    pub fn begin() -> rusqlite::Result<CartIndex> {
        let temporary = Connection::open("")?;
        temporary.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -12288;
             CREATE TABLE seen (id_hash INTEGER PRIMARY KEY, byte_offset INTEGER NOT NULL, line INTEGER NOT NULL,
                                twice INTEGER NOT NULL DEFAULT 0) STRICT;
             CREATE TABLE ordered (folded TEXT PRIMARY KEY, latest INTEGER NOT NULL) STRICT, WITHOUT ROWID;
             BEGIN",
        )?;
        Ok(CartIndex { temporary, hasher: RandomState::new() })
    }

    /// Notes where a cart stands. `false` when the same cart id was noted before.
    pub fn note(&self, cart_id: &str, position: Position) -> rusqlite::Result<bool> {
        let mut insert =
            self.temporary.prepare_cached("INSERT INTO seen VALUES (?1, ?2, ?3, 0) ON CONFLICT DO NOTHING")?;
        let noted = insert.execute(params![self.hash(cart_id), position.offset as i64, position.line as i64])?;
        if noted == 0 {
            let mut update = self.temporary.prepare_cached("UPDATE seen SET twice = 1 WHERE id_hash = ?1")?;
            update.execute([self.hash(cart_id)])?;
        }
        Ok(noted == 1)
    }

    /// Notes that an address ordered.
    pub fn note_order(&self, folded: &str, at: Instant) -> rusqlite::Result<()> {
        let mut upsert = self.temporary.prepare_cached(
            "INSERT INTO ordered VALUES (?1, ?2) ON CONFLICT DO UPDATE SET latest = max(latest, excluded.latest)",
        )?;
        upsert.execute(params![folded, at.timestamp()])?;
        Ok(())
    }

    /// Ends the pass.
    pub fn finish(&self) -> rusqlite::Result<()> {
        self.temporary.execute_batch("COMMIT")
    }

    /// Where the cart with this id, or one with the same hash, stands first, and whether it was noted more than once.
    pub fn position(&self, cart_id: &str) -> rusqlite::Result<Option<(Position, bool)>> {
        let mut select =
            self.temporary.prepare_cached("SELECT byte_offset, line, twice FROM seen WHERE id_hash = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            let (offset, line) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64);
            Ok((Position { offset, line }, row.get(2)?))
        };
        select.query_row([self.hash(cart_id)], read).optional()
    }

    /// Whether the folded address ordered at or after an instant.
    pub fn ordered_since(&self, folded: &str, since: Instant) -> rusqlite::Result<bool> {
        let mut select = self.temporary.prepare_cached("SELECT 1 FROM ordered WHERE folded = ?1 AND latest >= ?2")?;
        select.exists(params![folded, since.timestamp()])
    }

    fn hash(&self, cart_id: &str) -> i64 {
        self.hasher.hash_one(cart_id) as i64
    }
}

/// The temporary index, or a copy of rows, could not be kept.
pub(super) fn no_room(err: rusqlite::Error) -> Failure {
    Failure::new(
        Exit::NeedsAPerson,
        format!("could not keep the temporary index of the carts: {err}; nothing is sent"),
        "make room in the folder for temporary files ($SQLITE_TMPDIR, $TMPDIR, /var/tmp or /tmp)",
    )
}
