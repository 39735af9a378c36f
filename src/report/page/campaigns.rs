//! Campaigns as they are scheduled, and each occurrence with its books.

use serde::Serialize;

use super::Asked;
use super::carts::{Ordered, ordered};
use super::tally::{Counts, OfOccurrence, Skipped, Tally};
use crate::domain::instant;
use crate::domain::state::CampaignStatus;
use crate::failure::Failure;
use crate::ledger::{DecidedOccurrence, Followed, OccurrenceCount, Records};

const OCCURRENCES_SHOWN: u64 = 100;
const CAMPAIGNS_SHOWN: usize = 100;
/// Of less time than this, no rate is told.
const SHORTEST_TIMED_SECONDS: i64 = 10;

#[derive(Debug, Serialize)]
pub struct Campaigns {
    pub scheduled: Vec<Scheduled>,
    pub more_scheduled: u64,
    /// Those decided about in the time, the newest first.
    pub occurrences: Vec<Occurrence>,
    pub more_occurrences: u64,
    pub total: Counts,
    /// Of each campaign, what followed its messages.
    pub ordered: Vec<OrderedOf>,
}

/// A campaign as the ledger has it.
#[derive(Debug, Serialize)]
pub struct Scheduled {
    pub campaign: String,
    pub status: &'static str,
    pub schedule: String,
    pub next_run: Option<String>,
    pub last_run: Option<String>,
    pub total_runs: u64,
    /// Whether it stands in the definitions.
    pub defined: bool,
}

#[derive(Debug, Serialize)]
pub struct Occurrence {
    pub campaign: String,
    pub planned_at: String,
    pub decided_at: String,
    /// So long after it was planned.
    pub late_seconds: Option<i64>,
    /// It will never open; then there is no message, and the rest is `None` or 0.
    pub was_missed: bool,
    /// Fixed when it opened.
    pub recipients: Option<u64>,
    pub bad_rows: Option<u64>,
    pub repeated: Option<u64>,
    #[serde(flatten)]
    pub counts: Counts,
    pub skipped_by: Skipped,
    pub first_at: Option<String>,
    pub last_at: Option<String>,
    /// Messages that went out, pauses included; `None` of less than ten seconds.
    pub per_second: Option<f64>,
    /// Of its messages, so many were settled long ago and have no row any more.
    pub pruned: u64,
    /// Whether the count that is kept comes to what it opened with, and as many messages are found; `None`: it never opened.
    pub balances: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct OrderedOf {
    pub campaign: String,
    #[serde(flatten)]
    pub ordered: Ordered,
}

impl Campaigns {
    pub(super) fn read(ledger: &Records, asked: &Asked<'_>, tally: &Tally) -> Result<Campaigns, Failure> {
        let (decided, more_occurrences) = ledger.decided_occurrences(&asked.period, OCCURRENCES_SHOWN)?;
        let counts = ledger.occurrence_counts()?;
        let none = OfOccurrence::default();
        let of = |row: DecidedOccurrence| {
            let counts = counts.get(&row.id).map_or(&[][..], Vec::as_slice);
            occurrence(counts, tally.occurrences.get(&row.id).unwrap_or(&none), row)
        };
        let occurrences: Vec<Occurrence> = decided.into_iter().map(of).collect();
        let mut scheduled = ledger.all_campaigns()?;
        scheduled.retain(|state| asked.period.campaign.as_ref().is_none_or(|only| *only == state.campaign_id));
        // What comes next stands first, then what ran last.
        scheduled.sort_by(|one, other| {
            let (next, other_next) = (one.next_opening(), other.next_opening());
            (next.is_none(), next).cmp(&(other_next.is_none(), other_next)).then(other.last_run.cmp(&one.last_run))
        });
        let more_scheduled = scheduled.len().saturating_sub(CAMPAIGNS_SHOWN) as u64;
        let mut rows = Vec::new();
        for state in scheduled.into_iter().take(CAMPAIGNS_SHOWN) {
            let current = match state.status {
                CampaignStatus::Running => ledger.opened_occurrence(&state.campaign_id, None)?,
                _ => None,
            };
            let is_open = current.is_some_and(|row| row.messages.keys().any(|of| of == "planned" || of == "armed"));
            rows.push(Scheduled {
                status: state.current_status(is_open).word(),
                next_run: state.next_opening().map(instant::text),
                last_run: state.last_run.map(|at| at.to_string()),
                total_runs: state.total_runs,
                defined: state.defined,
                schedule: state.schedule,
                campaign: state.campaign_id,
            });
        }
        Ok(Campaigns {
            ordered: ordered_of(ledger, asked, &occurrences)?,
            scheduled: rows,
            more_scheduled,
            occurrences,
            more_occurrences,
            total: tally.campaigns,
        })
    }
}

fn occurrence(counted: &[OccurrenceCount], found: &OfOccurrence, row: DecidedOccurrence) -> Occurrence {
    let (mut counts, mut skipped_by, mut pruned) = (Counts::default(), Skipped::new(), 0);
    for count in counted {
        counts.add(count.state, count.messages);
        pruned += count.pruned;
        if let Some(reason) = count.reason {
            *skipped_by.entry(reason).or_default() += count.messages;
        }
    }
    let at = |text: &Option<String>| text.as_deref().and_then(instant::from_text);
    let seconds =
        at(&found.last_armed_at).zip(at(&found.first_armed_at)).map(|(last, first)| (last - first).num_seconds());
    // Of a part nothing is told.
    let timed = seconds.filter(|seconds| *seconds >= SHORTEST_TIMED_SECONDS && pruned == 0);
    let late = instant::from_text(&row.decided_at).zip(instant::from_text(&row.planned_at));
    Occurrence {
        balances: row
            .recipients
            .map(|recipients| recipients == counts.messages && found.messages + pruned == counts.messages),
        was_missed: row.state != "opened",
        late_seconds: late.map(|(decided, planned)| (decided - planned).num_seconds()),
        campaign: row.campaign_id,
        planned_at: row.planned_at,
        decided_at: row.decided_at,
        recipients: row.recipients,
        bad_rows: row.bad_rows,
        repeated: row.repeated,
        counts,
        skipped_by,
        first_at: found.first_armed_at.clone(),
        last_at: found.last_armed_at.clone(),
        per_second: timed.map(|seconds| (counts.went_out() as f64 * 100.0 / seconds as f64).round() / 100.0),
        pruned,
    }
}

/// Of the campaigns whose occurrences are listed.
fn ordered_of(ledger: &Records, asked: &Asked<'_>, listed: &[Occurrence]) -> Result<Vec<OrderedOf>, Failure> {
    let Some(followed) = ledger.followed_by(&asked.period)? else { return Ok(Vec::new()) };
    let of = |campaign: &String, followed: &Followed| {
        let of_it = listed.iter().filter(|row| row.campaign == *campaign);
        let went_out = of_it.map(|row| row.counts.went_out()).sum();
        OrderedOf { campaign: campaign.clone(), ordered: ordered(followed, went_out) }
    };
    let mut rows: Vec<OrderedOf> =
        followed.campaigns.iter().map(|(campaign, followed)| of(campaign, followed)).collect();
    rows.truncate(CAMPAIGNS_SHOWN);
    Ok(rows)
}
