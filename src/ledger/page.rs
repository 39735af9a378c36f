//! What a page about a length of time is made of. A message belongs to the time in which it was planned, and to no other: so
//! what is counted one way adds up to what is counted another.

use std::collections::BTreeMap;

use crate::domain::instant::Instant;
use crate::domain::state::{Reason, State};
use crate::ledger::Takings;

/// Which messages: those planned from `since` to `until`, both included, of one campaign or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    pub since: Instant,
    pub until: Instant,
    pub campaign: Option<String>,
}

/// A message as it is now. Addresses and replies are as they are in the ledger: nothing is masked yet.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Which opening it belongs to; `None`: it is about a cart.
    pub occurrence: Option<i64>,
    pub state: State,
    pub reason: Option<Reason>,
    pub planned_at: &'a str,
    pub armed_at: Option<&'a str>,
    /// When its cart had been touched last.
    pub touched_at: Option<&'a str>,
    pub step: Option<&'a str>,
    /// In seconds.
    pub step_after: Option<i64>,
    pub folded_address: &'a str,
    /// Of a refused one.
    pub last_reply: Option<&'a str>,
}

/// A row of `cart_abandonment_log`, as it is in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Abandoned<'a> {
    pub identity: &'a str,
    pub email: Option<&'a str>,
    pub cart_id: Option<&'a str>,
    pub cart_hash: &'a str,
    pub value: Option<&'a str>,
    pub currency: Option<&'a str>,
    pub created_at: &'a str,
    /// Whether any message about it was sent.
    pub email_sent: bool,
    pub last_sent_at: Option<&'a str>,
    /// `None`: it comes from an older system.
    pub message_key: Option<&'a str>,
}

/// What became of the messages of one episode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpisodeOutcome {
    pub sent: u64,
    pub last_armed_at: Option<String>,
    /// Of the newest message, as is what follows.
    pub message_id: Option<String>,
    pub state: Option<State>,
    pub reason: Option<Reason>,
    pub step: Option<String>,
}

/// An occurrence that was decided about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedOccurrence {
    pub id: i64,
    pub campaign_id: String,
    pub planned_at: String,
    /// `opened` or `not_in_time`.
    pub state: String,
    pub decided_at: String,
    /// Messages planned when it opened.
    pub recipients: Option<u64>,
    pub bad_rows: Option<u64>,
    pub repeated: Option<u64>,
}

/// How many messages of an opening are in a state, by the count that is kept as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OccurrenceCount {
    pub state: State,
    pub reason: Option<Reason>,
    pub messages: u64,
    /// So many of them have no row any more.
    pub pruned: u64,
}

/// What followed the messages of one step or campaign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// Messages that at least one order followed that stands.
    pub messages: u64,
    /// Orders that stand.
    pub takings: Takings,
    /// Of those, the ones of the very cart, and the others: of the same person.
    pub by_cart: u64,
    pub by_person: u64,
    pub cancelled: u64,
    pub refunded: u64,
}

/// What followed messages about carts by the name of the step (`-` without steps), and campaigns by their id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowedBy {
    pub steps: BTreeMap<String, Followed>,
    pub campaigns: BTreeMap<String, Followed>,
}
