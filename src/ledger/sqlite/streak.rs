//! What the tries of all runs say together: refusals with no acceptance between, deferrals for an hour.

use chrono::TimeDelta;
use rusqlite::OptionalExtension;

use super::columns::instant_at;
use super::{Books, Durability, Records};
use crate::domain::back_off;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::PastRefusal;

/// So many of the latest refusals are looked at for a pattern.
const LATEST: u32 = 200;
/// Deferrals alone for this long are told to a person.
const LONG_DEFERRED: TimeDelta = TimeDelta::hours(1);

impl Records {
    /// The latest refusals since the last acceptance, oldest first. Left out is what was refused before that
    /// acceptance already: it is the recipient's own.
    pub fn refusals_since_acceptance(&self) -> Result<Vec<PastRefusal>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "WITH acceptance (at) AS (SELECT coalesce((SELECT id FROM attempt WHERE outcome = 'sent' ORDER BY id DESC LIMIT 1), 0))
                 SELECT message, reply FROM attempt AS this, acceptance WHERE this.id > at AND outcome = 'refused'
                     AND NOT EXISTS (SELECT 1 FROM attempt AS earlier
                                     WHERE earlier.message = this.message AND earlier.outcome = 'refused' AND earlier.id < at)
                 ORDER BY this.id DESC LIMIT ?1",
            )?;
            let refusals = rows.query_map([LATEST], |row| Ok(PastRefusal { message: row.get(0)?, reply: row.get(1)? }))?;
            let mut refusals = refusals.collect::<rusqlite::Result<Vec<_>>>()?;
            refusals.reverse();
            Ok(refusals)
        })
    }

    /// Whether a message was refused before, and the server has accepted another since.
    pub fn was_refused_before_an_acceptance(&self, message: i64) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT 1 FROM attempt AS earlier WHERE earlier.message = ?1 AND earlier.outcome = 'refused'
                     AND EXISTS (SELECT 1 FROM attempt AS other WHERE other.id > earlier.id AND other.outcome = 'sent')",
            )?
            .exists([message])
        })
    }

    /// Since when nothing but deferrals came, if that is an hour or longer, and what the latest one says: no try was
    /// accepted, and the first deferral since the last acceptance is that old.
    pub fn only_deferrals_since(&self, now: Instant) -> Result<Option<(Instant, String)>, Failure> {
        let found: Option<(Instant, String)> = self.read(|conn| {
            conn.query_row(
                "SELECT ended_at, (SELECT reply FROM attempt WHERE outcome = 'deferred' ORDER BY id DESC LIMIT 1)
                 FROM attempt WHERE outcome = 'deferred'
                     AND id > coalesce((SELECT id FROM attempt WHERE outcome = 'sent' ORDER BY id DESC LIMIT 1), 0)
                 ORDER BY id LIMIT 1",
                [],
                |row| Ok((instant_at(row, 0)?, row.get(1)?)),
            )
            .optional()
        })?;
        Ok(found.filter(|(first, _)| now - *first >= LONG_DEFERRED))
    }
}

impl Books<'_> {
    /// Plans messages again that were refused by mistake, each after a wait that doubles with its refusals. Says which ones
    /// were; the others are refused no longer, or another message has taken their place.
    pub fn plan_again(&mut self, messages: &[i64], now: Instant, retry_after: TimeDelta) -> Result<Vec<i64>, Failure> {
        self.0.write(Durability::Full, |tx| {
            let mut planned = Vec::with_capacity(messages.len());
            for message in messages {
                let refusals: u32 = tx
                    .prepare_cached("SELECT count(*) FROM attempt WHERE message = ?1 AND outcome = 'refused'")?
                    .query_row([message], |row| row.get(0))?;
                let not_before = instant::text(now + back_off::wait_after(refusals, retry_after));
                let moved = tx
                    .prepare_cached(
                        "UPDATE message SET state = 'planned', armed_at = NULL, settled_at = NULL, epoch = NULL,
                             not_before = ?2 WHERE id = ?1 AND state = 'refused'",
                    )?
                    .execute((message, not_before));
                match moved {
                    Ok(1) => planned.push(*message),
                    Ok(_) => {}
                    // The statement alone is undone.
                    Err(rusqlite::Error::SqliteFailure(code, _))
                        if code.code == rusqlite::ErrorCode::ConstraintViolation => {}
                    Err(err) => return Err(err),
                }
            }
            Ok(planned)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::{Kind, Ledger, Place};

    #[test]
    fn what_was_settled_stays_so_however_many_deferrals_come_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mailonce.db");
        let now = instant::from_text("2026-03-01T12:00:00Z").expect("an instant");
        let place = Place { path: &path, trusted: &[] };
        let ledger = Ledger::create(place, Kind::Rehearsal, now, Duration::from_secs(60)).expect("a ledger");
        let attempt = |message: i64, outcome: &str| {
            let sql = "INSERT INTO attempt (message, epoch, ended_at, outcome, reply) VALUES (?1, 1, '2026-03-01T12:00:00Z', ?2, '550 no')";
            ledger.conn().execute(sql, (message, outcome)).expect("a try");
        };
        ledger.conn().execute_batch("PRAGMA foreign_keys = OFF").expect("tries without messages");
        // Message 1 is refused, another is accepted, and 1 is refused again: its own.
        for (message, outcome) in [(1, "refused"), (2, "sent"), (1, "refused")] {
            attempt(message, outcome);
        }
        for _ in 0..=LATEST {
            attempt(3, "deferred");
        }
        attempt(4, "refused");
        let since = ledger.refusals_since_acceptance().expect("tries");
        assert_eq!(since.iter().map(|refusal| refusal.message).collect::<Vec<_>>(), [4]);
        assert!(ledger.was_refused_before_an_acceptance(1).expect("tries"));
        assert!(!ledger.was_refused_before_an_acceptance(4).expect("tries"));
    }
}
