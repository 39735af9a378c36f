//! Planning: what stands against a new message, and the messages that fall due.

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension};

use super::candidates::{CANDIDATE_COLUMNS, NOT_IDLE_YET, candidate_from};
use super::columns::{instant_at, optional_instant_at};
use super::{Durability, Plans, Reading, Records};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::domain::standing::{Facts, SameContents, Standing, standing};
use crate::domain::state::{Reason, State};
use crate::failure::Failure;
use crate::ledger::{Candidate, Due, PlanRules};

impl Records {
    /// What stands against writing to the owners of the undecided candidates, those touched last first: a page of them in
    /// one query. `after` is the last one of the page before.
    pub fn standings(
        &self,
        after: Option<&Candidate>,
        limit: usize,
        rules: &PlanRules,
        now: Instant,
    ) -> Result<Vec<(Candidate, Standing)>, Failure> {
        let (touched_at, id) =
            after.map_or(("9".to_owned(), i64::MAX), |last| (instant::text(last.touched_at), last.id));
        let page = format!(
            "SELECT id, {CANDIDATE_COLUMNS} FROM temp.candidate
             WHERE verdict IS NULL AND (touched_at, id) < (?2, ?3) ORDER BY touched_at DESC, id DESC LIMIT ?4"
        );
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&facts_of(&page))?;
            let mut rows = rows.query((instant::text(now - rules.window), touched_at, id, limit as i64))?;
            let mut standings = Vec::new();
            while let Some(row) = rows.next()? {
                standings.push((candidate_from(row)?, standing(facts_from(row)?, rules.max_per_cart)));
            }
            Ok(standings)
        })
    }

    /// The same for one cart, whatever the temporary table holds.
    pub fn standing(&self, cart: &Candidate, rules: &PlanRules, now: Instant) -> Result<Standing, Failure> {
        let one =
            "SELECT 0 AS id, ?2 AS cart_id, ?3 AS identity, NULL AS user_id, '' AS recipient, ?4 AS folded_address,
                          ?5 AS cart_hash, '' AS cart_value, '' AS currency, ?6 AS touched_at";
        let facts = self.read(|conn| {
            conn.prepare_cached(&facts_of(one))?.query_row(
                (
                    instant::text(now - rules.window),
                    &cart.cart_id,
                    &cart.identity,
                    &cart.folded_address,
                    &cart.cart_hash,
                    instant::text(cart.touched_at),
                ),
                facts_from,
            )
        })?;
        Ok(standing(facts, rules.max_per_cart))
    }

    /// What stands against a cart among the others of this look: one of the same shopper was chosen already, or the shopper
    /// is at another just now.
    pub fn standing_among_candidates(&self, cart: &Candidate) -> Result<Standing, Failure> {
        self.read(|conn| {
            let chosen: Option<(String, bool)> = conn
                .prepare_cached(
                    "SELECT cart_id, cart_hash = ?1 FROM temp.candidate WHERE verdict = 'plan' AND folded_address = ?2
                     UNION ALL
                     SELECT cart_id, 1 FROM temp.candidate WHERE verdict = 'plan' AND identity = ?3 AND cart_hash = ?1
                     ORDER BY 2 DESC LIMIT 1",
                )?
                .query_row((&cart.cart_hash, &cart.folded_address, &cart.identity), |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            Ok(match chosen {
                Some((_, true)) => Standing::InProgress,
                Some((by_cart, false)) => Standing::Superseded { by_cart },
                None => busy_with(conn, &cart.cart_id, &cart.identity, &cart.folded_address)?
                    .map_or(Standing::Free, |with_cart| Standing::Busy { with_cart }),
            })
        })
    }

    /// Another cart that the shopper of a due message was at when this run looked.
    pub fn busy_with(&self, due: &Due) -> Result<Option<String>, Failure> {
        self.read(|conn| busy_with(conn, &due.cart_id, &due.identity, &due.folded_address))
    }

    /// Cart messages due at `now`, oldest first, after the one at `after` (its `not_before` and id).
    pub fn due_carts(&self, now: Instant, after: Option<(Instant, i64)>, limit: usize) -> Result<Vec<Due>, Failure> {
        let (after_at, after_id) = after.map_or((String::new(), 0), |(at, id)| (instant::text(at), id));
        // For readers: an older schema does not have it.
        let missing_since = if self.is_of_an_older_schema() { "NULL AS missing_since" } else { "missing_since" };
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&format!(
                "SELECT id, message_key, recipient, folded_address, message_id, planned_at, not_before,
                        identity, cart_id, cart_hash, cart_touched_at, {missing_since}
                 FROM message
                 WHERE occurrence IS NULL AND state = 'planned' AND not_before <= ?1 AND (not_before, id) > (?2, ?3) AND expires_at > ?1
                 ORDER BY not_before, id LIMIT ?4",
            ))?;
            rows.query_map((instant::text(now), after_at, after_id, limit as i64), |row| {
                Ok(Due {
                    id: row.get("id")?,
                    message_key: row.get("message_key")?,
                    recipient: row.get("recipient")?,
                    folded_address: row.get("folded_address")?,
                    message_id: row.get("message_id")?,
                    planned_at: instant_at(row, "planned_at")?,
                    not_before: instant_at(row, "not_before")?,
                    identity: row.get("identity")?,
                    cart_id: row.get("cart_id")?,
                    cart_hash: row.get("cart_hash")?,
                    cart_touched_at: instant_at(row, "cart_touched_at")?,
                    missing_since: optional_instant_at(row, "missing_since")?,
                })
            })?
            .collect()
        })
    }

    /// How many cart messages are due at `now`.
    pub fn count_due_carts(&self, now: Instant) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT count(*) FROM message WHERE occurrence IS NULL AND state = 'planned' AND not_before <= ?1",
                [instant::text(now)],
                |row| row.get(0),
            )
        })
    }
}

