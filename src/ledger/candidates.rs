//! The carts that one look at the shop found, kept in a temporary table: a million of them need no more memory than one.

use rusqlite::OptionalExtension;

use super::Ledger;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;

/// A cart that one look at the shop found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub cart_id: String,
    pub identity: String,
    pub user_id: Option<String>,
    /// As the envelope will have it.
    pub recipient: String,
    pub folded_address: String,
    pub cart_hash: String,
    pub cart_value: String,
    pub currency: String,
    pub touched_at: Instant,
}

/// How many candidates met one verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub verdict: String,
    pub carts: u64,
}

const TABLE: &str = "
    DROP TABLE IF EXISTS temp.candidate;
    CREATE TEMP TABLE candidate (
        id             INTEGER PRIMARY KEY,
        cart_id        TEXT NOT NULL,
        identity       TEXT NOT NULL,
        user_id        TEXT,
        recipient      TEXT NOT NULL,
        folded_address TEXT NOT NULL,
        cart_hash      TEXT NOT NULL,
        cart_value     TEXT NOT NULL,
        currency       TEXT NOT NULL,
        touched_at     TEXT NOT NULL,
        verdict        TEXT,
        detail         TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX temp.candidate_undecided ON candidate (touched_at) WHERE verdict IS NULL;
    CREATE INDEX temp.candidate_chosen ON candidate (folded_address) WHERE verdict = 'plan';
    CREATE INDEX temp.candidate_chosen_identity ON candidate (identity) WHERE verdict = 'plan';";

const COLUMNS: &str =
    "cart_id, identity, user_id, recipient, folded_address, cart_hash, cart_value, currency, touched_at";

impl Ledger {
    /// Empties the table and opens a transaction on it, so that filling it is quick. It touches no ledger table.
    pub fn begin_candidates(&mut self) -> Result<(), Failure> {
        self.read(|conn| {
            // Bounded: what does not fit goes to a temporary file.
            conn.execute_batch("PRAGMA temp.cache_size = -4000;")?;
            conn.execute_batch(TABLE)?;
            conn.execute_batch("BEGIN")
        })
    }

    /// Ends the filling that [`Ledger::begin_candidates`] began.
    pub fn end_candidates(&mut self) -> Result<(), Failure> {
        self.read(|conn| conn.execute_batch("COMMIT"))
    }

    /// Adds one cart; with a `verdict` and its detail when it is already decided.
    pub fn add_candidate(&self, candidate: &Candidate, verdict: Option<(&str, &str)>) -> Result<(), Failure> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "INSERT INTO temp.candidate ({COLUMNS}, verdict, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            ))?
            .execute((
                &candidate.cart_id,
                &candidate.identity,
                &candidate.user_id,
                &candidate.recipient,
                &candidate.folded_address,
                &candidate.cart_hash,
                &candidate.cart_value,
                &candidate.currency,
                instant::text(candidate.touched_at),
                verdict.map(|(verdict, _)| verdict),
                verdict.map_or("", |(_, detail)| detail),
            ))
            .map(|_| ())
        })
    }

    /// The next undecided cart, newest touch first, with its row number.
    pub fn next_candidate(&self) -> Result<Option<(i64, Candidate)>, Failure> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS}, id FROM temp.candidate WHERE verdict IS NULL ORDER BY touched_at DESC LIMIT 1"
            ))?
            .query_row([], |row| Ok((row.get(9)?, candidate_from(row)?)))
            .optional()
        })
    }

    /// Records what was decided about a cart.
    pub fn decide_candidate(&self, id: i64, verdict: &str, detail: &str) -> Result<(), Failure> {
        self.read(|conn| {
            conn.prepare_cached("UPDATE temp.candidate SET verdict = ?2, detail = ?3 WHERE id = ?1")?
                .execute((id, verdict, detail))
                .map(|_| ())
        })
    }

    /// How many carts met each verdict.
    pub fn candidate_tallies(&self) -> Result<Vec<Tally>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT coalesce(verdict, ''), count(*) FROM temp.candidate GROUP BY verdict ORDER BY verdict = 'plan' DESC, count(*) DESC",
            )?;
            rows.query_map([], |row| Ok(Tally { verdict: row.get(0)?, carts: row.get(1)? }))?.collect()
        })
    }

    /// Hands every cart with its verdict and detail to `each`: those to be written to first, then the others by verdict.
    pub fn each_candidate(&self, mut each: impl FnMut(&Candidate, &str, &str)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT {COLUMNS}, coalesce(verdict, ''), detail FROM temp.candidate
                 ORDER BY verdict = 'plan' DESC, verdict, touched_at DESC, id"
            ))?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let (verdict, detail): (String, String) = (row.get(9)?, row.get(10)?);
                each(&candidate_from(row)?, &verdict, &detail);
            }
            Ok(())
        })
    }
}

pub(super) fn candidate_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Candidate> {
    let touched_at: String = row.get(8)?;
    Ok(Candidate {
        cart_id: row.get(0)?,
        identity: row.get(1)?,
        user_id: row.get(2)?,
        recipient: row.get(3)?,
        folded_address: row.get(4)?,
        cart_hash: row.get(5)?,
        cart_value: row.get(6)?,
        currency: row.get(7)?,
        touched_at: instant::from_text(&touched_at).unwrap_or_default(),
    })
}

pub(super) const CANDIDATE_COLUMNS: &str = COLUMNS;
