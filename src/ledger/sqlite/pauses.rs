//! Pauses of a campaign: by a person, or because its definition is gone.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use super::missed::record_missed;
use super::notices::{Event, paused_key, record_event, settle_event};
use super::{Campaigns, Durability};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::{Missed, Resumed};

impl Campaigns<'_> {
    /// Pauses every campaign that is no longer among the `defined`, until it is again. A person is told of those that
    /// something was to come of.
    pub fn pause_vanished(&mut self, defined: &HashSet<&str>, now: Instant) -> Result<(), Failure> {
        let at = instant::text(now);
        let known = self.0.all_campaigns()?;
        let vanished: Vec<String> = known
            .into_iter()
            .filter(|state| state.defined && !defined.contains(state.campaign_id.as_str()))
            .map(|state| state.campaign_id)
            .collect();
        if !vanished.is_empty() {
            self.0.write(Durability::Full, |tx| {
                for id in &vanished {
                    let paused = tx.execute(
                        "UPDATE scheduled_campaign SET status = 'paused', paused_by_absence = 1
                         WHERE campaign_id = ?1 AND status IN ('pending', 'running')
                             AND (status = 'running' OR next_run IS NOT NULL)",
                        [id],
                    )?;
                    tx.execute("UPDATE scheduled_campaign SET defined = 0, next_run = NULL WHERE campaign_id = ?1", [id])?;
                    if paused > 0 {
                        let line = format!(
                            "campaign {id} is no longer defined; it is paused, and goes on by itself when its definition is \
                             back; to end it: `mailonce campaign cancel {id}`"
                        );
                        record_event(tx, &Event { kind: "paused", key: paused_key(id), line, at: &at })?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Pauses a campaign until it is resumed, also one that its missing definition had paused; says whether anything changed.
    pub fn pause(&mut self, campaign_id: &str) -> Result<bool, Failure> {
        self.0.write(Durability::Full, |tx| {
            let paused = tx.execute(
                "UPDATE scheduled_campaign SET status = 'paused' WHERE campaign_id = ?1 AND status IN ('pending', 'running')",
                [campaign_id],
            )?;
            let kept = no_longer_by_absence(tx, campaign_id)?;
            Ok(paused + kept > 0)
        })
    }

    /// Ends a pause, and records what never opens because of it, which the person who ends it is told at once; `None`
    /// when it was not paused.
    pub fn resume(&mut self, campaign_id: &str, missed: &Missed, now: Instant) -> Result<Option<Resumed>, Failure> {
        let at = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            // What is planned makes it running; the next run sees whether it is pending or completed.
            let changed = tx.execute(
                "UPDATE scheduled_campaign SET status = 'running', enabled = CASE WHEN total_runs = 0 AND last_run IS NULL THEN 1 ELSE enabled END
                 WHERE campaign_id = ?1 AND status = 'paused'",
                [campaign_id],
            )?;
            if changed == 0 {
                return Ok(None);
            }
            no_longer_by_absence(tx, campaign_id)?;
            let schedule: String = tx.query_row(
                "SELECT schedule FROM scheduled_campaign WHERE campaign_id = ?1",
                [campaign_id],
                |row| row.get(0),
            )?;
            record_missed(tx, campaign_id, missed, &at, &schedule)?;
            tx.query_row(
                "SELECT count(*), coalesce(sum(m.expires_at <= ?2), 0)
                 FROM campaign_occurrence AS o JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'
                 WHERE o.campaign_id = ?1 AND o.state = 'opened'",
                (campaign_id, &at),
                |row| Ok(Some(Resumed { planned: row.get(0)?, expired: row.get(1)? })),
            )
        })
    }
}

/// A campaign's definition may be back: one that was paused only because it was gone goes on, any other pause is told.
pub(super) fn come_back(tx: &Connection, campaign_id: &str, at: &str) -> rusqlite::Result<()> {
    let by_absence: Option<bool> = tx
        .prepare_cached(
            "SELECT paused_by_absence FROM scheduled_campaign WHERE campaign_id = ?1 AND status = 'paused' AND NOT defined",
        )?
        .query_row([campaign_id], |row| row.get(0))
        .optional()?;
    match by_absence {
        None => Ok(()),
        Some(true) => {
            // What is planned makes it running; the run sees at its end whether it is pending or completed.
            tx.execute("UPDATE scheduled_campaign SET status = 'running' WHERE campaign_id = ?1", [campaign_id])?;
            no_longer_by_absence(tx, campaign_id).map(drop)
        }
        Some(false) => {
            let line = format!(
                "campaign {campaign_id} is defined again and still paused, as a person or an earlier version of mailonce \
                 left it; `mailonce campaign resume {campaign_id}` lets it go on"
            );
            record_event(tx, &Event { kind: "paused", key: paused_key(campaign_id), line, at })
        }
    }
}

/// A person has decided whether a campaign is paused: that its definition was gone no longer counts.
fn no_longer_by_absence(tx: &Connection, campaign_id: &str) -> rusqlite::Result<usize> {
    settle_event(tx, &paused_key(campaign_id))?;
    tx.execute(
        "UPDATE scheduled_campaign SET paused_by_absence = 0 WHERE campaign_id = ?1 AND paused_by_absence = 1",
        [campaign_id],
    )
}
