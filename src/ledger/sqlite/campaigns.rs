//! The state of campaigns: what the ledger has seen, opened and missed. Definitions live in a file, not here.

use rusqlite::OptionalExtension;

use super::columns::instant_at;
use super::pauses::come_back;
use super::suppressions::IS_SUPPRESSED;
use super::{Campaigns, Durability, Plans, Records};
use crate::domain::instant::{self, Instant, Recorded};
use crate::domain::list;
use crate::failure::Failure;
use crate::ledger::{CampaignState, DueRecipient, ImportedCampaign, LastDecision, LastOpened, OpenOccurrence};

impl Records {
    /// What the ledger knows of one campaign.
    pub fn campaign(&self, campaign_id: &str) -> Result<Option<CampaignState>, Failure> {
        self.read(|conn| {
            conn.prepare_cached(&format!("SELECT {CAMPAIGN} FROM scheduled_campaign WHERE campaign_id = ?1"))?
                .query_row([campaign_id], campaign_from)
                .optional()
        })
    }

    /// What the ledger knows of all campaigns, in order of their id.
    pub fn all_campaigns(&self) -> Result<Vec<CampaignState>, Failure> {
        self.read(|conn| {
            let mut rows =
                conn.prepare_cached(&format!("SELECT {CAMPAIGN} FROM scheduled_campaign ORDER BY campaign_id"))?;
            rows.query_map([], campaign_from)?.collect()
        })
    }

    /// What was decided last about a campaign's occurrences, up to `now`: a clock that was ahead may have decided about later
    /// ones, and must not silence the campaign until then.
    pub fn last_decision(&self, campaign_id: &str, now: Instant) -> Result<LastDecision, Failure> {
        let now = instant::text(now);
        self.read(|conn| {
            let newest: Option<String> = conn
                .prepare_cached(
                    "SELECT max(planned_at) FROM campaign_occurrence WHERE campaign_id = ?1 AND planned_at <= ?2",
                )?
                .query_row([campaign_id, &now], |row| row.get(0))?;
            let last_opened = conn
                .prepare_cached(
                    "SELECT planned_at, decided_at, schedule, audience_rows FROM campaign_occurrence
                     WHERE campaign_id = ?1 AND state = 'opened' AND decided_at <= ?2 ORDER BY decided_at DESC, planned_at DESC LIMIT 1",
                )?
                .query_row([campaign_id, &now], |row| {
                    Ok(LastOpened {
                        planned_at: instant_at(row, "planned_at")?,
                        opened_at: instant_at(row, "decided_at")?,
                        schedule: row.get("schedule")?,
                        audience_rows: row.get("audience_rows")?,
                    })
                })
                .optional()?;
            let missed_over_short = conn
                .prepare_cached(
                    "SELECT planned_at, audience_rows FROM campaign_occurrence
                     WHERE campaign_id = ?1 AND state = 'not_in_time' AND audience_rows IS NOT NULL AND planned_at > ?2
                         AND planned_at <= ?3 ORDER BY planned_at DESC LIMIT 1",
                )?
                .query_row(
                    (campaign_id, last_opened.as_ref().map_or_else(String::new, |last| instant::text(last.planned_at)), &now),
                    |row| Ok((instant_at(row, 0)?, row.get(1)?)),
                )
                .optional()?;
            let newest_at = newest.as_deref().and_then(instant::from_text);
            Ok(LastDecision { newest_at, last_opened, missed_over_short })
        })
    }

