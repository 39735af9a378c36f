//! The carts that one look at the shop found, kept in a temporary table: a million of them need no more memory than one.

use super::Records;
use super::columns::instant_at;
use crate::domain::instant::{self};
use crate::domain::locale::Locale;
use crate::failure::Failure;
use crate::ledger::Candidate;

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
        timezone       TEXT,
        locale         TEXT,
        verdict        TEXT,
        detail         TEXT NOT NULL DEFAULT '',
        -- Steps of its flow came too late, which is to be recorded.
        has_late       INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX temp.candidate_undecided ON candidate (touched_at, id) WHERE verdict IS NULL;
    CREATE INDEX temp.candidate_busy ON candidate (folded_address) WHERE verdict = 'not idle yet';
    CREATE INDEX temp.candidate_busy_identity ON candidate (identity) WHERE verdict = 'not idle yet';
    CREATE INDEX temp.candidate_chosen ON candidate (folded_address)
        WHERE verdict = 'plan' OR verdict = 'held out';
    CREATE INDEX temp.candidate_chosen_identity ON candidate (identity)
        WHERE verdict = 'plan' OR verdict = 'held out';";

/// The verdict on a cart that its shopper has not left alone for long enough: another one of theirs waits for it.
pub const NOT_IDLE_YET: &str = "not idle yet";

const COLUMNS: &str = "cart_id, identity, user_id, recipient, folded_address, cart_hash, cart_value, currency, touched_at, timezone, locale";

impl Records {
    /// Empties the table and opens a transaction on it, so that filling it is quick. It touches no ledger table.
    pub fn begin_candidates(&self) -> Result<(), Failure> {
        self.scratch(|conn| {
            // Bounded: what does not fit goes to a temporary file.
            conn.execute_batch("PRAGMA temp.cache_size = -4000;")?;
            conn.execute_batch(TABLE)?;
            conn.execute_batch("BEGIN")
        })
    }

    /// Ends the filling that [`Records::begin_candidates`] began. In steps, carts with the same contents are looked for later.
    pub fn end_candidates(&self, in_steps: bool) -> Result<(), Failure> {
        self.scratch(|conn| {
            if in_steps {
                conn.execute_batch("CREATE INDEX temp.candidate_twin ON candidate (folded_address, cart_hash)")?;
            }
            conn.execute_batch("COMMIT")
        })
    }

    /// Adds one cart; with a `verdict` and its detail when it is already decided.
    pub fn add_candidate(&self, candidate: &Candidate, verdict: Option<(&str, &str)>) -> Result<(), Failure> {
        self.scratch(|conn| {
            conn.prepare_cached(&format!(
                "INSERT INTO temp.candidate ({COLUMNS}, verdict, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
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
                candidate.timezone.map(|zone| zone.name()),
                candidate.locale.map(|locale| locale.to_string()),
                verdict.map(|(verdict, _)| verdict),
                verdict.map_or("", |(_, detail)| detail),
            ))
            .map(|_| ())
        })
    }

    /// How many carts are undecided.
    pub fn undecided_candidates(&self) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row("SELECT count(*) FROM temp.candidate WHERE verdict IS NULL", [], |row| row.get(0))
        })
    }

    /// Records what was decided about a cart, and whether steps of its flow came too late.
    pub fn decide_candidate(&self, id: i64, verdict: &str, detail: &str, has_late: bool) -> Result<(), Failure> {
        self.scratch(|conn| {
            conn.prepare_cached("UPDATE temp.candidate SET verdict = ?2, detail = ?3, has_late = ?4 WHERE id = ?1")?
                .execute((id, verdict, detail, has_late))
                .map(|_| ())
        })
    }

    /// Changes the verdict on a cart to one that leaves it out. What came too late in its flow stays to be recorded.
    pub fn leave_out_candidate(&self, id: i64, verdict: &str) -> Result<(), Failure> {
        self.scratch(|conn| {
            conn.prepare_cached("UPDATE temp.candidate SET verdict = ?2 WHERE id = ?1")?
                .execute((id, verdict))
                .map(|_| ())
        })
    }

    /// Hands every cart with its verdict and detail to `each`: those to be written to first, then the others by verdict.
    pub fn each_candidate(&self, mut each: impl FnMut(&Candidate, &str, &str)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT id, {COLUMNS}, coalesce(verdict, '') AS verdict, detail FROM temp.candidate
                 ORDER BY verdict = 'plan' DESC, verdict, touched_at DESC, id"
            ))?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let (verdict, detail): (String, String) = (row.get("verdict")?, row.get("detail")?);
                each(&candidate_from(row)?, &verdict, &detail);
            }
            Ok(())
        })
    }
}

/// Reads `id` and [`CANDIDATE_COLUMNS`].
pub(super) fn candidate_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        id: row.get("id")?,
        cart_id: row.get("cart_id")?,
        identity: row.get("identity")?,
        user_id: row.get("user_id")?,
        recipient: row.get("recipient")?,
        folded_address: row.get("folded_address")?,
        cart_hash: row.get("cart_hash")?,
        cart_value: row.get("cart_value")?,
        currency: row.get("currency")?,
        touched_at: instant_at(row, "touched_at")?,
        locale: row.get::<_, Option<String>>("locale")?.and_then(|tag| Locale::parse(&tag)),
        timezone: row.get::<_, Option<String>>("timezone")?.and_then(|zone| zone.parse().ok()),
    })
}

pub(super) const CANDIDATE_COLUMNS: &str = COLUMNS;
