//! What a ledger is at: counts, runs, open issues.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::instant::{Instant, Recorded};
use crate::domain::state::{Reason, State};
use crate::failure::Failure;
use crate::ledger::{IdleRow, OpenNotice, Records, RunRow, StateCount};
use crate::run_lock::RunLock;

const RUNS_SHOWN: u32 = 10;

/// What `mailonce status` shows; as JSON, its names are kept.
#[derive(Debug, Serialize)]
pub struct Status {
    pub ledger: std::path::PathBuf,
    pub ledger_id: String,
    pub kind: &'static str,
    pub now: Recorded,
    pub born_at: Recorded,
    /// How many messages are in each state, those that none is in as well.
    pub states: BTreeMap<&'static str, u64>,
    pub by_reason: Vec<StateCount>,
    pub due: Due,
    pub suppressed_addresses: u64,
    /// Who holds the run lock.
    pub lock: Option<String>,
    /// The newest first.
    pub runs: Vec<RunRow>,
    pub idle_runs: Vec<IdleRow>,
    #[serde(rename = "standing")]
    pub open_issues: Vec<OpenNotice>,
}

/// Messages that a run would try now.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Due {
    pub cart: u64,
    pub campaign: u64,
}

impl Status {
    /// Reads it, as of `now`.
    ///
    /// # Errors
    /// Exit 74 when the ledger cannot be read.
    pub fn read(ledger: &Records, now: Instant) -> Result<Status, Failure> {
        let by_reason = ledger.count_by_state()?;
        let messages_in =
            |state: State| by_reason.iter().filter(move |count| count.state == state).map(|count| count.messages);
        Ok(Status {
            ledger: ledger.path().to_owned(),
            ledger_id: ledger.id().to_owned(),
            kind: ledger.kind().word(),
            now: Recorded(now),
            born_at: Recorded(ledger.born_at()?),
            states: State::ALL.iter().map(|state| (state.word(), messages_in(*state).sum())).collect(),
            due: Due { cart: ledger.count_due_carts(now)?, campaign: ledger.count_due_recipients(now, None)? },
            suppressed_addresses: ledger.count_suppressed()?,
            lock: RunLock::current_holder(ledger.path()),
            runs: ledger.newest_runs(RUNS_SHOWN)?,
            idle_runs: ledger.idle_runs()?,
            open_issues: ledger.open_notices()?,
            by_reason,
        })
    }

    pub fn messages_in(&self, state: State) -> u64 {
        self.states[state.word()]
    }

    /// The messages in a state by their reason, those without one left out.
    pub fn reasons_of(&self, state: State) -> BTreeMap<Reason, u64> {
        let mut reasons = BTreeMap::new();
        for count in self.by_reason.iter().filter(|count| count.state == state) {
            if let Some(reason) = count.reason {
                *reasons.entry(reason).or_insert(0) += count.messages;
            }
        }
        reasons
    }
}
