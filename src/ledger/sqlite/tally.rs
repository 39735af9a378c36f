//! What is counted as it happens: triggers keep it, in the transaction in which it happens, so that nothing is looked through
//! to be counted.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::columns::optional_instant_at;
use super::{Reading, Records};
use crate::domain::instant::{self, Instant};
use crate::domain::state::{Reason, State};
use crate::failure::Failure;
use crate::ledger::StateCount;

/// The rows of `message_tally`, counted anew.
pub(super) const MESSAGES_COUNTED: &str =
    "SELECT coalesce(occurrence, 0) AS occurrence, state, coalesce(reason, '') AS reason, count(*) AS messages, count(*) AS entered,
         0 AS pruned FROM message GROUP BY 1, 2, 3";

/// The rows of `tally`, counted anew. What was taken off the list meanwhile, or cancelled, is not known any more.
pub(super) const REST_COUNTED: &str =
    "SELECT 'attempt' AS counted, outcome AS part, count(*) AS number, 0 AS pruned FROM attempt GROUP BY outcome
     UNION ALL SELECT 'report', class, count(*), 0 FROM report GROUP BY class
     UNION ALL SELECT 'suppressed', origin, count(*), 0 FROM suppression GROUP BY origin
     UNION ALL SELECT 'suppressed address', '', count(DISTINCT folded_address), 0 FROM suppression HAVING count(*) > 0
     UNION ALL SELECT 'order', coalesce(step, ''), count(*), 0 FROM recovery JOIN message ON message.id = recovery.message
         WHERE status = 'placed' GROUP BY 2
     UNION ALL SELECT 'order value', coalesce(step, '') || ' ' || coalesce(currency, ''), sum(CAST(round(value * 10000) AS INTEGER)), 0
         FROM recovery JOIN message ON message.id = recovery.message WHERE status = 'placed' AND value IS NOT NULL GROUP BY 2";

/// What else than messages is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Tries, by outcome.
    Attempts,
    /// What came back, by class.
    Reports,
    /// How often an address was suppressed, by origin; also those that were taken back.
    Suppressed,
    /// Orders that followed a message, by its step, as first recorded.
    Orders,
    /// Their value in ten thousandths, by step and currency (`second EUR`).
    OrderValue,
}

impl Counted {
    fn word(self) -> &'static str {
        match self {
            Counted::Attempts => "attempt",
            Counted::Reports => "report",
            Counted::Suppressed => "suppressed",
            Counted::Orders => "order",
            Counted::OrderValue => "order value",
        }
    }
}

impl Records {
    /// Messages by kind, state and reason, pruned ones too.
    pub fn count_by_state(&self) -> Result<Vec<StateCount>, Failure> {
        self.state_counts("sum(messages)")
    }

    /// How often messages came to be in each state, by kind, state and reason; it never falls.
    pub fn count_entered(&self) -> Result<Vec<StateCount>, Failure> {
        self.state_counts("sum(entered)")
    }

