//! Campaigns and their occurrences, as the ledger knows them.

use crate::domain::instant::{Instant, Recorded};
use crate::domain::state::{CampaignStatus, Reason, State};

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

impl CampaignState {
    /// What it is at now; `has_open` says whether any of its messages is planned or armed. One that runs and has nothing left
    /// is pending or completed, although no run has said so yet.
    pub fn current_status(&self, has_open: bool) -> CampaignStatus {
        match (self.status, has_open) {
            (CampaignStatus::Running, false) if self.cancelled_at.is_some() => CampaignStatus::Cancelled,
            (CampaignStatus::Running, false) if self.next_opening().is_some() => CampaignStatus::Pending,
            (CampaignStatus::Running, false) => CampaignStatus::Completed,
            (status, _) => status,
        }
    }

    /// When it opens next; `None` while it is paused, and once it is over.
    pub fn next_opening(&self) -> Option<Instant> {
        let is_live = self.enabled
            && self.cancelled_at.is_none()
            && !matches!(self.status, CampaignStatus::Paused | CampaignStatus::Cancelled);
        self.next_run.filter(|_| is_live).map(|at| at.0)
    }
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
    /// Which list its recipients are on.
    pub list: String,
}

/// A campaign message that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRecipient {
    pub id: i64,
    pub message_key: String,
    pub folded_address: String,
    pub expires_at: Instant,
    pub recipient: String,
    pub message_id: String,
    pub planned_at: Instant,
    pub not_before: Instant,
    /// The row of the audience, as JSON.
    pub row_values: String,
    /// Whether the address was on the suppression list when this was read.
    pub suppressed: bool,
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

/// What the end of a pause found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Planned messages, and how many of them have expired meanwhile.
    pub planned: u64,
    pub expired: u64,
}

/// What an opening is written with from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retemplated<'a> {
    pub subject: &'a str,
    pub template: &'a str,
    pub template_name: &'a str,
}
