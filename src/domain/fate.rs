//! How one try to deliver one message ended.

/// The outcome of one attempt, as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// 2yz to the final dot, and the replies were in step: the server has taken the message over.
    Sent { reply: String },
    /// 4yz that judges this message: tried again later.
    Deferred { reply: String },
    /// 5yz that judges this message, or it cannot be sent at all: not tried again by itself.
    Refused { reply: String },
    /// The body was begun and no trustworthy reply came (RFC 1047). Held; never sent again by itself.
    InDoubt { why: String },
}

/// Why a server cannot be used any more in this run. It says nothing about the message in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What happened, with the server's name and its reply or the system's error.
    pub why: String,
}

impl Fate {
    /// The word that an `attempt` row keeps.
    pub fn word(&self) -> &'static str {
        match self {
            Fate::Sent { .. } => "sent",
            Fate::Deferred { .. } => "deferred",
            Fate::Refused { .. } => "refused",
            Fate::InDoubt { .. } => "in_doubt",
        }
    }

    /// The server's reply, or why there is none.
    pub fn reply(&self) -> &str {
        match self {
            Fate::Sent { reply } | Fate::Deferred { reply } | Fate::Refused { reply } => reply,
            Fate::InDoubt { why } => why,
        }
    }
}
