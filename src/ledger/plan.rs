//! Planning: what stands against a new message, and the messages that fall due.

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension};

use super::candidates::{CANDIDATE_COLUMNS, candidate_from};
use super::{Candidate, Durability, Ledger};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::failure::Failure;

/// What the ledger says about a cart that could be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing stands against a new message.
    Free,
    /// A message for the same shopper and contents went out within the window, or an older system's did.
    AlreadySent { at: String },
    /// One is planned or armed.
    InProgress,
    /// One is armed with unknown outcome.
    InDoubt,
    /// One was refused, suppressed or cancelled within the window.
    Settled { how: String, at: String },
    /// It was skipped for this reason and has not been touched since.
    Untouched { reason: String },
    /// This shopper was written to about this cart as often as is allowed.
    Enough { messages: u64 },
    /// The address is on the suppression list.
    Suppressed,
    /// A cart of the same address that was touched later is to be written to.
    Superseded { by_cart: String },
}

/// The rules of planning that come from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct PlanRules {
    pub window: TimeDelta,
    pub max_age: TimeDelta,
    pub max_per_cart: u32,
}

/// A message that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: i64,
    pub message_key: String,
    /// As the envelope has it.
    pub recipient: String,
    pub folded_address: String,
    pub message_id: String,
    pub planned_at: Instant,
    pub not_before: Instant,
    pub identity: String,
    pub cart_id: String,
    pub cart_hash: String,
    pub cart_touched_at: Instant,
}