impl Plans<'_> {
    /// Plans every candidate decided as `plan`, and records every one decided as `superseded`, in one transaction.
    ///
    /// A message still planned for the same address or cart, touched earlier, becomes `superseded`.
    pub fn plan_candidates(&mut self, rules: &PlanRules, now: Instant, sender_domain: &str) -> Result<u64, Failure> {
        let ledger_id = self.0.id.clone();
        self.0.write(Durability::Full, |tx| {
            let mut chosen = tx.prepare(&format!(
                "SELECT id, {CANDIDATE_COLUMNS}, verdict = 'plan' AS is_chosen FROM temp.candidate WHERE verdict IN ('plan', 'superseded') ORDER BY touched_at, id"
            ))?;
            let mut rows = chosen.query([])?;
            let mut planned = 0;
            while let Some(row) = rows.next()? {
                let cart = candidate_from(row)?;
                let to_plan: bool = row.get("is_chosen")?;
                plan_one(tx, &cart, to_plan, rules, now, &ledger_id, sender_domain)?;
                planned += u64::from(to_plan);
            }
            Ok(planned)
        })
    }
}

/// The facts about each cart of `carts` (a SELECT of `id` and [`CANDIDATE_COLUMNS`]), behind those columns. `?1` is when the
/// window began.
///
/// One statement for many carts. What an index tells first is looked up first; where it stands against a message, nothing else
/// is asked. `same` has the strongest as the greatest text: open, in doubt, then the latest within the window.
fn facts_of(carts: &str) -> String {
    const WROTE_AT: &str = "cart_hash, max(coalesce(last_sent_at, ''), created_at) AS at";
    let same = "SELECT max(CASE WHEN state = 'planned' OR state = 'armed' THEN '3' WHEN state = 'in_doubt' THEN '2'
                    WHEN blocking_at > ?1 THEN '1' || blocking_at || coalesce(reason, state) END)
                FROM (SELECT state, reason, blocking_at FROM message WHERE identity = c.identity AND cart_hash = c.cart_hash
                      UNION ALL
                      SELECT state, reason, blocking_at FROM message
                      WHERE folded_address = c.folded_address AND cart_hash = c.cart_hash)";
    format!(
        "WITH known AS MATERIALIZED (SELECT c.*, ({same}) AS same FROM ({carts}) AS c)
         SELECT c.id, {CANDIDATE_COLUMNS}, same,
             CASE WHEN same IS NULL THEN (
                 SELECT max(at) FROM (
                     SELECT {WROTE_AT} FROM cart_abandonment_log WHERE identity = c.identity AND +message_key IS NULL
                     UNION ALL
                     SELECT {WROTE_AT} FROM cart_abandonment_log
                     WHERE lower(trim(email)) = c.folded_address AND +message_key IS NULL
                     UNION ALL
                     SELECT {WROTE_AT} FROM removed_duplicate WHERE identity = c.identity
                     UNION ALL
                     SELECT {WROTE_AT} FROM removed_duplicate WHERE lower(trim(email)) = c.folded_address) AS old
                 WHERE at > ?1 AND (old.cart_hash = c.cart_hash OR old.cart_hash NOT GLOB 'v1:*')) END AS older_system_at,
             -- One that was empty, or held something else, and is as it was planned again, was away for a moment.
             CASE WHEN same IS NULL THEN (
                 SELECT m.reason FROM message AS m WHERE m.cart_id = c.cart_id AND m.cart_touched_at >= c.touched_at
                     AND (m.reason = 'ordered' OR m.reason = 'superseded' OR (m.reason = 'changed' AND m.cart_hash <> c.cart_hash))
                 LIMIT 1) END AS skipped_untouched,
             -- By the address too: a guest who logs in has another identity then.
             CASE WHEN same IS NULL THEN (
                 SELECT count(*) FROM message AS m WHERE m.cart_id = c.cart_id
                     AND (m.identity = c.identity OR m.folded_address = c.folded_address)
                     AND m.state IN ('planned', 'armed', 'sent', 'in_doubt')) ELSE 0 END AS messages,
             same IS NULL AND EXISTS (SELECT 1 FROM suppression AS s WHERE s.folded_address = c.folded_address) AS is_suppressed,
             CASE WHEN same IS NULL THEN (
                 SELECT m.cart_id FROM message AS m WHERE m.kind = 'cart' AND m.state = 'planned'
                     AND m.folded_address = c.folded_address AND m.cart_id <> c.cart_id AND m.cart_touched_at >= c.touched_at) END AS planned_cart
         FROM known AS c"
    )
}

