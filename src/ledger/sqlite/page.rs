//! What a page is made of, read in one snapshot. Messages are looked through once, whatever is counted of them; no query joins
//! them with what there are several of (tries, orders, reports), so that none counts twice.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Params;

use super::columns::{instant_at, optional_instant_at};
use super::report::{MESSAGE, message_from};
use super::{Reading, Records};
use crate::domain::instant::{self, Instant};
use crate::domain::state::{How, OrderStatus, Reason, State};
use crate::failure::Failure;
use crate::ledger::{
    Abandoned, DecidedOccurrence, EpisodeOutcome, FollowedBy, MessageRow, OccurrenceCount, Period, RecoveredOrder, Seen,
};

/// The messages of a [`Period`], whose values are those of [`Period::values`].
pub(super) const IN_PERIOD: &str = "message.planned_at >= ?1 AND message.planned_at <= ?2
    AND (?3 IS NULL OR message.occurrence IN (SELECT id FROM campaign_occurrence WHERE campaign_id = ?3))";

const IN_DOUBT: &str = "message.state = 'in_doubt'
    AND (?1 IS NULL OR message.occurrence IN (SELECT id FROM campaign_occurrence WHERE campaign_id = ?1))";

impl Period {
    pub(super) fn values(&self) -> (String, String, Option<&str>) {
        (instant::text(self.since), instant::text(self.until), self.campaign.as_deref())
    }
}

