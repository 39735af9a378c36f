//! Messages of an opening are planned anew, with a corrected template if one is given.

use super::campaigns::open_occurrence_from;
use super::expire::settle_expiry;
use super::{Campaigns, Durability, Records};
use crate::domain::instant::{self, Instant};
use crate::domain::state::{Reason, Retried, State};
use crate::failure::Failure;
use crate::ledger::{OpenOccurrence, Retemplated};

impl Records {
    /// An opened occurrence as a run would deliver it.
    pub fn open_occurrence_by_id(&self, occurrence: i64) -> Result<OpenOccurrence, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT id, campaign_id, planned_at, subject, template, template_name, sender, list
                 FROM campaign_occurrence WHERE id = ?1 AND state = 'opened'",
                [occurrence],
                open_occurrence_from,
            )
        })
    }

    /// The rows of an occurrence's audience (JSON) whose messages stand so, with their addresses; the first `limit`.
    pub fn rows_that_stand(
        &self,
        occurrence: i64,
        which: &[(State, Option<Reason>)],
        limit: usize,
    ) -> Result<Vec<(String, String)>, Failure> {
        let which: Vec<String> = which.iter().copied().map(stands).collect();
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT recipient, recipient_values FROM message WHERE occurrence = ?1 AND ({}) ORDER BY id LIMIT ?2",
                which.join(" OR ")
            ))?;
            rows.query_map((occurrence, limit as i64), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// How many messages of an occurrence were refused with a reply that begins like this.
    pub fn count_refused_with(&self, occurrence: i64, reply: &str) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT count(*) FROM message
                 WHERE occurrence = ?1 AND state = 'refused' AND substr(last_reply, 1, length(?2)) = ?2",
                (occurrence, reply),
                |row| row.get(0),
            )
        })
    }
}

impl Campaigns<'_> {
    /// Plans the refused, expired or cancelled messages of an occurrence anew, in batches, of which `each` hears; says how
    /// many. The caller holds the run lock. Killed on the way, it is repeated for the rest.
    ///
    /// The campaign is running again, unless it is paused.
    pub fn retry(
        &mut self,
        occurrence: i64,
        which: &[Retried],
        expires_at: Instant,
        now: Instant,
        each: &mut dyn FnMut(u64),
    ) -> Result<u64, Failure> {
        let (now, expires_at) = (instant::text(now), instant::text(expires_at));
        let mut ids: Vec<i64> = Vec::new();
        for which in which.iter().map(|which| stands(which.stand())) {
            let found: Vec<i64> = self.0.read(|conn| {
                let mut rows = conn.prepare(&format!("SELECT id FROM message WHERE occurrence = ?1 AND {which}"))?;
                rows.query_map([occurrence], |row| row.get(0))?.collect()
            })?;
            ids.extend(found);
        }
        self.0.in_batches(&ids, each, |tx, batch| {
            if batch.is_first {
                // Before any of them: what is planned in a cancelled campaign is cancelled by the next run.
                tx.execute(
                    "UPDATE scheduled_campaign SET status = 'running'
                     WHERE status <> 'paused' AND campaign_id = (SELECT campaign_id FROM campaign_occurrence WHERE id = ?1)",
                    [occurrence],
                )?;
                // Nothing of an opening is begun after it expires.
                tx.execute(
                    "UPDATE campaign_occurrence SET expires_at = max(expires_at, ?2) WHERE id = ?1",
                    (occurrence, &expires_at),
                )?;
            }
            let mut plan = tx.prepare_cached(
                "UPDATE message SET state = 'planned', reason = NULL, armed_at = NULL, settled_at = NULL, epoch = NULL,
                     not_before = ?2, expires_at = ?3
                 WHERE id = ?1 AND (state = 'refused' OR (state = 'skipped' AND reason IN ('expired', 'cancelled')))",
            )?;
            let mut moved = 0;
            for id in batch.ids {
                moved += plan.execute((id, &now, &expires_at))? as u64;
            }
            if batch.is_last && which.contains(&Retried::Expired) {
                settle_expiry(tx, occurrence)?;
            }
            Ok(Some(moved))
        })
    }

    /// Gives an opened occurrence another subject and template: what of it is sent from now on is written with them.
    pub fn retemplate(&mut self, occurrence: i64, with: Retemplated<'_>) -> Result<(), Failure> {
        self.0.write(Durability::Full, |tx| {
            tx.execute(
                "UPDATE campaign_occurrence SET subject = ?2, template = ?3, template_name = ?4 WHERE id = ?1 AND state = 'opened'",
                (occurrence, with.subject, with.template, with.template_name),
            )?;
            Ok(())
        })
    }
}

/// The condition that a message is in a state, for a reason.
fn stands((state, reason): (State, Option<Reason>)) -> String {
    reason
        .map_or_else(|| format!("(state = '{state}')"), |reason| format!("(state = '{state}' AND reason = '{reason}')"))
}
