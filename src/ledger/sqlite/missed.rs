//! Occurrences that will never open, audiences that are too short, and what a person is told of both.

use rusqlite::{Connection, OptionalExtension};

use super::notices::{Event, paused_key, record_event, settle_event};
use super::{Durability, Plans};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::Missed;

/// So many missed instants of a campaign are kept.
const MOST_MISSED_KEPT: usize = 100;

impl Plans<'_> {
    /// Records instants of a campaign that will never open, and when it is due next.
    pub fn miss_occurrences(
        &mut self,
        campaign_id: &str,
        missed: &Missed,
        schedule: &str,
        next_run: Option<Instant>,
        now: Instant,
    ) -> Result<(), Failure> {
        let at = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            record_missed(tx, campaign_id, missed, &at, schedule)?;
            tx.execute(
                "UPDATE scheduled_campaign SET next_run = ?2 WHERE campaign_id = ?1",
                (campaign_id, next_run.map(instant::text)),
            )?;
            Ok(())
        })
    }

    /// Remembers how many rows an audience has that is held to be cut short; `None` when it is not. Writes only on a change.
    pub fn set_short_audience(&mut self, campaign_id: &str, rows: Option<u64>) -> Result<(), Failure> {
        let same = self.0.campaign(campaign_id)?.is_none_or(|state| state.short_audience_rows == rows);
        if same {
            return Ok(());
        }
        self.0.write(Durability::Full, |tx| {
            tx.execute(
                "UPDATE scheduled_campaign SET short_audience_rows = ?2 WHERE campaign_id = ?1",
                (campaign_id, rows),
            )?;
            Ok(())
        })
    }
}

/// Records instants that will never open, the newest 100 of a campaign, and that a person must hear of it.
pub(super) fn record_missed(
    tx: &Connection,
    campaign_id: &str,
    missed: &Missed,
    at: &str,
    schedule: &str,
) -> rusqlite::Result<()> {
    let newest = &missed.instants[missed.instants.len().saturating_sub(MOST_MISSED_KEPT)..];
    for planned_at in newest {
        tx.execute(
            "INSERT INTO campaign_occurrence (campaign_id, planned_at, state, decided_at, schedule)
             SELECT ?1, ?2, 'not_in_time', ?3, ?4
             WHERE NOT EXISTS (SELECT 1 FROM campaign_occurrence WHERE campaign_id = ?1 AND planned_at = ?2)",
            (campaign_id, instant::text(*planned_at), at, schedule),
        )?;
    }
    if let Some(planned_at) = missed.over_short_audience {
        tx.execute(
            "UPDATE campaign_occurrence SET audience_rows = (
                 SELECT short_audience_rows FROM scheduled_campaign AS c WHERE c.campaign_id = ?1)
             WHERE campaign_id = ?1 AND planned_at = ?2 AND state = 'not_in_time'",
            (campaign_id, instant::text(planned_at)),
        )?;
    }
    if let Some(line) = &missed.line {
        let key = missed_key(campaign_id);
        // One that no one was told of, because its run was killed, is told along.
        let untold: Option<String> = tx
            .prepare_cached("SELECT line FROM notice WHERE notice_key = ?1 AND reported_at = '' AND line <> ?2")?
            .query_row((&key, line), |row| row.get(0))
            .optional()?;
        let line = untold.map_or_else(|| line.clone(), |untold| format!("{untold}\n{line}"));
        record_event(tx, &Event { kind: "missed", key, line, at })?;
    }
    if !newest.is_empty() {
        tx.execute(
            "DELETE FROM campaign_occurrence WHERE state = 'not_in_time' AND campaign_id = ?1 AND id NOT IN (
                 SELECT id FROM campaign_occurrence WHERE state = 'not_in_time' AND campaign_id = ?1
                 ORDER BY planned_at DESC LIMIT ?2)",
            (campaign_id, MOST_MISSED_KEPT as i64),
        )?;
    }
    Ok(())
}

/// Settles what was told of a one-off that has opened after all.
pub(super) fn settle_missed(tx: &Connection, campaign_id: &str) -> rusqlite::Result<()> {
    settle_event(tx, &missed_key(campaign_id)).map(drop)
}

/// Tells that an opening had fewer than half the recipients of the last one.
pub(super) fn record_short_audience(tx: &Connection, campaign_id: &str, line: &str, at: &str) -> rusqlite::Result<()> {
    record_event(tx, &Event { kind: "audience", key: audience_key(campaign_id), line: line.to_owned(), at })
}

/// A campaign's events need no one any more.
pub(super) fn settle_all(tx: &Connection, campaign_id: &str) -> rusqlite::Result<()> {
    for key in [paused_key(campaign_id), missed_key(campaign_id), audience_key(campaign_id)] {
        settle_event(tx, &key)?;
    }
    Ok(())
}

fn missed_key(campaign_id: &str) -> String {
    format!("missed:{campaign_id}")
}

fn audience_key(campaign_id: &str) -> String {
    format!("audience:{campaign_id}")
}
