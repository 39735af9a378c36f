//! What people ask the ledger: counts, runs, episodes and messages.

use std::collections::BTreeMap;

use rusqlite::types::Value;

use super::Records;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::{EpisodeRow, IdleRow, LogFilter, MessageRow, RunRow};

impl Records {
    /// The newest runs that did something, newest first.
    pub fn newest_runs(&self, limit: u32) -> Result<Vec<RunRow>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT run.epoch AS run, command, started_at, run.ended_at AS ended_at, ending, accepted_clock,
                        count(*) FILTER (WHERE outcome = 'sent') AS sent, count(*) FILTER (WHERE outcome = 'deferred') AS deferred,
                        count(*) FILTER (WHERE outcome = 'refused') AS refused, count(*) FILTER (WHERE outcome = 'in_doubt') AS in_doubt
                 FROM (SELECT *, lead(attempt_after) OVER (ORDER BY epoch) AS attempt_until FROM run
                       ORDER BY epoch DESC LIMIT ?1) AS run
                 LEFT JOIN attempt ON attempt.id > run.attempt_after AND attempt.id <= coalesce(run.attempt_until, 9223372036854775807)
                      AND attempt.epoch = run.epoch
                 GROUP BY run.epoch ORDER BY run.epoch DESC",
            )?;
            rows.query_map([limit], |row| {
                Ok(RunRow {
                    run: row.get("run")?,
                    command: row.get("command")?,
                    started_at: row.get("started_at")?,
                    ended_at: row.get("ended_at")?,
                    ending: row.get("ending")?,
                    accepted_clock: row.get("accepted_clock")?,
                    sent: row.get("sent")?,
                    deferred: row.get("deferred")?,
                    refused: row.get("refused")?,
                    in_doubt: row.get("in_doubt")?,
                })
            })?
            .collect()
        })
    }

    /// How many messages of each step were sent by the runs since then, by its name.
    ///
    /// By their tries, which are in the order of time: a ledger of years is not looked through for a week.
    pub fn sent_by_step(&self, since: Instant) -> Result<BTreeMap<String, u64>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT step, count(DISTINCT message.id) FROM attempt CROSS JOIN message ON message.id = attempt.message
                 WHERE attempt.id > coalesce((SELECT attempt_after FROM run WHERE started_at < ?1 ORDER BY epoch DESC LIMIT 1), 0)
                     AND attempt.armed_at >= ?1 AND message.state = 'sent' AND step IS NOT NULL
                 GROUP BY step",
            )?;
            rows.query_map([instant::text(since)], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
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
                    command: row.get("command")?,
                    runs: row.get("runs")?,
                    first_started_at: row.get("first_started_at")?,
                    latest_run: row.get("latest_epoch")?,
                    latest_started_at: row.get("latest_started_at")?,
                    latest_ended_at: row.get("latest_ended_at")?,
                })
            })?
            .collect()
        })
    }

    /// Messages that match, newest first.
    pub fn messages(&self, filter: &LogFilter) -> Result<Vec<MessageRow>, Failure> {
        let mut messages = Vec::new();
        self.each_listed(filter, |message| {
            messages.push(message);
            true
        })?;
        Ok(messages)
    }

    /// The same one by one, as long as `each` wants more.
    pub fn each_listed(&self, filter: &LogFilter, mut each: impl FnMut(MessageRow) -> bool) -> Result<(), Failure> {
        let (conditions, values) = conditions(filter, "planned_at", "folded_address", false);
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT {MESSAGE} FROM message WHERE {conditions} ORDER BY id DESC LIMIT {}",
                filter.limit
            ))?;
            let mut rows = rows.query(rusqlite::params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                if !each(message_from(row)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Episodes that match, newest first, each with its message.
    pub fn episodes(&self, filter: &LogFilter) -> Result<Vec<EpisodeRow>, Failure> {
        let (conditions, values) = conditions(filter, "created_at", "lower(trim(email))", true);
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT {MESSAGE}, log.* FROM cart_abandonment_log AS log LEFT JOIN message USING (message_key)
                 WHERE {conditions} ORDER BY log.id DESC LIMIT {}",
                filter.limit
            ))?;
            rows.query_map(rusqlite::params_from_iter(values), |row| {
                let message_key: Option<String> = row.get("message_key")?;
                Ok(EpisodeRow {
                    id: row.get("id")?,
                    identity: row.get("identity")?,
                    user_id: row.get("user_id")?,
                    email: row.get("email")?,
                    cart_id: row.get("cart_id")?,
                    cart_hash: row.get("cart_hash")?,
                    cart_value: row.get("cart_value")?,
                    currency: row.get("currency")?,
                    created_at: row.get("created_at")?,
                    email_sent: row.get("email_sent")?,
                    last_sent_at: row.get("last_sent_at")?,
                    message: message_key.is_some().then(|| message_from(row)).transpose()?,
                    message_key,
                    origin: row.get("origin")?,
                })
            })?
            .collect()
        })
    }
}

/// The columns of a [`MessageRow`] under names that an episode's do not have.
pub(super) const MESSAGE: &str = "
    message.message_key AS of_message_key, message.kind AS of_kind, message.state AS of_state, message.reason AS of_reason,
    message.recipient AS of_recipient, message.message_id AS of_message_id, message.cart_id AS of_cart_id, message.step AS of_step,
    (SELECT campaign_id FROM campaign_occurrence AS o WHERE o.id = message.occurrence) AS of_campaign_id,
    message.planned_at AS of_planned_at, message.not_before AS of_not_before, message.expires_at AS of_expires_at,
    message.armed_at AS of_armed_at, message.settled_at AS of_settled_at, message.last_reply AS of_last_reply,
    (SELECT count(*) FROM attempt WHERE attempt.message = message.id) AS of_attempts";

pub(super) fn message_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        message_key: row.get("of_message_key")?,
        kind: row.get("of_kind")?,
        state: row.get("of_state")?,
        reason: row.get("of_reason")?,
        recipient: row.get("of_recipient")?,
        message_id: row.get("of_message_id")?,
        cart_id: row.get("of_cart_id")?,
        step: row.get("of_step")?,
        campaign_id: row.get("of_campaign_id")?,
        planned_at: row.get("of_planned_at")?,
        not_before: row.get("of_not_before")?,
        expires_at: row.get("of_expires_at")?,
        armed_at: row.get("of_armed_at")?,
        settled_at: row.get("of_settled_at")?,
        last_reply: row.get("of_last_reply")?,
        attempts: row.get("of_attempts")?,
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
    if let Some(step) = &filter.step {
        let of_episode = "EXISTS (SELECT 1 FROM message AS of WHERE of.episode = log.message_key AND of.step = ?)";
        narrow(if episodes { of_episode } else { "message.step = ?" }.into(), step);
    }
    if let Some(state) = &filter.state {
        narrow("message.state = ?".into(), state.word());
    }
    if let Some(since) = filter.since {
        narrow(format!("{table}.{instant_column} >= ?"), &instant::text(since));
    }
    if let Some(messages) = &filter.messages {
        let ids: Vec<String> = messages.iter().map(i64::to_string).collect();
        clauses.push(format!("message.id IN ({})", ids.join(", ")));
    }
    (clauses.join(" AND "), values)
}
