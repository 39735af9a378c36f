//! What is read to be shown.

use super::EVENT_KINDS;
use crate::domain::instant::Instant;
use crate::domain::state::{Reason, State};

/// One thing that is not as it must be. Holds no address.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    pub rule: &'static str,
    pub what: String,
}

/// What an audit looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Audited {
    pub messages: u64,
    pub attempts: u64,
    /// Of these messages, how many the mail log has accepted.
    pub accepted_in_log: Option<u64>,
}

/// A thing that needs a person: its identity, and the line to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub key: String,
    pub line: String,
}

/// An event that stands until a person settles it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StandingEvent {
    pub key: String,
    pub kind: String,
    pub line: String,
    pub since: String,
}

/// Something that needs a person, and has since then.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OpenNotice {
    pub kind: String,
    pub line: String,
    pub since: String,
}

impl OpenNotice {
    /// Whether it has happened, and is listed until a person settles it.
    pub fn is_event(&self) -> bool {
        EVENT_KINDS.contains(&self.kind.as_str())
    }
}

/// What to tell a person now about one kind of notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Lines not told before.
    pub new: Vec<String>,
    /// How many stand in all, when it is time to bring them up again and none is new.
    pub reminder: Option<u64>,
}

/// Messages of one kind in one state, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StateCount {
    pub kind: String,
    pub state: State,
    pub reason: Option<Reason>,
    pub messages: u64,
}

/// One run and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RunRow {
    pub run: i64,
    pub command: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    /// `None`: under way, or dead.
    pub ending: Option<String>,
    pub accepted_clock: bool,
    pub sent: u64,
    pub deferred: u64,
    pub refused: u64,
    pub in_doubt: u64,
}

impl RunRow {
    /// Whether it met something that a person must see to.
    pub fn needs_a_person(&self) -> bool {
        self.ending.as_deref().is_some_and(|ending| ending.starts_with("needs") || ending.starts_with("failed"))
    }
}

/// Runs of one command that found nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct IdleRow {
    pub command: String,
    pub runs: u64,
    pub first_started_at: String,
    pub latest_run: i64,
    pub latest_started_at: String,
    pub latest_ended_at: String,
}

/// What `log` narrows by; `None` does not narrow.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Only the messages of these row ids; `None`: all.
    pub messages: Option<Vec<i64>>,
    pub user_id: Option<String>,
    pub folded_address: Option<String>,
    pub cart_id: Option<String>,
    /// Messages of this step; episodes that have one.
    pub step: Option<String>,
    pub state: Option<State>,
    pub since: Option<Instant>,
    /// At most so many rows, the newest.
    pub limit: u64,
}

/// One message, as `log` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MessageRow {
    pub message_key: String,
    pub kind: String,
    pub state: State,
    pub reason: Option<Reason>,
    pub recipient: String,
    pub message_id: String,
    pub cart_id: Option<String>,
    /// Which step of its flow it is; `None` without steps.
    pub step: Option<String>,
    pub campaign_id: Option<String>,
    pub planned_at: String,
    pub not_before: String,
    pub expires_at: String,
    pub armed_at: Option<String>,
    pub settled_at: Option<String>,
    pub last_reply: Option<String>,
    pub attempts: u64,
}

/// One episode, as `log` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EpisodeRow {
    pub id: i64,
    pub identity: String,
    pub user_id: Option<String>,
    pub email: Option<String>,
    pub cart_id: Option<String>,
    pub cart_hash: String,
    pub cart_value: Option<String>,
    pub currency: Option<String>,
    pub created_at: String,
    pub email_sent: bool,
    pub last_sent_at: Option<String>,
    pub message_key: Option<String>,
    pub origin: String,
    pub message: Option<MessageRow>,
}
