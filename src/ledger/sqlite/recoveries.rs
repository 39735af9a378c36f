//! Orders held against the messages that came before them. Nothing here decides about a message.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rusqlite::OptionalExtension;

use super::columns::optional_instant_at;
use super::{Durability, Reading, Records, Recoveries};
use crate::domain::instant::{self, Instant, Recorded};
use crate::domain::money::{Currency, Money, Price, Quantity};
use crate::domain::recovery::{Arm, Order, difference};
use crate::domain::state::{How, OrderStatus};
use crate::failure::Failure;
use crate::ledger::{Brought, Comparison, OrdersLook, RecoveredOrder, Takings};

/// A message that was planned, or held out, in its place: not one that was born too late or superseded.
const IN_ITS_PLACE: &str =
    "NOT (m.state = 'skipped' AND (m.reason = 'expired' OR m.reason = 'superseded') AND m.settled_at = m.planned_at)";

/// What an order changes in the ledger.
enum Change {
    /// It followed this message.
    Recovered { message: i64, how: How },
    /// It is known, and its value or status is another now.
    Altered,
    /// It came after a message to that person was planned or held out.
    OfEpisode { message: i64 },
    /// The same, known, and its status is another now.
    EpisodeAltered,
}

impl Records {
    /// How far orders were read.
    pub fn orders_look(&self) -> Result<OrdersLook, Failure> {
        self.read(|conn| {
            conn.query_row("SELECT orders_read_to, orders_all_from, orders_count_for FROM ledger", [], |row| {
                Ok(OrdersLook {
                    to: optional_instant_at(row, "orders_read_to")?,
                    all_from: optional_instant_at(row, "orders_all_from")?,
                    window: row.get::<_, Option<i64>>("orders_count_for")?.map(TimeDelta::seconds),
                })
            })
        })
    }

