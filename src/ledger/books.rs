//! What becomes of a message: armed, settled, resolved by a person.

use crate::domain::fate::Fate;
use crate::domain::instant::{self, Instant, Recorded};
use crate::domain::state::{Reason, State};

/// The answer to one arm request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Armed {
    /// On disk: the body may leave.
    Granted,
    /// The body must not leave.
    Denied(Denied),
}

/// Why a body must not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The address was suppressed meanwhile; the message is now `skipped`.
    Suppressed,
    /// It is no longer planned: someone decided otherwise.
    NotPlanned,
    /// Its campaign was paused meanwhile; the message stays planned.
    Paused,
    /// Its time has passed while the run was under way; it stays planned, and the next run expires it and says so.
    Expired,
    /// Another mail for the same shopper and contents became known since it was planned, from an older system's log for
    /// instance, or a step of another cart went just before: it stays planned, and is tried again later.
    KeptBack { why: &'static str, until: Instant },
    /// Another constraint of the ledger forbids it (its name and words): a slip, or a ledger changed by hand.
    Forbidden(String),
}

/// The instant of an arming, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// What the ledger records.
    pub now: Instant,
    /// Unix seconds of the real clock, where begun bodies count for the limits.
    pub real_second: i64,
}

/// A message in doubt, with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InDoubt {
    #[serde(skip)]
    pub id: i64,
    pub message_key: String,
    pub kind: String,
    pub recipient: String,
    pub message_id: String,
    pub cart_id: Option<String>,
    pub campaign_id: Option<String>,
    pub planned_at: String,
    pub expires_at: String,
    #[serde(serialize_with = "as_text")]
    pub armed_at: Instant,
    /// The run that began the body.
    pub run: i64,
    pub last_reply: Option<String>,
    pub attempts: Vec<Attempt>,
    /// Doubts about earlier tries of it, and how they were settled.
    pub resolutions: Vec<EarlierResolution>,
    /// What came back about it.
    pub reports: Vec<EarlierReport>,
}

impl InDoubt {
    /// Under which key a person was told that this doubt stands.
    pub fn notice_key(&self) -> String {
        format!("in doubt {} {}", self.message_id, instant::text(self.armed_at))
    }
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Attempt {
    pub run: i64,
    /// `None`: it ended before the body.
    pub armed_at: Option<String>,
    pub ended_at: String,
    pub outcome: String,
    pub reply: String,
}

/// How a doubt about an earlier try was settled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EarlierResolution {
    pub armed_at: String,
    pub decided_at: String,
    pub decision: String,
    pub who: String,
    pub reason: String,
    pub evidence: Option<String>,
}

/// What came back about a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EarlierReport {
    pub received_at: String,
    pub class: String,
    pub diagnostic: Option<String>,
    /// It returns the message's own header: the server had taken it over, if only in an earlier try.
    pub proves: bool,
}

/// What a message in doubt is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The server took it over.
    Sent,
    /// It did not: back to `planned`.
    Resend,
    /// It did not, and it is not tried again.
    Refused,
}

impl Decision {
    /// What the message is from then on.
    pub fn state(self) -> State {
        match self {
            Decision::Sent => State::Sent,
            Decision::Resend => State::Planned,
            Decision::Refused => State::Refused,
        }
    }
}

/// One decision and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    pub decision: Decision,
    /// The user, or `mailonce` for evidence that it weighed itself.
    pub who: String,
    pub reason: String,
    /// Lines of a mail log.
    pub evidence: Option<String>,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    Done,
    /// To be sent again, but its time has passed: it is now `skipped: expired`.
    Expired,
    /// To be sent again, but another message to the same address or about the same cart is planned: it stays in doubt.
    AnotherIsPlanned,
    /// It was settled meanwhile.
    NoLongerInDoubt,
}

/// A message that a person has named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub id: i64,
    pub state: State,
    /// Why it was skipped.
    pub reason: Option<Reason>,
    pub is_cart: bool,
    pub message_id: String,
}

/// What became of a request to plan a refused message again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedAgain {
    Done,
    /// It stays refused: its time has passed.
    Expired,
    /// It stays refused: another is planned for the address or cart, or has written of the same contents since.
    AnotherTookItsPlace,
    /// It stays refused: the ledger would not let its body leave now, by this constraint.
    Forbidden(String),
    /// It was something else meanwhile.
    NotRefused,
}

/// What became of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Recorded,
    /// Another run had taken the message over, or someone had moved it: the outcome could not be recorded.
    NotOurs,
}

/// How one try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The message's row.
    pub id: i64,
    /// Whether its body had been begun, by this run.
    pub armed: bool,
    pub fate: Fate,
}

/// A try that ended in a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRefusal {
    /// The message's row.
    pub message: i64,
    pub reply: String,
}

fn as_text<S: serde::Serializer>(at: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&instant::text(*at))
}

/// Whose messages wait for their next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor<'a> {
    Carts,
    /// Of all campaigns, or of one.
    Campaigns {
        only: Option<&'a str>,
    },
}

/// Messages that wait for their next try.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    pub messages: u64,
    /// When the first of them is tried again.
    pub next_at: Option<Recorded>,
    /// Why that one waits: what the server or the shop said last, with addresses masked.
    pub last_reply: Option<String>,
    /// Whom it was about.
    #[serde(skip)]
    pub recipient: Option<String>,
}