impl Ledger {
    /// What stands against writing to this cart's owner now. The triggers hold the same; this gives the reason.
    pub fn standing(&self, cart: &Candidate, rules: &PlanRules, now: Instant) -> Result<Standing, Failure> {
        let limit = instant::text(now - rules.window);
        self.read(|conn| {
            let mut same = conn.prepare_cached(
                "SELECT state, reason, blocking_at FROM message WHERE identity = ?1 AND cart_hash = ?2
                 UNION ALL
                 SELECT state, reason, blocking_at FROM message WHERE folded_address = ?3 AND cart_hash = ?2",
            )?;
            let mut within: Option<Standing> = None;
            let mut rows = same.query((&cart.identity, &cart.cart_hash, &cart.folded_address))?;
            while let Some(row) = rows.next()? {
                let (state, reason, at): (String, Option<String>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                match state.as_str() {
                    "planned" | "armed" => return Ok(Standing::InProgress),
                    "in_doubt" => within = Some(Standing::InDoubt),
                    _ if at > limit && within != Some(Standing::InDoubt) => {
                        within = Some(match state.as_str() {
                            "sent" => Standing::AlreadySent { at },
                            _ => Standing::Settled { how: reason.unwrap_or(state), at },
                        });
                    }
                    _ => {}
                }
            }
            if let Some(standing) = within {
                return Ok(standing);
            }
            let chosen: Option<(String, bool)> = conn
                .prepare_cached(
                    "SELECT cart_id, cart_hash = ?1 FROM temp.candidate WHERE verdict = 'plan' AND folded_address = ?2
                     UNION ALL
                     SELECT cart_id, 1 FROM temp.candidate WHERE verdict = 'plan' AND identity = ?3 AND cart_hash = ?1
                     ORDER BY 2 DESC LIMIT 1",
                )?
                .query_row((&cart.cart_hash, &cart.folded_address, &cart.identity), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some((_, true)) = chosen {
                return Ok(Standing::InProgress);
            }
            let old: Option<String> = conn
                .prepare_cached(
                    "SELECT max(max(coalesce(last_sent_at, ''), created_at)) FROM (
                         SELECT cart_hash, last_sent_at, created_at FROM cart_abandonment_log WHERE identity = ?1 AND +message_key IS NULL
                         UNION ALL
                         SELECT cart_hash, last_sent_at, created_at FROM cart_abandonment_log
                         WHERE lower(trim(email)) = ?2 AND +message_key IS NULL
                         UNION ALL
                         SELECT cart_hash, last_sent_at, created_at FROM removed_duplicate WHERE identity = ?1
                         UNION ALL
                         SELECT cart_hash, last_sent_at, created_at FROM removed_duplicate WHERE lower(trim(email)) = ?2)
                     WHERE cart_hash = ?3 OR cart_hash NOT GLOB 'v1:*'",
                )?
                .query_row((&cart.identity, &cart.folded_address, &cart.cart_hash), |row| row.get(0))?;
            if let Some(at) = old.filter(|at| *at > limit) {
                return Ok(Standing::AlreadySent { at });
            }
            let untouched: Option<String> = conn
                .prepare_cached(
                    "SELECT reason FROM message WHERE cart_id = ?1 AND cart_touched_at >= ?2
                         AND reason IN ('ordered', 'empty', 'changed', 'superseded') LIMIT 1",
                )?
                .query_row((&cart.cart_id, instant::text(cart.touched_at)), |row| row.get(0))
                .optional()?;
            if let Some(reason) = untouched {
                return Ok(Standing::Untouched { reason });
            }
            // By the address too: a guest who logs in has another identity then.
            let messages: u64 = conn
                .prepare_cached(
                    "SELECT count(*) FROM message WHERE cart_id = ?1 AND (identity = ?2 OR folded_address = ?3)
                         AND state IN ('planned', 'armed', 'sent', 'in_doubt')",
                )?
                .query_row((&cart.cart_id, &cart.identity, &cart.folded_address), |row| row.get(0))?;
            if messages >= u64::from(rules.max_per_cart) {
                return Ok(Standing::Enough { messages });
            }
            if conn.prepare_cached("SELECT 1 FROM suppression WHERE folded_address = ?1")?.exists([&cart.folded_address])? {
                return Ok(Standing::Suppressed);
            }
            if let Some((by_cart, _)) = chosen {
                return Ok(Standing::Superseded { by_cart });
            }
            let newer: Option<String> = conn
                .prepare_cached(
                    "SELECT cart_id FROM message WHERE kind = 'cart' AND state = 'planned' AND folded_address = ?1
                         AND cart_id <> ?2 AND cart_touched_at >= ?3",
                )?
                .query_row((&cart.folded_address, &cart.cart_id, instant::text(cart.touched_at)), |row| row.get(0))
                .optional()?;
            Ok(newer.map_or(Standing::Free, |by_cart| Standing::Superseded { by_cart }))
        })
    }

    /// Plans every candidate decided as `plan`, and records every one decided as `superseded`, in one transaction.
    ///
    /// A message still planned for the same address or cart, touched earlier, becomes `superseded`.
    pub fn plan_candidates(&mut self, rules: &PlanRules, now: Instant, sender_domain: &str) -> Result<u64, Failure> {
        let ledger_id = self.id.clone();
        self.write(Durability::Full, |tx| {
            let mut chosen = tx.prepare(&format!(
                "SELECT {CANDIDATE_COLUMNS}, verdict = 'plan' FROM temp.candidate WHERE verdict IN ('plan', 'superseded') ORDER BY touched_at, id"
            ))?;
            let mut rows = chosen.query([])?;
            let mut planned = 0;
            while let Some(row) = rows.next()? {
                let cart = candidate_from(row)?;
                let to_plan: bool = row.get(9)?;
                plan_one(tx, &cart, to_plan, rules, now, &ledger_id, sender_domain)?;
                planned += u64::from(to_plan);
            }
            Ok(planned)
        })
    }

    /// Cart messages due at `now`, oldest first, after the one at `after` (its `not_before` and id).
    pub fn due_carts(&self, now: Instant, after: Option<(Instant, i64)>, limit: usize) -> Result<Vec<Due>, Failure> {
        let (after_at, after_id) = after.map_or((String::new(), 0), |(at, id)| (instant::text(at), id));
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT id, message_key, recipient, folded_address, message_id, planned_at, not_before,
                        identity, cart_id, cart_hash, cart_touched_at
                 FROM message
                 WHERE occurrence IS NULL AND state = 'planned' AND not_before <= ?1 AND (not_before, id) > (?2, ?3) AND expires_at > ?1
                 ORDER BY not_before, id LIMIT ?4",
            )?;
            let instant_at = |row: &rusqlite::Row<'_>, column: usize| -> rusqlite::Result<Instant> {
                let text: String = row.get(column)?;
                Ok(instant::from_text(&text).unwrap_or_default())
            };
            rows.query_map((instant::text(now), after_at, after_id, limit as i64), |row| {
                Ok(Due {
                    id: row.get(0)?,
                    message_key: row.get(1)?,
                    recipient: row.get(2)?,
                    folded_address: row.get(3)?,
                    message_id: row.get(4)?,
                    planned_at: instant_at(row, 5)?,
                    not_before: instant_at(row, 6)?,
                    identity: row.get(7)?,
                    cart_id: row.get(8)?,
                    cart_hash: row.get(9)?,
                    cart_touched_at: instant_at(row, 10)?,
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
        if to_plan { "planned" } else { "skipped" },
        (!to_plan).then_some("superseded"),
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
