//! Opening an occurrence: its audience, gathered in a temporary table, becomes planned messages in one transaction.

use super::coupons::give_each;
use super::missed::{record_missed, record_short_audience, settle_missed};
use super::transaction::Undone;
use super::{Durability, Memory, Plans, Records};
use crate::domain::address::Address;
use crate::domain::coupon::Pool;
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::failure::{Exit, Failure};
use crate::ledger::{Epoch, Opened, Opening, OpeningKey};

impl Records {
    /// Empties the audience table and opens a transaction on it, so that filling it is quick. It touches no ledger table.
    pub fn begin_audience(&self) -> Result<(), Failure> {
        self.scratch(|conn| {
            conn.execute_batch(
                "PRAGMA temp.cache_size = -16000;
                 DROP TABLE IF EXISTS temp.audience;
                 CREATE TEMP TABLE audience (
                     folded_address TEXT PRIMARY KEY,
                     recipient      TEXT NOT NULL,
                     message_key    TEXT NOT NULL,
                     message_id     TEXT NOT NULL,
                     not_before     TEXT NOT NULL,
                     row_values     TEXT NOT NULL,
                     is_held_out    INTEGER NOT NULL
                 ) STRICT, WITHOUT ROWID;
                 BEGIN",
            )
        })
    }

    /// Adds one recipient, whose message may leave from where `place` puts its key; `false` when the folded address was there already: the first counts.
    pub fn add_recipient(
        &self,
        opening: &OpeningKey<'_>,
        address: &Address,
        row_values: &str,
        place: impl FnOnce(&str) -> Instant,
    ) -> Result<bool, Failure> {
        // Whoever is forgotten stays so, and is left out where the others are sent.
        let hidden = match self.forgets_someone()? && self.memory_of(address, None)? == Memory::Forgotten {
            true => Some(self.pseudonym_of(address.folded())),
            false => None,
        };
        let (folded, recipient) = match &hidden {
            Some(hidden) => (hidden.as_str(), hidden.clone()),
            None => (address.folded(), address.envelope()),
        };
        let row_values = if hidden.is_some() { "{}" } else { row_values };
        let key = message_key::campaign(opening.campaign_id, opening.planned_at, folded);
        let message_id = message_key::message_id(&message_key::token(&self.id, &key), opening.sender_domain);
        let not_before = instant::text(place(&key));
        let is_held_out = hidden.is_none() && opening.holdout.is_some_and(|holdout| holdout.holds(folded));
        self.scratch(|conn| {
            conn.prepare_cached("INSERT INTO temp.audience VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING")?
                .execute((folded, recipient, &key, message_id, not_before, row_values, is_held_out))
                .map(|rows| rows == 1)
        })
    }

    /// Ends the filling that [`Records::begin_audience`] began; says how many recipients there are.
    pub fn end_audience(&self) -> Result<u64, Failure> {
        self.scratch(|conn| {
            conn.execute_batch("COMMIT")?;
            conn.query_row("SELECT count(*) FROM temp.audience", [], |row| row.get(0))
        })
    }
}

impl Plans<'_> {
    /// Opens an occurrence in one transaction: the schedule moves on, and every gathered recipient is planned once.
    ///
    /// # Errors
    /// Exit 75 when a newer run has taken the ledger over; exit 74 when the disk fails. Nothing is planned then.
    pub fn open_occurrence(
        &mut self,
        epoch: Epoch,
        opening: &Opening,
        repeated: u64,
        now: Instant,
    ) -> Result<Opened, Failure> {
        let at = instant::text(now);
        let planned_at = instant::text(opening.planned_at);
        let outcome = self.0.write_unless_refused(Durability::Full, |tx| {
            let newest: Epoch = tx.query_row("SELECT epoch FROM ledger", [], |row| row.get(0))?;
            if newest != epoch {
                return Ok(Err(newest));
            }
            let may_open: bool = tx.query_row(
                "SELECT (enabled OR NOT ?2) AND defined AND status NOT IN ('paused', 'cancelled') AND cancelled_at IS NULL
                 FROM scheduled_campaign WHERE campaign_id = ?1",
                (&opening.campaign_id, opening.one_off),
                |row| row.get(0),
            )?;
            let decided = tx
                .prepare("SELECT 1 FROM campaign_occurrence WHERE campaign_id = ?1 AND (planned_at = ?2 OR (?3 AND state = 'opened'))")?
                .exists((&opening.campaign_id, &planned_at, opening.one_off))?;
            if !may_open || decided {
                return Ok(Ok(Opened::NotOurs));
            }
            record_missed(tx, &opening.campaign_id, &opening.missed, &at, &opening.schedule)?;
            let (recipients, held_out): (u64, u64) =
                tx.query_row("SELECT count(*), coalesce(sum(is_held_out), 0) FROM temp.audience", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            tx.execute(
                "INSERT INTO campaign_occurrence (campaign_id, planned_at, state, decided_at, schedule, subject, template,
                     template_name, sender, expires_at, audience_rows, bad_rows, repeated, recipients, list)
                 VALUES (?1, ?2, 'opened', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                (
                    &opening.campaign_id,
                    &planned_at,
                    &at,
                    &opening.schedule,
                    &opening.subject,
                    &opening.template,
                    &opening.template_name,
                    &opening.sender,
                    instant::text(opening.expires_at),
                    opening.audience_rows,
                    opening.bad_rows,
                    repeated,
                    recipients,
                    &opening.list,
                ),
            )?;
            let occurrence = tx.last_insert_rowid();
            tx.execute(
                "INSERT INTO message (message_key, kind, state, reason, settled_at, recipient, folded_address, message_id,
                     planned_at, not_before, expires_at, occurrence, recipient_values)
                 SELECT message_key, 'campaign', iif(is_held_out, 'skipped', 'planned'), iif(is_held_out, 'holdout', NULL),
                     iif(is_held_out, ?1, NULL), recipient, folded_address, message_id, ?1, max(?1, not_before), ?2, ?3, row_values
                 FROM temp.audience",
                (&at, instant::text(opening.expires_at), occurrence),
            )?;
            if let Some(pool) = &opening.pool
                && !give_each(tx, occurrence, pool, now, opening.expires_at - now)?
            {
                return Err(Undone::Refused(too_few_codes(pool)));
            }
            tx.execute(
                "UPDATE scheduled_campaign SET status = 'running', last_run = ?2, total_runs = total_runs + 1, next_run = ?3,
                     enabled = NOT ?4, short_audience_rows = NULL WHERE campaign_id = ?1",
                (&opening.campaign_id, &planned_at, opening.next_run.map(instant::text), opening.one_off),
            )?;
            if opening.one_off {
                settle_missed(tx, &opening.campaign_id)?;
            }
            if let Some(line) = &opening.short_audience {
                record_short_audience(tx, &opening.campaign_id, line, &at)?;
            }
            Ok(Ok(Opened::Planned { recipients, held_out }))
        })?;
        self.0.scratch(|conn| conn.execute_batch("DROP TABLE temp.audience"))?;
        outcome.map_err(|newest| {
            Failure::new(
                Exit::AnotherRunHoldsTheLock,
                format!("run {newest} has taken the ledger over from this run ({epoch}); nothing was opened"),
                "find out why two runs could hold the lock: was the .lock file deleted or replaced?",
            )
        })
    }
}

fn too_few_codes(pool: &Pool) -> Failure {
    let name = &pool.name;
    Failure::new(
        Exit::NeedsAPerson,
        format!("the pool {name} has fewer coupon codes that are valid for long enough than there are recipients"),
        format!("`mailonce coupon import {name} FILE`; or when_empty = \"without\""),
    )
}
