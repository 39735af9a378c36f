//! What people ask the ledger: counts, runs, episodes and messages.

use rusqlite::types::Value;

use super::{Reading, Records};
use crate::domain::instant::{self};
use crate::domain::state::{Reason, State};
use crate::failure::Failure;
use crate::ledger::{EpisodeRow, IdleRow, LogFilter, MessageRow, RunRow, StateCount};

impl Records {
    /// Messages by kind, state and reason.
    pub fn count_by_state(&self) -> Result<Vec<StateCount>, Failure> {
        self.read(|conn| {
            let mut counts = Vec::new();
            for (kind, which, all) in [
                ("campaign", "occurrence IS NOT NULL", "kind = 'campaign'"),
                ("cart", "occurrence IS NULL", "cart_id IS NOT NULL"),
            ] {
                counts.extend(
                    count_states(conn, which, all, [])?.into_iter().map(|(state, reason, messages)| StateCount {
                        kind: kind.to_owned(),
                        state,
                        reason,
                        messages,
                    }),
                );
            }
            Ok(counts)
        })
    }

    /// The newest runs that did something, newest first.
    pub fn newest_runs(&self, limit: u32) -> Result<Vec<RunRow>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT run.epoch, command, started_at, run.ended_at, ending, accepted_clock,
                        count(*) FILTER (WHERE outcome = 'sent'), count(*) FILTER (WHERE outcome = 'deferred'),
                        count(*) FILTER (WHERE outcome = 'refused'), count(*) FILTER (WHERE outcome = 'in_doubt')
                 FROM (SELECT *, lead(attempt_after) OVER (ORDER BY epoch) AS attempt_until FROM run
                       ORDER BY epoch DESC LIMIT ?1) AS run
                 LEFT JOIN attempt ON attempt.id > run.attempt_after AND attempt.id <= coalesce(run.attempt_until, 9223372036854775807)
                      AND attempt.epoch = run.epoch
                 GROUP BY run.epoch ORDER BY run.epoch DESC",
            )?;
            rows.query_map([limit], |row| {
                Ok(RunRow {
                    run: row.get(0)?,
                    command: row.get(1)?,
                    started_at: row.get(2)?,
                    ended_at: row.get(3)?,
                    ending: row.get(4)?,
                    accepted_clock: row.get(5)?,
                    sent: row.get(6)?,
                    deferred: row.get(7)?,
                    refused: row.get(8)?,
                    in_doubt: row.get(9)?,
                })
            })?
            .collect()
        })
    }

    /// The idle runs of each command, as counts.
    pub fn idle_runs(&self) -> Result<Vec<IdleRow>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT command, runs, first_started_at, latest_epoch, latest_started_at, latest_ended_at FROM idle_run ORDER BY command",
            )?;
            rows.query_map([], |row| {
                Ok(IdleRow {
                    command: row.get(0)?,
                    runs: row.get(1)?,
                    first_started_at: row.get(2)?,
                    latest_run: row.get(3)?,
                    latest_started_at: row.get(4)?,
                    latest_ended_at: row.get(5)?,
                })
            })?
            .collect()
        })
    }

    /// Messages that match, newest first.
    pub fn messages(&self, filter: &LogFilter) -> Result<Vec<MessageRow>, Failure> {
        let (conditions, values) = conditions(filter, "planned_at", "folded_address", false);
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT {MESSAGE} FROM message WHERE {conditions} ORDER BY id DESC LIMIT {}",
                filter.limit
            ))?;
            rows.query_map(rusqlite::params_from_iter(values), |row| message_from(row, 0))?.collect()
        })
    }

    /// Episodes that match, newest first, each with its message.
    pub fn episodes(&self, filter: &LogFilter) -> Result<Vec<EpisodeRow>, Failure> {
        let (conditions, values) = conditions(filter, "created_at", "lower(trim(email))", true);
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT {MESSAGE}, log.id, log.identity, log.user_id, log.email, log.cart_id, log.cart_hash, log.cart_value,
                        log.currency, log.created_at, log.email_sent, log.last_sent_at, log.message_key, log.origin
                 FROM cart_abandonment_log AS log LEFT JOIN message USING (message_key)
                 WHERE {conditions} ORDER BY log.id DESC LIMIT {}",
                filter.limit
            ))?;
            rows.query_map(rusqlite::params_from_iter(values), |row| {
                let message_key: Option<String> = row.get(25)?;
                Ok(EpisodeRow {
                    id: row.get(14)?,
                    identity: row.get(15)?,
                    user_id: row.get(16)?,
                    email: row.get(17)?,
                    cart_id: row.get(18)?,
                    cart_hash: row.get(19)?,
                    cart_value: row.get(20)?,
                    currency: row.get(21)?,
                    created_at: row.get(22)?,
                    email_sent: row.get(23)?,
                    last_sent_at: row.get(24)?,
                    message: message_key.is_some().then(|| message_from(row, 0)).transpose()?,
                    message_key,
                    origin: row.get(26)?,
                })
            })?
            .collect()
        })
    }
}

