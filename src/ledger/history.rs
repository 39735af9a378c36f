//! All that is known of one person, cart or message, in the order of time.

use crate::domain::state::{Reason, State};
use crate::ledger::{Attempt, EarlierResolution};

/// Whose history it is.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// The names that an address is known by: its folded form, and that of older versions.
    Address([&'a str; 2]),
    Cart(&'a str),
    /// A row of `message`.
    Message(i64),
}

/// One message with all that came of it. Instants are as the ledger has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageStory {
    pub id: i64,
    pub message_id: String,
    pub folded_address: String,
    pub state: State,
    pub reason: Option<Reason>,
    pub cart_id: Option<String>,
    pub step: Option<String>,
    pub campaign: Option<OfCampaign>,
    pub planned_at: String,
    pub not_before: String,
    pub expires_at: String,
    pub armed_at: Option<String>,
    pub settled_at: Option<String>,
    /// Since when the shop has not shown its cart.
    pub missing_since: Option<String>,
    /// The run that began its body.
    pub run: Option<i64>,
    pub last_reply: Option<String>,
    pub attempts: Vec<Attempt>,
    pub resolutions: Vec<EarlierResolution>,
    pub reports: Vec<ReportStory>,
    pub orders: Vec<OrderStory>,
}

impl MessageStory {
    /// Whether a report shows that a server has it, and nobody has decided since that it is to be sent again; the schema's trigger
    /// `taken_over_already` holds the same.
    pub fn was_taken_over(&self) -> bool {
        let is_overruled = |received_at: &str| {
            self.resolutions.iter().any(|by| by.decision == "planned" && by.decided_at.as_str() >= received_at)
        };
        self.reports.iter().any(|report| report.proves && !is_overruled(&report.received_at))
    }
}

/// The opening that a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfCampaign {
    pub campaign_id: String,
    pub occurrence: String,
    /// What the campaign is at: `paused`, for instance.
    pub status: String,
    /// On which list its recipients are.
    pub list: String,
}

/// What came back about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportStory {
    pub received_at: String,
    pub class: String,
    /// An enhanced status code, `4.2.2`.
    pub status: Option<String>,
    pub diagnostic: Option<String>,
    /// It returns the message's own header: a mail server had taken it over.
    pub proves: bool,
}

/// An order that followed a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderStory {
    pub ordered_at: String,
    pub order_id: String,
    pub value: Option<String>,
    pub currency: Option<String>,
    pub status: String,
    /// `cart`, or `person`.
    pub how: String,
}

/// A row of an older system's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRow {
    pub at: String,
    pub cart_id: Option<String>,
    pub sent: bool,
    /// Another row stands for it.
    pub moved_aside: bool,
}

/// An entry of the suppression list that was taken off it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedSuppression {
    pub list: String,
    pub reason: String,
    pub origin: String,
    pub added_at: String,
    pub removed_at: String,
    pub removed_why: String,
}

/// At most so many messages of one history are read, the newest.
pub const MOST_TOLD: usize = 200;

/// The messages of a history, and how many older ones there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stories {
    /// Oldest first.
    pub messages: Vec<MessageStory>,
    pub left_out: u64,
}
