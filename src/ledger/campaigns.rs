//! The state of campaigns: what the ledger has seen, opened and missed. Definitions live in a file, not here.

use rusqlite::OptionalExtension;

use super::columns::instant_at;
use super::expire::{settle_expiry, settle_expiry_of};
use super::missed::settle_all;
use super::pauses::come_back;
use super::report::count_states;
use super::{Durability, Ledger};
use crate::domain::instant::{self, Instant, Recorded};
use crate::domain::state::{CampaignStatus, Reason, Retried, State};
use crate::failure::Failure;

/// What the ledger knows of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CampaignState {
    pub campaign_id: String,
    pub next_run: Option<Recorded>,
    pub last_run: Option<Recorded>,
    pub total_runs: u64,
    pub status: CampaignStatus,
    pub enabled: bool,
    pub first_seen_at: Recorded,
    pub schedule: String,
    pub defined: bool,
    pub notes: Option<String>,
    /// From then on nothing opens, whatever the status is.
    pub cancelled_at: Option<String>,
    /// It is paused only because its definition was gone.
    pub paused_by_absence: bool,
    /// Rows of the audience that was held to be cut short, when it was seen last.
    pub short_audience_rows: Option<u64>,
}

/// A campaign as an older system knew it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedCampaign {
    pub campaign_id: String,
    pub next_run: Option<Instant>,
    pub last_run: Option<Instant>,
    pub total_runs: u64,
    pub status: CampaignStatus,
    pub enabled: bool,
    pub schedule: String,
    pub notes: Option<String>,
}

/// What decides about the next opening of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDecision {
    /// The newest instant decided about, opened or not.
    pub newest_at: Option<Instant>,
    pub last_opened: Option<LastOpened>,
    /// The newest occurrence since the last opening that was missed because its audience was too short, and its rows.
    pub missed_over_short: Option<(Instant, u64)>,
}

/// The newest opening of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOpened {
    pub planned_at: Instant,
    pub opened_at: Instant,
    pub schedule: String,
    /// Rows of its audience.
    pub audience_rows: u64,
}

/// One occurrence, as `campaign show` lists it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OccurrenceRow {
    pub id: i64,
    pub planned_at: String,
    pub state: String,
    pub decided_at: String,
    pub expires_at: Option<String>,
    pub recipients: Option<u64>,
    pub audience_rows: Option<u64>,
    pub bad_rows: Option<u64>,
    pub repeated: Option<u64>,
    /// Messages by state, `skipped: reason` for the skipped.
    pub messages: std::collections::BTreeMap<String, u64>,
}

/// An opened occurrence with messages to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOccurrence {
    pub id: i64,
    pub campaign_id: String,
    pub planned_at: Instant,
    pub subject: String,
    pub template: String,
    pub template_name: String,
    pub sender: String,
}

/// A campaign message that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRecipient {
    pub id: i64,
    pub recipient: String,
    pub message_id: String,
    pub planned_at: Instant,
    pub not_before: Instant,
    /// The row of the audience, as JSON.
    pub row_values: String,
    /// Whether the address was on the suppression list when this was read.
    pub suppressed: bool,
}

