//! Pruning: what was settled long ago goes, whole flows at a time; the counts of it stay.

use chrono::TimeDelta;

use super::{Durability, Erasures, Records};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::Pruned;

/// The least age of what is pruned: a server may still send a report, and a person may still ask.
const LEAST_AGE: TimeDelta = TimeDelta::days(90);

/// A message that may go, and a cart's with all of its flow. `?1`: settled before. The lock file remembers how many the newest run
/// began.
const MAY_GO: &str = "state IN ('sent', 'refused', 'skipped') AND settled_at < ?1
    AND CASE kind WHEN 'campaign' THEN EXISTS (SELECT 1 FROM campaign_occurrence AS o WHERE o.id = message.occurrence AND o.expires_at < ?1)
            AND NOT EXISTS (SELECT 1 FROM coupon_code WHERE coupon_code.message = message.id)
            AND NOT EXISTS (SELECT 1 FROM report WHERE report.message = message.id AND received_at >= ?1)
            AND NOT EXISTS (SELECT 1 FROM attempt, ledger WHERE attempt.message = message.id AND attempt.epoch = ledger.epoch)
        ELSE message_key = episode AND NOT EXISTS (
            SELECT 1 FROM message AS step WHERE step.episode = message.episode
                AND (step.state NOT IN ('sent', 'refused', 'skipped') OR step.settled_at >= ?1
                     OR EXISTS (SELECT 1 FROM coupon_code WHERE coupon_code.message = step.id)
                     OR EXISTS (SELECT 1 FROM report WHERE report.message = step.id AND received_at >= ?1)
                     OR EXISTS (SELECT 1 FROM attempt, ledger WHERE attempt.message = step.id AND attempt.epoch = ledger.epoch))) END";
/// A row of an older system that no window reaches any more.
const IS_OLD_ROW: &str = "max(coalesce(last_sent_at, ''), created_at) < ?1";

impl Records {
    /// How old a message must be, at least, to be pruned: no rule looks back so far.
    pub fn least_pruning_age(&self) -> Result<TimeDelta, Failure> {
        let longest: i64 = self.read(|conn| {
            conn.query_row(
                "SELECT max(window_seconds, step_gap_seconds, coalesce(orders_count_for, 0),
                            coalesce((SELECT max(seconds) FROM cap), 0)) FROM ledger",
                [],
                |row| row.get(0),
            )
        })?;
        Ok(LEAST_AGE.max(TimeDelta::seconds(longest)))
    }

    /// What pruning of all that was settled before `cutoff` would delete.
    pub fn would_prune(&self, cutoff: Instant) -> Result<Pruned, Failure> {
        let cutoff = instant::text(cutoff);
        self.read(|conn| {
            let number = |sql: &str| conn.query_row(sql, [&cutoff], |row| row.get::<_, u64>(0));
            let messages = number(&format!(
                "SELECT count(*) FROM message AS one WHERE coalesce(episode, id) IN
                     (SELECT coalesce(episode, id) FROM message WHERE {MAY_GO}) AND settled_at < ?1"
            ))?;
            let settled = number(
                "SELECT count(*) FROM message WHERE state IN ('sent', 'refused', 'skipped') AND settled_at < ?1",
            )?;
            let older_rows = number(&format!(
                "SELECT (SELECT count(*) FROM cart_abandonment_log WHERE message_key IS NULL AND {IS_OLD_ROW})
                     + (SELECT count(*) FROM removed_duplicate WHERE {IS_OLD_ROW})"
            ))?;
            Ok(Pruned { messages, older_rows, kept: settled - messages })
        })
    }
}

impl Erasures<'_> {
    /// Deletes what was settled before `cutoff`, in batches; `each` hears of every one. The caller holds the run lock, and has
    /// seen to it that `cutoff` is at least [`Records::least_pruning_age`] ago.
    ///
    /// Killed, or without power, some of it is gone and some is not; the same again deletes the rest. From the first batch on
    /// no cart that was touched before `cutoff` is written to: what was written about it is not known any more.
    pub fn prune(&mut self, cutoff: Instant, each: &mut dyn FnMut(u64)) -> Result<Pruned, Failure> {
        let before = self.0.would_prune(cutoff)?;
        let cutoff = instant::text(cutoff);
        self.0.write(Durability::Full, |tx| {
            tx.execute("UPDATE ledger SET pruned_to = max(coalesce(pruned_to, ''), ?1)", [&cutoff])
        })?;
        let ids: Vec<i64> = self.0.read(|conn| {
            let mut rows = conn.prepare(&format!("SELECT id FROM message WHERE {MAY_GO} ORDER BY id"))?;
            rows.query_map([&cutoff], |row| row.get(0))?.collect()
        })?;
        self.0.in_batches(&ids, each, |tx, batch| {
            let mut deleted = 0;
            for id in batch.ids {
                let of_it = "(SELECT m.id FROM message AS m WHERE m.id = ?1
                              UNION SELECT m.id FROM message AS first JOIN message AS m ON m.episode = first.episode WHERE first.id = ?1)";
                for table in ["resolution", "report", "recovery", "episode_order", "attempt"] {
                    tx.prepare_cached(&format!("DELETE FROM {table} WHERE message IN {of_it}"))?.execute([id])?;
                }
                tx.prepare_cached(
                    "DELETE FROM cart_abandonment_log WHERE message_key = (SELECT episode FROM message WHERE id = ?1)",
                )?
                .execute([id])?;
                deleted += tx.prepare_cached(&format!("DELETE FROM message WHERE id IN {of_it}"))?.execute([id])?;
            }
            Ok(Some(deleted as u64))
        })?;
        self.0.write(Durability::Full, |tx| {
            for table in ["cart_abandonment_log WHERE message_key IS NULL AND", "removed_duplicate WHERE"] {
                tx.execute(&format!("DELETE FROM {table} {IS_OLD_ROW}"), [&cutoff])?;
            }
            tx.execute("DELETE FROM report WHERE message IS NULL AND received_at < ?1", [&cutoff])?;
            tx.execute("DELETE FROM run WHERE ended_at < ?1 AND epoch < (SELECT epoch FROM ledger)", [&cutoff])
        })?;
        Ok(before)
    }
}