impl Records {
    /// Does all of this in one read transaction: runs that write meanwhile are not seen.
    ///
    /// As long as it lasts, what others write stays in the write-ahead log.
    ///
    /// # Errors
    /// Exit 74, and those of `work`.
    pub fn in_one_snapshot<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.scratch(|conn| conn.execute_batch("BEGIN"))?;
        // The transaction begins with its first look.
        let worked = self.born_at().and_then(|_| work());
        self.scratch(|conn| conn.execute_batch("ROLLBACK"))?;
        worked
    }

    /// Of the ledger's own file, without its write-ahead log.
    pub fn size_in_bytes(&self) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
                row.get(0)
            })
        })
    }

    /// Shows each message of that time, in no order.
    pub fn each_message(&self, period: &Period, mut each: impl FnMut(Seen<'_>)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT message.occurrence, message.state, message.reason, message.planned_at, message.armed_at, message.cart_touched_at, message.step, message.step_after,
                        message.folded_address, CASE WHEN message.state = 'refused' THEN message.last_reply END
                 FROM message WHERE {IN_PERIOD}"
            ))?;
            let mut rows = rows.query(period.values())?;
            while let Some(row) = rows.next()? {
                let text = |column: usize| row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from);
                each(Seen {
                    occurrence: row.get(0)?,
                    state: row.get(1)?,
                    reason: row.get::<_, Option<Reason>>(2)?,
                    planned_at: text(3)?.unwrap_or_default(),
                    armed_at: text(4)?,
                    touched_at: text(5)?,
                    step: text(6)?,
                    step_after: row.get(7)?,
                    folded_address: text(8)?.unwrap_or_default(),
                    last_reply: text(9)?,
                });
            }
            Ok(())
        })
    }

    /// Shows each abandonment recorded in that time, in the order of the rows, those of an older system, too.
    pub fn each_abandonment(&self, period: &Period, mut each: impl FnMut(Abandoned<'_>)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT identity, email, cart_id, cart_hash, cart_value, currency, created_at, email_sent, last_sent_at, message_key
                 FROM cart_abandonment_log WHERE created_at >= ?1 AND created_at <= ?2 ORDER BY id",
            )?;
            let (since, until, _) = period.values();
            let mut rows = rows.query((since, until))?;
            while let Some(row) = rows.next()? {
                let text = |column: usize| row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from);
                each(Abandoned {
                    identity: text(0)?.unwrap_or_default(),
                    email: text(1)?,
                    cart_id: text(2)?,
                    cart_hash: text(3)?.unwrap_or_default(),
                    value: text(4)?,
                    currency: text(5)?,
                    created_at: text(6)?.unwrap_or_default(),
                    email_sent: row.get(7)?,
                    last_sent_at: text(8)?,
                    message_key: text(9)?,
                });
            }
            Ok(())
        })
    }

    /// What became of the messages of the episode of this key.
    pub fn episode_outcome(&self, episode: &str) -> Result<EpisodeOutcome, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT state, reason, step, armed_at, message_id FROM message WHERE episode = ?1 ORDER BY coalesce(step_after, -1), id",
            )?;
            let mut rows = rows.query([episode])?;
            let mut outcome = EpisodeOutcome::default();
            while let Some(row) = rows.next()? {
                let (state, armed_at): (State, Option<String>) = (row.get("state")?, row.get("armed_at")?);
                outcome.sent += u64::from(state == State::Sent);
                outcome.last_armed_at = outcome.last_armed_at.take().max(armed_at);
                (outcome.state, outcome.reason) = (Some(state), row.get("reason")?);
                (outcome.step, outcome.message_id) = (row.get("step")?, row.get("message_id")?);
            }
            Ok(outcome)
        })
    }

    /// How many rows of an older system were moved aside as duplicates.
    pub fn count_removed_duplicates(&self) -> Result<u64, Failure> {
        self.read(|conn| conn.query_row("SELECT count(*) FROM removed_duplicate", [], |row| row.get(0)))
    }

    /// When each command's last run ended that met nothing for a person to see to, by command.
    pub fn last_good_runs(&self) -> Result<BTreeMap<String, String>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT command, max(ended_at) FROM (
                     SELECT command, ended_at FROM run
                     WHERE ended_at IS NOT NULL AND ending IS NOT NULL AND ending NOT GLOB 'needs*' AND ending NOT GLOB 'failed*'
                     UNION ALL SELECT command, latest_ended_at FROM idle_run)
                 GROUP BY command",
            )?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// When each command's last run ended, however it did, and its last one that came to its end, by command. Looks at the newest
    /// thousand runs alone: it is asked at the end of each.
    pub fn last_runs(&self) -> Result<BTreeMap<String, (Instant, Option<Instant>)>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT command, max(ended_at), max(iif(ending GLOB 'failed*', NULL, ended_at)) FROM (
                     SELECT command, ended_at, ending FROM (SELECT * FROM run ORDER BY epoch DESC LIMIT 1000)
                     WHERE ended_at IS NOT NULL AND ending IS NOT NULL
                     UNION ALL SELECT command, latest_ended_at, 'done' FROM idle_run)
                 GROUP BY command",
            )?;
            rows.query_map([], |row| Ok((row.get(0)?, (instant_at(row, 1)?, optional_instant_at(row, 2)?))))?.collect()
        })
    }

    /// What the messages of each opening are, pruned ones too, by the number of its row.
    pub fn occurrence_counts(&self) -> Result<HashMap<i64, Vec<OccurrenceCount>>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT occurrence, state, nullif(reason, '') AS why, messages, pruned FROM message_tally
                 WHERE occurrence <> 0 AND messages > 0",
            )?;
            let mut rows = rows.query([])?;
            let mut counts: HashMap<i64, Vec<OccurrenceCount>> = HashMap::new();
            while let Some(row) = rows.next()? {
                counts.entry(row.get("occurrence")?).or_default().push(OccurrenceCount {
                    state: row.get("state")?,
                    reason: row.get("why")?,
                    messages: row.get("messages")?,
                    pruned: row.get("pruned")?,
                });
            }
            Ok(counts)
        })
    }

    /// How many messages have no row any more.
    pub fn count_pruned(&self) -> Result<u64, Failure> {
        self.read(|conn| conn.query_row("SELECT coalesce(sum(pruned), 0) FROM message_tally", [], |row| row.get(0)))
    }

    /// The occurrences decided about in that time, the newest first, and how many there are beyond `limit`.
    pub fn decided_occurrences(&self, period: &Period, limit: u64) -> Result<(Vec<DecidedOccurrence>, u64), Failure> {
        const WHICH: &str = "decided_at >= ?1 AND decided_at <= ?2 AND (?3 IS NULL OR campaign_id = ?3)";
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT id, campaign_id, planned_at, state, decided_at, recipients, bad_rows, repeated
                 FROM campaign_occurrence WHERE {WHICH} ORDER BY decided_at DESC, planned_at DESC, id DESC LIMIT {limit}"
            ))?;
            let rows = rows.query_map(period.values(), |row| {
                Ok(DecidedOccurrence {
                    id: row.get("id")?,
                    campaign_id: row.get("campaign_id")?,
                    planned_at: row.get("planned_at")?,
                    state: row.get("state")?,
                    decided_at: row.get("decided_at")?,
                    recipients: row.get("recipients")?,
                    bad_rows: row.get("bad_rows")?,
                    repeated: row.get("repeated")?,
                })
            })?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let all: u64 = conn.query_row(
                &format!("SELECT count(*) FROM campaign_occurrence WHERE {WHICH}"),
                period.values(),
                |row| row.get(0),
            )?;
            let more = all - rows.len() as u64;
            Ok((rows, more))
        })
    }

    /// The orders that followed the messages of that time, whenever they were placed. `None` where orders were never read.
    pub fn followed_by(&self, period: &Period) -> Result<Option<FollowedBy>, Failure> {
        if self.orders_look()?.to.is_none() {
            return Ok(None);
        }
        self.read(|conn| {
            let mut followed = FollowedBy::default();
            let mut last = None;
            each_order(conn, period, |message, order| {
                let entry = match order.campaign_id.clone() {
                    Some(campaign) => followed.campaigns.entry(campaign).or_default(),
                    None => followed.steps.entry(order.step.clone().unwrap_or_else(|| "-".into())).or_default(),
                };
                match order.status {
                    OrderStatus::Cancelled => entry.cancelled += 1,
                    OrderStatus::Refunded => entry.refunded += 1,
                    OrderStatus::Placed => {
                        entry.takings.add(&order);
                        match order.how {
                            How::Cart => entry.by_cart += 1,
                            How::Person => entry.by_person += 1,
                        }
                        // In the order of their messages: another one begins where the number changes.
                        entry.messages += u64::from(last != Some(message));
                        last = Some(message);
                    }
                }
            })?;
            Ok(Some(followed))
        })
    }

    /// Tries that the mail server put off (4yz), by the day (`2026-03-01`) on which they were made.
    pub fn deferrals_by_day(&self, period: &Period) -> Result<BTreeMap<String, u64>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT substr(a.ended_at, 1, 10), count(*) FROM attempt AS a
                 WHERE a.outcome = 'deferred' AND a.ended_at >= ?1 AND a.ended_at <= ?2
                     AND (?3 IS NULL OR EXISTS (SELECT 1 FROM message JOIN campaign_occurrence AS o ON o.id = message.occurrence
                                                WHERE message.id = a.message AND o.campaign_id = ?3))
                 GROUP BY 1",
            )?;
            rows.query_map(period.values(), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// The newest messages in doubt, of any time: each waits for a decision.
    pub fn newest_in_doubt(&self, campaign: Option<&str>, limit: u64) -> Result<Vec<MessageRow>, Failure> {
        self.listed(IN_DOUBT, [campaign], limit)
    }

    /// How many of them there are.
    pub fn count_in_doubt(&self, campaign: Option<&str>) -> Result<u64, Failure> {
        let sql = format!("SELECT count(*) FROM message WHERE {IN_DOUBT}");
        self.read(|conn| conn.query_row(&sql, [campaign], |row| row.get(0)))
    }

    /// The newest refused messages of that time.
    pub fn newest_refused(&self, period: &Period, limit: u64) -> Result<Vec<MessageRow>, Failure> {
        self.listed(&format!("message.state = 'refused' AND {IN_PERIOD}"), period.values(), limit)
    }

    fn listed(&self, which: &str, values: impl Params, limit: u64) -> Result<Vec<MessageRow>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT {MESSAGE} FROM message WHERE {which} ORDER BY message.id DESC LIMIT {limit}"
            ))?;
            rows.query_map(values, message_from)?.collect()
        })
    }
}

fn each_order(conn: &Reading<'_>, period: &Period, mut each: impl FnMut(i64, RecoveredOrder)) -> rusqlite::Result<()> {
    // What turned out never to have left brought nothing.
    let mut rows = conn.prepare(&format!(
        "SELECT r.order_id, r.ordered_at, r.value, r.currency, r.status, r.how, message.id AS message_row, message.step,
                (SELECT campaign_id FROM campaign_occurrence AS o WHERE o.id = message.occurrence) AS campaign_id,
                message.message_id, message.armed_at
         FROM recovery AS r CROSS JOIN message ON message.id = r.message
         WHERE (message.state = 'sent' OR message.state = 'in_doubt') AND message.armed_at < r.ordered_at AND {IN_PERIOD} ORDER BY message.id"
    ))?;
    let mut rows = rows.query(period.values())?;
    while let Some(row) = rows.next()? {
        each(row.get("message_row")?, super::recoveries::order_from(row)?);
    }
    Ok(())
}
