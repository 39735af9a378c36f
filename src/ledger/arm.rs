//! Arming: the durable record that a body may leave. Everything that must stop a message is looked at here once more.

use rusqlite::{OptionalExtension, Transaction};

use super::runs::Epoch;
use super::{Durability, Ledger};
use crate::domain::instant::{self, Instant};
use crate::failure::{Exit, Failure};

/// The answer to one wish to arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Armed {
    /// On disk: the body may leave.
    Granted,
    /// The body must not leave.
    Denied(Denied),
}

/// Why a body must not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The address was suppressed meanwhile; the message is now `skipped`.
    Suppressed,
    /// It is no longer planned: someone decided otherwise.
    NotPlanned,
    /// Its campaign was paused meanwhile; the message stays planned.
    Paused,
    /// A constraint of the ledger forbids it (its name and words): a slip, or a ledger changed by hand.
    Forbidden(String),
}

impl Ledger {
    /// Arms several messages with one fsync. When this returns `Granted`, the record is on disk.
    ///
    /// `real_second` (Unix seconds of the real clock) is where the bodies count for the limits.
    ///
    /// # Errors
    /// Exit 75 when a newer run has taken the ledger over; exit 74 when the commit failed: no body may leave then.
    pub fn arm(&mut self, epoch: Epoch, ids: &[i64], now: Instant, real_second: i64) -> Result<Vec<Armed>, Failure> {
        let now = instant::text(now);
        let armed = self.write(Durability::Full, |tx| {
            let newest: Epoch = tx.query_row("SELECT epoch FROM ledger", [], |row| row.get(0))?;
            if newest != epoch {
                return Ok(Err(newest));
            }
            let answers = ids.iter().map(|id| arm_one(tx, epoch, *id, &now)).collect::<rusqlite::Result<Vec<_>>>()?;
            let granted = answers.iter().filter(|answer| **answer == Armed::Granted).count();
            if granted > 0 {
                tx.prepare_cached(
                    "INSERT INTO pace (second, messages) VALUES (?1, ?2)
                     ON CONFLICT (second) DO UPDATE SET messages = messages + excluded.messages",
                )?
                .execute((real_second, granted as i64))?;
            }
            Ok(Ok(answers))
        })?;
        armed.map_err(|newest| {
            Failure::new(
                Exit::AnotherRunHoldsTheLock,
                format!("run {newest} has taken the ledger over from this run ({epoch}); this one sends nothing more"),
                "find out why two runs could hold the lock: was the .lock file deleted or replaced?",
            )
        })
    }

    /// How many bodies were begun in the real-clock second `second`, and in the hour up to it.
    pub fn pace(&self, second: i64) -> Result<(u32, u32), Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT coalesce(sum(messages) FILTER (WHERE second = ?1), 0), coalesce(sum(messages), 0)
                 FROM pace WHERE second > ?1 - 3600 AND second <= ?1",
            )?
            .query_row([second], |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }

    /// Forgets what the limits no longer need.
    pub fn prune_pace(&mut self, second: i64) -> Result<(), Failure> {
        let stale: bool = self.read(|conn| {
            conn.query_row("SELECT EXISTS (SELECT 1 FROM pace WHERE second <= ?1 - 3600)", [second], |row| row.get(0))
        })?;
        if stale {
            self.write(Durability::Lazy, |tx| tx.execute("DELETE FROM pace WHERE second <= ?1 - 3600", [second]))?;
        }
        Ok(())
    }
}

fn arm_one(tx: &Transaction<'_>, epoch: Epoch, id: i64, now: &str) -> rusqlite::Result<Armed> {
    let planned: Option<(String, bool)> = tx
        .prepare_cached(
            "SELECT folded_address,
                    occurrence IS NOT NULL AND (SELECT status IN ('paused', 'cancelled') FROM campaign_occurrence AS o
                        JOIN scheduled_campaign USING (campaign_id) WHERE o.id = occurrence)
             FROM message WHERE id = ?1 AND state = 'planned'",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let address = match planned {
        None => return Ok(Armed::Denied(Denied::NotPlanned)),
        Some((_, true)) => return Ok(Armed::Denied(Denied::Paused)),
        Some((address, false)) => address,
    };
    if tx.prepare_cached("SELECT 1 FROM suppression WHERE folded_address = ?1")?.exists([&address])? {
        tx.execute(
            "UPDATE message SET state = 'skipped', reason = 'suppressed', settled_at = ?2 WHERE id = ?1",
            (id, now),
        )?;
        return Ok(Armed::Denied(Denied::Suppressed));
    }
    let moved = tx
        .prepare_cached(
            "UPDATE message SET state = 'armed', armed_at = ?2, epoch = ?3 WHERE id = ?1 AND state = 'planned'",
        )?
        .execute((id, now, epoch));
    match moved {
        Ok(1) => Ok(Armed::Granted),
        Ok(_) => Ok(Armed::Denied(Denied::NotPlanned)),
        // RAISE(ABORT) undoes this statement alone; the rest of the transaction stands.
        Err(rusqlite::Error::SqliteFailure(code, words)) if code.code == rusqlite::ErrorCode::ConstraintViolation => {
            Ok(Armed::Denied(Denied::Forbidden(words.unwrap_or_default())))
        }
        Err(err) => Err(err),
    }
}