    /// Whether anyone was ever held out of mail about carts.
    pub fn has_held_out(&self) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT 1 FROM message WHERE state = 'skipped' AND occurrence IS NULL AND reason = 'holdout'",
            )?
            .exists([])
        })
    }

    /// What an order changes, if anything.
    fn changes_by(&self, order: &Order, window: TimeDelta, compares: bool) -> Result<Vec<Change>, Failure> {
        self.read(|conn| {
            let mut changes = Vec::new();
            match known(conn, order)? {
                Some(true) => {}
                Some(false) => changes.push(Change::Altered),
                None => {
                    let touch = last_touch(conn, order, window)?;
                    changes.extend(touch.map(|(message, how)| Change::Recovered { message, how }));
                }
            }
            if compares {
                changes.extend(changes_of_episodes(conn, order, window)?);
            }
            Ok(changes)
        })
    }

    /// The orders that followed messages, placed at or after `since`, the newest first.
    pub fn recovered_orders(&self, since: Instant) -> Result<Vec<RecoveredOrder>, Failure> {
        self.read(|conn| {
            // What turned out never to have left brought nothing.
            let mut rows = conn.prepare(
                "SELECT r.order_id, r.ordered_at, r.value, r.currency, r.status, r.how, m.step,
                        o.campaign_id, m.message_id, m.armed_at
                 FROM recovery AS r JOIN message AS m ON m.id = r.message LEFT JOIN campaign_occurrence AS o ON o.id = m.occurrence
                 WHERE r.ordered_at >= ?1 AND (m.state = 'sent' OR m.state = 'in_doubt') AND m.armed_at < r.ordered_at
                 ORDER BY r.ordered_at DESC, r.order_id",
            )?;
            rows.query_map([instant::text(since)], order_from)?.collect()
        })
    }

    /// What mail brought since then; `None` where orders were never read.
    pub fn brought(&self, since: Instant) -> Result<Option<Brought>, Failure> {
        let look = self.orders_look()?;
        let Some(read_to) = look.to else { return Ok(None) };
        let over_by = read_to - look.window.unwrap_or_default();
        let mut brought = Brought {
            since: Recorded(since),
            orders_read_to: Recorded(read_to),
            all: Takings::default(),
            by_step: BTreeMap::new(),
            by_campaign: BTreeMap::new(),
            by_cart: 0,
            by_person: 0,
            cancelled: 0,
            refunded: 0,
            holdout: self.compare_holdout(since, over_by)?,
        };
        for order in self.recovered_orders(since)? {
            match order.status {
                OrderStatus::Cancelled => brought.cancelled += 1,
                OrderStatus::Refunded => brought.refunded += 1,
                OrderStatus::Placed => {
                    brought.all.add(&order);
                    match &order.campaign_id {
                        Some(campaign) => brought.by_campaign.entry(campaign.clone()).or_default().add(&order),
                        None => brought
                            .by_step
                            .entry(order.step.clone().unwrap_or_else(|| "-".into()))
                            .or_default()
                            .add(&order),
                    }
                    match order.how {
                        How::Cart => brought.by_cart += 1,
                        How::Person => brought.by_person += 1,
                    }
                }
            }
        }
        Ok(Some(brought))
    }

    /// People by their first abandonment since then, planned by `until` and so long ago that their time to order was over when
    /// orders were read last; `None` where none of them was held out, or orders were never read.
    pub fn compared_with_held_out(&self, since: Instant, until: Instant) -> Result<Option<Comparison>, Failure> {
        let look = self.orders_look()?;
        let Some(read_to) = look.to else { return Ok(None) };
        self.compare_holdout(since, until.min(read_to - look.window.unwrap_or_default()))
    }

    /// People by their first abandonment since then, planned by `over_by`; `None` where none of them was held out.
    fn compare_holdout(&self, since: Instant, over_by: Instant) -> Result<Option<Comparison>, Failure> {
        if !self.has_held_out()? {
            return Ok(None);
        }
        let (mut treated, mut held_out) = (Arm::default(), Arm::default());
        self.read(|conn| {
            // Rows are added as time goes on, so the newest from before is where the time begins.
            let before = "SELECT id FROM cart_abandonment_log WHERE message_key IS NOT NULL AND created_at < ?1 ORDER BY id DESC LIMIT 1";
            let before: Option<i64> =
                conn.prepare(before)?.query_row([instant::text(since)], |row| row.get(0)).optional()?;
            let mut rows = conn.prepare(&format!(
                "SELECT m.reason IS 'holdout' AS is_held_out,
                        EXISTS (SELECT 1 FROM episode_order AS o WHERE o.message = m.id AND o.status = 'placed') AS has_ordered
                 FROM (SELECT m.folded_address, min(m.id) AS id
                       FROM cart_abandonment_log AS l CROSS JOIN message AS m ON m.episode = l.message_key
                       WHERE l.id > ?1 AND l.message_key IS NOT NULL AND {IN_ITS_PLACE} GROUP BY m.folded_address) AS first
                 CROSS JOIN message AS m ON m.id = first.id
                 WHERE m.planned_at <= ?2"
            ))?;
            let mut rows = rows.query((before.unwrap_or(0), instant::text(over_by)))?;
            while let Some(row) = rows.next()? {
                let arm = if row.get("is_held_out")? { &mut held_out } else { &mut treated };
                arm.people += 1;
                arm.ordered += u64::from(row.get::<_, bool>("has_ordered")?);
            }
            Ok(())
        })?;
        let difference = difference(treated, held_out);
        Ok((held_out.people > 0).then_some(Comparison { treated, held_out, difference }))
    }
}

