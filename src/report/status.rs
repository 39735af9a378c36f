//! What a ledger is at: counts, runs, open issues.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::Serialize;

use crate::domain::coupon::Pool;
use crate::domain::instant::{self, Instant, Recorded};
use crate::domain::span;
use crate::domain::state::{Reason, State};
use crate::failure::Failure;
use crate::ledger::{Brought, IdleRow, OpenNotice, Records, RunRow, StateCount, Waiting, WaitingFor};
use crate::output::count;
use crate::run_lock::RunLock;

const RUNS_SHOWN: u32 = 10;
/// How far back the messages of each step are counted.
const STEPS_COUNTED: TimeDelta = TimeDelta::days(7);
/// What mail brought is shown of so long.
const BROUGHT_IN: TimeDelta = TimeDelta::days(30);
/// Crontabs start runs every minute; some shops only every hour.
const QUIET_FOR: TimeDelta = TimeDelta::hours(2);

/// What `mailonce status` shows; as JSON, its names are kept.
#[derive(Debug, Serialize)]
pub struct Status {
    pub verdict: Verdict,
    pub ledger: std::path::PathBuf,
    pub ledger_id: String,
    pub kind: &'static str,
    pub now: Recorded,
    pub born_at: Recorded,
    /// When the body of the oldest message in doubt was begun.
    pub oldest_in_doubt_at: Option<Recorded>,
    /// How many messages are in each state, those that none is in as well.
    pub states: BTreeMap<&'static str, u64>,
    pub by_reason: Vec<StateCount>,
    pub due: Due,
    /// Planned, and tried again later.
    pub waiting: Waits,
    /// The configured steps in their order; none where there are none.
    pub steps: Vec<StepSent>,
    /// The configured pools of coupon codes.
    pub coupons: Vec<PoolLeft>,
    pub suppressed_addresses: u64,
    /// What mail brought in the last 30 days; `None` where orders were never read.
    pub recovered: Option<Brought>,
    /// Who holds the run lock.
    pub lock: Option<String>,
    /// The newest first.
    pub runs: Vec<RunRow>,
    pub idle_runs: Vec<IdleRow>,
    #[serde(rename = "standing")]
    pub open_issues: Vec<OpenNotice>,
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether nothing waits for a person.
    pub well: bool,
    pub line: String,
    /// The command to go on with.
    pub run: Option<&'static str>,
}

/// Messages that a run would try now.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Due {
    pub cart: u64,
    pub campaign: u64,
}

/// How many messages of a step were sent.
#[derive(Debug, Clone, Serialize)]
pub struct StepSent {
    pub step: String,
    pub last_7_days: u64,
}

/// How many codes of a pool can be given now.
#[derive(Debug, Clone, Serialize)]
pub struct PoolLeft {
    pub pool: String,
    pub free: u64,
    pub warn_below: u64,
}

impl PoolLeft {
    /// Whether a person should see to it.
    pub fn is_low(&self) -> bool {
        self.free < self.warn_below.max(1)
    }
}

/// Messages that wait for their next try.
#[derive(Debug, Clone, Serialize)]
pub struct Waits {
    pub cart: Waiting,
    pub campaign: Waiting,
}

impl Status {
    /// Reads it, as of `now`, with what became of these steps and what is left in these pools.
    ///
    /// # Errors
    /// Exit 74 when the ledger cannot be read.
    pub fn read(ledger: &Records, steps: &[&str], pools: &[Pool], now: Instant) -> Result<Status, Failure> {
        let by_reason = ledger.count_by_state()?;
        let messages_in =
            |state: State| by_reason.iter().filter(move |count| count.state == state).map(|count| count.messages);
        let mut status = Status {
            verdict: Verdict { well: true, line: String::new(), run: None },
            ledger: ledger.path().to_owned(),
            ledger_id: ledger.shown_id(),
            kind: ledger.kind().word(),
            now: Recorded(now),
            born_at: Recorded(ledger.born_at()?),
            oldest_in_doubt_at: ledger.oldest_in_doubt()?.into_iter().flatten().min().map(Recorded),
            states: State::ALL.iter().map(|state| (state.word(), messages_in(*state).sum())).collect(),
            due: Due { cart: ledger.count_due_carts(now)?, campaign: ledger.count_due_recipients(now, None)? },
            waiting: Waits {
                cart: ledger.waiting(WaitingFor::Carts, now)?,
                campaign: ledger.waiting(WaitingFor::Campaigns { only: None }, now)?,
            },
            steps: sent_by_step(ledger, steps, now)?,
            coupons: pools.iter().map(|pool| left_in(ledger, pool, now)).collect::<Result<_, _>>()?,
            suppressed_addresses: ledger.count_suppressed()?,
            recovered: ledger.brought(now - BROUGHT_IN)?,
            lock: RunLock::current_holder(ledger.path()),
            runs: ledger.newest_runs(RUNS_SHOWN)?,
            idle_runs: ledger.idle_runs()?,
            open_issues: ledger.open_notices()?,
            by_reason,
        };
        status.verdict = status.judge(now);
        Ok(status)
    }