/// Reads what [`facts_of`] selects behind the cart itself.
fn facts_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Facts> {
    let same: Option<String> = row.get("same")?;
    Ok(Facts {
        same: same.map(|same| match same.split_at(1) {
            ("3", _) => SameContents::Open,
            ("2", _) => SameContents::InDoubt,
            (_, within) => {
                // An instant, and what settled it.
                let (at, how) = within.split_at(within.find('Z').map_or(within.len(), |end| end + 1));
                SameContents::Within { how: how.to_owned(), at: at.to_owned() }
            }
        }),
        older_system_at: row.get("older_system_at")?,
        skipped_untouched: row.get("skipped_untouched")?,
        messages: row.get("messages")?,
        suppressed: row.get("is_suppressed")?,
        planned_cart: row.get("planned_cart")?,
    })
}

/// The cart, other than this one, that a shopper had not left alone for long enough when the carts were read.
fn busy_with(
    conn: &Reading<'_>,
    cart_id: &str,
    identity: &str,
    folded_address: &str,
) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached(&format!(
        "SELECT cart_id FROM temp.candidate WHERE verdict = '{NOT_IDLE_YET}' AND folded_address = ?2 AND cart_id <> ?1
         UNION ALL
         SELECT cart_id FROM temp.candidate WHERE verdict = '{NOT_IDLE_YET}' AND identity = ?3 AND cart_id <> ?1
         LIMIT 1"
    ))?
    .query_row((cart_id, folded_address, identity), |row| row.get(0))
    .optional()
}

fn plan_one(
    tx: &Connection,
    cart: &Candidate,
    to_plan: bool,
    rules: &PlanRules,
    now: Instant,
    ledger_id: &str,
    sender_domain: &str,
) -> rusqlite::Result<()> {
    let at = instant::text(now);
    if to_plan {
        // One column each: with OR, SQLite walks over every cart message instead of looking into the two indexes.
        for (column, value) in [("folded_address", &cart.folded_address), ("cart_id", &cart.cart_id)] {
            tx.prepare_cached(&format!(
                "UPDATE message SET state = 'skipped', reason = 'superseded', settled_at = ?2
                 WHERE kind = 'cart' AND state = 'planned' AND {column} = ?1"
            ))?
            .execute((value, &at))?;
        }
    }
    // An episode of the same second exists only after a change of mind within it, or from an older system.
    let mut created_at = now;
    let message_key = loop {
        let key = message_key::cart(&cart.identity, &cart.cart_hash, created_at);
        let taken = tx
            .prepare_cached(
                "SELECT 1 FROM message WHERE message_key = ?1
                 UNION ALL
                 SELECT 1 FROM cart_abandonment_log WHERE identity = ?2 AND cart_hash = ?3 AND created_at = ?4",
            )?
            .exists((&key, &cart.identity, &cart.cart_hash, instant::text(created_at)))?;
        if !taken {
            break key;
        }
        created_at += TimeDelta::seconds(1);
    };
    let message_id = message_key::message_id(&message_key::token(ledger_id, &message_key), sender_domain);
    tx.prepare_cached(
        "INSERT INTO message (message_key, kind, state, reason, recipient, folded_address, message_id, planned_at,
             not_before, expires_at, settled_at, identity, cart_id, cart_hash, cart_touched_at)
         VALUES (?1, 'cart', ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute((
        &message_key,
        if to_plan { State::Planned } else { State::Skipped },
        (!to_plan).then_some(Reason::Superseded),
        &cart.recipient,
        &cart.folded_address,
        &message_id,
        &at,
        instant::text(cart.touched_at + rules.max_age),
        (!to_plan).then_some(&at),
        &cart.identity,
        &cart.cart_id,
        &cart.cart_hash,
        instant::text(cart.touched_at),
    ))?;
    tx.prepare_cached(
        "INSERT INTO cart_abandonment_log (identity, user_id, email, cart_id, cart_hash, cart_value, currency, created_at, message_key, origin)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'detect')",
    )?
    .execute((
        &cart.identity,
        &cart.user_id,
        &cart.recipient,
        &cart.cart_id,
        &cart.cart_hash,
        &cart.cart_value,
        &cart.currency,
        instant::text(created_at),
        &message_key,
    ))?;
    Ok(())
}