impl Recoveries<'_> {
    /// Holds orders against the messages before them, in one transaction that is not waited for; says how many followed one and
    /// were not known. An order that is known keeps its message.
    ///
    /// `compares` also records whose orders came after a message was planned or held out.
    pub fn record(
        &mut self,
        orders: &[Order],
        window: TimeDelta,
        compares: bool,
        now: Instant,
    ) -> Result<u64, Failure> {
        let mut changed = Vec::new();
        for order in orders {
            let changes = self.0.changes_by(order, window, compares)?;
            changed.extend(changes.into_iter().map(|change| (order, change)));
        }
        if changed.is_empty() {
            return Ok(0);
        }
        let new = changed.iter().filter(|(_, change)| matches!(change, Change::Recovered { .. })).count();
        self.0.write(Durability::Lazy, |tx| {
            for (order, change) in &changed {
                let (ordered_at, value) = (instant::text(order.ordered_at), order.total.map(|total| total.decimal()));
                let currency = order.total.map(|total| total.currency.code().to_owned());
                match change {
                    // Twice in one answer: the first counts.
                    Change::Recovered { message, how } => tx
                        .prepare_cached(
                            "INSERT INTO recovery (order_id, message, how, ordered_at, value, currency, status, window_seconds,
                                 recorded_at)
                             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
                             WHERE NOT EXISTS (SELECT 1 FROM recovery WHERE order_id = ?1)",
                        )?
                        .execute((
                            &order.order_id,
                            message,
                            how,
                            ordered_at,
                            value,
                            currency,
                            order.status,
                            window.num_seconds(),
                            instant::text(now),
                        ))?,
                    Change::Altered => tx
                        .prepare_cached("UPDATE recovery SET value = ?2, currency = ?3, status = ?4 WHERE order_id = ?1")?
                        .execute((&order.order_id, value, currency, order.status))?,
                    Change::OfEpisode { message } => tx
                        .prepare_cached("INSERT INTO episode_order VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?
                        .execute((&order.order_id, message, ordered_at, order.status))?,
                    Change::EpisodeAltered => tx
                        .prepare_cached("UPDATE episode_order SET status = ?2 WHERE order_id = ?1")?
                        .execute((&order.order_id, order.status))?,
                };
            }
            Ok(())
        })?;
        Ok(new as u64)
    }

    /// Notes how far orders were read.
    pub fn note_look(&mut self, look: OrdersLook) -> Result<(), Failure> {
        self.0.write(Durability::Lazy, |tx| {
            tx.prepare_cached("UPDATE ledger SET orders_read_to = ?1, orders_all_from = ?2, orders_count_for = ?3")?
                .execute((
                    look.to.map(instant::text),
                    look.all_from.map(instant::text),
                    look.window.map(|window| window.num_seconds()),
                ))
                .map(drop)
        })
    }
}

/// The order in a row.
pub(super) fn order_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<RecoveredOrder> {
    Ok(RecoveredOrder {
        order_id: row.get("order_id")?,
        ordered_at: row.get("ordered_at")?,
        value: row.get("value")?,
        currency: row.get("currency")?,
        status: row.get("status")?,
        how: row.get("how")?,
        step: row.get("step")?,
        campaign_id: row.get("campaign_id")?,
        message_id: row.get("message_id")?,
        armed_at: row.get("armed_at")?,
    })
}

/// Whether an order is known, and as it is.
fn known(conn: &Reading<'_>, order: &Order) -> rusqlite::Result<Option<bool>> {
    conn.prepare_cached("SELECT value IS ?2 AND currency IS ?3 AND status = ?4 FROM recovery WHERE order_id = ?1")?
        .query_row(
            (
                &order.order_id,
                order.total.map(|total| total.decimal()),
                order.total.map(|total| total.currency.code().to_owned()),
                order.status,
            ),
            |row| row.get(0),
        )
        .optional()
}