    /// What waits for a person comes first, then what is wrong, then how long ago the last run was.
    fn judge(&self, now: Instant) -> Verdict {
        let not_well = |line: String, run| Verdict { well: false, line, run: Some(run) };
        let armed_by_a_dead_run = if self.lock.is_some() { 0 } else { self.messages_in(State::Armed) };
        let events = self.open_issues.iter().filter(|issue| issue.is_event()).count() as u64;
        let in_doubt = self.messages_in(State::InDoubt);
        let since = self.oldest_in_doubt_at.map_or_else(String::new, |at| format!(" since {at}"));
        let decisions: Vec<String> = [
            (in_doubt > 0).then(|| format!("{} in doubt{since}", count(in_doubt, "message"))),
            (events > 0).then(|| count(events, "event")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !decisions.is_empty() {
            return not_well(format!("You must decide: {}.", decisions.join(", and ")), "mailonce resolve");
        }
        if armed_by_a_dead_run > 0 {
            let what = count(armed_by_a_dead_run, "message");
            return not_well(format!("A run was killed: {what} in doubt from the next run on."), "mailonce detect");
        }
        if !self.open_issues.is_empty() {
            let issues = count(self.open_issues.len() as u64, "open issue");
            // What doctor would say of them is that they are listed here; each line names its own way on.
            let bad_rows = self.open_issues.iter().any(|issue| issue.kind == "bad row");
            let run = bad_rows.then_some("mailonce detect --dry-run");
            return Verdict { well: false, line: format!("Look at this: {issues}, listed below."), run };
        }
        let ended = self.runs.iter().filter_map(|run| run.ended_at.as_deref());
        let ended = ended.chain(self.idle_runs.iter().map(|idle| idle.latest_ended_at.as_str()));
        let Some(last) = ended.filter_map(instant::from_text).max() else {
            let line = "Nothing has run yet.".to_owned();
            return Verdict { well: true, line, run: Some("mailonce detect --dry-run") };
        };
        if let Some(failed) = self.runs.iter().find(|run| run.ended_at.as_deref() == Some(&instant::text(last)))
            && failed.needs_a_person()
        {
            let line = format!(
                "The last run, {} {}, did not come to a good end, as listed below.",
                failed.command, failed.run
            );
            return not_well(line, "mailonce doctor");
        }
        let ago = span::spoken(now - last);
        if now - last > QUIET_FOR {
            return not_well(format!("The last run was {ago} ago: is cron running?"), "mailonce doctor");
        }
        Verdict { well: true, line: format!("All well: last run {ago} ago, nothing waits for you."), run: None }
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

fn sent_by_step(ledger: &Records, steps: &[&str], now: Instant) -> Result<Vec<StepSent>, Failure> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let sent = ledger.sent_by_step(now - STEPS_COUNTED)?;
    let of = |step: &&str| StepSent { step: (*step).to_owned(), last_7_days: sent.get(*step).copied().unwrap_or(0) };
    Ok(steps.iter().map(of).collect())
}

fn left_in(ledger: &Records, pool: &Pool, now: Instant) -> Result<PoolLeft, Failure> {
    let free = ledger.free_codes(pool, now, u64::MAX >> 1)?;
    Ok(PoolLeft { pool: pool.name.clone(), free, warn_below: pool.warn_below })
}