    /// Opened occurrences of running campaigns with messages due at `now`, the oldest first.
    pub fn open_occurrences(&self, now: Instant, only: Option<&str>) -> Result<Vec<OpenOccurrence>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT o.id, o.campaign_id, o.planned_at, o.subject, o.template, o.template_name, o.sender, o.list
                 FROM scheduled_campaign AS c JOIN campaign_occurrence AS o USING (campaign_id)
                 WHERE c.status = 'running' AND o.state = 'opened' AND (?2 IS NULL OR c.campaign_id = ?2)
                   AND EXISTS (SELECT 1 FROM message AS m
                               WHERE m.occurrence = o.id AND m.state = 'planned' AND m.not_before <= ?1)
                 ORDER BY o.planned_at, o.id",
            )?;
            rows.query_map((instant::text(now), only), open_occurrence_from)?.collect()
        })
    }

    /// Messages of an occurrence that were due at `due_at` and are not late `now`, after the one at `after` (its
    /// `not_before` and id).
    pub fn due_recipients(
        &self,
        occurrence: i64,
        (due_at, now): (Instant, Instant),
        after: Option<(Instant, i64)>,
        limit: usize,
    ) -> Result<Vec<DueRecipient>, Failure> {
        let (after_at, after_id) = after.map_or((String::new(), 0), |(at, id)| (instant::text(at), id));
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&format!(
                "SELECT id, message_key, recipient, folded_address, message_id, planned_at, not_before, expires_at, recipient_values,
                        {IS_SUPPRESSED} AS is_suppressed
                 FROM message WHERE occurrence = ?1 AND state = 'planned' AND not_before <= ?2 AND (not_before, id) > (?3, ?4) AND expires_at > ?6
                 ORDER BY not_before, id LIMIT ?5",
            ))?;
            let (due_at, now) = (instant::text(due_at), instant::text(now));
            rows.query_map((occurrence, due_at, after_at, after_id, limit as i64, now), |row| {
                Ok(DueRecipient {
                    id: row.get("id")?,
                    message_key: row.get("message_key")?,
                    folded_address: row.get("folded_address")?,
                    expires_at: instant_at(row, "expires_at")?,
                    recipient: row.get("recipient")?,
                    message_id: row.get("message_id")?,
                    planned_at: instant_at(row, "planned_at")?,
                    not_before: instant_at(row, "not_before")?,
                    row_values: row.get("recipient_values")?,
                    suppressed: row.get("is_suppressed")?,
                })
            })?
            .collect()
        })
    }

    /// How many messages of running campaigns are due at `now`.
    pub fn count_due_recipients(&self, now: Instant, only: Option<&str>) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT count(*) FROM scheduled_campaign AS c JOIN campaign_occurrence AS o USING (campaign_id)
                 CROSS JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned' AND m.not_before <= ?1
                 WHERE c.status = 'running' AND o.state = 'opened' AND (?2 IS NULL OR c.campaign_id = ?2)",
            )?
            .query_row((instant::text(now), only), |row| row.get(0))
        })
    }

    /// Whether a campaign's messages may leave just now.
    pub fn is_running(&self, campaign_id: &str) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached("SELECT status = 'running' FROM scheduled_campaign WHERE campaign_id = ?1")?
                .query_row([campaign_id], |row| row.get(0))
        })
    }
}

impl Plans<'_> {
    /// Records when a campaign is due next: only after everything before has been decided about.
    pub fn set_next_run(&mut self, campaign_id: &str, next_run: Option<Instant>) -> Result<(), Failure> {
        let next_run = next_run.map(Recorded);
        let same = self.0.campaign(campaign_id)?.is_some_and(|state| state.next_run == next_run);
        if same {
            return Ok(());
        }
        self.0.write(Durability::Full, |tx| {
            tx.execute("UPDATE scheduled_campaign SET next_run = ?2 WHERE campaign_id = ?1", (campaign_id, &next_run))?;
            Ok(())
        })
    }
}

