//! What comes back about messages: reports, and what they amount to.

use sha2::{Digest, Sha256};

use crate::domain::address;
use crate::domain::bounce::Class;

/// A report, as a mail or a server's answer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of what says so: the same counts once.
    pub digest: [u8; 32],
    /// Its message, if it is known which.
    pub message: Option<i64>,
    pub class: Class,
    /// Which addresses it is about, as it has them; none: it does not say.
    pub about: Vec<String>,
    pub action: Option<String>,
    pub status: Option<String>,
    pub diagnostic: Option<String>,
    pub reporter: Option<String>,
    /// It returns the message's own header.
    pub proves: bool,
}

/// Who reported it, of the server that mail goes to.
pub const THE_MAIL_SERVER: &str = "the mail server";

impl Report {
    /// A recipient was refused as unknown.
    pub fn of_refusal(refused: &RefusedRecipient) -> Report {
        Report {
            digest: digest_of_refusal(refused.attempt),
            message: Some(refused.message),
            class: Class::Hard,
            about: Vec::new(),
            action: None,
            status: None,
            diagnostic: Some(address::masked(&refused.reply).chars().take(300).collect()),
            reporter: Some(THE_MAIL_SERVER.into()),
            proves: false,
        }
    }
}

/// What a refusal counts once by.
fn digest_of_refusal(attempt: i64) -> [u8; 32] {
    Sha256::digest(format!("refused by the mail server, try {attempt}")).into()
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filed {
    /// It is known already, or there are many of its message.
    Known,
    /// It is recorded; of no message that is known.
    Unmatched,
    Recorded {
        class: Class,
        suppressed: bool,
    },
}

/// What many dead addresses at once are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadAddresses {
    /// Dead.
    Suppress,
    /// Most likely a fault of a server: they are recorded, and a person decides.
    Hold,
}

/// How many bounces of dead addresses came of late, and how much mail went out before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadOfLate {
    /// Messages of the last day that are known to have ended so.
    pub hard: u64,
    /// Messages of the last five days.
    pub sent: u64,
}

impl DeadOfLate {
    /// What so many more amount to: a twentieth of the mail, and twenty, is no accident of a few customers.
    pub fn with(self, more: u64) -> DeadAddresses {
        let most = (self.sent / 20).max(20);
        if self.hard + more > most { DeadAddresses::Hold } else { DeadAddresses::Suppress }
    }
}

/// A campaign that was stopped for what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    pub campaign_id: String,
    pub planned_at: String,
    pub why: String,
}

/// What came back about the messages of one campaign, or one step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Returned {
    /// `cart` or `campaign`.
    pub kind: String,
    pub campaign_id: Option<String>,
    pub step: Option<String>,
    /// Handed over since then, or refused at once as the address is dead.
    pub sent: u64,
    /// Of those, the ones that came back so; a message counts once in each.
    pub hard: u64,
    pub soft: u64,
    pub blocked: u64,
    pub elsewhere: u64,
    pub delayed: u64,
    pub complaints: u64,
    pub unsubscribes: u64,
}

/// Mail that was sent of late, and how much of it was turned away because of who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockedOfLate {
    pub sent: u64,
    pub blocked: u64,
}

/// A report of no message that is known.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UnmatchedReport {
    pub received_at: String,
    pub class: Class,
    pub diagnostic: Option<String>,
    pub reporter: Option<String>,
}

/// A refusal of a recipient by the server that mail goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecipient {
    pub attempt: i64,
    pub message: i64,
    pub reply: String,
}
