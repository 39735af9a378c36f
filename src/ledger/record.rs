//! The commit of a run under way: outcomes that have become known, and bodies that wish to leave.

use chrono::TimeDelta;

use super::arm::{Armed, arm_one};
use super::runs::Epoch;
use super::settle::{Outcome, Settled, settle_one};
use super::{Durability, Ledger};
use crate::domain::instant::{self, Instant};
use crate::failure::{Exit, Failure};

/// What one commit recorded.
#[derive(Debug)]
pub struct Recorded {
    /// One for each outcome, in order.
    pub settled: Vec<Settled>,
    /// One for each wish, in order; the failure (exit 75) when a newer run has taken the ledger over.
    pub armed: Result<Vec<Armed>, Failure>,
}

/// The instant of a commit, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// What the ledger records.
    pub now: Instant,
    /// Unix seconds of the real clock, where begun bodies count for the limits.
    pub real_second: i64,
}

impl Ledger {
    /// Records outcomes and arms messages in one commit. When this returns [`Armed::Granted`], it is on disk.
    ///
    /// Without a wish the commit goes without its own fsync: a lost outcome leaves `armed`.
    ///
    /// # Errors
    /// Exit 74 when the commit failed: no body may leave then, and what was to be settled stays armed.
    pub fn record(
        &mut self,
        epoch: Epoch,
        outcomes: &[Outcome],
        wishes: &[i64],
        at: At,
        retry_after: TimeDelta,
    ) -> Result<Recorded, Failure> {
        let now = instant::text(at.now);
        let durability = if wishes.is_empty() { Durability::Lazy } else { Durability::Full };
        self.write(durability, |tx| {
            let settled = outcomes
                .iter()
                .map(|outcome| settle_one(tx, epoch, outcome, (at.now, &now), retry_after))
                .collect::<rusqlite::Result<Vec<_>>>()?;
            if wishes.is_empty() {
                return Ok(Recorded { settled, armed: Ok(Vec::new()) });
            }
            let newest: Epoch = tx.prepare_cached("SELECT epoch FROM ledger")?.query_row([], |row| row.get(0))?;
            if newest != epoch {
                return Ok(Recorded { settled, armed: Err(taken_over(epoch, newest)) });
            }
            let armed = wishes
                .iter()
                .map(|id| arm_one(tx, epoch, *id, (at.now, &now)))
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let granted = armed.iter().filter(|answer| **answer == Armed::Granted).count();
            if granted > 0 {
                tx.prepare_cached(
                    "INSERT INTO pace (second, messages) VALUES (?1, ?2)
                     ON CONFLICT (second) DO UPDATE SET messages = messages + excluded.messages",
                )?
                .execute((at.real_second, granted as i64))?;
            }
            Ok(Recorded { settled, armed: Ok(armed) })
        })
    }
}

fn taken_over(epoch: Epoch, newest: Epoch) -> Failure {
    Failure::new(
        Exit::AnotherRunHoldsTheLock,
        format!("run {newest} has taken the ledger over from this run ({epoch}); this one sends nothing more"),
        "find out why two runs could hold the lock: was the .lock file deleted or replaced?",
    )
}
