//! What is so at this moment, whatever time the page is about.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Asked;
use super::campaigns::Campaigns;
use super::mask::{Names, plain};
use crate::domain::instant::{Instant, Recorded};
use crate::failure::Failure;
use crate::ledger::{Records, Waiting};
use crate::output::count;
use crate::report::Status;
use crate::report::status::{Due, Waits};

const ISSUES_SHOWN: usize = 50;
const LINE_SHOWN: usize = 400;

#[derive(Debug, Serialize)]
pub struct Now {
    /// Whether nothing waits for a person.
    pub well: bool,
    pub line: String,
    /// The command to go on with.
    pub run: Option<&'static str>,
    /// `live` or `rehearsal`.
    pub ledger: &'static str,
    pub ledger_bytes: u64,
    pub born_at: Recorded,
    /// All messages there are, by state.
    pub states: BTreeMap<&'static str, u64>,
    pub due: Due,
    pub oldest_due_at: Option<Recorded>,
    /// Planned, and tried again later.
    pub waiting: Waits,
    pub oldest_in_doubt_at: Option<Recorded>,
    /// The run under way, as it names itself.
    pub lock: Option<String>,
    pub last_good_runs: BTreeMap<String, String>,
    pub open_issues: Vec<Issue>,
    pub more_open_issues: u64,
}

#[derive(Debug, Serialize)]
pub struct Issue {
    pub kind: String,
    pub line: String,
    pub since: String,
}

impl Now {
    pub(super) fn read(
        ledger: &Records,
        asked: &Asked<'_>,
        status: &Status,
        campaigns: &Campaigns,
        now: Instant,
    ) -> Result<Now, Failure> {
        let shown = status.open_issues.iter().take(ISSUES_SHOWN).map(|issue| Issue {
            kind: issue.kind.clone(),
            line: plain(&asked.names.prose(&issue.line), LINE_SHOWN),
            since: issue.since.clone(),
        });
        let mut read = Now {
            well: status.verdict.well,
            line: status.verdict.line.clone(),
            run: status.verdict.run,
            ledger: status.kind,
            ledger_bytes: ledger.size_in_bytes()?,
            born_at: status.born_at,
            states: status.states.clone(),
            due: status.due,
            oldest_due_at: ledger.oldest_due(now)?.into_iter().flatten().min().map(Recorded),
            waiting: Waits {
                cart: waiting(&status.waiting.cart, asked.names),
                campaign: waiting(&status.waiting.campaign, asked.names),
            },
            oldest_in_doubt_at: status.oldest_in_doubt_at,
            lock: status.lock.as_deref().map(|lock| plain(lock, LINE_SHOWN)),
            last_good_runs: ledger.last_good_runs()?,
            open_issues: shown.collect(),
            more_open_issues: status.open_issues.len().saturating_sub(ISSUES_SHOWN) as u64,
        };
        let unbalanced = campaigns.occurrences.iter().filter(|row| row.balances == Some(false)).count() as u64;
        if read.well && unbalanced > 0 {
            read.well = false;
            read.line = format!("The books do not balance: {}, listed below.", count(unbalanced, "occurrence"));
            read.run = Some("mailonce audit");
        }
        Ok(read)
    }
}

/// What waits, with no more of the reply than a page shows.
fn waiting(waiting: &Waiting, names: Names) -> Waiting {
    let about = waiting.recipient.as_deref().unwrap_or_default();
    let reply = waiting.last_reply.as_deref().map(|reply| plain(&names.reply(reply, about), LINE_SHOWN));
    Waiting { last_reply: reply, ..waiting.clone() }
}