impl Ledger {
    /// Makes a campaign, or an edit of its schedule, known: nothing that fell due before it was first seen ever opens.
    ///
    /// `next_run` is the earliest instant not decided about; it may have passed. One that was paused only because its
    /// definition was gone goes on.
    pub fn see_campaign(
        &mut self,
        campaign_id: &str,
        schedule: &str,
        next_run: Instant,
        now: Instant,
    ) -> Result<(), Failure> {
        let (now, next_run) = (instant::text(now), instant::text(next_run));
        self.write(Durability::Full, |tx| {
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
    pub fn import_campaigns(&mut self, campaigns: &[ImportedCampaign], now: Instant) -> Result<(), Failure> {
        let now = instant::text(now);
        self.write(Durability::Full, |tx| {
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

    /// Records when a campaign is due next: only after everything before has been decided about.
    pub fn set_next_run(&mut self, campaign_id: &str, next_run: Option<Instant>) -> Result<(), Failure> {
        let next_run = next_run.map(Recorded);
        let same = self.campaign(campaign_id)?.is_some_and(|state| state.next_run == next_run);
        if same {
            return Ok(());
        }
        self.write(Durability::Full, |tx| {
            tx.execute("UPDATE scheduled_campaign SET next_run = ?2 WHERE campaign_id = ?1", (campaign_id, &next_run))?;
            Ok(())
        })
    }

    /// What the ledger knows of one campaign.
    pub fn campaign(&self, campaign_id: &str) -> Result<Option<CampaignState>, Failure> {
        self.read(|conn| {
            conn.prepare_cached(&format!("SELECT {} FROM scheduled_campaign WHERE campaign_id = ?1", self.columns()))?
                .query_row([campaign_id], campaign_from)
                .optional()
        })
    }

    /// What the ledger knows of all campaigns, in order of their id.
    pub fn campaigns(&self) -> Result<Vec<CampaignState>, Failure> {
        self.read(|conn| {
            let columns = self.columns();
            let mut rows =
                conn.prepare_cached(&format!("SELECT {columns} FROM scheduled_campaign ORDER BY campaign_id"))?;
            rows.query_map([], campaign_from)?.collect()
        })
    }

    /// What a [`CampaignState`] is read from; an older schema lacks the last three.
    fn columns(&self) -> String {
        let since_3 = match self.is_of_an_older_schema() {
            true => "NULL, 0, NULL",
            false => "cancelled_at, paused_by_absence, short_audience_rows",
        };
        format!("{CAMPAIGN}, {since_3}")
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
                        planned_at: instant_at(row, 0)?,
                        opened_at: instant_at(row, 1)?,
                        schedule: row.get(2)?,
                        audience_rows: row.get(3)?,
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

    /// Sets `pending`, `completed` or, for one that was cancelled, `cancelled` for every running campaign that has nothing
    /// planned or armed any more.
    pub fn complete_campaigns(&mut self) -> Result<(), Failure> {
        const DONE: &str = "status = 'running' AND NOT EXISTS (
            SELECT 1 FROM campaign_occurrence AS o CROSS JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'
            WHERE o.campaign_id = scheduled_campaign.campaign_id AND o.state = 'opened')
            AND NOT EXISTS (
            SELECT 1 FROM message AS m CROSS JOIN campaign_occurrence AS o ON o.id = m.occurrence
            WHERE m.state = 'armed' AND o.campaign_id = scheduled_campaign.campaign_id)";
        let any = self
            .read(|conn| conn.prepare_cached(&format!("SELECT 1 FROM scheduled_campaign WHERE {DONE}"))?.exists([]))?;
        if any {
            self.write(Durability::Full, |tx| {
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

    /// Opened occurrences of running campaigns with messages due at `now`, the oldest first.
    pub fn open_occurrences(&self, now: Instant, only: Option<&str>) -> Result<Vec<OpenOccurrence>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT o.id, o.campaign_id, o.planned_at, o.subject, o.template, o.template_name, o.sender
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
            let mut rows = conn.prepare_cached(
                "SELECT id, recipient, message_id, planned_at, not_before, recipient_values,
                        EXISTS (SELECT 1 FROM suppression AS s WHERE s.folded_address = message.folded_address)
                 FROM message WHERE occurrence = ?1 AND state = 'planned' AND not_before <= ?2 AND (not_before, id) > (?3, ?4) AND expires_at > ?6
                 ORDER BY not_before, id LIMIT ?5",
            )?;
            let (due_at, now) = (instant::text(due_at), instant::text(now));
            rows.query_map((occurrence, due_at, after_at, after_id, limit as i64, now), |row| {
                Ok(DueRecipient {
                    id: row.get(0)?,
                    recipient: row.get(1)?,
                    message_id: row.get(2)?,
                    planned_at: instant_at(row, 3)?,
                    not_before: instant_at(row, 4)?,
                    row_values: row.get(5)?,
                    suppressed: row.get(6)?,
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

    /// Cancels a campaign: nothing more opens or is armed from the first transaction on; then what is planned becomes
    /// `skipped: cancelled`, in batches, of which `each` hears. Says how many; `None` when it was cancelled already and
    /// nothing of it was planned.
    ///
    /// Killed on the way, the next run goes on with it, and so does another `cancel_campaign`.
    pub fn cancel_campaign(
        &mut self,
        campaign_id: &str,
        now: Instant,
        each: &mut dyn FnMut(u64),
    ) -> Result<Option<u64>, Failure> {
        let is_new = self.write(Durability::Full, |tx| {
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
        let cancelled = self.cancel_planned(campaign_id, now, each)?;
        Ok((is_new || cancelled > 0).then_some(cancelled))
    }

    /// Goes on with cancellations that were killed on the way, and with messages that came back from a run that was under
    /// way; says how many messages are not sent because of it.
    pub fn finish_cancellations(&mut self, now: Instant) -> Result<u64, Failure> {
        let unfinished: Vec<String> = self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT campaign_id FROM scheduled_campaign AS c WHERE status = 'cancelled' AND EXISTS (
                     SELECT 1 FROM campaign_occurrence AS o CROSS JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'
                     WHERE o.campaign_id = c.campaign_id AND o.state = 'opened')",
            )?;
            rows.query_map([], |row| row.get(0))?.collect()
        })?;
        let mut cancelled = 0;
        for campaign_id in unfinished {
            cancelled += self.cancel_planned(&campaign_id, now, &mut |_| {})?;
        }
        Ok(cancelled)
    }

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

    /// Plans the refused, expired or cancelled messages of an occurrence anew, in batches, of which `each` hears; says how
    /// many. The caller holds the run lock. Killed on the way, it is repeated for the rest.
    ///
    /// The campaign is running again, unless it is paused.
    pub fn retry_occurrence(
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
            let found: Vec<i64> = self.read(|conn| {
                let mut rows = conn.prepare(&format!("SELECT id FROM message WHERE occurrence = ?1 AND {which}"))?;
                rows.query_map([occurrence], |row| row.get(0))?.collect()
            })?;
            ids.extend(found);
        }
        self.in_batches(&ids, each, |tx, batch| {
            if batch.is_first {
                // Before any of them: what is planned in a cancelled campaign is cancelled by the next run.
                tx.execute(
                    "UPDATE scheduled_campaign SET status = 'running'
                     WHERE status <> 'paused' AND campaign_id = (SELECT campaign_id FROM campaign_occurrence WHERE id = ?1)",
                    [occurrence],
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

    /// How many messages of an occurrence were held back when an old copy of the ledger was put back: nothing plans them
    /// again, as they may have gone out.
    pub fn count_held_back(&self, occurrence: i64) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT count(*) FROM message
                 WHERE kind = 'campaign' AND occurrence = ?1 AND state = 'skipped' AND reason = 'held_back'",
                [occurrence],
                |row| row.get(0),
            )
        })
    }

    /// A campaign's newest occurrences, the newest first, each with its messages by state.
    pub fn occurrences_of(&self, campaign_id: &str, limit: u64) -> Result<Vec<OccurrenceRow>, Failure> {
        self.occurrences("campaign_id = ?1 AND ?2 IS NULL", campaign_id, None, limit)
    }

    /// The occurrence that a campaign opened at `planned_at`, or the newest that it opened at all.
    pub fn opened_occurrence(
        &self,
        campaign_id: &str,
        planned_at: Option<Instant>,
    ) -> Result<Option<OccurrenceRow>, Failure> {
        let which = match planned_at {
            Some(_) => "campaign_id = ?1 AND planned_at = ?2 AND state = 'opened'",
            None => "campaign_id = ?1 AND ?2 IS NULL AND state = 'opened'",
        };
        Ok(self.occurrences(which, campaign_id, planned_at, 1)?.pop())
    }

    fn occurrences(
        &self,
        which: &str,
        campaign_id: &str,
        planned_at: Option<Instant>,
        limit: u64,
    ) -> Result<Vec<OccurrenceRow>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&format!(
                "SELECT id, planned_at, state, decided_at, expires_at, recipients, audience_rows, bad_rows, repeated
                 FROM campaign_occurrence WHERE {which} ORDER BY planned_at DESC LIMIT ?3"
            ))?;
            let occurrences = rows.query_map((campaign_id, planned_at.map(instant::text), limit), |row| {
                Ok(OccurrenceRow {
                    id: row.get(0)?,
                    planned_at: row.get(1)?,
                    state: row.get(2)?,
                    decided_at: row.get(3)?,
                    expires_at: row.get(4)?,
                    recipients: row.get(5)?,
                    audience_rows: row.get(6)?,
                    bad_rows: row.get(7)?,
                    repeated: row.get(8)?,
                    messages: std::collections::BTreeMap::new(),
                })
            })?;
            let mut occurrences = occurrences.collect::<rusqlite::Result<Vec<_>>>()?;
            for occurrence in &mut occurrences {
                let counts =
                    count_states(conn, "occurrence = ?1", "kind = 'campaign' AND occurrence = ?1", [occurrence.id])?;
                let named = |(state, reason, messages): (State, Option<Reason>, u64)| match reason {
                    Some(reason) => (format!("{state}: {reason}"), messages),
                    None => (state.word().to_owned(), messages),
                };
                occurrence.messages = counts.into_iter().map(named).collect();
            }
            Ok(occurrences)
        })
    }

    /// Every recipient of an occurrence with what became of the message: recipient, state, reason, armed, settled, reply.
    pub fn each_recipient(&self, occurrence: i64, mut each: impl FnMut(RecipientFate)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT recipient, state, reason, armed_at, settled_at, last_reply FROM message
                 WHERE kind = 'campaign' AND occurrence = ?1 ORDER BY id",
            )?;
            let mut rows = rows.query([occurrence])?;
            while let Some(row) = rows.next()? {
                each(RecipientFate {
                    recipient: row.get(0)?,
                    state: row.get(1)?,
                    reason: row.get(2)?,
                    armed_at: row.get(3)?,
                    settled_at: row.get(4)?,
                    last_reply: row.get(5)?,
                });
            }
            Ok(())
        })
    }
}

/// What became of one recipient's message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RecipientFate {
    pub recipient: String,
    pub state: State,
    pub reason: Option<Reason>,
    pub armed_at: Option<String>,
    pub settled_at: Option<String>,
    pub last_reply: Option<String>,
}

const CAMPAIGN: &str =
    "campaign_id, next_run, last_run, total_runs, status, enabled, first_seen_at, schedule, defined, notes";

fn campaign_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<CampaignState> {
    Ok(CampaignState {
        campaign_id: row.get(0)?,
        next_run: row.get(1)?,
        last_run: row.get(2)?,
        total_runs: row.get(3)?,
        status: row.get(4)?,
        enabled: row.get(5)?,
        first_seen_at: row.get(6)?,
        schedule: row.get(7)?,
        defined: row.get(8)?,
        notes: row.get(9)?,
        cancelled_at: row.get(10)?,
        paused_by_absence: row.get(11)?,
        short_audience_rows: row.get(12)?,
    })
}

pub(super) fn open_occurrence_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<OpenOccurrence> {
    Ok(OpenOccurrence {
        id: row.get(0)?,
        campaign_id: row.get(1)?,
        planned_at: instant_at(row, 2)?,
        subject: row.get(3)?,
        template: row.get(4)?,
        template_name: row.get(5)?,
        sender: row.get(6)?,
    })
}

/// The condition that a message is in a state, for a reason.
pub(super) fn stands((state, reason): (State, Option<Reason>)) -> String {
    reason
        .map_or_else(|| format!("(state = '{state}')"), |reason| format!("(state = '{state}' AND reason = '{reason}')"))
}
