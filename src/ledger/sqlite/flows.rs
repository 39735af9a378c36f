//! Flows: the messages of an abandonment, one for each step, and what is done to those still planned.

use super::columns::{instant_at, optional_instant_at};
use super::{Books, Durability, Reading};
use crate::domain::flow::{self, Clocks, Flow, Past};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::{Candidate, PlanRules};
use chrono::TimeDelta;

/// The messages of each episode of the same contents and the same shopper or address, oldest first. A guest who logs in has
/// another identity then, and keeps the episode. What is planned and too late `now` counts as expired: a run expires it first.
pub(super) fn past_of(conn: &Reading<'_>, cart: &Candidate, now: Instant) -> rusqlite::Result<Vec<Past>> {
    const COLUMNS: &str =
        "id, episode, step, step_after, armed_at, nullif(blocking_at, '') AS blocking_at, cart_touched_at, planned_at,
         CASE WHEN state = 'planned' AND expires_at <= ?4 THEN 'skipped' ELSE state END AS state,
         CASE WHEN state = 'planned' AND expires_at <= ?4 THEN 'expired' ELSE reason END AS reason,
         CASE WHEN state = 'planned' AND expires_at <= ?4 THEN ?4 ELSE settled_at END AS settled_at";
    let mut rows = conn.prepare_cached(&format!(
        "WITH known (in_episode) AS MATERIALIZED (
             SELECT episode FROM message WHERE identity = ?1 AND cart_hash = ?3
             UNION SELECT episode FROM message WHERE folded_address = ?2 AND cart_hash = ?3)
         SELECT {COLUMNS} FROM known CROSS JOIN message ON episode = in_episode ORDER BY id"
    ))?;
    rows.query_map((&cart.identity, &cart.folded_address, &cart.cart_hash, instant::text(now)), |row| {
        Ok(Past {
            episode: row.get("episode")?,
            step: row.get("step")?,
            after: row.get::<_, Option<i64>>("step_after")?.map(TimeDelta::seconds),
            state: row.get("state")?,
            reason: row.get("reason")?,
            armed_at: optional_instant_at(row, "armed_at")?,
            blocking_at: optional_instant_at(row, "blocking_at")?,
            touched_at: instant_at(row, "cart_touched_at")?,
            planned_at: instant_at(row, "planned_at")?,
            settled_at: optional_instant_at(row, "settled_at")?,
        })
    })?
    .collect()
}

/// Where a cart is in its flow.
pub(super) fn flow_of(cart: &Candidate, past: &[Past], rules: &PlanRules, now: Instant) -> Flow {
    let (touched_at, window, held_back_at) = (cart.touched_at, rules.window, rules.held_back_at);
    let hours = rules.send_window.as_ref().map(|window| (window, cart.timezone.unwrap_or(rules.zone)));
    flow::next(&rules.steps, past, Clocks { now, touched_at, window, held_back_at, hours })
}

impl Books<'_> {
    /// Moves a planned step with a touch of its cart: due then, and too late then.
    pub fn move_with_touch(
        &mut self,
        id: i64,
        touched_at: Instant,
        not_before: Instant,
        until: Instant,
    ) -> Result<(), Failure> {
        self.0.write(Durability::Lazy, |tx| {
            tx.prepare_cached(
                "UPDATE message SET cart_touched_at = ?2, not_before = ?3, expires_at = ?4, missing_since = NULL
                 WHERE id = ?1 AND state = 'planned'",
            )?
            .execute((id, instant::text(touched_at), instant::text(not_before), instant::text(until)))
            .map(drop)
        })
    }
}
