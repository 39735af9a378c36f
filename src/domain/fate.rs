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

/// Why no body could be begun, although nobody has judged the message in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub what: Extent,
    /// What happened, with the server's name and its reply or the system's error.
    pub why: String,
}

/// How far a trouble reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The server, or the folder, for the rest of the run.
    Server,
    /// One connection that did not come about: others may be at work.
    Connection,
    /// The connection ended when it was told this recipient, or at the DATA after it. Perhaps only for this one.
    Recipient,
    /// The same, and the server was waited for in vain.
    SilentRecipient,
}

impl Unusable {
    /// Nothing more can be handed over in this run.
    pub fn server(why: String) -> Unusable {
        Unusable { what: Extent::Server, why }
    }
}

impl Fate {
    /// The words of all of them.
    pub const WORDS: [&str; 4] = ["sent", "deferred", "refused", "in_doubt"];

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
