//! Cancelling a campaign: permanently, and in batches, so that a run beside it goes on.

use super::expire::settle_expiry_of;
use super::missed::settle_all;
use super::{Campaigns, Durability, Ledger};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;

impl Ledger {
    fn cancel_planned(&mut self, campaign_id: &str, now: Instant, each: &mut dyn FnMut(u64)) -> Result<u64, Failure> {
        let now = instant::text(now);
        let mut cancelled = 0;
        loop {
            // Looked for again at the end: a run under way gives messages back that it had in hand.
            let planned: Vec<i64> = self.read(|conn| {
                let mut rows = conn.prepare_cached(
                    "SELECT m.id FROM campaign_occurrence AS o
                     CROSS JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'
                     WHERE o.campaign_id = ?1 AND o.state = 'opened'",
                )?;
                rows.query_map([campaign_id], |row| row.get(0))?.collect()
            })?;
            let mut stands = true;
            cancelled += self.in_batches(&planned, each, |tx, batch| {
                // A person may plan them again meanwhile, with `campaign retry`.
                stands = tx
                    .prepare_cached("SELECT 1 FROM scheduled_campaign WHERE campaign_id = ?1 AND status = 'cancelled'")?
                    .exists([campaign_id])?;
                if !stands {
                    return Ok(None);
                }
                let mut skip = tx.prepare_cached(
                    "UPDATE message SET state = 'skipped', reason = 'cancelled', settled_at = ?2
                     WHERE id = ?1 AND state = 'planned'",
                )?;
                let mut moved = 0;
                for id in batch.ids {
                    moved += skip.execute((id, &now))? as u64;
                }
                Ok(Some(moved))
            })?;
            if planned.is_empty() || !stands {
                return Ok(cancelled);
            }
        }
    }
}

impl Campaigns<'_> {
    /// Cancels a campaign: nothing more opens or is armed from the first transaction on; then what is planned becomes
    /// `skipped: cancelled`, in batches, of which `each` hears. Says how many; `None` when it was cancelled already and
    /// nothing of it was planned.
    ///
    /// Killed on the way, the next run goes on with it, and so does another `cancel_campaign`.
    pub fn cancel(
        &mut self,
        campaign_id: &str,
        now: Instant,
        each: &mut dyn FnMut(u64),
    ) -> Result<Option<u64>, Failure> {
        let is_new = self.0.write(Durability::Full, |tx| {
            let changed = tx.execute(
                "UPDATE scheduled_campaign SET status = 'cancelled', enabled = 0, next_run = NULL
                 WHERE campaign_id = ?1 AND status <> 'cancelled'",
                [campaign_id],
            )?;
            settle_all(tx, campaign_id)?;
            settle_expiry_of(tx, campaign_id)?;
            tx.execute(
                "UPDATE scheduled_campaign SET cancelled_at = coalesce(cancelled_at, ?2), paused_by_absence = 0
                 WHERE campaign_id = ?1",
                (campaign_id, instant::text(now)),
            )?;
            Ok(changed > 0)
        })?;
        let cancelled = self.0.cancel_planned(campaign_id, now, each)?;
        Ok((is_new || cancelled > 0).then_some(cancelled))
    }

    /// Goes on with cancellations that were killed on the way, and with messages that came back from a run that was under
    /// way; says how many messages are not sent because of it.
    pub fn finish_cancellations(&mut self, now: Instant) -> Result<u64, Failure> {
        let unfinished: Vec<String> = self.0.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT campaign_id FROM scheduled_campaign AS c WHERE status = 'cancelled' AND EXISTS (
                     SELECT 1 FROM campaign_occurrence AS o CROSS JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'
                     WHERE o.campaign_id = c.campaign_id AND o.state = 'opened')",
            )?;
            rows.query_map([], |row| row.get(0))?.collect()
        })?;
        let mut cancelled = 0;
        for campaign_id in unfinished {
            cancelled += self.0.cancel_planned(&campaign_id, now, &mut |_| {})?;
        }
        Ok(cancelled)
    }
}
