//! What the coordinator and the conversations say to each other.

use std::fmt;
use std::time::Instant as Monotonic;

use crate::domain::fate::{Fate, Unusable};
use crate::mail::session::{InStep, Opened, Outgoing};

/// One message to deliver. What it takes to write it is done where it is sent, not where the ledger is.
pub struct Job {
    pub id: i64,
    /// How `-v` names it.
    pub label: Label,
    /// What the last look at it found does not count after this instant; `None` when arming itself looks again.
    pub fresh_until: Option<Monotonic>,
    /// Renders and composes; the error says why that cannot be done.
    pub compose: Box<dyn FnOnce() -> Result<Outgoing, String> + Send>,
}

/// How a message is named without personal data: `cart u1_9f86d081`, and behind what is said of it ` (cart c7)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    pub name: String,
    pub behind: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Job {
    /// Whether what the last look at it found still counts.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh_until.is_none_or(|until| Monotonic::now() <= until)
    }
}

/// What the coordinator tells a conversation.
pub(super) enum Order {
    /// At once, or after the message in hand: then it is composed while that one waits for its arming, and its
    /// envelope may leave in one write with that one's body.
    Deliver(Job),
    /// The answer to an arm request.
    Arm(Answer),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// On disk: the body may leave.
    Granted,
    Denied,
    /// Denied, and what was to follow is not to be begun either.
    Stop,
}

/// What a conversation tells the coordinator, in the order in which it happened.
pub(super) struct Event {
    /// About the messages before the one in hand.
    pub proof: Option<InStep>,
    /// How the message in hand ended, its body begun; `true` when it needs no more proof. What was to follow is in hand
    /// from here on.
    pub finished: Option<(Fate, bool)>,
    pub then: Then,
}

/// What the conversation is at now. All but `ArmRequest` and `GoesOn` end what it had in hand.
pub(super) enum Then {
    /// It begins what was to follow, or has nothing in hand.
    GoesOn,
    /// The server waits for the body.
    ArmRequest,
    /// The body was not begun, and the server (or the template) judged the message; `true` when that needs no more proof.
    Judged(Fate, bool),
    /// The arm request was denied, and the connection dropped.
    Abandoned,
    /// Nothing of the body was begun, and no one has judged the message.
    Unusable(Unusable),
    /// The connection did not come about. The message is given back.
    NoConnection {
        why: String,
        outgoing: Box<Outgoing>,
    },
    Closed(Option<InStep>),
    Died,
}

impl From<Then> for Event {
    fn from(then: Then) -> Event {
        Event { proof: None, finished: None, then }
    }
}

impl From<Result<Opened, Unusable>> for Then {
    fn from(opened: Result<Opened, Unusable>) -> Then {
        match opened {
            Err(unusable) => Then::Unusable(unusable),
            Ok(Opened::Judged { fate, proven }) => Then::Judged(fate, proven),
            Ok(Opened::Ready) => Then::ArmRequest,
        }
    }
}