/// The last message begun before the order, at most `window` before, to that person or about that cart.
fn last_touch(conn: &Reading<'_>, order: &Order, window: TimeDelta) -> rusqlite::Result<Option<(i64, How)>> {
    const WHEN: &str = "(state = 'sent' OR state = 'in_doubt') AND armed_at >= ?4 AND armed_at < ?5";
    // What an index leads to, one look each. Of campaigns, only openings whose messages may have been begun by then.
    let sql = format!(
        "SELECT id, cart_id IS NOT NULL AND cart_id IS ?3 FROM (
             SELECT id, cart_id, armed_at FROM message WHERE folded_address = ?1 AND cart_hash IS NOT NULL AND {WHEN}
             UNION ALL SELECT id, cart_id, armed_at FROM message WHERE identity = ?2 AND cart_hash IS NOT NULL AND {WHEN}
             UNION ALL SELECT id, cart_id, armed_at FROM message WHERE cart_id = ?3 AND cart_id IS NOT NULL AND {WHEN}
             UNION ALL SELECT m.id, NULL, m.armed_at
             FROM campaign_occurrence AS o CROSS JOIN message AS m INDEXED BY one_per_occurrence_and_address
                 ON m.kind = 'campaign' AND m.occurrence = o.id AND m.folded_address = ?1
             WHERE o.state = 'opened' AND o.decided_at < ?5 AND o.expires_at > ?4
                 AND (m.state = 'sent' OR m.state = 'in_doubt') AND m.armed_at >= ?4 AND m.armed_at < ?5)
         ORDER BY armed_at DESC, id DESC LIMIT 1"
    );
    conn.prepare_cached(&sql)?
        .query_row(
            (
                &order.folded_address,
                &order.identity,
                &order.cart_id,
                instant::text(order.ordered_at - window),
                instant::text(order.ordered_at),
            ),
            |row| Ok((row.get(0)?, if row.get(1)? { How::Cart } else { How::Person })),
        )
        .optional()
}

/// The abandonments that an order may be the end of: those of its person for which a message was planned, or held out, at most
/// `window` before.
fn changes_of_episodes(conn: &Reading<'_>, order: &Order, window: TimeDelta) -> rusqlite::Result<Vec<Change>> {
    let known: Option<bool> = conn
        .prepare_cached("SELECT min(status = ?2) FROM episode_order WHERE order_id = ?1")?
        .query_row((&order.order_id, order.status), |row| row.get(0))?;
    let mut changes = Vec::new();
    if known == Some(false) {
        changes.push(Change::EpisodeAltered);
    }
    let later = IN_ITS_PLACE.replace("m.", "before.");
    let first = format!(
        "m.cart_hash IS NOT NULL AND m.planned_at >= ?3 AND m.planned_at <= ?4 AND {IN_ITS_PLACE}
         AND NOT EXISTS (SELECT 1 FROM message AS before WHERE before.episode = m.episode AND before.id < m.id AND {later})
         AND NOT EXISTS (SELECT 1 FROM episode_order AS known WHERE known.message = m.id AND known.order_id = ?5)"
    );
    let sql = format!(
        "SELECT m.id FROM message AS m WHERE m.folded_address = ?1 AND {first}
         UNION SELECT m.id FROM message AS m WHERE m.identity = ?2 AND {first}"
    );
    let mut rows = conn.prepare_cached(&sql)?;
    let rows = rows.query_map(
        (
            &order.folded_address,
            &order.identity,
            instant::text(order.ordered_at - window),
            instant::text(order.ordered_at),
            &order.order_id,
        ),
        |row| Ok(Change::OfEpisode { message: row.get(0)? }),
    )?;
    for change in rows {
        changes.push(change?);
    }
    Ok(changes)
}

impl Takings {
    /// Adds an order to its currency.
    pub(super) fn add(&mut self, order: &RecoveredOrder) {
        self.orders += 1;
        let amount = |currency: Currency, text: &str| Price::parse(text, currency)?.times(Quantity::from(1));
        let currency = order.currency.as_deref().and_then(Currency::parse);
        let value = currency.zip(order.value.as_deref()).and_then(|(currency, text)| amount(currency, text));
        let Some(value) = value else {
            self.without_total += 1;
            return;
        };
        let before = self.value.get(value.currency.code()).and_then(|text| amount(value.currency, text));
        let sum = before.unwrap_or(Money { minor: 0, ..value }).plus(value).unwrap_or(value);
        self.value.insert(value.currency.code().to_owned(), sum.decimal());
    }
}