/// Messages by state and reason: those that `which` narrows to. `all` says the same as an index over all of them does.
///
/// No index holds the sent ones, so that settling a message moves it in none: they are what remains of all.
pub(super) fn count_states(
    conn: &Reading<'_>,
    which: &str,
    all: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<(State, Option<Reason>, u64)>> {
    // One statement, so that a run under way moves no message between the counts.
    let mut rows = conn.prepare_cached(&format!(
        "SELECT 'armed', NULL, count(*) FROM message WHERE state = 'armed' AND {which}
         UNION ALL SELECT 'in_doubt', NULL, count(*) FROM message WHERE state = 'in_doubt' AND {which}
         UNION ALL SELECT 'planned', NULL, count(*) FROM message WHERE state = 'planned' AND {which}
         UNION ALL SELECT 'refused', NULL, count(*) FROM message WHERE state = 'refused' AND {which}
         UNION ALL SELECT 'sent', NULL, count(*) FROM message WHERE {all}
         UNION ALL SELECT 'skipped', reason, count(*) FROM message WHERE state = 'skipped' AND {which} GROUP BY reason"
    ))?;
    let rows = rows.query_map(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut counts = rows.collect::<rusqlite::Result<Vec<(State, Option<Reason>, u64)>>>()?;
    let others: u64 = counts.iter().filter(|(state, ..)| *state != State::Sent).map(|(.., messages)| messages).sum();
    for (state, _, messages) in &mut counts {
        if *state == State::Sent {
            *messages -= others;
        }
    }
    counts.retain(|(.., messages)| *messages > 0);
    Ok(counts)
}

const MESSAGE: &str =
    "message.message_key, message.kind, message.state, message.reason, message.recipient, message.message_id,
    message.cart_id, message.planned_at, message.not_before, message.expires_at, message.armed_at, message.settled_at,
    message.last_reply, (SELECT count(*) FROM attempt WHERE attempt.message = message.id)";

fn message_from(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        message_key: row.get(from)?,
        kind: row.get(from + 1)?,
        state: row.get(from + 2)?,
        reason: row.get(from + 3)?,
        recipient: row.get(from + 4)?,
        message_id: row.get(from + 5)?,
        cart_id: row.get(from + 6)?,
        planned_at: row.get(from + 7)?,
        not_before: row.get(from + 8)?,
        expires_at: row.get(from + 9)?,
        armed_at: row.get(from + 10)?,
        settled_at: row.get(from + 11)?,
        last_reply: row.get(from + 12)?,
        attempts: row.get(from + 13)?,
    })
}

/// The WHERE clause of a filter, with its values in order.
fn conditions(filter: &LogFilter, instant_column: &str, address_column: &str, episodes: bool) -> (String, Vec<Value>) {
    let mut clauses = vec!["1".to_owned()];
    let mut values = Vec::new();
    let mut narrow = |clause: String, value: &str| {
        clauses.push(clause);
        values.push(Value::Text(value.to_owned()));
    };
    let table = if episodes { "log" } else { "message" };
    if let Some(user_id) = &filter.user_id {
        narrow(format!("{table}.identity = ?"), &format!("u:{user_id}"));
    }
    if let Some(address) = &filter.folded_address {
        narrow(format!("{address_column} = ?"), address);
    }
    if let Some(cart_id) = &filter.cart_id {
        narrow(format!("{table}.cart_id = ?"), cart_id);
    }
    if let Some(state) = &filter.state {
        narrow("message.state = ?".into(), state.word());
    }
    if let Some(since) = filter.since {
        narrow(format!("{table}.{instant_column} >= ?"), &instant::text(since));
    }
    (clauses.join(" AND "), values)
}
