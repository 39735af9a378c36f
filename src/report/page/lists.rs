//! What is listed one by one: messages in doubt, refused messages, runs.

use serde::Serialize;

use super::Asked;
use super::mask::plain;
use super::tally::{REPLY_SHOWN, Tally};
use crate::domain::message_key;
use crate::domain::state::State;
use crate::failure::Failure;
use crate::ledger::{IdleRow, MessageRow, Records};
use crate::report::Status;

const MESSAGES_SHOWN: u64 = 200;
const RUNS_SHOWN: u32 = 50;

/// Messages, the newest first.
#[derive(Debug, Serialize)]
pub struct Messages {
    pub rows: Vec<Message>,
    /// So many are not listed.
    pub more: u64,
}

#[derive(Debug, Serialize)]
pub struct Message {
    /// What `log` and `resolve` take for it.
    pub id: String,
    pub recipient: String,
    pub cart: Option<String>,
    pub step: Option<String>,
    pub campaign: Option<String>,
    pub planned_at: String,
    pub armed_at: Option<String>,
    pub settled_at: Option<String>,
    pub tries: u64,
    pub reply: Option<String>,
}

impl Messages {
    pub(super) fn in_doubt(
        ledger: &Records,
        asked: &Asked<'_>,
        tally: &Tally,
        status: &Status,
    ) -> Result<Messages, Failure> {
        let only = asked.period.campaign.as_deref();
        let all = match only {
            Some(_) => ledger.count_in_doubt(only)?,
            None => status.messages_in(State::InDoubt),
        };
        Ok(Messages::of(ledger.newest_in_doubt(only, MESSAGES_SHOWN)?, all, asked, tally))
    }

    pub(super) fn refused(ledger: &Records, asked: &Asked<'_>, tally: &Tally) -> Result<Messages, Failure> {
        Ok(Messages::of(ledger.newest_refused(&asked.period, MESSAGES_SHOWN)?, tally.all.refused, asked, tally))
    }

    fn of(rows: Vec<MessageRow>, all: u64, asked: &Asked<'_>, tally: &Tally) -> Messages {
        let more = all.saturating_sub(rows.len() as u64);
        Messages { rows: rows.into_iter().map(|row| message(row, asked, tally)).collect(), more }
    }
}

fn message(row: MessageRow, asked: &Asked<'_>, tally: &Tally) -> Message {
    let reply = row.last_reply.map(|reply| plain(&asked.names.reply(&reply, &row.recipient), REPLY_SHOWN));
    Message {
        id: message_key::short_id(&row.message_id).to_owned(),
        recipient: asked.names.address(&row.recipient, tally),
        cart: row.cart_id.map(|cart_id| asked.names.cart(&cart_id)),
        step: row.step,
        campaign: row.campaign_id,
        planned_at: row.planned_at,
        armed_at: row.armed_at,
        settled_at: row.settled_at,
        tries: row.attempts,
        reply,
    }
}

/// Runs, the newest first.
#[derive(Debug, Serialize)]
pub struct Runs {
    pub rows: Vec<Run>,
    pub idle: Vec<IdleRow>,
}

#[derive(Debug, Serialize)]
pub struct Run {
    pub run: i64,
    pub command: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub ending: Option<String>,
    /// It never ended, and is not under way: it was killed, or the machine stopped.
    pub was_killed: bool,
    pub needs_a_person: bool,
    pub accepted_clock: bool,
    pub sent: u64,
    pub deferred: u64,
    pub refused: u64,
    pub in_doubt: u64,
}

impl Runs {
    pub(super) fn read(ledger: &Records, asked: &Asked<'_>, status: &Status) -> Result<Runs, Failure> {
        let runs = ledger.newest_runs(RUNS_SHOWN)?;
        let newest = runs.first().map(|run| run.run);
        let rows = runs.into_iter().map(|run| {
            let is_under_way = Some(run.run) == newest && status.lock.is_some();
            let ending = run.ending.as_ref().and_then(|ending| ending.lines().next());
            Run {
                was_killed: run.ended_at.is_none() && !is_under_way,
                needs_a_person: run.needs_a_person(),
                ending: ending.map(|line| plain(&asked.names.prose(line), REPLY_SHOWN)),
                run: run.run,
                command: run.command,
                started_at: run.started_at,
                ended_at: run.ended_at,
                accepted_clock: run.accepted_clock,
                sent: run.sent,
                deferred: run.deferred,
                refused: run.refused,
                in_doubt: run.in_doubt,
            }
        });
        Ok(Runs { rows: rows.collect(), idle: status.idle_runs.clone() })
    }
}