impl Campaigns<'_> {
    /// Makes a campaign, or an edit of its schedule, known: nothing that fell due before it was first seen ever opens.
    ///
    /// `next_run` is the earliest instant not decided about; it may have passed. One that was paused only because its
    /// definition was gone goes on.
    pub fn see(&mut self, campaign_id: &str, schedule: &str, next_run: Instant, now: Instant) -> Result<(), Failure> {
        let (now, next_run) = (instant::text(now), instant::text(next_run));
        self.0.write(Durability::Full, |tx| {
            come_back(tx, campaign_id, &now)?;
            tx.execute(
                "UPDATE scheduled_campaign SET schedule = ?3, defined = 1,
                     next_run = CASE WHEN cancelled_at IS NOT NULL THEN NULL ELSE ?2 END WHERE campaign_id = ?1",
                (campaign_id, &next_run, schedule),
            )?;
            tx.execute(
                "INSERT INTO scheduled_campaign (campaign_id, next_run, status, enabled, first_seen_at, schedule)
                 SELECT ?1, ?2, 'pending', 1, ?3, ?4
                 WHERE NOT EXISTS (SELECT 1 FROM scheduled_campaign WHERE campaign_id = ?1)",
                (campaign_id, &next_run, &now, schedule),
            )?;
            Ok(())
        })
    }

    /// Takes over what an older system knew of campaigns, in one transaction. Those the ledger knows stay as they are.
    pub fn import(&mut self, campaigns: &[ImportedCampaign], now: Instant) -> Result<(), Failure> {
        let now = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            for campaign in campaigns {
                tx.execute(
                    "INSERT INTO scheduled_campaign (campaign_id, next_run, last_run, total_runs, status, enabled, first_seen_at,
                         schedule, notes)
                     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
                     WHERE NOT EXISTS (SELECT 1 FROM scheduled_campaign WHERE campaign_id = ?1)",
                    (
                        &campaign.campaign_id,
                        campaign.next_run.map(instant::text),
                        campaign.last_run.map(instant::text),
                        campaign.total_runs,
                        &campaign.status,
                        campaign.enabled,
                        &now,
                        &campaign.schedule,
                        &campaign.notes,
                    ),
                )?;
            }
            tx.execute(
                "UPDATE scheduled_campaign SET cancelled_at = ?1 WHERE status = 'cancelled' AND cancelled_at IS NULL",
                [&now],
            )?;
            Ok(())
        })
    }

    /// Sets `pending`, `completed` or, for one that was cancelled, `cancelled` for every running campaign that has nothing
    /// planned or armed any more.
    pub fn complete(&mut self) -> Result<(), Failure> {
        const DONE: &str = "status = 'running' AND NOT EXISTS (
            SELECT 1 FROM campaign_occurrence AS o CROSS JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'
            WHERE o.campaign_id = scheduled_campaign.campaign_id AND o.state = 'opened')
            AND NOT EXISTS (
            SELECT 1 FROM message AS m CROSS JOIN campaign_occurrence AS o ON o.id = m.occurrence
            WHERE m.state = 'armed' AND o.campaign_id = scheduled_campaign.campaign_id)";
        let any = self
            .0
            .read(|conn| conn.prepare_cached(&format!("SELECT 1 FROM scheduled_campaign WHERE {DONE}"))?.exists([]))?;
        if any {
            self.0.write(Durability::Full, |tx| {
                tx.execute(
                    &format!(
                        "UPDATE scheduled_campaign SET status = CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled'
                             WHEN next_run IS NULL THEN 'completed' ELSE 'pending' END WHERE {DONE}"
                    ),
                    [],
                )
            })?;
        }
        Ok(())
    }
}

const CAMPAIGN: &str =
    "campaign_id, next_run, last_run, total_runs, status, enabled, first_seen_at, schedule, defined, notes, cancelled_at,
     paused_by_absence, short_audience_rows";

fn campaign_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<CampaignState> {
    Ok(CampaignState {
        campaign_id: row.get("campaign_id")?,
        next_run: row.get("next_run")?,
        last_run: row.get("last_run")?,
        total_runs: row.get("total_runs")?,
        status: row.get("status")?,
        enabled: row.get("enabled")?,
        first_seen_at: row.get("first_seen_at")?,
        schedule: row.get("schedule")?,
        defined: row.get("defined")?,
        notes: row.get("notes")?,
        cancelled_at: row.get("cancelled_at")?,
        paused_by_absence: row.get("paused_by_absence")?,
        short_audience_rows: row.get("short_audience_rows")?,
    })
}

pub(super) fn open_occurrence_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<OpenOccurrence> {
    Ok(OpenOccurrence {
        id: row.get("id")?,
        campaign_id: row.get("campaign_id")?,
        planned_at: instant_at(row, "planned_at")?,
        subject: row.get("subject")?,
        template: row.get("template")?,
        template_name: row.get("template_name")?,
        sender: row.get("sender")?,
        list: row.get::<_, Option<String>>("list")?.unwrap_or_else(|| list::CAMPAIGNS.to_owned()),
    })
}