    fn state_counts(&self, number: &str) -> Result<Vec<StateCount>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&format!(
                "SELECT CASE occurrence WHEN 0 THEN 'cart' ELSE 'campaign' END AS kind, state, nullif(reason, '') AS why, {number} AS messages
                 FROM message_tally GROUP BY 1, 2, 3 HAVING {number} > 0 ORDER BY 1, 2, 3"
            ))?;
            rows.query_map([], |row| {
                Ok(StateCount {
                    kind: row.get("kind")?,
                    state: row.get("state")?,
                    reason: row.get("why")?,
                    messages: row.get("messages")?,
                })
            })?
            .collect()
        })
    }

    /// Messages that are planned or begun in openings that have any, by campaign.
    pub fn left_by_campaign(&self) -> Result<BTreeMap<String, u64>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT campaign_id, sum(messages) FROM message_tally AS t JOIN campaign_occurrence AS o ON o.id = t.occurrence
                 WHERE t.state IN ('planned', 'armed') AND messages > 0 GROUP BY 1",
            )?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Since when the oldest message that is due at `now` is: of carts, and of campaigns that are delivered.
    pub fn oldest_due(&self, now: Instant) -> Result<[Option<Instant>; 2], Failure> {
        const CARTS: &str =
            "SELECT min(not_before) FROM message WHERE occurrence IS NULL AND state = 'planned' AND not_before <= ?1";
        const CAMPAIGNS: &str = "SELECT min((SELECT min(not_before) FROM message
                 WHERE message.occurrence = o.id AND state = 'planned' AND not_before <= ?1))
             FROM message_tally AS t JOIN campaign_occurrence AS o ON o.id = t.occurrence JOIN scheduled_campaign AS c USING (campaign_id)
             WHERE t.state = 'planned' AND t.messages > 0 AND c.status = 'running'";
        let now = instant::text(now);
        self.read(|conn| {
            let oldest = |sql: &str| conn.query_row(sql, [&now], |row| optional_instant_at(row, 0));
            Ok([oldest(CARTS)?, oldest(CAMPAIGNS)?])
        })
    }

    /// When the body of the oldest message in doubt was begun: of carts, and of campaigns.
    pub fn oldest_in_doubt(&self) -> Result<[Option<Instant>; 2], Failure> {
        self.read(|conn| {
            let oldest = |which: &str| {
                let sql =
                    format!("SELECT min(armed_at) FROM message WHERE state = 'in_doubt' AND occurrence IS {which}");
                conn.query_row(&sql, [], |row| optional_instant_at(row, 0))
            };
            Ok([oldest("NULL")?, oldest("NOT NULL")?])
        })
    }

    /// All else that is counted, by what it is counted by.
    pub fn counted(&self, what: Counted) -> Result<BTreeMap<String, u64>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached("SELECT part, number FROM tally WHERE counted = ?1")?;
            rows.query_map([what.word()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// How many addresses are on the suppression list.
    pub fn count_suppressed(&self) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT coalesce(sum(number), 0) FROM tally WHERE counted = 'suppressed address'",
                [],
                |row| row.get(0),
            )
        })
    }
}

/// The messages of an opening by state and reason.
pub(super) fn of_occurrence(
    conn: &Reading<'_>,
    occurrence: i64,
) -> rusqlite::Result<Vec<(State, Option<Reason>, u64)>> {
    let mut rows = conn.prepare_cached(
        "SELECT state, nullif(reason, ''), messages FROM message_tally WHERE occurrence = ?1 AND messages > 0",
    )?;
    rows.query_map([occurrence], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// Counts everything anew: for a ledger that was written to without the triggers. What was pruned stays counted.
pub(super) fn recount(tx: &Connection) -> rusqlite::Result<()> {
    tx.execute_batch(&format!(
        "CREATE TEMP TABLE pruned_message AS SELECT occurrence, state, reason, entered, pruned FROM message_tally;
         CREATE TEMP TABLE pruned_rest AS SELECT counted, part, pruned FROM tally WHERE pruned > 0;
         DELETE FROM message_tally;
         DELETE FROM tally;
         INSERT INTO message_tally (occurrence, state, reason, messages, entered, pruned)
             SELECT occurrence, state, reason, sum(messages) + sum(pruned), max(max(entered), sum(messages) + sum(pruned)), sum(pruned)
             FROM ({MESSAGES_COUNTED} UNION ALL SELECT occurrence, state, reason, 0, entered, pruned FROM temp.pruned_message) GROUP BY 1, 2, 3;
         INSERT INTO tally (counted, part, number, pruned)
             SELECT counted, part, sum(number) + sum(pruned), sum(pruned)
             FROM ({REST_COUNTED} UNION ALL SELECT counted, part, 0, pruned FROM temp.pruned_rest) GROUP BY 1, 2;
         DROP TABLE temp.pruned_message;
         DROP TABLE temp.pruned_rest"
    ))
}
