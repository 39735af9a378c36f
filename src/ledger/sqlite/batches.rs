//! Many messages are moved in many short transactions: whoever else writes gets the write lock between two of them.

use std::time::Instant as Monotonic;

use rusqlite::Connection;

use super::{Durability, Ledger};
use crate::failure::Failure;

/// So many messages share a transaction, of some ten milliseconds.
const BATCH: usize = 2000;

/// Some of the messages to move, in a transaction of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub ids: &'a [i64],
    pub is_first: bool,
    pub is_last: bool,
}

impl Ledger {
    /// Hands the messages to `step`, some thousand in each transaction, and pauses after each for as long as it took:
    /// a run or a `suppress add` beside waits for one batch, not for all. `each` hears of every batch how many it moved.
    /// `None` from `step` ends it. Says how many were moved in all.
    ///
    /// Killed, or without power, some batches stand and some do not: the caller must be such that it can be repeated. Only
    /// the last is brought to the disk before this returns, and all before it with it.
    pub(super) fn in_batches(
        &mut self,
        ids: &[i64],
        each: &mut dyn FnMut(u64),
        mut step: impl FnMut(&Connection, Batch<'_>) -> rusqlite::Result<Option<u64>>,
    ) -> Result<u64, Failure> {
        let batches = ids.chunks(BATCH).len();
        let mut moved = 0;
        for (number, ids) in ids.chunks(BATCH).enumerate() {
            let batch = Batch { ids, is_first: number == 0, is_last: number + 1 == batches };
            let durability = if batch.is_last { Durability::Full } else { Durability::Lazy };
            let mut holding_since = Monotonic::now();
            let step = self.write(durability, |tx| {
                holding_since = Monotonic::now();
                step(tx, batch)
            })?;
            let Some(more) = step else { return Ok(moved) };
            moved += more;
            each(more);
            if !batch.is_last {
                std::thread::sleep(holding_since.elapsed());
            }
        }
        Ok(moved)
    }
}
